//! The API for operators: the state of every saga, why it is stuck, and the commands that help; the door of
//! registration; rosters of another system.
//!
//! | module | one job |
//! |---|---|
//! | `grpc` | `SagaService`: bounds, pages, streams, commands; `DoorService` |
//! | `roster` | `RosterService`: takes over rows of rosters as registrations |
//! | `explain` | why a saga is in its state, in words |
//! | `waits` | the service or the saga that a saga waits for |
//! | `wire` | a saga, its steps and its events on the wire |
//!
//! Promises: the API shows the saga log. A saga that can't be read is shown as such, with what is known of it, and
//! hides no other. The API writes no saga: a command goes to the instance that drives the saga, and is answered when it
//! is durable there.

mod explain;
mod grpc;
mod roster;
mod waits;
mod wire;

use std::sync::Arc;

use matricula_proto::ops::v1::door_service_server::{self, DoorServiceServer};
use matricula_proto::ops::v1::roster_service_server::{self, RosterServiceServer};
use matricula_proto::ops::v1::saga_service_server::{self, SagaServiceServer};
use matricula_registration::Registrations;
use matricula_runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic::service::RoutesBuilder;

use crate::grpc::SagaGrpc;
use crate::grpc::door::DoorGrpc;
pub use crate::grpc::find::beginning;
use crate::roster::RosterGrpc;
pub use crate::wire::{shown, summary};

/// Full names of the gRPC services, for health.
pub const SERVICE_NAMES: [&str; 3] =
    [saga_service_server::SERVICE_NAME, door_service_server::SERVICE_NAME, roster_service_server::SERVICE_NAME];

/// Largest answer: a saga that has been retried for days has thousands of events.
const RESPONSE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The orchestrator of this API.
pub(crate) type Orchestrator = Runtime<Registrations>;

/// Adds the services to the routes; their streams and waits end with `shutdown`.
pub fn add_to(routes: &mut RoutesBuilder, runtime: Arc<Orchestrator>, shutdown: CancellationToken) {
    let sagas = SagaServiceServer::new(SagaGrpc::new(runtime.clone(), shutdown.clone()));
    let door = DoorServiceServer::new(DoorGrpc::new(runtime.clone()));
    let rosters = RosterServiceServer::new(RosterGrpc::new(runtime, shutdown));
    routes
        .add_service(door.accept_compressed(CompressionEncoding::Gzip).send_compressed(CompressionEncoding::Gzip))
        .add_service(
            sagas
                .max_encoding_message_size(RESPONSE_BYTES_MAX)
                .accept_compressed(CompressionEncoding::Gzip)
                .send_compressed(CompressionEncoding::Gzip),
        )
        .add_service(
            rosters
                .max_encoding_message_size(RESPONSE_BYTES_MAX)
                .accept_compressed(CompressionEncoding::Gzip)
                .send_compressed(CompressionEncoding::Gzip),
        );
}
