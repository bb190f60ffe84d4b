//! Group commit: admissions and appends of many sagas in one transaction, fenced by the instance's lease.

use std::collections::{HashMap, HashSet};
use std::slice;

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
    /// Admits sagas of one definition and appends events in one commit; answers come in the order given. After an error
    /// it is not known whether the commit took effect: the same call again is answered rightly either way.
    pub(crate) async fn write<R>(
        &self,
        instance: &InstanceId,
        definition: (&str, u32),
        admissions: &[NewSaga<R>],
        appends: &[Append],
    ) -> Result<(Vec<Admitted>, Vec<AppendOutcome>), StoreError> {
        let mut tx = self.database.write().await?;
        let fence = tx.queue(FENCE, Args::new().text(instance.as_str()));
        let inserted = queue_to_admit(&mut tx, instance, definition, admissions);
        let advanced = queue_to_advance(&mut tx, instance, appends);
        if tx.rows(fence).await?.is_empty() {
            return Err(StoreError::Fenced);
        }
        let inserted = ids(&tx.rows(inserted).await?)?;
        let admitted = admitted(&mut tx, admissions, &inserted).await?;
        let advanced = ids(&tx.rows(advanced).await?)?;
        let appended = appended(&mut tx, instance, appends, &advanced).await?;
        let new = admissions.iter().filter(|saga| inserted.contains(&saga.id));
        let first_events = new.map(|saga| (saga.id, slice::from_ref(&saga.admitted)));
        let grown = appends.iter().filter(|append| advanced.contains(&append.saga));
        log(&mut tx, first_events.chain(grown.map(|append| (append.saga, append.events.as_slice()))))?;
        tx.commit().await?;
        Ok((admitted, appended))
    }
}

/// Keys go in one order: of two instances that admit the same two the other way round, each would wait for the other,
/// until the database ends one of the transactions a second later. Repeats of a key stay in the order of arrival.
fn queue_to_admit<R>(
    tx: &mut Tx,
    instance: &InstanceId,
    definition: (&str, u32),
    sagas: &[NewSaga<R>],
) -> PendingQuery {
    let mut sagas: Vec<&NewSaga<R>> = sagas.iter().collect();
    sagas.sort_by_key(|saga| (&saga.subject, &saga.key));
    let rows = Rows::new()
        .text("saga_id", sagas.iter().map(|saga| saga.id.to_string()))
        .text("definition", sagas.iter().map(|_| definition.0))
        .int("version", sagas.iter().map(|_| i64::from(definition.1)))
        .text("subject", sagas.iter().map(|saga| &saga.subject))
        .text("idempotency_key", sagas.iter().map(|saga| &saga.key))
        .text("fingerprint", sagas.iter().map(|saga| &saga.fingerprint))
        .text("request", sagas.iter().map(|saga| saga.request.unstored()))
        .text("traceparent", sagas.iter().map(|saga| &saga.request.submitted.traceparent))
        .text("tracestate", sagas.iter().map(|saga| &saga.request.submitted.tracestate))
        .int("at", sagas.iter().map(|saga| saga.admitted.at_ms));
    tx.queue(ADMIT, Args::new().text(instance.as_str()).rows(rows))
}

/// How each admission has ended. Those that were not inserted are found by their keys.
async fn admitted<R>(tx: &mut Tx, sagas: &[NewSaga<R>], inserted: &HashSet<SagaId>) -> Result<Vec<Admitted>, DbError> {
    let others: Vec<&NewSaga<R>> = sagas.iter().filter(|saga| !inserted.contains(&saga.id)).collect();
    let rows = Rows::new()
        .text("subject", others.iter().map(|saga| &saga.subject))
        .text("idempotency_key", others.iter().map(|saga| &saga.key));
    let mut existing = HashMap::new();
    for row in tx.fetch(EXISTING, rows.into()).await? {
        let key = (row.text("subject")?, row.text("idempotency_key")?);
        existing.insert(key, (saga_id(&row)?, row.text("fingerprint")?));
    }
    let outcome = |saga: &NewSaga<R>| {
        if inserted.contains(&saga.id) {
            return Ok(Admitted::New);
        }
        match existing.get(&(saga.subject.clone(), saga.key.clone())) {
            // An earlier try of this very write was committed though it reported an error.
            Some((id, _)) if *id == saga.id => Ok(Admitted::New),
            Some((id, fingerprint)) => {
                Ok(Admitted::Existing { id: *id, same_request: *fingerprint == saga.fingerprint })
            }
            None => Err(DbError::corrupt(format!("saga {} was neither inserted nor found by its key", saga.id))),
        }
    };
    sagas.iter().map(outcome).collect()
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

/// How each append has ended. A saga that is at its new sequence already was appended to by an earlier try of this
/// write: only the owner appends.
async fn appended(
    tx: &mut Tx,
    instance: &InstanceId,
    appends: &[Append],
    advanced: &HashSet<SagaId>,
) -> Result<Vec<AppendOutcome>, DbError> {
    let others: Vec<&Append> = appends.iter().filter(|append| !advanced.contains(&append.saga)).collect();
    let rows = Rows::new()
        .text("saga_id", others.iter().map(|append| append.saga.to_string()))
        .int("sequence", others.iter().map(|append| last(append)));
    let earlier = ids(&tx.fetch(ALREADY_APPENDED, Args::new().text(instance.as_str()).rows(rows)).await?)?;
    let outcome = |append: &Append| match advanced.contains(&append.saga) || earlier.contains(&append.saga) {
        true => AppendOutcome::Appended,
        false => AppendOutcome::Conflict,
    };
    Ok(appends.iter().map(outcome).collect())
}

fn log<'a>(tx: &mut Tx, entries: impl Iterator<Item = (SagaId, &'a [Recorded])>) -> Result<(), DbError> {
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
