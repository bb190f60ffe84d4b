//! Throw-away PostgreSQL clusters, and poolers in front of them, for tests: found, started, restarted, stopped, and
//! ended with their process. The ports of such servers are reserved.

mod binaries;
mod cluster;
mod database;
mod pgbouncer;
mod port;
mod user;

pub use binaries::find as find_binaries;
pub use cluster::{Cluster, Mode};
pub use database::{BACKENDS, Backend, POSTGRES_URL, test_server};
pub use pgbouncer::PgBouncer;
pub use port::ReservedPort;
pub use user::is_root;
