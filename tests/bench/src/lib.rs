//! Measures the released binary as people run it, and says what it costs.
//!
//! ```text
//! stage: own PostgreSQL server or SQLite files, the processes ◄── load: N students in flight, one process, one thread
//!   └─ snapshot ── repeat ── snapshot ──► figures ──► median of all repeats ──► table, JSON
//! ```
//!
//! What must hold is asserted and panics: every click has an outcome, every saga finishes, the audit is clean. Speed is
//! told and not judged, because it belongs to the machine; what is compared is compared within one run.

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
