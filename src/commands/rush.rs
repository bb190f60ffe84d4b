//! `matricula rush`: replays a registration morning against a running system, and reports the result of every click.
//!
//! ```text
//! registrations.csv ─> play: one task a click, at its time ─> follow: until it is decided ─> tally ─> report
//!                      (independent of earlier clicks)  │     (retries, lost answers)         └─> audit, order
//!                                                       └───> waits: are the wait estimates right?
//! ```
//!
//! The load is open-loop: a click is sent when it is due, whether or not earlier ones are answered, and its latency
//! counts from its due time. So a slow system can't reduce the load.

mod follow;
mod live;
mod order;
mod play;
mod report;
mod tally;
mod waits;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use matricula_campus::BundleErrors;
use matricula_kit::connect::lazily;
use matricula_proto::ops::v1::ListSagasRequest;
use matricula_proto::ops::v1::saga_service_client::SagaServiceClient;
use tokio::time::Instant;
use tonic::transport::Channel;

use crate::arguments::{Format, Rush};
use crate::clients::{answered, connect, retried};
use crate::commands::audit;
use crate::config::{ClientConfig, Config};
use crate::output::{self, Progress};
use crate::roles::stop::Stop;
use report::{Report, Setting};

/// Maximum number of connections of one client; more would only measure the client's own machine.
const CONNECTIONS_MAX: usize = 1_000;
/// How long to wait before the audit until sagas with a known outcome finish, or an orchestrator restarts.
const SETTLE_MAX: Duration = Duration::from_secs(60);
/// The interval of queries for unfinished sagas.
const SETTLE_PAUSE: Duration = Duration::from_millis(200);

/// Plays the morning, then checks the invariants.
pub async fn run(config: &Config, rush: Rush, format: Format) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        (1..=CONNECTIONS_MAX).contains(&rush.connections),
        "--connections: must be 1 to {CONNECTIONS_MAX}, got {}",
        rush.connections
    );
    let dir = rush.dir.clone();
    let morning = match tokio::task::spawn_blocking(move || Morning::survey(&dir)).await? {
        Ok(morning) => morning,
        Err(problems) => {
            eprintln!("{problems}");
            return Ok(ExitCode::FAILURE);
        }
    };
    let channels = connections(&config.client, rush.connections).await?;
    let setting = Setting { dir: rush.dir.clone(), speed: rush.speed, connections: channels.len() };
    eprintln!("{} of {}", morning.announcement(rush.speed), rush.dir.display());

    let stop = Stop::listen();
    let pace = play::Pace { speed: rush.speed, acknowledge: rush.acknowledge };
    let mut tally = play::play(&rush.dir, &morning, pace, channels, stop.token()).await?;
    let unfinished = settle(&config.client).await?;
    let progress = Progress::on_terminal();
    let (played, started) = (std::mem::take(&mut tally.played), tally.started_at);
    let judged = move |ledgers: &matricula_audit::Ledgers| order::judge(played, &ledgers.holds, started);
    let proof = audit::check(config, &progress, judged).await;
    let (proof, order) = proof.context("all clicks were played, but the audit failed")?;
    drop(progress);

    let report = Report::new(setting, &tally, order, (unfinished, &proof));
    if let Some(file) = &rush.report {
        write(&report, file)?;
    }
    let document = serde_json::to_value(&report)?;
    output::show(format, || format!("{report}\nAudit\n{}\n{}", audit::shown(&proof), report.verdict()), || document)?;
    Ok(if report.is_clean() && !stop.hung_up() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The size of a morning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Morning {
    clicks: u64,
    last_arrival_ms: u64,
}

impl Morning {
    /// Reads the whole morning, so that a bad row is reported before the first click.
    fn survey(dir: &Path) -> Result<Self, BundleErrors> {
        let mut morning = Self::default();
        for click in matricula_campus::registrations(dir)? {
            morning = Self { clicks: morning.clicks + 1, last_arrival_ms: click?.arrival_ms };
        }
        Ok(morning)
    }

    fn announcement(&self, speed: f64) -> String {
        let clicks = output::grouped(self.clicks);
        format!("Playing {clicks} clicks in {:.1} s, {speed} times as fast as the morning", {
            play::due(self.last_arrival_ms, speed).as_secs_f64()
        })
    }
}

/// At least one connection per replica, in turn. One connection is tested at once, so that a wrong address is reported
/// immediately; all reconnect after a restart.
async fn connections(client: &ClientConfig, count: usize) -> anyhow::Result<Vec<Channel>> {
    drop(connect(&client.orchestrator_url).await?);
    let urls: Vec<&str> = client.orchestrator_urls().collect();
    let channels: Result<_, _> = urls.iter().cycle().take(count.max(urls.len())).map(|url| lazily(url)).collect();
    Ok(channels?)
}

/// Waits until no saga is unfinished. Returns whether any saga is left after the longest wait.
async fn settle(client: &ClientConfig) -> anyhow::Result<bool> {
    let replicas = client.orchestrator_urls().map(lazily).collect::<Result<Vec<Channel>, _>>()?;
    let mut next = replicas.iter().cycle();
    let request = ListSagasRequest { page_size: 1, unfinished: true, ..ListSagasRequest::default() };
    let give_up_at = Instant::now() + SETTLE_MAX;
    loop {
        let list = async || {
            let replica = next.next().cloned().unwrap_or_else(|| replicas[0].clone());
            SagaServiceClient::new(replica).list_sagas(request.clone()).await
        };
        let page = answered(retried(SETTLE_MAX, |_| (), list)).await;
        let page = page.context("all clicks were played, but the unfinished sagas could not be queried")?;
        if page.sagas.is_empty() {
            return Ok(false);
        }
        if Instant::now() >= give_up_at {
            return Ok(true);
        }
        tokio::time::sleep(SETTLE_PAUSE).await;
    }
}

fn write(report: &Report, file: &Path) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(report)?;
    let written = matricula_campus::write_whole(file, |to| writeln!(to, "{text}"));
    written.with_context(|| format!("{}: the report of the rush could not be written", file.display()))
}
