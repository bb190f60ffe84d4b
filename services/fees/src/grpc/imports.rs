//! Rates and course fees as imports bring them.
//!
//! Promises: `read` leaves out terms without rates and courses without a fee, so that it returns the rows of the import
//! before it.

use async_trait::async_trait;
use matricula_kit::database::DbError;
use matricula_kit::id::{CourseId, TermId};
use matricula_kit::imports::{ImportError, Imported, check_named_once, foreign_row};
use matricula_kit::money::Currency;
use matricula_kit::rpc::{FieldError, required_id, required_moment};
use matricula_kit::time::UnixMs;
use matricula_proto::fees::v1 as proto;
use matricula_proto::imports::v1::ImportRow;
use matricula_proto::imports::v1::import_row::Row;

use super::FeeGrpc;
use crate::domain::price::{BalanceLimit, Percent, Price};
use crate::domain::rates::{RateTable, RefundLadder, TermRates};
use crate::store;

#[cfg(test)]
mod tests;

#[async_trait]
impl Imported for FeeGrpc {
    async fn read(&self) -> Result<(i64, Vec<ImportRow>), DbError> {
        let (version, table) = store::rate_table(&self.database).await?;
        let currency = table.currency.unwrap_or_default();
        let terms = table.terms.into_iter().filter_map(|(term, rates)| Some((term, rates?)));
        let terms = terms.map(|(term, rates)| Row::Rates(term_rates_to_wire(&currency, term, &rates)));
        let fees = table.course_fees.into_iter().filter_map(|(course, fee)| Some((course, fee?)));
        let fees = fees.map(|(course, fee)| {
            Row::CourseFee(proto::CourseFee { course_id: course.into(), minor_units: fee.minor_units() })
        });
        Ok((version, terms.chain(fees).map(|row| ImportRow { row: Some(row) }).collect()))
    }

    fn check(&self, row: &ImportRow) -> Result<(), FieldError> {
        rate_table([row.clone()]).map(drop)
    }

    async fn apply(&self, base_version: i64, rows: Vec<ImportRow>) -> Result<(), ImportError> {
        store::import(&self.database, base_version, rate_table(rows)?).await
    }
}

/// The rows of an import as one table.
fn rate_table(rows: impl IntoIterator<Item = ImportRow>) -> Result<RateTable, FieldError> {
    let mut table = RateTable::default();
    for row in rows {
        match row.row {
            Some(Row::Rates(rates)) => {
                let (term, rates) = term_rates(rates).map_err(|problem| problem.within("rates"))?;
                if let Some((currency, _)) = &rates {
                    let first = table.currency.get_or_insert_with(|| currency.clone());
                    if first != currency {
                        let problem = format!("must be {first} as in other rows: an installation has one currency");
                        return Err(FieldError::new("rates.per_credit.currency", problem));
                    }
                }
                table.terms.push((term, rates.map(|(_, rates)| rates)));
            }
            Some(Row::CourseFee(fee)) => {
                table.course_fees.push(course_fee(fee).map_err(|problem| problem.within("course_fee"))?);
            }
            _ => return Err(foreign_row()),
        }
    }
    check_named_once("rates.term_id", table.terms.iter().map(|(term, _)| term))?;
    check_named_once("course_fee.course_id", table.course_fees.iter().map(|(course, _)| course))?;
    Ok(table)
}

/// The rates of a term with their currency; none when the row removes them.
fn term_rates(wire: proto::TermRates) -> Result<(TermId, Option<(Currency, TermRates)>), FieldError> {
    let term = required_id("term_id", wire.term_id, TermId::try_new)?;
    let Some(money) = wire.per_credit else {
        for (name, is_empty) in [
            ("refund_ladder", wire.refund_ladder.is_empty()),
            ("balance_limit_minor_units", wire.balance_limit_minor_units == 0),
        ] {
            if !is_empty {
                return Err(FieldError::new(name, "must be left out where per_credit is: the term charges nothing"));
            }
        }
        return Ok((term, None));
    };
    let currency =
        Currency::try_new(money.currency).map_err(|problem| FieldError::new("per_credit.currency", problem))?;
    let per_credit =
        Price::try_new(money.minor_units).map_err(|problem| FieldError::new("per_credit.minor_units", problem))?;
    let balance_limit = match wire.balance_limit_minor_units {
        0 => None,
        limit => Some(
            BalanceLimit::try_new(limit).map_err(|problem| FieldError::new("balance_limit_minor_units", problem))?,
        ),
    };
    let ladder = refund_ladder(wire.refund_ladder)?;
    Ok((term, Some((currency, TermRates { per_credit, ladder, balance_limit }))))
}

fn refund_ladder(wire: Vec<proto::RefundStep>) -> Result<RefundLadder, FieldError> {
    let mut steps = Vec::with_capacity(wire.len());
    for (index, step) in wire.into_iter().enumerate() {
        let outer = format!("refund_ladder[{index}]");
        let until = required_moment("until", step.until).map_err(|problem| problem.within(&outer))?;
        let percent =
            Percent::try_new(step.percent).map_err(|problem| FieldError::new("percent", problem).within(&outer))?;
        steps.push((until, percent));
    }
    RefundLadder::try_new(steps)
        .map_err(|bad| FieldError::new(format!("refund_ladder[{}].until", bad.index), bad.problem))
}

/// The fee of a course; none when the row removes it.
fn course_fee(wire: proto::CourseFee) -> Result<(CourseId, Option<Price>), FieldError> {
    let course = required_id("course_id", wire.course_id, CourseId::try_new)?;
    let price = Price::try_new(wire.minor_units).map_err(|problem| FieldError::new("minor_units", problem))?;
    Ok((course, Some(price).filter(|price| price.minor_units() > 0)))
}

fn term_rates_to_wire(currency: &Currency, term: TermId, rates: &TermRates) -> proto::TermRates {
    let step = |(until, percent): (i64, i32)| proto::RefundStep { until: Some(UnixMs(until).to_wire()), percent };
    proto::TermRates {
        term_id: term.into(),
        per_credit: Some(currency.amount(rates.per_credit.minor_units()).into()),
        refund_ladder: rates.ladder.to_stored().into_iter().map(step).collect(),
        balance_limit_minor_units: rates.balance_limit.map_or(0, BalanceLimit::minor_units),
    }
}
