//! The facts of a history, as the invariants see them: each fact once, in the order in which they happen.
//!
//! The effect of a commit is a fact when it is durable, not before.

use std::rc::Rc;

use matricula_core::{CommitNo, Lane};
use matricula_engine::{Outcome, Recorded};

use crate::draws::TransactionKind;
use crate::names::{Attempt, CallId, ClientNo, InstanceNo, SagaNo, SectionNo};
use crate::operators::Order;
use crate::replica::{Looked, Submitted};
use crate::store::Door;

/// A fact.
#[derive(Debug, Clone)]
pub(crate) enum Fact {
    /// A process runs as a new instance.
    Started { instance: InstanceNo, at_work_max: usize, parked_max: usize, open_max: usize },
    /// An instance has ended, whichever way.
    Ended { instance: InstanceNo },
    /// An instance is stopped for a while, as by SIGSTOP.
    Paused { instance: InstanceNo },
    /// It goes on.
    WentOn { instance: InstanceNo },
    /// It was asked to end in order.
    Stopping { instance: InstanceNo },
    /// The store can't be reached from now on, for so long.
    StoreAway { for_ms: i64 },
    /// All faults have ended.
    Healed,
    /// Durable: an instance is marked dead.
    Marked { instance: InstanceNo, by: InstanceNo },
    /// Durable: a saga is admitted. Without a first event it is queued.
    Admitted { saga: SagaNo, instance: InstanceNo, ticket: u64, first: Option<Rc<Vec<Recorded>>> },
    /// Durable: it has left the line, and an instance drives it.
    Claimed {
        saga: SagaNo,
        instance: InstanceNo,
        ticket: u64,
        first: Rc<Vec<Recorded>>,
        front: ClaimFront,
        is_out_of_order: bool,
    },
    /// Durable: a registrar has set the door.
    DoorSet { door: Door },
    /// Durable: its log has grown.
    Appended { saga: SagaNo, instance: InstanceNo, events: Rc<Vec<Recorded>> },
    /// Durable: it has another owner.
    Adopted { saga: SagaNo, instance: InstanceNo },
    /// An instance was given a command about a saga: a cancel, or an operator's. `is_queued`: the saga was in line when
    /// its row was read.
    Commanded { instance: InstanceNo, saga: SagaNo, is_cancel: bool, is_queued: bool },
    /// An instance does not obey a command: it is too late, or the instance does not drive the saga.
    Declined { instance: InstanceNo, saga: SagaNo },
    /// An instance has sent a commit, or sends it again. `kind` names it by its rows. `empty`: a saga of which nothing
    /// is appended. `turns`: sagas that are claimed in order.
    CommitSent {
        instance: InstanceNo,
        number: CommitNo,
        kind: TransactionKind,
        empty: Option<SagaNo>,
        turns: Vec<SagaNo>,
    },
    /// It is given the answer of the commit of a lane.
    CommitEnded { instance: InstanceNo, lane: Lane },
    /// An instance has let a submission in, or has rejected it at one of its bounds.
    Submitted { instance: InstanceNo, submitted: Rc<Submitted> },
    /// The store has refused a row of an instance for good, as far as that one knows. `is_shown`: it has the store show
    /// that a person must look, or nothing is stored that could be shown.
    RowRefused { instance: InstanceNo, saga: SagaNo, is_shown: bool },
    /// The core of an instance was given the answer that it is fenced, and a question after that.
    Fenced { instance: InstanceNo, is_answered: bool, has_sent: bool },
    /// An instance does not drive a saga any more that is not finished.
    GaveAway { instance: InstanceNo },
    /// The breaker of a service has opened.
    BreakerOpened,
    /// An instance has taken a step. So many adopted sagas wait there for their turn, and so many others have had
    /// theirs and no durable outcome.
    Stepped { instance: InstanceNo, adopted: usize, at_work: usize },
    /// An operator looks at an instance.
    Looked { instance: InstanceNo, looked: Rc<Looked> },
    /// A call has left an instance.
    CallMade { instance: InstanceNo, of: CallId, attempt: u32 },
    /// An instance does not wait for a call any more.
    CallEnded { instance: InstanceNo, of: CallId },
    /// The batch of a call was found invalid, and has more than one call.
    Halved { instance: InstanceNo, made: Attempt },
    /// An instance that was asked to end says that it is through, with so many calls in flight, and perhaps a commit.
    EndsInOrder { instance: InstanceNo, calls: usize, has_commit: bool },
    /// A service has done an action.
    Done { of: CallId },
    /// A service has undone an action.
    Undone { of: CallId },
    /// A seat was given when so many were taken, of so many.
    SeatGiven { saga: SagaNo, section: SectionNo, taken_before: usize, capacity: usize },
    /// The notification service has told the student.
    Notified { saga: SagaNo, outcome: Outcome },
    /// A client was told that this is its saga.
    Acknowledged { client: ClientNo, saga: SagaNo },
    /// Watchers of the saga are told this outcome.
    Told { saga: SagaNo, outcome: Outcome },
    /// Somebody was told that the saga is being undone.
    CancelConfirmed { saga: SagaNo },
    /// An operator was told that a command has taken effect.
    Obeyed { order: Rc<Order> },
}

/// How a claim of a saga stands to what instances have at work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClaimFront {
    /// So much later was it accepted than the bound that another instance has kept since its last claim; below 0 it is
    /// within it.
    pub ahead_ms: i64,
    /// So much later may others claim, by what the instance notes with the claim.
    pub others_ahead_ms: Option<i64>,
}
