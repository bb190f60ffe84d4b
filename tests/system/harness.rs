//! Starts the real binary in a folder of its own on free ports, and ends it whatever happens to the test.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use matricula_kit::testing::{Backend, create_postgres};
use matricula_proto::registration::v1::registration_service_client::RegistrationServiceClient;
use matricula_proto::registration::v1::{Registration, SubmitRegistrationRequest, SubmitRegistrationResponse};
use tonic::transport::{Channel, Endpoint};

/// The binary under test.
const BINARY: &str = env!("CARGO_BIN_EXE_matricula");
/// Longest wait for something that must happen: a bound for a broken build, not a time that a test depends on.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The six roles, in the order in which they are started.
pub const ROLES: [&str; 6] = ["seats", "enrollments", "academics", "fees", "notifications", "orchestrator"];

/// A running system.
pub struct System {
    folder: tempfile::TempDir,
    /// Processes by what they serve; "up" serves everything.
    processes: HashMap<&'static str, Process>,
    /// Addresses by role, the same after a restart.
    addresses: HashMap<&'static str, String>,
    settings: Vec<(String, String)>,
}

struct Process {
    child: Child,
    arguments: Vec<String>,
    log: Arc<Mutex<Vec<String>>>,
}

impl System {
    /// Everything in one process on SQLite, with no campus.
    pub fn up() -> Self {
        Self::up_with(&["--students", "0"], &[])
    }

    /// The same, with arguments and settings.
    pub fn up_with(arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        let mut system = Self::new(settings);
        for role in ROLES {
            system.set(&format!("{role}.listen"), "127.0.0.1:0");
        }
        system.set("orchestrator.http_listen", "127.0.0.1:0");
        let arguments = ["up"].iter().chain(arguments).map(|text| (*text).to_owned()).collect();
        system.start("up", arguments);
        system
    }

    /// Six processes, each with a database of its own.
    pub async fn separate(backend: Backend, settings: &[(&str, &str)]) -> Self {
        let mut system = Self::new(settings);
        for role in ROLES {
            if backend == Backend::Postgres {
                let url = create_postgres().await;
                system.set(&format!("{role}.database_url"), &url);
            }
            system.set(&format!("{role}.listen"), "127.0.0.1:0");
            system.set(&format!("{role}.http_listen"), "127.0.0.1:0");
            system.start(role, vec!["serve".to_owned(), role.to_owned()]);
        }
        system
    }

    fn new(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { folder, processes: HashMap::new(), addresses: HashMap::new(), settings }
    }

    /// The system's folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn set(&mut self, name: &str, value: &str) {
        self.settings.retain(|(known, _)| known != name);
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    fn command(&self) -> Command {
        let mut command = Command::new(BINARY);
        command.current_dir(self.folder.path());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("MATRICULA_")) {
            command.env_remove(name);
        }
        for (name, value) in &self.settings {
            command.env(format!("MATRICULA_{}", name.to_uppercase().replace('.', "__")), value);
        }
        command
    }

    fn start(&mut self, name: &'static str, arguments: Vec<String>) {
        let mut command = self.command();
        command.args(&arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, said) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let kept = log.clone();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                kept.lock().expect("no panic holds it").push(line.clone());
                let _ = lines.send(line);
            }
        });
        self.processes.insert(name, Process { child, arguments, log: log.clone() });
        // The last address that is printed: of the orchestrator in `up`, of the role itself else.
        let awaited = if name == "up" { "orchestrator" } else { name };
        loop {
            let line = said.recv_timeout(PATIENCE).unwrap_or_else(|_| {
                panic!("{name} did not start:\n{}", log.lock().expect("no panic holds it").join("\n"))
            });
            let Some((role, address)) = line.split_once(" gRPC ") else { continue };
            let Some(role) = ROLES.into_iter().find(|known| *known == role.trim()) else { continue };
            self.addresses.insert(role, address.to_owned());
            self.set(&format!("{role}.listen"), address);
            let url = format!("http://{address}");
            match role {
                "orchestrator" => self.set("client.orchestrator_url", &url),
                service => self.set(&format!("orchestrator.{service}_url"), &url),
            }
            if role == awaited {
                return;
            }
        }
    }

    /// Ends a process with SIGKILL, in the middle of whatever it does.
    pub fn kill(&mut self, name: &'static str) {
        let process = self.processes.get_mut(name).expect("it was started");
        process.child.kill().expect("it can be killed");
        process.child.wait().expect("it has ended");
    }

    /// Starts a killed process again, at the same addresses.
    pub fn restart(&mut self, name: &'static str) {
        let process = self.processes.remove(name).expect("it was started");
        self.start(name, process.arguments.clone());
    }

    /// Asks a process to end with SIGTERM, and returns its exit code.
    pub fn terminate(&mut self, name: &'static str) -> Option<i32> {
        let process = self.processes.get_mut(name).expect("it was started");
        let killed = Command::new("kill").arg("-TERM").arg(process.child.id().to_string()).status();
        assert!(killed.expect("kill runs").success());
        process.child.wait().expect("it has ended").code()
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

    /// Starts a command and leaves it running.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = self.command();
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the binary starts")
    }

    /// Imports a bundle.
    #[track_caller]
    pub fn import(&self, bundle: &matricula_campus::Bundle) -> PathBuf {
        let folder = self.folder.path().join("bundle");
        matricula_campus::write(bundle, &folder).expect("the bundle is written");
        self.done(&["import", &folder.display().to_string()]);
        folder
    }

    /// The audit must find every invariant kept.
    #[track_caller]
    pub fn audit(&self) {
        self.done(&["audit"]);
    }

    /// Where a role serves gRPC.
    pub fn address(&self, role: &str) -> &str {
        &self.addresses[role]
    }

    /// A new connection to a role.
    pub async fn channel(&self, role: &str) -> Channel {
        let url = format!("http://{}", self.address(role));
        Endpoint::from_shared(url).expect("a URL").connect().await.expect("the role answers")
    }
}

impl Drop for System {
    fn drop(&mut self) {
        for process in self.processes.values_mut() {
            let _ = process.child.kill();
            let _ = process.child.wait();
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

/// A submission that waits for its outcome.
pub fn submission(student: &str, key: &str, adds: &[&str], drops: &[&str]) -> SubmitRegistrationRequest {
    let own = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
    SubmitRegistrationRequest {
        idempotency_key: key.to_owned(),
        student_id: student.to_owned(),
        adds: own(adds),
        drops: own(drops),
        seen_versions: Vec::new(),
        wait_ms: 30_000,
    }
}

/// Submits and waits for the outcome.
pub async fn submit(channel: &Channel, request: SubmitRegistrationRequest) -> Registration {
    let mut client = RegistrationServiceClient::new(channel.clone());
    let answer = client.submit_registration(request).await.expect("the submission is accepted");
    let SubmitRegistrationResponse { registration } = answer.into_inner();
    registration.expect("an answer has a registration")
}
