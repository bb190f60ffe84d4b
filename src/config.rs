//! Settings: defaults < `matricula.toml` < environment < flags; read as a whole, every problem told at once.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::Figment;
use figment::providers::{Env, Format as _, Serialized, Toml};
use matricula_kit::serve::{Cors, LimitsConfig};
use matricula_kit::shutdown::GRACE;
use matricula_kit::telemetry::TelemetryConfig;
use matricula_notifications::{NotificationConfig, SinkConfig};
use matricula_runtime::{RetentionConfig, RuntimeConfig};
use serde::{Deserialize, Serialize};

use crate::arguments::Role;

/// Prefix of the environment's settings; levels are parted by two underscores.
const ENV_PREFIX: &str = "MATRICULA_";
/// The file that is read where it is there and none is named.
const FILE: &str = "matricula.toml";
/// Folder of the archive in the data folder, where no other is set.
const ARCHIVE: &str = "archive";

/// Default port of the orchestrator's gRPC. Those of the services follow it, in the order of [`Role`]; 7460 is reserved for
/// operators and the console. All of them, and the HTTP ports beside them, are outside of the ranges from which systems take
/// the local ports of outgoing connections (Linux 32768 to 60999, macOS 49152 to 65535): a client that retries in these
/// ranges while a role is away can connect to itself, and keep the port from the role that comes back.
const ORCHESTRATOR_PORT: u16 = 7_450;
/// Each role serves HTTP (`/metrics`, `/healthz`, `/readyz`) on its gRPC port + this.
const HTTP_PORT_AFTER: u16 = 1_000;

/// More threads than any machine has cores: a slip of the pen.
const WORKER_THREADS_MAX: usize = 1_024;
/// Less cuts off what is quick, too; more is a slip of the pen.
const SHUTDOWN_GRACE_MS: RangeInclusive<u64> = 500..=600_000;

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Folder of the SQLite files of roles whose `database_url` is empty.
    pub data_dir: PathBuf,
    /// Threads on which the process works, 1 to 1024; 0: as many as there are cores, but one for a `serve` on up to
    /// four cores, which six processes share.
    pub worker_threads: usize,
    /// How long the process may take to end in order, from the first signal on. Kubernetes kills it after 30 s.
    pub shutdown_grace_ms: u64,
    /// Logs and traces.
    pub telemetry: TelemetryConfig,
    /// The seat service.
    pub seats: ServiceConfig,
    /// The enrollment service.
    pub enrollments: ServiceConfig,
    /// The academic service.
    pub academics: ServiceConfig,
    /// The fee service.
    pub fees: ServiceConfig,
    /// The notification service.
    pub notifications: NotificationServiceConfig,
    /// The orchestrator.
    pub orchestrator: OrchestratorConfig,
    /// What outsiders can take of the ports.
    pub limits: LimitsConfig,
    /// What the commands talk to.
    pub client: ClientConfig,
}

/// Settings of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceConfig {
    /// Where gRPC is served. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where `/metrics`, `/healthz` and `/readyz` are served.
    pub http_listen: SocketAddr,
    /// `sqlite:path` or `postgres://...`; empty: a SQLite file in `data_dir`.
    #[serde(default)]
    pub database_url: String,
}

/// Settings of the notification service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotificationServiceConfig {
    /// Where gRPC is served. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where `/metrics`, `/healthz` and `/readyz` are served.
    pub http_listen: SocketAddr,
    /// `sqlite:path` or `postgres://...`; empty: a SQLite file in `data_dir`.
    #[serde(default)]
    pub database_url: String,
    /// How messages are delivered: `kind` is `log`, `file` (with `path`) or `smtp` (with `url` and `from`).
    #[serde(default)]
    pub sink: SinkConfig,
}

