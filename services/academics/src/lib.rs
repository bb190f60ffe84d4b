//! Academics: what students may take, and what is on their record.
//!
//! | module | one job |
//! |---|---|
//! | [`grpc`] | wire to domain and back; no rules |
//! | [`domain`] | the rules, pure |
//! | [`store`] | the only SQL |

use std::sync::Arc;

use jiff::tz::TimeZone;
use matricula_kit::database::{Database, DbError, Migrator, Schema};
use matricula_kit::participant::{Participant as _, Writer, WriterLimits};
use matricula_kit::serve::Role;
use matricula_kit::tasks::Tasks;
use matricula_proto::academics::v1::academic_service_server::{AcademicServiceServer, SERVICE_NAME};
use tonic::codec::CompressionEncoding;
use tonic::service::RoutesBuilder;

pub mod domain;
pub mod grpc;
pub mod store;

/// The tables of the service.
pub static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");
/// The schema of this service.
pub static SCHEMA: Schema = Schema::participant(&MIGRATIONS, &[]);

/// Largest message: a batch of 1,000 operations, many times over.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Brings the schema up to date and starts the writer. The role is then ready to be served. Students read moments in the
/// campus's time zone.
pub async fn start(database: Database, time_zone: TimeZone) -> Result<Role, DbError> {
    database.migrate(&SCHEMA).await?;
    database.set_fillfactor(&["course_record"]).await?;
    let academics = Arc::new(store::Academics::new(database.clone(), time_zone));
    let tasks = Tasks::new(store::Academics::NAME);
    let writer = Writer::start(academics.clone(), database.clone(), WriterLimits::default(), &tasks);
    let service = AcademicServiceServer::new(grpc::AcademicGrpc::new(academics.clone(), writer))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    let mut routes = RoutesBuilder::default();
    routes.add_service(service);
    Ok(Role {
        name: store::Academics::NAME,
        routes,
        service_names: vec![SERVICE_NAME],
        database,
        tasks,
        grpc_web: None,
        is_participant: true,
        imports: Some(academics),
    })
}
