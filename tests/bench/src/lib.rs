//! Measures the release binary, run as users run it.
//!
//! ```text
//! stage: own PostgreSQL server or SQLite files, the processes ◄── load: N students in flight, one process, one thread
//!   └─ snapshot ── repeat ── snapshot ──► figures ──► median of all repeats ──► table, JSON
//! ```
//!
//! Invariants are asserted, and panic: every click has an outcome, every saga finishes, the audit is clean. Speed is
//! reported and not asserted, because it depends on the machine. Compared figures come from one run.

mod campus;
mod figures;
mod fill;
mod floor;
mod load;
mod plan;
mod prefilled;
mod readers;
mod reads;
mod report;
mod scenario;
mod slow;
mod snapshot;
mod stage;
mod tables;
mod targets;

pub use plan::{Layout, Plan};
pub use prefilled::prefilled;
pub use reads::{Looking, reads};
pub use report::{Entry, Report};
pub use scenario::{Kind, play};
