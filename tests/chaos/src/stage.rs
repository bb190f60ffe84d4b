//! The system under faults: its processes, the proxies before them, its PostgreSQL server; the current faults and their
//! ends; and the restarts of ended processes.
//!
//! ```text
//! rush ──► proxy ──► orchestrator ─┬─► proxy ──► seats
//!          (one for each)          ├─► proxy ──► enrollments ...      all ──► a PostgreSQL server of its own
//! audit, saga list ────────────────┴──────────── directly to each
//! ```

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use matricula_harness::{Cluster, Mode, System};
use matricula_postgres::Backend;
use tokio::task::JoinHandle;

use crate::proxy::{Fault, Proxy};
use crate::report::UNEXPLAINED;
use crate::schedule::{Act, Postgres, Process, Shape, Tempo};

/// The five services.
const SERVICES: [&str; 5] = ["seats", "enrollments", "academics", "fees", "notifications"];
/// The orchestrators: three replicas on PostgreSQL; SQLite belongs to one process.
const ORCHESTRATORS: [&str; 3] = ["orchestrator", "orchestrator-2", "orchestrator-3"];
/// A process that has ended by itself is restarted after this time, as a supervisor would do.
const START_AGAIN: Duration = Duration::from_millis(300);
/// The log message of an orchestrator whose sagas were adopted while it was stopped.
const FENCED: &str = "its sagas were given to another";

/// The running system, and its current faults.
pub struct Stage {
    /// The processes.
    pub system: System,
    cluster: Option<Arc<Cluster>>,
    links: Vec<Link>,
    orchestrators: &'static [&'static str],
    start_at: HashMap<&'static str, Instant>,
    /// Processes among them that were not killed. The reason of their end is read when their output is complete.
    ended_alone: HashSet<&'static str>,
    resume_at: HashMap<&'static str, Instant>,
    postgres: Option<JoinHandle<()>>,
    /// Faults by kind.
    pub faults: BTreeMap<String, u64>,
    /// Processes that ended without being killed, by reason.
    pub ended: BTreeMap<String, u64>,
}

struct Link {
    behind: &'static str,
    proxy: Proxy,
    heal_at: Option<Instant>,
}

impl Stage {
    /// Starts all processes, without faults.
    ///
    /// # Errors
    /// When no port is free for a proxy. A process that does not start panics, with its log.
    pub async fn start(database: Backend, tempo: &Tempo) -> anyhow::Result<Self> {
        let lease_ttl_ms = tempo.lease_ttl_ms.to_string();
        let settings = [("orchestrator.runtime.lease_ttl_ms", lease_ttl_ms.as_str())];
        let (cluster, system, replicas) = match database {
            Backend::Sqlite => (None, System::separate(database, &settings).await, 1),
            Backend::Postgres => {
                let cluster = Cluster::start();
                let system = System::on_cluster(&cluster, &settings).await;
                (Some(Arc::new(cluster)), system, ORCHESTRATORS.len())
            }
        };
        let mut stage = Self {
            system,
            cluster,
            links: Vec::new(),
            orchestrators: &ORCHESTRATORS[..replicas],
            start_at: HashMap::new(),
            ended_alone: HashSet::new(),
            resume_at: HashMap::new(),
            postgres: None,
            faults: BTreeMap::new(),
            ended: BTreeMap::new(),
        };
        stage.system.keep_folder(true);
        for service in SERVICES {
            stage.link(service).await?;
        }
        for name in stage.orchestrators {
            if *name != ORCHESTRATORS[0] {
                stage.system.add_orchestrator(name);
            }
            stage.send_through_proxies(name);
            stage.link(name).await?;
        }
        Ok(stage)
    }

    async fn link(&mut self, behind: &'static str) -> anyhow::Result<()> {
        let server = self.system.address(behind).parse().context("a process prints its address")?;
        let proxy = Proxy::start(server).await.context("no port is free for a proxy")?;
        self.links.push(Link { behind, proxy, heal_at: None });
        Ok(())
    }

    /// Makes an orchestrator reach the services through the proxies; the commands still reach them directly.
    fn send_through_proxies(&mut self, orchestrator: &'static str) {
        for link in &self.links[..SERVICES.len()] {
            let url = format!("http://{}", link.proxy.address());
            self.system.set_own(orchestrator, &format!("orchestrator.{}_url", link.behind), &url);
        }
        self.system.kill(orchestrator);
        self.system.restart(orchestrator);
    }

    /// The targets of faults.
    pub fn shape(&self) -> Shape {
        Shape {
            services: SERVICES.len(),
            orchestrators: self.orchestrators.len(),
            links: self.links.len(),
            postgres: self.cluster.is_some(),
        }
    }

