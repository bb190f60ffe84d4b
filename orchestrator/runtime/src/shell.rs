//! The shell around the core: one task that owns the core, feeds it inputs, and carries out its outputs. All other
//! tasks reach the core through the mailbox.
//!
//! ```text
//! callers ──Mailbox──┐                     ┌─► commit, RPCs, store requests: a task each, whose end is an input
//!                    ├─► Core::step ─► Ready ─► replies, watchers, other instances, logs and metrics
//! ended tasks, timer ┘                     └─► wake_at: the timer
//! ```
//!
//! Promises: the shell makes no decision about a saga. All inputs that have arrived during a step become the next step.
//! Each commit is tried once: the core decides when it is tried again, and how it is split. A task that panics ends the
//! shell with its panic.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use matricula_core::{
    AdmissionOutcome, Commit, CommitAnswer, Core, End, Input, LineState, Moment, Ready, Rpc, StoreRequest,
};
use matricula_kit::tasks::observed;
use matricula_kit::telemetry::{self, spans};
use matricula_kit::time::UnixMs;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};

use crate::news::RegularNews;
use crate::store::{StoreError, WriteAs, Written};
use crate::workflow::{self, Carried, Sagas};
use crate::{ROLE, Runtime, Workload};

/// The most messages in one step, so that the calls and commits of the first ones do not wait for too many others.
const BATCH_MAX: usize = 1_000;

/// Timeout of a commit. Without one, a half-open connection would block the log for ever.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);

/// The owner of the core.
pub(crate) struct Shell<W: Workload> {
    pub runtime: Arc<Runtime<W>>,
    pub core: Core<Sagas<W>>,
    pub messages: Messages<W>,
}

/// Tasks that carry out outputs of the core. The result of each is an input.
type Tasks<W> = JoinSet<Input<Sagas<W>>>;

impl<W: Workload> Shell<W> {
    /// Runs until the core ends: after a shutdown, or because the instance is fenced.
    pub(crate) async fn run(mut self) -> Result<(), StoreError> {
        let mut tasks = Tasks::<W>::new();
        let (mut messages, mut inputs, mut queries) = (Vec::new(), Vec::new(), Vec::<Query<W>>::new());
        let (mut wake_at, mut is_stopping) = (Some(Moment::ZERO), false);
        let mut news = RegularNews::default();
        let runtime = self.runtime.clone();
        loop {
            tokio::select! {
                // Messages first: while they arrive, no timer has to be set, because each step does everything due.
                biased;
                _ = self.messages.recv_many(&mut messages, BATCH_MAX) => {}
                Some(ended) = tasks.join_next() => inputs.push(result(ended)),
                () = runtime.stopping.cancelled(), if !is_stopping => {}
                () = runtime.clock.sleep_until(wake_at) => {}
            }
            if !is_stopping && runtime.stopping.is_cancelled() {
                is_stopping = true;
                inputs.push(Input::Stopped);
            }
            while let Some(ended) = tasks.try_join_next() {
                inputs.push(result(ended));
            }
            while messages.len() < BATCH_MAX
                && let Ok(message) = self.messages.try_recv()
            {
                messages.push(message);
            }
            for message in messages.drain(..) {
                match message {
                    Message::Input(input) => inputs.push(input),
                    Message::Query(query) => queries.push(query),
                }
            }
            let now = runtime.clock.moment();
            let ready = self.core.step(now, inputs.drain(..));
            queries.drain(..).for_each(|query| query(&mut self.core, now));
            runtime.clock.set(now, self.core.now_ms(now));
            wake_at = ready.wake_at.into_iter().chain(news.hand_on(now, &self.core, &runtime.line)).min();
            match self.carry_out(ready, &mut tasks) {
                None => {}
                Some(End::InOrder) => return Ok(()),
                Some(End::Fenced) => return Err(StoreError::Fenced),
            }
        }
    }

    /// Carries out the outputs of a step; returns whether and why the shell ends.
    fn carry_out(&mut self, ready: Ready<Sagas<W>>, tasks: &mut Tasks<W>) -> Option<End> {
        let Ready { commits, rpcs, store, replies, changes, notices, wake_at: _, end } = ready;
        commits.into_iter().for_each(|commit| self.write(commit, tasks));
        // Before the calls: the span of a saga begins with its change, and the spans of its calls belong to it.
        self.runtime.hand_on(changes, notices);
        rpcs.into_iter().for_each(|rpc| self.call(rpc, tasks));
        store.into_iter().for_each(|request| self.query_store(request, tasks));
        for (caller, reply) in replies {
            // The caller may have stopped waiting.
            drop(caller.send(reply));
        }
        end
    }

    fn write(&self, commit: Arc<Commit<Arc<Carried<W::Request>>>>, tasks: &mut Tasks<W>) {
        let runtime = self.runtime.clone();
        tasks.spawn(observed(ROLE, "log_writer", async move {
            Input::CommitEnded { number: commit.number, answer: runtime.write(&commit).await }
        }));
    }

    fn call(&self, rpc: Rpc<Arc<Carried<W::Request>>>, tasks: &mut Tasks<W>) {
        let runtime = self.runtime.clone();
        tasks.spawn(observed(ROLE, "calls", async move {
            let (number, timeout) = (rpc.number, runtime.call_timeout());
            Input::RpcEnded { number, answer: workflow::call(runtime.workload(), rpc, timeout).await }
        }));
    }

    fn query_store(&self, request: StoreRequest, tasks: &mut Tasks<W>) {
        let name = match request {
            StoreRequest::Renew { .. } => "lease",
            StoreRequest::ReadLine { .. } => "line",
            _ => "adoption",
        };
        let runtime = self.runtime.clone();
        tasks.spawn(observed(ROLE, name, async move {
            let answer = runtime.query_store(&request).await;
            Input::StoreAnswered { request, answer }
        }));
    }
}

