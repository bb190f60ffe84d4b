//! Serves a role: gRPC over TCP and in memory, health, reflection, `/metrics`, `/healthz`, `/readyz`, and an end that
//! loses nothing: no new calls, those in flight finish, then the tasks (writers among them), then the database, all by
//! one deadline.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backoff::{ConstantBuilder, Retryable as _};
use futures::StreamExt as _;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic::transport::{Channel, Error, Server};
use tower::util::MapRequestLayer;

pub use crate::role::Role;
use crate::shutdown::{Deadline, Shutdown};
use crate::tasks::{self, TaskFailure, TaskHealth};
use crate::telemetry::TraceLayer;

mod accept;
mod connection;
mod cors;
mod encoding;
mod health;
mod http;
mod limits;
mod memory;
mod reflection;
mod severed;
mod slow_client;
#[cfg(test)]
mod tests;

pub use cors::Cors;
use health::Health;
pub use health::RoleHealth;
use http::Probed;
pub use http::install_metrics;
pub use limits::{Limits, LimitsConfig};
use severed::{Cut, Severable};
use slow_client::SlowClientLayer;

/// Share of the time left that calls in flight may take when a shutdown begins. It is most of it: what they do is lost
/// to their callers when they are cut off, and the parts after them are quick unless they hang.
const CALLS_SHARE: f64 = 0.6;
/// The same for what hangs after its connection was cut, the tasks of the role, its database, and the last probe.
const CUT_SHARE: f64 = 0.2;
const TASKS_SHARE: f64 = 0.6;
const DATABASE_SHARE: f64 = 0.6;
const PROBES_SHARE: f64 = 0.3;
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
    health: watch::Receiver<RoleHealth>,
    tasks: watch::Receiver<TaskHealth>,
    shutdown: Shutdown,
    task: JoinHandle<()>,
    probes: Option<Probes>,
}

/// The HTTP port of a role. It reports a role that is shutting down until it is ended.
pub struct Probes {
    no_more: CancellationToken,
    server: JoinHandle<()>,
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
    /// How the role is, as it changes.
    pub fn health(&self) -> watch::Receiver<RoleHealth> {
        self.health.clone()
    }

    /// Waits until a task has failed without which the role can't go on; for ever when none does. The process must end
    /// then.
    pub fn failed(&self) -> impl Future<Output = TaskFailure> + use<> {
        // Of the tasks themselves: the task that publishes the health of the role may be the one that has failed.
        let mut tasks = self.tasks.clone();
        async move {
            let failed = tasks.wait_for(|tasks| tasks.failed.is_some()).await;
            match failed.ok().and_then(|tasks| tasks.failed.clone()) {
                Some(failure) => failure,
                None => std::future::pending().await,
            }
        }
    }

    /// Waits until the role and its probes have ended, after the shutdown was asked for.
    pub async fn ended(self) {
        let shutdown = self.shutdown.clone();
        if let Some(probes) = self.ended_before_probes().await {
            probes.end(shutdown.begun().await).await;
        }
    }

    /// Waits until the role has ended. Its probes go on: they speak for other roles, too.
    pub async fn ended_before_probes(self) -> Option<Probes> {
        if let Err(error) = self.task.await {
            tracing::error!(role = self.name, %error, "the role ended badly");
        }
        self.probes
    }

    /// What its probes look at.
    fn probed(&self) -> Probed {
        Probed { role: self.name, health: self.health.clone(), tasks: self.tasks.clone() }
    }
}

impl Probes {
    /// Ends them; an answer on its way gets a share of the time until `deadline`.
    pub async fn end(self, deadline: Deadline) {
        self.no_more.cancel();
        ended([self.server], deadline.part(PROBES_SHARE)).await;
    }
}

/// Binds the addresses and serves the role until `shutdown`.
pub async fn serve(role: Role, listen: Listen, shutdown: impl Into<Shutdown>) -> Result<Serving, ServeError> {
    serve_beside(role, &[], listen, shutdown).await
}

