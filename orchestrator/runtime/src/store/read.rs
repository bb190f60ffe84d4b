//! Reads of the saga log: one saga, many, lists. None of them is on the way of a registration that runs.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use matricula_core::SagaId;
use matricula_engine::Recorded;
use matricula_kit::database::{Args, DbError, Row, Rows};
use matricula_kit::telemetry::{self, TraceContext};
use matricula_kit::time::UnixMs;

use super::line;
use super::receipt::{self, Archived};
use super::{SagaStore, id_rows, readable_id, readable_ids, saga_id};

/// A saga as stored.
#[derive(Debug, Clone)]
pub struct SagaRow {
    /// Its id.
    pub id: SagaId,
    /// Whom it is about.
    pub subject: String,
    /// The caller's key.
    pub idempotency_key: String,
    /// Name of its definition.
    pub definition: String,
    /// Version of its definition.
    pub version: u32,
    /// The request, as JSON.
    pub request: String,
    /// The trace that it belongs to.
    pub trace: TraceContext,
    /// When it was admitted.
    pub created_at: UnixMs,
    /// When its last event was recorded.
    pub updated_at: UnixMs,
    /// The instance that drives it.
    pub owner: String,
    /// Whether that instance lives, by the database's clock.
    pub owner_alive: bool,
    /// `Phase::as_str` after its last event.
    pub phase: String,
    /// Whether a person must look.
    pub needs_attention: bool,
    /// Sequence of its last event.
    pub sequence: i64,
    /// Its log, or why that can't be read.
    pub log: Result<Vec<Recorded>, String>,
    /// What is kept of it when its log is in the archive.
    pub archived: Option<Archived>,
}

/// Which sagas a list holds.
#[derive(Debug, Clone, Default)]
pub struct SagaFilter {
    /// Only of this subject.
    pub subject: Option<String>,
    /// Only in these phases; empty: all.
    pub phases: Vec<&'static str>,
    /// Only those that need attention.
    pub needs_attention: bool,
    /// Only those that are not finished.
    pub unfinished: bool,
    /// Also those whose log is in the archive; only together with `subject`, `before` and `limit`.
    pub archived: bool,
    /// Only those whose id is lower than this text: the last id of the page before.
    pub before: Option<String>,
    /// How many.
    pub limit: i64,
}

macro_rules! columns {
    () => {
        "SELECT s.saga_id, s.subject, s.idempotency_key, s.definition, s.version, s.request, s.traceparent, \
         s.tracestate, s.created_at, s.updated_at, s.owner, s.phase, s.needs_attention, s.sequence, \
         COALESCE((SELECT CAST(1 AS BIGINT) FROM instances i \
         WHERE i.instance_id = s.owner AND i.dead = 0 AND i.lease_until > {now_ms}), CAST(0 AS BIGINT)) AS owner_alive "
    };
}

const BY_ID: &str = concat!(columns!(), "FROM {rows} JOIN sagas s ON s.saga_id = r.saga_id ORDER BY s.saga_id");
const CHANGED: &str = "SELECT s.saga_id FROM {rows} \
                       JOIN sagas s ON s.saga_id = r.saga_id AND s.sequence > r.sequence";
const EVENTS: &str = "SELECT e.saga_id, e.sequence, e.at, e.event FROM {rows} \
                      JOIN saga_events e ON e.saga_id = r.saga_id ORDER BY e.saga_id, e.sequence";
macro_rules! list {
    ($first:literal) => {
        list!($first, "s.saga_id")
    };
    ($first:literal, $id:literal) => {
        concat!(
            columns!(),
            "FROM sagas s WHERE ",
            $first,
            " AND ($2 = '' OR $2 LIKE '%,' || s.phase || ',%') AND ($3 = 0 OR s.needs_attention = 1) \
             AND ($4 = 0 OR s.finished = 0) AND ",
            $id,
            " < $5 ORDER BY ",
            $id,
            " DESC LIMIT $6"
        )
    };
}

const LIST: &str = list!("($1 = '' OR s.subject = $1)");
/// These go by indexes of their own; the general statement would not. The id as an expression: else the database may go
/// along the primary key, through all that is of others.
const LIST_OF_SUBJECT: &str = list!("s.subject = $1", "s.saga_id || ''");
const LIST_NEEDING_ATTENTION: &str = list!("s.needs_attention = 1 AND ($1 = '' OR s.subject = $1)");
/// The same, through all that is finished.
const LIST_UNFINISHED: &str = list!("s.finished = 0 AND ($1 = '' OR s.subject = $1)", "s.saga_id || ''");
const UNFINISHED: &str =
    concat!(columns!(), "FROM sagas s WHERE s.finished = 0 AND s.saga_id || '' > $1 ORDER BY s.saga_id || '' LIMIT $2");

