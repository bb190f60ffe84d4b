//! A replica of the orchestrator: a process in which instances run one after the other, and one such instance.
//!
//! An instance is the shipped [`matricula_core::Core`] and a shell around it. The shell does what the core returns: it
//! sends the commit and the questions to the simulated store, the RPCs over the simulated network, and the replies to
//! clients and operators. It decides nothing about a saga. A process has a clock of its own, may be stopped and go on
//! with stale memory, and may crash at any moment.
//!
//! | module | one job |
//! |---|---|
//! | `process` | a place for instances: crashes, stops, its clock |
//! | `instance` | what reaches an instance |
//! | `output` | what its core returns |
//! | `translate` | the words of the core and of the simulation |
//! | `workflow` | what the sagas do, as the core has to know it |
//! | `account` | what the shell knows of its core, to compare with what operators see |
//! | `bounds` | the bounds of an instance |
//! | `line` | what the shell does for the waiting line |
//! | `submissions` | which submissions the core has let in |
//! | `broken_core` | a core from which a guard is taken out |

use std::time::Duration;

use crate::clients::Ask;
use crate::draws::{BacklogItem, RpcKey};
use crate::names::InstanceNo;
use crate::participants::RpcAnswer;
use crate::store::{StoreAnswer, Transaction};

mod account;
mod bounds;
mod broken_core;
mod instance;
mod line;
mod output;
mod process;
mod submissions;
mod translate;
mod workflow;

pub(crate) use account::{KnownCall, KnownDestination, KnownSaga, Looked, ShownSaga};
pub(crate) use bounds::{CALL_TIMEOUT_MS, DESTINATION_IN_FLIGHT_MAX};
pub(crate) use process::Process;
pub(crate) use submissions::{Entry, Submitted};
pub(crate) use workflow::may_gather;

/// The database's time is read from answers that take at most so long.
pub(crate) const ROUND_TRIP_MAX: Duration = Duration::from_millis(500);

/// Something for one instance.
#[derive(Debug, Clone)]
pub(crate) enum InstanceInput {
    Stored {
        transaction: Transaction,
        answer: StoreAnswer,
    },
    /// A copy of an answer.
    RpcEnded {
        rpc: u64,
        key: RpcKey,
        copy: u8,
        answer: RpcAnswer,
    },
    RpcTimeout {
        rpc: u64,
        key: RpcKey,
    },
    /// The moment has come at which the core wants to look at what is due.
    Wake,
    /// The core takes in all that has gathered.
    Gathered,
    GraceIsOver,
}

impl InstanceInput {
    fn item(&self) -> BacklogItem {
        match *self {
            Self::Stored { ref transaction, .. } => BacklogItem::Stored(transaction.key),
            Self::RpcEnded { key, copy, .. } => BacklogItem::Answer(key, copy),
            Self::RpcTimeout { key, .. } => BacklogItem::CallTimeout(key),
            Self::Wake => BacklogItem::Wake,
            Self::Gathered => BacklogItem::Gathered,
            Self::GraceIsOver => BacklogItem::GraceIsOver,
        }
    }
}

/// Something for the instance that runs in a process, or for the process.
#[derive(Debug, Clone)]
pub(crate) enum ProcessEvent {
    Start,
    /// Ends at once; starts again, or never.
    Crash {
        starts_after_ms: Option<i64>,
    },
    /// Is asked to end in order, and starts again.
    Stop,
    /// Is stopped for a while, as by SIGSTOP.
    Pause {
        for_ms: i64,
    },
    GoOn,
    /// Its clock is set.
    ClockJump {
        by_ms: i64,
    },
    /// An operator changes how many RPCs to a destination may be in flight.
    Limit {
        destination: u8,
        in_flight_max: usize,
    },
    /// Another instance says that it has ended in order.
    PeerLeft(InstanceNo),
    /// Another instance says, for the nth time, that it has queued sagas in a line that was empty.
    LineBegun(InstanceNo, u32),
    Ask(Ask),
}

/// Whether an instance goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Goes {
    On,
    /// It was fenced, or has ended in order.
    Out,
}
