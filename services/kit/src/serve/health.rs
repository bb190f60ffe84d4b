//! Whether a role can do its work: its database answers, its tasks run, and no shutdown has begun. The same state goes
//! to gRPC health (each service, and the empty name that Kubernetes asks for), to `/readyz` and to `/healthz`.

use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{Stream as _, StreamExt as _};
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health as HealthRpcs, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_health::server::{HealthReporter, HealthService};

use crate::database::Database;
use crate::tasks::{TaskFailure, TaskHealth};
use crate::telemetry;

/// Time between two looks: a probe sees a state that is at most this old.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A database that takes longer than a long transaction before the look is not available.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The name of gRPC for the server as a whole.
const WHOLE_SERVER: &str = "";

/// How a role is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoleHealth {
    /// Why it can't do its work at present; none if it is ready.
    pub not_ready: Option<String>,
    /// The task that ended though it must run: the role can't go on, and its process must end.
    pub failed: Option<TaskFailure>,
}

/// The state of a role, and where it is reported.
pub(super) struct Health {
    role: &'static str,
    services: Vec<&'static str>,
    reporter: Mutex<HealthReporter>,
    state: watch::Sender<RoleHealth>,
    shutdown: CancellationToken,
    no_watches: CancellationToken,
}

impl Health {
    /// Of a role that is ready: it has just used its database.
    pub(super) async fn new(role: &'static str, mut services: Vec<&'static str>, shutdown: CancellationToken) -> Self {
        let reporter = HealthReporter::new();
        services.push(WHOLE_SERVER);
        for service in &services {
            reporter.set_service_status(*service, ServingStatus::Serving).await;
        }
        let state = watch::channel(RoleHealth::default()).0;
        Self { role, services, reporter: Mutex::new(reporter), state, shutdown, no_watches: CancellationToken::new() }
    }

    /// The gRPC service.
    pub(super) async fn server(&self) -> HealthServer<impl HealthRpcs> {
        let statuses = HealthService::from_health_reporter(self.reporter.lock().await.clone());
        HealthServer::new(Statuses { statuses, no_watches: self.no_watches.clone() })
    }

    /// The state as it changes.
    pub(super) fn state(&self) -> watch::Receiver<RoleHealth> {
        self.state.subscribe()
    }

    /// Looks at database and tasks until the shutdown.
    pub(super) async fn follow(&self, database: Database, mut tasks: watch::Receiver<TaskHealth>) {
        let mut looking = Box::pin(look(&database));
        let mut away = None;
        loop {
            tokio::select! {
                problem = &mut looking => {
                    away = problem;
                    looking = Box::pin(look(&database));
                }
                Ok(()) = tasks.changed() => {}
                () = self.shutdown.cancelled() => return,
            }
            let TaskHealth { failed, restarting } = tasks.borrow_and_update().clone();
            let not_ready = if let Some(failure) = &failed {
                Some(failure.to_string())
            } else if let Some((task, problem)) = restarting.first_key_value() {
                Some(format!("the task {task} has ended and is being started again: {problem}"))
            } else {
                away.as_ref().map(|problem| format!("the database does not answer: {problem}"))
            };
            self.publish(RoleHealth { not_ready, failed }).await;
        }
    }

    /// Reports that the role is not ready, from now on.
    pub(super) async fn shutting_down(&self) {
        let failed = self.state.borrow().failed.clone();
        let reporter = self.reporter.lock().await;
        self.report(&reporter, RoleHealth { not_ready: Some("the role is shutting down".to_owned()), failed }).await;
    }

    /// Ends every watch, after the last change: they would hold up the end of the server.
    pub(super) fn end_watches(&self) {
        self.no_watches.cancel();
    }

    async fn publish(&self, state: RoleHealth) {
        let reporter = self.reporter.lock().await;
        // Checked under the lock: a state from before the shutdown must not be reported after it.
        if !self.shutdown.is_cancelled() {
            self.report(&reporter, state).await;
        }
    }

    async fn report(&self, reporter: &HealthReporter, state: RoleHealth) {
        let was_ready = self.state.borrow().not_ready.is_none();
        let not_ready = state.not_ready.clone();
        self.state.send_replace(state);
        if was_ready == not_ready.is_none() {
            return;
        }
        match &not_ready {
            None => tracing::info!(role = self.role, "ready again"),
            Some(problem) if self.shutdown.is_cancelled() => tracing::info!(role = self.role, problem, "not ready"),
            Some(problem) => tracing::warn!(role = self.role, problem, "not ready"),
        }
        let status = if not_ready.is_none() { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in &self.services {
            reporter.set_service_status(*service, status).await;
        }
    }
}

/// The statuses on the wire; a watch of them can be ended. tonic-health ends a watch only when the status of the
/// service is removed, and then the checks in flight get `NOT_FOUND`.
struct Statuses {
    statuses: HealthService,
    no_watches: CancellationToken,
}

#[tonic::async_trait]
impl HealthRpcs for Statuses {
    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        self.statuses.check(request).await
    }

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let mut changes = self.statuses.watch(request).await?.into_inner();
        let mut ended = Box::pin(self.no_watches.clone().cancelled_owned());
        let watched = stream::poll_fn(move |cx| match Pin::new(&mut changes).poll_next(cx) {
            // Only when the last change was sent.
            Poll::Pending => ended.as_mut().poll(cx).map(|()| None),
            change => change,
        });
        Ok(Response::new(watched.boxed()))
    }
}

/// Waits for the next look; what is wrong with the database then.
async fn look(database: &Database) -> Option<String> {
    tokio::time::sleep(LOOK_EVERY).await;
    match tokio::time::timeout(ANSWER_TIMEOUT, database.ping()).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(telemetry::chain(&error)),
        Err(_) => Some(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())),
    }
}
