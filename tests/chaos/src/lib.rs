//! Breaks a running system from a seed, heals it, and proves that nothing was lost.
//!
//! ```text
//! schedule (seed) ─► run ─► stage: processes, proxies, PostgreSQL ◄─ load: rush
//!                     └─► heal ─► facts: every click answered, every saga finished ─► audit ─► report
//! ```
//!
//! The real binary runs as separate processes. The faults are those of machines and networks. At the end of a run all
//! faults are off. It waits for facts and never for a fixed time, and the system's own `audit` decides.

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
