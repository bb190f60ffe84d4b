//! The running system: its processes, its databases, and the connections to it.

use std::sync::Arc;
use std::time::Duration;

use matricula_campus::Bundle;
use matricula_harness::{Cluster, PATIENCE, Portals, ROLES, System, is_settled};

use crate::plan::Layout;
use crate::slow::SlowConnection;

/// The process that serves everything.
const UP: &str = "up";
/// Replicas of the orchestrator.
const ORCHESTRATORS: [&str; 3] = ["orchestrator", "orchestrator-2", "orchestrator-3"];
/// One more, for readers.
const READER: &str = "orchestrator-for-reads";
/// Connections of the students to each orchestrator: a few, as a portal has.
const CONNECTIONS: usize = 4;
/// Between two checks whether all sagas are finished.
const LOOK: Duration = Duration::from_millis(20);

/// A system that runs until this is dropped.
pub(crate) struct Stage {
    pub(crate) system: System,
    pub(crate) cluster: Option<Cluster>,
    /// The processes, by name.
    pub(crate) processes: Vec<&'static str>,
    orchestrators: &'static [&'static str],
    /// The delaying proxies, as long as the system runs.
    slow: Vec<SlowConnection>,
}

/// The orchestrator of the readers.
pub(crate) struct LookedAt {
    pub(crate) addresses: Vec<String>,
    /// The process at the first address.
    pub(crate) pid: u32,
}

impl Stage {
    /// Starts all processes, without a campus.
    pub(crate) async fn start(layout: Layout, settings: &[(&str, &str)]) -> Self {
        match layout {
            Layout::OneProcess => Self {
                system: System::up_with(&["--students", "0"], settings),
                cluster: None,
                slow: Vec::new(),
                processes: vec![UP],
                orchestrators: &ORCHESTRATORS[..1],
            },
            Layout::Separate { orchestrators } => {
                let cluster = Cluster::durable().by_socket();
                let mut system = System::on_cluster(&cluster, settings).await;
                let orchestrators = &ORCHESTRATORS[..orchestrators];
                for name in &orchestrators[1..] {
                    system.add_orchestrator(name);
                }
                let processes = ROLES.iter().chain(&orchestrators[1..]).copied().collect();
                Self { system, cluster: Some(cluster), processes, orchestrators, slow: Vec::new() }
            }
        }
    }

    /// Imports a campus.
    pub(crate) fn import(&self, bundle: &Bundle) {
        self.system.import(bundle);
    }

    /// Makes a service slow for the orchestrators, by this much a call, or up to twice as much. Not possible in one
    /// process.
    pub(crate) fn slow_down(&mut self, service: &str, by: Duration) {
        let connection = SlowConnection::to(self.system.address(service), by);
        for orchestrator in self.orchestrators {
            self.system.set_own(orchestrator, &format!("orchestrator.{service}_url"), connection.url());
            self.system.terminate(orchestrator);
            self.system.restart(orchestrator);
        }
        self.slow.push(connection);
    }

    /// The orchestrators that get submissions.
    pub(crate) fn registering(&self) -> LookedAt {
        let addresses = self.orchestrators.iter().map(|name| self.system.address(name).to_owned()).collect();
        let process = if self.cluster.is_some() { ORCHESTRATORS[0] } else { UP };
        LookedAt { addresses, pid: self.system.pid(process) }
    }

    /// Starts an orchestrator that gets no submissions.
    pub(crate) fn start_reader(&mut self) -> LookedAt {
        self.system.add_orchestrator(READER);
        LookedAt { addresses: vec![self.system.address(READER).to_owned()], pid: self.system.pid(READER) }
    }

    /// The students' connections to the orchestrators.
    pub(crate) fn portals(&self) -> Arc<Portals> {
        let addresses = self.orchestrators.iter().map(|name| self.system.address(name));
        let number = self.orchestrators.len() * CONNECTIONS;
        Arc::new(Portals::at(addresses.cycle().take(number)))
    }

    /// Waits until no saga is unfinished.
    ///
    /// # Panics
    /// When sagas stay unfinished for too long.
    pub(crate) async fn settled(&self) {
        let portal = self.system.channel(ORCHESTRATORS[0]).await;
        let settling = async {
            while !is_settled(&portal).await {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(PATIENCE, settling).await.expect("every saga finishes");
    }
}
