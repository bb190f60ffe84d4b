//! Fees: what a student is charged for a registration, and what is given back.
//!
//! ```text
//! grpc    wire <-> domain, no rules
//! imports what imports bring: rates and course fees
//! domain  the rules, pure: prices, rounding, the refund ladder, what is posted
//! store   the only SQL: postings, balances, rates
//! ```
//!
//! Promises: postings are only ever added; an account's balance is the sum of its postings at every commit; a charge is
//! given back at most once, and never more than was charged.

use std::sync::Arc;

use matricula_kit::database::{Database, DbError, Migrator, Schema};
use matricula_kit::participant::{Writer, WriterLimits};
use matricula_kit::serve::Role;
use matricula_kit::tasks::Tasks;
use matricula_proto::fees::v1::fee_service_server::{FeeServiceServer, SERVICE_NAME};
use tonic::codec::CompressionEncoding;

mod domain;
mod grpc;
mod imports;
mod store;

/// Name of the role.
pub const NAME: &str = "fees";
/// Largest message in either direction: a thousand operations with twenty sections each fit several times.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");
/// The schema of this service.
pub static SCHEMA: Schema = Schema::participant(&MIGRATIONS, &[]);

/// Brings the schema up to date and makes the role ready to be served.
pub async fn start(database: Database) -> Result<Role, DbError> {
    database.migrate(&SCHEMA).await?;
    database.set_fillfactor(&["accounts"]).await?;
    let tasks = Tasks::new(NAME);
    let writer = Writer::start(Arc::new(store::Fees::default()), database.clone(), WriterLimits::default(), &tasks);
    let server = FeeServiceServer::new(grpc::FeeGrpc::new(writer, database.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    let mut routes = tonic::service::RoutesBuilder::default();
    routes.add_service(server);
    let imports = Arc::new(imports::FeeImports::new(database.clone()));
    Ok(Role {
        name: NAME,
        routes,
        service_names: vec![SERVICE_NAME],
        database,
        tasks,
        grpc_web: None,
        is_participant: true,
        imports: Some(imports),
    })
}
