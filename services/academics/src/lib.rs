//! Academics: what students may take, and what is on their record.
//!
//! | module | one job |
//! |---|---|
//! | `grpc` | wire to domain and back; no rules |
//! | [`domain`] | the rules, pure |
//! | `participant` | the write path |
//! | `store` | the only SQL |

pub mod domain;
mod grpc;
mod participant;
mod store;

use std::sync::Arc;

use jiff::tz::TimeZone;
use matricula_kit::database::{Database, DbError, IdColumns, Migrator, Schema};
use matricula_kit::grpc_server;
use matricula_kit::role::Role;
use matricula_proto::academics::v1::academic_service_server::AcademicServiceServer;

use crate::grpc::AcademicGrpc;
use crate::participant::Academics;
use crate::store::AcademicStore;

/// Name of the role.
pub const NAME: &str = "academics";
static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");
const IDS: &[IdColumns] =
    &[IdColumns { table: "course_record", columns: &["registration_id", "dropped_by_registration_id"] }];
/// The schema of this service.
pub static SCHEMA: Schema = Schema::participant(&MIGRATIONS, IDS);

/// Makes the role ready to be served. The moments in answers to students are in the campus's time zone.
pub async fn start(database: Database, time_zone: TimeZone) -> Result<Role, DbError> {
    let role = Role::participant(NAME, database, &SCHEMA, &["course_record"]).await?;
    let store = Arc::new(AcademicStore::new(role.database.clone(), time_zone));
    let writer = role.writer(Academics { store: store.clone() });
    let grpc = AcademicGrpc { store: store.clone(), writer };
    Ok(role.with_imports(store).serving(grpc_server!(AcademicServiceServer::new(grpc))))
}
