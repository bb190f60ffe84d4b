//! `/metrics` in Prometheus' form, `/healthz` (the process need not be started again), `/readyz` (it can do its work).

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use futures::StreamExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::accept;
use super::health::RoleHealth;
use super::limits::Limits;
use crate::metrics::{METRICS as METRICS_OF_KIT, Metric};
use crate::tasks::{self, TaskHealth};

/// The recorder of this process; a process has one.
static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();

/// Connections of probes and scrapers: a cluster has a few of each.
const CONNECTIONS_MAX: usize = 256;
/// Longest head of a request: a probe's has some hundred bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// How often what histograms have gathered is added up. Otherwise it would only be when somebody scrapes them.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Buckets of latencies, in seconds: from a commit in memory to a call that waits for a retry.
const SECONDS: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];
/// Buckets of batch sizes.
const SIZES: [f64; 9] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1000.0];

/// Form of `/metrics`: Prometheus' text format, with its version.
const METRICS_FORM: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Begins to record metrics, and describes those of the kit and these. To be called once, before anything is served;
/// later calls change nothing.
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

/// Adds up what the histograms gather, until `shutdown`: a process that nobody scrapes must not grow by them.
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

/// Serves until `shutdown`, within limits: a slow client can hold a place for some seconds, and never all the places.
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
    let service = TowerToHyperService::new(router);
    let mut server = Builder::new(TokioExecutor::new()).http1_only();
    // The time to send a head is also the time that a connection may be idle between two.
    server.http1().timer(TokioTimer::new()).header_read_timeout(limits.opening).max_buf_size(HEAD_BYTES_MAX);
    let limits = Limits { connections_max: limits.connections_max.min(CONNECTIONS_MAX), ..limits };
    let mut connections = accept::connections(listener, role, "http", limits);
    let open = GracefulShutdown::new();
    while let Some(Some(Ok(connection))) = shutdown.run_until_cancelled(connections.next()).await {
        let serving = server.serve_connection(TokioIo::new(connection), service.clone()).into_owned();
        let serving = open.watch(serving);
        tasks::detached("http_connection", async move {
            if let Err(error) = serving.await {
                tracing::debug!(error, "an HTTP connection ended");
            }
        });
    }
    drop(connections);
    open.shutdown().await;
}

async fn metrics_text() -> impl IntoResponse {
    ([(CONTENT_TYPE, METRICS_FORM)], METRICS.get().map(PrometheusHandle::render).unwrap_or_default())
}

/// Whether the process can go on: not when a task has ended that must run. It ends by itself then; if that hangs, the
/// one who probes ends it.
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
