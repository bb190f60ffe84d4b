//! The handle of an orchestrator: starts its tasks, takes submissions and cancels, and ends in order.

mod submit;

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use matricula_core::{Core, DestinationStatus, InLine, Input, Registered};
use matricula_kit::database::DbError;
use matricula_kit::id::SagaId;
use matricula_kit::shutdown::Shutdown;
use matricula_kit::tasks::{joined, observed};
use matricula_kit::telemetry;
use matricula_kit::time::UnixMs;
use tokio::sync::{Notify, Semaphore, broadcast, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

pub use self::submit::{Submission, SubmitError, Submitted};
use crate::driver::Driver;
use crate::gauges::Gauges;
use crate::lease::Lease;
use crate::mailbox::{Clock, Mailbox, Messages};
use crate::news::News;
use crate::outages::{Lookout, Outages};
use crate::peers::{self, Changed, Signals};
use crate::remote_watch;
use crate::requests::{Answers, Requests};
use crate::shell::Shell;
use crate::store::{InstanceId, Outage, PeerMessage, SagaStore, StoreError};
use crate::watch::{Watcher, Watchers};
use crate::workflow::Sagas;
use crate::writer::Writer;
use crate::{ROLE, RuntimeConfig, Workload};

/// How long a task that returned early waits for the task that made it return: that one has failed at the same moment.
const OTHERS_FAIL: Duration = Duration::from_secs(1);
/// What shutdown waits for on top of the timeout of a call: commits of the last answers.
const LAST_COMMITS: Duration = Duration::from_secs(1);

/// The same, as a share of the time in which the process must end: then the lease is given back.
const CALLS_SHARE: f64 = 0.7;
/// The id that no saga has: a watch of a text that is no id waits for it.
const NO_SAGA: matricula_core::SagaId = matricula_core::SagaId::from_u128(0);

/// A running orchestrator.
pub struct Runtime<W: Workload> {
    instance: InstanceId,
    driver: Arc<Driver<W>>,
    requests: Requests,
    watchers: Watchers,
    signals: Signals,
    log_failing: Arc<AtomicBool>,
    /// Looks for repeats of subjects that are over their quota.
    repeats: Semaphore,
    outages: watch::Receiver<Outages>,
    stopping: CancellationToken,
}

/// The parts that the tasks of an orchestrator share.
struct Parts<W: Workload> {
    workload: Arc<W>,
    store: SagaStore,
    config: RuntimeConfig,
    instance: InstanceId,
    clock: Clock,
    mailbox: Mailbox<W>,
    watchers: Watchers,
    signals: Signals,
    log_failing: Arc<AtomicBool>,
    /// Woken when a service begins to fail, and when it answers again.
    destinations: Arc<Notify>,
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
        let clock = Clock::start();
        let asked_at = clock.moment();
        let database_now_ms = store.register(&instance, config.lease_ttl_ms).await?;
        let registered = Registered { asked_at, answered_at: clock.moment(), database_now_ms };
        clock.set(registered.answered_at, database_now_ms);
        tracing::info!(instance = instance.as_str(), "the orchestrator's instance is registered");

        let grace = Duration::from_millis(config.call_timeout_ms) + LAST_COMMITS;
        let (mailbox, messages) = Mailbox::new();
        let (shown, outages) = watch::channel(Outages::default());
        let parts = Parts {
            workload,
            store,
            config,
            instance,
            clock,
            mailbox,
            watchers: Watchers::default(),
            signals: Signals::new(),
            log_failing: Arc::default(),
            destinations: Arc::default(),
            stopping: shutdown.token().child_token(),
        };
        let driver = Arc::new(parts.driver());
        let mut tasks = Tasks { set: JoinSet::new(), stopping: parts.stopping.clone() };
        tasks.must_run("executor", parts.shell(messages, registered).run());
        tasks.must_run("lookout", parts.lookout(shown).run(parts.stopping.clone()));
        parts.start_peers(&mut tasks);
        // In a database of one instance alone no other asks: the task would end at once.
        if parts.store.is_shared() {
            let (instance, signals) = (parts.instance.clone(), parts.signals.clone());
            let answers = Answers { driver: driver.clone(), instance, signals };
            tasks.must_run("operator_requests", answers.run(parts.stopping.clone()));
        }
        let runtime = Arc::new(Self {
            instance: parts.instance.clone(),
            driver,
            requests: Requests { store: parts.store.clone(), signals: parts.signals.clone() },
            watchers: parts.watchers,
            signals: parts.signals,
            log_failing: parts.log_failing,
            repeats: Semaphore::new(submit::REPEATS_MAX),
            outages,
            stopping: parts.stopping,
        });
        Ok((runtime, joined(end(tasks, parts.store, parts.instance, shutdown, grace))))
    }

    /// The time that all replicas of the database agree on.
    pub fn now(&self) -> UnixMs {
        self.driver.clock.now()
    }

    /// Gives every saga whose phase, outcome or need of attention changes, whichever instance drives it; none: any may
    /// have changed. A slow receiver misses some, and gets an error that says so.
    pub fn moved(&self) -> broadcast::Receiver<Changed> {
        self.signals.anywhere.subscribe()
    }

    /// Where a saga stands in line; `None` when it has an outcome, or another instance drives it.
    pub async fn place(&self, saga: &SagaId) -> Option<InLine> {
        let saga = crate::bits(saga)?;
        self.driver.mailbox.query(move |core, now| core.place(now, saga)).await?
    }

    /// Begins to watch a saga.
    pub fn watch(&self, saga: &SagaId) -> Watcher {
        self.watchers.watch(crate::bits(saga).unwrap_or(NO_SAGA))
    }

    /// Whether the last commit of the saga log failed. A submission that waits may then wait until the database is
    /// back.
    pub fn is_log_failing(&self) -> bool {
        self.log_failing.load(Ordering::Relaxed)
    }

    /// The saga log, to read.
    pub fn store(&self) -> &SagaStore {
        &self.driver.store
    }

    /// What the sagas do.
    pub fn workload(&self) -> &W {
        &self.driver.workload
    }

    /// This process start.
    pub fn instance(&self) -> &InstanceId {
        &self.instance
    }

    /// How the services stand; none of them when the orchestrator has ended.
    pub async fn destinations(&self) -> Vec<DestinationStatus> {
        self.driver.mailbox.query(|core, now| core.destinations(now)).await.unwrap_or_default()
    }

    /// The services that do not answer, as each instance that lives sees them; this one's own first.
    pub fn outages(&self) -> Arc<Vec<Outage>> {
        self.outages.borrow().clone()
    }

    /// Gives every change of them.
    pub fn watch_outages(&self) -> watch::Receiver<Arc<Vec<Outage>>> {
        self.outages.clone()
    }

    /// Changes how many RPCs to a destination may be in flight from here, 0 to park its calls; false when there is no
    /// such destination, or the orchestrator has ended. The bound of the settings comes back with a restart.
    pub async fn set_destination_limit(&self, name: &str, in_flight_max: usize) -> bool {
        let steps = self.workload().definition().steps();
        let Some(destination) = steps.iter().map(|step| step.destination).find(|destination| *destination == name)
        else {
            return false;
        };
        self.driver.mailbox.input(Input::LimitSet { destination, in_flight_max });
        // The limit is set when the core answers a later question.
        self.driver.mailbox.query(|_, _| ()).await.is_some()
    }

    pub(crate) fn driver(&self) -> &Driver<W> {
        &self.driver
    }

    pub(crate) fn requests(&self) -> &Requests {
        &self.requests
    }
}

