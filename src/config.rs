//! Settings: defaults < `matricula.toml` < environment < flags. They are read and checked as a whole, so that every
//! problem is reported at once.

mod address;
mod layers;
mod service_links;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;
use std::time::Duration;

use figment::Figment;
use figment::providers::Serialized;
use matricula_kit::connect::service_url;
use matricula_kit::database::DatabaseUrl;
use matricula_kit::secret::masked_url;
use matricula_kit::serve::{Cors, LimitsConfig};
use matricula_kit::shutdown::GRACE;
use matricula_kit::telemetry::TelemetryConfig;
use matricula_kit::time::{self, TimeZone};
use matricula_notifications::{NotificationConfig, SinkConfig};
use matricula_registration::saga::VERSION_NEWEST;
use matricula_runtime::{RetentionConfig, RuntimeConfig};
use serde::{Deserialize, Serialize};

use crate::arguments::Role;
use address::{Address, LookupError};
use layers::{Form, KnownSettings, Layers};

/// The configuration file that is read, if it exists, when no other file is given.
const FILE: &str = "matricula.toml";
/// Default folder of the archive, inside the data folder.
const ARCHIVE: &str = "archive";

/// Default gRPC port of the orchestrator. The ports of the services follow it, in the order of [`Role`]; 7460 is
/// reserved for operators and the console. All these ports, and the HTTP ports, are outside the ranges from which
/// systems choose the local ports of outgoing connections (Linux 32768 to 60999, macOS 49152 to 65535). Inside these
/// ranges, a client that retries while a role is down can connect to itself, and the role can't bind its port when it
/// restarts.
const ORCHESTRATOR_PORT: u16 = 7_450;
/// By default, a role's HTTP port (`/metrics`, `/healthz`, `/readyz`) is its gRPC port plus this number.
const HTTP_PORT_AFTER: u16 = 1_000;

/// The services, in the order in which `up` starts them.
pub const SERVICES: [Role; 5] = [Role::Seats, Role::Enrollments, Role::Academics, Role::Fees, Role::Notifications];
/// The roles, in the order in which their databases are compared.
pub const ROLES: [Role; 6] =
    [Role::Seats, Role::Enrollments, Role::Academics, Role::Fees, Role::Notifications, Role::Orchestrator];

/// More than the cores of any machine: probably a typing error.
const WORKER_THREADS_MAX: usize = 1_024;
/// A shorter time interrupts normal work; a longer time is probably a typing error.
const SHUTDOWN_GRACE_MS: RangeInclusive<u64> = 500..=600_000;

/// All settings.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Folder of the SQLite files of the roles whose `database_url` is empty.
    pub data_dir: PathBuf,
    /// Worker threads of the process, 0 to 1024. 0 means one per core, except for `serve` on at most four cores: six
    /// processes share these, so each gets one thread.
    pub worker_threads: usize,
    /// Time zone of the campus by its IANA name, such as `America/New_York`. Texts for students give times in this
    /// zone, and name it. A term may have its own zone. Logs and operators' output use UTC.
    pub time_zone: String,
    /// How long an orderly shutdown may take, from the first signal on. Kubernetes kills the process after 30 s.
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
    /// Limits on connections and requests, against overload and hostile clients.
    pub limits: LimitsConfig,
    /// Connection of the commands to a running system.
    pub client: ClientConfig,
}

/// Settings of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceConfig {
    /// The gRPC listen address, such as `127.0.0.1:7451` or `localhost:7451`. Port 0 takes a free port.
    pub listen: Address,
    /// The HTTP listen address of `/metrics`, `/healthz` and `/readyz`.
    pub http_listen: Address,
    /// `sqlite:path` or `postgres://...`; empty means a SQLite file in `data_dir`.
    #[serde(default)]
    pub database_url: String,
}

/// Settings of the notification service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotificationServiceConfig {
    /// The gRPC listen address, such as `127.0.0.1:7451` or `localhost:7451`. Port 0 takes a free port.
    pub listen: Address,
    /// The HTTP listen address of `/metrics`, `/healthz` and `/readyz`.
    pub http_listen: Address,
    /// `sqlite:path` or `postgres://...`; empty means a SQLite file in `data_dir`.
    #[serde(default)]
    pub database_url: String,
    /// Delivery of messages: `kind` is `log`, `file` (with `path`) or `smtp` (with `url` and `from`).
    #[serde(default)]
    pub sink: SinkConfig,
}

