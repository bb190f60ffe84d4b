//! `FeeService` on the wire: what comes in is checked and becomes domain values, what goes out is written as the
//! contract says; the ledger. No rules.

use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use matricula_kit::answer::{DroppedCourse, Money, ReservedCourse};
use matricula_kit::database::{Database, DbError, Tx};
use matricula_kit::id::{SagaId, SectionId, StudentId};
use matricula_kit::participant::{Leg, Operation, Writer};
use matricula_kit::rpc::{FieldError, distinct, each, operations, required_id, results, saga_operation};
use matricula_kit::time::UnixMs;
use matricula_proto::common::v1 as common;
use matricula_proto::fees::v1 as proto;
use matricula_proto::fees::v1::export_ledger_response::Entry;
use matricula_proto::fees::v1::fee_service_server::FeeService;
use tonic::{Request, Response, Status};

use crate::domain::price::{Credits, Currency, OutOfBounds};
use crate::domain::{Add, Basis, Command, Posting, PostingKind};
use crate::store::{self, Balance, Fees, PostingKey};

/// Most sections that one registration adds, or drops; the contract's bound.
const SECTIONS_MAX: usize = 20;

/// The gRPC service.
pub struct FeeGrpc {
    writer: Writer<Fees>,
    database: Database,
}

impl FeeGrpc {
    /// Serves what the writer writes and the database holds.
    pub fn new(writer: Writer<Fees>, database: Database) -> Self {
        Self { writer, database }
    }
}

#[tonic::async_trait]
impl FeeService for FeeGrpc {
    async fn assess_fees(
        &self,
        request: Request<proto::AssessFeesRequest>,
    ) -> Result<Response<proto::AssessFeesResponse>, Status> {
        let operations = operations(request.into_inner().operations, assess)?;
        let results = results(self.writer.write(operations).await?);
        Ok(Response::new(proto::AssessFeesResponse { results }))
    }

    async fn void_fees(
        &self,
        request: Request<proto::VoidFeesRequest>,
    ) -> Result<Response<proto::VoidFeesResponse>, Status> {
        let operations = operations(request.into_inner().operations, void)?;
        let results = results(self.writer.write(operations).await?);
        Ok(Response::new(proto::VoidFeesResponse { results }))
    }

    async fn refund_fees(
        &self,
        request: Request<proto::RefundFeesRequest>,
    ) -> Result<Response<proto::RefundFeesResponse>, Status> {
        let operations = operations(request.into_inner().operations, refund)?;
        let results = results(self.writer.write(operations).await?);
        Ok(Response::new(proto::RefundFeesResponse { results }))
    }

    async fn get_account(
        &self,
        request: Request<proto::GetAccountRequest>,
    ) -> Result<Response<proto::GetAccountResponse>, Status> {
        let student = required_id("student_id", request.into_inner().student_id, StudentId::try_new)?;
        let account = store::account(&self.database, &student).await?;
        let currency = &account.currency;
        Ok(Response::new(proto::GetAccountResponse {
            balance: Some(money(currency, account.balance)),
            postings: account.postings.into_iter().map(|posting| posting_message(currency, posting)).collect(),
        }))
    }

    type ExportLedgerStream = BoxStream<'static, Result<proto::ExportLedgerResponse, Status>>;

    async fn export_ledger(
        &self,
        _request: Request<proto::ExportLedgerRequest>,
    ) -> Result<Response<Self::ExportLedgerStream>, Status> {
        let ledger = ledger(&self.database).await?;
        Ok(Response::new(ledger.map_err(Status::from).boxed()))
    }
}

/// An export under way.
struct Export {
    snapshot: Tx,
    currency: Currency,
    next: Next,
}

/// Where the next page begins.
enum Next {
    Postings { after: PostingKey },
    Balances { after: String },
}

