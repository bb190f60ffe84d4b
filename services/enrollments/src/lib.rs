//! Enrollments: the official record of who is enrolled in which section.
//!
//! ```text
//! grpc    wire <-> domain, no rules
//! domain  the rules, pure: what may be enrolled or created, what a cancel and a commit mean
//! store   the only SQL, and the participant that joins the two
//! ```
//!
//! To enroll is the pivot of a registration: its adds become `ENROLLED` and its drops `DROPPED` in one transaction, or it
//! is refused with its reasons, or because it was withdrawn before. A registration of definition version 1 does the same in
//! two steps: it creates pending enrollments and marks, and commits them. No student is in force twice in a section, or
//! in a part of a course.

mod domain;
mod grpc;
mod store;

use std::sync::Arc;

use matricula_kit::database::{Database, DbError, Migrator, Schema};
use matricula_kit::participant::{Writer, WriterLimits};
use matricula_kit::serve::Role;
use matricula_kit::tasks::Tasks;
use matricula_proto::enrollments::v1::enrollment_service_server::{EnrollmentServiceServer, SERVICE_NAME};
use tonic::codec::CompressionEncoding;
use tonic::service::RoutesBuilder;

use crate::grpc::EnrollmentsGrpc;
use crate::store::Enrollments;

/// Name of the role.
pub const NAME: &str = "enrollments";
/// The schema of the service, after the kit's own.
static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");
/// The schema of this service.
pub static SCHEMA: Schema = Schema::participant(&MIGRATIONS, &[]);
/// Largest message: a thousand operations of twenty sections are well below it.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Brings the database up to date and makes the role ready to be served.
pub async fn start(database: Database) -> Result<Role, DbError> {
    database.migrate(&SCHEMA).await?;
    database.set_fillfactor(&["enrollments"]).await?;
    let tasks = Tasks::new(NAME);
    let writer = Writer::start(Arc::new(Enrollments), database.clone(), WriterLimits::default(), &tasks);
    let server = EnrollmentServiceServer::new(EnrollmentsGrpc::new(writer, database.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    let mut routes = RoutesBuilder::default();
    routes.add_service(server);
    Ok(Role {
        name: NAME,
        routes,
        service_names: vec![SERVICE_NAME],
        database,
        tasks,
        grpc_web: None,
        is_participant: true,
        imports: None,
    })
}
