//! The prices that a batch needs. Imports set them in [`super::imports`].

use std::collections::BTreeSet;

use matricula_kit::database::{Args, DbError, PendingQuery, Row, Rows, Tx};
use matricula_kit::id::{CourseId, TermId};
use matricula_kit::money::Currency;

use crate::domain::price::{BalanceLimit, Price};
use crate::domain::rates::{Prices, RefundLadder, TermRates};

const CURRENCY: &str = "SELECT code FROM currency WHERE id = 1";
/// No import changes the currency until the batch is committed.
const CURRENCY_FOR_SHARE: &str = "SELECT code FROM currency WHERE id = 1 {for_share}";
const TERMS: &str = "SELECT t.term_id, t.per_credit, t.refund_ladder, t.balance_limit, t.charges \
                     FROM {rows} JOIN terms t ON t.term_id = r.term_id";
const COURSE_FEES: &str =
    "SELECT c.course_id, c.minor_units FROM {rows} JOIN course_fees c ON c.course_id = r.course_id";

/// The currency that was set; `None` before the first rates.
pub(super) async fn stored_currency(tx: &mut Tx) -> Result<Option<Currency>, DbError> {
    currency_of(&tx.fetch(CURRENCY, Args::new()).await?)
}

pub(super) fn currency_of(rows: &[Row]) -> Result<Option<Currency>, DbError> {
    rows.first().map(|row| Ok(Currency::stored(row.text("code")?))).transpose()
}

/// Prices whose queries are queued.
pub(super) struct PendingPrices {
    currency: PendingQuery,
    terms: PendingQuery,
    course_fees: PendingQuery,
}

/// Queues the queries of the prices of these terms and courses. The currency may change as long as nothing is posted.
/// Then the batch locks the currency, and reads it first, so that the prices are in that currency.
pub(super) fn queue(
    tx: &mut Tx,
    terms: &BTreeSet<&TermId>,
    courses: &BTreeSet<&CourseId>,
    may_change_currency: bool,
) -> PendingPrices {
    let courses = Rows::new().text("course_id", courses.iter().map(|course| course.as_str()));
    PendingPrices {
        currency: tx.queue(if may_change_currency { CURRENCY_FOR_SHARE } else { CURRENCY }, Args::new()),
        terms: queue_terms(tx, terms),
        course_fees: tx.queue(COURSE_FEES, courses.into()),
    }
}

impl PendingPrices {
    /// The prices.
    pub(super) async fn read(self, tx: &mut Tx) -> Result<Prices, DbError> {
        let mut prices =
            Prices { currency: currency_of(&tx.rows(self.currency).await?)?.unwrap_or_default(), ..Prices::default() };
        take_terms(&mut prices, &tx.rows(self.terms).await?)?;
        prices.course_fees = course_fees_of(&tx.rows(self.course_fees).await?)?;
        Ok(prices)
    }
}

/// Adds what these terms charge, or by which ladder they give back.
pub(super) async fn add_terms(tx: &mut Tx, prices: &mut Prices, terms: &BTreeSet<&TermId>) -> Result<(), DbError> {
    let asked = queue_terms(tx, terms);
    take_terms(prices, &tx.rows(asked).await?)
}

fn queue_terms(tx: &mut Tx, terms: &BTreeSet<&TermId>) -> PendingQuery {
    tx.queue(TERMS, Rows::new().text("term_id", terms.iter().map(|term| term.as_str())).into())
}

fn take_terms(prices: &mut Prices, rows: &[Row]) -> Result<(), DbError> {
    for row in rows {
        let (term, rates) = term_of(row)?;
        if row.int("charges")? == 1 {
            prices.terms.insert(term, rates);
        } else {
            prices.former_ladders.insert(term, rates.ladder);
        }
    }
    Ok(())
}

/// The term of a row, and its rates.
pub(super) fn term_of(row: &Row) -> Result<(TermId, TermRates), DbError> {
    let term = TermId::stored(row.text("term_id")?);
    let steps = serde_json::from_str(&row.text("refund_ladder")?);
    let steps = steps.map_err(|error| DbError::corrupt(format!("refund ladder of term {term}: {error}")))?;
    let ladder = RefundLadder::from_stored(steps).map_err(DbError::corrupt)?;
    let per_credit = Price::try_new(row.int("per_credit")?).map_err(DbError::corrupt)?;
    let balance_limit = row.opt_int("balance_limit")?.map(BalanceLimit::try_new).transpose();
    let balance_limit = balance_limit.map_err(DbError::corrupt)?;
    Ok((term, TermRates { per_credit, ladder, balance_limit }))
}

/// The fees of these rows.
pub(super) fn course_fees_of<T: FromIterator<(CourseId, Price)>>(rows: &[Row]) -> Result<T, DbError> {
    let fee = |row: &Row| {
        let fee = Price::try_new(row.int("minor_units")?).map_err(DbError::corrupt)?;
        Ok((CourseId::stored(row.text("course_id")?), fee))
    };
    rows.iter().map(fee).collect()
}
