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
mod imports;
mod participant;
mod store;

use std::sync::Arc;

use matricula_kit::database::{Database, DbError, Migrator, Schema};
use matricula_kit::participant::{Writer, WriterLimits};
use matricula_kit::serve::Role;
use matricula_kit::tasks::Tasks;
use matricula_kit::time::TimeZone;
use matricula_proto::seats::v1::seat_service_server::{SERVICE_NAME, SeatServiceServer};
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic::service::RoutesBuilder;

use crate::feed::Feed;
use crate::grpc::SeatsGrpc;
use crate::imports::SeatImports;
use crate::participant::Seats;

/// The schema of the service, after the kit's own.
static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");
/// The schema of this service.
pub static SCHEMA: Schema = Schema::participant(&MIGRATIONS, &[]);

/// Largest message: a thousand operations of twenty sections are well below it.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Brings the database up to date and starts the service. `shutdown` ends the feed, so that its endless streams don't
/// hold up the end of the server; the other calls finish on their own. Students are told moments as they are in `zone`.
pub async fn start(database: Database, zone: TimeZone, shutdown: CancellationToken) -> Result<Role, DbError> {
    database.migrate(&SCHEMA).await?;
    let feed = Arc::new(Feed::default());
    let tasks = Tasks::new("seats");
    feed::follow(feed.clone(), &database, shutdown, &tasks).await?;
    let seats = Arc::new(Seats::new(feed.clone(), &database, zone));
    let writer = Writer::start(seats, database.clone(), WriterLimits::default(), &tasks);
    let imports = Arc::new(SeatImports::new(writer.clone(), database.clone()));
    let server = SeatServiceServer::new(SeatsGrpc::new(writer, database.clone(), feed))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    let mut routes = RoutesBuilder::default();
    routes.add_service(server);
    Ok(Role {
        name: "seats",
        routes,
        service_names: vec![SERVICE_NAME],
        database,
        tasks,
        grpc_web: None,
        is_participant: true,
        imports: Some(imports),
    })
}
