//! The handle of an orchestrator: starts its tasks, takes submissions and commands to them, and ends in order.
//!
//! Promises: an accepted submission is a durable saga. A rejected one is answered at once, and is none.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use matricula_core::{Core, DestinationStatus, InLine, Input, Registered, Reply, SagaId};
use matricula_kit::database::DbError;
use matricula_kit::shutdown::Shutdown;
use matricula_kit::tasks::{joined, observed};
use matricula_kit::telemetry::{self, TraceContext};
use matricula_kit::time::UnixMs;
use tokio::sync::{Notify, Semaphore, broadcast, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::commands::{Answers, CommandError, CommandRequest, Commands, Driver, Requests, SeenBy};
use crate::lease::Lease;
use crate::news::{Gauges, News};
use crate::outages::{Lookout, Outages};
use crate::peers::{self, Changed, Signals};
use crate::shell::{Clock, Mailbox, Messages, Shell};
use crate::store::{InstanceId, Outage, PeerMessage, SagaRow, SagaStore, StoreError};
use crate::watch::{Watcher, Watchers, follow_others};
use crate::workflow::{Carried, Sagas};
use crate::writer::Writer;
use crate::{ROLE, RuntimeConfig, Workload};

/// How long a task that returned early waits for the task that made it return: that one has failed at the same moment.
const OTHERS_FAIL: Duration = Duration::from_secs(1);
/// What shutdown waits for on top of the timeout of a call: commits of the last answers.
const LAST_COMMITS: Duration = Duration::from_secs(1);

/// The same, as a share of the time in which the process must end: then the lease is given back.
const CALLS_SHARE: f64 = 0.7;
/// Repeats of students that are over their quota which are looked up at a time: a flood of them is not let to the
/// database.
const REPEATS_MAX: usize = 8;

/// What is submitted.
#[derive(Debug, Clone)]
pub struct Submission<R> {
    /// A new id.
    pub id: SagaId,
    /// Whom it is about.
    pub subject: String,
    /// Unique for each subject.
    pub idempotency_key: String,
    /// The request in one canonical form.
    pub fingerprint: String,
    /// What the saga works from.
    pub request: R,
    /// The trace that it belongs to.
    pub trace: TraceContext,
}

/// What became of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// It is accepted, durably.
    Accepted,
    /// The same was submitted before: this is its saga.
    Existing(SagaId),
}

/// Why a submission was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Too many are waiting. Nothing was accepted.
    #[error("too many registrations are waiting")]
    QueueFull {
        /// When to come back.
        retry_after: Duration,
    },
    /// This subject has too many open, or submits too fast. Nothing was accepted.
    #[error("the student has too many registrations under way, or submits too many a second")]
    OverQuota {
        /// When to come back.
        retry_after: Duration,
    },
    /// The key was used for another request.
    #[error("the idempotency key was used before, for another request (registration {existing})")]
    KeyReused {
        /// The registration of that time.
        existing: SagaId,
    },
    /// It is not known whether it was accepted: the orchestrator is shutting down.
    #[error("the orchestrator is shutting down")]
    ShuttingDown,
    /// The request can't be stored, or is none of this saga's. Nothing was accepted.
    #[error("the request can't be stored: {0}")]
    Unstorable(String),
}

