//! One orchestrator without I/O: every decision about its sagas, as a function of what has happened.
//!
//! ```text
//!            Input (a submission, an answer, a commit, a command, ...), now
//!                                │
//!                          Core::step ──► Ready { commit, calls, store requests, replies, changes, wake_at }
//!                                ▲                                   │
//!                                └── answers as further inputs ── a shell: `runtime`, or `simulation`
//! ```
//!
//! The shell moves data: it writes the commit, makes the calls, queries the database, delivers the replies, and wakes
//! the core. It decides nothing about a saga. Two shells run this code: `orchestrator/runtime` with sockets, a database
//! and timers, and `orchestrator/simulation` with simulated ones.
//!
//! | module | one job |
//! |---|---|
//! | [`ready`] | the interface: [`Input`] and [`Ready`] |
//! | `core` | [`Core::step`]: sagas, slots, timers, decisions, shutdown |
//! | `log` | the events that are not persisted yet, and what waits for them; group commits, retries, refused appends |
//! | `lease` | the database's clock, lease renewals, which instances this one may declare dead, adoption |
//! | `destination` | one service: queues, batches, limit, circuit breaker |
//! | `admission` | repeats, which submissions go to the database, and when rejected clients should come back |
//! | `line` | this instance's copy of the waiting line, and which sagas are claimed from it |
//! | `front` | the bound that this instance sets on the claims of other instances |
//! | `slots` | which sagas are at work, and how many may be |
//! | `view` | what operators see of the sagas in memory |
//!
//! Promises: the same inputs at the same moments give the same results, whatever the order of a hash map is. A reply
//! that something is done, and a change that watchers see, are [`Persisted`]. Only the log module can make such a
//! value, and it makes one when the database has answered the commit. A call carries its [`Clearance`]: either the
//! engine allows it to leave before the log is written, or the log is persisted. This instance has at most one call in
//! flight for each (saga, step, direction).

mod admission;
mod config;
mod core;
mod destination;
mod front;
mod id;
mod lease;
mod line;
mod log;
pub mod ready;
mod slots;
mod view;

#[cfg(test)]
mod tests;

use std::time::Duration;

use matricula_engine::{Definitions, Step};

pub use self::config::CoreConfig;
pub use self::core::{Core, answer_finished};
pub use self::destination::DestinationStatus;
pub use self::id::{InvalidSagaId, SagaId, Ticket};
pub use self::line::LineView;
pub use self::log::Persisted;
pub use self::ready::{
    Accepted, Admission, AdmissionOutcome, Append, AppendOutcome, Call, Change, Claim, Clearance, Commit, CommitAnswer,
    CommitNo, Door, DoorState, End, Input, Lane, LineState, Notice, QueuedSaga, Ready, Registered, Reply, Rpc, RpcNo,
    StoreAnswer, StoreRequest, StoredSaga, Submission, Summary, Turn,
};
pub use self::view::{SagaView, SagasWaiting};

/// Time since the shell has started, by a monotonic clock.
pub type Moment = Duration;

/// The work of the sagas, as far as the core needs it.
pub trait Workflow {
    /// What the shell keeps with a saga: its request, its trace. Each call carries a clone, so this is an `Arc` or an
    /// `Rc`. The core drops it when the saga leaves memory.
    type Request: Clone;

    /// The sender of a submission or a command: whatever the shell needs to deliver the reply.
    type Caller;

    /// The tables of steps: the current version, and the earlier versions that stored sagas began with.
    fn definitions(&self) -> &Definitions;

    /// The names of the steps of the current definition that a request needs.
    fn applies(&self, request: &Self::Request) -> Vec<&'static str>;

    /// Whether a client or another saga waits for the effect of an action. Any other call may be delayed until it can
    /// share an RPC with calls of its kind. Compensations are never delayed.
    fn is_waited_for(&self, step: &Step, request: &Self::Request) -> bool;
}

/// A pseudorandom number that depends on its arguments alone, so that it is the same in every run. `one` and `other`
/// name its purpose. (The finalizer of SplitMix64, from Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", 2014, once for each argument.)
pub(crate) fn mix(seed: u64, one: u64, other: u64) -> u64 {
    [one, other].into_iter().fold(seed, |state, word| {
        let mut z = (state ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// The same as a fraction: at least 0, less than 1.
pub(crate) fn fraction(seed: u64, one: u64, other: u64) -> f64 {
    (mix(seed, one, other) >> 11) as f64 / (1_u64 << 53) as f64
}
