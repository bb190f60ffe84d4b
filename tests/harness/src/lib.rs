//! Starts the real binary in a folder of its own on reserved ports, and ends it even if the test fails.
//!
//! A process is named by its role; further orchestrators on the same database have names of their own.

pub mod campus;
mod client;
mod clock;
mod cluster;
mod former;
mod metrics;
mod process;
mod running;
mod sql;

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, LazyLock, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use matricula_kit::database::Database;
use matricula_postgres::{Backend, test_server};
use tonic::transport::{Channel, Endpoint};

pub use client::{Followed, Portals, is_of_connection, is_retryable, is_settled, retry_delay, submission, submit};
pub use clock::wrong_clock;
pub use cluster::Cluster;
pub use former::Former;
pub use matricula_postgres::{Mode, ReservedPort};
pub use metrics::Metrics;
pub use process::{cpu, cpu_of_server, memory_mib, peak_memory_mib};
pub use running::RunningCommand;
pub use sql::Sql;

/// The binary under test, which cargo has built beside the running test.
static BINARY: LazyLock<PathBuf> = LazyLock::new(|| {
    let test = std::env::current_exe().expect("a running program has a path");
    let name = format!("matricula{}", std::env::consts::EXE_SUFFIX);
    let beside = test.ancestors().skip(1).take(2).map(|folder| folder.join(&name)).find(|path| path.is_file());
    beside.unwrap_or_else(|| panic!("there is no {name} beside {}: build the package matricula", test.display()))
});
/// Longest wait for an event that must happen. It limits a broken build; no test depends on its length.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Between two checks of a fact without a notification.
const LOOK: Duration = Duration::from_millis(5);

/// The address of a process that finds a port itself: it may differ after each start.
const ANY_PORT: &str = "127.0.0.1:0";

/// The six roles, in the order in which they are started.
pub const ROLES: [&str; 6] = ["seats", "enrollments", "academics", "fees", "notifications", "orchestrator"];

/// A running system.
pub struct System {
    folder: tempfile::TempDir,
    /// Processes by role; "up" serves all roles.
    processes: HashMap<&'static str, Process>,
    /// Ports of gRPC by process, the same after a restart.
    ports: HashMap<&'static str, Port>,
    settings: Vec<(String, String)>,
    /// Environment variables of all processes that are no settings.
    environment: Vec<(String, String)>,
}

struct Port {
    address: String,
    _reserved: ReservedPort,
}

struct Process {
    child: Child,
    arguments: Vec<String>,
    /// Its arguments and settings beside those of all processes.
    own_settings: Vec<(String, String)>,
    /// Its environment variables that are no settings.
    environment: Vec<(String, String)>,
    log: Arc<Mutex<Vec<String>>>,
    /// The thread that reads its stderr; `None` when everything is read.
    reader: Option<JoinHandle<()>>,
}

impl Process {
    /// After its end: waits until its log has everything that it wrote.
    fn read_to_end(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader does not panic");
        }
    }
}

/// The URL of a new, empty database on the PostgreSQL test server.
async fn create_postgres() -> String {
    Database::create_on(&test_server()).await.expect("a new database on the test server")
}

impl System {
    /// Everything in one process on SQLite, with no campus.
    pub fn up() -> Self {
        Self::up_with(&["--students", "0"], &[])
    }

    /// The same, with arguments and settings.
    pub fn up_with(arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        Self::up_in(arguments, settings, &[])
    }

    /// The same, with environment variables that are no settings.
    pub fn up_in(arguments: &[&str], settings: &[(&str, &str)], environment: &[(&str, &str)]) -> Self {
        let mut system = Self::new(settings);
        system.environment = own(environment);
        for role in ROLES {
            system.place(role);
        }
        system.set("orchestrator.http_listen", ANY_PORT);
        let arguments = ["up"].iter().chain(arguments).map(|text| (*text).to_owned()).collect();
        system.start("up", arguments, Vec::new(), Vec::new());
        system
    }

    /// Six processes, each with a database of its own.
    pub async fn separate(backend: Backend, settings: &[(&str, &str)]) -> Self {
        Self::separate_in(backend, settings, &[]).await
    }

