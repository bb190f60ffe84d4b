//! A throw-away PostgreSQL cluster in a temporary folder, on a free loopback port.
//!
//! Promises: it listens on 127.0.0.1 and on a Unix socket in its own folder, so that it meets no other server; it runs
//! as another user when this process is root's, because PostgreSQL refuses root; it is stopped and its folder removed
//! when it is dropped, and also when this process ends in any other way, by SIGKILL too. `fsync` stays on: durability
//! is what the tests are about.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};
use tempfile::TempDir;

use crate::port::ReservedPort;
use crate::user::{User, is_root};

/// The role that tests connect as; it may create databases.
const ROLE: &str = "matricula";

/// Tests run in parallel and each opens pools of its own.
const CONNECTIONS_MAX: u32 = 400;

/// A slow disk may take this long to start or stop a server.
const PG_CTL_TIMEOUT_S: u32 = 60;

/// How much of the log an error shows: its last lines have the reason for a failed start.
const LOG_LINES_IN_ERROR: usize = 20;

/// Waits for the end of its own input, then stops the server and removes the folder. Signals that end a test run don't
/// end this script, because it cleans up after them.
const WATCHDOG: &str = r#"trap '' HUP INT TERM; read -r _
"$1/pg_ctl" stop --silent --mode immediate --pgdata "$2/data"; rm -rf "$2""#;

/// How a server is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Connections are closed and the state is written down.
    Fast,
    /// As in a crash: the server recovers from its log when it starts again.
    Immediate,
}

/// A cluster: running, unless it was stopped.
pub struct Cluster {
    binaries: PathBuf,
    user: Option<User>,
    port: ReservedPort,
    url: String,
    folder: TempDir,
    watchdog: Child,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Immediate => "immediate",
        }
    }
}

impl Cluster {
    /// Makes a cluster and starts it.
    pub fn start(binaries: &Path) -> anyhow::Result<Self> {
        Self::start_in(binaries, &std::env::temp_dir())
    }

    /// Makes a cluster in a folder of its own below `parent` and starts it.
    pub fn start_in(binaries: &Path, parent: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("matricula-postgres-").tempdir_in(parent)?;
        let user = if is_root()? { Some(User::for_server()?) } else { None };
        if let Some(user) = &user {
            chown(folder.path(), Some(user.uid), Some(user.gid))
                .context("can't hand the folder to the server's user")?;
        }
        let mut watchdog = as_user("sh", user.as_ref());
        watchdog.args(["-c", WATCHDOG, "sh"]).arg(binaries).arg(folder.path()).process_group(0);
        watchdog.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let watchdog = watchdog.spawn().context("can't run sh")?;
        let port = ReservedPort::any().context("no loopback port is free")?;
        let url = format!("postgres://{ROLE}@{}", port.address());
        let cluster = Self { binaries: binaries.to_owned(), user, port, url, folder, watchdog };
        cluster.init()?;
        cluster.start_again()?;
        Ok(cluster)
    }

    /// The server's URL, without a database.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The same server through its Unix socket, which costs processes on one machine and the server less.
    pub fn socket_url(&self) -> String {
        let folder: String =
            self.folder.path().as_os_str().as_bytes().iter().map(|byte| format!("%{byte:02X}")).collect();
        format!("postgres://{ROLE}@{folder}:{}", self.port.number())
    }

    /// The process id of the running server.
    pub fn pid(&self) -> anyhow::Result<u32> {
        let file = std::fs::read_to_string(self.data().join("postmaster.pid")).context("the server does not run")?;
        file.lines().next().unwrap_or_default().trim().parse().context("postmaster.pid begins with no number")
    }

