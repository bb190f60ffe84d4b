//! Group commit: admissions and appends of many sagas in one transaction, fenced by the instance's lease.

use std::collections::{HashMap, HashSet};

use matricula_core::{Admitted, Append, AppendOutcome, SagaId};
use matricula_engine::Recorded;
use matricula_kit::database::{Args, DbError, PendingQuery, Row, Rows, Tx};

use super::{FENCE, InstanceId, NewSaga, SagaStore, StoreError, entry, saga_id};

/// A key of the archive is taken, too. A subquery and not a join: PostgreSQL would go through all receipts for a large
/// batch.
const ADMIT: &str = "INSERT INTO sagas (saga_id, definition, version, subject, idempotency_key, fingerprint, request, \
     traceparent, tracestate, created_at, owner, sequence, phase, outcome, needs_attention, finished, updated_at) \
     SELECT r.saga_id, r.definition, r.version, r.subject, r.idempotency_key, r.fingerprint, r.request, \
     r.traceparent, r.tracestate, r.at, $1, 1, 'running', 'pending', 0, 0, r.at FROM {rows} \
     WHERE (SELECT a.saga_id FROM receipts a WHERE a.subject = r.subject AND a.idempotency_key = r.idempotency_key) \
     IS NULL ON CONFLICT DO NOTHING RETURNING saga_id";

const EXISTING: &str = "SELECT s.saga_id, s.subject, s.idempotency_key, s.fingerprint FROM {rows} \
     JOIN sagas s ON s.subject = r.subject AND s.idempotency_key = r.idempotency_key UNION ALL \
     SELECT a.saga_id, a.subject, a.idempotency_key, a.fingerprint FROM {rows} \
     JOIN receipts a ON a.subject = r.subject AND a.idempotency_key = r.idempotency_key";

const ADVANCE: &str = "UPDATE sagas SET sequence = r.sequence, phase = r.phase, outcome = r.outcome, \
     needs_attention = r.needs_attention, finished = r.finished, updated_at = r.at FROM {rows} \
     WHERE sagas.saga_id = r.saga_id AND sagas.sequence = r.expected AND sagas.owner = $1 RETURNING sagas.saga_id";

const ALREADY_APPENDED: &str = "SELECT s.saga_id FROM {rows} \
     JOIN sagas s ON s.saga_id = r.saga_id AND s.sequence = r.sequence WHERE s.owner = $1";

const LOG: &str =
    "INSERT INTO saga_events (saga_id, sequence, at, event) SELECT saga_id, sequence, at, event FROM {rows}";

impl SagaStore {
    /// Admits sagas and appends events in one commit; answers come in the order given. After an error it is not known
    /// whether the commit took effect: the same call again is answered rightly either way.
    pub async fn write(
        &self,
        instance: &InstanceId,
        admissions: &[NewSaga<'_>],
        appends: &[Append],
    ) -> Result<(Vec<Admitted>, Vec<AppendOutcome>), StoreError> {
        let mut tx = self.database.write().await?;
        let fence = tx.queue(FENCE, Args::new().text(instance.as_str()));
        let inserted = queue_to_admit(&mut tx, instance, admissions);
        let advanced = queue_to_advance(&mut tx, instance, appends);
        if tx.rows(fence).await?.is_empty() {
            return Err(StoreError::Fenced);
        }
        let (admitted, first_events) = admit(&mut tx, admissions, inserted).await?;
        let (appended, later_events) = append(&mut tx, instance, appends, advanced).await?;
        log(&mut tx, first_events.into_iter().chain(later_events))?;
        tx.commit().await?;
        Ok((admitted, appended))
    }
}

/// The events that one write appends to the log of a saga.
type LogEntry<'a> = (SagaId, &'a [Recorded]);

/// Keys go in one order: of two instances that admit the same two the other way round, each would wait for the other,
/// until the database ends one of the transactions a second later. Repeats of a key stay in the order of arrival.
fn queue_to_admit(tx: &mut Tx, instance: &InstanceId, sagas: &[NewSaga<'_>]) -> PendingQuery {
    let mut sagas: Vec<&NewSaga<'_>> = sagas.iter().collect();
    sagas.sort_by_key(|saga| (saga.subject, saga.idempotency_key));
    let rows = Rows::new()
        .text("saga_id", sagas.iter().map(|saga| saga.id.to_string()))
        .text("definition", sagas.iter().map(|saga| saga.definition.0))
        .int("version", sagas.iter().map(|saga| i64::from(saga.definition.1)))
        .text("subject", sagas.iter().map(|saga| saga.subject))
        .text("idempotency_key", sagas.iter().map(|saga| saga.idempotency_key))
        .text("fingerprint", sagas.iter().map(|saga| saga.fingerprint))
        .text("request", sagas.iter().map(|saga| saga.request.as_str()))
        .text("traceparent", sagas.iter().map(|saga| saga.trace.traceparent.as_str()))
        .text("tracestate", sagas.iter().map(|saga| saga.trace.tracestate.as_str()))
        .int("at", sagas.iter().map(|saga| saga.admitted.at_ms));
    tx.queue(ADMIT, Args::new().text(instance.as_str()).rows(rows))
}

async fn admit<'a>(
    tx: &mut Tx,
    sagas: &'a [NewSaga<'_>],
    inserted: PendingQuery,
) -> Result<(Vec<Admitted>, Vec<LogEntry<'a>>), DbError> {
    let inserted: HashSet<SagaId> = ids(&tx.rows(inserted).await?)?;
    let existing = existing(tx, sagas, &inserted).await?;
    let mut admissions = Vec::with_capacity(sagas.len());
    let mut events = Vec::with_capacity(inserted.len());
    for saga in sagas {
        if inserted.contains(&saga.id) {
            events.push((saga.id, std::slice::from_ref(saga.admitted)));
            admissions.push(Admitted::New);
            continue;
        }
        let key = (saga.subject.to_owned(), saga.idempotency_key.to_owned());
        let (id, fingerprint) = existing
            .get(&key)
            .ok_or_else(|| DbError::corrupt(format!("saga {} was neither inserted nor found by its key", saga.id)))?;
        admissions.push(if *id == saga.id {
            // An earlier try of this very write was committed though it reported an error.
            Admitted::New
        } else {
            Admitted::Existing { id: *id, same_request: *fingerprint == saga.fingerprint }
        });
    }
    Ok((admissions, events))
}

