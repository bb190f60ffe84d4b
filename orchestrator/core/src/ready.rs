//! The interface of the core: its inputs ([`Input`]), and its outputs ([`Ready`]).
//!
//! | in a `Ready` | the shell has to | the result comes back as |
//! |---|---|---|
//! | `commits` | write each in one transaction, fenced by the lease | [`Input::CommitEnded`] |
//! | `rpcs` | make the RPC, with a timeout | [`Input::RpcEnded`] |
//! | `store` | query the database, once for each request | [`Input::StoreAnswered`] |
//! | `replies`, `changes`, `notices` | deliver them to callers, watchers, logs and metrics | |
//! | `wake_at` | call [`Core::step`](crate::Core::step) again at that moment, with or without inputs | |
//! | `end` | stop: the instance is fenced, or has shut down | |

use std::sync::Arc;

use matricula_engine::{
    CallAnswer, CallError, DecideError, Direction, Input as SagaInput, LeaveReason, Recorded, Row, SagaState, StepIndex,
};

use crate::{Moment, Persisted, SagaId, Ticket, Workflow};

/// How the database has registered this instance and given it its first lease, before its core is created.
#[derive(Debug, Clone, Copy)]
pub struct Registered {
    /// When the shell sent the statement.
    pub sent_at: Moment,
    /// When the answer arrived.
    pub answered_at: Moment,
    /// The time by the database's clock.
    pub database_now_ms: i64,
}

/// An event in the world that the core has to process.
pub enum Input<W: Workflow> {
    /// A client submits a registration.
    Submitted {
        /// The submission.
        submission: Submission<W::Request>,
        /// Gets the reply.
        caller: W::Caller,
    },
    /// A client cancels a saga, or an operator gives a command.
    Commanded {
        /// The saga.
        saga: SagaId,
        /// `Cancel` or `Operator`.
        command: SagaInput,
        /// Gets the reply.
        caller: W::Caller,
    },
    /// A command for a saga that waits in line, which the shell has read from the database. This instance claims the
    /// saga out of order, unless its turn has come meanwhile.
    CommandedInLine {
        /// The saga.
        saga: QueuedSaga<W::Request>,
        /// `Cancel` or `Operator`.
        command: SagaInput,
        /// Gets the reply.
        caller: W::Caller,
    },
    /// The database has answered a commit, or the shell has stopped waiting for the answer.
    CommitEnded {
        /// As in [`Commit::number`].
        number: CommitNo,
        /// The answer.
        answer: CommitAnswer,
    },
    /// An RPC has ended, with one answer for each call or with an error for all of them. A timeout is an error.
    RpcEnded {
        /// As in [`Rpc::number`].
        number: RpcNo,
        /// In the order of the calls.
        answer: Result<Vec<CallAnswer>, CallError>,
    },
    /// The database has answered a request.
    StoreAnswered {
        /// The request.
        request: StoreRequest,
        /// The answer.
        answer: StoreAnswer<W::Request>,
    },
    /// An operator changes how many RPCs to a destination may be in flight; 0 parks its calls.
    LimitSet {
        /// The destination.
        destination: &'static str,
        /// The new limit.
        in_flight_max: usize,
    },
    /// Another instance has shut down: its sagas can be adopted.
    PeerLeft,
    /// Another instance has queued sagas in a line that was empty.
    LineBegun,
    /// The process shuts down.
    Stopped,
}

/// The outputs of a step. The shell may carry them out at once and in any order: the core itself holds back everything
/// that has to wait for a commit.
pub struct Ready<W: Workflow> {
    /// Rows to be persisted: at most one commit of each [`Lane`], and none of a lane whose last commit is in flight.
    pub commits: Vec<Arc<Commit<W::Request>>>,
    /// RPCs to be made now.
    pub rpcs: Vec<Rpc<W::Request>>,
    /// Requests to the database.
    pub store: Vec<StoreRequest>,
    /// Replies to submissions and commands.
    pub replies: Vec<(W::Caller, Reply)>,
    /// Changes of sagas that watchers can see.
    pub changes: Vec<Change<W::Request>>,
    /// Messages for logs and metrics.
    pub notices: Vec<Notice>,
    /// When to step again even if there is no input.
    pub wake_at: Option<Moment>,
    /// The orchestrator has to stop.
    pub end: Option<End>,
}

