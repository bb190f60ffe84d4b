//! One orchestrator of these tests: a runtime over a world and a database.

use std::sync::Arc;
use std::time::Duration;

use matricula_engine::{OperatorCommand, Outcome, SagaState};
use matricula_kit::database::{Args, Database};
use matricula_kit::telemetry::TraceContext;
use matricula_kit::testing::{Backend, create_postgres};
use matricula_runtime::{
    CommandError, RequestedCommand, Runtime, RuntimeConfig, SagaFilter, SagaId, SagaRow, SagaStore, StoreError,
    Submission, SubmitError, Submitted, Watcher,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::world::{Order, PATIENCE, World};

/// The interval of polls for a fact without a signal.
const LOOK: Duration = Duration::from_millis(10);

pub struct System {
    pub world: Arc<World>,
    pub runtime: Arc<Runtime<World>>,
    pub task: JoinHandle<Result<(), StoreError>>,
    pub shutdown: CancellationToken,
    pub database: Database,
}

/// The place of a database. Processes come and go; the database stays until this is dropped.
pub struct Place {
    pub url: String,
    _folder: tempfile::TempDir,
}

impl Place {
    pub async fn new(backend: Backend) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = match backend {
            Backend::Sqlite => format!("sqlite:{}", folder.path().join("test.db").display()),
            Backend::Postgres => create_postgres().await,
        };
        Self { url, _folder: folder }
    }

    /// A file that a crashed process had open is free when the last of its tasks is gone.
    pub async fn open(&self) -> Database {
        let mut opened = None;
        eventually("the database opens", async || {
            opened = Database::open(&self.url).await.ok();
            opened.is_some()
        })
        .await;
        opened.unwrap()
    }
}

/// Short waits, so that tests wait little.
pub fn config() -> RuntimeConfig {
    RuntimeConfig {
        call_timeout_ms: 10_000,
        breaker_open_ms: 5,
        breaker_open_max_ms: 20,
        // All sagas are of one subject, in any number.
        admission_wait_max_ms: 60_000,
        subject_open_max: 1_000_000,
        subject_per_second_max: 1_000_000,
        subject_burst_max: 1_000_000,
        ..RuntimeConfig::default()
    }
}

/// A new world over a new database.
pub async fn new(backend: Backend, config: RuntimeConfig) -> (Place, System) {
    let place = Place::new(backend).await;
    let system = System::start(place.open().await, World::new(), config).await;
    (place, system)
}

pub fn order(key: &str, request: Order) -> Submission<Order> {
    Submission {
        id: matricula_runtime::new_saga_id(),
        subject: "ada".to_owned(),
        idempotency_key: key.to_owned(),
        fingerprint: serde_json::to_string(&request).unwrap(),
        is_by_staff: false,
        request,
        trace: TraceContext::default(),
    }
}

impl System {
    pub async fn start(database: Database, world: Arc<World>, config: RuntimeConfig) -> Self {
        let store = SagaStore::open(database.clone()).await.unwrap();
        let shutdown = CancellationToken::new();
        let (runtime, task) = Runtime::start(world.clone(), store, config, shutdown.clone()).await.unwrap();
        Self { world, runtime, task, shutdown, database }
    }

    /// Submits, and watches from before.
    pub async fn submit(&self, key: &str, request: Order) -> (SagaId, Watcher) {
        let submission = order(key, request);
        let id = submission.id;
        let watcher = self.runtime.watch(id);
        let outcome = self.runtime.submit(submission).await;
        assert!(matches!(outcome, Ok(Submitted::Accepted { .. })), "{key}: {outcome:?}");
        (id, watcher)
    }

    /// Submits many at once.
    pub async fn submit_all(&self, prefix: &str, count: usize) -> Vec<(SagaId, Watcher)> {
        let submitting =
            (0..count).map(|number| async move { self.submit(&format!("{prefix}{number}"), Order::default()).await });
        futures::future::join_all(submitting).await
    }

    /// Submits, runs to the end, and checks what was done.
    pub async fn run(&self, key: &str, request: Order) -> (SagaId, Arc<SagaState>) {
        let (id, watcher) = self.submit(key, request).await;
        let state = finished(watcher).await;
        self.world.audit(id, state.outcome());
        (id, state)
    }

