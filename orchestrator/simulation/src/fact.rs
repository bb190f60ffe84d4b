//! The facts of a history, as the invariants see them: each fact once, in the order in which they happen.
//!
//! The effect of a commit is a fact when it is durable, not before.

use std::rc::Rc;

use matricula_core::{CommitNo, DoorState, Lane};
use matricula_engine::{Outcome, Recorded};

use crate::draws::TransactionKind;
use crate::names::{Attempt, CallId, ClientNo, InstanceNo, SagaNo, SectionNo};
use crate::operators::Order;
use crate::replica::{Looked, Submitted};

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
    /// Its shutdown has begun.
    Stopping { instance: InstanceNo },
    /// The store can't be reached from now on, for a given time.
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
    DoorSet { door: DoorState },
    /// Durable: its log has grown.
    Appended { saga: SagaNo, instance: InstanceNo, events: Rc<Vec<Recorded>> },
    /// Durable: it has another owner.
    Adopted { saga: SagaNo, instance: InstanceNo },
    /// An instance has received a command about a saga: a cancel, or an operator's command. `is_queued`: the saga was
    /// in line when its row was read.
    Commanded { instance: InstanceNo, saga: SagaNo, is_cancel: bool, is_queued: bool },
    /// An instance has rejected a command: it is too late, or the instance does not drive the saga.
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
    /// It receives the answer of the commit of a lane.
    CommitEnded { instance: InstanceNo, lane: Lane },
    /// An instance has let a submission in, or has rejected it at one of its bounds.
    Submitted { instance: InstanceNo, submitted: Rc<Submitted> },
    /// The store has answered an instance that it refuses a row. `is_shown`: the instance has flagged the saga, or
    /// nothing is stored that could be flagged.
    RowRefused { instance: InstanceNo, saga: SagaNo, is_shown: bool },
    /// The core of an instance has received the answer that it is fenced, and another input after it.
    Fenced { instance: InstanceNo, is_answered: bool, has_sent: bool },
    /// An instance does not drive a saga any more that is not finished.
    GaveAway { instance: InstanceNo },
    /// The breaker of a service has opened.
    BreakerOpened,
    /// An instance has taken a step. Afterwards there are these numbers of adopted sagas that wait for their turn, and
    /// of sagas that had their turn and have no durable outcome.
    Stepped { instance: InstanceNo, adopted: usize, at_work: usize },
    /// An operator looks at an instance.
    Looked { instance: InstanceNo, looked: Rc<Looked> },
    /// A call has left an instance.
    CallMade { instance: InstanceNo, of: CallId, attempt: u32 },
    /// An instance does not wait for a call any more.
    CallEnded { instance: InstanceNo, of: CallId },
    /// A service has rejected the batch of a call as invalid, and the batch has more than one call.
    Halved { instance: InstanceNo, made: Attempt },
    /// An instance has finished its shutdown, with a number of calls still in flight, and perhaps a commit.
    EndsInOrder { instance: InstanceNo, calls: usize, has_commit: bool },
    /// A service has done an action.
    Done { of: CallId },
    /// A service has undone an action.
    Undone { of: CallId },
    /// A seat was given, when this many seats of the capacity were taken.
    SeatGiven { saga: SagaNo, section: SectionNo, taken_before: usize, capacity: usize },
    /// The notification service has sent a message to the student.
    Notified { saga: SagaNo, outcome: Outcome },
    /// A client has received its saga.
    Acknowledged { client: ClientNo, saga: SagaNo },
    /// Watchers of the saga receive this outcome.
    OutcomeSent { saga: SagaNo, outcome: Outcome },
    /// A client has received the confirmation of its cancel.
    CancelConfirmed { saga: SagaNo },
    /// An operator has received the confirmation of a command.
    Obeyed { order: Rc<Order> },
}

/// The relation of a claim to the bounds of instances.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClaimFront {
    /// How much later the saga was accepted than the bound that another instance has kept since its last claim.
    /// Negative: it is within the bound.
    pub ahead_ms: i64,
    /// How much later than this saga other instances may claim, by the bound that is stored with the claim.
    pub others_ahead_ms: Option<i64>,
}