impl<W: Workload> Runtime<W> {
    /// Tries to write a commit, once.
    pub(crate) async fn write(&self, commit: &Commit<Arc<Carried<W::Request>>>) -> CommitAnswer {
        let started = Instant::now();
        let span = self.store.commit_span(&commit.admissions);
        let subject_open_max = self.config.subject_open_max;
        let as_of = WriteAs { instance: &self.instance, definition: self.current_definition(), subject_open_max };
        let writing = self.store.write(as_of, commit);
        let (answer, problem) = match tokio::time::timeout(COMMIT_TIMEOUT, writing).await {
            Ok(Ok(Written { admissions, claimed, appends, line })) => {
                self.log_failing.store(false, Ordering::Relaxed);
                let operations = (admissions.len() + claimed.len() + appends.len()) as f64;
                metrics::histogram!("matricula_log_commit_seconds").record(started.elapsed());
                metrics::histogram!("matricula_log_commit_operations").record(operations);
                self.line_after(&admissions, line.as_ref());
                return CommitAnswer::Written { admissions, claimed, appends, line };
            }
            Ok(Err(StoreError::Fenced)) => return CommitAnswer::Fenced,
            Ok(Err(StoreError::Database(error))) => {
                spans::not_committed(&span, &error);
                let problem = telemetry::chain(&error);
                if error.is_permanent() {
                    return CommitAnswer::Refused { problem };
                }
                (if error.is_conflict() { CommitAnswer::Conflict } else { CommitAnswer::Failed }, problem)
            }
            Err(_) => (CommitAnswer::Failed, format!("no answer within {} s", COMMIT_TIMEOUT.as_secs())),
        };
        // After a conflict the log is not failing: the database has answered.
        self.log_failing.store(answer == CommitAnswer::Failed, Ordering::Relaxed);
        metrics::counter!("matricula_log_commit_failures_total").increment(1);
        tracing::warn!(problem, "the saga log could not be written; trying again");
        answer
    }

    /// Wakes other instances if a written commit has begun a line.
    fn line_after(&self, admissions: &[AdmissionOutcome], line: Option<&LineState>) {
        let Some(line) = line else { return };
        let has_line = line.last > line.served;
        let had_line = self.has_line.swap(has_line, Ordering::Relaxed);
        if has_line && !had_line && admissions.iter().any(|outcome| matches!(outcome, AdmissionOutcome::Queued { .. }))
        {
            self.signals.line_begun.notify_one();
        }
    }
}

/// The input that a task returned.
fn result<T>(ended: Result<T, JoinError>) -> T {
    // No task is aborted while the shell runs.
    ended.unwrap_or_else(|error| resume_unwind(error.into_panic()))
}

/// A message to the owner of the core.
pub(crate) enum Message<W: Workload> {
    /// An input.
    Input(Input<Sagas<W>>),
    /// A read of the core for an operator or a client. It runs after the inputs that came with it.
    Query(Query<W>),
}

/// The owner's end of the channel.
pub(crate) type Messages<W> = mpsc::UnboundedReceiver<Message<W>>;

/// A read of the core. It sends its result by itself.
pub(crate) type Query<W> = Box<dyn FnOnce(&mut Core<Sagas<W>>, Moment) + Send>;

/// A sender of messages to the core.
pub(crate) struct Mailbox<W: Workload>(mpsc::UnboundedSender<Message<W>>);

impl<W: Workload> Mailbox<W> {
    /// A new channel. It needs no bound: each sender waits for its answer before it sends again, the server limits its
    /// concurrent requests, and the core rejects submissions beyond its bounds at once.
    pub(crate) fn new() -> (Self, Messages<W>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Sends an input. After the end of the core, the input is dropped together with the sender of its reply.
    pub(crate) fn input(&self, input: Input<Sagas<W>>) {
        drop(self.0.send(Message::Input(input)));
    }

    /// Runs a read on the core; `None` after the end of the core.
    pub(crate) async fn query<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Core<Sagas<W>>, Moment) -> T + Send + 'static,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        let query: Query<W> = Box::new(move |core, now| drop(reply.send(question(core, now))));
        self.0.send(Message::Query(query)).ok()?;
        answer.await.ok()
    }
}

/// The monotonic clock of this process, and the core's estimate of the database's clock.
pub(crate) struct Clock {
    started: Instant,
    /// The time by the database's clock minus the moment, in milliseconds.
    ahead_ms: AtomicI64,
}

impl Clock {
    /// Starts the monotonic clock. The database's clock is unknown until `set`.
    pub(crate) fn start() -> Self {
        Self { started: Instant::now(), ahead_ms: AtomicI64::new(0) }
    }

    /// The moment now.
    pub(crate) fn moment(&self) -> Moment {
        self.started.elapsed()
    }

    /// Waits until a moment; for ever without one.
    pub(crate) async fn sleep_until(&self, moment: Option<Moment>) {
        match moment {
            Some(moment) => tokio::time::sleep_until((self.started + moment).into()).await,
            None => std::future::pending().await,
        }
    }

    /// The time by the database's clock.
    pub(crate) fn now(&self) -> UnixMs {
        UnixMs(self.ahead_ms.load(Ordering::Relaxed).saturating_add(in_ms(self.moment())))
    }

    /// Takes over the core's estimate.
    pub(crate) fn set(&self, moment: Moment, database_ms: i64) {
        self.ahead_ms.store(database_ms.saturating_sub(in_ms(moment)), Ordering::Relaxed);
    }
}

fn in_ms(moment: Moment) -> i64 {
    i64::try_from(moment.as_millis()).unwrap_or(i64::MAX)
}
