//! Four designs for the last seat, measured side by side on the same tables and the same server: a row lock a request,
//! an optimistic version with retry, a lock in Redis, one writer a batch.
//!
//! ```text
//! clients (tasks) ── request a seat ──> a design ──> sections, holds   a new database a cell
//!        └── how long, how often again        after each cell: holds = taken <= capacity, from the tables
//! ```
//!
//! Rates and times are reported and not asserted, because they depend on the machine. The run asserts that no seat was
//! sold twice. `cargo xtask last-seat` runs the long form, the suite a short one.

mod bench;
mod cell;
mod cpu;
mod designs;
mod lapse;
mod lock;
mod redis_server;
mod report;
mod store;

pub use bench::{Bench, Spec};
pub use designs::Kind;
pub use lapse::{Guard, Lapse, Order};
pub use redis_server::RedisServer;
pub use report::{Cell, Report};
