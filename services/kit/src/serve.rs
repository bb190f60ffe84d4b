//! Serves a role: gRPC over TCP and in memory, health, reflection, `/metrics`, `/healthz`, `/readyz`, and an end that
//! loses nothing: no new calls, those in flight finish within the grace period, then the writers, then the database.

use std::net::SocketAddr;
use std::time::Duration;

use backoff::{ConstantBuilder, Retryable as _};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::{Routes, RoutesBuilder};
use tonic::transport::{Channel, Server};

use crate::database::Database;
use crate::participant;
use crate::telemetry::TraceLayer;

mod accept;
mod connection;
mod health;
mod http;
mod limits;
mod memory;
mod patience;
#[cfg(test)]
mod tests;

pub use http::install_metrics;
pub use limits::{Limits, LimitsConfig};
use patience::Patience;

/// How long calls in flight may take to finish after a shutdown began. Kubernetes kills after 30 s.
pub const GRACE: Duration = Duration::from_secs(20);
/// How often, and how far apart, an address that is in use is tried again: three seconds in all.
const BIND_ATTEMPTS_MAX: usize = 30;
const BIND_PAUSE: Duration = Duration::from_millis(100);
/// Concurrent requests on one connection; beyond it HTTP/2 holds the client back.
const STREAMS_PER_CONNECTION_MAX: u32 = 1_024;
/// A connection that does not answer a ping within this time is gone, so that its streams are ended.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// Largest sum of a request's headers: trace context, credentials for the proxy before, and room.
const HEADER_BYTES_MAX: u32 = 16 * 1024;
/// Streams that a client may open and reset before they were looked at, and resets that its faults may cause: beyond it
/// the connection is closed, so that nobody can make the server work for calls that are given up at once.
const RESETS_WAITING_MAX: usize = 20;
const RESETS_BY_FAULT_MAX: usize = 256;

/// A role of the system, ready to be served: what every service's `start` returns.
pub struct Role {
    /// Name in metrics, logs and the command line.
    pub name: &'static str,
    /// Its gRPC services.
    pub routes: RoutesBuilder,
    /// Full names of its gRPC services, for health.
    pub service_names: Vec<&'static str>,
    /// Its database: health and `/readyz` tell whether it answers; closed at the end.
    pub database: Database,
    /// Tasks that end by themselves when the last handle to them is gone, such as the writer; awaited at the end.
    pub tasks: Vec<JoinHandle<()>>,
    /// Whether browsers may call it (gRPC-Web).
    pub grpc_web: bool,
    /// Whether it takes part in sagas: then it serves what all participants do alike.
    pub is_participant: bool,
}

/// Where a role listens. Port 0 takes a free one.
#[derive(Debug, Clone, Copy)]
pub struct Listen {
    /// gRPC.
    pub grpc: SocketAddr,
    /// HTTP: metrics and probes; `None` when another role of the process serves them.
    pub http: Option<SocketAddr>,
    /// What outsiders can take of each port.
    pub limits: Limits,
}

/// A role being served.
pub struct Serving {
    /// Name of the role.
    pub name: &'static str,
    /// Where gRPC is served.
    pub grpc: SocketAddr,
    /// Where HTTP is served.
    pub http: Option<SocketAddr>,
    /// Calls it without a socket, from within the process.
    pub in_memory: Channel,
    task: JoinHandle<()>,
}

/// Why a role can't be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address can't be listened on.
    #[error("{role}: can't listen on {address}")]
    Bind {
        /// The role.
        role: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The reflection service could not be built.
    #[error("{role}: reflection")]
    Reflection {
        /// The role.
        role: &'static str,
        /// Why.
        #[source]
        source: tonic_reflection::server::Error,
    },
}

impl Serving {
    /// Waits until the role has ended, after the shutdown was asked for.
    pub async fn ended(self) {
        if let Err(error) = self.task.await {
            tracing::error!(role = self.name, %error, "the role ended badly");
        }
    }
}

