//! The long-lived tasks of a role, watched: the one place that starts a task.
//!
//! ```text
//! must_run   ends or panics --> ERROR, counted --> readiness and health fall, the process ends with exit code 1
//! restarted  ends or panics --> ERROR, counted --> readiness and health fall --> pause --> started again
//! detached   panics         --> ERROR, counted (a short task, such as one stream)
//! ```
//!
//! A task that holds what a panic may have left half changed (a writer, a lease, an executor) must run: the process
//! ends, and its successor reads the state from the database. A task whose state is in the database or at another
//! service is started again. Once the shutdown has begun, an end is no failure.

use std::any::Any;
use std::collections::BTreeMap;
use std::error::Error;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use backoff::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use futures::FutureExt as _;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::telemetry;

/// First and longest pause before a task is started again.
const RESTART_FIRST: Duration = Duration::from_millis(100);
const RESTART_MAX: Duration = Duration::from_secs(30);
/// A task that has run for so long begins with the shortest pause again.
const STEADY_AFTER: Duration = Duration::from_secs(60);

/// The long-lived tasks of a role. When this is dropped without [`Tasks::join`], an end of a task is no failure any
/// more.
pub struct Tasks {
    role: &'static str,
    shared: Arc<Shared>,
    running: Mutex<JoinSet<()>>,
}

/// What the tasks of a role report.
struct Shared {
    /// Cancelled when tasks may end.
    ending: CancellationToken,
    /// The shutdown of the role, once it is served.
    shutdown: OnceLock<CancellationToken>,
    health: watch::Sender<TaskHealth>,
}

/// What is wrong with the tasks of a role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskHealth {
    /// The task that ended though it must run: the process must end.
    pub failed: Option<TaskFailure>,
    /// Tasks that failed and wait to be started again.
    pub restarting: BTreeMap<&'static str, String>,
}

/// A task that ended before the shutdown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the task {task} has ended: {problem}")]
pub struct TaskFailure {
    /// Name of the task.
    pub task: &'static str,
    /// Its panic message, its error, or that it simply ended.
    pub problem: String,
}

/// How a task can end by itself.
pub trait TaskEnd: 'static {
    /// The error, if it ended with one.
    fn error(self) -> Option<String>;
}

impl TaskEnd for () {
    fn error(self) -> Option<String> {
        None
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>> + 'static> TaskEnd for Result<(), E> {
    fn error(self) -> Option<String> {
        self.err().map(|error| telemetry::chain(error.into().as_ref()))
    }
}

impl Tasks {
    /// Of a role; none yet.
    pub fn new(role: &'static str) -> Self {
        let health = watch::channel(TaskHealth::default()).0;
        let shared = Shared { ending: CancellationToken::new(), shutdown: OnceLock::new(), health };
        Self { role, shared: Arc::new(shared), running: Mutex::default() }
    }

    /// Starts a task that must run until the shutdown: if it ends before, the process ends.
    pub fn must_run<T: TaskEnd>(&self, task: &'static str, running: impl Future<Output = T> + Send + 'static) {
        self.running().spawn(self.watch(task, running));
    }