impl<W: Workflow> Default for Ready<W> {
    fn default() -> Self {
        Self {
            commits: Vec::new(),
            rpcs: Vec::new(),
            store: Vec::new(),
            replies: Vec::new(),
            changes: Vec::new(),
            notices: Vec::new(),
            wake_at: None,
            end: None,
        }
    }
}

/// Why an orchestrator stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Another instance has declared this one dead and drives its sagas. This one must not act any more.
    Fenced,
    /// It was stopped, and nothing is in flight.
    InOrder,
}

/// A registration that a client submits.
#[derive(Debug, Clone)]
pub struct Submission<R> {
    /// A new id, larger than all earlier ones of this instance.
    pub id: SagaId,
    /// The student. Idempotency keys and quotas are per subject.
    pub subject: String,
    /// The idempotency key, unique for each subject.
    pub key: String,
    /// The request in one canonical form. A used key with another fingerprint is refused.
    pub fingerprint: String,
    /// Staff submit it: the door and the quotas of its subject do not apply.
    pub is_by_staff: bool,
    /// The request that the saga carries out.
    pub request: R,
}

/// The reply to a submission or to a command.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// The submission is a saga now.
    Accepted(Persisted<Accepted>),
    /// The subject has used the key before.
    Existing {
        /// The saga of the earlier submission.
        id: SagaId,
        /// Whether the earlier submission had the same fingerprint.
        same_request: bool,
    },
    /// The line or the memory is full. Nothing was accepted.
    QueueFull {
        /// When to come back.
        retry_after: Moment,
    },
    /// The subject has too many open sagas, or submits too fast. Nothing was accepted. The caller gets the submission's
    /// fields back, because it may repeat an accepted one that only the database still has.
    OverQuota {
        /// When to come back.
        retry_after: Moment,
        /// As in the submission.
        subject: String,
        /// As in the submission.
        key: String,
        /// As in the submission.
        fingerprint: String,
    },
    /// Registration is closed. Nothing was accepted.
    Closed {
        /// The registrar's message for students.
        sentence: String,
    },
    /// The submission can't be stored. Nothing was accepted.
    Unstorable(String),
    /// The orchestrator is stopping. Nothing was accepted.
    ShuttingDown,
    /// The command has taken effect.
    Done(Persisted<()>),
    /// The command changes nothing.
    Refused(DecideError),
    /// This instance does not drive the saga.
    NotHere,
}

/// An accepted submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Its saga.
    pub id: SagaId,
    /// Its number in the order of acceptance.
    pub ticket: Ticket,
    /// Whether it waits in line, and any instance may drive it when its turn comes.
    pub is_queued: bool,
}

/// A sequence of commits: one after the other within a lane, in parallel with those of the other lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Admissions while there is a line. They have a lane of their own so that acceptance does not wait for the log.
    Acceptance,
    /// Everything else, and admissions while there is no line.
    Log,
}

/// The number of a commit. A commit that is tried again keeps its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitNo {
    /// Its lane.
    pub lane: Lane,
    /// Counted from 1 in each lane.
    pub number: u64,
}

/// Rows to be written in one transaction.
#[derive(Debug, Clone)]
pub struct Commit<R> {
    /// The answer carries the same number.
    pub number: CommitNo,
    /// New sagas, in the order of their arrival. Those with a first event come first.
    pub admissions: Vec<Admission<R>>,
    /// Sagas of the line whose turn has come.
    pub claim: Option<Claim>,
    /// Events of running sagas.
    pub appends: Vec<Append>,
    /// A bound on the claims of other instances, by the database's clock in milliseconds: they claim no saga that was
    /// accepted later. The bound holds until this instance stores another one, or stores none for a second.
    /// `i64::MAX`: no bound. None: the commit stores no bound, because there is no line.
    pub others_claim_to_ms: Option<i64>,
}

