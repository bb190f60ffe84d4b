//! The handle of an orchestrator: starts its tasks, sends submissions to the core, and shuts down.
//!
//! Promises: an accepted submission is a durable saga. A rejected one is answered at once, and leaves nothing.

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
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::news::{Watcher, Watchers};
use crate::outages::Outages;
use crate::peers::{Changes, Signals};
use crate::shell::{Clock, Mailbox, Shell};
use crate::store::{FirstEvent, InstanceId, PeerMessage, SagaRow, SagaStore, StoreError};
use crate::workflow::{Carried, Sagas};
use crate::{ROLE, RuntimeConfig, Workload};

/// A task that returned early waits this long before it panics. If it returned because another task has failed, that
/// failure is reported first.
const OTHERS_FAIL: Duration = Duration::from_secs(1);
/// A shutdown waits for the timeout of a call, and this much longer for the commits of the last answers.
const LAST_COMMITS: Duration = Duration::from_secs(1);

/// A shutdown waits for calls at most for this share of its deadline. The rest is for the release of the lease.
const CALLS_SHARE: f64 = 0.7;
/// The most concurrent lookups of repeats by students over their quota, so that a flood of them does not reach the
/// database.
const REPEATS_MAX: usize = 8;

/// A registration that a client submits.
#[derive(Debug, Clone)]
pub struct Submission<R> {
    /// A new id.
    pub id: SagaId,
    /// The student.
    pub subject: String,
    /// Unique for each subject.
    pub idempotency_key: String,
    /// The request in one canonical form.
    pub fingerprint: String,
    /// Staff submit it: the door and the quotas of its subject do not apply.
    pub is_by_staff: bool,
    /// The request that the saga carries out.
    pub request: R,
    /// The trace of the submission.
    pub trace: TraceContext,
}

/// The result of a submission that was not rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// It is accepted, durably.
    Accepted {
        /// Its number in the order of acceptance.
        ticket: Ticket,
        /// Whether it waits in line. Its position follows from its ticket and [`Runtime::line`].
        is_queued: bool,
    },
    /// The submission repeats an earlier one, which has this saga.
    Existing(SagaId),
}

/// Why a submission was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The line or the memory is full. Nothing was accepted.
    #[error("too many registrations are waiting")]
    QueueFull {
        /// When to come back.
        retry_after: Duration,
    },
    /// The subject has too many open sagas, or submits too fast. Nothing was accepted.
    #[error("the student has too many registrations under way, or submits too many a second")]
    OverQuota {
        /// When to come back.
        retry_after: Duration,
    },
    /// Registration is closed. Nothing was accepted.
    #[error("{sentence}")]
    Closed {
        /// The registrar's message for students.
        sentence: String,
    },
    /// The key was used for another request.
    #[error("the idempotency key was used before, for another request (registration {existing})")]
    KeyReused {
        /// The registration of the earlier request.
        existing: SagaId,
    },
    /// The orchestrator is shutting down. The submission may or may not have been accepted.
    #[error("the orchestrator is shutting down")]
    ShuttingDown,
    /// The request can't be stored. Nothing was accepted.
    #[error("the request can't be stored: {0}")]
    Unstorable(String),
}

/// A running orchestrator: the state that its tasks share.
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
    /// Whether this machine's clock differs from the database's.
    pub(crate) is_clock_off: AtomicBool,
    pub(crate) stopping: CancellationToken,
    /// Limits the lookups of repeats by subjects over their quota.
    repeats: Semaphore,
}

/// The tasks of an orchestrator, which end together.
type Tasks = JoinSet<Result<(), StoreError>>;

