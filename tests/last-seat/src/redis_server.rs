//! A throw-away Redis server in a temporary folder, on a free loopback port.
//!
//! Promises: it is killed and its folder removed when it is dropped, and also when this process ends in any other way,
//! by SIGKILL too. It writes nothing to disk: neither snapshots nor its log of commands (`appendonly no`). That is its
//! fastest mode, and a restart loses every lock.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use backoff::{ConstantBuilder, Retryable as _};
use matricula_postgres::ReservedPort;
use tempfile::TempDir;

/// The server's program, which has this name in every distribution.
const PROGRAM: &str = "redis-server";
/// It starts in some milliseconds; 5 s in all.
const PING_PAUSE: Duration = Duration::from_millis(20);
const PINGS_MAX: usize = 250;

/// Starts the server, prints its process id, waits for the end of its own input, kills the server and removes the
/// folder. Signals that end a run don't end this script, because it cleans up after them.
const WATCHDOG: &str = r#"trap '' HUP INT TERM
redis-server --bind 127.0.0.1 --port "$1" --dir "$2" --save '' --appendonly no </dev/null >/dev/null 2>&1 &
echo $!; read -r _
kill -9 $!; wait $!; rm -rf "$2""#;

/// A running server.
pub struct RedisServer {
    url: String,
    pid: u32,
    version: String,
    folder: TempDir,
    watchdog: Child,
    _port: ReservedPort,
}

impl RedisServer {
    /// Starts one; `None` when its program is not on the PATH.
    pub async fn start_if_installed() -> anyhow::Result<Option<Self>> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&path).any(|folder| Path::new(&folder).join(PROGRAM).is_file()) {
            return Ok(None);
        }
        Self::start().await.map(Some)
    }

    async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("matricula-redis-").tempdir()?;
        let port = ReservedPort::any().context("no loopback port is free")?;
        let mut watchdog = Command::new("sh");
        watchdog.args(["-c", WATCHDOG, "sh", &port.number().to_string()]).arg(folder.path()).process_group(0);
        watchdog.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut watchdog = watchdog.spawn().context("can't run sh")?;
        let mut line = String::new();
        let said = watchdog.stdout.take().map(|stdout| BufReader::new(stdout).read_line(&mut line));
        // From here on dropping it cleans up.
        let mut server = Self {
            url: format!("redis://{}", port.address()),
            pid: 0,
            version: String::new(),
            folder,
            watchdog,
            _port: port,
        };
        said.context("sh has no output")??;
        server.pid = line.trim().parse().context("sh did not say what it has started")?;
        let pause = ConstantBuilder::new().with_delay(PING_PAUSE).with_max_times(PINGS_MAX);
        let info = (|| info(&server.url)).retry(pause).await.with_context(|| format!("{}: no answer", server.url))?;
        if field(&info, "process_id") != Some(&server.pid.to_string()) {
            bail!("{}: another server answers", server.url);
        }
        server.version = field(&info, "redis_version").unwrap_or("unknown").to_owned();
        Ok(server)
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its version.
    pub fn version(&self) -> &str {
        &self.version
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // The watchdog's input ends here, so it cleans up.
        drop(self.watchdog.stdin.take());
        if self.watchdog.wait().is_err() || self.folder.path().exists() {
            eprintln!("can't remove the Redis server of {}: stop it manually.", self.folder.path().display());
        }
    }
}

async fn info(url: &str) -> redis::RedisResult<String> {
    let mut connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    redis::cmd("INFO").arg("server").query_async(&mut connection).await
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().filter_map(|line| line.split_once(':')).find(|(key, _)| *key == name).map(|(_, value)| value.trim())
}