    /// The same; the caller joins it, before the others.
    pub(crate) fn watched<T: TaskEnd>(
        &self,
        task: &'static str,
        running: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<()> {
        tokio::spawn(self.watch(task, running))
    }

    /// Reports the end of a task.
    fn watch<T: TaskEnd, F>(&self, task: &'static str, running: F) -> impl Future<Output = ()> + Send + use<T, F>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let (role, shared) = (self.role, self.shared.clone());
        count(role, task, 0);
        async move {
            let ended = AssertUnwindSafe(running).catch_unwind().await;
            let Some(problem) = shared.problem(ended) else { return };
            count(role, task, 1);
            tracing::error!(role, task, problem, "a task that must run has ended; the process ends");
            shared.health.send_modify(|health| health.failed = Some(TaskFailure { task, problem }));
        }
    }

    /// Starts a task that is started again, with a growing pause, whenever it ends before the shutdown.
    pub fn restarted<T: TaskEnd, F>(&self, task: &'static str, mut make: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = T> + Send + 'static,
    {
        let (role, shared) = (self.role, self.shared.clone());
        count(role, task, 0);
        self.running().spawn(async move {
            let mut pauses = pauses(RESTART_FIRST, RESTART_MAX);
            loop {
                let started = Instant::now();
                let ended = AssertUnwindSafe(async { make().await }).catch_unwind().await;
                let Some(problem) = shared.problem(ended) else { return };
                if started.elapsed() > STEADY_AFTER {
                    pauses = self::pauses(RESTART_FIRST, RESTART_MAX);
                }
                let pause = pauses.next().unwrap_or(RESTART_MAX);
                count(role, task, 1);
                let restart_in_ms = pause.as_millis() as u64;
                tracing::error!(role, task, problem, restart_in_ms, "a task has ended; it is started again");
                shared.health.send_modify(|health| drop(health.restarting.insert(task, problem)));
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = shared.may_end() => return,
                }
                shared.health.send_modify(|health| drop(health.restarting.remove(task)));
            }
        });
    }

    /// What is wrong with them.
    pub fn health(&self) -> watch::Receiver<TaskHealth> {
        self.shared.health.subscribe()
    }

    /// Once this shutdown has begun, an end of a task is no failure.
    pub(crate) fn end_with(&self, shutdown: CancellationToken) {
        let _ = self.shared.shutdown.set(shutdown);
    }

    /// Waits until all have ended; those that have not by then are stopped where they are. Returns how many that were.
    pub async fn join(self, until: Instant) -> usize {
        self.shared.ending.cancel();
        let mut running = std::mem::take(&mut *self.running());
        let all = async { while running.join_next().await.is_some() {} };
        // Those that are left are stopped when their set is dropped.
        let _ = tokio::time::timeout_at(until.into(), all).await;
        running.len()
    }

    fn running(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.shared.ending.cancel();
        self.running().detach_all();
    }
}

impl Shared {
    /// Why a task failed; none when it was allowed to end. A panic is always a failure.
    fn problem<T: TaskEnd>(&self, ended: Result<T, Box<dyn Any + Send>>) -> Option<String> {
        let end = match ended {
            Ok(end) => end.error(),
            Err(payload) => return Some(panicked(payload.as_ref())),
        };
        let has_begun = self.shutdown.get().is_some_and(CancellationToken::is_cancelled);
        let may_end = has_begun || self.ending.is_cancelled();
        (!may_end).then(|| end.unwrap_or_else(|| "it returned before the shutdown".to_owned()))
    }

    /// Waits until tasks may end.
    async fn may_end(&self) {
        let shutdown = async {
            match self.shutdown.get() {
                Some(shutdown) => shutdown.cancelled().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.ending.cancelled() => {}
            () = shutdown => {}
        }
    }
}

/// Starts a short task that no other task waits for, such as a stream: a panic ends it alone, and is logged and
/// counted.
pub fn detached(task: &'static str, running: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(async move {
        if let Err(payload) = AssertUnwindSafe(running).catch_unwind().await {
            let problem = panicked(payload.as_ref());
            count("", task, 1);
            tracing::error!(task, problem, "a short task has panicked");
        }
    })
}

/// Starts a task that its owner joins: the owner gets what it returns, or its panic.
pub fn joined<T: Send + 'static>(running: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(running)
}

/// A task that its owner joins: a panic is logged and counted here, and goes on to the owner.
pub async fn observed<T>(role: &'static str, task: &'static str, running: impl Future<Output = T>) -> T {
    count(role, task, 0);
    match AssertUnwindSafe(running).catch_unwind().await {
        Ok(end) => end,
        Err(payload) => {
            let problem = panicked(payload.as_ref());
            count(role, task, 1);
            tracing::error!(role, task, problem, "a task has panicked");
            resume_unwind(payload)
        }
    }
}

/// The text of a panic.
fn panicked(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("it panicked: {}", text.unwrap_or("no message"))
}

fn count(role: &'static str, task: &'static str, times: u64) {
    metrics::counter!("matricula_task_failures_total", "role" => role, "task" => task).increment(times);
}

