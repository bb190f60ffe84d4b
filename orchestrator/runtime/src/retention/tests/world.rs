//! A running system of two scripted services, and its retention.

use std::collections::HashMap;
use std::sync::Mutex;

use async_trait::async_trait;
use futures::future::join_all;
use matricula_engine::{CallAnswer, Definition, Definitions, Kind, RetryPolicy, SagaState, Step};
use matricula_kit::database::{Args, Database};
use matricula_kit::telemetry::TraceContext;
use matricula_kit::testing::{Backend, TestDatabase, empty_database};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::super::*;
use crate::{Call, RuntimeConfig, SagaStore, Submission, SubmitError, Submitted};

/// Sagas that have events in their row or in `saga_events`.
const LOGS: &str = "SELECT (SELECT COUNT(*) FROM sagas WHERE log <> '') + \
     (SELECT COUNT(DISTINCT e.saga_id) FROM saga_events e) AS n";
/// The longest time that a test waits for a fact.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
pub(super) const DAY_MS: i64 = 86_400_000;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Order {
    what: String,
}

/// Two services that do all calls, unless they are delayed.
pub(super) struct Services {
    definitions: Definitions,
    pub(super) is_held: watch::Sender<bool>,
    /// The sagas whose barrier rows each service was to delete.
    forgotten: Mutex<HashMap<&'static str, Vec<SagaId>>>,
    pub(super) away: Mutex<Option<&'static str>>,
}

/// An effect that this service counts.
fn deed(version: u32, teller: &'static str) -> Definition {
    let retry = RetryPolicy::try_new(1, 1, 1, 1).unwrap();
    let step =
        |stage, name, destination, action, kind| Step { name, stage, destination, action, undo: None, kind, retry };
    let steps = vec![step(1, "do", "alpha", "Do", Kind::Pivot), step(2, "tell", teller, "Tell", Kind::Finalizer)];
    Definition::try_new("deed", version, 600_000, steps).unwrap()
}

impl Services {
    pub(super) fn new() -> Arc<Self> {
        Self::of(deed(1, "beta").into())
    }

    /// From now on another service counts an effect.
    pub(super) fn upgraded() -> Arc<Self> {
        Self::of(Definitions::new(deed(2, "gamma")).with_earlier(deed(1, "beta")).unwrap())
    }

    fn of(definitions: Definitions) -> Arc<Self> {
        Arc::new(Self {
            definitions,
            is_held: watch::Sender::new(false),
            forgotten: Mutex::default(),
            away: Mutex::default(),
        })
    }

    pub(super) fn forgotten(&self, destination: &str) -> Vec<SagaId> {
        self.forgotten.lock().unwrap().get(destination).cloned().unwrap_or_default()
    }
}

#[async_trait]
impl Workload for Services {
    type Request = Order;

    fn definitions(&self) -> &Definitions {
        &self.definitions
    }

    fn applies(&self, _: &Order) -> Vec<&'static str> {
        vec!["do", "tell"]
    }

    async fn call(
        &self,
        _: &'static str,
        _: &'static str,
        calls: &[Call<Order>],
    ) -> Result<Vec<CallAnswer>, CallError> {
        let _ = self.is_held.subscribe().wait_for(|held| !held).await;
        Ok(calls.iter().map(|call| CallAnswer::Done(call.request.what.clone())).collect())
    }

    async fn forget(&self, destination: &'static str, sagas: &[SagaId]) -> Result<(), CallError> {
        if *self.away.lock().unwrap() == Some(destination) {
            return Err(CallError::new(Code::Unavailable, "away", None));
        }
        self.forgotten.lock().unwrap().entry(destination).or_default().extend_from_slice(sagas);
        Ok(())
    }

    fn receipt(&self, request: &Order, state: &SagaState, log: &[Recorded]) -> Result<String, String> {
        match request.what.as_str() {
            "no receipt" => Err("scripted".to_owned()),
            what => Ok(format!("[\"{what}\",\"{}\",{}]", state.outcome().as_str(), log.len())),
        }
    }
}

