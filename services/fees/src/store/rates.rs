//! Prices: what is imported, and what a batch needs of it.

use std::collections::{BTreeSet, HashMap};

use matricula_kit::database::{Args, Asked, Database, DbError, Row, Rows, Tx};
use matricula_kit::id::{CourseId, TermId};

use crate::domain::price::{BalanceLimit, Currency, Price};
use crate::domain::rates::{Prices, RateTable, RefundLadder, TermRates};

/// Why rates were not imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Amounts of two currencies can't be added up in one account.
    #[error("this installation's currency is {stored}")]
    OtherCurrency {
        /// The currency that was set before.
        stored: Currency,
    },
    /// The database failed.
    #[error("the rates could not be stored")]
    Db(#[from] DbError),
}

const CURRENCY: &str = "SELECT code FROM currency WHERE id = 1";
const SET_CURRENCY: &str = "INSERT INTO currency (id, code) VALUES (1, $1) ON CONFLICT (id) DO NOTHING";
const SET_TERMS: &str = "INSERT INTO terms (term_id, per_credit, refund_ladder, balance_limit) \
                         SELECT term_id, per_credit, refund_ladder, balance_limit FROM {rows} WHERE true \
                         ON CONFLICT (term_id) DO UPDATE \
                         SET per_credit = excluded.per_credit, refund_ladder = excluded.refund_ladder, \
                         balance_limit = excluded.balance_limit";
const SET_COURSE_FEES: &str = "INSERT INTO course_fees (course_id, minor_units) \
                               SELECT course_id, minor_units FROM {rows} WHERE true \
                               ON CONFLICT (course_id) DO UPDATE SET minor_units = excluded.minor_units";
const TERMS: &str = "SELECT t.term_id, t.per_credit, t.refund_ladder, t.balance_limit \
                     FROM {rows} JOIN terms t ON t.term_id = r.term_id";
const COURSE_FEES: &str =
    "SELECT c.course_id, c.minor_units FROM {rows} JOIN course_fees c ON c.course_id = r.course_id";

/// Sets everything in the table, or nothing. The first import with a term sets the currency for good.
pub async fn import(database: &Database, mut table: RateTable) -> Result<(), ImportError> {
    // Two imports at once lock their rows in one order.
    table.terms.sort_by(|a, b| a.0.cmp(&b.0));
    table.course_fees.sort_by(|a, b| a.0.cmp(&b.0));
    let mut tx = database.begin().await?;
    if let Some(currency) = table.currency {
        tx.execute(SET_CURRENCY, Args::new().text(currency.to_string())).await?;
        let stored = stored_currency(&mut tx).await?;
        if stored != currency {
            return Err(ImportError::OtherCurrency { stored });
        }
    }
    let mut ladders = Vec::with_capacity(table.terms.len());
    for (term, rates) in &table.terms {
        let text = serde_json::to_string(&rates.ladder.to_stored());
        ladders.push(text.map_err(|error| DbError::corrupt(format!("refund ladder of term {term}: {error}")))?);
    }
    let rows = Rows::new()
        .text("term_id", table.terms.iter().map(|(term, _)| term.as_str()))
        .int("per_credit", table.terms.iter().map(|(_, rates)| rates.per_credit.minor_units()))
        .text("refund_ladder", ladders)
        .opt_int(
            "balance_limit",
            table.terms.iter().map(|(_, rates)| rates.balance_limit.map(BalanceLimit::minor_units)),
        );
    tx.execute(SET_TERMS, rows.into()).await?;
    let rows = Rows::new()
        .text("course_id", table.course_fees.iter().map(|(course, _)| course.as_str()))
        .int("minor_units", table.course_fees.iter().map(|(_, fee)| fee.minor_units()));
    tx.execute(SET_COURSE_FEES, rows.into()).await?;
    tx.commit().await?;
    Ok(())
}

/// The currency that was set, or the default.
pub(super) async fn stored_currency(tx: &mut Tx) -> Result<Currency, DbError> {
    currency_of(&tx.fetch(CURRENCY, Args::new()).await?)
}

fn currency_of(rows: &[Row]) -> Result<Currency, DbError> {
    match rows.first() {
        Some(row) => Currency::try_new(row.text("code")?).map_err(DbError::corrupt),
        None => Ok(Currency::default()),
    }
}

/// Prices that were asked for.
pub(super) struct AskedPrices {
    currency: Asked,
    terms: Asked,
    course_fees: Asked,
}

/// Asks for the prices of these terms and courses.
pub(super) fn ask(tx: &mut Tx, terms: &BTreeSet<&TermId>, courses: &BTreeSet<&CourseId>) -> AskedPrices {
    let courses = Rows::new().text("course_id", courses.iter().map(|course| course.as_str()));
    AskedPrices {
        currency: tx.ask(CURRENCY, Args::new()),
        terms: ask_terms(tx, terms),
        course_fees: tx.ask(COURSE_FEES, courses.into()),
    }
}

impl AskedPrices {
    /// The prices.
    pub(super) async fn read(self, tx: &mut Tx) -> Result<Prices, DbError> {
        let currency = currency_of(&tx.rows(self.currency).await?)?;
        let terms = terms_of(tx.rows(self.terms).await?)?;
        let mut course_fees = HashMap::new();
        for row in tx.rows(self.course_fees).await? {
            let fee = Price::try_new(row.int("minor_units")?).map_err(DbError::corrupt)?;
            course_fees.insert(CourseId::stored(row.text("course_id")?), fee);
        }
        Ok(Prices { currency, terms, course_fees })
    }
}

/// The rates of these terms.
pub(super) async fn terms(tx: &mut Tx, terms: &BTreeSet<&TermId>) -> Result<HashMap<TermId, TermRates>, DbError> {
    let asked = ask_terms(tx, terms);
    terms_of(tx.rows(asked).await?)
}

fn ask_terms(tx: &mut Tx, terms: &BTreeSet<&TermId>) -> Asked {
    tx.ask(TERMS, Rows::new().text("term_id", terms.iter().map(|term| term.as_str())).into())
}

fn terms_of(rows: Vec<Row>) -> Result<HashMap<TermId, TermRates>, DbError> {
    let mut terms = HashMap::new();
    for row in rows {
        let term = TermId::stored(row.text("term_id")?);
        let steps = serde_json::from_str(&row.text("refund_ladder")?);
        let steps = steps.map_err(|error| DbError::corrupt(format!("refund ladder of term {term}: {error}")))?;
        let ladder = RefundLadder::from_stored(steps).map_err(DbError::corrupt)?;
        let per_credit = Price::try_new(row.int("per_credit")?).map_err(DbError::corrupt)?;
        let balance_limit = row.opt_int("balance_limit")?.map(BalanceLimit::try_new).transpose();
        let balance_limit = balance_limit.map_err(DbError::corrupt)?;
        terms.insert(term, TermRates { per_credit, ladder, balance_limit });
    }
    Ok(terms)
}