    /// The same, with environment variables of each process that are no settings.
    pub async fn separate_in(backend: Backend, settings: &[(&str, &str)], environment: &[(&str, &str)]) -> Self {
        let mut system = Self::new(settings);
        system.environment = own(environment);
        if backend == Backend::Postgres {
            for role in ROLES {
                let url = create_postgres().await;
                system.set(&format!("{role}.database_url"), &url);
            }
        }
        system.start_roles();
        system
    }

    /// The same, on a PostgreSQL server for this test, which may break it.
    pub async fn on_cluster(cluster: &Cluster, settings: &[(&str, &str)]) -> Self {
        let mut system = Self::new(settings);
        for role in ROLES {
            let url = cluster.create_database().await;
            system.set(&format!("{role}.database_url"), &url);
        }
        system.start_roles();
        system
    }

    /// The same, each role on the database with this URL, in the order of [`ROLES`].
    pub fn on_databases(urls: [String; 6], settings: &[(&str, &str)]) -> Self {
        Self::on_databases_in(tempfile::tempdir().expect("a temporary folder"), urls, settings)
    }

    /// The same, in an existing folder.
    fn on_databases_in(folder: tempfile::TempDir, urls: [String; 6], settings: &[(&str, &str)]) -> Self {
        let mut system = Self::in_folder(folder, settings);
        for (role, url) in ROLES.iter().zip(&urls) {
            system.set(&format!("{role}.database_url"), url);
        }
        system.start_roles();
        system
    }

    fn start_roles(&mut self) {
        for role in ROLES {
            self.place(role);
            self.set(&format!("{role}.http_listen"), ANY_PORT);
            self.start(role, vec!["serve".to_owned(), role.to_owned()], Vec::new(), Vec::new());
        }
    }

    /// Starts one more orchestrator on the database of the first; the commands still call the first.
    pub fn add_orchestrator(&mut self, name: &'static str) {
        self.add_orchestrator_in(name, &[]);
    }

    /// The same, with environment variables that are no settings.
    pub fn add_orchestrator_in(&mut self, name: &'static str, environment: &[(&str, &str)]) {
        let address = self.reserve(name);
        let ports = [("orchestrator.listen", address.as_str()), ("orchestrator.http_listen", ANY_PORT)];
        let arguments = vec!["serve".to_owned(), "orchestrator".to_owned()];
        self.start(name, arguments, own(&ports), own(environment));
    }

    fn new(settings: &[(&str, &str)]) -> Self {
        Self::in_folder(tempfile::tempdir().expect("a temporary folder"), settings)
    }

    fn in_folder(folder: tempfile::TempDir, settings: &[(&str, &str)]) -> Self {
        let (processes, ports) = (HashMap::new(), HashMap::new());
        Self { folder, processes, ports, settings: own(settings), environment: Vec::new() }
    }

    /// The system's folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Keeps the folder when the system ends; otherwise it is removed.
    pub fn keep_folder(&mut self, keep: bool) {
        self.folder.disable_cleanup(keep);
    }

    /// A setting of one process alone, from its next start on.
    pub fn set_own(&mut self, process: &'static str, name: &str, value: &str) {
        let own = &mut self.processes.get_mut(process).expect("it was started").own_settings;
        own.push((name.to_owned(), value.to_owned()));
    }