/// Pauses between attempts without end: each is about twice as long as the one before, up to the longest.
pub fn pauses(first: Duration, longest: Duration) -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(first)
        .with_max_delay(longest)
        .without_max_times()
        .with_jitter()
        .build()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn soon() -> Instant {
        Instant::now() + PATIENCE
    }

    #[track_caller]
    fn check_failed(running: impl Future<Output = impl TaskEnd> + Send + 'static) -> impl Future<Output = String> {
        let tasks = Tasks::new("test");
        let mut health = tasks.health();
        tasks.must_run("worker", running);
        async move {
            let failed =
                health.wait_for(|health| health.failed.is_some()).await.expect("it is reported").failed.clone();
            drop(tasks);
            failed.expect("a failure").to_string()
        }
    }

    fn broken() {
        panic!("the ledger has {} sides", 3);
    }

    #[tokio::test]
    async fn the_end_of_a_task_that_must_run_is_a_failure() {
        let panics = async {
            tokio::task::yield_now().await;
            broken();
        };
        assert_eq!(check_failed(panics).await, "the task worker has ended: it panicked: the ledger has 3 sides");
        let ends = "the task worker has ended: it returned before the shutdown";
        assert_eq!(check_failed(async {}).await, ends);
        assert_eq!(check_failed(async { Ok::<_, std::io::Error>(()) }).await, ends);
        let fails = async { Err::<(), _>(std::io::Error::other("no disk")) };
        assert_eq!(check_failed(fails).await, "the task worker has ended: no disk");
    }

    #[tokio::test]
    async fn an_end_after_the_shutdown_is_none() {
        let tasks = Tasks::new("test");
        let health = tasks.health();
        let ending = tasks.shared.ending.clone();
        tasks.must_run("worker", async move { ending.cancelled().await });
        assert_eq!(tasks.join(soon()).await, 0);
        assert_eq!(*health.borrow(), TaskHealth::default());
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_may_fail_is_started_again() {
        let (tasks, starts) = (Tasks::new("test"), Arc::new(AtomicUsize::new(0)));
        let mut health = tasks.health();
        let counted = starts.clone();
        tasks.restarted("mailer", move || {
            let number = counted.fetch_add(1, Ordering::SeqCst);
            async move {
                // It runs for a moment, so that the start can be seen.
                tokio::time::sleep(Duration::from_millis(1)).await;
                match number {
                    // Three kinds of an end, and then it runs.
                    0 => broken(),
                    1 => return Err(std::io::Error::other("no route")),
                    2 => {}
                    _ => std::future::pending::<()>().await,
                }
                Ok(())
            }
        });
        for problem in ["it panicked: the ledger has 3 sides", "no route", "it returned before the shutdown"] {
            let down =
                health.wait_for(|health| health.restarting.contains_key("mailer")).await.expect("reported").clone();
            assert_eq!((down.restarting["mailer"].as_str(), &down.failed), (problem, &None));
            health.wait_for(|health| health.restarting.is_empty()).await.expect("it is started again");
        }
        assert_eq!(starts.load(Ordering::SeqCst), 4);
        // One that never ends is stopped at the deadline.
        assert_eq!(tasks.join(Instant::now() + Duration::from_secs(1)).await, 1);
    }

    /// A panic while the future is made is a panic of the task, too.
    #[tokio::test(start_paused = true)]
    async fn a_task_that_can_not_be_made_is_tried_again() {
        let tasks = Tasks::new("test");
        let mut health = tasks.health();
        let mut is_first = true;
        tasks.restarted("feed", move || {
            if std::mem::take(&mut is_first) {
                broken();
            }
            std::future::pending::<()>()
        });
        health.wait_for(|health| health.restarting.contains_key("feed")).await.expect("it is reported");
        health.wait_for(|health| health.restarting.is_empty()).await.expect("it is started again");
    }

    #[tokio::test]
    async fn a_short_task_that_panics_ends_alone() {
        detached("connection", async { broken() }).await.expect("the panic was taken care of");
        let joined = tokio::spawn(observed("test", "step", async { broken() })).await;
        assert!(joined.expect_err("the owner gets the panic").is_panic());
    }
}
