//! Purges sagas that have ended: their barrier rows are deleted when the orchestrator says so, never by age.
//!
//! Promises: no call of a saga is decided anew when its rows are gone. Every call says when its orchestrator last knew
//! that it drives the saga, which is before the saga's end. A call for which that is longer ago than
//! [`super::STALE_AFTER_MS`] is not decided without a barrier row, however long it lay in a queue, in a socket or in a
//! process that was stopped. The orchestrator purges a saga only when its end is hours longer ago than that. All
//! participants serve this beside their own service, so that none can leave it out.

use matricula_proto::participant::v1 as wire;
pub(crate) use matricula_proto::participant::v1::participant_service_server::SERVICE_NAME;
use matricula_proto::participant::v1::participant_service_server::{ParticipantService, ParticipantServiceServer};
use tonic::{Request, Response, Status};

use super::barrier;
use crate::database::{Database, DbError};
use crate::id::SagaId;
use crate::rpc::{self, FieldError};

/// Sagas whose rows go in one transaction: some milliseconds, for which a writer on SQLite waits.
const SAGAS_IN_COMMIT_MAX: usize = 200;

/// What all participants serve alike.
pub(crate) struct Purge {
    database: Database,
}

/// The service over a participant's database.
pub(crate) fn server(database: Database) -> ParticipantServiceServer<Purge> {
    ParticipantServiceServer::new(Purge::new(database))
}

impl Purge {
    /// Over a participant's database.
    pub(crate) fn new(database: Database) -> Self {
        Self { database }
    }

    async fn purge(&self, sagas: &[SagaId]) -> Result<u64, DbError> {
        let mut rows = 0;
        for sagas in sagas.chunks(SAGAS_IN_COMMIT_MAX) {
            let mut tx = self.database.begin().await?;
            rows += barrier::purge(&mut tx, sagas).await?;
            tx.commit().await?;
        }
        Ok(rows)
    }
}

#[tonic::async_trait]
impl ParticipantService for Purge {
    async fn forget_sagas(
        &self,
        request: Request<wire::ForgetSagasRequest>,
    ) -> Result<Response<wire::ForgetSagasResponse>, Status> {
        let sagas = saga_ids(request.into_inner().saga_ids)?;
        let rows = self.purge(&sagas).await?;
        metrics::counter!("matricula_barrier_rows_forgotten_total").increment(rows);
        Ok(Response::new(wire::ForgetSagasResponse { rows: i64::try_from(rows).unwrap_or(i64::MAX) }))
    }
}

fn saga_ids(ids: Vec<String>) -> Result<Vec<SagaId>, FieldError> {
    if ids.len() > rpc::OPERATIONS_MAX {
        return Err(FieldError::new("saga_ids", format!("at most {}, got {}", rpc::OPERATIONS_MAX, ids.len())));
    }
    let checked = ids.into_iter().enumerate();
    checked.map(|(index, id)| rpc::required_id(&format!("saga_ids[{index}]"), id, SagaId::try_new)).collect()
}
