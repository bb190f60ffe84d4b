//! Rows that tests import into a service that is served.

use matricula_proto::imports::v1::import_row::Row;
use matricula_proto::imports::v1::import_service_client::ImportServiceClient;
use matricula_proto::imports::v1::{ApplyImportRequest, ImportRow, ReadImportedRequest, StageRowsRequest};
use tonic::Code;
use tonic::transport::Channel;

use crate::id::SagaId;

/// Imports rows as the whole of one import; again when another one came first.
///
/// # Panics
/// When they can't be imported.
pub async fn import(channel: Channel, rows: impl IntoIterator<Item = Row>) {
    let mut client = ImportServiceClient::new(channel);
    let import_id = SagaId::generate().to_string();
    let rows: Vec<ImportRow> = rows.into_iter().map(|row| ImportRow { row: Some(row) }).collect();
    let mut parts = 0;
    for rows in rows.chunks(1_000) {
        let request = StageRowsRequest { import_id: import_id.clone(), part: parts, rows: rows.to_vec() };
        client.stage_rows(request).await.expect("the rows are within their bounds");
        parts += 1;
    }
    loop {
        let read = client.read_imported(ReadImportedRequest {}).await.expect("the service takes imports");
        let first = read.into_inner().message().await.expect("rows").expect("at least a version");
        let request = ApplyImportRequest { import_id: import_id.clone(), parts, base_version: first.version };
        match client.apply_import(request).await {
            Err(status) if status.code() == Code::Aborted => {}
            applied => return drop(applied.expect("the import is applied")),
        }
    }
}
