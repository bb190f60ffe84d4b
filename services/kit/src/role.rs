//! A role of the system: what every service's `start` returns, and how a participant becomes one.

use std::convert::Infallible;
use std::sync::Arc;

use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::codegen::Service;
use tonic::codegen::http::Request;
use tonic::server::NamedService;
use tonic::service::RoutesBuilder;

use crate::database::{Database, DbError, Schema};
use crate::imports::{self, Imported};
use crate::participant::{self, Participant, Writer, WriterLimits};
use crate::serve::Cors;
use crate::tasks::Tasks;

/// Largest message in either direction: a thousand operations of twenty sections fit several times, and so do 1,000
/// students with their transcripts.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Messages are compressed where the other side can read it.
pub const COMPRESSION: CompressionEncoding = CompressionEncoding::Gzip;

/// Limits the messages of a gRPC server and compresses them. A macro, because tonic generates these methods for each
/// server and has no trait for them.
#[macro_export]
macro_rules! grpc_server {
    ($server:expr) => {
        $server
            .max_decoding_message_size($crate::role::MESSAGE_BYTES_MAX)
            .max_encoding_message_size($crate::role::MESSAGE_BYTES_MAX)
            .accept_compressed($crate::role::COMPRESSION)
            .send_compressed($crate::role::COMPRESSION)
    };
}

/// A role of the system, ready to be served.
pub struct Role {
    /// Name in metrics, logs and the command line.
    pub name: &'static str,
    /// Its gRPC services.
    pub routes: RoutesBuilder,
    /// Full names of its gRPC services, for health.
    pub service_names: Vec<&'static str>,
    /// Its database: health and `/readyz` report whether it answers; closed at the end.
    pub database: Database,
    /// Its tasks: health and `/readyz` report whether they run. They end by themselves after the shutdown, such as the
    /// writer when the last handle to it is gone.
    pub tasks: Tasks,
    /// Which pages of browsers may call it (gRPC-Web); none: browsers can't.
    pub grpc_web: Option<Cors>,
}

impl Role {
    /// A participant without its own services yet. Brings the schema up to date. The pages of `updated_tables` keep
    /// room for new versions of their rows.
    pub async fn participant(
        name: &'static str,
        database: Database,
        schema: &Schema<'_>,
        updated_tables: &[&'static str],
    ) -> Result<Self, DbError> {
        database.migrate(schema).await?;
        database.set_fillfactor(updated_tables).await?;
        let (routes, tasks) = (RoutesBuilder::default(), Tasks::new(name));
        let role = Self { name, routes, service_names: Vec::new(), database, tasks, grpc_web: None };
        let purge = grpc_server!(participant::server(role.database.clone()));
        Ok(role.serving(purge))
    }

    /// Starts the writer.
    pub fn writer<P: Participant>(&self, participant: P) -> Writer<P> {
        Writer::start(Arc::new(participant), self.database.clone(), WriterLimits::default(), &self.tasks)
    }

    /// The same role, which takes imports.
    pub fn with_imports(self, imported: Arc<impl Imported>) -> Self {
        let server = imports::server(imported, self.database.clone());
        self.serving(grpc_server!(server))
    }

    /// The same role with one more gRPC server.
    pub fn serving<S>(mut self, server: S) -> Self
    where
        S: Service<Request<Body>, Response = tonic::codegen::http::Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.routes.add_service(server);
        self.service_names.push(S::NAME);
        self
    }
}