/// A running orchestrator.
pub struct Runtime<W: Workload> {
    commands: Commands<W>,
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
            commands: Commands {
                driver,
                requests: Requests { store: parts.store.clone(), signals: parts.signals.clone() },
                instance: parts.instance.clone(),
            },
            watchers: parts.watchers,
            signals: parts.signals,
            log_failing: parts.log_failing,
            repeats: Semaphore::new(REPEATS_MAX),
            outages,
            stopping: parts.stopping,
        });
        Ok((runtime, joined(end(tasks, parts.store, parts.instance, shutdown, grace))))
    }

    /// Accepts a submission durably, or says why not. Watch the id first to miss nothing.
    pub async fn submit(&self, submission: Submission<W::Request>) -> Result<Submitted, SubmitError> {
        if self.stopping.is_cancelled() {
            return Err(SubmitError::ShuttingDown);
        }
        let Submission { id, subject, idempotency_key: key, fingerprint, request, trace } = submission;
        let submission = matricula_core::Submission {
            id,
            subject: subject.clone(),
            key: key.clone(),
            fingerprint: fingerprint.clone(),
            request: Carried::new(request, trace),
        };
        let (caller, reply) = oneshot::channel();
        self.commands.driver.mailbox.input(Input::Submitted { submission, caller });
        let (bound, error) = match reply.await.map_err(|_| SubmitError::ShuttingDown)? {
            Reply::Accepted(_) => return Ok(Submitted::Accepted),
            Reply::Existing { id, same_request } => return existing(id, same_request),
            Reply::Unstorable(problem) => return Err(SubmitError::Unstorable(problem)),
            Reply::QueueFull { retry_after } => ("queue", SubmitError::QueueFull { retry_after }),
            Reply::OverQuota { retry_after } => {
                if let Some((id, of_existing)) = self.repeated(&subject, &key).await {
                    return existing(id, of_existing == fingerprint);
                }
                ("quota", SubmitError::OverQuota { retry_after })
            }
            Reply::ShuttingDown | Reply::Done(_) | Reply::Refused(_) | Reply::NotHere => {
                return Err(SubmitError::ShuttingDown);
            }
        };
        metrics::counter!("matricula_submissions_turned_away_total", "bound" => bound).increment(1);
        Err(error)
    }

    /// The saga that a student who is over the quota has submitted with this key before, and its fingerprint. A repeat
    /// of what was accepted takes nothing, and is answered whatever the quota says. When the database does not answer,
    /// the client comes back and asks again.
    async fn repeated(&self, subject: &str, key: &str) -> Option<(SagaId, String)> {
        let _looking = self.repeats.try_acquire().ok()?;
        self.store().of_key(subject, key).await.ok()?
    }

    /// The time that all replicas of the database agree on.
    pub fn now(&self) -> UnixMs {
        self.commands.driver.clock.now()
    }

    /// Gives every saga whose phase, outcome or need of attention changes, whichever instance drives it; none: any may
    /// have changed. A slow receiver misses some, and gets an error that says so.
    pub fn moved(&self) -> broadcast::Receiver<Changed> {
        self.signals.anywhere.subscribe()
    }

    /// Where a saga stands in line; `None` when it has an outcome, or another instance drives it.
    pub async fn place(&self, saga: SagaId) -> Option<InLine> {
        self.commands.driver.mailbox.query(move |core, now| core.place(now, saga)).await?
    }

    /// Begins to watch a saga.
    pub fn watch(&self, saga: SagaId) -> Watcher {
        self.watchers.watch(saga)
    }

    /// Whether the last commit of the saga log failed. A submission that waits may then wait until the database is
    /// back.
    pub fn is_log_failing(&self) -> bool {
        self.log_failing.load(Ordering::Relaxed)
    }

    /// The saga log, to read.
    pub fn store(&self) -> &SagaStore {
        &self.commands.driver.store
    }

    /// What the sagas do.
    pub fn workload(&self) -> &W {
        &self.commands.driver.workload
    }

    /// This process start.
    pub fn instance(&self) -> &InstanceId {
        &self.commands.instance
    }

    /// How the services stand; none of them when the orchestrator has ended.
    pub async fn destinations(&self) -> Vec<DestinationStatus> {
        self.commands.driver.mailbox.query(|core, now| core.destinations(now)).await.unwrap_or_default()
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
        self.commands.driver.mailbox.input(Input::LimitSet { destination, in_flight_max });
        // The limit is set when the core answers a later question.
        self.commands.driver.mailbox.query(|_, _| ()).await.is_some()
    }

    /// Has a request carried out by the instance that drives the saga, and returns when that is durable.
    pub async fn command(&self, saga: SagaId, request: CommandRequest) -> Result<(), CommandError> {
        self.commands.command(saga, request).await
    }

    /// Where a saga stands by the instance that drives it.
    pub async fn look(&self, row: &SagaRow) -> SeenBy {
        self.commands.look(row).await
    }
}

fn existing(id: SagaId, same_request: bool) -> Result<Submitted, SubmitError> {
    if same_request { Ok(Submitted::Existing(id)) } else { Err(SubmitError::KeyReused { existing: id }) }
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
        tasks.must_run("remote_watch", follow_others(store, workload, watchers, changed, stopping));
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
