//! Seats: who holds a seat in which section.
//!
//! ```text
//! grpc (wire to domain) --operations--> kit's writer --> participant: store loads and locks, domain decides, store writes
//!   ^                                                         |
//!   +---- WatchSeats <---- feed <---- every committed change -+
//! ```
//!
//! No seat is granted unless one is free at commit or an override is recorded with the grant. A hold belongs to its
//! saga, has no clock of its own and ends only by a release, so none leaks and none expires under a live saga.

mod domain;
mod feed;
mod grpc;
mod participant;
mod store;

use std::sync::Arc;

use matricula_kit::database::{Database, DbError, IdColumns, Migrator, Schema};
use matricula_kit::grpc_server;
use matricula_kit::role::Role;
use matricula_kit::time::TimeZone;
use matricula_proto::seats::v1::seat_service_server::SeatServiceServer;
use tokio_util::sync::CancellationToken;

use crate::feed::Feed;
use crate::grpc::SeatsGrpc;
use crate::participant::Seats;

/// Name of the role.
pub const NAME: &str = "seats";
static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");
const IDS: &[IdColumns] = &[IdColumns { table: "holds", columns: &["registration_id", "released_by"] }];
/// The schema of this service.
pub static SCHEMA: Schema = Schema::participant(&MIGRATIONS, IDS);

/// Makes the role ready to be served. `shutdown` ends the feed, so that its endless streams don't hold up the end of
/// the server; the other calls finish on their own. The moments in answers to students are in `zone`.
pub async fn start(database: Database, zone: TimeZone, shutdown: CancellationToken) -> Result<Role, DbError> {
    let role = Role::participant(NAME, database, &SCHEMA, &[]).await?;
    let feed = Arc::new(Feed::default());
    feed::follow(feed.clone(), &role.database, shutdown, &role.tasks).await?;
    let writer = role.writer(Seats::new(feed.clone(), &role.database, zone));
    let grpc = Arc::new(SeatsGrpc { writer, database: role.database.clone(), feed });
    Ok(role.with_imports(grpc.clone()).serving(grpc_server!(SeatServiceServer::from_arc(grpc))))
}