/// Settings of the orchestrator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrchestratorConfig {
    /// Where gRPC is served, for portals and operators. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where `/metrics`, `/healthz` and `/readyz` are served.
    pub http_listen: SocketAddr,
    /// `sqlite:path` or `postgres://...`; empty: a SQLite file in `data_dir`.
    #[serde(default)]
    pub database_url: String,
    /// Origins whose pages may call it from browsers (CORS for gRPC-Web), separated by commas, such as
    /// `https://portal.example.edu`; `*` allows every origin. A page of the same origin needs none.
    #[serde(default)]
    pub cors_origins: String,
    /// `postgres://...` of a replica that follows that database, for the list of a student's registrations, which is then as
    /// old as the replica is behind; empty: it is read from the database itself.
    #[serde(default)]
    pub read_database_url: String,
    /// Where the seat service is.
    pub seats_url: String,
    /// Where the enrollment service is.
    pub enrollments_url: String,
    /// Where the academic service is.
    pub academics_url: String,
    /// Where the fee service is.
    pub fees_url: String,
    /// Where the notification service is.
    pub notifications_url: String,
    /// Bounds of queues, calls and leases.
    #[serde(default)]
    pub runtime: RuntimeConfig,
    /// How long finished sagas stay, and where they go then.
    #[serde(default)]
    pub retention: RetentionConfig,
}

/// Settings of the commands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientConfig {
    /// Where the orchestrator is; several replicas are separated by commas.
    pub orchestrator_url: String,
}

impl ClientConfig {
    /// The URL of each replica.
    pub fn orchestrator_urls(&self) -> impl Iterator<Item = &str> {
        self.orchestrator_url.split(',').map(str::trim)
    }
}

impl Default for Config {
    fn default() -> Self {
        let local = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let http = |port: u16| local(port + HTTP_PORT_AFTER);
        let service =
            |port: u16| ServiceConfig { listen: local(port), http_listen: http(port), database_url: String::new() };
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let [seats, enrollments, academics, fees, notifications] =
            [1, 2, 3, 4, 5].map(|after| ORCHESTRATOR_PORT + after);
        Self {
            data_dir: PathBuf::from("matricula-data"),
            worker_threads: 0,
            shutdown_grace_ms: GRACE.as_millis() as u64,
            telemetry: TelemetryConfig::default(),
            seats: service(seats),
            enrollments: service(enrollments),
            academics: service(academics),
            fees: service(fees),
            notifications: NotificationServiceConfig {
                listen: local(notifications),
                http_listen: http(notifications),
                database_url: String::new(),
                sink: SinkConfig::default(),
            },
            orchestrator: OrchestratorConfig {
                listen: local(ORCHESTRATOR_PORT),
                http_listen: http(ORCHESTRATOR_PORT),
                database_url: String::new(),
                cors_origins: String::new(),
                read_database_url: String::new(),
                seats_url: url(seats),
                enrollments_url: url(enrollments),
                academics_url: url(academics),
                fees_url: url(fees),
                notifications_url: url(notifications),
                runtime: RuntimeConfig::default(),
                retention: RetentionConfig::default(),
            },
            limits: LimitsConfig::default(),
            client: ClientConfig { orchestrator_url: url(ORCHESTRATOR_PORT) },
        }
    }
}

