//! The interface of the core: all that can happen ([`Input`]), and all that is to be done about it ([`Ready`]).
//!
//! | in a `Ready` | to be done by the shell | comes back as |
//! |---|---|---|
//! | `commits` | write each in one transaction, fenced by the lease | [`Input::CommitEnded`] |
//! | `rpcs` | make the RPC, with a timeout | [`Input::RpcEnded`] |
//! | `store` | one question to the database each | [`Input::StoreAnswered`] |
//! | `replies`, `changes`, `notices` | hand them over to callers, watchers, logs and metrics | |
//! | `wake_at` | call [`Core::step`](crate::Core::step) again at that moment, with or without inputs | |
//! | `end` | stop: the instance is fenced, or has ended in order | |

use std::sync::Arc;

use matricula_engine::{
    CallAnswer, CallError, DecideError, Direction, Input as SagaInput, LeaveReason, Recorded, Row, SagaState, StepIndex,
};

use crate::{Moment, Persisted, SagaId, Ticket, Workflow};

/// The registration of an instance, which comes before its core.
#[derive(Debug, Clone, Copy)]
pub struct Registered {
    /// When the database was asked.
    pub asked_at: Moment,
    /// When it had answered.
    pub answered_at: Moment,
    /// The time by its clock.
    pub database_now_ms: i64,
}

/// Something that has happened.
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
    /// The same of a saga that waits in line, as it was read from the database: this instance drives it from now on, if
    /// its turn has not come meanwhile.
    CommandedInLine {
        /// The saga.
        saga: QueuedSaga<W::Request>,
        /// `Cancel` or `Operator`.
        command: SagaInput,
        /// Gets the reply.
        caller: W::Caller,
    },
    /// A commit was answered, or its answer was given up.
    CommitEnded {
        /// As in [`Commit::number`].
        number: CommitNo,
        /// The answer.
        answer: CommitAnswer,
    },
    /// An RPC has ended, with an answer a call or with an error for all of them. A timeout is an error.
    RpcEnded {
        /// As in [`Rpc::number`].
        number: RpcNo,
        /// In the order of the calls.
        answer: Result<Vec<CallAnswer>, CallError>,
    },
    /// The database has answered a question.
    StoreAnswered {
        /// The question.
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
    /// Another instance has ended in order: its sagas are to be adopted.
    PeerLeft,
    /// Another instance has queued sagas in a line that was empty.
    LineBegun,
    /// The process is to end in order.
    Stopped,
}

/// All that is to be done after a step. What it contains may be done at once and in any order; what has to wait for a
/// commit is kept back by the core until that commit has been answered.
pub struct Ready<W: Workflow> {
    /// Rows to be persisted, at most one commit of each [`Lane`]. There is none of a lane while one of it is under way.
    pub commits: Vec<Arc<Commit<W::Request>>>,
    /// RPCs that leave now.
    pub rpcs: Vec<Rpc<W::Request>>,
    /// Questions to the database.
    pub store: Vec<StoreRequest>,
    /// Answers of submissions and commands.
    pub replies: Vec<(W::Caller, Reply)>,
    /// Sagas that watchers see otherwise from now on.
    pub changes: Vec<Change<W::Request>>,
    /// What people and metrics should know.
    pub notices: Vec<Notice>,
    /// When to step again though nothing has happened.
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
    /// Another instance has declared this one dead and drives its sagas: this one may do nothing any more.
    Fenced,
    /// It was stopped, and nothing is in flight.
    InOrder,
}

/// What is submitted.
#[derive(Debug, Clone)]
pub struct Submission<R> {
    /// A new id, larger than those before it.
    pub id: SagaId,
    /// Whom it is about: idempotency keys and quotas are for each.
    pub subject: String,
    /// Unique for each subject.
    pub key: String,
    /// The request in one canonical form: the same key with another one is refused.
    pub fingerprint: String,
    /// Staff submit it: neither the door nor the quotas of its subject look at it.
    pub is_by_staff: bool,
    /// What the saga works from.
    pub request: R,
}

