//! Opens the database of a role, starts it, and serves it.

use std::sync::Arc;

use anyhow::Context as _;
use matricula_kit::connect;
use matricula_kit::database::Database;
use matricula_kit::serve::{self, Listen, Serving};
use matricula_registration::{Channels, Registrations};
use matricula_runtime::{Runtime, SagaStore};
use tokio_util::sync::CancellationToken;
use tonic::service::RoutesBuilder;

use crate::arguments::Role;
use crate::config::{Config, OrchestratorConfig};
use crate::roles::stop::Stop;

/// Starts and serves a service until `shutdown`. In `up`, the orchestrator serves HTTP for all.
pub async fn service(
    config: &Config,
    role: Role,
    own_http: bool,
    shutdown: CancellationToken,
) -> anyhow::Result<Serving> {
    let started = match role {
        Role::Seats => matricula_seats::start(open(config, role).await?, shutdown.clone()).await?,
        Role::Enrollments => matricula_enrollments::start(open(config, role).await?).await?,
        Role::Academics => matricula_academics::start(open(config, role).await?).await?,
        Role::Fees => matricula_fees::start(open(config, role).await?).await?,
        Role::Notifications => matricula_notifications::start(open(config, role).await?, &config.delivery()).await?,
        Role::Orchestrator => anyhow::bail!("the orchestrator calls the services and is none of them"),
    };
    let (grpc, http) = config.listen(role);
    Ok(serve::serve(started, Listen { grpc, http: own_http.then_some(http) }, shutdown).await?)
}

/// Starts and serves the orchestrator until the process is to end; if it loses its lease, the process ends.
pub async fn orchestrator(config: &Config, channels: Channels, stop: &Stop) -> anyhow::Result<Serving> {
    let own = &config.orchestrator;
    let shutdown = stop.token();
    let database = open(config, Role::Orchestrator).await?;
    let store = SagaStore::open(database.clone()).await.context("orchestrator: the saga log can't be opened")?;
    let workload = Arc::new(Registrations::try_new(channels.clone())?);
    let (runtime, task) = Runtime::start(workload, store, own.runtime.clone(), shutdown.clone())
        .await
        .context("orchestrator: the instance can't be registered")?;

    let mut routes = RoutesBuilder::default();
    let following = matricula_portal::add_to(&mut routes, runtime.clone(), shutdown.clone());
    matricula_ops::add_to(&mut routes, runtime, shutdown.clone());
    let service_names = [matricula_portal::SERVICE_NAMES.as_slice(), &matricula_ops::SERVICE_NAMES].concat();
    let stop = stop.clone();
    let watched = tokio::spawn(async move {
        if !matches!(task.await, Ok(Ok(()))) {
            // It has logged why. Another instance adopts its sagas; this process must not go on.
            stop.fail();
        }
    });
    let role = serve::Role {
        name: "orchestrator",
        routes,
        service_names,
        database,
        tasks: vec![watched, following],
        grpc_web: true,
    };
    let (grpc, http) = config.listen(Role::Orchestrator);
    Ok(serve::serve(role, Listen { grpc, http: Some(http) }, shutdown).await?)
}

async fn open(config: &Config, role: Role) -> anyhow::Result<Database> {
    let url = config.database_url(role);
    Database::open(&url).await.with_context(|| format!("{}: the database can't be opened", role.name()))
}

/// Channels that connect when they are first used, and again whenever the connection is lost.
pub fn channels_over_tcp(config: &OrchestratorConfig) -> anyhow::Result<Channels> {
    let channel = |url: &str| connect::lazily(url).with_context(|| format!("{url}: no URL"));
    Ok(Channels {
        seats: channel(&config.seats_url)?,
        enrollments: channel(&config.enrollments_url)?,
        academics: channel(&config.academics_url)?,
        fees: channel(&config.fees_url)?,
        notifications: channel(&config.notifications_url)?,
    })
}
