//! Reads of the saga log: one saga, many, lists. None of them is on the way of a registration that runs.

use std::collections::HashMap;

use matricula_engine::{Event, Recorded};
use matricula_kit::database::{Args, DbError, Row, Rows};
use matricula_kit::id::SagaId;
use matricula_kit::telemetry::TraceContext;
use matricula_kit::time::UnixMs;

use super::SagaStore;

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
    /// Its log, or why that can't be read.
    pub log: Result<Vec<Recorded>, String>,
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
    /// Only those older than this one: the end of the page before.
    pub before: Option<SagaId>,
    /// How many.
    pub limit: i64,
}

macro_rules! columns {
    () => {
        "SELECT s.saga_id, s.subject, s.idempotency_key, s.definition, s.version, s.request, s.traceparent, \
         s.tracestate, s.created_at, s.updated_at, s.owner, s.phase, s.needs_attention, \
         COALESCE((SELECT CAST(1 AS BIGINT) FROM instances i \
         WHERE i.instance_id = s.owner AND i.dead = 0 AND i.lease_until > {now_ms}), CAST(0 AS BIGINT)) AS owner_alive "
    };
}

const BY_ID: &str = concat!(columns!(), "FROM {rows} JOIN sagas s ON s.saga_id = r.saga_id ORDER BY s.saga_id");
const MOVED: &str = "SELECT s.saga_id FROM {rows} \
                     JOIN sagas s ON s.saga_id = r.saga_id AND s.sequence > r.sequence";
const EVENTS: &str = "SELECT e.saga_id, e.sequence, e.at, e.event FROM {rows} \
                      JOIN saga_events e ON e.saga_id = r.saga_id ORDER BY e.saga_id, e.sequence";
const LIST: &str = concat!(
    columns!(),
    "FROM sagas s WHERE ($1 = '' OR s.subject = $1) AND ($2 = '' OR $2 LIKE '%,' || s.phase || ',%') \
     AND ($3 = 0 OR s.needs_attention = 1) AND ($4 = 0 OR s.finished = 0) AND ($5 = '' OR s.saga_id < $5) \
     ORDER BY s.saga_id DESC LIMIT $6"
);
/// A list of one student goes by its own index; the general statement would not.
const LIST_OF_SUBJECT: &str = concat!(
    columns!(),
    "FROM sagas s WHERE s.subject = $1 AND ($2 = '' OR $2 LIKE '%,' || s.phase || ',%') \
     AND ($3 = 0 OR s.needs_attention = 1) AND ($4 = 0 OR s.finished = 0) AND ($5 = '' OR s.saga_id < $5) \
     ORDER BY s.saga_id DESC LIMIT $6"
);

impl SagaStore {
    /// One saga with its log.
    pub async fn get(&self, id: &SagaId) -> Result<Option<SagaRow>, DbError> {
        Ok(self.get_many(vec![id.as_str().to_owned()]).await?.pop())
    }

    /// The sagas of these ids that exist, by id, with their logs.
    pub async fn get_many(&self, ids: Vec<String>) -> Result<Vec<SagaRow>, DbError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.database.fetch(BY_ID, Rows::new().text("saga_id", ids).into()).await?;
        self.with_logs(rows).await
    }

    /// Those of these sagas, each with a known sequence, that have more events than that.
    pub(crate) async fn moved(&self, known: &[(SagaId, u64)]) -> Result<Vec<SagaRow>, DbError> {
        let rows = Rows::new()
            .text("saga_id", known.iter().map(|(saga, _)| saga.as_str()))
            .int("sequence", known.iter().map(|(_, sequence)| *sequence as i64));
        let moved = self.database.fetch(MOVED, rows.into()).await?;
        self.get_many(moved.iter().map(|row| row.text("saga_id")).collect::<Result<_, _>>()?).await
    }

    /// Sagas, newest first, with their logs.
    pub async fn list(&self, filter: SagaFilter) -> Result<Vec<SagaRow>, DbError> {
        let phases = match filter.phases.as_slice() {
            [] => String::new(),
            phases => format!(",{},", phases.join(",")),
        };
        let sql = if filter.subject.is_some() { LIST_OF_SUBJECT } else { LIST };
        let args = Args::new()
            .text(filter.subject.unwrap_or_default())
            .text(phases)
            .int(i64::from(filter.needs_attention))
            .int(i64::from(filter.unfinished))
            .text(filter.before.map(String::from).unwrap_or_default())
            .int(filter.limit);
        let rows = self.database.fetch(sql, args).await?;
        self.with_logs(rows).await
    }

    async fn with_logs(&self, rows: Vec<Row>) -> Result<Vec<SagaRow>, DbError> {
        let mut sagas = rows.iter().map(saga_row).collect::<Result<Vec<_>, _>>()?;
        if sagas.is_empty() {
            return Ok(sagas);
        }
        let ids = Rows::new().text("saga_id", sagas.iter().map(|saga| saga.id.as_str()));
        let mut logs: HashMap<String, Result<Vec<Recorded>, String>> = HashMap::with_capacity(sagas.len());
        for row in self.database.fetch(EVENTS, ids.into()).await? {
            let log = logs.entry(row.text("saga_id")?).or_insert_with(|| Ok(Vec::new()));
            match (recorded(&row), log) {
                (Ok(event), Ok(log)) => log.push(event),
                (Err(problem), log @ Ok(_)) => *log = Err(problem),
                // The first problem is the one to report.
                (_, Err(_)) => {}
            }
        }
        for saga in &mut sagas {
            saga.log = logs.remove(saga.id.as_str()).unwrap_or_else(|| Err("it has no events".to_owned()));
        }
        Ok(sagas)
    }
}

fn saga_row(row: &Row) -> Result<SagaRow, DbError> {
    Ok(SagaRow {
        id: SagaId::stored(row.text("saga_id")?),
        subject: row.text("subject")?,
        idempotency_key: row.text("idempotency_key")?,
        definition: row.text("definition")?,
        version: row.int("version")?.try_into().map_err(DbError::corrupt)?,
        request: row.text("request")?,
        trace: TraceContext { traceparent: row.text("traceparent")?, tracestate: row.text("tracestate")? },
        created_at: UnixMs(row.int("created_at")?),
        updated_at: UnixMs(row.int("updated_at")?),
        owner: row.text("owner")?,
        owner_alive: row.int("owner_alive")? == 1,
        phase: row.text("phase")?,
        needs_attention: row.int("needs_attention")? == 1,
        log: Ok(Vec::new()),
    })
}

/// A line of the log; what can't be read is told, not thrown: one bad saga must not hide the others.
fn recorded(row: &Row) -> Result<Recorded, String> {
    let sequence = row.int("sequence").map_err(|error| error.to_string())?;
    let text = row.text("event").map_err(|error| error.to_string())?;
    let event: Event = serde_json::from_str(&text).map_err(|error| format!("event {sequence}: {error}"))?;
    let at_ms = row.int("at").map_err(|error| error.to_string())?;
    Ok(Recorded { sequence: sequence.try_into().map_err(|_| format!("event {sequence}"))?, at_ms, event })
}