/// The answer of a submission or of a command.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// The submission is a saga now.
    Accepted(Persisted<Accepted>),
    /// The key was used before.
    Existing {
        /// The saga of that time.
        id: SagaId,
        /// Whether it asked for the same.
        same_request: bool,
    },
    /// Too many are open. Nothing was accepted.
    QueueFull {
        /// When to come back.
        retry_after: Moment,
    },
    /// The subject has too many open, or submits too fast. Nothing was accepted.
    OverQuota {
        /// When to come back.
        retry_after: Moment,
        /// As in the submission, like the others: it may repeat one that the core does not know any more.
        subject: String,
        /// Unique for each subject.
        key: String,
        /// The request in one canonical form.
        fingerprint: String,
    },
    /// Registration is closed. Nothing was accepted.
    Closed {
        /// What students are told.
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
    /// This instance does not drive the saga, or does not any more.
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

/// Which commits follow one another. Those of different lanes are under way at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Admissions while there is a line: acceptance waits for nothing else.
    Acceptance,
    /// Everything else, and admissions while there is no line.
    Log,
}

/// The number of a commit. A commit that is tried again has the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitNo {
    /// Which commits it follows.
    pub lane: Lane,
    /// Counted from 1 in each lane.
    pub number: u64,
}

/// Rows to be written in one transaction.
#[derive(Debug)]
pub struct Commit<R> {
    /// Names it in its answer.
    pub number: CommitNo,
    /// New sagas, in the order of their arrival. Those with a first event come first.
    pub admissions: Vec<Admission<R>>,
    /// Sagas of the line whose turn has come.
    pub claim: Option<Claim>,
    /// Events of running ones.
    pub appends: Vec<Append>,
    /// Other instances claim nothing that was accepted later than this, by the database's clock in milliseconds, as long
    /// as this instance has noted no other bound, and has noted one within the last second. `i64::MAX`: no bound. None:
    /// nothing is noted, because there is no line.
    pub others_claim_to_ms: Option<i64>,
}

/// A new saga, as it is stored.
#[derive(Debug, Clone)]
pub struct Admission<R> {
    /// Its id.
    pub id: SagaId,
    /// Whom it is about.
    pub subject: String,
    /// The subject's own name for it.
    pub key: String,
    /// The request in one canonical form.
    pub fingerprint: String,
    /// Staff submit it: neither the door nor the quota of its subject look at it.
    pub is_by_staff: bool,
    /// What the saga works from.
    pub request: R,
    /// Its first event, where a slot is kept for it: it begins at once if no saga is queued and the door is open, and
    /// is queued otherwise. None: it is queued.
    pub first: Option<Recorded>,
}

/// Takes sagas out of the line: this instance drives them from now on.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The ticket whose turn had come last when these were read. When it is another one by now, another instance has
    /// claimed, and only turns out of order are taken. Of a claim that is written again after it took effect, the
    /// answer is the same.
    pub after: Ticket,
    /// In the order of their tickets. All queued sagas between `after` and the last of them that is in order are here.
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
    /// It is to be undone, and does not wait for its turn.
    pub is_out_of_order: bool,
}

/// The line, as the database has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LineState {
    /// The ticket whose turn has come last: all up to it have had theirs.
    pub served: Ticket,
    /// The ticket that was given last.
    pub last: Ticket,
    /// Whether registration is open.
    pub door: Door,
    /// The least bound that other instances have noted: what was accepted later is not claimed yet.
    pub claims_to_ms: Option<i64>,
}

/// Whether registration is open, as a registrar has set it for all instances.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Door {
    /// Open, paused or closed.
    pub state: DoorState,
    /// What students are told; may be empty.
    pub sentence: String,
}

/// What the door lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DoorState {
    /// Everything.
    #[default]
    Open,
    /// Submissions are accepted and queued, and no turn comes.
    Paused,
    /// Nothing new is accepted. The line goes on.
    Closed,
}

/// A saga that waits in line, as it is read.
#[derive(Debug, Clone)]
pub struct QueuedSaga<R> {
    /// The saga.
    pub id: SagaId,
    /// Its ticket.
    pub ticket: Ticket,
    /// When it was accepted, by the database's clock.
    pub accepted_at_ms: i64,
    /// What it works from, or why that can't be read.
    pub request: Result<R, String>,
}