pub(super) struct System {
    pub(super) services: Arc<Services>,
    pub(super) runtime: Arc<Runtime<Services>>,
    pub(super) task: JoinHandle<Result<(), StoreError>>,
    pub(super) retention: Retention<Services>,
    pub(super) dir: tempfile::TempDir,
    pub(super) database: Database,
    pub(super) test: Option<TestDatabase>,
}

impl System {
    pub(super) async fn new(backend: Backend) -> Self {
        let test = empty_database(backend).await;
        let mut system = Self::on(test.database.clone(), Services::new(), tempfile::tempdir().unwrap()).await;
        system.test = Some(test);
        system
    }

    pub(super) async fn on(database: Database, services: Arc<Services>, dir: tempfile::TempDir) -> Self {
        let store = SagaStore::open(database.clone()).await.unwrap();
        // All sagas are of one student.
        let (subject_open_max, subject_per_second_max, subject_burst_max) = (1_000_000, 1_000_000, 1_000_000);
        let config =
            RuntimeConfig { subject_open_max, subject_per_second_max, subject_burst_max, ..RuntimeConfig::default() };
        let starting = Runtime::start(services.clone(), store, config, CancellationToken::new());
        let (runtime, task) = starting.await.unwrap();
        let config = RetentionConfig { chunk: 7, ..RetentionConfig::default() };
        let retention = Retention::new(runtime.clone(), config, dir.path().to_owned());
        Self { services, runtime, task, retention, dir, database, test: None }
    }

    pub(super) async fn submit(&self, key: &str, what: &str) -> Result<(SagaId, Submitted), SubmitError> {
        let id = crate::new_saga_id();
        let submission = Submission {
            id,
            subject: "ada".to_owned(),
            idempotency_key: key.to_owned(),
            fingerprint: what.to_owned(),
            is_by_staff: false,
            request: Order { what: what.to_owned() },
            trace: TraceContext::default(),
        };
        Ok((id, self.runtime.submit(submission).await?))
    }

    pub(super) async fn finish_all(&self, keys: std::ops::Range<usize>) -> Vec<SagaId> {
        let keys: Vec<String> = keys.map(|key| format!("k{key}")).collect();
        let submitted = join_all(keys.iter().map(|key| self.submit(key, "deed"))).await;
        let ids = submitted.into_iter().map(|outcome| outcome.unwrap().0).collect();
        self.until_finished(0).await;
        ids
    }

    /// Waits until at most this many sagas are unfinished.
    pub(super) async fn until_finished(&self, but: i64) {
        let start = tokio::time::Instant::now();
        while self.number("SELECT COUNT(*) AS n FROM sagas WHERE finished = 0").await > but {
            assert!(start.elapsed() < PATIENCE, "they don't finish");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(super) async fn number(&self, sql: &'static str) -> i64 {
        self.database.fetch(sql, Args::new()).await.unwrap()[0].int("n").unwrap()
    }

    /// (sagas, logs, receipts) in the database.
    pub(super) async fn rows(&self) -> (i64, i64, i64) {
        (
            self.number("SELECT COUNT(*) AS n FROM sagas").await,
            self.number(LOGS).await,
            self.number("SELECT COUNT(*) AS n FROM receipts").await,
        )
    }

    pub(super) async fn sweep_in(&self, days: i64) -> Result<Option<Swept>, RetentionError> {
        self.retention.run_once(self.runtime.now().plus_ms(days * DAY_MS)).await
    }

    pub(super) async fn run(&self, sql: &'static str) {
        let mut tx = self.database.begin().await.unwrap();
        assert!(tx.execute(sql, Args::new()).await.unwrap() > 0, "{sql}");
        tx.commit().await.unwrap();
    }

    pub(super) async fn crash(self) -> (Arc<Services>, tempfile::TempDir) {
        self.task.abort();
        let _ = self.task.await;
        (self.services, self.dir)
    }
}
