//! Breaks a running system from a seed, heals it, and proves that nothing was lost.
//!
//! ```text
//! schedule (seed) ─► run ─► stage: processes, proxies, PostgreSQL ◄─ load: rush
//!                     └─► heal ─► facts: every click answered, every saga finished ─► audit ─► report
//! ```
//!
//! The real binary runs as separate processes; what is done to them is what machines and networks do. A run ends with
//! all faults off, waits for facts and never for time, and lets the system's own `audit` judge.

mod live;
mod load;
pub mod proxy;
mod report;
mod run;
mod schedule;
mod signs;
mod stage;

pub use live::Live;
pub use report::Report;
pub use run::{Plan, run};
pub use schedule::Tempo;
