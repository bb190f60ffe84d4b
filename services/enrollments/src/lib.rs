//! Enrollments: the official record of who is enrolled in which section.
//!
//! ```text
//! grpc    wire <-> domain, no rules
//! domain  the rules, pure: what may be enrolled or created, what a cancel and a commit mean
//! store   the only SQL
//! ```
//!
//! To enroll is the pivot of a registration: its adds become `ENROLLED` and its drops `DROPPED` in one transaction, or
//! it is refused with its reasons, or because it was withdrawn before. A registration of definition version 1 does the
//! same in two steps: it creates pending enrollments and marks, and commits them. No student is in force twice in a
//! section, or in a part of a course.

mod domain;
mod grpc;
mod participant;
mod store;

use matricula_kit::database::{Database, DbError, IdColumns, Migrator, Schema};
use matricula_kit::grpc_server;
use matricula_kit::role::Role;
use matricula_proto::enrollments::v1::enrollment_service_server::EnrollmentServiceServer;

use crate::grpc::EnrollmentsGrpc;
use crate::participant::Enrollments;

/// Name of the role.
pub const NAME: &str = "enrollments";
static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");
/// `dropped_by_registration_id` stays a text: it is NULL in almost all rows, and a generated column is made of it.
const IDS: &[IdColumns] = &[IdColumns { table: "enrollments", columns: &["registration_id"] }];
/// The schema of this service.
pub static SCHEMA: Schema = Schema::participant(&MIGRATIONS, IDS);

/// Makes the role ready to be served.
pub async fn start(database: Database) -> Result<Role, DbError> {
    let role = Role::participant(NAME, database, &SCHEMA, &["enrollments"]).await?;
    let grpc = EnrollmentsGrpc { writer: role.writer(Enrollments), database: role.database.clone() };
    Ok(role.serving(grpc_server!(EnrollmentServiceServer::new(grpc))))
}
