//! A throw-away PostgreSQL cluster in a temporary folder, on a free loopback port.
//!
//! Promises: it listens on 127.0.0.1 alone and on no Unix socket, so that it meets no other server; it runs as another
//! user when this process is root's, because PostgreSQL refuses root; dropping it stops the server and removes the
//! folder. `fsync` stays on: durability is what the tests are about.

mod binaries;
mod user;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use tempfile::TempDir;

use crate::{packages, say};
use user::User;

/// The role that tests connect as; it may create databases.
const ROLE: &str = "matricula";

/// Tests run in parallel and each opens pools of its own.
const CONNECTIONS_MAX: u32 = 400;

/// A free port can be taken by somebody else between finding it and using it: another one is tried this often.
const START_ATTEMPTS_MAX: u32 = 3;

/// A slow disk may take this long to start or stop a server.
const PG_CTL_TIMEOUT_S: u32 = 60;

/// How much of the log an error shows: the reason for a failed start is in its last lines.
const LOG_LINES_IN_ERROR: usize = 20;

/// The folder with `initdb`, `pg_ctl` and `postgres`; installs them where they are missing.
pub fn find_or_install() -> anyhow::Result<PathBuf> {
    if let Some(folder) = binaries::find() {
        return Ok(folder);
    }
    packages::install_postgres(is_root()?)?;
    binaries::find().context("PostgreSQL was installed, but its server binaries are nowhere that I look")
}

/// A running server.
pub struct Cluster {
    binaries: PathBuf,
    user: Option<User>,
    url: String,
    folder: TempDir,
}

impl Cluster {
    /// Makes a cluster and starts it.
    pub fn start(binaries: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("matricula-postgres-").tempdir()?;
        let user = if is_root()? { Some(User::for_server()?) } else { None };
        if let Some(user) = &user {
            chown(folder.path(), Some(user.uid), Some(user.gid))
                .context("can't hand the folder to the server's user")?;
        }
        let mut cluster = Self { binaries: binaries.to_owned(), user, url: String::new(), folder };
        cluster.init()?;
        for attempt in 1..=START_ATTEMPTS_MAX {
            let port = free_port()?;
            cluster.url = format!("postgres://{ROLE}@127.0.0.1:{port}");
            match cluster.start_on(port) {
                Ok(()) => return Ok(cluster),
                Err(error) if attempt == START_ATTEMPTS_MAX => return Err(error),
                Err(_) => say(&format!("PostgreSQL did not start on port {port}: trying another one.")),
            }
        }
        unreachable!("the last attempt returns")
    }

    /// The server's URL, without a database.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The last lines of the server's log.
    pub fn log_tail(&self, lines: usize) -> String {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    fn init(&self) -> anyhow::Result<()> {
        // The cluster is new and nobody relies on it yet: initdb itself need not sync.
        let output = self
            .command("initdb")
            .args(["--username", ROLE, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--pgdata"])
            .arg(self.data())
            .output()
            .context("can't run initdb")?;
        if !output.status.success() {
            bail!("initdb failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let mut settings = OpenOptions::new().append(true).open(self.data().join("postgresql.conf"))?;
        writeln!(
            settings,
            "listen_addresses = '127.0.0.1'\nunix_socket_directories = ''\nmax_connections = {CONNECTIONS_MAX}\nfsync = on"
        )?;
        Ok(())
    }

    fn start_on(&self, port: u16) -> anyhow::Result<()> {
        let status = self
            .pg_ctl()
            .args(["start", "--options", &format!("-p {port}"), "--log"])
            .arg(self.log())
            .status()
            .context("can't run pg_ctl")?;
        if !status.success() {
            bail!("PostgreSQL did not start; its log ends with:\n{}", self.log_tail(LOG_LINES_IN_ERROR));
        }
        Ok(())
    }

    fn pg_ctl(&self) -> Command {
        let mut command = self.command("pg_ctl");
        command.arg("--pgdata").arg(self.data());
        command.args(["--wait", "--silent", "--timeout", &PG_CTL_TIMEOUT_S.to_string()]);
        // The server inherits these: an open pipe of ours would keep whoever reads it waiting.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.join(program));
        // The folder that we are in may be closed to the server's user.
        command.current_dir("/").env("LC_ALL", "C");
        if let Some(user) = &self.user {
            command.uid(user.uid).gid(user.gid);
        }
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !self.data().join("postmaster.pid").exists() {
            return;
        }
        // Nobody needs the data any more, so the server need not end in order.
        let stopped = self.pg_ctl().args(["stop", "--mode", "immediate"]).status();
        if !stopped.is_ok_and(|status| status.success()) {
            say(&format!("can't stop the PostgreSQL server of {}: stop it by hand.", self.data().display()));
        }
    }
}

fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no loopback port is free")?;
    Ok(listener.local_addr()?.port())
}

/// A file of ours belongs to whoever we are: no system call of its own is needed to ask.
fn is_root() -> anyhow::Result<bool> {
    let file: File = tempfile::tempfile()?;
    Ok(file.metadata()?.uid() == 0)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::{Cluster, binaries};

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
        drop(cluster);
        assert!(TcpStream::connect(&address).is_err());
        assert!(!path.exists());
    }
}