/// Begins an export of what is committed now: every posting, then every balance, all from one state of the database,
/// page by page.
async fn ledger(
    database: &Database,
) -> Result<impl Stream<Item = Result<proto::ExportLedgerResponse, DbError>> + use<>, DbError> {
    let mut snapshot = database.snapshot().await?;
    let currency = store::currency(&mut snapshot).await?;
    let begin = Export { snapshot, currency, next: Next::Postings { after: PostingKey::default() } };
    let pages = stream::try_unfold(begin, |mut export| async move {
        let page = export.next_page().await?;
        Ok::<_, DbError>(page.map(|page| (page, export)))
    });
    let entries = pages.map_ok(|page| stream::iter(page.into_iter().map(Ok))).try_flatten();
    Ok(entries.map_ok(|entry| proto::ExportLedgerResponse { entry: Some(entry) }))
}

impl Export {
    /// None after the last page. A page may be empty.
    async fn next_page(&mut self) -> Result<Option<Vec<Entry>>, DbError> {
        match &self.next {
            Next::Postings { after } => {
                let page = store::postings_page(&mut self.snapshot, after.clone()).await?;
                self.next = match page.last() {
                    Some(last) => Next::Postings { after: PostingKey::of(last) },
                    None => Next::Balances { after: String::new() },
                };
                let entry = |posting| Entry::Posting(posting_message(&self.currency, posting));
                Ok(Some(page.into_iter().map(entry).collect()))
            }
            Next::Balances { after } => {
                let page = store::balances_page(&mut self.snapshot, after).await?;
                let Some(last) = page.last() else { return Ok(None) };
                self.next = Next::Balances { after: last.student.as_str().to_owned() };
                let entry = |balance| Entry::Account(account_balance(&self.currency, balance));
                Ok(Some(page.into_iter().map(entry).collect()))
            }
        }
    }
}

/// An operation of `AssessFees`.
fn assess(wire: proto::AssessFeesOperation) -> Result<Operation<Command>, FieldError> {
    let student = required_id("student_id", wire.student_id, StudentId::try_new)?;
    let adds = distinct_sections("adds", wire.adds, add, |add| &add.section)?;
    let basis = basis(wire.basis)?;
    saga(wire.operation, Leg::Action, |registration| Command::Assess { registration, student, adds, basis })
}

/// An operation of `VoidFees`.
fn void(wire: proto::VoidFeesOperation) -> Result<Operation<Command>, FieldError> {
    // The charges know whose they are; an id out of bounds is a caller's mistake all the same.
    required_id("student_id", wire.student_id, StudentId::try_new)?;
    saga(wire.operation, Leg::Undo, |registration| Command::Void { registration })
}

/// An operation of `RefundFees`.
fn refund(wire: proto::RefundFeesOperation) -> Result<Operation<Command>, FieldError> {
    let student = required_id("student_id", wire.student_id, StudentId::try_new)?;
    let drops = distinct_sections("drops", wire.drops, TryInto::try_into, |drop: &DroppedCourse| &drop.section)?;
    let effective_at = moment("effective_at", wire.effective_at)?;
    let command = |registration| Command::Refund { registration, student, drops, effective_at };
    saga(wire.operation, Leg::Action, command)
}

/// An amount.
pub(crate) fn money(currency: &Currency, minor_units: i64) -> common::Money {
    Money { currency: currency.to_string(), minor_units }.into()
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
        amount: Some(money(currency, posting.minor_units)),
        caused_by_registration_id: posting.caused_by.into(),
        posted_at: Some(posting.posted_at.to_wire()),
    }
}

/// A stored balance.
fn account_balance(currency: &Currency, balance: Balance) -> proto::AccountBalance {
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
    let items = each(name, wire, SECTIONS_MAX, convert)?;
    distinct(name, "section_id", items.iter().map(section))?;
    Ok(items)
}

/// A moment that must be there.
pub(crate) fn moment(name: &str, wire: Option<prost_types::Timestamp>) -> Result<UnixMs, FieldError> {
    let wire = wire.ok_or_else(|| FieldError::new(name, "is required"))?;
    UnixMs::from_wire(&wire).ok_or_else(|| FieldError::new(name, "must be a moment of the years 1 to 9999"))
}

/// The problem of a field.
pub(crate) fn field(name: &str, problem: OutOfBounds) -> FieldError {
    FieldError::new(name, problem.to_string())
}

#[cfg(test)]
mod tests;
