//! The gRPC API for portals: registrations and the catalogue.
//!
//! ```text
//! RegistrationService --submit, cancel--> runtime --durable changes--> follow --outcome--> client
//! WatchLine <--- one response a second, for all streams <--- the line (runtime)
//! CatalogService <--- availability (in memory) <--- feed <--- WatchSeats (seat service)
//!       \------------- ListSections (academic service), for what a section is
//! ```
//!
//! Promises: a registration is read once, together with those of other callers, and its changes come from memory. A
//! place in line comes from memory. Availability never touches the write path, and has its age and whether it is live.
//! Every stream ends when the process shuts down.

mod availability;
mod catalog;
mod line;
mod registration;

use std::sync::Arc;
use std::time::Duration;

use matricula_kit::metrics::Metric;
use matricula_kit::status;
use matricula_kit::tasks::Tasks;
use matricula_proto::catalog::v1::catalog_service_server::{self, CatalogServiceServer};
use matricula_proto::registration::v1::registration_service_server::{self, RegistrationServiceServer};
use matricula_registration::Registrations;
use matricula_runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic::service::RoutesBuilder;
use tonic::{Code, Status};

use crate::availability::{AvailabilityCache, feed};
use crate::catalog::CatalogGrpc;
use crate::registration::RegistrationGrpc;

/// Full names of the gRPC services, for health.
pub const SERVICE_NAMES: [&str; 2] = [registration_service_server::SERVICE_NAME, catalog_service_server::SERVICE_NAME];

/// Paths of the RPCs that begin a trace when the client has not begun one: those that submit something.
pub const BEGINS_TRACES: [&str; 2] = [
    "/matricula.registration.v1.RegistrationService/SubmitRegistration",
    "/matricula.registration.v1.RegistrationService/SubmitCart",
];
/// The metrics of the portal.
pub const METRICS: [Metric; 2] = [
    Metric::gauge("matricula_availability_sections", "Sections whose seat counts are in memory"),
    Metric::gauge("matricula_availability_live", "1 while seat counts follow the seat service, otherwise 0"),
];

/// Largest request: a cart of 20 times 20 sections is far below it.
const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Largest answer: a page of 1,000 registrations with all their reasons.
const RESPONSE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// When a client should come back to a replica that is starting, ending or handing over.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Adds the two services to the routes, and follows the seat service until `shutdown`, by a task of the role.
pub fn add_to(
    routes: &mut RoutesBuilder,
    runtime: Arc<Runtime<Registrations>>,
    shutdown: CancellationToken,
    tasks: &Tasks,
) {
    let channels = runtime.workload().channels.clone();
    let cache = Arc::new(AvailabilityCache::default());
    feed::start(cache.clone(), channels.seats, shutdown.clone(), tasks);
    let catalog = CatalogGrpc::new(cache.clone(), channels.academics, shutdown.clone());
    let registration = RegistrationGrpc::new(runtime, cache, shutdown, tasks);
    routes
        .add_service(
            RegistrationServiceServer::new(registration)
                .max_decoding_message_size(REQUEST_BYTES_MAX)
                .max_encoding_message_size(RESPONSE_BYTES_MAX)
                .accept_compressed(CompressionEncoding::Gzip)
                .send_compressed(CompressionEncoding::Gzip),
        )
        .add_service(
            CatalogServiceServer::new(catalog)
                .max_decoding_message_size(REQUEST_BYTES_MAX)
                .max_encoding_message_size(RESPONSE_BYTES_MAX)
                .accept_compressed(CompressionEncoding::Gzip)
                .send_compressed(CompressionEncoding::Gzip),
        );
}

/// A request that can be sent again soon.
pub(crate) fn unavailable(reason: &'static str, message: &str) -> Status {
    status::retry(Code::Unavailable, reason, message, RETRY_AFTER)
}

/// The end of a stream when the process shuts down. It is an error, because the changes have not ended.
pub(crate) fn shutting_down() -> Status {
    unavailable("SHUTTING_DOWN", "the orchestrator is shutting down; send the same again")
}
