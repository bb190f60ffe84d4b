//! `/metrics` in Prometheus' form, `/healthz` (the process runs), `/readyz` (its database answers).

use std::sync::OnceLock;

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
use super::limits::Limits;
use crate::metrics::{METRICS as METRICS_OF_KIT, Metric};

/// The recorder of this process; a process has one.
static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();

/// Connections of probes and scrapers: a cluster has a few of each.
const CONNECTIONS_MAX: usize = 256;
/// Longest head of a request: a probe's has some hundred bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

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

/// Serves until `shutdown`, within limits: a slow client can hold a place for some seconds, and never all the places.
pub(super) async fn serve(
    role: &'static str,
    listener: TcpListener,
    is_ready: watch::Receiver<bool>,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let router = Router::new()
        .route("/metrics", get(metrics_text))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness))
        .with_state(is_ready);
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
        tokio::spawn(async move {
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

async fn readiness(State(ready): State<watch::Receiver<bool>>) -> (StatusCode, &'static str) {
    if *ready.borrow() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n")
    }
}
