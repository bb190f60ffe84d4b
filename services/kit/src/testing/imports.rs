//! Imports as a client makes them, for tests that need existing data.

use matricula_proto::imports::v1::import_row::Row;
use matricula_proto::imports::v1::import_service_client::ImportServiceClient;
use matricula_proto::imports::v1::{ApplyImportRequest, ImportRow, ReadImportedRequest, StageRowsRequest};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::role::MESSAGE_BYTES_MAX;

/// Rows in a part: the services' limit.
const ROWS_IN_PART: usize = 1_000;

/// Every row that imports can change, and the version of the rows.
pub async fn imported(channel: Channel) -> Result<(i64, Vec<Row>), Status> {
    let mut client = client(channel);
    let mut messages = client.read_imported(ReadImportedRequest {}).await?.into_inner();
    let (mut version, mut rows) = (0, Vec::new());
    while let Some(message) = messages.message().await? {
        version = message.version;
        rows.extend(message.rows.into_iter().filter_map(|row| row.row));
    }
    Ok((version, rows))
}

/// Stages rows and applies them to the current version, also if another import was applied first. Returns the new
/// version.
pub async fn import(channel: Channel, rows: impl IntoIterator<Item = Row>) -> Result<i64, Status> {
    let mut client = client(channel.clone());
    let import_id = uuid::Uuid::now_v7().to_string();
    let rows: Vec<ImportRow> = rows.into_iter().map(|row| ImportRow { row: Some(row) }).collect();
    let mut parts = 0;
    for rows in rows.chunks(ROWS_IN_PART) {
        let request = StageRowsRequest { import_id: import_id.clone(), part: parts, rows: rows.to_vec() };
        client.stage_rows(request).await?;
        parts += 1;
    }
    loop {
        let (base_version, _) = imported(channel.clone()).await?;
        let request = ApplyImportRequest { import_id: import_id.clone(), parts, base_version };
        match client.apply_import(request).await {
            Err(status) if status.code() == Code::Aborted => {}
            applied => return Ok(applied?.into_inner().version),
        }
    }
}

fn client(channel: Channel) -> ImportServiceClient<Channel> {
    ImportServiceClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}
