//! Serves a role: gRPC over TCP and in memory, health, reflection, `/metrics`, `/healthz`, `/readyz`. A shutdown loses
//! nothing and has one deadline: the role takes no new calls, the calls in flight finish, the tasks end (the writer is
//! one of them), and the database is closed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backoff::{ConstantBuilder, Retryable as _};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic::transport::Channel;
use tower::ServiceBuilder;
use tower::layer::layer_fn;

use crate::database::Database;
pub use crate::role::Role;
use crate::shutdown::{Deadline, Shutdown};
use crate::tasks::{self, TaskFailure, TaskHealth, Tasks};
use crate::telemetry::Traced;

mod client_deadline;
mod connections;
mod cors;
mod encoding;
mod health;
mod http;
mod limits;
mod memory;
mod reflection;
mod slow_client;
#[cfg(test)]
mod tests;

use client_deadline::ClientDeadline;
use connections::{Connections, Port, Service};
pub use cors::Cors;
use health::Health;
pub use health::RoleHealth;
use http::Probed;
pub use http::install_metrics;
pub use limits::{Limits, LimitsConfig};
use slow_client::SlowClientLimits;

/// The share of the time until the deadline that calls in flight may take. It is the largest share: a call whose
/// connection is ended gives its caller no answer, and the later parts of a shutdown are quick unless they hang.
const CALLS_SHARE: f64 = 0.6;
/// The shares of the remaining time for the tasks of the role, its database, and the last answer of a probe.
const TASKS_SHARE: f64 = 0.6;
const DATABASE_SHARE: f64 = 0.6;
const PROBES_SHARE: f64 = 0.3;
/// An address that is in use is tried again so often, with this pause: for three seconds in all.
const BIND_ATTEMPTS_MAX: usize = 30;
const BIND_PAUSE: Duration = Duration::from_millis(100);

/// Where a role listens. Port 0 takes a free one.
#[derive(Debug, Clone, Copy)]
pub struct Listen {
    /// gRPC.
    pub grpc: SocketAddr,
    /// HTTP: metrics and probes; `None` when another role of the process serves them.
    pub http: Option<SocketAddr>,
    /// The limits of clients at each port.
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

/// The HTTP port of a role. Until it is ended, it reports a role that is shutting down.
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
    /// The health of the role, as it changes.
    pub fn health(&self) -> watch::Receiver<RoleHealth> {
        self.health.clone()
    }

    /// Waits until a task has failed without which the role can't go on; then the process must end. Waits for ever if
    /// none fails.
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

    /// Waits until the role and its probes have ended, after the shutdown has begun.
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
        end_servers([self.server], deadline.part(PROBES_SHARE)).await;
    }
}

/// Binds the addresses and serves the role until `shutdown`.
pub async fn serve(role: Role, listen: Listen, shutdown: impl Into<Shutdown>) -> Result<Serving, ServeError> {
    serve_beside(role, &[], listen, shutdown).await
}

/// The same; its probes speak for other roles of the process, too.
pub async fn serve_beside(
    mut role: Role,
    others: &[Serving],
    listen: Listen,
    shutdown: impl Into<Shutdown>,
) -> Result<Serving, ServeError> {
    let (name, limits, shutdown) = (role.name, listen.limits, shutdown.into());
    role.tasks.end_with(shutdown.token());
    let (grpc_listener, grpc) = bind(name, listen.grpc).await?;
    let http_listener = match listen.http {
        Some(address) => Some(bind(name, address).await?),
        None => None,
    };
    let health = Arc::new(Health::new(name, role.service_names.clone(), shutdown.token()).await);
    let routes = routes(&mut role, &health).await?;
    let (following, database, tasks_health) = (health.clone(), role.database.clone(), role.tasks.health());
    // Without it nothing reports that the database is away.
    role.tasks.must_run("health", async move { following.follow(database, tasks_health).await });

    let no_new_calls = CancellationToken::new();
    let (in_memory, accepted) = memory::connect();
    let service = Service::new(ClientDeadline(routes.clone()));
    let pipes = Connections::new(name, connections::http(limits.stall).http2_only(), service);
    let over_memory = role.tasks.watched("grpc_in_memory", memory::serve(accepted, pipes, no_new_calls.clone()));
    let connections = over_tcp(name, routes, role.grpc_web.take(), &limits);
    let port = Port { role: name, protocol: "grpc", limits };
    let over_tcp = role.tasks.watched("grpc", port.serve(grpc_listener, connections, no_new_calls.clone()));

    let own = Probed { role: name, health: health.state(), tasks: role.tasks.health() };
    let probed = others.iter().map(Serving::probed).chain([own]).collect();
    let http = http_listener.as_ref().map(|(_, address)| *address);
    let probes = http_listener.map(|(listener, _)| {
        let stopping = shutdown.token();
        role.tasks.restarted("metrics_upkeep", move || http::keep_metrics_small(stopping.clone()));
        let no_more = CancellationToken::new();
        let serving = http::serve(name, listener, probed, limits, no_more.clone());
        Probes { no_more, server: role.tasks.watched("http", serving) }
    });
    let (state, tasks) = (health.state(), role.tasks.health());
    let ending =
        Ending { health, no_new_calls, servers: [over_tcp, over_memory], tasks: role.tasks, database: role.database };
    let task = tasks::detached("shutdown", ending.end(name, shutdown.clone()));
    Ok(Serving { name, grpc, http, in_memory, health: state, tasks, shutdown, task, probes })
}