/// A new saga, as it is stored.
#[derive(Debug, Clone)]
pub struct Admission<R> {
    /// Its id.
    pub id: SagaId,
    /// The student.
    pub subject: String,
    /// The idempotency key, unique for each subject.
    pub key: String,
    /// The request in one canonical form.
    pub fingerprint: String,
    /// Staff submit it: the door and the quota of its subject do not apply.
    pub is_by_staff: bool,
    /// The request that the saga carries out.
    pub request: R,
    /// Its first event, if a slot is reserved for it: then it begins at once, provided that no saga is queued and the
    /// door is open. Otherwise the saga is queued.
    pub first: Option<Recorded>,
}

/// Takes sagas out of the line: this instance drives them from now on.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The ticket whose turn had come last when these sagas were read. If another instance has claimed since, the
    /// database has another ticket, and takes only the turns out of order. A claim that is repeated after it took
    /// effect gets the same answer.
    pub after: Ticket,
    /// In the order of their tickets, without gaps: every queued saga from `after` to the last turn in order.
    pub turns: Vec<Turn>,
}

/// A queued saga that begins.
#[derive(Debug, Clone)]
pub struct Turn {
    /// The saga.
    pub saga: SagaId,
    /// Its ticket.
    pub ticket: Ticket,
    /// Its first event.
    pub first: Recorded,
    /// When it was accepted, by the database's clock.
    pub accepted_at_ms: i64,
    /// A command takes it out of the line before its turn.
    pub is_out_of_order: bool,
}

/// The line, as the database has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LineState {
    /// The ticket whose turn has come last. All earlier tickets have had their turn.
    pub served: Ticket,
    /// The ticket that was given last.
    pub last: Ticket,
    /// Whether registration is open.
    pub door: Door,
    /// The least bound that other instances have stored: sagas that were accepted later are not claimed yet.
    pub claims_to_ms: Option<i64>,
}

/// Whether registration is open, as a registrar has set it for all instances.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Door {
    /// Open, paused or closed.
    pub state: DoorState,
    /// The registrar's message for students; may be empty.
    pub sentence: String,
}

/// The three positions of the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DoorState {
    /// Submissions are accepted, and sagas begin.
    #[default]
    Open,
    /// Submissions are accepted and queued. No saga begins.
    Paused,
    /// No submission is accepted. Queued sagas still begin.
    Closed,
}

/// A saga that waits in line, as it was read from the database.
#[derive(Debug, Clone)]
pub struct QueuedSaga<R> {
    /// The saga.
    pub id: SagaId,
    /// Its ticket.
    pub ticket: Ticket,
    /// When it was accepted, by the database's clock.
    pub accepted_at_ms: i64,
    /// The request that it carries out, or why the stored request can't be read.
    pub request: Result<R, String>,
}

/// Events to be appended to one saga.
#[derive(Debug, Clone)]
pub struct Append {
    /// The saga.
    pub saga: SagaId,
    /// In order, without gaps, after the stored events. Never empty.
    pub events: Vec<Recorded>,
    /// The state after them, as lists show it.
    pub summary: Summary,
}

/// The columns of a saga that lists show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// `Phase::as_str`.
    pub phase: &'static str,
    /// `Outcome::as_str`.
    pub outcome: &'static str,
    /// Whether an operator must decide something.
    pub needs_attention: bool,
    /// Whether nothing is left to do.
    pub finished: bool,
}

impl Summary {
    /// The summary of a state.
    pub fn of(state: &SagaState) -> Self {
        Self {
            phase: state.phase().as_str(),
            outcome: state.outcome().as_str(),
            needs_attention: state.needs_attention(),
            finished: state.phase().is_finished(),
        }
    }
}

/// How a commit ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitAnswer {
    /// It is persisted. The outcomes are in the order of the commit's rows.
    Written {
        /// One outcome for each admission.
        admissions: Vec<AdmissionOutcome>,
        /// For each turn of the claim: whether this instance drives the saga now.
        claimed: Vec<bool>,
        /// One outcome for each append.
        appends: Vec<AppendOutcome>,
        /// The state of the line after the commit, if it had admissions or a claim.
        line: Option<LineState>,
    },
    /// This instance has been declared dead. Nothing was written, and nothing will be.
    Fenced,
    /// The transaction lost to a concurrent one. A retry may succeed.
    Conflict,
    /// The database refuses the rows. A retry never succeeds.
    Refused {
        /// Why.
        problem: String,
    },
    /// No answer, or a transient error. The commit may or may not have been written.
    Failed,
}

