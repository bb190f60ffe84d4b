//! Cancels one registration, as long as that is possible.

use std::time::Duration;

use matricula_engine::{Cause, DecideError, Outcome, SagaState};
use matricula_kit::id::SagaId;
use matricula_kit::status;
use matricula_proto::registration::v1 as wire;
use matricula_runtime::CancelError;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::{RETRY_UNAVAILABLE, RegistrationGrpc};

/// Who cancels, in the log: portals don't say which person.
const BY: &str = "portal";
/// How long a cancel may take to be durable and, where all goes well, undone.
const WAIT: Duration = Duration::from_secs(2);
/// Between two tries while a registration enters the executor: it was just accepted or adopted.
const ENTERING: Duration = Duration::from_millis(20);

impl RegistrationGrpc {
    pub(super) async fn cancel(&self, id: &SagaId, reason: &str) -> Result<wire::Registration, Status> {
        let until = Instant::now() + WAIT;
        let mut follower = self.follow(id).await?;
        loop {
            match self.runtime.cancel(id, BY, reason).await {
                Ok(()) => break,
                Err(CancelError::Refused(error)) => return Err(refused(&error)),
                Err(CancelError::NotHere) => {}
            }
            follower = self.follow(id).await?;
            match follower.state() {
                Some(state) if is_cancelled(state) => break,
                Some(state) if state.phase().is_finished() || state.cause().is_some() => return Err(too_late(state)),
                _ if follower.is_driven_here() && Instant::now() < until => tokio::time::sleep(ENTERING).await,
                _ => return Err(unknown("another replica drives the registration; send the cancel again")),
            }
        }
        follower.wait(until, &self.shutdown, |state| is_cancelled(state) && state.outcome() != Outcome::Pending).await;
        match follower.state() {
            Some(state) if is_cancelled(state) => Ok(follower.to_wire()),
            _ => Err(unknown("the cancel is not recorded yet; send it again")),
        }
    }
}

fn is_cancelled(state: &SagaState) -> bool {
    matches!(state.cause(), Some(Cause::Cancelled { .. }))
}

fn refused(error: &DecideError) -> Status {
    match error {
        DecideError::TooLateToCancel { .. } | DecideError::AlreadyTurned { .. } => {
            status::error(Code::FailedPrecondition, "TOO_LATE_TO_CANCEL", error.to_string())
        }
        DecideError::Stale { .. } | DecideError::UnknownStep { .. } | DecideError::Fold(_) => {
            tracing::error!(%error, "a cancel could not be decided");
            status::error(
                Code::Internal,
                "CANCEL_UNDECIDABLE",
                "the cancel could not be decided; the log has the cause",
            )
        }
    }
}

fn too_late(state: &SagaState) -> Status {
    let phase = state.phase().as_str();
    status::error(Code::FailedPrecondition, "TOO_LATE_TO_CANCEL", format!("too late to cancel: it is {phase}"))
}

fn unknown(message: &str) -> Status {
    status::retry(Code::Unavailable, "NOT_CANCELLED_YET", message, RETRY_UNAVAILABLE)
}
