//! A throw-away PgBouncer in front of a server.
//!
//! Promises: it listens on a Unix socket in a folder of its own; it runs as another user when this process is root's,
//! because PgBouncer refuses root; it ends, and its folder is removed, when it is dropped and when this process ends in
//! any other way.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tempfile::TempDir;

use crate::cluster::as_user;
use crate::user::{User, is_root};

/// Where the program is besides the folders of `PATH`: distributions put it into a folder for root.
const PLACES: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/sbin"];
/// It is part of the socket's name; sockets of two folders never meet.
const PORT: u16 = 6432;
const START_TIMEOUT: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(10);

/// Runs the pooler until its own input ends, then ends it and removes the folder.
const WATCHDOG: &str =
    r#"trap '' HUP INT TERM; "$1" "$2/pgbouncer.ini" >"$2/log" 2>&1 & read -r _; kill -KILL $!; wait; rm -rf "$2""#;

/// A running pooler.
pub struct PgBouncer {
    folder: TempDir,
    url: String,
    watchdog: Child,
}

impl PgBouncer {
    /// The program, where it is installed.
    pub fn find() -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(PLACES.map(PathBuf::from)).collect::<Vec<_>>();
        folders.into_iter().map(|folder| folder.join("pgbouncer")).find(|program| program.is_file())
    }

    /// Starts it in front of every database of a server: `postgres://user@host:port`. The settings are lines of the
    /// section `[pgbouncer]`, such as `pool_mode = session`.
    pub fn start(program: &Path, server: &str, settings: &[&str]) -> anyhow::Result<Self> {
        let (user, place) =
            server.strip_prefix("postgres://").and_then(|rest| rest.split_once('@')).context("a URL with a user")?;
        let (host, port) = place.split_once(':').unwrap_or((place, "5432"));
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        let folder = tempfile::Builder::new().prefix("matricula-pgbouncer-").tempdir()?;
        let path = folder.path().display().to_string();
        std::fs::write(folder.path().join("users"), format!("\"{user}\" \"{password}\"\n"))?;
        let settings = settings.join("\n");
        let text = format!(
            "[databases]\n* = host={host} port={port}\n[pgbouncer]\nlisten_addr =\nlisten_port = {PORT}\n\
             unix_socket_dir = {path}\nauth_type = trust\nauth_file = {path}/users\nmax_client_conn = 1000\n{settings}\n"
        );
        std::fs::write(folder.path().join("pgbouncer.ini"), text)?;
        let runs_as = if is_root()? { Some(User::for_server()?) } else { None };
        if let Some(user) = &runs_as {
            for file in ["", "users", "pgbouncer.ini"] {
                chown(folder.path().join(file), Some(user.uid), Some(user.gid))?;
            }
        }
        let mut watchdog = as_user("sh", runs_as.as_ref());
        watchdog.args(["-c", WATCHDOG, "sh"]).arg(program).arg(folder.path()).process_group(0);
        watchdog.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let watchdog = watchdog.spawn().context("can't run sh")?;
        let socket: String = folder.path().as_os_str().as_bytes().iter().map(|byte| format!("%{byte:02X}")).collect();
        let started = Self { url: format!("postgres://{user}@{socket}:{PORT}"), folder, watchdog };
        started.wait()?;
        Ok(started)
    }

    fn wait(&self) -> anyhow::Result<()> {
        let give_up_at = Instant::now() + START_TIMEOUT;
        while UnixStream::connect(self.folder.path().join(format!(".s.PGSQL.{PORT}"))).is_err() {
            if Instant::now() > give_up_at {
                let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                bail!("PgBouncer did not start; its log:\n{log}");
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Its URL, without a database.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        // The watchdog's input ends here, so it cleans up.
        drop(self.watchdog.stdin.take());
        if self.watchdog.wait().is_err() || self.folder.path().exists() {
            eprintln!("can't remove the PgBouncer of {}: stop it manually.", self.folder.path().display());
        }
    }
}