impl<W: Workload> Runtime<W> {
    /// Registers a new instance and starts its tasks. The returned task ends after `shutdown`, or with `Fenced` if
    /// another instance has declared this one dead, or with the panic of one of the tasks. Then the process must end.
    /// Aborting the returned task stops everything at once.
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
        let sent_at = clock.moment();
        let database_now_ms = store.register(&instance, config.lease_ttl_ms).await?;
        let registered = Registered { sent_at, answered_at: clock.moment(), database_now_ms };
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
        // A SQLite file has only one instance.
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
                // If another task has failed, `end` reports that failure and stops this task during the sleep.
                tokio::time::sleep(OTHERS_FAIL).await;
                assert!(stopping.is_cancelled(), "it returned before the shutdown");
            }
            Ok(())
        }));
    }

    /// Starts a task that runs until the shutdown cancels it.
    fn must_go_on(&self, tasks: &mut Tasks, task: &'static str, running: impl Future<Output = ()> + Send + 'static) {
        let running = self.stopping.clone().run_until_cancelled_owned(running);
        self.must_run(tasks, task, running.map(|_| Ok(())));
    }

    /// Accepts a submission durably, or rejects it. A caller that wants all changes of the saga watches its id first.
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

    /// The saga that a student over the quota has submitted earlier with this key, and its fingerprint. A repeat of an
    /// accepted submission costs nothing, so the quota does not apply to it. If the database does not answer, the
    /// client has to submit again.
    async fn repeated(&self, subject: &str, key: &str) -> Option<(SagaId, String)> {
        let _permit = self.repeats.try_acquire().ok()?;
        self.store.of_key(subject, key).await.ok()?
    }

    /// The time by the database's clock, on which all instances agree.
    pub fn now(&self) -> UnixMs {
        self.clock.now()
    }

    /// Every saga whose phase, outcome or need of attention changes, at any instance; none: any saga may have changed.
    pub fn moved(&self) -> Changes {
        Changes::of(&self.signals.anywhere)
    }

    /// The waiting line of all instances, as of the last answer of the database. It changes at most four times a
    /// second.
    pub fn line(&self) -> watch::Receiver<LineView> {
        self.line.subscribe()
    }

    /// Changes the door for all instances, and stores the change with its author and the reason.
    pub async fn set_door(&self, door: &Door, set_by: &str, reason: &str) -> Result<(), DbError> {
        self.store.set_door(door, set_by, reason).await?;
        self.mailbox.input(Input::LineBegun);
        Ok(())
    }

    /// Begins to watch a saga.
    pub fn watch(&self, saga: SagaId) -> Watcher {
        self.watchers.watch(saga)
    }

    /// Whether the last commit of the saga log failed. Submissions may then have to wait until the database is back.
    pub fn is_log_failing(&self) -> bool {
        self.log_failing.load(Ordering::Relaxed)
    }

    /// The saga log, for reads.
    pub fn store(&self) -> &SagaStore {
        &self.store
    }

    /// The workload of the sagas.
    pub fn workload(&self) -> &W {
        &self.workload
    }

    /// The id of this instance.
    pub fn instance(&self) -> &InstanceId {
        &self.instance
    }

    /// The status of the services; empty after the end of the orchestrator.
    pub async fn destinations(&self) -> Vec<DestinationStatus> {
        self.mailbox.query(|core, now| core.destinations(now)).await.unwrap_or_default()
    }

    /// The services that do not answer, as each living instance sees them; those of this instance come first.
    pub fn outages(&self) -> Outages {
        self.outages.borrow().clone()
    }

    /// The same, with every change.
    pub fn watch_outages(&self) -> watch::Receiver<Outages> {
        self.outages.subscribe()
    }

    /// Changes how many RPCs from this instance to a destination may be in flight; 0 parks its calls. Returns false if
    /// there is no such destination, or after the end of the orchestrator. A restart restores the limit of the
    /// settings.
    pub async fn set_destination_limit(&self, name: &str, in_flight_max: usize) -> bool {
        let mut destinations = self.workload.definitions().destinations().into_iter();
        let Some(destination) = destinations.find(|destination| *destination == name) else { return false };
        self.mailbox.input(Input::LimitSet { destination, in_flight_max });
        // The limit is set when the core answers a later query.
        self.mailbox.query(|_, _| ()).await.is_some()
    }

    /// Name and version of the definition that new sagas begin with.
    pub(crate) fn current_definition(&self) -> (&'static str, u32) {
        let current = self.workload.definitions().current();
        (current.name(), current.version())
    }

    /// Name and version of each definition of this build.
    pub(crate) fn known_definitions(&self) -> Vec<(&'static str, u32)> {
        let all = self.workload.definitions().all();
        all.map(|definition| (definition.name(), definition.version())).collect()
    }

    /// Timeout of a call.
    pub(crate) fn call_timeout(&self) -> Duration {
        Duration::from_millis(self.config.call_timeout_ms)
    }

    /// The state that results from a row's log.
    pub(crate) fn replayed(&self, row: &SagaRow) -> Result<SagaState, String> {
        let definition = self.workload.definitions().get(&row.definition, row.version);
        let definition = definition.ok_or_else(|| format!("{} v{} is not known here", row.definition, row.version))?;
        let log = row.log.as_ref().map_err(Clone::clone)?;
        SagaState::replay(definition, log).map_err(|error| error.to_string())
    }

    /// Waits for a shutdown and the end of all tasks, and then releases the lease, so that other instances adopt the
    /// remaining sagas. Fails as soon as one of the tasks fails; the drop of the set then stops the others.
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
                    // After a panic the memory can't be trusted. Another process adopts the sagas.
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
        // Nothing is lost by stopping here: decisions are in the log, and the instance that adopts the sagas makes the
        // remaining calls again.
        tasks.shutdown().await;
        match self.store.release(&self.instance).await {
            // The message makes other instances adopt the sagas now, not at their next look.
            Ok(()) => drop(self.store.send(&[PeerMessage::Left]).await),
            Err(error) => {
                tracing::warn!(error = telemetry::chain(&error), "the lease could not be given back; it will lapse");
            }
        }
        Ok(())
    }
}

/// The first event of a saga, from its stored request.
fn first_event<W: Workload>(workload: Arc<W>) -> FirstEvent {
    Arc::new(move |request, at| {
        let request: W::Request = serde_json::from_str(request).map_err(|error| format!("request: {error}"))?;
        Ok(Recorded::first(at.0, workload.definitions().current().admit(workload.applies(&request), at.0)))
    })
}

fn existing(id: SagaId, same_request: bool) -> Result<Submitted, SubmitError> {
    if same_request { Ok(Submitted::Existing(id)) } else { Err(SubmitError::KeyReused { existing: id }) }
}