/// How an admission ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdmissionOutcome {
    /// The saga has begun, and this instance drives it.
    Begun {
        /// Its number in the order of acceptance.
        ticket: Ticket,
    },
    /// It waits in line.
    Queued {
        /// Its number in the order of acceptance.
        ticket: Ticket,
    },
    /// The subject has as many sagas without an outcome as it may have. Nothing was accepted.
    OverQuota,
    /// The door is closed. Nothing was accepted.
    Closed {
        /// The registrar's message for students.
        sentence: String,
    },
    /// The subject has used the key before.
    Existing {
        /// The saga of the earlier submission.
        id: SagaId,
        /// Whether the earlier submission had the same fingerprint.
        same_request: bool,
    },
}

/// How an append ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendOutcome {
    /// The events are in the log.
    Appended,
    /// The stored saga has another sequence or another owner. Nothing was written for it.
    Conflict,
}

/// The number of an RPC, unique within an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RpcNo(pub u64);

/// One RPC that carries calls of several sagas.
#[derive(Debug)]
pub struct Rpc<R> {
    /// The answer carries the same number.
    pub number: RpcNo,
    /// The service.
    pub destination: &'static str,
    /// The name of the RPC.
    pub name: &'static str,
    /// The calls. Shared with the core, which needs them while the RPC is in flight.
    pub calls: Arc<[Call<R>]>,
}

/// One call of one step of one saga.
#[derive(Debug, Clone)]
pub struct Call<R> {
    /// The saga.
    pub saga: SagaId,
    /// The step.
    pub step: StepIndex,
    /// The name of the step. A compensation has the name of the step that it undoes.
    pub step_name: &'static str,
    /// Whether the call does the step or undoes it.
    pub direction: Direction,
    /// The number of this attempt, counted from 1 for each direction.
    pub attempt: u32,
    /// The request that the shell keeps with the saga.
    pub request: R,
    /// The saga's state when the call became due. It contains the outputs of earlier steps.
    pub state: Arc<SagaState>,
    /// Why it may leave.
    pub clearance: Clearance,
    /// When the database last confirmed this instance's lease, in milliseconds of the database's clock. This is before
    /// the end of the saga, however long the call waits to be sent: a service can detect a call that is far too old.
    pub owner_alive_at_ms: i64,
}

/// Why a call may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clearance {
    /// The engine allows it: an instance that adopts the saga repeats the call, undoes it or queries the service.
    AheadOfLog,
    /// All events that led to it are persisted.
    Persisted(Persisted<()>),
}

/// A change of a saga that watchers can see.
#[derive(Debug)]
pub enum Change<R> {
    /// It has entered the memory of this instance: admitted, claimed or adopted.
    Entered {
        /// The saga.
        saga: SagaId,
        /// The request that the shell keeps with it.
        request: R,
        /// Its state, as the log has it.
        state: Persisted<Arc<SagaState>>,
    },
    /// Its log has grown.
    Advanced {
        /// The saga.
        saga: SagaId,
        /// The request that the shell keeps with it.
        request: R,
        /// Its state, as the log has it.
        state: Persisted<Arc<SagaState>>,
        /// Its summary before the append.
        before: Summary,
        /// Its summary after the append.
        after: Summary,
    },
    /// This instance does not drive it any more.
    HandedOver {
        /// The saga.
        saga: SagaId,
    },
}

