//! Load tests of admission and the waiting line, against the real binary as separate processes: a start with a large
//! backlog, ten times the load that the system can take, and a long waiting line.
//!
//! Each test is a function of its size: the suite runs a short form, `cargo xtask load` the long one. Invariants are
//! asserted and panic; times are reported and not asserted, because they depend on the machine.

mod ledger;
pub mod line;
mod place;
pub mod spike;
mod table;
pub mod unfinished;

pub use place::Place;
pub use table::Table;
