//! A PostgreSQL server for one test, which can restart it, stop it or make it read-only under a running system. It ends
//! with the test, even if the test fails.

use std::time::{Duration, Instant};

use matricula_kit::database::{Args, Database};
use matricula_postgres::Mode;

use crate::PATIENCE;

const IS_READ_ONLY: &str = "SELECT current_setting('default_transaction_read_only') AS value";
/// Every connection except the one that runs the query.
const TERMINATE: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
/// Time between two checks of a server that is changing.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A running server.
pub struct Cluster {
    cluster: matricula_postgres::Cluster,
    url: String,
}

impl Cluster {
    /// Makes a cluster and starts it.
    ///
    /// # Panics
    /// When the server's binaries are not here, or when it does not start.
    pub fn start() -> Self {
        let started = Self::durable();
        // The server is killed, but the machine is not: everything written survives without a sync. A start after a
        // kill would first sync every file of every database.
        started.set("fsync", "off");
        started.cluster.reload().expect("the server reads its settings");
        started
    }

    /// The same, with a server that syncs its commits: for measurements.
    ///
    /// # Panics
    /// When the server's binaries are not here, or when it does not start.
    pub fn durable() -> Self {
        let binaries = matricula_postgres::find_binaries();
        let binaries = binaries.expect("PostgreSQL's server binaries are here: `cargo xtask test` installs them");
        let cluster = matricula_postgres::Cluster::start(&binaries).expect("the server starts");
        let url = cluster.url().to_owned();
        Self { cluster, url }
    }

    /// The same, reached through its Unix socket.
    pub fn by_socket(self) -> Self {
        Self { url: self.cluster.socket_url(), ..self }
    }

    /// The server's URL, without a database.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The server's process id; its children serve the connections.
    pub fn pid(&self) -> u32 {
        self.cluster.pid().expect("a running server tells its number")
    }

    /// The URL of a new, empty database.
    pub async fn create_database(&self) -> String {
        Database::create_on(self.url()).await.expect("a new database")
    }

    /// Stops the server and starts it again at once; returns when it takes connections.
    #[track_caller]
    pub fn restart(&self, mode: Mode) {
        self.cluster.restart(mode).expect("the server restarts");
    }

    /// Stops the server.
    #[track_caller]
    pub fn stop(&self, mode: Mode) {
        self.cluster.stop(mode).expect("the server stops");
    }

    /// Starts a stopped server; returns when it takes connections.
    #[track_caller]
    pub fn start_again(&self) {
        self.cluster.start_again().expect("the server starts again");
    }

    /// Sets a setting for the next start, such as `max_connections`.
    #[track_caller]
    pub fn set(&self, name: &str, value: &str) {
        self.cluster.set(name, value).expect("the settings can be written");
    }

    /// Makes the server refuse every write, as a primary that has become a standby, or accept writes again. Every
    /// connection is closed, as in a switchover.
    pub async fn set_read_only(&self, read_only: bool) {
        let value = if read_only { "on" } else { "off" };
        self.set("default_transaction_read_only", value);
        self.cluster.reload().expect("the server reads its settings");
        let begun = Instant::now();
        loop {
            let admin = self.admin().await;
            let rows = admin.fetch(IS_READ_ONLY, Args::new()).await.expect("the server answers");
            if rows[0].text("value").expect("a setting is a text") == value {
                admin.fetch(TERMINATE, Args::new()).await.expect("connections can be closed");
                return admin.close().await;
            }
            admin.close().await;
            assert!(begun.elapsed() < PATIENCE, "the server does not read its settings");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Closes every connection of every client.
    pub async fn cut_connections(&self) {
        let admin = self.admin().await;
        admin.fetch(TERMINATE, Args::new()).await.expect("connections can be closed");
        admin.close().await;
    }

    /// The last lines of the server's log.
    pub fn log_tail(&self, lines: usize) -> String {
        self.cluster.log_tail(lines)
    }

    async fn admin(&self) -> Database {
        Database::open(&format!("{}/postgres", self.url())).await.expect("the server takes connections")
    }
}
