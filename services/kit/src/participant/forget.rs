//! Forgets sagas that have ended: their barrier rows are taken away on the word of the orchestrator, never by age.
//!
//! Promises: no call of a saga is decided anew when its rows are gone. Every call says when its orchestrator last knew that
//! it drives the saga, which is before the saga's end; one for which that is longer ago than [`STALE_AFTER_MS`] is not
//! decided without a barrier row, however long it lay in a queue, in a socket or in a process that was stopped; and the
//! orchestrator asks to forget a saga only when its end is hours longer ago than that. One for all participants, served
//! beside each one's own service, so that none can leave it out.

use matricula_proto::participant::v1 as wire;
pub(crate) use matricula_proto::participant::v1::participant_service_server::SERVICE_NAME;
use matricula_proto::participant::v1::participant_service_server::{ParticipantService, ParticipantServiceServer};
use tonic::{Request, Response, Status};

use super::barrier;
use crate::answer::{Answer, NotYet};
use crate::database::{Database, DbError};
use crate::id::SagaId;
use crate::rpc::{self, FieldError};
use crate::time::UnixMs;

/// An operation without a barrier row is not decided when its orchestrator last knew so long ago that it drives the saga,
/// in milliseconds: two hours. So the clocks of two machines may differ by an hour, and far more than that, before a fresh
/// call is kept out.
pub const STALE_AFTER_MS: i64 = 2 * 60 * 60 * 1_000;

/// When a stale operation should be sent again: at once would be the same.
const RETRY_STALE_MS: i64 = 1_000;
/// Sagas whose rows go in one transaction: some milliseconds, for which a writer on SQLite waits.
const SAGAS_IN_COMMIT_MAX: usize = 200;

/// Whether an operation is too old to be decided without a barrier row.
pub(super) fn is_stale(owner_alive_at: Option<UnixMs>, now: UnixMs) -> bool {
    owner_alive_at.is_some_and(|alive_at| now.0.saturating_sub(alive_at.0) > STALE_AFTER_MS)
}

/// What is answered to it. Nothing is recorded.
pub(super) fn stale() -> Answer {
    metrics::counter!("matricula_stale_operations_total").increment(1);
    Answer::NotYet(NotYet {
        reason: "STALE_OPERATION".to_owned(),
        message: format!(
            "by the clock of this service the call is more than {} minutes old, and is not decided any more; when every call \
             is answered so, the clocks of the machines differ",
            STALE_AFTER_MS / 60_000
        ),
        retry_after_ms: RETRY_STALE_MS,
        waits_for: None,
    })
}

/// What all participants serve alike.
pub(crate) struct Forget {
    database: Database,
}

/// The service over a participant's database.
pub(crate) fn server(database: Database) -> ParticipantServiceServer<Forget> {
    ParticipantServiceServer::new(Forget::new(database))
}

impl Forget {
    /// Over a participant's database.
    pub(crate) fn new(database: Database) -> Self {
        Self { database }
    }

    async fn forget(&self, sagas: &[SagaId]) -> Result<u64, DbError> {
        let mut rows = 0;
        for sagas in sagas.chunks(SAGAS_IN_COMMIT_MAX) {
            let mut tx = self.database.begin().await?;
            rows += barrier::forget(&mut tx, sagas).await?;
            tx.commit().await?;
        }
        Ok(rows)
    }
}

#[tonic::async_trait]
impl ParticipantService for Forget {
    async fn forget_sagas(
        &self,
        request: Request<wire::ForgetSagasRequest>,
    ) -> Result<Response<wire::ForgetSagasResponse>, Status> {
        let sagas = saga_ids(request.into_inner().saga_ids)?;
        let rows = self.forget(&sagas).await?;
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
