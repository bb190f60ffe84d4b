//! The promises of the store, on both databases.

mod adopt;
mod fence;
mod line;
mod read;
mod upgrade;
mod write;

use matricula_core::{AdmissionOutcome, AppendOutcome, Commit, CommitNo, Lane, SagaId, Summary, Ticket};
use matricula_engine::{Definition, Direction, Event, Kind, Recorded, RetryPolicy, Step};
use matricula_kit::telemetry::TraceContext;
use matricula_kit::testing::{Backend, TestDatabase, empty_database};

use super::*;

/// A lease that does not lapse during a test, and one that has already lapsed.
const LONG_MS: i64 = 3_600_000;
const LAPSED_MS: i64 = -1;

/// An admission.
#[derive(Clone)]
struct NewSaga {
    id: SagaId,
    subject: String,
    idempotency_key: String,
    fingerprint: String,
    request: String,
    trace: TraceContext,
    admitted: Recorded,
    definition: (&'static str, u32),
}

/// Events of one saga.
struct Append {
    saga: SagaId,
    events: Vec<Recorded>,
    summary: Summary,
}

/// A new saga, or one that an earlier try has begun; these tests leave the tickets out.
const NEW: AdmissionOutcome = AdmissionOutcome::Begun { ticket: Ticket(0) };

/// Writes one commit without a claim.
async fn write(
    store: &SagaStore,
    instance: &InstanceId,
    sagas: &[NewSaga],
    appends: &[Append],
) -> Result<(Vec<AdmissionOutcome>, Vec<AppendOutcome>), StoreError> {
    let definition = sagas.first().map_or(("one", 1), |saga| saga.definition);
    assert!(sagas.iter().all(|saga| saga.definition == definition), "a commit is of one definition");
    let admissions = sagas.iter().map(|saga| super::NewSaga {
        id: saga.id,
        subject: saga.subject.clone(),
        key: saga.idempotency_key.clone(),
        fingerprint: saga.fingerprint.clone(),
        is_by_staff: false,
        request: Carried::new((), saga.request.as_str().into(), saga.trace.clone()),
        first: Some(saga.admitted.clone()),
    });
    let appends = appends.iter().map(|append| matricula_core::Append {
        saga: append.saga,
        events: append.events.clone(),
        summary: append.summary,
    });
    let number = CommitNo { lane: Lane::Log, number: 1 };
    let (admissions, appends) = (admissions.collect(), appends.collect());
    let commit = Commit { number, admissions, claim: None, appends, others_claim_to_ms: None };
    let written = store.write(WriteAs { instance, definition, subject_open_max: 1_000_000 }, &commit).await?;
    let without_ticket = |outcome| if matches!(outcome, AdmissionOutcome::Begun { .. }) { NEW } else { outcome };
    Ok((written.admissions.into_iter().map(without_ticket).collect(), written.appends))
}

/// An open store with one living instance.
struct Fixture {
    test: TestDatabase,
    store: SagaStore,
    instance: InstanceId,
}

impl Fixture {
    async fn new(backend: Backend) -> Self {
        let test = empty_database(backend).await;
        let store = SagaStore::open(test.database.clone()).await.unwrap();
        let instance = InstanceId::generate();
        store.register(&instance, LONG_MS).await.unwrap();
        Self { test, store, instance }
    }

    /// Admits sagas and returns their ids.
    async fn admit(&self, keys: &[&str]) -> Vec<SagaId> {
        let sagas: Vec<NewSaga> = keys.iter().map(|key| saga("ada", key, "same")).collect();
        let (admitted, _) = write(&self.store, &self.instance, &sagas, &[]).await.unwrap();
        assert!(admitted.iter().all(|admission| *admission == NEW), "{admitted:?}");
        sagas.into_iter().map(|saga| saga.id).collect()
    }

    async fn append(&self, append: Append) -> AppendOutcome {
        write(&self.store, &self.instance, &[], &[append]).await.unwrap().1[0]
    }

    /// The sequences of the stored log.
    async fn log(&self, id: SagaId) -> Vec<u64> {
        let row = self.store.get(id).await.unwrap().unwrap();
        row.log.unwrap().iter().map(|event| event.sequence).collect()
    }

    /// Runs a statement of the test.
    async fn sabotage(&self, sql: &'static str) {
        let mut tx = self.test.database.begin().await.unwrap();
        assert!(tx.execute(sql, matricula_kit::database::Args::new()).await.unwrap() > 0, "{sql}");
        tx.commit().await.unwrap();
    }
}

fn definition() -> Definition {
    definition_of(1)
}

fn definition_of(version: u32) -> Definition {
    let retry = RetryPolicy::try_new(1, 1, 1, 1).unwrap();
    let (destination, action, kind) = ("there", "Do", Kind::Pivot);
    Definition::try_new(
        "one",
        version,
        1_000,
        vec![Step { name: "do", stage: 1, destination, action, undo: None, kind, retry }],
    )
    .unwrap()
}

fn saga(subject: &str, key: &str, fingerprint: &str) -> NewSaga {
    NewSaga {
        id: crate::new_saga_id(),
        subject: subject.to_owned(),
        idempotency_key: key.to_owned(),
        fingerprint: fingerprint.to_owned(),
        request: "{}".to_owned(),
        trace: TraceContext::default(),
        admitted: Recorded::first(1, definition().admit(["do"], 1)),
        definition: ("one", 1),
    }
}

/// Events `first` to `last` of a saga. Their words don't matter to the store.
fn events(id: SagaId, first: u64, last: u64) -> Append {
    let event = |sequence| Recorded {
        sequence,
        at_ms: 10 * sequence as i64,
        event: Event::Succeeded {
            step: "do".to_owned(),
            direction: Direction::Forward,
            attempt: 1,
            started_at_ms: 1,
            output: format!("output {sequence}"),
        },
    };
    Append { saga: id, events: (first..=last).map(event).collect(), summary: RUNNING }
}

const RUNNING: Summary = Summary { phase: "running", outcome: "pending", needs_attention: false, finished: false };
const DONE: Summary = Summary { phase: "completed", outcome: "committed", needs_attention: false, finished: true };

fn finished(id: SagaId, sequence: u64) -> Append {
    Append { summary: DONE, ..events(id, sequence, sequence) }
}