/// Events to be appended to one saga.
#[derive(Debug, Clone)]
pub struct Append {
    /// The saga.
    pub saga: SagaId,
    /// In order, without gaps, after what is stored. Never empty.
    pub events: Vec<Recorded>,
    /// The state after them, as lists show it.
    pub summary: Summary,
}

/// What lists show of a saga.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// `Phase::as_str`.
    pub phase: &'static str,
    /// `Outcome::as_str`.
    pub outcome: &'static str,
    /// Whether a person must look.
    pub needs_attention: bool,
    /// Whether nothing is left to do.
    pub finished: bool,
}

impl Summary {
    /// Of a state.
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
    /// It is persisted. Outcomes come in the order of the rows.
    Written {
        /// Of the admissions.
        admissions: Vec<Admitted>,
        /// Of the claim: whether this instance drives the saga now.
        claimed: Vec<bool>,
        /// Of the appends.
        appends: Vec<AppendOutcome>,
        /// The line as it is then, of a commit with admissions or a claim.
        line: Option<LineState>,
    },
    /// This instance has been declared dead: nothing was written, and nothing will be.
    Fenced,
    /// The database has answered that the transaction lost to another one. The same again may succeed.
    Conflict,
    /// The database refuses the rows: the same again never succeeds.
    Refused {
        /// Why.
        problem: String,
    },
    /// There was no answer, or an error that may pass. Whether it was written is not known.
    Failed,
}

/// How an admission ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admitted {
    /// It is a saga of this instance now.
    Begun {
        /// Its number in the order of acceptance.
        ticket: Ticket,
    },
    /// It waits in line.
    Queued {
        /// Its number in the order of acceptance.
        ticket: Ticket,
    },
    /// The subject has as many sagas without an outcome as it may. Nothing was accepted.
    OverQuota,
    /// The door is closed. Nothing was accepted.
    Closed {
        /// What students are told.
        sentence: String,
    },
    /// The subject has used the key before.
    Existing {
        /// The saga of that time.
        id: SagaId,
        /// Whether it asked for the same.
        same_request: bool,
    },
}

/// How an append ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendOutcome {
    /// The events are in the log.
    Appended,
    /// The saga has another sequence or another owner: nothing was written for it.
    Conflict,
}

/// The number of an RPC, unique for an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RpcNo(pub u64);

/// One RPC that carries calls of several sagas.
#[derive(Debug)]
pub struct Rpc<R> {
    /// Names it in its answer.
    pub number: RpcNo,
    /// The service.
    pub destination: &'static str,
    /// The RPC of that service.
    pub name: &'static str,
    /// The calls. The core keeps the same list, to look into it while the RPC is in flight.
    pub calls: Arc<[Call<R>]>,
}

/// One call of one step of one saga.
#[derive(Debug, Clone)]
pub struct Call<R> {
    /// The saga.
    pub saga: SagaId,
    /// The step.
    pub step: StepIndex,
    /// Its name; of a compensation, the name of the step that it undoes.
    pub step_name: &'static str,
    /// Which direction.
    pub direction: Direction,
    /// Counted from 1 in its direction.
    pub attempt: u32,
    /// What the shell keeps with the saga.
    pub request: R,
    /// The saga as it stood when the call became due: the outputs of earlier steps are in it.
    pub state: Arc<SagaState>,
    /// Why it may leave.
    pub clearance: Clearance,
    /// When the database last said that this instance lives, in milliseconds of its clock. It is before the end of the
    /// saga, however long the call waits to be sent.
    pub owner_alive_at_ms: i64,
}

/// Why a call may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clearance {
    /// The engine says so: an instance that adopts the saga makes the same call again, undoes it or asks about it.
    AheadOfLog,
    /// All events that led to it are persisted.
    Persisted(Persisted<()>),
}

/// A saga that watchers see otherwise from now on.
#[derive(Debug)]
pub enum Change<R> {
    /// It has entered this instance: admitted, or adopted.
    Entered {
        /// The saga.
        saga: SagaId,
        /// What the shell keeps with it.
        request: R,
        /// Its state, as the log has it.
        state: Persisted<Arc<SagaState>>,
    },
    /// Its log has grown.
    Advanced {
        /// The saga.
        saga: SagaId,
        /// What the shell keeps with it.
        request: R,
        /// Its state, as the log has it.
        state: Persisted<Arc<SagaState>>,
        /// How lists showed it before.
        before: Summary,
        /// How lists show it now.
        after: Summary,
    },
    /// Another instance drives it from now on.
    HandedOver {
        /// The saga.
        saga: SagaId,
    },
}