/// Everything that is wrong with the configuration.
#[derive(Debug)]
pub struct Problems(Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: the configuration can't be used")?;
        for problem in &self.0 {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

impl Config {
    /// Reads and checks the configuration as a whole.
    pub fn load(file: Option<&Path>, flags: &[(String, String)]) -> Result<Self, Problems> {
        if let Some(file) = file.filter(|file| !file.is_file()) {
            return Err(Problems(vec![format!("{}: there is no such file", file.display())]));
        }
        let mut figment = Figment::from(Serialized::defaults(Self::default()))
            .merge(Toml::file(file.unwrap_or(Path::new(FILE))))
            // Settings of the test suite, not of the program.
            .merge(Env::prefixed(ENV_PREFIX).ignore(&["test_postgres_url"]).split("__"));
        for (name, value) in flags {
            let value: figment::value::Value = value.parse().unwrap_or_else(|never| match never {});
            figment = figment.merge((name.as_str(), value));
        }
        Self::extracted(figment)
    }

    /// The settings, or everything that is wrong with them. One that can't be read is noted and its default taken in its
    /// place, so that what is wrong behind it is found, too.
    fn extracted(mut figment: Figment) -> Result<Self, Problems> {
        let defaults = Figment::from(Serialized::defaults(Self::default()));
        let mut problems = Vec::new();
        loop {
            let errors = match figment.extract::<Self>() {
                Ok(config) => {
                    problems.extend(config.problems());
                    return if problems.is_empty() { Ok(config) } else { Err(Problems(problems)) };
                }
                Err(errors) => errors,
            };
            for error in errors {
                let told = problem(&error);
                // A setting that nobody knows has no default: what comes behind it is told when it is mended.
                let default = defaults.find_value(&error.path.join("."));
                let known = default.ok().filter(|_| !problems.contains(&told));
                problems.push(told);
                let Some(default) = known else {
                    problems.dedup();
                    return Err(Problems(problems));
                };
                figment = figment.merge((error.path.join("."), default));
            }
        }
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (setting, url) in self.databases() {
            let known = ["", "sqlite:", "postgres://", "postgresql://"];
            if !url.is_empty() && !known[1..].iter().any(|scheme| url.starts_with(scheme)) {
                problems.push(format!("{setting}: must begin with sqlite: or postgres://"));
            }
        }
        for (setting, url) in self.urls() {
            if url.parse::<tonic::transport::Uri>().map_or(true, |url| url.scheme().is_none() || url.host().is_none()) {
                problems.push(format!("{setting}: {url:?} is no URL such as http://127.0.0.1:7451"));
            }
        }
        for (setting, problem) in self.orchestrator.runtime.problems() {
            problems.push(format!("orchestrator.runtime.{setting}: {problem}"));
        }
        for (setting, problem) in self.orchestrator.retention.problems() {
            problems.push(format!("orchestrator.retention.{setting}: {problem}"));
        }
        for (setting, problem) in self.limits.problems() {
            problems.push(format!("limits.{setting}: {problem}"));
        }
        if let Err(problem) = self.cors() {
            problems.push(format!("orchestrator.cors_origins: {problem}"));
        }
        if !SHUTDOWN_GRACE_MS.contains(&self.shutdown_grace_ms) {
            let (min, max) = (SHUTDOWN_GRACE_MS.start(), SHUTDOWN_GRACE_MS.end());
            problems.push(format!("shutdown_grace_ms: must be {min} to {max}"));
        }
        if let Err(problem) = self.delivery().try_validate() {
            problems.push(format!("{}: {}", problem.field, problem.problem));
        }
        let replica = &self.orchestrator.read_database_url;
        if !replica.is_empty() && !replica.starts_with("postgres://") && !replica.starts_with("postgresql://") {
            problems.push("orchestrator.read_database_url: must begin with postgres://".to_owned());
        }
        if self.worker_threads > WORKER_THREADS_MAX {
            problems.push(format!("worker_threads: must be 0 to {WORKER_THREADS_MAX}"));
        }
        for (setting, problem) in self.telemetry.problems() {
            problems.push(format!("telemetry.{setting}: {problem}"));
        }
        problems
    }

    fn databases(&self) -> [(&'static str, &str); 6] {
        [
            ("seats.database_url", &self.seats.database_url),
            ("enrollments.database_url", &self.enrollments.database_url),
            ("academics.database_url", &self.academics.database_url),
            ("fees.database_url", &self.fees.database_url),
            ("notifications.database_url", &self.notifications.database_url),
            ("orchestrator.database_url", &self.orchestrator.database_url),
        ]
    }

    fn urls(&self) -> Vec<(&'static str, &str)> {
        let mut urls = vec![
            ("orchestrator.seats_url", self.orchestrator.seats_url.as_str()),
            ("orchestrator.enrollments_url", &self.orchestrator.enrollments_url),
            ("orchestrator.academics_url", &self.orchestrator.academics_url),
            ("orchestrator.fees_url", &self.orchestrator.fees_url),
            ("orchestrator.notifications_url", &self.orchestrator.notifications_url),
        ];
        urls.extend(self.client.orchestrator_urls().map(|url| ("client.orchestrator_url", url)));
        urls
    }

    /// The database of a role: as set, or a SQLite file in the data folder.
    pub fn database_url(&self, role: Role) -> String {
        let url = match role {
            Role::Seats => &self.seats.database_url,
            Role::Enrollments => &self.enrollments.database_url,
            Role::Academics => &self.academics.database_url,
            Role::Fees => &self.fees.database_url,
            Role::Notifications => &self.notifications.database_url,
            Role::Orchestrator => &self.orchestrator.database_url,
        };
        match url.as_str() {
            "" => format!("sqlite:{}", self.data_dir.join(format!("{}.db", role.name())).display()),
            url => url.to_owned(),
        }
    }

    /// Where the orchestrator keeps the archive of finished sagas: as set, or a folder in the data folder.
    pub fn archive_dir(&self) -> PathBuf {
        let dir = &self.orchestrator.retention.archive_dir;
        if dir.as_os_str().is_empty() { self.data_dir.join(ARCHIVE) } else { dir.clone() }
    }

    /// Where a role serves gRPC and HTTP.
    pub fn listen(&self, role: Role) -> (SocketAddr, SocketAddr) {
        match role {
            Role::Seats => (self.seats.listen, self.seats.http_listen),
            Role::Enrollments => (self.enrollments.listen, self.enrollments.http_listen),
            Role::Academics => (self.academics.listen, self.academics.http_listen),
            Role::Fees => (self.fees.listen, self.fees.http_listen),
            Role::Notifications => (self.notifications.listen, self.notifications.http_listen),
            Role::Orchestrator => (self.orchestrator.listen, self.orchestrator.http_listen),
        }
    }

    /// How long the process may take to end in order.
    pub fn shutdown_grace(&self) -> Duration {
        Duration::from_millis(self.shutdown_grace_ms)
    }

    /// Which pages of browsers may call the orchestrator.
    pub fn cors(&self) -> anyhow::Result<Cors> {
        Cors::try_new(&self.orchestrator.cors_origins).map_err(anyhow::Error::msg)
    }

    /// How the notification service delivers.
    pub fn delivery(&self) -> NotificationConfig {
        NotificationConfig { sink: self.notifications.sink.clone() }
    }

    /// The settings as (name, value), passwords masked.
    pub fn shown(&self) -> BTreeMap<String, String> {
        let mut shown = BTreeMap::new();
        if let Ok(value) = serde_json::to_value(self) {
            flatten("", &value, &mut shown);
        }
        shown
    }
}

/// A setting that can't be read: which one, why, and where it was set.
fn problem(error: &figment::Error) -> String {
    let set_by = match error.metadata.as_ref().map(|metadata| metadata.name.as_ref()) {
        Some(name) if name.contains("environment") => " (set in the environment)".to_owned(),
        Some(name) if name.contains("TOML") => {
            match error.metadata.as_ref().and_then(|metadata| metadata.source.as_ref()) {
                Some(file) => format!(" (set in {file})"),
                None => String::new(),
            }
        }
        Some(_) => " (set by a flag)".to_owned(),
        None => String::new(),
    };
    let setting = error.path.join(".");
    if setting.is_empty() { format!("{}{set_by}", error.kind) } else { format!("{setting}: {}{set_by}", error.kind) }
}

fn flatten(prefix: &str, value: &serde_json::Value, shown: &mut BTreeMap<String, String>) {
    let name = |key: &str| if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
    match value {
        serde_json::Value::Object(fields) => fields.iter().for_each(|(key, value)| flatten(&name(key), value, shown)),
        serde_json::Value::String(text) => drop(shown.insert(prefix.to_owned(), masked(text))),
        other => drop(shown.insert(prefix.to_owned(), other.to_string())),
    }
}

/// A URL with its password replaced.
fn masked(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    match rest.rsplit_once('@') {
        Some((login, place)) => match login.split_once(':') {
            Some((user, _)) => format!("{scheme}://{user}:********@{place}"),
            None => text.to_owned(),
        },
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
