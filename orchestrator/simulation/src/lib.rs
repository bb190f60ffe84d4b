//! Whole histories of sagas under faults, thousands a second, each from one seed.
//!
//! A history is a small world in one thread. In it runs the shipped [`matricula_core::Core`], the same code as in
//! `orchestrator/runtime`, in two or three replicas. Around it are a store in memory with the contract of the real one,
//! services behind barriers, clients, operators, a network and clocks. Everything that happens is an event of one
//! queue. Everything that is open (which message is late or lost, which process crashes when) is drawn from the seed,
//! keyed by its purpose. So a seed gives the same history in every run, and a core that does things in another order
//! meets the same faults.
//!
//! ```text
//!   clients ──send──► replicas (2 or 3, each its own clock) ──transactions──► store: leases, marks, logs, group commit
//!      ▲                 │  Core::step(): the shipped core               │
//!      └──answers────────┤                                              │ durable
//!                        ▼                                              ▼
//!            network: loses, repeats, delays, reorders ──► services  facts ──► witness ──► invariants
//!                                                      barrier, ledgers ──► facts ──┘
//! ```
//!
//! | module | one job |
//! |---|---|
//! | [`shapes`] | the sagas: the registration, and shapes that it has not |
//! | `draws` | the random numbers of a seed for each purpose |
//! | `disasters`, `weather` | the faults: large ones and when, small ones and how often |
//! | `replica` | a process with the core and a shell around it |
//! | `store` | leases, the mark `dead`, the line, appends with a sequence, group commit, lost tails, refused rows |
//! | `participants` | the barrier, and ledgers with few seats |
//! | `clients` | repeated submissions of a key, cancels |
//! | `operators` | retry, skip, resolve, abandon, cancel, at the owner of a saga or at an instance that was its owner |
//! | `fact`, `witness`, `invariants` | the facts, the durable state, and the invariants, one a file |
//! | [`history`], [`campaign`] | one history, many histories |
//! | [`broken`] | guards that can be removed, to show that the invariants detect it |
//!
//! **To find a fault:** `cargo xtask simulate --minutes 10` runs histories until one violates an invariant, and prints
//! its seed. `cargo xtask simulate --seed N` runs that history again and prints its whole log.
//!
//! **What is simulated of the core's bounds:** slots, the queue, quotas, memory, batches, limits, breakers and chunks
//! of adoption are drawn for each instance, and are often tight. A rejected client comes back. An operator parks a
//! service now and then. Other operators look at the sagas of an instance. A history has only a few sagas, which is not
//! enough to measure the rate of turns: `tests/simulation/rush.rs` does that.
//!
//! **The line:** tickets, claims, the door and the quota are in the simulated store. Registrars pause and close the
//! door now and then. Few slots and late answers make lines, and several instances claim from them.
//!
//! **Not simulated:** real time, threads, SQL, the wire. Guards inside the core are removed by a wrapper around it
//! (`replica/broken_core.rs`), so the shipped code has no special case for them.

pub mod broken;
pub mod campaign;
mod clients;
mod disasters;
mod draws;
mod env;
mod fact;
pub mod history;
mod invariants;
mod names;
mod operators;
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
