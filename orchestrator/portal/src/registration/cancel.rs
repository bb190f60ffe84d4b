//! Cancels one registration, as long as that is possible, from whichever replica.

use std::time::Duration;

use matricula_kit::id::SagaId;
use matricula_kit::status;
use matricula_proto::registration::v1 as wire;
use matricula_runtime::{CommandError, CommandRequest, RequestedCommand};
use tokio::time::Instant;
use tonic::{Code, Status};

use super::{RETRY_UNAVAILABLE, RegistrationGrpc};

/// Who cancels, in the log: portals don't say which person.
const BY: &str = "portal";
/// How long a cancel that is durable may take to be undone before it is answered as it stands.
const WAIT: Duration = Duration::from_secs(2);

impl RegistrationGrpc {
    pub(super) async fn cancel(&self, id: &SagaId, reason: String) -> Result<wire::Registration, Status> {
        let request = CommandRequest { command: RequestedCommand::Cancel, by: BY.to_owned(), reason, id: None };
        self.runtime.command(id, request).await.map_err(|error| not_cancelled(id, error))?;
        let mut follower = self.follow(id).await?;
        self.wait_for_outcome(&mut follower, Instant::now() + WAIT).await;
        Ok(follower.to_wire())
    }
}

fn not_cancelled(id: &SagaId, error: CommandError) -> Status {
    let message = error.to_string();
    match error {
        CommandError::NotFound => status::not_found("registration", id.as_str()),
        CommandError::Refused(_) => status::error(Code::FailedPrecondition, "TOO_LATE_TO_CANCEL", message),
        CommandError::LeftAlone(_) => status::error(Code::FailedPrecondition, "SAGA_UNREADABLE", message),
        CommandError::Unanswered => {
            let message = "the cancel is not recorded yet; send it again";
            status::retry(Code::Unavailable, "NOT_CANCELLED_YET", message, RETRY_UNAVAILABLE)
        }
        CommandError::Database(error) => error.into(),
    }
}
