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
//! The shell moves data: it writes the commit, makes the calls, asks the database, hands over the replies, and wakes
//! the core. It decides nothing about a saga. Two shells run this code: `orchestrator/runtime` with sockets, a database
//! and timers, and `orchestrator/simulation` with simulated ones.
//!
//! | module | one job |
//! |---|---|
//! | [`ready`] | the interface: [`Input`] and [`Ready`] |
//! | `core` | [`Core::step`]: sagas, slots, timers, decisions, shutdown |
//! | `log` | which events are not persisted yet, and what waits for them; group commits, retries, refused appends |
//! | `lease` | the database's clock, lease renewals, whom this instance may declare dead, adoption |
//! | `destination` | one service: queues, batches, limit, circuit breaker |
//! | `admission` | repeats, which submissions go to the database, and when rejected clients should come back |
//! | `line` | what is known of the waiting line, and which sagas are claimed from it |
//! | `front` | how far ahead of one another instances may claim |
//! | `slots` | which sagas are at work, and how many may be |
//! | `view` | what operators see of the sagas in memory |
//!
//! Promises: the same inputs at the same moments give the same results, whatever the order of a hash map is. A reply
//! that something is done, and a change that watchers see, are [`Persisted`]: only the log module can make one, and it
//! makes one when the commit has been answered. A call carries its [`Clearance`]: the engine's word that it may leave
//! before the log is written, or the proof that the log is. At most one call of a (saga, step, direction) is under way
//! from here.

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
    Accepted, Admission, Admitted, Append, AppendOutcome, Call, Change, Claim, Clearance, Commit, CommitAnswer,
    CommitNo, Door, DoorState, End, Input, Lane, LineState, Notice, QueuedSaga, Ready, Registered, Reply, Rpc, RpcNo,
    StoreAnswer, StoreRequest, StoredSaga, Submission, Summary, Turn,
};
pub use self::view::{SagaView, SagasWaiting};

/// Time since the shell has started, by a clock that nobody sets.
pub type Moment = Duration;

/// What the sagas of an orchestrator do, as far as the core has to know it.
pub trait Workflow {
    /// What the shell keeps with a saga: its request, its trace. The core hands a copy out with each call, so it is an
    /// `Arc` or an `Rc`. The core drops it when the saga leaves memory.
    type Request: Clone;

    /// The sender of a submission or a command: whatever the shell needs to hand the reply over.
    type Caller;

    /// The tables of steps: of new sagas, and of those that began with an earlier version.
    fn definitions(&self) -> &Definitions;

    /// Names of the steps of the current definition that have something to do for a request.
    fn applies(&self, request: &Self::Request) -> Vec<&'static str>;

    /// Whether somebody waits for the answer of an action: for the outcome, or for what it gives back. A call that
    /// nobody waits for may gather with others of its kind; compensations never gather.
    fn is_waited_for(&self, step: &Step, request: &Self::Request) -> bool;
}

/// A number of 64 bits that spreads decisions in time, for a purpose that two numbers name: the same in every run,
/// whatever came before. (The finalizer of SplitMix64, from Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", 2014, once for each word.)
pub(crate) fn mix(seed: u64, one: u64, other: u64) -> u64 {
    [one, other].into_iter().fold(seed, |state, word| {
        let mut z = (state ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// The same as a fraction from 0 to 1, without 1.
pub(crate) fn fraction(seed: u64, one: u64, other: u64) -> f64 {
    (mix(seed, one, other) >> 11) as f64 / (1_u64 << 53) as f64
}