/// Binds the addresses and serves the role until `shutdown`.
pub async fn serve(mut role: Role, listen: Listen, shutdown: CancellationToken) -> Result<Serving, ServeError> {
    let name = role.name;
    if role.is_participant {
        role.routes.add_service(participant::server(role.database.clone()));
        role.service_names.push(participant::SERVICE_NAME);
    }
    let (grpc_listener, grpc) = bind(name, listen.grpc).await?;
    let http = match listen.http {
        Some(address) => Some(bind(name, address).await?),
        None => None,
    };

    let (reporter, health) = tonic_health::server::health_reporter();
    for service in &role.service_names {
        reporter.set_service_status(*service, tonic_health::ServingStatus::Serving).await;
    }
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(matricula_proto::DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|source| ServeError::Reflection { role: name, source })?;
    let mut routes = role.routes;
    routes.add_service(health).add_service(reflection);
    let routes = Routes::from(routes.routes().into_axum_router().layer(TraceLayer));

    let (in_memory, incoming) = memory::connect();
    let over_memory = tokio::spawn(serve_memory(routes.clone(), incoming, shutdown.clone()));
    let over_tcp = tokio::spawn(serve_tcp(name, routes, role.grpc_web, grpc_listener, listen.limits, shutdown.clone()));
    let (ready, is_ready) = watch::channel(true);
    let http_address = http.as_ref().map(|(_, address)| *address);
    let probes =
        http.map(|(listener, _)| tokio::spawn(http::serve(name, listener, is_ready, listen.limits, shutdown.clone())));
    let looking = health::follow(name, role.service_names.clone(), role.database.clone(), reporter.clone(), ready);
    let looking = tokio::spawn(looking);
    let task = tokio::spawn(async move {
        shutdown.cancelled().await;
        looking.abort();
        for service in &role.service_names {
            reporter.set_service_status(*service, tonic_health::ServingStatus::NotServing).await;
        }
        drop(reporter);
        end(name, over_tcp, GRACE).await;
        end(name, over_memory, GRACE).await;
        for task in role.tasks {
            end(name, task, GRACE).await;
        }
        role.database.close().await;
        if let Some(probes) = probes {
            end(name, probes, GRACE).await;
        }
    });
    Ok(Serving { name, grpc, http: http_address, in_memory, task })
}

/// Binds an address. One that is in use is tried again for a while: after a crash, connections that were being made to the
/// port can hold it for a moment.
async fn bind(role: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let attempts = ConstantBuilder::default().with_delay(BIND_PAUSE).with_max_times(BIND_ATTEMPTS_MAX);
    let bound = (|| TcpListener::bind(address))
        .retry(attempts)
        .when(|error| error.kind() == std::io::ErrorKind::AddrInUse)
        .await
        .and_then(|listener| listener.local_addr().map(|bound| (listener, bound)));
    bound.map_err(|source| ServeError::Bind { role, address, source })
}

/// Waits for a task, but not longer than the grace period.
async fn end(role: &'static str, mut task: JoinHandle<()>, grace: Duration) {
    if tokio::time::timeout(grace, &mut task).await.is_err() {
        tracing::warn!(role, "work was still in flight after the grace period; it will be resumed or asked for again");
        task.abort();
    }
}

fn server() -> Server {
    Server::builder()
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_max_pending_accept_reset_streams(Some(RESETS_WAITING_MAX))
        .http2_max_local_error_reset_streams(Some(RESETS_BY_FAULT_MAX))
}

async fn serve_tcp(
    role: &'static str,
    routes: Routes,
    grpc_web: bool,
    listener: TcpListener,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let incoming = accept::connections(listener, role, "grpc", limits);
    let patience = Patience::new(&limits);
    let stopped = shutdown.cancelled_owned();
    let outcome = if grpc_web {
        // Patience inside, so that its words are translated, too.
        let server = server().accept_http1(true).layer(tonic_web::GrpcWebLayer::new());
        server.layer(patience).add_routes(routes).serve_with_incoming_shutdown(incoming, stopped).await
    } else {
        server().layer(patience).add_routes(routes).serve_with_incoming_shutdown(incoming, stopped).await
    };
    if let Err(error) = outcome {
        tracing::error!(role, error = crate::telemetry::chain(&error), "the gRPC server ended");
    }
}

async fn serve_memory(routes: Routes, incoming: memory::Incoming, shutdown: CancellationToken) {
    let served = server().add_routes(routes).serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(error = crate::telemetry::chain(&error), "the in-memory gRPC server ended");
    }
}
