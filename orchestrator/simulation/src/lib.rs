//! Whole histories of sagas under faults, thousands a second, each from one seed.
//!
//! A history is a small world in one thread. In it runs the shipped [`matricula_core::Core`], the same code as in
//! `orchestrator/runtime`, in two or three replicas. Around it are a store in memory with the contract of the real one,
//! services behind barriers, clients, operators, a network and clocks. Everything that happens is an event of one
//! queue. Everything that is open (which message is late or lost, which process crashes when) is drawn from the seed,
//! keyed by what it is for. So a seed gives the same history in every run, and a core that does things in another order
//! meets the same faults.
//!
//! ```text
//!   clients ──asks──► replicas (2 or 3, each its own clock) ──transactions──► store: leases, marks, logs, group commit
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
//! | `draws` | what a seed has for each purpose |
//! | `disasters`, `weather` | what goes wrong: large faults and when, small ones and how often |
//! | `replica` | a process with the core in it and a shell around it, which carries what goes in and out |
//! | `store` | leases, the mark `dead`, the line, appends with a sequence, group commit, lost tails, refused rows |
//! | `participants` | the barrier, and ledgers with few seats |
//! | `clients` | keys asked for again and again, cancels |
//! | `operators` | retry, skip, resolve, abandon, cancel, at the owner of a saga or at an instance that was its owner |
//! | `fact`, `witness`, `invariants` | what happened, what is durable, what must hold: one invariant a file |
//! | [`history`], [`campaign`] | one history, many |
//! | [`broken`] | guards that can be taken out, to see that the invariants find it |
//!
//! **To find a fault:** `cargo xtask simulate --minutes 10` runs histories until one violates an invariant, and prints
//! its seed; `cargo xtask simulate --seed N` runs that one again and writes down all that happens in it.
//!
//! **What is simulated of the core's bounds:** slots, the queue, quotas, memory, batches, limits, breakers and chunks
//! of adoption are drawn for each instance, and are often tight. A rejected client comes back. An operator parks a
//! service now and then. Other operators look at what an instance shows of its sagas. A history has a handful of sagas,
//! so the core measures how fast turns come in none of them: `tests/simulation/rush.rs` does.
//!
//! **The line:** tickets, claims, the door and the quota are in the simulated store. Registrars pause and close the
//! door now and then. Few slots and late answers make lines, and several instances claim from them.
//!
//! **What is not here:** real time, threads, SQL, the wire. Guards inside the core are taken out by a wrapper around it
//! (`replica/broken_core.rs`), so the shipped code has no case for them.

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
