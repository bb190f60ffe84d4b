//! Cancels and operators' commands: each is carried out by the instance that drives the saga, wherever it was asked
//! for.
//!
//! ```text
//! here:     command ──► core ──► log ──► answer
//! another:  command ──► saga_requests ──NOTIFY──► its owner's `requests` ──► core ──► log ──► answer in the row
//! ```
//!
//! Promises: a command is decided by the one core that drives the saga, in turn with all else that happens to it;
//! what is answered is durable; a command that is sent again after it took effect is answered alike. The log keeps the
//! id of each operator's command: so a command whose answer was lost, or came too late, is not looked at anew when it
//! comes again.

use std::time::Duration;

use matricula_core::SagaId;
use tokio::time::Instant;

use crate::Workload;
use crate::command_request::{ANSWER_WAIT, CommandError, CommandRequest};
use crate::runtime::Runtime;

/// Between two tries while a saga enters the core: first, because it was just accepted; and longest, because it waits
/// with many others that were adopted.
const ENTERING: Duration = Duration::from_millis(20);
const ENTERING_MAX: Duration = Duration::from_millis(500);

impl<W: Workload> Runtime<W> {
    /// Has a request carried out by the instance that drives the saga, and returns when that is durable.
    pub async fn command(&self, saga: SagaId, mut request: CommandRequest) -> Result<(), CommandError> {
        // It may be tried more than once here, and by more than one instance.
        request.id.get_or_insert_with(|| uuid::Uuid::now_v7().to_string());
        let until = Instant::now() + ANSWER_WAIT;
        let mut pause = ENTERING;
        loop {
            match self.driver().command(saga, request.clone(), until).await {
                Some(Ok(())) => return Ok(()),
                Some(Err(error)) => return Err(CommandError::Refused(error.to_string())),
                None => {}
            }
            let row = self.store().get(saga).await?.ok_or(CommandError::NotFound)?;
            if row.archived.is_some() {
                let message = "nothing is left to do: the saga is finished, and its log is in the archive";
                return Err(CommandError::Refused(message.to_owned()));
            }
            let state = self.driver().read(&row).map_err(CommandError::LeftAlone)?;
            if state.phase().is_finished() {
                let answer = self.driver().of_finished(&state, request);
                return answer.map_err(|error| CommandError::Refused(error.to_string()));
            }
            if row.owner != self.instance().as_str() {
                return self.requests().command(saga, &request, until).await;
            }
            if Instant::now() >= until {
                return Err(CommandError::Unanswered);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(ENTERING_MAX);
        }
    }
}
