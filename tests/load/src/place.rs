//! The place of a load test: the database of its processes.

use matricula_harness::{Cluster, System};
use matricula_postgres::Backend;

const ORCHESTRATOR: &str = "orchestrator";
/// The process that serves everything.
const UP: &str = "up";

/// The database of every process.
#[derive(Clone, Copy)]
pub enum Place<'a> {
    /// SQLite files, or databases on the server of the suite.
    Of(Backend),
    /// Databases on a PostgreSQL server for this test.
    On(&'a Cluster),
}

impl Place<'_> {
    /// Starts six processes.
    pub(crate) async fn start(self, settings: &[(&str, String)]) -> System {
        let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        match self {
            Self::Of(backend) => System::separate(backend, &settings).await,
            Self::On(cluster) => System::on_cluster(cluster, &settings).await,
        }
    }

    /// Starts six processes, or on SQLite one that serves everything. Also returns the process of the orchestrator.
    pub(crate) async fn start_or_up(self, settings: &[(&str, String)]) -> (System, &'static str) {
        if matches!(self, Self::Of(Backend::Sqlite)) {
            let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
            return (System::up_with(&["--students", "0"], &settings), UP);
        }
        (self.start(settings).await, ORCHESTRATOR)
    }
}
