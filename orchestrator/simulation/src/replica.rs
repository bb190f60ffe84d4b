//! A replica of the orchestrator: a process in which instances run one after the other, and one such instance.
//!
//! An instance is the shipped [`matricula_core::Core`] and a shell around it. The shell carries out the outputs of the
//! core: it sends commits and requests to the simulated store, RPCs over the simulated network, and replies to clients
//! and operators. It makes no decision about a saga. A process has a clock of its own, may be suspended and go on with
//! stale memory, and may crash at any moment.
//!
//! | module | one job |
//! |---|---|
//! | `process` | a process in which instances run: crashes, suspensions, its clock |
//! | `instance` | the events of an instance, and the inputs of its core |
//! | `output` | carries out the outputs of the core |
//! | `translate` | translates between the types of the core and of the simulation |
//! | `workflow` | the core's `Workflow` for the simulated sagas |
//! | `account` | the shell's own account of its core, to compare with the views of operators |
//! | `bounds` | the bounds of an instance |
//! | `line` | the part of the shell for the waiting line |
//! | `submissions` | the shell's own account of the accepted submissions |
//! | `broken_core` | a core from which a guard is removed |

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

/// Longest round trip of an answer that sets the clock.
pub(crate) const ROUND_TRIP_MAX: Duration = Duration::from_millis(500);

/// An event for one instance.
#[derive(Debug)]
pub(crate) enum InstanceInput {
    Stored {
        transaction: Transaction,
        answer: Box<StoreAnswer>,
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
    /// The wake-up time of the core has come.
    Wake,
    /// The core processes the gathered inputs.
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

/// An event for the instance that runs in a process, or for the process.
#[derive(Debug, Clone)]
pub(crate) enum ProcessEvent {
    Start,
    /// Ends at once; starts again, or never.
    Crash {
        starts_after_ms: Option<i64>,
    },
    /// Shuts down, and starts again.
    Stop,
    /// Is suspended for a while, as by SIGSTOP.
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
    /// Another instance has reported its shutdown.
    PeerLeft(InstanceNo),
    /// Another instance has reported, for the nth time, that it has queued sagas in a line that was empty.
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