/// The same; its probes speak for other roles of the process, too.
pub async fn serve_beside(
    role: Role,
    others: &[Serving],
    listen: Listen,
    shutdown: impl Into<Shutdown>,
) -> Result<Serving, ServeError> {
    let (name, shutdown) = (role.name, shutdown.into());
    role.tasks.end_with(shutdown.token());
    let (grpc_listener, grpc) = bind(name, listen.grpc).await?;
    let http = match listen.http {
        Some(address) => Some(bind(name, address).await?),
        None => None,
    };

    let mut routes = role.routes;
    let health = Arc::new(Health::new(name, role.service_names.clone(), shutdown.token()).await);
    routes.add_service(
        health.server().await.accept_compressed(CompressionEncoding::Gzip).send_compressed(CompressionEncoding::Gzip),
    );
    reflection::add_to(&mut routes, &role.service_names)
        .map_err(|source| ServeError::Reflection { role: name, source })?;
    let routes = Routes::from(routes.routes().into_axum_router().layer(TraceLayer));
    let (following, database, tasks_health) = (health.clone(), role.database.clone(), role.tasks.health());
    // Without it nothing reports that the database is away.
    role.tasks.must_run("health", async move { following.follow(database, tasks_health).await });

    let ending = Ending { no_new_calls: CancellationToken::new(), cut: Cut::default() };
    let (in_memory, incoming) = memory::connect();
    let over_memory = role.tasks.watched("grpc_in_memory", serve_memory(routes.clone(), incoming, ending.clone()));
    let over_tcp = serve_tcp(name, routes, role.grpc_web, grpc_listener, listen.limits, ending.clone());
    let over_tcp = role.tasks.watched("grpc", over_tcp);
    let http_address = http.as_ref().map(|(_, address)| *address);
    let (state, tasks_state) = (health.state(), role.tasks.health());
    let own = Probed { role: name, health: state.clone(), tasks: tasks_state.clone() };
    let probed = others.iter().map(Serving::probed).chain([own]).collect();
    let probes = http.map(|(listener, _)| {
        let stopping = shutdown.token();
        role.tasks.restarted("metrics_upkeep", move || http::keep_metrics_small(stopping.clone()));
        let no_more = CancellationToken::new();
        let serving = http::serve(name, listener, probed, listen.limits, no_more.clone());
        Probes { no_more, server: role.tasks.watched("http", serving) }
    });
    let (tasks, database, begins) = (role.tasks, role.database, shutdown.clone());
    let task = tasks::detached("shutdown", async move {
        let deadline = begins.begun().await;
        health.shutting_down().await;
        ending.no_new_calls.cancel();
        health.end_watches();
        ending.end_calls(name, [over_tcp, over_memory], deadline).await;
        let stopped = tasks.join(deadline.part(TASKS_SHARE)).await;
        if stopped > 0 {
            tracing::warn!(role = name, stopped, "tasks were stopped where they were: the time for them was over");
        }
        if tokio::time::timeout_at(deadline.part(DATABASE_SHARE).into(), database.close()).await.is_err() {
            tracing::warn!(role = name, "the connections of the database were not closed in order: it does not answer");
        }
    });
    let (health, tasks) = (state, tasks_state);
    Ok(Serving { name, grpc, http: http_address, in_memory, health, tasks, shutdown, task, probes })
}

/// How the calls of a role end.
#[derive(Clone)]
struct Ending {
    /// No new ones are taken.
    no_new_calls: CancellationToken,
    /// The connections of those that are still in flight are cut.
    cut: Cut,
}

impl Ending {
    /// Waits for the calls in flight; then cuts off what is left.
    async fn end_calls(&self, role: &'static str, servers: [JoinHandle<()>; 2], deadline: Deadline) {
        let Some(servers) = ended(servers, deadline.part(CALLS_SHARE)).await else { return };
        tracing::warn!(role, "calls were cut off in flight; they will be resumed or asked for again");
        self.cut.make();
        if let Some(servers) = ended(servers, deadline.part(CUT_SHARE)).await {
            servers.into_iter().for_each(|server| server.abort());
        }
    }
}

/// Waits until all have ended; gives them back when they have not by then.
async fn ended<const N: usize>(mut handles: [JoinHandle<()>; N], until: Instant) -> Option<[JoinHandle<()>; N]> {
    let all = async {
        for handle in handles.iter_mut().filter(|handle| !handle.is_finished()) {
            // Its end was reported where it is watched.
            let _ = handle.await;
        }
    };
    let in_time = tokio::time::timeout_at(until.into(), all).await;
    in_time.is_err().then_some(handles)
}

/// Binds an address. One that is in use is tried again for a while: after a crash, connections that were being made to
/// the port can hold it for a moment.
async fn bind(role: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let attempts = ConstantBuilder::default().with_delay(BIND_PAUSE).with_max_times(BIND_ATTEMPTS_MAX);
    let bound = (|| TcpListener::bind(address))
        .retry(attempts)
        .when(|error| error.kind() == std::io::ErrorKind::AddrInUse)
        .await
        .and_then(|listener| listener.local_addr().map(|bound| (listener, bound)));
    bound.map_err(|source| ServeError::Bind { role, address, source })
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
    grpc_web: Option<Cors>,
    listener: TcpListener,
    limits: Limits,
    ending: Ending,
) -> Result<(), Error> {
    let incoming = accept::connections(listener, role, "grpc", limits);
    let cut = ending.cut;
    let incoming = incoming.map(move |connection| connection.map(|io| Severable::new(io, cut.clone())));
    let server = server();
    let inside = tower::ServiceBuilder::new()
        .layer(MapRequestLayer::new(encoding::answered_alike))
        .layer(SlowClientLayer::new(&limits))
        .into_inner();
    let stopped = ending.no_new_calls.cancelled_owned();
    match grpc_web {
        Some(cors) => {
            // The limits are inside, so that their words are translated, too.
            let server = server.accept_http1(true).layer(cors.layer()).layer(tonic_web::GrpcWebLayer::new());
            server.layer(inside).add_routes(routes).serve_with_incoming_shutdown(incoming, stopped).await
        }
        None => server.layer(inside).add_routes(routes).serve_with_incoming_shutdown(incoming, stopped).await,
    }
}

async fn serve_memory(routes: Routes, incoming: memory::Incoming, ending: Ending) -> Result<(), Error> {
    let cut = ending.cut;
    let incoming = incoming.map(move |pipe| pipe.map(|io| Severable::new(io, cut.clone())));
    server().add_routes(routes).serve_with_incoming_shutdown(incoming, ending.no_new_calls.cancelled_owned()).await
}