    /// The orchestrators.
    pub fn orchestrators(&self) -> &'static [&'static str] {
        self.orchestrators
    }

    /// The clients' addresses of the orchestrators: the proxies.
    pub fn portals(&self) -> Vec<String> {
        self.links[SERVICES.len()..].iter().map(|link| format!("http://{}", link.proxy.address())).collect()
    }

    /// Injects a fault. If the target has a fault already, its neighbour gets it.
    pub fn apply(&mut self, act: Act, now: Instant) {
        match act {
            Act::Kill { process, down } => {
                let Some(name) = self.choose(process, |stage, name| !stage.start_at.contains_key(name)) else { return };
                self.system.kill(name);
                self.resume_at.remove(name);
                self.start_at.insert(name, now + down);
                self.count(format!("kill -9: {}", kind(process)));
            }
            Act::Pause { process, length } => {
                let runs = |stage: &mut Self, name| {
                    let is_taken = stage.start_at.contains_key(name) || stage.resume_at.contains_key(name);
                    !is_taken && !stage.system.has_ended(name)
                };
                let Some(name) = self.choose(process, runs) else { return };
                self.system.pause(name);
                self.resume_at.insert(name, now + length);
                self.count(format!("pause: {}", kind(process)));
            }
            Act::Network { link, fault, length } => {
                let count = self.links.len();
                let whole = (link..link + count).map(|at| at % count).find(|at| self.links[*at].heal_at.is_none());
                let Some(link) = whole.map(|at| &mut self.links[at]) else { return };
                link.proxy.set(fault);
                link.heal_at = Some(now + length);
                self.count(format!("network: {}", fault.name()));
            }
            Act::Postgres(act) => self.break_postgres(act),
        }
    }

    fn choose(
        &mut self,
        process: Process,
        mut may: impl FnMut(&mut Self, &'static str) -> bool,
    ) -> Option<&'static str> {
        let (names, first): (&[&'static str], usize) = match process {
            Process::Service(at) => (&SERVICES, at),
            Process::Orchestrator(at) => (self.orchestrators, at),
        };
        (first..first + names.len()).map(|at| names[at % names.len()]).find(|name| may(self, name))
    }

    fn break_postgres(&mut self, act: Postgres) {
        let Some(cluster) = self.cluster.clone() else { return };
        if self.postgres.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let what = match act {
            Postgres::RestartFast => "restart",
            Postgres::RestartImmediate => "crash",
            Postgres::RestartTwice(_) => "crash, again while all recover",
            Postgres::ReadOnly(_) => "read-only",
            Postgres::CutConnections => "connections closed",
        };
        self.count(format!("postgres: {what}"));
        self.postgres = Some(tokio::spawn(async move {
            match act {
                Postgres::RestartFast => restart(cluster, Mode::Fast).await,
                Postgres::RestartImmediate => restart(cluster, Mode::Immediate).await,
                Postgres::RestartTwice(pause) => {
                    restart(cluster.clone(), Mode::Immediate).await;
                    tokio::time::sleep(pause).await;
                    restart(cluster, Mode::Immediate).await;
                }
                Postgres::ReadOnly(length) => {
                    cluster.set_read_only(true).await;
                    tokio::time::sleep(length).await;
                    cluster.set_read_only(false).await;
                }
                Postgres::CutConnections => cluster.cut_connections().await,
            }
        }));
    }

    /// Ends faults that have lasted long enough, and restarts ended processes.
    pub fn tick(&mut self, now: Instant) {
        for name in due(&mut self.start_at, now) {
            if self.ended_alone.remove(name) {
                *self.ended.entry(self.why_ended(name)).or_default() += 1;
            }
            self.system.relaunch(name);
        }
        for name in due(&mut self.resume_at, now) {
            self.system.resume(name);
        }
        for link in &mut self.links {
            if link.heal_at.is_some_and(|moment| moment <= now) {
                link.proxy.set(Fault::None);
                link.heal_at = None;
            }
        }
        for name in SERVICES.iter().chain(self.orchestrators) {
            if !self.start_at.contains_key(name) && self.system.has_ended(name) {
                self.ended_alone.insert(name);
                self.start_at.insert(name, now + START_AGAIN);
            }
        }
    }

    fn why_ended(&self, name: &'static str) -> String {
        let log = self.system.log(name);
        let last = log.last().map(String::as_str).unwrap_or_default();
        if log.iter().any(|line| line.contains(FENCED)) {
            "orchestrators that others had given up".to_owned()
        } else if last.starts_with("error: ") && !last.contains("can't listen") && self.cluster.is_some() {
            "starts while PostgreSQL was away".to_owned()
        } else {
            format!("{UNEXPLAINED}: {name}: {last}")
        }
    }

    /// Ends every fault, and starts every process. A process that has just ended by itself is restarted by later ticks.
    ///
    /// # Errors
    /// When the PostgreSQL server did not start or stop.
    pub async fn heal(&mut self) -> anyhow::Result<()> {
        if let Some(task) = self.postgres.take() {
            task.await.context("the PostgreSQL server did not restart or change its mode")?;
        }
        let now = Instant::now();
        let killed = self.start_at.iter_mut().filter(|(name, _)| !self.ended_alone.contains(*name));
        killed.for_each(|(_, moment)| *moment = now);
        self.resume_at.values_mut().for_each(|moment| *moment = now);
        self.links.iter_mut().for_each(|link| link.heal_at = Some(now));
        self.tick(now);
        Ok(())
    }

    fn count(&mut self, what: String) {
        *self.faults.entry(what).or_default() += 1;
    }
}

async fn restart(cluster: Arc<Cluster>, mode: Mode) {
    let restarting = tokio::task::spawn_blocking(move || cluster.restart(mode));
    restarting.await.expect("the server restarts");
}

/// Takes out the items whose moment has come.
fn due(moments: &mut HashMap<&'static str, Instant>, now: Instant) -> Vec<&'static str> {
    let due: Vec<&'static str> = moments.iter().filter(|(_, moment)| **moment <= now).map(|(name, _)| *name).collect();
    for name in &due {
        moments.remove(name);
    }
    due
}

fn kind(process: Process) -> &'static str {
    match process {
        Process::Service(_) => "a service",
        Process::Orchestrator(_) => "an orchestrator",
    }
}
