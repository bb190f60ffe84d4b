//! The five services in this process, each with its own database, served as in production and called over gRPC in
//! memory.

use std::net::SocketAddr;

use matricula_kit::database::Args;
use matricula_kit::serve::{Limits, Listen, Role, serve};
use matricula_kit::testing::{Backend, TestDatabase, empty_database, scans_of_sqlite};
use matricula_kit::time::TimeZone;
use matricula_registration::Channels;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Channel;

/// The services; they end with this.
pub struct Services {
    pub channels: Channels,
    databases: Vec<(&'static str, TestDatabase)>,
    _shutdown: DropGuard,
}

impl Services {
    pub async fn start(backend: Backend) -> Self {
        let shutdown = CancellationToken::new();
        let mut databases = Vec::new();
        let mut database = async |name| {
            let test = empty_database(backend).await;
            let database = test.database.clone();
            databases.push((name, test));
            database
        };
        let seats = database("seats").await;
        let seats = matricula_seats::start(seats, TimeZone::UTC, shutdown.clone()).await.expect("seats");
        let enrollments = matricula_enrollments::start(database("enrollments").await).await.expect("enrollments");
        let academics = database("academics").await;
        let academics = matricula_academics::start(academics, TimeZone::UTC).await.expect("academics");
        let fees = matricula_fees::start(database("fees").await).await.expect("fees");
        let notifications = database("notifications").await;
        let notifications =
            matricula_notifications::start(notifications, &Default::default()).await.expect("notifications");
        let channels = Channels {
            seats: channel(seats, &shutdown).await,
            enrollments: channel(enrollments, &shutdown).await,
            academics: channel(academics, &shutdown).await,
            fees: channel(fees, &shutdown).await,
            notifications: channel(notifications, &shutdown).await,
            urls: Default::default(),
        };
        Self { channels, databases, _shutdown: shutdown.drop_guard() }
    }

    /// The statements of a service that scan a table that grows with every registration, with their plans. Only on
    /// SQLite, whose plans do not depend on the rows of the tables.
    pub async fn scans(&self, service: &str, tables: &[&str]) -> Vec<(&'static str, String)> {
        let (_, test) = self.databases.iter().find(|(name, _)| *name == service).expect("one of the five");
        let mut scans = scans_of_sqlite(&test.database, tables, &["messages_to_deliver"]).await;
        // An audit reads everything, page by page.
        scans.retain(|(statement, _)| !statement.contains(" LIMIT "));
        scans
    }

    /// Deletes the barrier rows of a saga, without the service.
    pub async fn forget(&self, service: &str, saga: &str) {
        let (_, test) = self.databases.iter().find(|(name, _)| *name == service).expect("one of the five");
        let mut tx = test.database.begin().await.expect("a transaction");
        tx.execute("DELETE FROM barrier WHERE saga_id = $1", Args::new().id(saga)).await.expect("they are deleted");
        tx.commit().await.expect("a commit");
    }
}

async fn channel(role: Role, shutdown: &CancellationToken) -> Channel {
    let listen = Listen { grpc: SocketAddr::from(([127, 0, 0, 1], 0)), http: None, limits: Limits::default() };
    serve(role, listen, shutdown.clone()).await.expect("it is served").in_memory
}
