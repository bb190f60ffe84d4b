//! Reads of the saga log: by id, by the beginning of an id, by key, and lists. Sagas whose log is in the archive are
//! read from their receipts. No running registration depends on these reads.
//!
//! Promises: an unreadable row hides no other row. A saga that moves to the archive between two statements is in the
//! answer of at least one of them.

use std::cell::OnceCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use matricula_core::{SagaId, Ticket};
use matricula_engine::Recorded;
use matricula_kit::database::{Args, DbError, Row, Rows};
use matricula_kit::telemetry::{self, TraceContext};
use matricula_kit::time::UnixMs;

use super::entry::{entries, events_in_row};
use super::{SagaStore, id_rows, readable_id, readable_ids, saga_id};

/// A saga as stored.
#[derive(Debug, Clone)]
pub struct SagaRow {
    /// Its id.
    pub id: SagaId,
    /// Its number in the order of acceptance; 0 for a saga of a build without tickets.
    pub ticket: Ticket,
    /// Whether it waits in line. Then no instance drives it, and its log is the event that it would begin with.
    pub is_queued: bool,
    /// The student.
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
    /// When it was accepted.
    pub created_at: UnixMs,
    /// When its last event was recorded.
    pub updated_at: UnixMs,
    /// The instance that drives it.
    pub owner: String,
    /// Whether that instance lives, by the database's clock.
    pub owner_alive: bool,
    /// `Phase::as_str` after its last event.
    pub phase: String,
    /// Whether an operator must decide something.
    pub needs_attention: bool,
    /// Sequence of its last event.
    pub sequence: i64,
    /// Its log, or why that can't be read.
    pub log: Result<Vec<Recorded>, String>,
    /// Its receipt, if its log is in the archive.
    pub archived: Option<Archived>,
}

/// The receipt of a saga whose log is in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archived {
    /// The result of `Workload::receipt`.
    pub receipt: String,
    /// The file of the archive that has its log.
    pub file: String,
}

/// Which sagas a list contains.
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
    /// The most sagas.
    pub limit: i64,
}