/// All gRPC services of a role: its own, health and reflection. Each call is traced.
async fn routes(role: &mut Role, health: &Health) -> Result<Routes, ServeError> {
    let mut routes = std::mem::take(&mut role.routes);
    routes.add_service(
        health.server().await.accept_compressed(CompressionEncoding::Gzip).send_compressed(CompressionEncoding::Gzip),
    );
    reflection::add_to(&mut routes, &role.service_names)
        .map_err(|source| ServeError::Reflection { role: role.name, source })?;
    Ok(Routes::from(routes.routes().into_axum_router().layer(layer_fn(Traced))).prepare())
}

/// Connections of clients, within the limits of a port. Those of browsers speak gRPC-Web over HTTP/1, too.
fn over_tcp(role: &'static str, routes: Routes, grpc_web: Option<Cors>, limits: &Limits) -> Connections {
    let http = connections::http(limits.stall);
    let limits = SlowClientLimits::new(limits);
    let limited = ServiceBuilder::new()
        .map_request(encoding::answered_alike)
        .layer_fn(move |inner| limits.around(inner))
        .layer_fn(ClientDeadline)
        .service(routes);
    match grpc_web {
        Some(cors) => {
            // The limits are inside, so that their errors are translated, too.
            let translated = ServiceBuilder::new().layer(cors.layer()).layer(tonic_web::GrpcWebLayer::new());
            Connections::new(role, http, Service::new(translated.service(limited)))
        }
        None => Connections::new(role, http.http2_only(), Service::new(limited)),
    }
}

/// The parts of a role, in the order in which they end.
struct Ending {
    health: Arc<Health>,
    no_new_calls: CancellationToken,
    servers: [JoinHandle<()>; 2],
    tasks: Tasks,
    database: Database,
}

impl Ending {
    /// Waits for the shutdown, and ends the parts by its deadline.
    async fn end(self, role: &'static str, shutdown: Shutdown) {
        let deadline = shutdown.begun().await;
        self.health.shutting_down().await;
        self.no_new_calls.cancel();
        self.health.end_watches();
        if !end_servers(self.servers, deadline.part(CALLS_SHARE)).await {
            tracing::warn!(role, "calls were cut off in flight; they will be resumed or sent again");
        }
        let stopped = self.tasks.join(deadline.part(TASKS_SHARE)).await;
        if stopped > 0 {
            tracing::warn!(role, stopped, "tasks were stopped where they were: the time for them was over");
        }
        if tokio::time::timeout_at(deadline.part(DATABASE_SHARE).into(), self.database.close()).await.is_err() {
            tracing::warn!(role, "the connections of the database were not closed in order: it does not answer");
        }
    }
}

/// Waits until all have ended, which they were requested to do. Those that have not by then are stopped, and their
/// connections end with them. Returns whether all have ended by themselves.
async fn end_servers<const N: usize>(servers: [JoinHandle<()>; N], until: Instant) -> bool {
    let mut in_time = true;
    for mut server in servers {
        // An error was reported where it happened.
        if tokio::time::timeout_at(until.into(), &mut server).await.is_err() {
            server.abort();
            in_time = false;
        }
    }
    in_time
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