type Existing = HashMap<(String, String), (SagaId, String)>;

async fn existing(tx: &mut Tx, sagas: &[NewSaga<'_>], inserted: &HashSet<SagaId>) -> Result<Existing, DbError> {
    let others: Vec<&NewSaga<'_>> = sagas.iter().filter(|saga| !inserted.contains(&saga.id)).collect();
    let rows = Rows::new()
        .text("subject", others.iter().map(|saga| saga.subject))
        .text("idempotency_key", others.iter().map(|saga| saga.idempotency_key));
    let mut existing = HashMap::new();
    for row in tx.fetch(EXISTING, rows.into()).await? {
        let key = (row.text("subject")?, row.text("idempotency_key")?);
        existing.insert(key, (saga_id(&row)?, row.text("fingerprint")?));
    }
    Ok(existing)
}

fn ids(rows: &[Row]) -> Result<HashSet<SagaId>, DbError> {
    rows.iter().map(saga_id).collect()
}

fn first(append: &Append) -> i64 {
    append.events.first().map_or(0, |event| event.sequence as i64)
}

fn last(append: &Append) -> i64 {
    append.events.last().map_or(0, |event| event.sequence as i64)
}

fn queue_to_advance(tx: &mut Tx, instance: &InstanceId, appends: &[Append]) -> PendingQuery {
    let rows = Rows::new()
        .text("saga_id", appends.iter().map(|append| append.saga.to_string()))
        .int("expected", appends.iter().map(|append| first(append) - 1))
        .int("sequence", appends.iter().map(last))
        .text("phase", appends.iter().map(|append| append.summary.phase))
        .text("outcome", appends.iter().map(|append| append.summary.outcome))
        .int("needs_attention", appends.iter().map(|append| i64::from(append.summary.needs_attention)))
        .int("finished", appends.iter().map(|append| i64::from(append.summary.finished)))
        .int("at", appends.iter().map(|append| append.events.last().map_or(0, |event| event.at_ms)));
    tx.queue(ADVANCE, Args::new().text(instance.as_str()).rows(rows))
}

async fn append<'a>(
    tx: &mut Tx,
    instance: &InstanceId,
    appends: &'a [Append],
    advanced: PendingQuery,
) -> Result<(Vec<AppendOutcome>, Vec<LogEntry<'a>>), DbError> {
    let advanced = ids(&tx.rows(advanced).await?)?;
    // A saga that is at its new sequence already was appended to by an earlier try of this write: only the owner
    // appends.
    let others: Vec<&Append> = appends.iter().filter(|append| !advanced.contains(&append.saga)).collect();
    let rows = Rows::new()
        .text("saga_id", others.iter().map(|append| append.saga.to_string()))
        .int("sequence", others.iter().map(|append| last(append)));
    let already_appended = ids(&tx.fetch(ALREADY_APPENDED, Args::new().text(instance.as_str()).rows(rows)).await?)?;

    let mut outcomes = Vec::with_capacity(appends.len());
    let mut events = Vec::new();
    for append in appends {
        let is_advanced = advanced.contains(&append.saga);
        if is_advanced {
            events.push((append.saga, append.events.as_slice()));
        }
        let is_durable = is_advanced || already_appended.contains(&append.saga);
        outcomes.push(if is_durable { AppendOutcome::Appended } else { AppendOutcome::Conflict });
    }
    Ok((outcomes, events))
}

fn log<'a>(tx: &mut Tx, entries: impl Iterator<Item = LogEntry<'a>>) -> Result<(), DbError> {
    let (mut sagas, mut sequences, mut times, mut texts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (saga, events) in entries {
        let Some(first) = events.first() else { continue };
        sagas.push(saga.to_string());
        sequences.push(first.sequence as i64);
        times.push(first.at_ms);
        texts.push(entry::written(saga, events)?);
    }
    let rows = Rows::new().text("saga_id", sagas).int("sequence", sequences).int("at", times).text("event", texts);
    tx.send(LOG, rows.into());
    Ok(())
}
