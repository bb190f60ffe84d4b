//! The HTTP port: `/metrics` in the format of Prometheus, `/healthz` (the process need not be restarted), `/readyz` (it
//! can do its work).

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::ServiceBuilder;

use super::connections::{self, Connections, Port, Service};
use super::health::RoleHealth;
use super::limits::Limits;
use crate::metrics::{METRICS as METRICS_OF_KIT, Metric};
use crate::tasks::TaskHealth;

/// The recorder of this process; a process has one.
static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();

/// Connections of probes and scrapers: a cluster has a few of each.
const CONNECTIONS_MAX: usize = 256;
/// How often the samples of histograms are added up. Otherwise only a scrape does so.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Buckets of latencies, in seconds: from a commit in memory to a call that waits for a retry.
const SECONDS: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];
/// Buckets of batch sizes.
const SIZES: [f64; 9] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1000.0];

/// Form of `/metrics`: Prometheus' text format, with its version.
const METRICS_FORM: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Begins to record metrics, and describes those of the kit and these. The first call counts. It comes before anything
/// is served.
pub fn install_metrics(of_crates: &[&[Metric]]) {
    METRICS.get_or_init(|| {
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
            .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_operations".to_owned()), &SIZES))
            .expect("the buckets are not empty");
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another recorder of metrics is in place; /metrics stays empty");
        }
        METRICS_OF_KIT.iter().chain(of_crates.iter().copied().flatten()).for_each(Metric::describe);
        handle
    });
}

/// Adds up the samples of histograms until `shutdown`: a process that is never scraped must not grow by them.
pub(super) async fn keep_metrics_small(shutdown: CancellationToken) {
    while shutdown.run_until_cancelled(tokio::time::sleep(UPKEEP_EVERY)).await.is_some() {
        if let Some(metrics) = METRICS.get() {
            metrics.run_upkeep();
        }
    }
}

/// A role that the probes speak for.
pub(super) struct Probed {
    pub role: &'static str,
    pub health: watch::Receiver<RoleHealth>,
    /// Looked at beside `health`, which a task of the role publishes.
    pub tasks: watch::Receiver<TaskHealth>,
}

impl Probed {
    /// Why the role can't go on.
    fn failed(&self) -> Option<String> {
        self.tasks.borrow().failed.as_ref().map(ToString::to_string)
    }

    /// Why the role can't do its work.
    fn not_ready(&self) -> Option<String> {
        self.health.borrow().not_ready.clone().or_else(|| self.failed())
    }
}

/// Serves until `shutdown`. A slow client can hold a place for some seconds, and never all the places.
pub(super) async fn serve(
    role: &'static str,
    listener: TcpListener,
    probed: Vec<Probed>,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let router = Router::new()
        .route("/metrics", get(metrics_text))
        .route("/healthz", get(liveness))
        .route("/readyz", get(readiness))
        .with_state(Arc::new(probed));
    let service = ServiceBuilder::new().map_response(|answer: Response| answer.map(Body::new)).service(router);
    let http = connections::http(limits.opening).http1_only();
    let connections = Connections::new(role, http, Service::new(service));
    let limits = Limits { connections_max: limits.connections_max.min(CONNECTIONS_MAX), ..limits };
    Port { role, protocol: "http", limits }.serve(listener, connections, shutdown).await;
}

async fn metrics_text() -> impl IntoResponse {
    ([(CONTENT_TYPE, METRICS_FORM)], METRICS.get().map(PrometheusHandle::render).unwrap_or_default())
}

/// Whether the process can go on: not when a task has ended that must run. Then the process ends by itself. If that
/// hangs, Kubernetes ends it because of this answer.
async fn liveness(State(probed): State<Arc<Vec<Probed>>>) -> (StatusCode, String) {
    answer("ok", &probed, Probed::failed)
}

/// Whether every role can do its work.
async fn readiness(State(probed): State<Arc<Vec<Probed>>>) -> (StatusCode, String) {
    answer("ready", &probed, Probed::not_ready)
}

fn answer(good: &str, probed: &[Probed], problem: impl Fn(&Probed) -> Option<String>) -> (StatusCode, String) {
    let problems = probed.iter().filter_map(|probed| Some(format!("{}: {}\n", probed.role, problem(probed)?)));
    let problems: String = problems.collect();
    if problems.is_empty() {
        (StatusCode::OK, format!("{good}\n"))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, problems)
    }
}
