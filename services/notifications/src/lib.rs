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
//! | `grpc` | wire to domain, no rules |
//! | `imports` | addresses, as imports bring them |
//! | `domain` | pure: what a message says, when its delivery is tried again |
//! | `store` | the only SQL |
//! | `handover` | new messages, from the writer to the dispatcher |
//! | `delivery` | takes recorded messages to the configured sink |
//!
//! Promises: a registration has exactly one message; recording never waits for a delivery; a message is delivered at
//! least once, and a second time only when the process died, or the answer of the other side got lost, in between.

use std::sync::Arc;

use matricula_kit::database::{Database, DbError, Migrator, Schema};
use matricula_kit::metrics::Metric;
use matricula_kit::participant::{Writer, WriterLimits};
use matricula_kit::serve::Role;
use matricula_kit::tasks::Tasks;
use matricula_proto::notifications::v1::notification_service_server::{NotificationServiceServer, SERVICE_NAME};
use tonic::codec::CompressionEncoding;

mod config;
mod delivery;
mod domain;
mod grpc;
mod handover;
mod imports;
mod store;

pub use config::{ConfigError, NotificationConfig, SinkConfig};
use delivery::{Dispatcher, Sink};
use domain::retry::Delays;
use handover::Waker;

/// The metrics of the delivery.
pub const METRICS: [Metric; 2] = [
    Metric::counter("matricula_notification_deliveries_total", "Tries to deliver a message, by sink and outcome"),
    Metric::gauge("matricula_notifications_waiting", "Messages that are not delivered yet"),
];

/// Name of the role.
pub const NAME: &str = "notifications";
/// Largest message in either direction: a thousand operations with all their reasons fit.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");
/// The schema of this service.
pub static SCHEMA: Schema = Schema::participant(&MIGRATIONS, &[]);

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

/// Brings the schema up to date, starts delivering what is recorded, and makes the role ready to be served. Delivery
/// ends with the role: what is under way is finished, the rest waits for the next start.
pub async fn start(database: Database, config: &NotificationConfig) -> Result<Role, StartError> {
    let sink = config.sink.try_sink()?;
    database.migrate(&SCHEMA).await?;
    Ok(role(database, sink, Delays::default()))
}

fn role(database: Database, sink: Arc<dyn Sink>, delays: Delays) -> Role {
    let (waker, woken) = Waker::new();
    let tasks = Tasks::new(NAME);
    Dispatcher::start(database.clone(), sink, delays, woken, &tasks);
    let imports = Arc::new(imports::ContactImports::new(database.clone(), waker.clone()));
    let participant = Arc::new(store::Notifications::new(waker));
    let writer = Writer::start(participant, database.clone(), WriterLimits::default(), &tasks);
    let server = NotificationServiceServer::new(grpc::NotificationGrpc::new(writer, database.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    let mut routes = tonic::service::RoutesBuilder::default();
    routes.add_service(server);
    Role {
        name: NAME,
        routes,
        service_names: vec![SERVICE_NAME],
        database,
        tasks,
        grpc_web: None,
        is_participant: true,
        imports: Some(imports),
    }
}