/// How long a replica may take for a list, before the database itself is asked: a page takes milliseconds.
const REPLICA_PATIENCE: Duration = Duration::from_secs(1);
/// Beyond every id: where the first page begins. Ids are UUIDs, in hexadecimal digits.
const BEYOND_ALL: &str = "zzzz";
/// Phases of sagas that are not finished, as they are stored.
const UNFINISHED_PHASES: [&str; 3] = ["running", "compensating", "completing"];

impl SagaStore {
    /// One saga with its log.
    pub async fn get(&self, id: SagaId) -> Result<Option<SagaRow>, DbError> {
        Ok(self.get_many(vec![id]).await?.pop())
    }

    /// The sagas of these ids that exist, by id, with their logs, or with what is kept of them.
    pub async fn get_many(&self, ids: Vec<SagaId>) -> Result<Vec<SagaRow>, DbError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.database.fetch(BY_ID, id_rows(&ids).into()).await?;
        let mut sagas = self.with_logs(rows).await?;
        // Queried after the others: what is taken to the archive meanwhile is in one of the two answers.
        let found: HashSet<SagaId> = sagas.iter().map(|saga| saga.id).collect();
        let missing: Vec<SagaId> = ids.into_iter().filter(|id| !found.contains(id)).collect();
        let archived = self.receipts(&missing).await?;
        if !archived.is_empty() {
            sagas.extend(archived);
            sagas.sort_by_key(|saga| saga.id);
        }
        Ok(sagas)
    }

    /// Those of these sagas, each with a known sequence, that have more events than that.
    pub(crate) async fn changed(&self, known: &[(SagaId, u64)]) -> Result<Vec<SagaRow>, DbError> {
        let rows = Rows::new()
            .text("saga_id", known.iter().map(|(saga, _)| saga.to_string()))
            .int("sequence", known.iter().map(|(_, sequence)| *sequence as i64));
        let changed = self.database.fetch(CHANGED, rows.into()).await?;
        self.get_many(readable_ids(&changed)?).await
    }

    /// The same as [`SagaStore::list`] for those who need not see what was just written; from the replica, if there is
    /// one that answers.
    pub async fn list_somewhat_old(&self, filter: SagaFilter) -> Result<Vec<SagaRow>, DbError> {
        if let Some(replica) = &self.replica {
            match tokio::time::timeout(REPLICA_PATIENCE, replica.list(filter.clone())).await {
                Ok(Ok(sagas)) => return Ok(sagas),
                Ok(Err(error)) => tracing::warn!(error = telemetry::chain(&error), "the replica can't be read"),
                Err(_) => tracing::warn!("the replica did not answer within {REPLICA_PATIENCE:?}"),
            }
            metrics::counter!("matricula_replica_failures_total").increment(1);
        }
        self.list(filter).await
    }

    /// Sagas, newest first, with their logs.
    pub async fn list(&self, filter: SagaFilter) -> Result<Vec<SagaRow>, DbError> {
        let phases = match filter.phases.as_slice() {
            [] => String::new(),
            phases => format!(",{},", phases.join(",")),
        };
        let are_unfinished =
            !filter.phases.is_empty() && filter.phases.iter().all(|phase| UNFINISHED_PHASES.contains(phase));
        let unfinished = filter.unfinished || are_unfinished;
        let sql = match &filter.subject {
            Some(_) => LIST_OF_SUBJECT,
            None if filter.needs_attention => LIST_NEEDING_ATTENTION,
            None if unfinished => LIST_UNFINISHED,
            None => LIST,
        };
        let before = filter.before.unwrap_or_else(|| BEYOND_ALL.to_owned());
        let args = |before: &str| {
            Args::new()
                .text(filter.subject.clone().unwrap_or_default())
                .text(phases.as_str())
                .int(i64::from(filter.needs_attention))
                .int(i64::from(unfinished))
                .text(before)
                .int(filter.limit)
        };
        let sagas = self.page(sql, args, before.clone(), filter.limit).await?;
        if !filter.archived {
            return Ok(sagas);
        }
        let receipts = self.receipts_before(&before, filter.subject.as_deref(), filter.limit).await?;
        Ok(receipt::merged(sagas, receipts, filter.limit))
    }

    /// Sagas that are not finished, oldest first, with their logs; only those after this one, the end of the page
    /// before.
    pub async fn unfinished(&self, after: Option<SagaId>, limit: i64) -> Result<Vec<SagaRow>, DbError> {
        let after = after.map(String::from).unwrap_or_default();
        self.page(UNFINISHED, |after| Args::new().text(after).int(limit), after, limit).await
    }

    /// The next `limit` sagas of a list from this id on. Rows whose id can't be read are left out, and do not make the
    /// page shorter: to its reader, a short page is the last.
    async fn page(
        &self,
        sql: &'static str,
        args: impl Fn(&str) -> Args,
        mut id: String,
        limit: i64,
    ) -> Result<Vec<SagaRow>, DbError> {
        let limit = usize::try_from(limit).unwrap_or_default();
        let mut sagas = Vec::new();
        loop {
            let rows = self.database.fetch(sql, args(&id)).await?;
            let count = rows.len();
            if let Some(last) = rows.last() {
                id = last.text("saga_id")?;
            }
            let readable = self.with_logs(rows).await?;
            let is_end = count < limit || readable.len() == count;
            sagas.extend(readable);
            if is_end || sagas.len() >= limit {
                sagas.truncate(limit);
                return Ok(sagas);
            }
        }
    }

    /// A log that went to the archive between its row and its events is no damage.
    async fn with_receipts(&self, sagas: &mut [SagaRow]) -> Result<(), DbError> {
        let without: Vec<SagaId> = sagas.iter().filter(|saga| saga.log.is_err()).map(|saga| saga.id).collect();
        for receipt in self.receipts(&without).await? {
            if let Some(saga) = sagas.iter_mut().find(|saga| saga.id == receipt.id && saga.log.is_err()) {
                *saga = receipt;
            }
        }
        Ok(())
    }

    async fn with_logs(&self, rows: Vec<Row>) -> Result<Vec<SagaRow>, DbError> {
        let sagas: Result<Vec<_>, _> = rows.iter().filter_map(|row| saga_row(row).transpose()).collect();
        let mut sagas = sagas?;
        if sagas.is_empty() {
            return Ok(sagas);
        }
        let ids = Rows::new().text("saga_id", sagas.iter().map(|saga| saga.id.to_string()));
        let mut logs: HashMap<SagaId, Result<Vec<Recorded>, String>> = HashMap::with_capacity(sagas.len());
        for row in self.database.fetch(EVENTS, ids.into()).await? {
            let log = logs.entry(saga_id(&row)?).or_insert_with(|| Ok(Vec::new()));
            match (line::read(&row), log) {
                (Ok(events), Ok(log)) => log.extend(events),
                (Err(problem), log @ Ok(_)) => *log = Err(problem),
                // The first problem is the one to report.
                (_, Err(_)) => {}
            }
        }
        for saga in sagas.iter_mut().filter(|saga| saga.log.is_ok()) {
            let log = logs.remove(&saga.id).unwrap_or_else(|| Err("it has no events".to_owned()));
            saga.log = log.and_then(|log| whole(log, saga.sequence));
        }
        self.with_receipts(&mut sagas).await?;
        Ok(sagas)
    }
}

