//! One writer a batch as in production: the seat service, called through its contract in memory, without a socket.
//!
//! It does more than the other designs: a barrier row a request, so that a repeat gets its recorded answer; the
//! ledger's columns; an announcement of each change to watchers. A request is one operation, so nothing is batched
//! before the writer.

use anyhow::{Context as _, bail};
use async_trait::async_trait;
use matricula_kit::database::Database;
use matricula_kit::id::SectionId;
use matricula_kit::time::TimeZone;
use matricula_proto::common::v1::operation_result::Outcome;
use matricula_proto::common::v1::{Operation, ReservedCourse};
use matricula_proto::imports::v1::import_row::Row;
use matricula_proto::imports::v1::import_service_client::ImportServiceClient;
use matricula_proto::imports::v1::{ApplyImportRequest, ImportRow, StageRowsRequest};
use matricula_proto::seats::v1 as wire;
use matricula_proto::seats::v1::seat_service_client::SeatServiceClient;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::{Decided, Decision, Design, Place, SeatRequest};

/// The step of a registration that holds seats.
const STEP: &str = "hold_seats";

/// The service and its client.
pub struct SeatService {
    client: SeatServiceClient<Routes>,
    database: Database,
    /// Ends the feed.
    shutdown: CancellationToken,
}

impl SeatService {
    /// Starts the service on an empty database and imports the sections.
    pub async fn open(place: &Place<'_>) -> anyhow::Result<Self> {
        let database = Database::open(place.url).await?;
        let shutdown = CancellationToken::new();
        let role = matricula_seats::start(database.clone(), TimeZone::UTC, shutdown.clone()).await?;
        let seats = |section: &SectionId| wire::SectionCapacity {
            section_id: section.to_string(),
            capacity: place.capacity,
            ..wire::SectionCapacity::default()
        };
        let rows = place.sections.iter().map(|section| ImportRow { row: Some(Row::Capacity(seats(section))) });
        let routes = role.routes.routes().prepare();
        let mut imports = ImportServiceClient::new(routes.clone());
        let import_id = "sections".to_owned();
        let part = StageRowsRequest { import_id: import_id.clone(), part: 0, rows: rows.collect() };
        imports.stage_rows(part).await?;
        imports.apply_import(ApplyImportRequest { import_id, parts: 1, base_version: 0 }).await?;
        // Its tasks end by themselves: the writer with the client, the feed after `shutdown`.
        let client = SeatServiceClient::new(routes);
        Ok(Self { client, database, shutdown })
    }
}

#[async_trait]
impl Design for SeatService {
    async fn request(&self, request: &SeatRequest) -> anyhow::Result<Decided> {
        let operation =
            Operation { saga_id: request.registration.to_string(), step: STEP.to_owned(), ..Operation::default() };
        let section = ReservedCourse {
            section_id: request.section.to_string(),
            course_id: "C1".to_owned(),
            term_id: "T1".to_owned(),
            ..ReservedCourse::default()
        };
        let operation = wire::HoldSeatsOperation {
            operation: Some(operation),
            student_id: request.student.to_string(),
            sections: vec![section],
        };
        let request = wire::HoldSeatsRequest { operations: vec![operation] };
        let response = self.client.clone().hold_seats(request).await?.into_inner();
        let result = response.results.into_iter().next().and_then(|result| result.outcome).context("no answer")?;
        let decision = match result {
            Outcome::Done(_) => Decision::Granted,
            Outcome::Refused(_) => Decision::Refused,
            Outcome::Error(why) => bail!("not decided: {why:?}"),
        };
        Ok(Decided { decision, retries: 0 })
    }

    async fn close(&self) {
        self.shutdown.cancel();
        self.database.close().await;
    }
}
