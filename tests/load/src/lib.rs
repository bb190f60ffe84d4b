//! Load tests of flow control, against the real binary as separate processes: what happens at a start with a large
//! backlog, under ten times the load that the system can take, and with a long waiting line.
//!
//! Each is a function of its size: the suite runs a short form, `cargo xtask load` the long one. What must hold is
//! asserted and panics; times are told and not judged, because they belong to the machine.

mod ledger;
pub mod line;
mod place;
pub mod spike;
mod table;
pub mod unfinished;

pub use place::Place;
pub use table::Table;