/// Settings of the orchestrator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrchestratorConfig {
    /// The gRPC listen address, for portals and operators. Port 0 takes a free port.
    pub listen: Address,
    /// The HTTP listen address of `/metrics`, `/healthz` and `/readyz`.
    pub http_listen: Address,
    /// `sqlite:path` or `postgres://...`; empty means a SQLite file in `data_dir`.
    #[serde(default)]
    pub database_url: String,
    /// Origins whose pages may call the orchestrator from browsers (CORS for gRPC-Web), separated by commas, such as
    /// `https://portal.example.edu`; `*` allows every origin. A page of the same origin needs no entry.
    #[serde(default)]
    pub cors_origins: String,
    /// `postgres://...` of a read replica of that database, for the list of a student's registrations; the list is then
    /// as old as the replication lag. Empty means that the database itself is read.
    #[serde(default)]
    pub read_database_url: String,
    /// URL of the seat service.
    pub seats_url: String,
    /// URL of the enrollment service.
    pub enrollments_url: String,
    /// URL of the academic service.
    pub academics_url: String,
    /// URL of the fee service.
    pub fees_url: String,
    /// URL of the notification service.
    pub notifications_url: String,
    /// The definition version of new registrations.
    #[serde(default)]
    pub registration: RegistrationConfig,
    /// Bounds of queues, calls and leases.
    #[serde(default)]
    pub runtime: RuntimeConfig,
    /// How long finished sagas stay in the database, and where they are archived afterwards.
    #[serde(default)]
    pub retention: RetentionConfig,
}

/// Settings of registrations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistrationConfig {
    /// The version of the saga definition with which new registrations begin here, 1 or 2. Use 1 while orchestrators of
    /// a release without version 2 run beside this one. Stored registrations keep their version.
    pub begins_with_version: u32,
}

impl Default for RegistrationConfig {
    fn default() -> Self {
        Self { begins_with_version: VERSION_NEWEST }
    }
}

/// Settings of the commands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientConfig {
    /// URL of the orchestrator; URLs of several replicas are separated by commas.
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
        let local = |port: u16| Address::from(SocketAddr::from(([127, 0, 0, 1], port)));
        let http = |port: u16| local(port + HTTP_PORT_AFTER);
        let service =
            |port: u16| ServiceConfig { listen: local(port), http_listen: http(port), database_url: String::new() };
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let [seats, enrollments, academics, fees, notifications] =
            [1, 2, 3, 4, 5].map(|after| ORCHESTRATOR_PORT + after);
        Self {
            data_dir: PathBuf::from("matricula-data"),
            worker_threads: 0,
            time_zone: "UTC".to_owned(),
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
                registration: RegistrationConfig::default(),
                runtime: RuntimeConfig::for_processors(available_parallelism().map_or(1, usize::from)),
                retention: RetentionConfig::default(),
            },
            limits: LimitsConfig::default(),
            client: ClientConfig { orchestrator_url: url(ORCHESTRATOR_PORT) },
        }
    }
}

/// All problems of the configuration.
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

/// A configuration without problems.
#[derive(Debug)]
pub struct Loaded {
    /// The effective configuration.
    pub config: Config,
    /// Warnings for the user.
    pub warnings: Vec<String>,
}

impl fmt::Debug for Config {
    /// Without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.shown()).finish()
    }
}

impl Config {
    /// Reads and checks the configuration as a whole.
    pub fn load(file: Option<&Path>, flags: &[(String, String)]) -> Result<Loaded, Problems> {
        Self::read(file, std::env::vars_os(), flags)
    }

    fn read(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        flags: &[(String, String)],
    ) -> Result<Loaded, Problems> {
        if let Some(file) = file.filter(|file| !file.is_file()) {
            return Err(Problems(vec![format!("{}: the configuration file does not exist", file.display())]));
        }
        let mut layers = Layers::new(known());
        layers.file(file.unwrap_or(Path::new(FILE)));
        layers.environment(environment);
        layers.flags(flags);
        let warnings = ignored(&layers.ignored).into_iter().collect();
        Ok(Loaded { config: Self::extracted(layers)?, warnings })
    }

    /// Reads the settings, or returns all problems. A setting that can't be read is reported and replaced by its
    /// default, so that problems in later settings are found too.
    fn extracted(mut layers: Layers) -> Result<Self, Problems> {
        let mut problems = std::mem::take(&mut layers.problems);
        loop {
            let defaults = Figment::from(Serialized::defaults(Self::default()));
            let errors = match layers.over(defaults).extract::<Self>() {
                Ok(config) => {
                    problems.extend(config.problems().iter().map(|(name, problem)| layers.problem(name, problem)));
                    return if problems.is_empty() { Ok(config) } else { Err(Problems(problems)) };
                }
                Err(errors) => errors,
            };
            let mut is_other = false;
            for error in errors {
                let name = error.path.join(".");
                problems.push(layers.problem(&name, &error.kind.to_string()));
                is_other |= !name.is_empty() && layers.unset(&name);
            }
            // No unreadable setting was removed, so another attempt would fail in the same way.
            if !is_other {
                return Err(Problems(problems));
            }
        }
    }

