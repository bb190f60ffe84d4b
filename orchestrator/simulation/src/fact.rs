//! What happens in a history, as the invariants see it: each fact once, in the order of its happening.
//!
//! What a commit did is a fact when it is durable, not before.

use std::rc::Rc;

use matricula_engine::{Outcome, Recorded};

use crate::names::{CallId, ClientNo, InstanceNo, SagaNo, SectionNo};
use crate::operators::Order;

/// One of them.
#[derive(Debug, Clone)]
pub(crate) enum Fact {
    /// A process runs as a new instance.
    Started { instance: InstanceNo },
    /// An instance has ended, whichever way.
    Ended { instance: InstanceNo },
    /// Durable: an instance is marked dead.
    Marked { instance: InstanceNo },
    /// Durable: a saga is admitted.
    Admitted { saga: SagaNo, instance: InstanceNo, first: Rc<Vec<Recorded>> },
    /// Durable: its log has grown.
    Appended { saga: SagaNo, instance: InstanceNo, events: Rc<Vec<Recorded>> },
    /// Durable: it has another owner.
    Adopted { saga: SagaNo, instance: InstanceNo },
    /// An owner has handed a call to its way out; the call leaves when there is room.
    CallMade { instance: InstanceNo, of: CallId, attempt: u32 },
    /// An owner does not wait for a call any more.
    CallEnded { instance: InstanceNo, of: CallId },
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
    /// Whoever asks an owner is told this outcome.
    Told { saga: SagaNo, outcome: Outcome },
    /// Somebody was told that the saga is being undone.
    CancelConfirmed { saga: SagaNo },
    /// An operator was told that a command has taken effect.
    Obeyed { order: Rc<Order> },
}
