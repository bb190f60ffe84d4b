//! Opens the database of a role, starts it, and serves it.
//!
//! A start waits a limited time for a database that does not answer yet, because machines may start in any order. A
//! database that answers with an error (missing database, wrong password, locked file) is an error at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use matricula_kit::connect;
use matricula_kit::database::{Database, DbError};
use matricula_kit::serve::{self, Limits, Listen, Serving};
use matricula_kit::shutdown::Shutdown;
use matricula_kit::tasks::Tasks;
use matricula_registration::{Channels, Registrations};
use matricula_runtime::{Retention, Runtime, SagaStore};
use tokio_util::sync::CancellationToken;
use tonic::service::RoutesBuilder;

use crate::arguments::Role;
use crate::config::{Config, SERVICES};

/// How long a role waits at its start for a database that does not answer, and how long between two tries. Then the
/// process ends with the cause, so that its supervisor restarts it or an operator looks.
const DATABASE_PATIENCE: Duration = Duration::from_secs(60);
const DATABASE_PAUSE: Duration = Duration::from_millis(500);

/// Starts a service and serves it until `shutdown`; `None` if `stopping` is cancelled before it has started. In `up`,
/// the orchestrator serves HTTP for all roles.
pub async fn service(
    config: &Config,
    role: Role,
    own_http: bool,
    limits: Limits,
    stopping: &CancellationToken,
    shutdown: Shutdown,
) -> anyhow::Result<Option<Serving>> {
    let token = shutdown.token();
    let started = start_with_retries(role, stopping, async || {
        let database = open(config, role).await?;
        let started = started(config, role, database, &token).await;
        started.with_context(|| format!("{}: can't start", role.name()))
    });
    let Some(started) = started.await? else { return Ok(None) };
    let (grpc, http) = config.listen(role).await?;
    Ok(Some(serve::serve(started, Listen { grpc, http: own_http.then_some(http), limits }, shutdown).await?))
}

async fn started(
    config: &Config,
    role: Role,
    database: Database,
    shutdown: &CancellationToken,
) -> anyhow::Result<serve::Role> {
    Ok(match role {
        Role::Seats => matricula_seats::start(database, config.zone()?, shutdown.clone()).await?,
        Role::Enrollments => matricula_enrollments::start(database).await?,
        Role::Academics => matricula_academics::start(database, config.zone()?).await?,
        Role::Fees => matricula_fees::start(database).await?,
        Role::Notifications => matricula_notifications::start(database, &config.delivery()).await?,
        Role::Orchestrator => anyhow::bail!("the orchestrator calls the services and is none of them"),
    })
}

/// Starts the orchestrator and serves it until `shutdown`; none if `shutdown` begins before it has started. Its probes
/// speak for the other roles of the process, too. The role has failed if it loses its lease, or if what drives the
/// sagas ends in another way.
pub async fn orchestrator(
    config: &Config,
    channels: Channels,
    limits: Limits,
    others: &[Serving],
    shutdown: Shutdown,
) -> anyhow::Result<Option<Serving>> {
    let own = &config.orchestrator;
    let token = shutdown.token();
    let registrations = Registrations::try_new(channels.clone())?.in_zone(config.zone()?);
    let workload = Arc::new(registrations.beginning_with(own.registration.begins_with_version)?);
    let started = start_with_retries(Role::Orchestrator, &token, async || {
        let database = open(config, Role::Orchestrator).await?;
        let mut store =
            SagaStore::open(database.clone()).await.context("orchestrator: the saga log can't be opened")?;
        if !own.read_database_url.is_empty() {
            store = store.with_lists_from(Database::replica(&own.read_database_url).await?);
        }
        let (runtime, task) = Runtime::start(workload.clone(), store, own.runtime.clone(), shutdown.clone())
            .await
            .context("orchestrator: the instance can't be registered")?;
        Ok((database, runtime, task))
    });
    let Some((database, runtime, task)) = started.await? else { return Ok(None) };

    let retention = Arc::new(Retention::new(runtime.clone(), own.retention.clone(), config.archive_dir()));
    let tasks = Tasks::new(Role::Orchestrator.name());
    let stopping = token.clone();
    tasks.restarted("retention", move || retention.clone().run(stopping.clone()));
    let mut routes = RoutesBuilder::default();
    matricula_portal::add_to(&mut routes, runtime.clone(), token.clone(), &tasks);
    matricula_ops::add_to(&mut routes, runtime, token);
    let service_names = [matricula_portal::SERVICE_NAMES.as_slice(), &matricula_ops::SERVICE_NAMES].concat();
    // Another instance adopts its sagas; this process must not go on.
    tasks.must_run("runtime", async move { Ok::<_, anyhow::Error>(task.await??) });
    let role =
        serve::Role { name: "orchestrator", routes, service_names, database, tasks, grpc_web: Some(config.cors()?) };
    let (grpc, http) = config.listen(Role::Orchestrator).await?;
    Ok(Some(serve::serve_beside(role, others, Listen { grpc, http: Some(http), limits }, shutdown).await?))
}

/// Starts a role, and tries again while its database does not answer, or after a conflict with another replica. `None`
/// if `stopping` is cancelled first. An abandoned start leaves nothing more in the database than a killed process.
async fn start_with_retries<T>(
    role: Role,
    stopping: &CancellationToken,
    start: impl AsyncFn() -> anyhow::Result<T>,
) -> anyhow::Result<Option<T>> {
    let is_repeatable = |error: &DbError| error.is_passing() || error.is_conflict();
    let is_passing =
        |error: &anyhow::Error| error.chain().any(|cause| cause.downcast_ref::<DbError>().is_some_and(is_repeatable));
    let give_up_at = Instant::now() + DATABASE_PATIENCE;
    loop {
        match stopping.run_until_cancelled(start()).await {
            None => return Ok(None),
            Some(Err(error)) if is_passing(&error) && Instant::now() < give_up_at => {
                let problem = format!("{error:#}");
                tracing::warn!(role = role.name(), problem, "the database can't be used yet; retrying");
                stopping.run_until_cancelled(tokio::time::sleep(DATABASE_PAUSE)).await;
            }
            Some(ended) => return ended.map(Some),
        }
    }
}

async fn open(config: &Config, role: Role) -> anyhow::Result<Database> {
    let url = config.database_url(role);
    Database::open(&url).await.with_context(|| format!("{}: the database can't be opened", role.name()))
}

/// Channels that connect at the first call, and reconnect when the connection is lost.
pub fn channels_over_tcp(config: &Config) -> anyhow::Result<Channels> {
    let channel = |service| connect::lazily(config.url(service));
    Ok(Channels {
        seats: channel(Role::Seats)?,
        enrollments: channel(Role::Enrollments)?,
        academics: channel(Role::Academics)?,
        fees: channel(Role::Fees)?,
        notifications: channel(Role::Notifications)?,
        urls: SERVICES.into_iter().map(|service| (service.name(), config.url(service).to_owned())).collect(),
    })
}
