//! `FeeService` on the wire: what comes in is checked and becomes domain values, what goes out is written as the
//! contract says; the ledger. No rules.

use std::ops::RangeInclusive;

use futures::stream::BoxStream;
use matricula_kit::answer::{DroppedCourse, ReservedCourse};
use matricula_kit::database::Database;
use matricula_kit::id::StudentId;
use matricula_kit::money::Currency;
use matricula_kit::pages;
use matricula_kit::participant::{Direction, Operation, Writer};
use matricula_kit::rpc::{self, FieldError};
use matricula_proto::common::v1 as common;
use matricula_proto::fees::v1 as proto;
use matricula_proto::fees::v1::export_ledger_response::Entry;
use matricula_proto::fees::v1::fee_service_server::FeeService;
use tonic::{Request, Response, Status};

use crate::domain::price::Credits;
use crate::domain::{Add, Basis, Command, Posting, PostingKind};
use crate::participant::Fees;
use crate::store;

mod imports;

/// Sections that one registration adds, or drops; the contract's bounds.
const SECTIONS: RangeInclusive<usize> = 0..=20;

/// The gRPC service.
pub struct FeeGrpc {
    /// What registrations change goes through it.
    pub writer: Writer<Fees>,
    /// Reads are from here, and imports.
    pub database: Database,
}

#[tonic::async_trait]
impl FeeService for FeeGrpc {
    async fn assess_fees(
        &self,
        request: Request<proto::AssessFeesRequest>,
    ) -> Result<Response<proto::AssessFeesResponse>, Status> {
        let results = rpc::write(&self.writer, request.into_inner().operations, assess).await?;
        Ok(Response::new(proto::AssessFeesResponse { results }))
    }

    async fn void_fees(
        &self,
        request: Request<proto::VoidFeesRequest>,
    ) -> Result<Response<proto::VoidFeesResponse>, Status> {
        let results = rpc::write(&self.writer, request.into_inner().operations, void).await?;
        Ok(Response::new(proto::VoidFeesResponse { results }))
    }

    async fn refund_fees(
        &self,
        request: Request<proto::RefundFeesRequest>,
    ) -> Result<Response<proto::RefundFeesResponse>, Status> {
        let results = rpc::write(&self.writer, request.into_inner().operations, refund).await?;
        Ok(Response::new(proto::RefundFeesResponse { results }))
    }

    async fn get_account(
        &self,
        request: Request<proto::GetAccountRequest>,
    ) -> Result<Response<proto::GetAccountResponse>, Status> {
        let student = rpc::required_id("student_id", request.into_inner().student_id, StudentId::try_new)?;
        let account = store::account(&self.database, &student).await?;
        let currency = &account.currency;
        Ok(Response::new(proto::GetAccountResponse {
            balance: Some(currency.amount(account.balance).into()),
            postings: account.postings.into_iter().map(|posting| posting_message(currency, posting)).collect(),
        }))
    }

    type ExportLedgerStream = BoxStream<'static, Result<proto::ExportLedgerResponse, Status>>;

    async fn export_ledger(
        &self,
        _request: Request<proto::ExportLedgerRequest>,
    ) -> Result<Response<Self::ExportLedgerStream>, Status> {
        let mut snapshot = self.database.snapshot().await?;
        let currency = store::currency(&mut snapshot).await?;
        let entry = |entry| proto::ExportLedgerResponse { entry: Some(entry) };
        let in_currency = currency.clone();
        let postings = move |posting| entry(Entry::Posting(posting_message(&in_currency, posting)));
        let balances = move |(student, minor_units): (StudentId, i64)| {
            let balance = Some(currency.amount(minor_units).into());
            entry(Entry::Account(proto::AccountBalance { student_id: student.into(), balance }))
        };
        let parts = [store::POSTINGS.part(postings), store::BALANCES.part(balances)];
        Ok(Response::new(pages::export(snapshot, parts)))
    }
}

/// An operation of `AssessFees`.
fn assess(wire: proto::AssessFeesOperation) -> Result<Operation<Command>, FieldError> {
    rpc::saga_operation(wire.operation, Direction::Forward, wire.student_id, |key, student| {
        Ok(Command::Assess {
            registration: key.saga.clone(),
            student,
            adds: rpc::each_distinct("adds", wire.adds, SECTIONS, add, "section_id", |add| &add.section)?,
            basis: basis(wire.basis)?,
        })
    })
}

/// An operation of `VoidFees`.
fn void(wire: proto::VoidFeesOperation) -> Result<Operation<Command>, FieldError> {
    // The charges have the student.
    rpc::saga_operation(wire.operation, Direction::Compensation, wire.student_id, |key, _| {
        Ok(Command::Void { registration: key.saga.clone() })
    })
}

/// An operation of `RefundFees`.
fn refund(wire: proto::RefundFeesOperation) -> Result<Operation<Command>, FieldError> {
    rpc::saga_operation(wire.operation, Direction::Forward, wire.student_id, |key, student| {
        let convert = DroppedCourse::try_from;
        Ok(Command::Refund {
            registration: key.saga.clone(),
            student,
            drops: rpc::each_distinct("drops", wire.drops, SECTIONS, convert, "section_id", |drop| &drop.section)?,
            effective_at: rpc::required_moment("effective_at", wire.effective_at)?,
        })
    })
}

/// A posting.
fn posting_message(currency: &Currency, posting: Posting) -> proto::Posting {
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
        amount: Some(currency.amount(posting.minor_units).into()),
        caused_by_registration_id: posting.caused_by.into(),
        posted_at: Some(posting.posted_at.to_wire()),
    }
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
        credits: credits.map_err(|problem| FieldError::new("credits_hundredths", problem))?,
        is_only_part: course.component.is_empty(),
    })
}

#[cfg(test)]
mod tests;