impl<W: Workload> Parts<W> {
    fn driver(&self) -> Driver<W> {
        Driver {
            mailbox: self.mailbox.clone(),
            clock: self.clock.clone(),
            store: self.store.clone(),
            workload: self.workload.clone(),
        }
    }

    /// The owner of the core.
    fn shell(&self, messages: Messages<W>, registered: Registered) -> Shell<W> {
        let (workload, instance) = (self.workload.clone(), self.instance.clone());
        let core = Core::new(
            Sagas(workload.clone()),
            &self.config.core(),
            instance.as_str().to_owned(),
            rand::random(),
            registered,
        );
        let lease = Lease {
            store: self.store.clone(),
            instance: instance.clone(),
            workload: workload.clone(),
            signals: self.signals.clone(),
            lease_ttl_ms: self.config.lease_ttl_ms,
            is_machine_off: AtomicBool::new(false),
        };
        lease.compare_clocks(registered.database_now_ms);
        let (store, failing) = (self.store.clone(), self.log_failing.clone());
        Shell {
            core,
            clock: self.clock.clone(),
            messages,
            writer: Arc::new(Writer { store, instance, workload: workload.clone(), failing }),
            workload,
            lease: Arc::new(lease),
            news: News {
                definition: self.workload.definition().name(),
                watchers: self.watchers.clone(),
                changed: self.signals.here.clone(),
                destinations: self.destinations.clone(),
            },
            gauges: Gauges::new(),
            call_timeout: Duration::from_millis(self.config.call_timeout_ms),
            stopping: self.stopping.clone(),
        }
    }