    /// Waits until these have finished with an outcome, and checks what was done.
    pub async fn all_finished(&self, sagas: Vec<(SagaId, Watcher)>, outcome: Outcome) {
        for (id, watcher) in sagas {
            assert_eq!(finished(watcher).await.outcome(), outcome, "{id}");
            self.world.audit(id, outcome);
        }
    }

    /// Waits until the log holds no unfinished saga, then checks what was done for every one. Returns how many there
    /// are.
    pub async fn all_settled(&self) -> usize {
        let filter = SagaFilter { unfinished: true, limit: 1, ..SagaFilter::default() };
        eventually("every saga finishes", async || self.list(filter.clone()).await.is_empty()).await;
        let rows = self.list(SagaFilter { limit: 100_000, ..SagaFilter::default() }).await;
        for row in &rows {
            let log = row.log.as_ref().unwrap();
            let state = SagaState::replay(&crate::world::definition(), log).unwrap();
            self.world.audit(row.id, state.outcome());
        }
        rows.len()
    }

    /// Reads, also while the database comes and goes.
    pub async fn cancel(&self, saga: SagaId, by: &str, reason: &str) -> Result<(), CommandError> {
        self.command(saga, RequestedCommand::Cancel, by, reason).await
    }

    pub async fn intervene(&self, saga: SagaId, command: OperatorCommand) -> Result<(), CommandError> {
        self.command(saga, RequestedCommand::Operator(command), "ada", "seen to it").await
    }

    async fn command(
        &self,
        saga: SagaId,
        command: RequestedCommand,
        by: &str,
        reason: &str,
    ) -> Result<(), CommandError> {
        let request =
            matricula_runtime::CommandRequest { command, by: by.to_owned(), reason: reason.to_owned(), id: None };
        within(self.runtime.command(saga, request)).await
    }

    pub async fn list(&self, filter: SagaFilter) -> Vec<SagaRow> {
        loop {
            match self.runtime.store().list(filter.clone()).await {
                Ok(rows) => return rows,
                Err(error) if error.is_permanent() => panic!("{error:?}"),
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Ends like a killed process: it releases nothing and writes nothing more.
    pub async fn crash(self) -> Arc<World> {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
        self.database.close().await;
        self.world
    }

    /// Shuts down.
    pub async fn stop(self) -> Result<(), StoreError> {
        self.shutdown.cancel();
        within(self.task).await.unwrap()
    }

    /// The status of a destination, in a word and two numbers.
    pub async fn destination(&self, name: &str) -> (&'static str, usize, String) {
        let status = self.runtime.destinations().await.into_iter().find(|status| status.name == name).unwrap();
        (status.breaker, status.waiting, status.last_error)
    }

    /// Runs a statement directly in the database.
    pub async fn sql(&self, sql: &'static str, args: Args) {
        let mut tx = self.database.begin().await.unwrap();
        assert!(tx.execute(sql, args).await.unwrap() > 0, "{sql}");
        tx.commit().await.unwrap();
    }
}

/// Waits for the end of a saga.
pub async fn finished(mut watcher: Watcher) -> Arc<SagaState> {
    within(async {
        loop {
            let state = watcher.changed().await;
            if state.phase().is_finished() {
                return state;
            }
        }
    })
    .await
}

/// Waits for the outcome of a saga.
pub async fn decided(watcher: &mut Watcher) -> Outcome {
    within(async {
        loop {
            let outcome = watcher.changed().await.outcome();
            if outcome != Outcome::Pending {
                return outcome;
            }
        }
    })
    .await
}

pub fn is_full(outcome: &Result<Submitted, SubmitError>) -> bool {
    matches!(outcome, Err(SubmitError::QueueFull { retry_after }) if *retry_after >= Duration::from_millis(100))
}

#[track_caller]
pub fn within<T>(future: impl Future<Output = T>) -> impl Future<Output = T> {
    let place = std::panic::Location::caller();
    async move { tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("never: {place}")) }
}

/// Polls a condition that has no signal.
#[track_caller]
pub fn eventually(what: &str, mut fact: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    async move {
        let looking = async {
            while !fact().await {
                tokio::time::sleep(LOOK).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, looking).await.is_ok(), "never: {what} ({place})");
    }
}