/// A request to the database. At most one of each kind is in flight, except renewals that hang.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreRequest {
    /// Renew this instance's lease. Answers: `Renewed`, `Fenced`, `Failed`.
    Renew {
        /// When it was sent.
        sent_at: Moment,
    },
    /// Look for instances that have ended. Answers: `Looked`, `Fenced`, `Failed`.
    Look {
        /// Whether to declare instances dead whose lease has lapsed.
        may_mark: bool,
    },
    /// Choose unfinished sagas of dead instances, the oldest first. Answers: `Chosen`, `Failed`.
    Choose {
        /// The most sagas.
        limit: usize,
    },
    /// Adopt those of these sagas whose owner is dead, and read them. Answers: `Adopted`, `Fenced`, `Failed`. A
    /// repeated request returns the sagas that the first one has adopted, so it may be repeated after an error.
    Adopt {
        /// The sagas.
        sagas: Vec<SagaId>,
    },
    /// Read the state of the line, and the queued sagas after a ticket in the order of their tickets. Answers: `Line`,
    /// `Failed`.
    ReadLine {
        /// The sagas have later tickets than this one.
        after: Ticket,
        /// The most sagas; 0 reads the state of the line alone.
        limit: usize,
    },
    /// Mark these sagas of this instance as needing attention. Answers: `Flagged`, `Fenced`, `Failed`; after an error
    /// they are flagged again.
    Flag {
        /// The sagas.
        sagas: Vec<SagaId>,
    },
}

/// The answer of the database.
#[derive(Debug)]
pub enum StoreAnswer<R> {
    /// The lease is renewed.
    Renewed {
        /// The time by the database's clock.
        database_now_ms: i64,
    },
    /// The lapsed instances are marked, if the request allowed it.
    Looked,
    /// The sagas are flagged.
    Flagged,
    /// The line. The sagas are all that are queued after the ticket of the request, up to the last saga here. If there
    /// are fewer than the limit, they are all up to `state.last`.
    Line {
        /// Its state, read before the sagas.
        state: LineState,
        /// In the order of their tickets.
        sagas: Vec<QueuedSaga<R>>,
    },
    /// Sagas whose owner is dead.
    Chosen(Vec<SagaId>),
    /// Sagas that this instance owns now.
    Adopted(Vec<StoredSaga<R>>),
    /// This instance has been declared dead.
    Fenced,
    /// The request may or may not have taken effect.
    Failed,
}

/// A saga as it was read from the database.
#[derive(Debug)]
pub struct StoredSaga<R> {
    /// Its log.
    pub row: Row<SagaId>,
    /// The request that it carries out, or why the stored request can't be read.
    pub request: Result<R, String>,
}

/// A message for logs and metrics.
#[derive(Debug)]
pub enum Notice {
    /// Sagas of an instance that has ended are driven here now.
    Adopted {
        /// How many.
        sagas: usize,
    },
    /// A stored saga can't be driven, for example because its log can't be read. It stays as it is and needs attention.
    LeftAlone {
        /// The saga.
        saga: SagaId,
        /// Why.
        reason: LeaveReason,
    },
    /// The stored saga has another owner or another sequence than its append: this instance does not drive it any more.
    LostOwnership {
        /// The saga.
        saga: SagaId,
    },
    /// The database refuses the log of a saga.
    AppendRefused {
        /// The saga.
        saga: SagaId,
        /// Why.
        problem: String,
    },
    /// The database refuses the claim of one saga. The saga stays in line and is tried again; later sagas pass it.
    TurnRefused {
        /// The saga.
        saga: SagaId,
        /// Why.
        problem: String,
    },
    /// The database refuses the claim of several sagas. They stay in line, and the next claim has half as many.
    ClaimRefused {
        /// How many.
        sagas: usize,
        /// Why.
        problem: String,
    },
    /// The database refuses a submission.
    AdmissionRefused {
        /// The id that the saga would have had.
        saga: SagaId,
        /// Why.
        problem: String,
    },
    /// The engine has rejected an input, for example an answer of a call that is over. The saga is unchanged.
    Ignored {
        /// The saga.
        saga: SagaId,
        /// Why.
        error: DecideError,
    },
    /// The RPC to a destination failed.
    CallFailed {
        /// The destination.
        destination: &'static str,
    },
    /// The breaker of a destination opened.
    BreakerOpened {
        /// The destination.
        destination: &'static str,
        /// The error of the last RPC.
        error: String,
    },
    /// A destination answers again, and its breaker has closed.
    BreakerClosed {
        /// The destination.
        destination: &'static str,
    },
    /// A destination has begun to fail, or has answered again.
    DestinationChanged {
        /// The destination.
        destination: &'static str,
    },
    /// A saga is finished and has left memory.
    Finished {
        /// The saga.
        saga: SagaId,
    },
}