/// A log that ends before its row says has lost what others have acted on. One that goes on has just been appended to.
fn whole(log: Vec<Recorded>, sequence: i64) -> Result<Vec<Recorded>, String> {
    match log.last().map_or(0, |last| last.sequence as i64) {
        last if last < sequence => Err(format!("it ends with event {last}, and its row says {sequence}")),
        _ => Ok(log),
    }
}

/// A row whose id can be read is told of, whatever else can't be: one bad saga must not hide the others.
fn saga_row(row: &Row) -> Result<Option<SagaRow>, DbError> {
    let Some(id) = readable_id(row)? else { return Ok(None) };
    let mut problem = None;
    let mut keep = |error: DbError| {
        problem.get_or_insert_with(|| telemetry::chain(&error));
    };
    let mut text = |column| row.text(column).map_err(&mut keep).unwrap_or_default();
    let (subject, idempotency_key, definition) = (text("subject"), text("idempotency_key"), text("definition"));
    let (request, owner, phase) = (text("request"), text("owner"), text("phase"));
    let trace = TraceContext { traceparent: text("traceparent"), tracestate: text("tracestate") };
    let mut int = |column| row.int(column).map_err(&mut keep).unwrap_or_default();
    let (version, sequence) = (int("version"), int("sequence"));
    let (created_at, updated_at) = (UnixMs(int("created_at")), UnixMs(int("updated_at")));
    let (owner_alive, needs_attention) = (int("owner_alive") == 1, int("needs_attention") == 1);
    // The schema keeps the version within bounds.
    let version = u32::try_from(version).unwrap_or_default();
    let log = problem.map_or(Ok(Vec::new()), Err);
    Ok(Some(SagaRow {
        id,
        subject,
        idempotency_key,
        definition,
        version,
        request,
        trace,
        created_at,
        updated_at,
        owner,
        owner_alive,
        phase,
        needs_attention,
        sequence,
        log,
        archived: None,
    }))
}
