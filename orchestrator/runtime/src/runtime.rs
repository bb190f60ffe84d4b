//! The handle of an orchestrator: starts its tasks, takes submissions and commands to them, and ends in order.
//!
//! Promises: an accepted submission is a durable saga. A rejected one is answered at once, and is none.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use matricula_core::{Core, DestinationStatus, Door, Input, LineView, Registered, Reply, SagaId, Ticket};
use matricula_engine::{Recorded, SagaState};
use matricula_kit::database::DbError;
use matricula_kit::shutdown::Shutdown;
use matricula_kit::tasks::{joined, observed};
use matricula_kit::telemetry::{self, TraceContext};
use matricula_kit::time::UnixMs;
use tokio::sync::{Semaphore, broadcast, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::news::{Watcher, Watchers};
use crate::outages::Outages;
use crate::peers::{Changed, Signals};
use crate::shell::{Clock, Mailbox, Shell};
use crate::store::{FirstEvent, InstanceId, PeerMessage, SagaRow, SagaStore, StoreError};
use crate::workflow::{Carried, Sagas};
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
    /// Staff submit it: neither the door nor the quotas of its subject look at it.
    pub is_by_staff: bool,
    /// What the saga works from.
    pub request: R,
    /// The trace that it belongs to.
    pub trace: TraceContext,
}