    fn lookout(&self, shown: watch::Sender<Outages>) -> Lookout<W> {
        Lookout {
            store: self.store.clone(),
            instance: self.instance.clone(),
            mailbox: self.mailbox.clone(),
            changed: self.destinations.clone(),
            clock: self.clock.clone(),
            signals: self.signals.clone(),
            attention_after: Duration::from_millis(self.config.destination_attention_after_ms),
            shown,
        }
    }

    /// Starts the tasks that send to other instances and receive from them.
    fn start_peers(&self, tasks: &mut Tasks) {
        let common = || (self.store.clone(), self.instance.clone(), self.signals.clone(), self.stopping.clone());
        let (store, instance, signals, stopping) = common();
        tasks.must_run("announcements", peers::announce(store, instance, signals, stopping));
        let (store, instance, signals, stopping) = common();
        let mailbox = self.mailbox.clone();
        let left = move || mailbox.input(Input::PeerLeft);
        tasks.must_run("listener", peers::listen(store, instance, signals, left, stopping));
        let (store, _, signals, stopping) = common();
        let (workload, watchers) = (self.workload.clone(), self.watchers.clone());
        let changed = signals.elsewhere.subscribe();
        tasks.must_run("remote_watch", remote_watch::follow(store, workload, watchers, changed, stopping));
    }
}

/// The tasks of an orchestrator, which end together.
struct Tasks {
    set: JoinSet<Result<(), StoreError>>,
    stopping: CancellationToken,
}

impl Tasks {
    /// Starts a task that may not end before the shutdown. If it does, it panics, so that the process ends.
    fn must_run(&mut self, task: &'static str, running: impl Future<Output = Result<(), StoreError>> + Send + 'static) {
        self.set.spawn(observed(ROLE, task, until_stopped(self.stopping.clone(), running)));
    }
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

/// Waits until all tasks have ended after the shutdown, and gives the sagas that are left to other instances. Fails as
/// soon as one of the tasks does; then the others are stopped where they are.
async fn end(
    tasks: Tasks,
    store: SagaStore,
    instance: InstanceId,
    shutdown: Shutdown,
    grace: Duration,
) -> Result<(), StoreError> {
    let Tasks { set: mut tasks, stopping } = tasks;
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
    // Nothing is lost by stopping here: what is decided is in the log, and the instance that adopts the sagas calls the
    // rest again.
    tasks.shutdown().await;
    match store.release(&instance).await {
        // Other instances take over now, and not at their next look.
        Ok(()) => drop(store.send(&[PeerMessage::Left]).await),
        Err(error) => {
            tracing::warn!(error = telemetry::chain(&error), "the lease could not be given back; it will lapse");
        }
    }
    Ok(())
}
