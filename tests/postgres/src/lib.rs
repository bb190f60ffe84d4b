//! Throw-away PostgreSQL clusters for tests: found, started, restarted, stopped, and gone with the process that made them.

mod binaries;
mod cluster;
mod user;

pub use binaries::find as find_binaries;
pub use cluster::{Cluster, Mode};
pub use user::is_root;
