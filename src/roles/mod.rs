//! Serving: one role as a process, or all of them in one.

mod hints;
mod start;
pub mod stop;
mod up;

use std::process::ExitCode;

use matricula_kit::metrics::Metric;
use matricula_kit::serve::{self, Serving};
use matricula_kit::telemetry;

use crate::arguments::Role;
use crate::config::Config;
use stop::Stop;

pub use up::up;

/// The metrics of all roles, beside those of the kit.
const METRICS: [&[Metric]; 3] =
    [&matricula_runtime::METRICS, &matricula_portal::METRICS, &matricula_notifications::METRICS];

/// Serves one role until it is told to stop.
pub async fn serve_one(config: Config, role: Role) -> anyhow::Result<ExitCode> {
    let telemetry = telemetry::init(role.name(), &config.telemetry, &matricula_portal::BEGINS_TRACES)?;
    serve::install_metrics(&METRICS);
    let stop = Stop::listen();
    let limits = config.limits.in_process(1);
    let serving = match role {
        Role::Orchestrator => {
            let channels = start::channels_over_tcp(&config.orchestrator)?;
            start::orchestrator(&config, channels, limits, &stop).await?
        }
        service => start::service(&config, service, true, limits, stop.token()).await?,
    };
    announce(&serving);
    stop.asked().await;
    serving.ended().await;
    telemetry.flush();
    Ok(stop.exit_code())
}

fn announce(serving: &Serving) {
    eprintln!("{:<14} gRPC {}", serving.name, serving.grpc);
    if let Some(http) = serving.http {
        eprintln!("{:<14} http://{http}/metrics, /healthz, /readyz", "");
    }
}
