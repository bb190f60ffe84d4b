//! Wire to domain and back.

use matricula_kit::answer::{DroppedCourse, Money, ReservedCourse};
use matricula_kit::id::{SagaId, SectionId, StudentId};
use matricula_kit::participant::{Leg, Operation};
use matricula_kit::rpc::{FieldError, required_id, saga_operation};
use matricula_kit::time::UnixMs;
use matricula_proto::common::v1 as common;
use matricula_proto::fees::v1 as proto;

use crate::domain::price::{Credits, Currency, OutOfBounds};
use crate::domain::{Add, Basis, Command, Posting, PostingKind};
use crate::store::Balance;

/// Most sections that one registration adds, or drops; the contract's bound.
const SECTIONS_MAX: usize = 20;

/// An operation of `AssessFees`.
pub fn assess(wire: proto::AssessFeesOperation) -> Result<Operation<Command>, FieldError> {
    let student = required_id("student_id", wire.student_id, StudentId::try_new)?;
    let adds = distinct_sections("adds", wire.adds, add, |add| &add.section)?;
    let basis = basis(wire.basis)?;
    saga(wire.operation, Leg::Action, |registration| Command::Assess { registration, student, adds, basis })
}

/// An operation of `VoidFees`.
pub fn void(wire: proto::VoidFeesOperation) -> Result<Operation<Command>, FieldError> {
    // The charges know whose they are; an id out of bounds is a caller's mistake all the same.
    required_id("student_id", wire.student_id, StudentId::try_new)?;
    saga(wire.operation, Leg::Undo, |registration| Command::Void { registration })
}

/// An operation of `RefundFees`.
pub fn refund(wire: proto::RefundFeesOperation) -> Result<Operation<Command>, FieldError> {
    let student = required_id("student_id", wire.student_id, StudentId::try_new)?;
    let drops = distinct_sections("drops", wire.drops, TryInto::try_into, |drop: &DroppedCourse| &drop.section)?;
    let effective_at = moment("effective_at", wire.effective_at)?;
    let command = |registration| Command::Refund { registration, student, drops, effective_at };
    saga(wire.operation, Leg::Action, command)
}

/// An amount.
pub fn money(currency: &Currency, minor_units: i64) -> common::Money {
    Money { currency: currency.to_string(), minor_units }.into()
}

/// A posting.
pub fn posting(currency: &Currency, posting: Posting) -> proto::Posting {
    let kind = match posting.kind {
        PostingKind::Charge => proto::PostingKind::Charge,
        PostingKind::Void => proto::PostingKind::Void,
        PostingKind::Refund => proto::PostingKind::Refund,
    };
    proto::Posting {
        student_id: posting.student.into(),
        registration_id: posting.registration.into(),
        section_id: posting.section.into(),
        kind: kind as i32,
        amount: Some(money(currency, posting.minor_units)),
        caused_by_registration_id: posting.caused_by.into(),
        posted_at: Some(posting.posted_at.to_wire()),
    }
}

/// A stored balance.
pub fn account_balance(currency: &Currency, balance: Balance) -> proto::AccountBalance {
    proto::AccountBalance { student_id: balance.student.into(), balance: Some(money(currency, balance.minor_units)) }
}

fn saga(
    wire: Option<common::Operation>,
    leg: Leg,
    command: impl FnOnce(SagaId) -> Command,
) -> Result<Operation<Command>, FieldError> {
    let registration = wire.as_ref().map(|operation| operation.saga_id.clone()).unwrap_or_default();
    let registration = required_id("operation.saga_id", registration, SagaId::try_new)?;
    saga_operation(wire, leg, command(registration))
}

fn basis(number: i32) -> Result<Basis, FieldError> {
    match proto::ChargeBasis::try_from(number) {
        Ok(proto::ChargeBasis::Unspecified) => Ok(Basis::Rates),
        Ok(proto::ChargeBasis::Waived) => Ok(Basis::Waived),
        Ok(proto::ChargeBasis::RatesWithoutLimit) => Ok(Basis::RatesWithoutLimit),
        Err(_) => Err(FieldError::new("basis", format!("must be a basis of charges, got {number}"))),
    }
}

fn add(wire: common::ReservedCourse) -> Result<Add, FieldError> {
    let course: ReservedCourse = wire.try_into()?;
    let credits = Credits::try_new(course.credits_hundredths);
    Ok(Add {
        section: course.section,
        course: course.course,
        term: course.term,
        credits: credits.map_err(|problem| field("credits_hundredths", problem))?,
        is_only_part: course.component.is_empty(),
    })
}

fn distinct_sections<W, T>(
    name: &str,
    wire: Vec<W>,
    convert: impl Fn(W) -> Result<T, FieldError>,
    section: impl Fn(&T) -> &SectionId,
) -> Result<Vec<T>, FieldError> {
    bounded(name, wire.len(), SECTIONS_MAX)?;
    let items = wire
        .into_iter()
        .enumerate()
        .map(|(index, item)| convert(item).map_err(|problem| problem.within(&format!("{name}[{index}]"))));
    let items: Vec<T> = items.collect::<Result<_, _>>()?;
    none_twice(name, "section_id", items.iter().map(|item| section(item).as_str()))?;
    Ok(items)
}

fn none_twice<'a>(name: &str, id: &str, ids: impl Iterator<Item = &'a str>) -> Result<(), FieldError> {
    let mut seen = std::collections::HashSet::new();
    for (index, text) in ids.enumerate() {
        if !seen.insert(text) {
            return Err(FieldError::new(format!("{name}[{index}].{id}"), format!("{text} is named twice")));
        }
    }
    Ok(())
}

fn bounded(name: &str, count: usize, max: usize) -> Result<(), FieldError> {
    if count > max {
        return Err(FieldError::new(name, format!("at most {max}, got {count}")));
    }
    Ok(())
}

/// A moment that must be there.
pub fn moment(name: &str, wire: Option<prost_types::Timestamp>) -> Result<UnixMs, FieldError> {
    let wire = wire.ok_or_else(|| FieldError::new(name, "is required"))?;
    UnixMs::from_wire(&wire).ok_or_else(|| FieldError::new(name, "must be a moment of the years 1 to 9999"))
}

/// The problem of a field.
pub fn field(name: &str, problem: OutOfBounds) -> FieldError {
    FieldError::new(name, problem.to_string())
}
