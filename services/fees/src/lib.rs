//! Fees: what a student is charged for a registration, and what is given back.
//!
//! ```text
//! grpc    wire <-> domain, no rules; what imports bring: rates and course fees
//! domain  the rules, pure: prices, rounding, the refund ladder, what is posted
//! store   the only SQL: postings, balances, rates
//! ```
//!
//! Promises: postings are only ever added; an account's balance is the sum of its postings at every commit; a charge is
//! given back at most once, and never more than was charged.

mod domain;
mod grpc;
mod participant;
mod store;

use std::sync::Arc;

use matricula_kit::database::{Database, DbError, IdColumns, Migrator, Schema};
use matricula_kit::grpc_server;
use matricula_kit::role::Role;
use matricula_proto::fees::v1::fee_service_server::FeeServiceServer;

use crate::grpc::FeeGrpc;
use crate::participant::Fees;

/// Name of the role.
pub const NAME: &str = "fees";
static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");
const IDS: &[IdColumns] =
    &[IdColumns { table: "postings", columns: &["registration_id", "caused_by_registration_id"] }];
/// The schema of this service.
pub static SCHEMA: Schema = Schema::participant(&MIGRATIONS, IDS);

/// Makes the role ready to be served.
pub async fn start(database: Database) -> Result<Role, DbError> {
    let role = Role::participant(NAME, database, &SCHEMA, &["accounts"]).await?;
    let grpc = Arc::new(FeeGrpc { writer: role.writer(Fees::default()), database: role.database.clone() });
    Ok(role.with_imports(grpc.clone()).serving(grpc_server!(FeeServiceServer::from_arc(grpc))))
}
