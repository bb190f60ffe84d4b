//! Notifications: one message a finished registration.
//!
//! ```text
//! SendNotification --> writer --> messages (one transaction with the barrier) --wakes--> dispatcher --> sink
//!                                     ^                                                    |
//!                                     +---- delivered, or when to try again ---------------+
//! ```
//!
//! | part | one job |
//! |---|---|
//! | `grpc` | wire to domain, no rules; addresses, as imports bring them |
//! | `domain` | pure: what a message says, when its delivery is tried again |
//! | `store` | the only SQL |
//! | `participant` | the write path, which hands new messages over to the delivery |
//! | `delivery` | takes recorded messages to the configured sink |
//!
//! Promises: a registration has exactly one message; recording never waits for a delivery; a message is delivered at
//! least once, and a second time only when the process died, or the answer of the other side got lost, in between.

mod delivery;
mod domain;
mod grpc;
mod participant;
mod store;

use std::sync::Arc;

use matricula_kit::database::{Database, DbError, IdColumns, Migrator, Schema};
use matricula_kit::grpc_server;
use matricula_kit::metrics::Metric;
use matricula_kit::role::Role;
use matricula_proto::notifications::v1::notification_service_server::NotificationServiceServer;

pub use crate::delivery::{ConfigError, NotificationConfig, SinkConfig};
use crate::delivery::{Dispatcher, Waker};
use crate::domain::retry::Delays;
use crate::grpc::NotificationGrpc;
use crate::participant::Notifications;

/// The metrics of the delivery.
pub const METRICS: [Metric; 2] = [
    Metric::counter("matricula_notification_deliveries_total", "Tries to deliver a message, by sink and outcome"),
    Metric::gauge("matricula_notifications_waiting", "Messages that are not delivered yet"),
];

/// Name of the role.
pub const NAME: &str = "notifications";
static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");
const IDS: &[IdColumns] = &[IdColumns { table: "messages", columns: &["registration_id"] }];
/// The schema of this service.
pub static SCHEMA: Schema = Schema::participant(&MIGRATIONS, IDS);

/// Why the role could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The schema could not be brought up to date.
    #[error("the database of notifications")]
    Database(#[from] DbError),
    /// The sink can't be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Starts to deliver what is recorded, and makes the role ready to be served. Delivery ends with the role: what is
/// under way is finished, the rest waits for the next start.
pub async fn start(database: Database, config: &NotificationConfig) -> Result<Role, StartError> {
    let sink = config.sink.try_sink()?;
    let role = Role::participant(NAME, database, &SCHEMA, &["messages"]).await?;
    let (waker, woken) = Waker::new();
    Dispatcher::start(role.database.clone(), sink, Delays::default(), woken, &role.tasks);
    let writer = role.writer(Notifications::new(waker.clone()));
    let grpc = Arc::new(NotificationGrpc { writer, database: role.database.clone(), waker });
    Ok(role.with_imports(grpc.clone()).serving(grpc_server!(NotificationServiceServer::from_arc(grpc))))
}
