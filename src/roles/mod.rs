//! Serves one role as a process, or all of them in one.

mod hints;
mod start;
pub mod stop;
mod up;

use std::process::ExitCode;

use matricula_kit::metrics::Metric;
use matricula_kit::serve::{self, Serving};
use matricula_kit::telemetry::{self, Telemetry};

use crate::arguments::Role;
use crate::config::Config;
use stop::Stop;

pub use up::up;

/// The metrics of all roles except those of the kit.
const METRICS: [&[Metric]; 3] =
    [&matricula_runtime::METRICS, &matricula_portal::METRICS, &matricula_notifications::METRICS];

/// Share of the remaining time for exporting the last spans; the rest is for the end itself.
const FLUSH_SHARE: f64 = 0.8;

/// Serves one role until the process is to end.
pub async fn serve_one(config: Config, role: Role) -> anyhow::Result<ExitCode> {
    let telemetry = telemetry::init(role.name(), &config.telemetry, &matricula_portal::BEGINS_TRACES)?;
    serve::install_metrics(&METRICS);
    let stop = Stop::listen_and_end_within(config.shutdown_grace());
    let limits = config.limits.in_process(1);
    let serving = match role {
        Role::Orchestrator => {
            let channels = start::channels_over_tcp(&config)?;
            start::orchestrator(&config, channels, limits, &[], stop.shutdown().clone()).await?
        }
        service => start::service(&config, service, true, limits, &stop.token(), stop.shutdown().clone()).await?,
    };
    // None if the process is to end before the role has started.
    if let Some(serving) = serving {
        stop.fail_with(&serving);
        announce(&serving);
        stop.requested().await;
        serving.ended().await;
    }
    flush(telemetry, &stop).await;
    Ok(stop.exit_code())
}

/// Exports the remaining spans within the remaining time.
async fn flush(telemetry: Telemetry, stop: &Stop) {
    let until = stop.shutdown().begun().await.part(FLUSH_SHARE);
    let flushing = tokio::task::spawn_blocking(|| telemetry.flush());
    if tokio::time::timeout_at(until.into(), flushing).await.is_err() {
        tracing::warn!("the last spans were not exported: the collector does not answer");
    }
}

fn announce(serving: &Serving) {
    eprintln!("{:<14} gRPC {}", serving.name, serving.grpc);
    if let Some(http) = serving.http {
        eprintln!("{:<14} http://{http}/metrics, /healthz, /readyz", "");
    }
}
