//! Imports on the wire: one service for all that take them.

use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt as _};
use matricula_proto::imports::v1 as wire;
use matricula_proto::imports::v1::import_service_server::{ImportService, ImportServiceServer};
use prost::Message as _;
use tokio::sync::Mutex;
use tonic::{Code, Request, Response, Status};

use super::{ImportError, Imported, staged};
use crate::database::Database;
use crate::id::ImportId;
use crate::rpc::{FieldError, bounded, required_id};
use crate::status;
use crate::telemetry;

/// Most rows of a message; the contract's bound.
const ROWS_MAX: usize = 1_000;
/// Bytes of rows after which a message of them is full: half of what a client takes.
const BYTES_OF_MESSAGE: usize = 2 << 20;
/// Most parts of an import: two million rows.
const PARTS_MAX: i32 = 2_000;

/// Imports of one service.
pub(crate) struct ImportGrpc {
    imports: Arc<dyn Imported>,
    database: Database,
    /// One import is read into memory at a time.
    applying: Mutex<()>,
}

/// The service over what takes the imports, and its database.
pub(crate) fn server(imports: Arc<dyn Imported>, database: Database) -> ImportServiceServer<ImportGrpc> {
    ImportServiceServer::new(ImportGrpc::new(imports, database))
}

impl ImportGrpc {
    pub(super) fn new(imports: Arc<dyn Imported>, database: Database) -> Self {
        Self { imports, database, applying: Mutex::new(()) }
    }
}

#[tonic::async_trait]
impl ImportService for ImportGrpc {
    type ReadImportedStream = BoxStream<'static, Result<wire::ReadImportedResponse, Status>>;

    async fn read_imported(
        &self,
        _request: Request<wire::ReadImportedRequest>,
    ) -> Result<Response<Self::ReadImportedStream>, Status> {
        let (version, rows) = self.imports.read().await?;
        let messages = messages(version, rows).into_iter().map(Ok);
        Ok(Response::new(stream::iter(messages).boxed()))
    }

    async fn stage_rows(
        &self,
        request: Request<wire::StageRowsRequest>,
    ) -> Result<Response<wire::StageRowsResponse>, Status> {
        let request = request.into_inner();
        let import = import_id(&request.import_id)?;
        bounded("part", request.part, 0..=PARTS_MAX - 1)?;
        if request.rows.len() > ROWS_MAX {
            return Err(FieldError::new("rows", format!("at most {ROWS_MAX}, got {}", request.rows.len())).into());
        }
        for (index, row) in request.rows.iter().enumerate() {
            self.imports.check(row).map_err(|problem| problem.within(&format!("rows[{index}]")))?;
        }
        staged::put(&self.database, &import, request.part, &request).await?;
        Ok(Response::new(wire::StageRowsResponse {}))
    }

    async fn apply_import(
        &self,
        request: Request<wire::ApplyImportRequest>,
    ) -> Result<Response<wire::ApplyImportResponse>, Status> {
        let request = request.into_inner();
        let import = import_id(&request.import_id)?;
        bounded("parts", request.parts, 0..=PARTS_MAX)?;
        let _one = self.applying.lock().await;
        let Some(rows) = staged::rows(&self.database, &import, request.parts).await? else {
            let message =
                format!("not all of the {} parts of import {import} are staged: stage them again", request.parts);
            return Err(status::error(Code::FailedPrecondition, "PARTS_MISSING", message));
        };
        let count = rows.len();
        self.imports.apply(request.base_version, rows).await?;
        tracing::info!(%import, rows = count, version = request.base_version + 1, "an import was applied");
        // It is applied; what stays staged goes within a day.
        if let Err(error) = staged::remove(&self.database, &import).await {
            tracing::warn!(%import, error = telemetry::chain(&error), "the parts of an import could not be removed");
        }
        Ok(Response::new(wire::ApplyImportResponse { version: request.base_version + 1 }))
    }
}

impl From<ImportError> for Status {
    fn from(problem: ImportError) -> Self {
        let message = problem.to_string();
        match problem {
            ImportError::Outdated { .. } => status::error(Code::Aborted, "PLAN_OUTDATED", message),
            // The row was in an earlier request: this one has no field that could be named.
            ImportError::Row(_) => status::error(Code::FailedPrecondition, "ROW_REFUSED", message),
            ImportError::Refused { reason, .. } => status::error(Code::FailedPrecondition, reason, message),
            ImportError::Database(error) => error.into(),
            ImportError::Write(error) => error.into(),
        }
    }
}

fn import_id(text: &str) -> Result<ImportId, FieldError> {
    required_id("import_id", text.to_owned(), ImportId::try_new)
}

/// Rows in as many messages as they need; at least one, which has the version.
fn messages(version: i64, rows: Vec<wire::ImportRow>) -> Vec<wire::ReadImportedResponse> {
    let empty = || wire::ReadImportedResponse { version, rows: Vec::new() };
    let (mut messages, mut current, mut bytes) = (Vec::new(), empty(), 0);
    for row in rows {
        let length = row.encoded_len();
        if current.rows.len() == ROWS_MAX || (bytes > 0 && bytes + length > BYTES_OF_MESSAGE) {
            messages.push(std::mem::replace(&mut current, empty()));
            bytes = 0;
        }
        bytes += length;
        current.rows.push(row);
    }
    messages.push(current);
    messages
}