    fn set(&mut self, name: &str, value: &str) {
        self.settings.retain(|(known, _)| known != name);
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    fn command(&self) -> Command {
        let mut command = Command::new(BINARY.as_path());
        command.current_dir(self.folder.path());
        let is_heeded = |name: &str| name.starts_with("MATRICULA_") || name.starts_with("OTEL_");
        for (name, _) in std::env::vars().filter(|(name, _)| is_heeded(name)) {
            command.env_remove(name);
        }
        command.envs(self.settings.iter().map(variable)).envs(self.environment.iter().cloned());
        command
    }

    /// Reserves the port of a role, and gives its address to all processes.
    fn place(&mut self, role: &'static str) {
        let address = self.reserve(role);
        self.set(&format!("{role}.listen"), &address);
        let url = format!("http://{address}");
        match role {
            "orchestrator" => self.set("client.orchestrator_url", &url),
            service => self.set(&format!("orchestrator.{service}_url"), &url),
        }
    }

    fn reserve(&mut self, name: &'static str) -> String {
        let reserved = ReservedPort::any().expect("a free port");
        let address = reserved.address().to_string();
        self.ports.insert(name, Port { address: address.clone(), _reserved: reserved });
        address
    }

    /// Starts a process and waits until it serves.
    fn start(
        &mut self,
        name: &'static str,
        arguments: Vec<String>,
        own_settings: Vec<(String, String)>,
        environment: Vec<(String, String)>,
    ) {
        let said = self.launch(name, arguments, own_settings, environment);
        let log = self.processes[name].log.clone();
        // The last printed address: that of the orchestrator in `up`, otherwise that of the role itself.
        let awaited = ROLES.into_iter().find(|role| *role == name).unwrap_or("orchestrator");
        let is_served = |line: String| line.split_once(" gRPC ").is_some_and(|(role, _)| role.trim() == awaited);
        loop {
            let line = said.recv_timeout(PATIENCE).unwrap_or_else(|_| {
                panic!("{name} did not start:\n{}", log.lock().expect("no panic holds it").join("\n"))
            });
            if is_served(line) {
                return;
            }
        }
    }

    /// Starts a process and reads its stderr line by line.
    fn launch(
        &mut self,
        name: &'static str,
        arguments: Vec<String>,
        own_settings: Vec<(String, String)>,
        environment: Vec<(String, String)>,
    ) -> mpsc::Receiver<String> {
        let mut command = self.command();
        command.envs(own_settings.iter().map(variable)).envs(environment.iter().cloned());
        command.args(&arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, said) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let kept = log.clone();
        let mut file = self.log_file(name);
        let reader = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                // The lines are in memory; the file is for people, after the end.
                let _ = writeln!(file, "{line}");
                kept.lock().expect("no panic holds it").push(line.clone());
                let _ = lines.send(line);
            }
        });
        let reader = Some(reader);
        self.processes.insert(name, Process { child, arguments, own_settings, environment, log, reader });
        said
    }

    fn log_file(&self, name: &str) -> File {
        let folder = self.logs();
        std::fs::create_dir_all(&folder).expect("the folder is ours");
        let file = File::options().create(true).append(true).open(folder.join(format!("{name}.log")));
        file.expect("the folder is ours")
    }

    /// The folder with a file of each process's whole output, over all its starts.
    pub fn logs(&self) -> PathBuf {
        self.folder.path().join("logs")
    }

    /// Ends a process with SIGKILL, whatever it is doing.
    pub fn kill(&mut self, name: &'static str) {
        let process = self.processes.get_mut(name).expect("it was started");
        process.child.kill().expect("it can be killed");
        process.child.wait().expect("it has ended");
        process.read_to_end();
    }

    /// Starts a killed process again, at the same addresses.
    pub fn restart(&mut self, name: &'static str) {
        let process = self.processes.remove(name).expect("it was started");
        self.start(name, process.arguments, process.own_settings, process.environment);
    }

    /// The same, without waiting until it serves: it may end at once, because something that it needs is away.
    pub fn relaunch(&mut self, name: &'static str) {
        let process = self.processes.remove(name).expect("it was started");
        self.launch(name, process.arguments, process.own_settings, process.environment);
    }

    /// Whether a process has ended, killed or by itself.
    pub fn has_ended(&mut self, name: &'static str) -> bool {
        self.status(name).is_some()
    }

    /// How a process has ended, if it has; then its log is complete.
    fn status(&mut self, name: &'static str) -> Option<ExitStatus> {
        let process = self.processes.get_mut(name).expect("it was started");
        let status = process.child.try_wait().expect("it is our child");
        if status.is_some() {
            process.read_to_end();
        }
        status
    }

    /// Stops a process with SIGSTOP: it lives, holds its connections, and does nothing.
    pub fn pause(&self, name: &'static str) {
        self.signal(name, "-STOP");
    }

    /// Continues a stopped process.
    pub fn resume(&self, name: &'static str) {
        self.signal(name, "-CONT");
    }

    /// Sends a signal, such as `-TERM`, and does not wait for its effect.
    pub fn signal(&self, name: &'static str, signal: &str) {
        let process = self.processes.get(name).expect("it was started");
        let sent = Command::new("kill").arg(signal).arg(process.child.id().to_string()).status();
        assert!(sent.expect("kill runs").success(), "{name} does not run any more");
    }

    /// The stderr of a process since its last start: complete when it has ended, otherwise what is read so far.
    pub fn log(&self, name: &'static str) -> Vec<String> {
        self.processes[name].log.lock().expect("no panic holds it").clone()
    }

    /// The process id of a process.
    pub fn pid(&self, name: &'static str) -> u32 {
        self.processes[name].child.id()
    }

    /// The address of a process's `/metrics`, which it prints just after its gRPC address.
    pub fn http_address(&self, name: &'static str) -> String {
        let give_up_at = Instant::now() + PATIENCE;
        loop {
            let log = self.log(name);
            let printed = log.iter().find_map(|line| line.trim().strip_prefix("http://")?.split_once("/metrics"));
            if let Some((address, _)) = printed {
                return address.to_owned();
            }
            assert!(Instant::now() < give_up_at, "{name} serves no HTTP:\n{}", log.join("\n"));
            std::thread::sleep(LOOK);
        }
    }

    /// The exit code of a process that ends by itself; waits for it.
    pub fn ended(&mut self, name: &'static str) -> Option<i32> {
        let give_up_at = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.status(name) {
                return status.code();
            }
            assert!(Instant::now() < give_up_at, "{name} does not end");
            std::thread::sleep(LOOK);
        }
    }

    /// The commands talk to this orchestrator from now on.
    pub fn ask(&mut self, name: &'static str) {
        self.set("client.orchestrator_url", &format!("http://{}", self.ports[name].address));
    }

    /// Ends a process with SIGTERM, and returns its exit code.
    pub fn terminate(&mut self, name: &'static str) -> Option<i32> {
        self.signal(name, "-TERM");
        self.ended(name)
    }

    /// A command of the binary that has the system's addresses, for the test to run.
    pub fn matricula(&self) -> Command {
        self.command()
    }

    /// Runs a command of the binary against the system.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).stdin(Stdio::null()).output().expect("the binary runs")
    }

    /// Runs a command that must succeed, and returns its stdout.
    #[track_caller]
    pub fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "matricula {}: {}\n{stdout}\n{}",
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr),
        );
        stdout
    }

    /// Starts a command and does not wait for its end.
    pub fn spawn(&self, arguments: &[&str]) -> RunningCommand {
        let mut command = self.command();
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the binary starts").into()
    }

    /// Imports a bundle, also when it closes what an earlier one brought.
    #[track_caller]
    pub fn import(&self, bundle: &matricula_campus::Bundle) -> PathBuf {
        let folder = self.folder.path().join("bundle");
        matricula_campus::write(bundle, &folder).expect("the bundle is written");
        self.done(&["import", &folder.display().to_string(), "--yes"]);
        folder
    }

    /// The audit must be clean.
    #[track_caller]
    pub fn audit(&self) {
        self.done(&["audit"]);
    }

    /// The URL of a role's database.
    pub fn database_url(&self, role: &str) -> String {
        let name = format!("{role}.database_url");
        let set = self.settings.iter().find(|(known, _)| *known == name).map(|(_, url)| url.clone());
        set.unwrap_or_else(|| format!("sqlite:{}/matricula-data/{role}.db", self.folder.path().display()))
    }

    /// The gRPC address of a process.
    pub fn address(&self, name: &str) -> &str {
        &self.ports[name].address
    }

    /// A new connection to a process.
    pub async fn channel(&self, name: &str) -> Channel {
        let url = format!("http://{}", self.address(name));
        Endpoint::from_shared(url).expect("a URL").connect().await.expect("the role answers")
    }
}

impl Drop for System {
    fn drop(&mut self) {
        for process in self.processes.values_mut() {
            let _ = process.child.kill();
            let _ = process.child.wait();
            let _ = process.reader.take().map(JoinHandle::join);
        }
        if std::thread::panicking() {
            for (name, process) in &self.processes {
                let log = process.log.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                let tail = log.len().saturating_sub(30);
                eprintln!("--- the last of {name} ---\n{}", log[tail..].join("\n"));
            }
        }
    }
}

/// Pairs that outlive the caller's.
fn own(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A setting as a variable of the environment.
fn variable((name, value): &(String, String)) -> (String, String) {
    (format!("MATRICULA_{}", name.to_uppercase().replace('.', "__")), value.clone())
}