    /// All problems, as (setting, problem).
    fn problems(&self) -> Vec<(String, String)> {
        let mut problems = self.problems_of_databases();
        let mut found = |setting: &str, problem: String| problems.push((setting.to_owned(), problem));
        let services = SERVICES.into_iter().map(|service| (url_setting(service), self.url(service)));
        let replicas = self.client.orchestrator_urls().map(|url| (url_setting(Role::Orchestrator), url));
        let collector = Some(self.telemetry.otlp_endpoint.as_str()).filter(|url| !url.is_empty());
        let collector = collector.map(|url| ("telemetry.otlp_endpoint".to_owned(), url));
        for (setting, url) in services.chain(replicas).chain(collector) {
            if let Err(error) = service_url(url) {
                found(&setting, error.to_string());
            }
        }
        if !(1..=VERSION_NEWEST).contains(&self.orchestrator.registration.begins_with_version) {
            found("orchestrator.registration.begins_with_version", format!("must be 1 to {VERSION_NEWEST}"));
        }
        for (group, problems) in [
            ("orchestrator.runtime", self.orchestrator.runtime.problems()),
            ("orchestrator.retention", self.orchestrator.retention.problems()),
            ("limits", self.limits.problems()),
        ] {
            problems.into_iter().for_each(|(setting, problem)| found(&format!("{group}.{setting}"), problem));
        }
        if let Err(problem) = self.cors() {
            found("orchestrator.cors_origins", problem.to_string());
        }
        if !SHUTDOWN_GRACE_MS.contains(&self.shutdown_grace_ms) {
            let (min, max) = (SHUTDOWN_GRACE_MS.start(), SHUTDOWN_GRACE_MS.end());
            found("shutdown_grace_ms", format!("must be {min} to {max}"));
        }
        if let Err(problem) = self.zone() {
            found("time_zone", problem.to_string());
        }
        if let Err(problem) = self.delivery().try_validate() {
            found(problem.field, problem.problem);
        }
        if self.worker_threads > WORKER_THREADS_MAX {
            found("worker_threads", format!("must be 0 to {WORKER_THREADS_MAX}"));
        }
        for (setting, problem) in self.telemetry.problems() {
            found(&format!("telemetry.{setting}"), problem.to_string());
        }
        problems
    }

    /// Databases that can't be used, and databases that two roles would share.
    fn problems_of_databases(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut places = Vec::new();
        for role in ROLES {
            let setting = format!("{}.database_url", role.name());
            let place = match DatabaseUrl::parse(&self.database_url(role)) {
                Ok(url) => url.place(),
                Err(error) => {
                    problems.push((setting, error.to_string()));
                    continue;
                }
            };
            // Replicas of a role share its database. Each replica has its own copy of this configuration, so no
            // comparison is needed.
            match places.iter().find(|(_, other)| *other == place) {
                Some((other, _)) => problems
                    .push((setting, format!("is also the database of {other}: each role needs its own database"))),
                None => places.push((role.name(), place)),
            }
        }
        let replica = &self.orchestrator.read_database_url;
        let problem = match (replica.as_str(), DatabaseUrl::parse(replica)) {
            ("", _) | (_, Ok(DatabaseUrl::Postgres(_))) => return problems,
            (_, Ok(DatabaseUrl::Sqlite { .. })) => "must begin with postgres://".to_owned(),
            (_, Err(matricula_kit::database::DatabaseUrlError::Scheme)) => "must begin with postgres://".to_owned(),
            (_, Err(error)) => error.to_string(),
        };
        problems.push(("orchestrator.read_database_url".to_owned(), problem));
        problems
    }

    /// The database of a role: the setting, or a SQLite file in the data folder.
    pub fn database_url(&self, role: Role) -> String {
        match self.served(role).2 {
            "" => DatabaseUrl::of_file(&self.data_dir.join(format!("{}.db", role.name()))),
            url => url.to_owned(),
        }
    }

    /// The orchestrator's archive of finished sagas: the setting, or a folder in the data folder.
    pub fn archive_dir(&self) -> PathBuf {
        let dir = &self.orchestrator.retention.archive_dir;
        if dir.as_os_str().is_empty() { self.data_dir.join(ARCHIVE) } else { dir.clone() }
    }

    /// The addresses at which a role serves gRPC and HTTP. Host names are resolved now.
    pub async fn listen(&self, role: Role) -> Result<(SocketAddr, SocketAddr), LookupError> {
        let (grpc, http, _) = self.served(role);
        let name = role.name();
        Ok((grpc.look_up(&format!("{name}.listen")).await?, http.look_up(&format!("{name}.http_listen")).await?))
    }

