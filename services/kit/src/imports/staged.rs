//! The parts of an import between the plan and its end: kept in the database, so that each call may go to any replica.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use matricula_proto::imports::v1 as wire;
use prost::Message as _;
use tonic::{Code, Status};

use crate::database::{Args, Database, DbError};
use crate::id::ImportId;
use crate::{status, time};

/// How long a part waits for the end of its import: nobody looks at a plan for longer.
const KEPT_MS: i64 = 24 * 60 * 60 * 1_000;
/// Most bytes that are staged at a time: ten imports of a large campus.
const BYTES_MAX: i64 = 1 << 30;

const STAGED_BYTES: &str = "SELECT CAST(COALESCE(SUM(bytes), 0) AS BIGINT) AS bytes FROM staged_import";
const PUT: &str = "INSERT INTO staged_import (import_id, part, staged_at, bytes, body) VALUES ($1, $2, $3, $4, $5) \
     ON CONFLICT (import_id, part) DO UPDATE SET staged_at = excluded.staged_at, bytes = excluded.bytes, \
     body = excluded.body";
const BODY: &str = "SELECT body FROM staged_import WHERE import_id = $1 AND part = $2";
const REMOVE: &str = "DELETE FROM staged_import WHERE import_id = $1 OR staged_at < $2";
const REMOVE_OLD: &str = "DELETE FROM staged_import WHERE staged_at < $1";

/// Stores a part; the same part again replaces it. It is refused when imports that were never applied take the room.
pub(super) async fn put(
    database: &Database,
    import: &ImportId,
    part: i32,
    request: &wire::StageRowsRequest,
) -> Result<(), Status> {
    let body = STANDARD.encode(request.encode_to_vec());
    let (bytes, now) = (body.len() as i64, time::now());
    let mut tx = database.begin().await?;
    tx.send(REMOVE_OLD, Args::new().int(now.plus_ms(-KEPT_MS).0));
    let staged = tx.fetch(STAGED_BYTES, Args::new()).await?;
    let staged = staged.first().map_or(Ok(0), |row| row.int("bytes"))?;
    if staged + bytes > BYTES_MAX {
        let message = format!("{staged} bytes are staged already; what is not applied is removed after a day");
        return Err(status::error(Code::ResourceExhausted, "STAGED_TOO_MUCH", message));
    }
    let args = Args::new().id(import.as_str()).int(part.into()).int(now.0).int(bytes).text(body);
    tx.execute(PUT, args).await?;
    Ok(tx.commit().await?)
}

/// The rows of all parts, in order; `None` when a part is missing.
pub(super) async fn rows(
    database: &Database,
    import: &ImportId,
    parts: i32,
) -> Result<Option<Vec<wire::ImportRow>>, DbError> {
    let mut rows = Vec::new();
    for part in 0..parts {
        // One at a time: a part can have some megabytes, and an answer has its time.
        let found = database.fetch(BODY, Args::new().id(import.as_str()).int(part.into())).await?;
        let Some(row) = found.first() else { return Ok(None) };
        let bytes = STANDARD.decode(row.text("body")?).map_err(DbError::corrupt)?;
        rows.extend(wire::StageRowsRequest::decode(bytes.as_slice()).map_err(DbError::corrupt)?.rows);
    }
    Ok(Some(rows))
}

/// Removes the parts of an import, and what nobody has applied in time.
pub(super) async fn remove(database: &Database, import: &ImportId) -> Result<(), DbError> {
    let mut tx = database.begin().await?;
    let oldest = time::now().plus_ms(-KEPT_MS);
    tx.execute(REMOVE, Args::new().id(import.as_str()).int(oldest.0)).await?;
    tx.commit().await
}