/// What became of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// It is accepted, durably.
    Accepted {
        /// Its number in the order of acceptance.
        ticket: Ticket,
        /// Whether it waits in line: then its place is known from its ticket and [`Runtime::line`].
        is_queued: bool,
    },
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
    /// Registration is closed. Nothing was accepted.
    #[error("{sentence}")]
    Closed {
        /// What students are told.
        sentence: String,
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

/// A running orchestrator: what its tasks share.
pub struct Runtime<W: Workload> {
    pub(crate) workload: Arc<W>,
    pub(crate) store: SagaStore,
    pub(crate) config: RuntimeConfig,
    pub(crate) instance: InstanceId,
    pub(crate) clock: Clock,
    pub(crate) mailbox: Mailbox<W>,
    pub(crate) watchers: Watchers,
    pub(crate) signals: Signals,
    pub(crate) outages: watch::Sender<Outages>,
    pub(crate) line: watch::Sender<LineView>,
    /// Whether there was a line after the last commit.
    pub(crate) has_line: AtomicBool,
    /// Whether the last try of a commit failed.
    pub(crate) log_failing: AtomicBool,
    /// Whether this machine's clock is not the database's.
    pub(crate) is_clock_off: AtomicBool,
    pub(crate) stopping: CancellationToken,
    /// Looks for repeats of subjects that are over their quota.
    repeats: Semaphore,
}

/// The tasks of an orchestrator, which end together.
type Tasks = JoinSet<Result<(), StoreError>>;

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
        let store = store.with_first_events(first_event(workload.clone()));
        let clock = Clock::start();
        let asked_at = clock.moment();
        let database_now_ms = store.register(&instance, config.lease_ttl_ms).await?;
        let registered = Registered { asked_at, answered_at: clock.moment(), database_now_ms };
        clock.set(registered.answered_at, database_now_ms);
        tracing::info!(instance = instance.as_str(), "the orchestrator's instance is registered");

        let (mailbox, messages) = Mailbox::new();
        let name = instance.as_str().to_owned();
        let core = Core::new(Sagas(workload.clone()), &config, name, rand::random(), registered);
        let runtime = Arc::new(Self {
            workload,
            store,
            config,
            instance,
            clock,
            mailbox,
            watchers: Watchers::default(),
            signals: Signals::new(),
            outages: watch::Sender::default(),
            line: watch::Sender::default(),
            has_line: AtomicBool::new(false),
            log_failing: AtomicBool::new(false),
            is_clock_off: AtomicBool::new(false),
            stopping: shutdown.token().child_token(),
            repeats: Semaphore::new(REPEATS_MAX),
        });
        runtime.compare_clocks(database_now_ms);
        let mut tasks = Tasks::new();
        let shell = Shell { runtime: runtime.clone(), core, messages };
        runtime.must_run(&mut tasks, "executor", shell.run());
        runtime.must_run(&mut tasks, "lookout", runtime.clone().look_for_outages());
        runtime.must_go_on(&mut tasks, "remote_watch", runtime.clone().follow_others());
        // In a database of one instance alone there are no others.
        if runtime.store.is_shared() {
            runtime.must_run(&mut tasks, "announcements", runtime.clone().announce());
            runtime.must_go_on(&mut tasks, "line_announcements", runtime.clone().announce_line());
            runtime.must_go_on(&mut tasks, "listener", runtime.clone().listen());
            runtime.must_go_on(&mut tasks, "operator_requests", runtime.clone().answer_others());
        }
        let ending = joined(runtime.clone().end(tasks, shutdown));
        Ok((runtime, ending))
    }

    /// Starts a task that may not end before the shutdown. If it does, it panics, so that the process ends.
    fn must_run(
        &self,
        tasks: &mut Tasks,
        task: &'static str,
        running: impl Future<Output = Result<(), StoreError>> + Send + 'static,
    ) {
        let stopping = self.stopping.clone();
        tasks.spawn(observed(ROLE, task, async move {
            running.await?;
            if !stopping.is_cancelled() {
                // When it returned because another task has failed, `end` reports that failure and stops this one here.
                tokio::time::sleep(OTHERS_FAIL).await;
                assert!(stopping.is_cancelled(), "it returned before the shutdown");
            }
            Ok(())
        }));
    }

    /// Starts a task that goes on until it is cut off at the shutdown.
    fn must_go_on(&self, tasks: &mut Tasks, task: &'static str, running: impl Future<Output = ()> + Send + 'static) {
        let running = self.stopping.clone().run_until_cancelled_owned(running);
        self.must_run(tasks, task, running.map(|_| Ok(())));
    }

    /// Accepts a submission durably, or says why not. Watch the id first to miss nothing.
    pub async fn submit(&self, submission: Submission<W::Request>) -> Result<Submitted, SubmitError> {
        if self.stopping.is_cancelled() {
            return Err(SubmitError::ShuttingDown);
        }
        let came_at = Instant::now();
        let Submission { id, subject, idempotency_key: key, fingerprint, is_by_staff, request, trace } = submission;
        let unstored = serde_json::to_string(&request).map_err(|error| {
            tracing::error!(saga_id = %id, problem = %error, "a submission can't be stored");
            SubmitError::Unstorable(error.to_string())
        })?;
        let request = Carried::new(request, unstored.into(), trace);
        let submission = matricula_core::Submission { id, subject, key, fingerprint, is_by_staff, request };
        let (caller, reply) = oneshot::channel();
        self.mailbox.input(Input::Submitted { submission, caller });
        let (bound, error) = match reply.await.map_err(|_| SubmitError::ShuttingDown)? {
            Reply::Accepted(accepted) => {
                metrics::histogram!("matricula_acceptance_seconds").record(came_at.elapsed());
                return Ok(Submitted::Accepted { ticket: accepted.ticket, is_queued: accepted.is_queued });
            }
            Reply::Existing { id, same_request } => return existing(id, same_request),
            Reply::Unstorable(problem) => return Err(SubmitError::Unstorable(problem)),
            Reply::Closed { sentence } => ("door", SubmitError::Closed { sentence }),
            Reply::QueueFull { retry_after } => ("queue", SubmitError::QueueFull { retry_after }),
            Reply::OverQuota { retry_after, subject, key, fingerprint } => {
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
        self.store.of_key(subject, key).await.ok()?
    }

    /// The time that all replicas of the database agree on.
    pub fn now(&self) -> UnixMs {
        self.clock.now()
    }

    /// Gives every saga whose phase, outcome or need of attention changes, whichever instance drives it; none: any may
    /// have changed. A slow receiver misses some, and gets an error that says so.
    pub fn moved(&self) -> broadcast::Receiver<Changed> {
        self.signals.anywhere.subscribe()
    }

    /// The waiting line of all instances, as far as it is known here; it changes at most four times a second.
    pub fn line(&self) -> watch::Receiver<LineView> {
        self.line.subscribe()
    }

    /// Changes whether registration is open, for all instances: durably, with its author and their reason.
    pub async fn set_door(&self, door: &Door, set_by: &str, reason: &str) -> Result<(), DbError> {
        self.store.set_door(door, set_by, reason).await?;
        self.mailbox.input(Input::LineBegun);
        Ok(())
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

    /// How the services stand; none of them when the orchestrator has ended.
    pub async fn destinations(&self) -> Vec<DestinationStatus> {
        self.mailbox.query(|core, now| core.destinations(now)).await.unwrap_or_default()
    }

    /// The services that do not answer, as each instance that lives sees them; this one's own first.
    pub fn outages(&self) -> Outages {
        self.outages.borrow().clone()
    }

    /// Gives every change of them.
    pub fn watch_outages(&self) -> watch::Receiver<Outages> {
        self.outages.subscribe()
    }

    /// Changes how many RPCs to a destination may be in flight from here, 0 to park its calls; false when there is no
    /// such destination, or the orchestrator has ended. The bound of the settings comes back with a restart.
    pub async fn set_destination_limit(&self, name: &str, in_flight_max: usize) -> bool {
        let mut destinations = self.workload.definitions().destinations().into_iter();
        let Some(destination) = destinations.find(|destination| *destination == name) else { return false };
        self.mailbox.input(Input::LimitSet { destination, in_flight_max });
        // The limit is set when the core answers a later question.
        self.mailbox.query(|_, _| ()).await.is_some()
    }

    /// Name and version of the definition that new sagas begin with.
    pub(crate) fn current_definition(&self) -> (&'static str, u32) {
        let current = self.workload.definitions().current();
        (current.name(), current.version())
    }

    /// Name and version of each definition that is known here.
    pub(crate) fn known_definitions(&self) -> Vec<(&'static str, u32)> {
        let all = self.workload.definitions().all();
        all.map(|definition| (definition.name(), definition.version())).collect()
    }

    /// Time after which a call is given up.
    pub(crate) fn call_timeout(&self) -> Duration {
        Duration::from_millis(self.config.call_timeout_ms)
    }

    /// The state that a row's log tells.
    pub(crate) fn replayed(&self, row: &SagaRow) -> Result<SagaState, String> {
        let definition = self.workload.definitions().get(&row.definition, row.version);
        let definition = definition.ok_or_else(|| format!("{} v{} is not known here", row.definition, row.version))?;
        let log = row.log.as_ref().map_err(Clone::clone)?;
        SagaState::replay(definition, log).map_err(|error| error.to_string())
    }

    /// Waits until all tasks have ended after the shutdown, and gives the sagas that are left to other instances. Fails
    /// as soon as one of the tasks does; then the others are stopped where they are.
    async fn end(self: Arc<Self>, mut tasks: Tasks, shutdown: Shutdown) -> Result<(), StoreError> {
        let _submissions_end_with_this = self.stopping.clone().drop_guard();
        let grace = self.call_timeout() + LAST_COMMITS;
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
        // Nothing is lost by stopping here: what is decided is in the log, and the instance that adopts the sagas calls
        // the rest again.
        tasks.shutdown().await;
        match self.store.release(&self.instance).await {
            // Other instances take over now, and not at their next look.
            Ok(()) => drop(self.store.send(&[PeerMessage::Left]).await),
            Err(error) => {
                tracing::warn!(error = telemetry::chain(&error), "the lease could not be given back; it will lapse");
            }
        }
        Ok(())
    }
}

/// How a saga would begin, of its stored request.
fn first_event<W: Workload>(workload: Arc<W>) -> FirstEvent {
    Arc::new(move |request, at| {
        let request: W::Request = serde_json::from_str(request).map_err(|error| format!("request: {error}"))?;
        Ok(Recorded::first(at.0, workload.definitions().current().admit(workload.applies(&request), at.0)))
    })
}

fn existing(id: SagaId, same_request: bool) -> Result<Submitted, SubmitError> {
    if same_request { Ok(Submitted::Existing(id)) } else { Err(SubmitError::KeyReused { existing: id }) }
}