    /// The settings that all roles have: the gRPC and HTTP listen addresses, and the database.
    fn served(&self, role: Role) -> (&Address, &Address, &str) {
        let (notifications, orchestrator) = (&self.notifications, &self.orchestrator);
        let service = match role {
            Role::Seats => &self.seats,
            Role::Enrollments => &self.enrollments,
            Role::Academics => &self.academics,
            Role::Fees => &self.fees,
            Role::Notifications => {
                return (&notifications.listen, &notifications.http_listen, &notifications.database_url);
            }
            Role::Orchestrator => return (&orchestrator.listen, &orchestrator.http_listen, &orchestrator.database_url),
        };
        (&service.listen, &service.http_listen, &service.database_url)
    }

    /// The URL by which the orchestrator calls a service, or by which commands call the orchestrator.
    pub fn url(&self, role: Role) -> &str {
        match role {
            Role::Seats => &self.orchestrator.seats_url,
            Role::Enrollments => &self.orchestrator.enrollments_url,
            Role::Academics => &self.orchestrator.academics_url,
            Role::Fees => &self.orchestrator.fees_url,
            Role::Notifications => &self.orchestrator.notifications_url,
            Role::Orchestrator => &self.client.orchestrator_url,
        }
    }

    /// How long an orderly shutdown may take.
    pub fn shutdown_grace(&self) -> Duration {
        Duration::from_millis(self.shutdown_grace_ms)
    }

    /// The origins whose pages may call the orchestrator from browsers.
    pub fn cors(&self) -> anyhow::Result<Cors> {
        Cors::try_new(&self.orchestrator.cors_origins).map_err(anyhow::Error::msg)
    }

    /// The time zone in texts for students.
    pub fn zone(&self) -> anyhow::Result<TimeZone> {
        time::zone(&self.time_zone).map_err(anyhow::Error::msg)
    }

    /// How the notification service delivers messages.
    pub fn delivery(&self) -> NotificationConfig {
        NotificationConfig { sink: self.notifications.sink.clone() }
    }

    /// The settings as (name, value), secrets masked.
    pub fn shown(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        self.each(|name, value| {
            all.insert(name.to_owned(), shown(name, value));
        });
        all
    }

    fn each(&self, mut visit: impl FnMut(&str, &serde_json::Value)) {
        if let Ok(value) = serde_json::to_value(self) {
            each_of("", &value, &mut visit);
        }
    }
}

/// The setting of [`Config::url`].
pub fn url_setting(role: Role) -> String {
    match role {
        Role::Orchestrator => "client.orchestrator_url".to_owned(),
        service => format!("orchestrator.{}_url", service.name()),
    }
}

/// All existing settings. The settings of a message sink depend on its kind, so each kind is listed.
fn known() -> KnownSettings {
    let mut known = KnownSettings::new();
    let sinks = [
        SinkConfig::Log,
        SinkConfig::File { path: PathBuf::new() },
        SinkConfig::Smtp { url: String::new(), from: String::new() },
    ];
    for sink in sinks {
        let mut config = Config::default();
        config.notifications.sink = sink;
        let form = |value: &serde_json::Value| if value.is_string() { Form::Text } else { Form::Toml };
        config.each(|name, value| {
            known.insert(name.to_owned(), form(value));
        });
    }
    known
}

/// The warning about ignored variables.
fn ignored(variables: &[String]) -> Option<String> {
    (!variables.is_empty()).then(|| {
        format!(
            "warning: these variables are ignored, because Kubernetes or Docker sets them for a service with that name: {}",
            variables.join(", ")
        )
    })
}

fn each_of(prefix: &str, value: &serde_json::Value, visit: &mut impl FnMut(&str, &serde_json::Value)) {
    match value {
        serde_json::Value::Object(fields) => {
            for (key, value) in fields {
                let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                each_of(&name, value, visit);
            }
        }
        value => visit(prefix, value),
    }
}

/// A value as it is shown, with secrets masked.
fn shown(name: &str, value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) if text.is_empty() => String::new(),
        serde_json::Value::String(_) if is_secret_setting(name) => "********".to_owned(),
        serde_json::Value::String(text) => masked_url(text),
        other => other.to_string(),
    }
}

/// Whether the whole value is a secret, by the last part of the setting's name. Headers contain tokens.
fn is_secret_setting(name: &str) -> bool {
    name.rsplit('.').next().is_some_and(|last| last.ends_with("headers") || matricula_kit::secret::is_secret(last))
}

#[cfg(test)]
mod tests;