    /// The last lines of the server's log.
    pub fn log_tail(&self, lines: usize) -> String {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Starts a stopped server, on the port that it had; returns when it takes connections.
    pub fn start_again(&self) -> anyhow::Result<()> {
        let mut command = self.pg_ctl("start");
        command.args(["--options", &format!("-p {}", self.port.number()), "--log"]).arg(self.log());
        self.done(command, "start")
    }

    /// Stops the server.
    pub fn stop(&self, mode: Mode) -> anyhow::Result<()> {
        let mut command = self.pg_ctl("stop");
        command.args(["--mode", mode.name()]);
        self.done(command, "stop")
    }

    /// Stops the server and starts it again at once; returns when it takes connections.
    pub fn restart(&self, mode: Mode) -> anyhow::Result<()> {
        self.stop(mode)?;
        self.start_again()
    }

    /// Sets a setting of the server for its next start.
    pub fn set(&self, name: &str, value: &str) -> anyhow::Result<()> {
        let mut settings = OpenOptions::new().append(true).open(self.data().join("postgresql.conf"))?;
        // The last line of a name is in force.
        writeln!(settings, "{name} = '{value}'").context("can't write the server's settings")
    }

    /// Makes the running server read its settings; sessions follow when they begin their next statement.
    pub fn reload(&self) -> anyhow::Result<()> {
        let command = self.pg_ctl("reload");
        self.done(command, "read its settings")
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    fn init(&self) -> anyhow::Result<()> {
        // The cluster is new and has no data yet: initdb itself need not sync.
        let output = as_user(self.binaries.join("initdb"), self.user.as_ref())
            .args(["--username", ROLE, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--pgdata"])
            .arg(self.data())
            .output()
            .context("can't run initdb")?;
        if !output.status.success() {
            bail!("initdb failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        self.set("listen_addresses", "127.0.0.1")?;
        self.set("unix_socket_directories", &self.folder.path().display().to_string())?;
        self.set("max_connections", &CONNECTIONS_MAX.to_string())?;
        self.set("fsync", "on")
    }

    fn pg_ctl(&self, verb: &str) -> Command {
        let mut command = as_user(self.binaries.join("pg_ctl"), self.user.as_ref());
        command.arg(verb).arg("--pgdata").arg(self.data());
        command.args(["--wait", "--silent", "--timeout", &PG_CTL_TIMEOUT_S.to_string()]);
        // The server inherits these: an open pipe of ours would keep its reader waiting.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn done(&self, mut command: Command, what: &str) -> anyhow::Result<()> {
        if !command.status().context("can't run pg_ctl")?.success() {
            bail!("PostgreSQL did not {what}; its log ends with:\n{}", self.log_tail(LOG_LINES_IN_ERROR));
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The watchdog's input ends here, so it cleans up.
        drop(self.watchdog.stdin.take());
        if self.watchdog.wait().is_err() || self.folder.path().exists() {
            eprintln!("can't remove the PostgreSQL server of {}: stop it manually.", self.data().display());
        }
    }
}

/// A command that is run as this user, or as the current one.
pub(crate) fn as_user(program: impl AsRef<std::ffi::OsStr>, user: Option<&User>) -> Command {
    let mut command = Command::new(program);
    // The server's user may have no access to the current folder.
    command.current_dir("/").env("LC_ALL", "C");
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid);
    }
    command
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::path::Path;

    use super::{Cluster, Mode};
    use crate::binaries;

    #[test]
    fn a_cluster_answers_while_it_lives_and_leaves_nothing_behind() {
        let Some(folder) = binaries::find() else {
            eprintln!("skipped: no PostgreSQL server binaries are here");
            return;
        };
        let cluster = Cluster::start(&folder).unwrap();
        let address = cluster.url().rsplit('@').next().unwrap().to_owned();
        let path = cluster.folder.path().to_owned();
        assert!(TcpStream::connect(&address).is_ok());
        assert!(cluster.log_tail(100).contains("database system is ready"));
        assert!(Path::new(&format!("/proc/{}", cluster.pid().unwrap())).exists() || cfg!(not(target_os = "linux")));

        cluster.restart(Mode::Immediate).unwrap();
        assert!(TcpStream::connect(&address).is_ok());
        assert!(cluster.log_tail(100).contains("automatic recovery in progress"));
        cluster.stop(Mode::Fast).unwrap();
        assert!(TcpStream::connect(&address).is_err());
        cluster.start_again().unwrap();
        assert!(TcpStream::connect(&address).is_ok());

        drop(cluster);
        assert!(TcpStream::connect(&address).is_err());
        assert!(!path.exists());
    }
}
