//! Reads what is kept of sagas whose log has gone to the archive.

use std::cmp::Reverse;
use std::collections::HashSet;

use matricula_core::SagaId;
use matricula_kit::database::{Args, DbError, Row};
use matricula_kit::telemetry::TraceContext;
use matricula_kit::time::UnixMs;

use super::{SagaRow, SagaStore, id_rows, readable_id};

/// What is kept of a saga whose log is in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archived {
    /// What `Workload::receipt` made of it.
    pub receipt: String,
    /// The file of the archive that has its log.
    pub file: String,
}

macro_rules! receipts {
    ($rest:literal) => {
        concat!(
            "SELECT a.saga_id, a.definition, a.version, a.subject, a.idempotency_key, a.request, a.created_at, \
             a.finished_at, a.phase, a.receipt, a.archived_in FROM ",
            $rest
        )
    };
}

const BY_ID: &str = receipts!("{rows} JOIN receipts a ON a.saga_id = r.saga_id ORDER BY a.saga_id");
const LIST: &str = receipts!("receipts a WHERE a.saga_id < $1 ORDER BY a.saga_id DESC LIMIT $2");
const LIST_OF_SUBJECT: &str =
    receipts!("receipts a WHERE a.saga_id < $1 AND a.subject = $3 ORDER BY a.saga_id DESC LIMIT $2");

impl SagaStore {
    /// Of these sagas, those that have a receipt, by id.
    pub(super) async fn receipts(&self, ids: &[SagaId]) -> Result<Vec<SagaRow>, DbError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.database.fetch(BY_ID, id_rows(ids).into()).await?;
        rows.iter().filter_map(|row| saga_row(row).transpose()).collect()
    }

    /// Receipts before an id, newest first; of one subject, or of all.
    pub(super) async fn receipts_before(
        &self,
        before: &str,
        subject: Option<&str>,
        limit: i64,
    ) -> Result<Vec<SagaRow>, DbError> {
        let args = Args::new().text(before).int(limit);
        let rows = match subject {
            Some(subject) => self.database.fetch(LIST_OF_SUBJECT, args.text(subject)).await?,
            None => self.database.fetch(LIST, args).await?,
        };
        rows.iter().filter_map(|row| saga_row(row).transpose()).collect()
    }
}

/// One page of two, newest first. What is in both is between the two commits that take it to the archive: it still has
/// its log.
pub(super) fn merged(mut sagas: Vec<SagaRow>, receipts: Vec<SagaRow>, limit: i64) -> Vec<SagaRow> {
    let known: HashSet<SagaId> = sagas.iter().map(|saga| saga.id).collect();
    sagas.extend(receipts.into_iter().filter(|receipt| !known.contains(&receipt.id)));
    sagas.sort_by_key(|saga| Reverse(saga.id));
    sagas.truncate(usize::try_from(limit).unwrap_or_default());
    sagas
}

/// `None` for a row whose id is no UUID.
fn saga_row(row: &Row) -> Result<Option<SagaRow>, DbError> {
    let Some(id) = readable_id(row)? else { return Ok(None) };
    let file = row.text("archived_in")?;
    Ok(Some(SagaRow {
        id,
        subject: row.text("subject")?,
        idempotency_key: row.text("idempotency_key")?,
        definition: row.text("definition")?,
        version: u32::try_from(row.int("version")?).unwrap_or_default(),
        request: row.text("request")?,
        trace: TraceContext::default(),
        created_at: UnixMs(row.int("created_at")?),
        updated_at: UnixMs(row.int("finished_at")?),
        owner: String::new(),
        owner_alive: false,
        phase: row.text("phase")?,
        needs_attention: false,
        sequence: 0,
        log: Err(format!("it is in the archive, in {file}")),
        archived: Some(Archived { receipt: row.text("receipt")?, file }),
    }))
}