/// A question to the database. At most one of each kind is under way, except renewals that hang.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreRequest {
    /// Prolong this instance's lease. Answers: `Renewed`, `Fenced`, `Failed`.
    Renew {
        /// When it was asked.
        asked_at: Moment,
    },
    /// Look for instances that have ended. Answers: `Looked`, `Fenced`, `Failed`.
    Look {
        /// Whether to declare instances dead whose lease has lapsed.
        may_mark: bool,
    },
    /// Choose unfinished sagas of dead instances, the oldest first. Answers: `Chosen`, `Failed`.
    Choose {
        /// How many at most.
        limit: usize,
    },
    /// Take over those of these sagas whose owner is dead, and read them. Answers: `Adopted`, `Fenced`, `Failed`. After
    /// an error the same request again returns what the first one took.
    Adopt {
        /// The sagas.
        sagas: Vec<SagaId>,
    },
    /// Read the line, and the queued sagas behind a ticket in the order of their tickets. Answers: `Line`, `Failed`.
    ReadLine {
        /// Those behind this one.
        after: Ticket,
        /// How many at most; 0 reads the state of the line alone.
        limit: usize,
    },
    /// Show that a person must look at these sagas of this instance. Answers: `Flagged`, `Fenced`, `Failed`; after an
    /// error they are flagged again.
    Flag {
        /// The sagas.
        sagas: Vec<SagaId>,
    },
}

/// The answer of the database.
#[derive(Debug)]
pub enum StoreAnswer<R> {
    /// The lease is prolonged.
    Renewed {
        /// The time by the database's clock.
        database_now_ms: i64,
    },
    /// Lapsed instances are marked, if that was asked.
    Looked,
    /// The sagas are flagged.
    Flagged,
    /// The line. All queued sagas behind the ticket that was asked for, up to the last of these, are here; when there
    /// are fewer than the limit, all up to `state.last` are.
    Line {
        /// Its state, read before the sagas.
        state: LineState,
        /// In the order of their tickets.
        sagas: Vec<QueuedSaga<R>>,
    },
    /// Sagas without an owner.
    Chosen(Vec<SagaId>),
    /// Sagas that are this instance's now.
    Adopted(Vec<StoredSaga<R>>),
    /// This instance has been declared dead.
    Fenced,
    /// Whether it was done is not known.
    Failed,
}

/// A saga as it is read back.
#[derive(Debug)]
pub struct StoredSaga<R> {
    /// Its log.
    pub row: Row<SagaId>,
    /// What it works from, or why that can't be read.
    pub request: Result<R, String>,
}

/// Something that people or metrics should know.
#[derive(Debug)]
pub enum Notice {
    /// Sagas of an instance that has ended are driven here now.
    Adopted {
        /// How many.
        sagas: usize,
    },
    /// An adopted saga can't be driven and is left alone.
    LeftAlone {
        /// The saga.
        saga: SagaId,
        /// Why.
        reason: LeaveReason,
    },
    /// The append of a saga met another owner or another sequence: the saga is not driven here any more.
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
    /// The database refuses to have a saga taken out of the line. It stays there and is tried again, and others go past it.
    TurnRefused {
        /// The saga.
        saga: SagaId,
        /// Why.
        problem: String,
    },
    /// The database refuses to have sagas taken out of the line. They stay there, and fewer are tried.
    ClaimRefused {
        /// How many.
        sagas: usize,
        /// Why.
        problem: String,
    },
    /// The database refuses a submission.
    AdmissionRefused {
        /// The saga that it would have become.
        saga: SagaId,
        /// Why.
        problem: String,
    },
    /// An input changed nothing.
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
        /// How the last RPC failed.
        error: String,
    },
    /// A destination whose breaker was open answers again.
    BreakerClosed {
        /// The destination.
        destination: &'static str,
    },
    /// A destination has begun to fail, or answers again.
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