macro_rules! columns {
    () => {
        "SELECT s.saga_id, s.subject, s.idempotency_key, s.definition, s.version, s.request, s.traceparent, \
         s.tracestate, s.created_at, s.updated_at, s.owner, s.phase, s.needs_attention, s.sequence, \
         s.ticket, s.queued, s.log, \
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
    ($first:literal, $id:literal, $from:literal) => {
        concat!(
            columns!(),
            "FROM ",
            $from,
            " s WHERE ",
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

const LIST: &str = list!("($1 = '' OR s.subject = $1)", "s.saga_id", "sagas");
/// The next statements each use an index of their own, which the general statement would not. The id is an expression,
/// because otherwise the database may scan the primary key with the sagas of all subjects.
const LIST_OF_SUBJECT: &str = list!("s.subject = $1", "s.saga_id || ''", "sagas");
const LIST_NEEDING_ATTENTION: &str =
    list!("s.needs_attention = 1 AND ($1 = '' OR s.subject = $1)", "s.saga_id", "sagas");
/// The same for unfinished sagas. Each half has an index.
const LIST_UNFINISHED: &str = list!(
    "($1 = '' OR s.subject = $1)",
    "s.saga_id || ''",
    "(SELECT u.* FROM sagas u WHERE u.finished = 0 AND u.queued = 0 UNION ALL \
     SELECT q.* FROM sagas q WHERE q.queued = 1)"
);
const UNFINISHED: &str = concat!(
    columns!(),
    "FROM sagas s WHERE s.finished = 0 AND s.queued = 0 AND s.saga_id || '' > $1 ORDER BY s.saga_id || '' LIMIT $2"
);

/// Timeout of a list at the replica. Then the database itself is queried. A page normally takes milliseconds.
const REPLICA_TIMEOUT: Duration = Duration::from_secs(1);
/// The first page begins here: after every id, because ids are hexadecimal.
const BEYOND_ALL: &str = "zzzz";
/// The stored names of the phases of unfinished sagas.
const UNFINISHED_PHASES: [&str; 4] = ["queued", "running", "compensating", "completing"];

impl SagaStore {
    /// One saga with its log.
    pub async fn get(&self, id: SagaId) -> Result<Option<SagaRow>, DbError> {
        Ok(self.get_many(vec![id]).await?.pop())
    }

    /// The sagas of these ids that exist, by id, with their logs or with their receipts.
    pub async fn get_many(&self, ids: Vec<SagaId>) -> Result<Vec<SagaRow>, DbError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.database.fetch(BY_ID, id_rows(&ids).into()).await?;
        let mut sagas = self.with_logs(rows).await?;
        // Queried after the sagas: a saga that moves to the archive meanwhile is in one of the two answers.
        let found: HashSet<SagaId> = sagas.iter().map(|saga| saga.id).collect();
        let missing: Vec<SagaId> = ids.into_iter().filter(|id| !found.contains(id)).collect();
        let archived = self.receipts(&missing).await?;
        if !archived.is_empty() {
            sagas.extend(archived);
            sagas.sort_by_key(|saga| saga.id);
        }
        Ok(sagas)
    }

    /// Those of these sagas that have more events than the given sequences.
    pub(crate) async fn changed(&self, known: &[(SagaId, u64)]) -> Result<Vec<SagaRow>, DbError> {
        let rows = Rows::new()
            .id("saga_id", known.iter().map(|(saga, _)| saga.to_string()))
            .int("sequence", known.iter().map(|(_, sequence)| *sequence as i64));
        let changed = self.database.fetch(CHANGED, rows.into()).await?;
        self.get_many(readable_ids(&changed)?).await
    }

    /// The same as [`SagaStore::list`] for readers that do not need the latest writes: it reads from the replica, if
    /// one is set and answers.
    pub async fn list_somewhat_old(&self, filter: SagaFilter) -> Result<Vec<SagaRow>, DbError> {
        if let Some(replica) = &self.replica {
            match tokio::time::timeout(REPLICA_TIMEOUT, replica.list(filter.clone())).await {
                Ok(Ok(sagas)) => return Ok(sagas),
                Ok(Err(error)) => tracing::warn!(error = telemetry::chain(&error), "the replica can't be read"),
                Err(_) => tracing::warn!("the replica did not answer within {REPLICA_TIMEOUT:?}"),
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
                .id(before)
                .int(filter.limit)
        };
        let sagas = self.page(sql, args, before.clone(), filter.limit).await?;
        if !filter.archived {
            return Ok(sagas);
        }
        let receipts = self.receipts_before(&before, filter.subject.as_deref(), filter.limit).await?;
        Ok(merged(sagas, receipts, filter.limit))
    }

    /// Sagas that have begun and are not finished, the oldest first, with their logs. `after` is the last saga of the
    /// previous page.
    pub async fn unfinished(&self, after: Option<SagaId>, limit: i64) -> Result<Vec<SagaRow>, DbError> {
        let after = after.map(String::from).unwrap_or_default();
        self.page(UNFINISHED, |after| Args::new().id(after).int(limit), after, limit).await
    }

    /// The next `limit` sagas of a list, from this id on. Rows with an unreadable id are skipped. They do not make the
    /// page shorter, because a short page means the end of the list.
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
                id = last.id("saga_id")?;
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

    async fn with_logs(&self, rows: Vec<Row>) -> Result<Vec<SagaRow>, DbError> {
        let sagas: Result<Vec<_>, _> = rows.iter().filter_map(|row| saga_row(row).transpose()).collect();
        let mut sagas = sagas?;
        self.read_later_events(&mut sagas).await?;
        for saga in &mut sagas {
            saga.log = match std::mem::replace(&mut saga.log, Ok(Vec::new())) {
                Ok(log) if log.is_empty() && saga.is_queued => self.begin_queued(saga),
                log => log.and_then(|log| whole(log, saga.sequence)),
            };
        }
        // The log of a saga may have moved to the archive between the reads of its row and its events.
        let without: Vec<SagaId> = sagas.iter().filter(|saga| saga.log.is_err()).map(|saga| saga.id).collect();
        for receipt in self.receipts(&without).await? {
            if let Some(saga) = sagas.iter_mut().find(|saga| saga.id == receipt.id) {
                *saga = receipt;
            }
        }
        Ok(sagas)
    }

    /// Adds the events that are not in the rows of their sagas.
    async fn read_later_events(&self, sagas: &mut [SagaRow]) -> Result<(), DbError> {
        let lacks_events = |saga: &SagaRow| saga.log.as_ref().is_ok_and(|log| (log.len() as i64) < saga.sequence);
        let ids: Vec<SagaId> = sagas.iter().filter(|saga| lacks_events(saga)).map(|saga| saga.id).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let mut logs: HashMap<SagaId, Result<Vec<Recorded>, String>> = HashMap::with_capacity(ids.len());
        for row in self.database.fetch(EVENTS, id_rows(&ids).into()).await? {
            let log = logs.entry(saga_id(&row)?).or_insert_with(|| Ok(Vec::new()));
            match (entries(&row), log) {
                (Ok(events), Ok(log)) => log.extend(events),
                (Err(problem), log @ Ok(_)) => *log = Err(problem),
                // The first problem is the one to report.
                (_, Err(_)) => {}
            }
        }
        for saga in sagas {
            match (logs.remove(&saga.id), &mut saga.log) {
                (Some(Ok(later)), Ok(log)) => {
                    // Later events were appended after the row was read. They may follow events that were not read.
                    log.extend(later.into_iter().filter(|event| event.sequence as i64 <= saga.sequence));
                    log.sort_by_key(|event| event.sequence);
                }
                (Some(Err(problem)), log) => *log = Err(problem),
                _ => {}
            }
        }
        Ok(())
    }
}

impl SagaStore {
    /// The log of a queued saga: the event that it would have begun with at its acceptance. The instance that claims it
    /// decides the definition, not the instance that has accepted it.
    fn begin_queued(&self, saga: &mut SagaRow) -> Result<Vec<Recorded>, String> {
        let begin = self.begin.as_ref().ok_or("it waits in line, and has no events yet")?;
        let first = begin(&saga.request, saga.created_at)?;
        saga.begins_with(&first);
        Ok(vec![first])
    }
}

impl SagaRow {
    /// Takes the definition from the first event. The row may still have that of the instance that accepted the saga.
    fn begins_with(&mut self, first: &Recorded) {
        if let Some((definition, version)) = first.event.definition() {
            (self.definition, self.version) = (definition.to_owned(), version);
        }
    }
}

/// Checks that a log reaches the sequence of its row. A shorter log has lost events whose effects may have run. A
/// longer one was appended to after the row was read.
fn whole(log: Vec<Recorded>, sequence: i64) -> Result<Vec<Recorded>, String> {
    match log.last().map_or(0, |last| last.sequence as i64) {
        0 => Err("it has no events".to_owned()),
        last if last < sequence => Err(format!("it ends with event {last}, and its row says {sequence}")),
        _ => Ok(log),
    }
}

/// A row with a readable id gives a saga, even if other columns can't be read, so that it does not disappear from
/// lists.
fn saga_row(row: &Row) -> Result<Option<SagaRow>, DbError> {
    let Some(id) = readable_id(row)? else { return Ok(None) };
    // The first problem is the one to report.
    let problem = OnceCell::new();
    let keep = |error: DbError| drop(problem.set(telemetry::chain(&error)));
    let text = |column| row.text(column).map_err(keep).unwrap_or_default();
    let int = |column| row.int(column).map_err(keep).unwrap_or_default();
    let saga = SagaRow {
        id,
        ticket: Ticket(u64::try_from(int("ticket")).unwrap_or_default()),
        is_queued: int("queued") == 1,
        subject: text("subject"),
        idempotency_key: text("idempotency_key"),
        definition: text("definition"),
        request: text("request"),
        owner: row.id("owner").map_err(keep).unwrap_or_default(),
        phase: text("phase"),
        trace: TraceContext { traceparent: text("traceparent"), tracestate: text("tracestate") },
        // The schema keeps the version within bounds.
        version: u32::try_from(int("version")).unwrap_or_default(),
        sequence: int("sequence"),
        created_at: UnixMs(int("created_at")),
        updated_at: UnixMs(int("updated_at")),
        owner_alive: int("owner_alive") == 1,
        needs_attention: int("needs_attention") == 1,
        log: Ok(Vec::new()),
        archived: None,
    };
    let log = text("log");
    Ok(Some(SagaRow { log: problem.into_inner().map_or_else(|| events_in_row(id, &log), Err), ..saga }))
}

macro_rules! receipts {
    ($rest:literal) => {
        concat!(
            "SELECT a.saga_id, a.definition, a.version, a.subject, a.idempotency_key, a.request, a.created_at, a.ticket, \
             a.finished_at, a.phase, a.receipt, a.archived_in FROM ",
            $rest
        )
    };
}

const RECEIPTS_BY_ID: &str = receipts!("{rows} JOIN receipts a ON a.saga_id = r.saga_id ORDER BY a.saga_id");
const LIST_RECEIPTS: &str = receipts!("receipts a WHERE a.saga_id < $1 ORDER BY a.saga_id DESC LIMIT $2");
/// The id is an expression, because otherwise the database may scan the primary key with the receipts of all subjects.
const LIST_RECEIPTS_OF_SUBJECT: &str =
    receipts!("receipts a WHERE a.saga_id || '' < $1 AND a.subject = $3 ORDER BY a.saga_id || '' DESC LIMIT $2");

impl SagaStore {
    /// Those of these sagas that have a receipt, by id.
    async fn receipts(&self, ids: &[SagaId]) -> Result<Vec<SagaRow>, DbError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.database.fetch(RECEIPTS_BY_ID, id_rows(ids).into()).await?;
        rows.iter().filter_map(|row| receipt_row(row).transpose()).collect()
    }

    /// Receipts before an id, the newest first, of one subject or of all.
    async fn receipts_before(&self, before: &str, subject: Option<&str>, limit: i64) -> Result<Vec<SagaRow>, DbError> {
        let args = Args::new().id(before).int(limit);
        let rows = match subject {
            Some(subject) => self.database.fetch(LIST_RECEIPTS_OF_SUBJECT, args.text(subject)).await?,
            None => self.database.fetch(LIST_RECEIPTS, args).await?,
        };
        rows.iter().filter_map(|row| receipt_row(row).transpose()).collect()
    }
}

/// Merges two pages, the newest first. A saga in both is between the two commits of its move to the archive, and still
/// has its log.
fn merged(mut sagas: Vec<SagaRow>, receipts: Vec<SagaRow>, limit: i64) -> Vec<SagaRow> {
    let known: HashSet<SagaId> = sagas.iter().map(|saga| saga.id).collect();
    sagas.extend(receipts.into_iter().filter(|receipt| !known.contains(&receipt.id)));
    sagas.sort_by_key(|saga| Reverse(saga.id));
    sagas.truncate(usize::try_from(limit).unwrap_or_default());
    sagas
}

/// `None` for a row whose id is not a UUID.
fn receipt_row(row: &Row) -> Result<Option<SagaRow>, DbError> {
    let Some(id) = readable_id(row)? else { return Ok(None) };
    let file = row.text("archived_in")?;
    Ok(Some(SagaRow {
        id,
        ticket: Ticket(u64::try_from(row.int("ticket")?).unwrap_or_default()),
        is_queued: false,
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

const IDS_OF_SAGAS: &str =
    "SELECT s.saga_id FROM sagas s WHERE s.saga_id BETWEEN $1 AND $2 ORDER BY s.saga_id LIMIT $3";
const IDS_OF_RECEIPTS: &str =
    "SELECT a.saga_id FROM receipts a WHERE a.saga_id BETWEEN $1 AND $2 ORDER BY a.saga_id LIMIT $3";

impl SagaStore {
    /// The ids from `first` to `last`, both included, in order. Includes sagas in the archive.
    pub async fn ids_between(&self, first: &str, last: &str, limit: i64) -> Result<Vec<SagaId>, DbError> {
        let mut ids = BTreeSet::new();
        // A saga that moves to the archive between the two statements is in one of the answers.
        for sql in [IDS_OF_SAGAS, IDS_OF_RECEIPTS] {
            let rows = self.database.fetch(sql, Args::new().id(first).id(last).int(limit)).await?;
            ids.extend(readable_ids(&rows)?);
        }
        Ok(ids.into_iter().take(usize::try_from(limit).unwrap_or_default()).collect())
    }
}

const OF_KEY: &str = "SELECT saga_id, fingerprint FROM sagas WHERE subject = $1 AND idempotency_key = $2 \
     UNION ALL SELECT saga_id, fingerprint FROM receipts WHERE subject = $1 AND idempotency_key = $2";

/// The `CROSS JOIN` makes SQLite go from the subjects to their sagas. A subject has few, so the prefix needs no index.
const OF_PREFIX: &str = "SELECT s.saga_id, s.subject, s.idempotency_key, s.request, s.outcome \
     FROM {rows} CROSS JOIN sagas s WHERE s.subject = r.subject AND s.idempotency_key LIKE $1";
const RECEIPTS_OF_PREFIX: &str = "SELECT a.saga_id, a.subject, a.idempotency_key, a.request, a.outcome \
     FROM {rows} CROSS JOIN receipts a WHERE a.subject = r.subject AND a.idempotency_key LIKE $1";

/// A saga as it is found by its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyedSaga {
    /// Its id.
    pub id: SagaId,
    /// The student.
    pub subject: String,
    /// The caller's key.
    pub idempotency_key: String,
    /// The request, as JSON.
    pub request: String,
    /// `Outcome::as_str` after its last event.
    pub outcome: String,
}

impl SagaStore {
    /// The sagas of these subjects whose keys begin with `prefix`, by id. Includes sagas in the archive.
    pub async fn of_prefix(&self, subjects: &[&str], prefix: &str) -> Result<Vec<KeyedSaga>, DbError> {
        let mut found = BTreeMap::new();
        // A saga that moves to the archive between the two statements is in one of the answers.
        for sql in [OF_PREFIX, RECEIPTS_OF_PREFIX] {
            let rows = Rows::new().text("subject", subjects);
            for row in self.database.fetch(sql, Args::new().text(format!("{prefix}%")).rows(rows)).await? {
                let Some(id) = readable_id(&row)? else { continue };
                let saga = KeyedSaga {
                    id,
                    subject: row.text("subject")?,
                    idempotency_key: row.text("idempotency_key")?,
                    request: row.text("request")?,
                    outcome: row.text("outcome")?,
                };
                found.insert(id, saga);
            }
        }
        Ok(found.into_values().collect())
    }

    /// The saga that a subject has submitted with a key, and the fingerprint of its request. Includes sagas in the
    /// archive.
    pub async fn of_key(&self, subject: &str, key: &str) -> Result<Option<(SagaId, String)>, DbError> {
        let rows = self.database.fetch(OF_KEY, Args::new().text(subject).text(key)).await?;
        rows.first().map(|row| Ok((saga_id(row)?, row.text("fingerprint")?))).transpose()
    }
}
