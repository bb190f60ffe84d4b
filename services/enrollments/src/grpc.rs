//! The wire of enrollments: requests to commands, answers and enrollments to messages. No rules.

use futures::{Stream, StreamExt, TryStreamExt, stream};
use matricula_kit::database::{Database, DbError, Tx};
use matricula_kit::id::StudentId;
use matricula_kit::participant::{Operation, Writer};
use matricula_kit::rpc::{self, FieldError};
use matricula_proto::common::v1::OperationResult;
use matricula_proto::enrollments::v1 as wire;
use matricula_proto::enrollments::v1::enrollment_service_server::EnrollmentService;
use tonic::{Request, Response, Status};

use crate::domain::Command;
use crate::store::{self, Enrollments};

mod convert;
#[cfg(test)]
mod tests;

/// The enrollment service on the wire.
pub struct EnrollmentsGrpc {
    writer: Writer<Enrollments>,
    database: Database,
}

impl EnrollmentsGrpc {
    /// Writes through `writer`, reads from `database`.
    pub fn new(writer: Writer<Enrollments>, database: Database) -> Self {
        Self { writer, database }
    }

    async fn write<W>(
        &self,
        operations: Vec<W>,
        convert: impl Fn(W) -> Result<Operation<Command>, FieldError>,
    ) -> Result<Vec<OperationResult>, Status> {
        let operations = rpc::operations(operations, convert)?;
        Ok(rpc::results(self.writer.write(operations).await?))
    }
}

#[tonic::async_trait]
impl EnrollmentService for EnrollmentsGrpc {
    type ExportLedgerStream = stream::BoxStream<'static, Result<wire::ExportLedgerResponse, Status>>;

    async fn create_enrollments(
        &self,
        request: Request<wire::CreateEnrollmentsRequest>,
    ) -> Result<Response<wire::CreateEnrollmentsResponse>, Status> {
        let results = self.write(request.into_inner().operations, convert::create).await?;
        Ok(Response::new(wire::CreateEnrollmentsResponse { results }))
    }

    async fn cancel_enrollments(
        &self,
        request: Request<wire::CancelEnrollmentsRequest>,
    ) -> Result<Response<wire::CancelEnrollmentsResponse>, Status> {
        let results = self.write(request.into_inner().operations, convert::cancel).await?;
        Ok(Response::new(wire::CancelEnrollmentsResponse { results }))
    }

    async fn commit_enrollments(
        &self,
        request: Request<wire::CommitEnrollmentsRequest>,
    ) -> Result<Response<wire::CommitEnrollmentsResponse>, Status> {
        let results = self.write(request.into_inner().operations, convert::commit).await?;
        Ok(Response::new(wire::CommitEnrollmentsResponse { results }))
    }

    async fn withdraw_commit(
        &self,
        request: Request<wire::WithdrawCommitRequest>,
    ) -> Result<Response<wire::WithdrawCommitResponse>, Status> {
        let results = self.write(request.into_inner().operations, convert::withdraw).await?;
        Ok(Response::new(wire::WithdrawCommitResponse { results }))
    }

    async fn list_enrollments(
        &self,
        request: Request<wire::ListEnrollmentsRequest>,
    ) -> Result<Response<wire::ListEnrollmentsResponse>, Status> {
        let request = request.into_inner();
        let student = rpc::required_id("student_id", request.student_id, StudentId::try_new)?;
        let size = rpc::page_size(request.page_size)?;
        let after = convert::position(&request.page_token)?;
        // One more than asked for tells whether this is the last page.
        let mut page = store::of_student(&self.database, &student, after, size + 1).await?;
        let is_last = i64::try_from(page.len()).is_ok_and(|count| count <= size);
        if !is_last {
            page.pop();
        }
        let next_page_token = page.last().filter(|_| !is_last).map(convert::page_token).unwrap_or_default();
        let enrollments = page.into_iter().map(convert::enrollment).collect();
        Ok(Response::new(wire::ListEnrollmentsResponse { enrollments, next_page_token }))
    }

    async fn export_ledger(
        &self,
        _: Request<wire::ExportLedgerRequest>,
    ) -> Result<Response<Self::ExportLedgerStream>, Status> {
        let snapshot = self.database.snapshot().await?;
        Ok(Response::new(ledger(snapshot).map_err(Status::from).boxed()))
    }
}

/// Every enrollment, as `snapshot` sees them, page by page.
fn ledger(snapshot: Tx) -> impl Stream<Item = Result<wire::ExportLedgerResponse, DbError>> {
    let pages = stream::try_unfold((snapshot, None), |(mut snapshot, after)| async move {
        let page = store::page_of_ledger(&mut snapshot, after.as_ref()).await?;
        let last = page.last().map(|enrollment| enrollment.key.clone());
        Ok::<_, DbError>(last.map(|last| (page, (snapshot, Some(last)))))
    });
    let enrollments = pages.map_ok(|page| stream::iter(page.into_iter().map(Ok))).try_flatten();
    enrollments.map_ok(|row| wire::ExportLedgerResponse { enrollment: Some(convert::enrollment(row)) })
}
