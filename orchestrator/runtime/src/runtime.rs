//! The handle of an orchestrator: starts its tasks, takes submissions and cancels, and ends in order.

mod submit;

use std::collections::HashMap;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use matricula_kit::database::DbError;
use matricula_kit::id::SagaId;
use matricula_kit::shutdown::Shutdown;
use matricula_kit::tasks::{joined, observed};
use matricula_kit::telemetry;
use matricula_kit::time::UnixMs;
use tokio::sync::{Notify, Semaphore, broadcast, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

pub use self::submit::{Submission, SubmitError, Submitted};
use crate::clock::Clock;
use crate::destination::{Answered, Destination, DestinationStatus, Shared, Told};
use crate::executor::{Command, Entrant, Executor, Inbox, Look, Outbox};
use crate::gate::{Gate, InLine};
use crate::lease::{self, Adoption, Vigil};
use crate::others;
use crate::outages::{Lookout, Outage, Outages};
use crate::store::{InstanceId, SagaStore, StoreError};
use crate::watch::{Watcher, Watchers};
use crate::word::{self, Moved, Wakes, Word};
use crate::writer::{self, Log, Write};
use crate::{RuntimeConfig, Workload};

/// Chunks of adopted sagas and commands that may wait for the executor.
const HANDED_OVER_MAX: usize = 4;
const COMMANDS_WAITING_MAX: usize = 1_024;
/// Questions of operators that may wait for the executor.
const LOOKS_WAITING_MAX: usize = 64;
/// How long a task that returned early waits for the task that made it return: that one has failed at the same moment.
const OTHERS_FAIL: Duration = Duration::from_secs(1);
/// What shutdown waits for on top of the timeout of a call: commits of the last answers.
const LAST_COMMITS: Duration = Duration::from_secs(1);

/// The same, as a share of the time in which the process must end: then the lease is given back.
const CALLS_SHARE: f64 = 0.7;
/// Its tasks in the log and in metrics.
const ROLE: &str = "orchestrator";

/// A running orchestrator.
pub struct Runtime<W: Workload> {
    workload: Arc<W>,
    store: SagaStore,
    instance: InstanceId,
    writes: mpsc::UnboundedSender<Write<Entrant<W::Request>>>,
    commands: mpsc::Sender<Command>,
    looks: mpsc::Sender<Look>,
    watchers: Watchers,
    wakes: Wakes,
    clock: Clock,
    gate: Arc<Gate>,
    log_failing: Arc<AtomicBool>,
    /// Looks for repeats of subjects that are over their quota.
    repeats: Semaphore,
    destinations: Vec<DestinationHandle<W::Request>>,
    outages: watch::Receiver<Outages>,
    stopping: CancellationToken,
}

impl<W: Workload> Runtime<W> {
    /// Registers a new instance and starts its tasks. The task returned ends after `shutdown`, or with `Fenced` when
    /// the instance was given up by others, or with a panic of one of its tasks; then the process must end. Aborting it
    /// stops everything at once.
    pub async fn start(
        workload: Arc<W>,
        store: SagaStore,
        config: RuntimeConfig,
        shutdown: impl Into<Shutdown>,
    ) -> Result<(Arc<Self>, JoinHandle<Result<(), StoreError>>), DbError> {
        let shutdown = shutdown.into();
        let instance = InstanceId::generate();
        let clock = Clock::new(store.register(&instance, config.lease_ttl_ms).await?);
        let vigil = Vigil::new(&config);
        tracing::info!(instance = instance.as_str(), "the orchestrator's instance is registered");

        let (writes, write_queue) = mpsc::unbounded_channel();
        let (written_out, written) = mpsc::unbounded_channel();
        let (answers_out, answers) = mpsc::unbounded_channel();
        let (adopted_out, adopted) = mpsc::channel(HANDED_OVER_MAX);
        let (commands, command_queue) = mpsc::channel(COMMANDS_WAITING_MAX);
        let (looks, look_queue) = mpsc::channel(LOOKS_WAITING_MAX);
        let (outages_out, outages) = watch::channel(Outages::default());
        let changed = Arc::new(Notify::new());
        let wakes = Wakes::new();
        let watchers = Watchers::default();
        let gate = Arc::new(Gate::new(&config));
        let log_failing = Arc::new(AtomicBool::new(false));
        let stopping = shutdown.token().child_token();
        let closing = CancellationToken::new();

        let mut tasks = JoinSet::new();
        let (queues, destinations) =
            start_destinations(&workload, &config, (answers_out, &clock, &changed), &mut tasks);
        let outbox = Outbox {
            writes: writes.clone(),
            destinations: queues,
            watchers: watchers.clone(),
            moved: wakes.here.clone(),
            clock: clock.clone(),
            gate: gate.clone(),
            _ended: closing.clone().drop_guard(),
        };
        let inbox = Inbox { written, answers, adopted, commands: command_queue, looks: look_queue };
        let executor = Executor::new(workload.clone(), instance.clone(), &config, outbox);
        must_run(&mut tasks, &stopping, "executor", executor.run(inbox, stopping.clone()));
        let log = Log {
            store: store.clone(),
            instance: instance.clone(),
            gate: gate.clone(),
            failing: log_failing.clone(),
            shutdown: stopping.clone(),
        };
        tasks.spawn(observed(ROLE, "log_writer", writer::run(log, write_queue, written_out, closing.clone())));
        let keeping =
            lease::keep(store.clone(), instance.clone(), config.clone(), clock.clone(), vigil.clone(), closing);
        tasks.spawn(observed(ROLE, "lease", keeping));
        let adoption = Adoption {
            store: store.clone(),
            instance: instance.clone(),
            workload: workload.clone(),
            config: config.clone(),
            adopted: adopted_out,
            wakes: wakes.clone(),
            vigil,
        };
        must_run(&mut tasks, &stopping, "adoption", adoption.run(stopping.clone()));
        let moved = wakes.elsewhere.subscribe();
        let following = others::follow(store.clone(), workload.clone(), watchers.clone(), moved, stopping.clone());
        must_run(&mut tasks, &stopping, "remote_watch", following);
        let announcing = word::announce(store.clone(), instance.clone(), wakes.clone(), stopping.clone());
        must_run(&mut tasks, &stopping, "announcements", announcing);
        let listening = word::listen(store.clone(), instance.clone(), wakes.clone(), stopping.clone());
        must_run(&mut tasks, &stopping, "listener", listening);
        let lookout = Lookout {
            store: store.clone(),
            instance: instance.clone(),
            statuses: destinations.iter().map(|destination| destination.status.clone()).collect(),
            changed,
            looks: looks.clone(),
            clock: clock.clone(),
            wakes: wakes.clone(),
            attention_after: Duration::from_millis(config.destination_attention_after_ms),
            shown: outages_out,
        };
        must_run(&mut tasks, &stopping, "lookout", lookout.run(stopping.clone()));
        let grace = Duration::from_millis(config.call_timeout_ms) + LAST_COMMITS;
        let runtime = Arc::new(Self {
            workload,
            store: store.clone(),
            instance: instance.clone(),
            writes,
            commands,
            looks,
            watchers,
            wakes,
            clock,
            gate,
            log_failing,
            repeats: Semaphore::new(submit::REPEATS_MAX),
            destinations,
            outages,
            stopping: stopping.clone(),
        });
        // In a database of one instance alone nobody else asks: the task would end at once.
        if store.is_shared() {
            must_run(&mut tasks, &stopping, "operator_requests", runtime.clone().answer_requests(stopping.clone()));
        }
        Ok((runtime, joined(end(tasks, store, instance, stopping, shutdown, grace))))
    }

    /// The time that all replicas of the database agree on.
    pub fn now(&self) -> UnixMs {
        self.clock.now()
    }

    /// Tells of every saga whose phase, outcome or need of attention changes, whichever instance drives it; none: any
    /// may have changed. Who is slow misses some, and is told so.
    pub fn moved(&self) -> broadcast::Receiver<Moved> {
        self.wakes.anywhere.subscribe()
    }

    /// Where a saga stands in line; `None` when it has an outcome, or another instance drives it.
    pub fn line(&self, saga: &SagaId) -> Option<InLine> {
        self.gate.place(saga)
    }

    /// Begins to watch a saga.
    pub fn watch(&self, saga: &SagaId) -> Watcher {
        self.watchers.watch(saga)
    }

    /// Whether the last commit of the saga log failed. A submission that waits may then wait until the database is back.
    pub fn is_log_failing(&self) -> bool {
        self.log_failing.load(Ordering::Relaxed)
    }

    /// The saga log, to read.
    pub fn store(&self) -> &SagaStore {
        &self.store
    }

    /// What the sagas do.
    pub fn workload(&self) -> &W {
        &self.workload
    }

    /// This process start.
    pub fn instance(&self) -> &InstanceId {
        &self.instance
    }

    /// How each destination stands.
    pub fn destinations(&self) -> Vec<DestinationStatus> {
        self.destinations.iter().map(DestinationHandle::status).collect()
    }

    /// The services that do not answer, as each instance that lives sees them; this one's own first.
    pub fn outages(&self) -> Arc<Vec<Outage>> {
        self.outages.borrow().clone()
    }

    /// Tells of every change of them.
    pub fn watch_outages(&self) -> watch::Receiver<Arc<Vec<Outage>>> {
        self.outages.clone()
    }

    /// Changes how many RPCs to a destination may be in flight from here, 0 to park its calls; false when there is no
    /// such destination. The bound of the settings comes back with a restart.
    pub fn set_destination_limit(&self, name: &str, in_flight_max: usize) -> bool {
        let named = self.destinations.iter().find(|destination| destination.name == name);
        named.is_some_and(|destination| destination.in_flight_max.send(in_flight_max).is_ok())
    }

    pub(crate) fn commands(&self) -> &mpsc::Sender<Command> {
        &self.commands
    }

    pub(crate) fn looks(&self) -> &mpsc::Sender<Look> {
        &self.looks
    }

    pub(crate) fn handles(&self) -> &[DestinationHandle<W::Request>] {
        &self.destinations
    }

    pub(crate) fn wakes(&self) -> &Wakes {
        &self.wakes
    }
}

type CallQueues<R> = HashMap<&'static str, mpsc::UnboundedSender<Told<R>>>;

/// What the runtime keeps of a destination's task.
pub(crate) struct DestinationHandle<R> {
    name: &'static str,
    status: Arc<Mutex<DestinationStatus>>,
    in_flight_max: watch::Sender<usize>,
    /// Weak: the destination ends when the executor drops its end.
    told: mpsc::WeakUnboundedSender<Told<R>>,
}

impl<R> DestinationHandle<R> {
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Asks the destination something; false when it has ended.
    pub(crate) fn tell(&self, told: Told<R>) -> bool {
        self.told.upgrade().is_some_and(|queue| queue.send(told).is_ok())
    }

    pub(crate) fn status(&self) -> DestinationStatus {
        let mut status = self.status.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        // What was set a moment ago counts, though the task has not told of it yet.
        status.in_flight_max = *self.in_flight_max.borrow();
        status
    }
}

/// Starts a task for each service that the steps call.
fn start_destinations<W: Workload>(
    workload: &Arc<W>,
    config: &RuntimeConfig,
    (answers, clock, changed): (mpsc::UnboundedSender<Vec<Answered>>, &Clock, &Arc<Notify>),
    tasks: &mut JoinSet<Result<(), StoreError>>,
) -> (CallQueues<W::Request>, Vec<DestinationHandle<W::Request>>) {
    let mut queues = HashMap::new();
    let mut handles = Vec::new();
    for step in workload.definition().steps() {
        let name = step.destination;
        if queues.contains_key(name) {
            continue;
        }
        let status = Arc::new(Mutex::new(DestinationStatus { name, ..Default::default() }));
        let (queue, told) = mpsc::unbounded_channel();
        let (in_flight_max, limit) = watch::channel(config.destination_in_flight_max);
        let shared = Shared { clock: clock.clone(), status: status.clone(), changed: changed.clone() };
        let destination = Destination::new(name, workload.clone(), config.clone(), limit, answers.clone(), shared);
        tasks.spawn(observed(ROLE, "calls", async move {
            destination.run(told).await;
            Ok(())
        }));
        handles.push(DestinationHandle { name, status, in_flight_max, told: queue.downgrade() });
        queues.insert(name, queue);
    }
    (queues, handles)
}

/// Starts a task that may not end before the shutdown. If it does, it panics, so that the process ends.
///
/// `calls`, `log_writer` and `lease` are started without this check. They end when the executor has dropped its ends of
/// their channels. The executor reports why, and its error must not turn into a panic of theirs.
fn must_run(
    tasks: &mut JoinSet<Result<(), StoreError>>,
    stopping: &CancellationToken,
    task: &'static str,
    running: impl Future<Output = Result<(), StoreError>> + Send + 'static,
) {
    tasks.spawn(observed(ROLE, task, until_stopped(stopping.clone(), running)));
}

async fn until_stopped(
    stopping: CancellationToken,
    running: impl Future<Output = Result<(), StoreError>>,
) -> Result<(), StoreError> {
    let ended = running.await;
    if ended.is_ok() && !stopping.is_cancelled() {
        // When it returned because another task has failed, `end` reports that failure and stops this one here.
        tokio::time::sleep(OTHERS_FAIL).await;
        assert!(stopping.is_cancelled(), "it returned before the shutdown");
    }
    ended
}

/// Waits until all tasks have ended after the shutdown, and gives the sagas that are left to others. Fails as soon as
/// one of them does; then the others are stopped where they are.
async fn end(
    mut tasks: JoinSet<Result<(), StoreError>>,
    store: SagaStore,
    instance: InstanceId,
    stopping: CancellationToken,
    shutdown: Shutdown,
    grace: Duration,
) -> Result<(), StoreError> {
    let _submissions_end_with_this = stopping.drop_guard();
    let out_of_grace = async {
        let deadline = shutdown.begun().await;
        let until = deadline.part(CALLS_SHARE).min(Instant::now() + grace);
        tokio::time::sleep_until(until.into()).await;
    };
    let ended = async {
        while let Some(ended) = tasks.join_next().await {
            match ended {
                Ok(result) => result?,
                // Recovery is another process's: what a panic left in memory is not to be trusted.
                Err(error) => resume_unwind(error.into_panic()),
            }
        }
        Ok(())
    };
    tokio::select! {
        ended = ended => if let Err(error) = ended {
            tracing::error!(error = telemetry::chain(&error), "the orchestrator must stop");
            return Err(error);
        },
        () = out_of_grace => tracing::warn!("calls are still in flight after the grace period; they will be made again"),
    }
    // Nothing is lost by stopping here: what is decided is in the log, and the rest is called again by whoever adopts it.
    tasks.shutdown().await;
    match store.release(&instance).await {
        // Others take over now, and not when they look next.
        Ok(()) => drop(store.tell(&[Word::Left]).await),
        Err(error) => {
            tracing::warn!(error = telemetry::chain(&error), "the lease could not be given back; it will lapse");
        }
    }
    Ok(())
}
