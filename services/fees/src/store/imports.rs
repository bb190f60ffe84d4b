//! Imports of prices: all of an import in one transaction, or nothing.

use matricula_kit::database::{Args, Database, DbError, Rows, Tx};
use matricula_kit::id::{CourseId, TermId};
use matricula_kit::imports::{self, ImportError};
use matricula_kit::money::Currency;

use super::rates::{course_fees_of, currency_of, stored_currency, term_of};
use crate::domain::price::{BalanceLimit, Price};
use crate::domain::rates::{RateTable, TermRates};

const CURRENCY_FOR_UPDATE: &str = "SELECT code FROM currency WHERE id = 1 {for_update}";
const SET_CURRENCY: &str =
    "INSERT INTO currency (id, code) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET code = excluded.code";
const ANY_POSTING: &str = "SELECT 1 AS one FROM postings LIMIT 1";
const CHARGING_TERMS: &str = "SELECT term_id FROM terms WHERE charges = 1 ORDER BY term_id";
const ALL_TERMS: &str =
    "SELECT term_id, per_credit, refund_ladder, balance_limit FROM terms WHERE charges = 1 ORDER BY term_id";
const ALL_COURSE_FEES: &str = "SELECT course_id, minor_units FROM course_fees WHERE minor_units > 0 ORDER BY course_id";
const SET_TERMS: &str = "INSERT INTO terms (term_id, per_credit, refund_ladder, balance_limit, charges) \
                         SELECT term_id, per_credit, refund_ladder, balance_limit, 1 FROM {rows} WHERE true \
                         ON CONFLICT (term_id) DO UPDATE \
                         SET per_credit = excluded.per_credit, refund_ladder = excluded.refund_ladder, \
                         balance_limit = excluded.balance_limit, charges = 1";
/// The refund ladder stays for what the term has charged.
const END_TERMS: &str =
    "UPDATE terms SET charges = 0, balance_limit = NULL FROM {rows} WHERE terms.term_id = r.term_id";
const SET_COURSE_FEES: &str = "INSERT INTO course_fees (course_id, minor_units) \
                               SELECT course_id, minor_units FROM {rows} WHERE true \
                               ON CONFLICT (course_id) DO UPDATE SET minor_units = excluded.minor_units";
const REMOVE_COURSE_FEES: &str = "DELETE FROM course_fees WHERE course_id IN (SELECT r.course_id FROM {rows})";

/// Every price in force, and the version of them.
pub async fn rate_table(database: &Database) -> Result<(i64, RateTable), DbError> {
    let mut tx = database.snapshot().await?;
    let version = imports::version(&mut tx).await?;
    let currency = stored_currency(&mut tx).await?;
    let terms = tx.fetch(ALL_TERMS, Args::new()).await?;
    let terms =
        terms.iter().map(|row| term_of(row).map(|(term, rates)| (term, Some(rates)))).collect::<Result<_, _>>()?;
    let fees: Vec<(CourseId, Price)> = course_fees_of(&tx.fetch(ALL_COURSE_FEES, Args::new()).await?)?;
    let course_fees = fees.into_iter().map(|(course, fee)| (course, Some(fee))).collect();
    Ok((version, RateTable { currency, terms, course_fees }))
}

/// Sets everything in the table, or nothing.
pub async fn import(database: &Database, base_version: i64, mut table: RateTable) -> Result<(), ImportError> {
    // Rows are locked in one order.
    table.terms.sort_by(|a, b| a.0.cmp(&b.0));
    table.course_fees.sort_by(|a, b| a.0.cmp(&b.0));
    let mut tx = imports::begin(database, base_version).await?;
    if let Some(currency) = &table.currency {
        set_currency(&mut tx, currency, &table).await?;
    }
    let (mut rates, mut ended) = (Vec::new(), Vec::new());
    for (term, set) in &table.terms {
        match set {
            Some(set) => rates.push((term, set)),
            None => ended.push(term),
        }
    }
    tx.send(SET_TERMS, rates_as_rows(&rates)?.into());
    tx.send(END_TERMS, Rows::new().text("term_id", ended.iter().map(|term| term.as_str())).into());
    let set = || table.course_fees.iter().filter_map(|(course, fee)| Some((course, (*fee)?)));
    let rows = Rows::new()
        .text("course_id", set().map(|(course, _)| course.as_str()))
        .int("minor_units", set().map(|(_, fee)| fee.minor_units()));
    tx.send(SET_COURSE_FEES, rows.into());
    let removed = table.course_fees.iter().filter(|(_, fee)| fee.is_none());
    tx.send(REMOVE_COURSE_FEES, Rows::new().text("course_id", removed.map(|(course, _)| course.as_str())).into());
    Ok(tx.commit().await?)
}

/// Sets the currency of the installation. Amounts of two currencies can't be added up in one account: another one than
/// before is refused once anything is posted. Until then it may change together with all rates, which are amounts of
/// it. A course fee is a number of minor units, and is of the new currency from then on.
async fn set_currency(tx: &mut Tx, currency: &Currency, table: &RateTable) -> Result<(), ImportError> {
    if stored_currency(tx).await?.as_ref() == Some(currency) {
        return Ok(());
    }
    // Batches that may post hold it until they have committed.
    let stored = currency_of(&tx.fetch(CURRENCY_FOR_UPDATE, Args::new()).await?)?;
    if let Some(stored) = stored.filter(|stored| stored != currency) {
        if !tx.fetch(ANY_POSTING, Args::new()).await?.is_empty() {
            let message = format!(
                "the rates are in {currency}, and the accounts of this installation are in {stored}: import rates in {stored}"
            );
            return Err(ImportError::Refused { reason: "OTHER_CURRENCY", message });
        }
        let others = tx.fetch(CHARGING_TERMS, Args::new()).await?;
        let is_named = |id: &str| table.terms.binary_search_by(|(term, _)| term.as_str().cmp(id)).is_ok();
        for row in &others {
            let term = row.text("term_id")?;
            if !is_named(&term) {
                let message = format!(
                    "the rates are in {currency}, and term {term} has rates in {stored}: import all terms together, in \
                     one currency"
                );
                return Err(ImportError::Refused { reason: "OTHER_CURRENCY", message });
            }
        }
    }
    tx.send(SET_CURRENCY, Args::new().text(currency.to_string()));
    Ok(())
}

fn rates_as_rows(rates: &[(&TermId, &TermRates)]) -> Result<Rows, DbError> {
    let mut ladders = Vec::with_capacity(rates.len());
    for (term, rates) in rates {
        let text = serde_json::to_string(&rates.ladder.to_stored());
        ladders.push(text.map_err(|error| DbError::corrupt(format!("refund ladder of term {term}: {error}")))?);
    }
    Ok(Rows::new()
        .text("term_id", rates.iter().map(|(term, _)| term.as_str()))
        .int("per_credit", rates.iter().map(|(_, rates)| rates.per_credit.minor_units()))
        .text("refund_ladder", ladders)
        .opt_int("balance_limit", rates.iter().map(|(_, rates)| rates.balance_limit.map(BalanceLimit::minor_units))))
}
