//! Whole histories of sagas under faults, thousands a second, each from one seed.
//!
//! A history is a small world in one thread: the real engine, and around it simulated owners (that follow the rules of the
//! runtime), a store in memory (with the contract of the real one), services behind barriers, clients, a network and
//! clocks. Everything that happens is an event of one queue. Everything that is open (which message is late or lost, which
//! owner crashes when) is drawn from the seed, keyed by what it is for. So a seed gives the same history in every run,
//! and an orchestrator that does things in another order meets the same faults.
//!
//! ```text
//!   clients ──asks──► owners (2 or 3, each its own clock) ──transactions──► store: leases, marks, logs, group commit
//!      ▲                 │  decide(): the real engine                         │
//!      └──answers────────┤                                                    │ durable
//!                        ▼                                                    ▼
//!            network: loses, repeats, delays, reorders ──► services       facts ──► witness ──► invariants
//!                                                           barrier, ledgers ──► facts ──┘
//! ```
//!
//! | module | one job |
//! |---|---|
//! | [`shapes`] | the sagas: the registration, and shapes that it has not |
//! | `draws` | what a seed has for each purpose |
//! | `disasters`, `weather` | what goes wrong: large faults and when, small ones and how often |
//! | `owner` | an orchestrator: executor, log writer, lease and adoption, destinations |
//! | `store` | leases, the mark `dead`, appends with a sequence, group commit, lost tails |
//! | `participants` | the barrier, and ledgers with few seats |
//! | `clients` | keys asked for again and again, cancels |
//! | `operators` | retry, skip, resolve, abandon, cancel, at the owner or at one that was |
//! | `fact`, `witness`, `invariants` | what happened, what is durable, what must hold: one invariant a file |
//! | [`history`], [`campaign`] | one history, many |
//! | [`broken`] | guards that can be taken out, to see that the invariants find it |
//!
//! **To find a fault:** `cargo xtask simulate --minutes 10` runs histories until one violates an invariant, and prints its
//! seed; `cargo xtask simulate --seed N` runs that one again and writes down all that happens in it.
//!
//! **What is not here:** real time, threads, SQL, the wire. The runtime's own code is not run, its rules are: where a rule
//! of `orchestrator/runtime` changes, change it in `owner` or `store` too.

pub mod broken;
pub mod campaign;
mod clients;
pub mod compare;
mod disasters;
mod draws;
mod env;
mod fact;
pub mod history;
mod invariants;
mod names;
mod operators;
mod owner;
mod participants;
mod replica;
pub mod shapes;
mod store;
pub mod tally;
mod weather;
mod witness;

pub use broken::Broken;
pub use campaign::{Budget, Campaign};
pub use history::{Report, Simulation, Violation};
