//! `FeeService` on the wire: what comes in is checked and becomes domain values, what goes out is written as the
//! contract says. No rules.

mod ledger;
#[cfg(test)]
mod tests;
pub(crate) mod wire;

use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use matricula_kit::database::Database;
use matricula_kit::id::StudentId;
use matricula_kit::participant::Writer;
use matricula_kit::rpc::{operations, required_id, results};
use matricula_proto::fees::v1 as proto;
use matricula_proto::fees::v1::fee_service_server::FeeService;
use tonic::{Request, Response, Status};

use crate::store::{self, Fees};

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
        let operations = operations(request.into_inner().operations, wire::assess)?;
        let results = results(self.writer.write(operations).await?);
        Ok(Response::new(proto::AssessFeesResponse { results }))
    }

    async fn void_fees(
        &self,
        request: Request<proto::VoidFeesRequest>,
    ) -> Result<Response<proto::VoidFeesResponse>, Status> {
        let operations = operations(request.into_inner().operations, wire::void)?;
        let results = results(self.writer.write(operations).await?);
        Ok(Response::new(proto::VoidFeesResponse { results }))
    }

    async fn refund_fees(
        &self,
        request: Request<proto::RefundFeesRequest>,
    ) -> Result<Response<proto::RefundFeesResponse>, Status> {
        let operations = operations(request.into_inner().operations, wire::refund)?;
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
            balance: Some(wire::money(currency, account.balance)),
            postings: account.postings.into_iter().map(|posting| wire::posting(currency, posting)).collect(),
        }))
    }

    type ExportLedgerStream = BoxStream<'static, Result<proto::ExportLedgerResponse, Status>>;

    async fn export_ledger(
        &self,
        _request: Request<proto::ExportLedgerRequest>,
    ) -> Result<Response<Self::ExportLedgerStream>, Status> {
        let ledger = ledger::stream(&self.database).await?;
        Ok(Response::new(ledger.map_err(Status::from).boxed()))
    }
}
