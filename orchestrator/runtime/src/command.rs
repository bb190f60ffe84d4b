//! Cancels and operators' commands: each is carried out by the instance that drives the saga, wherever it was asked
//! for.
//!
//! ```text
//! here:     command ──► executor ──► log ──► answer
//! another:  command ──► saga_requests ──NOTIFY──► its owner's `requests` ──► executor ──► log ──► answer in the row
//! ```
//!
//! Promises: a command is decided by the one executor that drives the saga, in turn with all else that happens to it;
//! what is answered is durable; a command that is sent again after it took effect is answered alike. The log keeps the
//! id of each operator's command: so a command whose answer was lost, or came too late, is not looked at anew when it
//! comes again.

use std::sync::Arc;
use std::time::Duration;

use matricula_engine::{DecideError, Input, Jitter, OperatorCommand, SagaState, decide};
use matricula_kit::database::DbError;
use matricula_kit::id::SagaId;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::Workload;
use crate::executor::Command;
use crate::runtime::Runtime;
use crate::store::SagaRow;

/// How long an answer may take: a takeover by another instance is within it.
const ANSWER_WAIT: Duration = Duration::from_secs(12);
/// Between two tries while a saga enters the executor: first, because it was just accepted; and longest, because it waits
/// with many others that were adopted.
const ENTERING: Duration = Duration::from_millis(20);
const ENTERING_MAX: Duration = Duration::from_millis(500);

/// A command about a saga, with its author.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandRequest {
    /// The command.
    #[serde(rename = "verb")]
    pub command: RequestedCommand,
    /// Who.
    pub by: String,
    /// Why, in their words.
    pub reason: String,
    /// Id of this command, by which one is known that comes again because its answer was lost. None: a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// A cancel, or an operator's command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestedCommand {
    /// Start its compensation.
    Cancel,
    /// A decision of an operator.
    #[serde(rename = "steer")]
    Operator(OperatorCommand),
}

impl CommandRequest {
    pub(crate) fn into_input(self) -> Input {
        let Self { command, by, reason, id } = self;
        match command {
            RequestedCommand::Cancel => Input::Cancel { by, reason },
            RequestedCommand::Operator(command) => Input::Operator { command, by, reason, command_id: id },
        }
    }
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// There is no such saga.
    #[error("there is no such saga")]
    NotFound,
    /// It would be unsafe, or there is nothing to do; the message says what can be done instead.
    #[error("{0}")]
    Refused(String),
    /// Its record can't be read here, so it is left alone.
    #[error("the saga can't be read here and is left alone: {0}")]
    LeftAlone(String),
    /// No instance that drives it has answered in time. Whether it is carried out is not known; it may be sent again.
    #[error("no instance that drives the saga has answered within {} s", ANSWER_WAIT.as_secs())]
    Unanswered,
    /// The database.
    #[error("the saga store")]
    Database(#[from] DbError),
}

impl<W: Workload> Runtime<W> {
    /// Has a request carried out by whoever drives the saga, and returns when that is durable.
    pub async fn command(&self, saga: &SagaId, mut request: CommandRequest) -> Result<(), CommandError> {
        // It may be tried more than once here, and by more than one instance.
        request.id.get_or_insert_with(|| uuid::Uuid::now_v7().to_string());
        let until = Instant::now() + ANSWER_WAIT;
        let mut pause = ENTERING;
        loop {
            match self.command_here(saga, request.clone(), until).await {
                Some(Ok(())) => return Ok(()),
                Some(Err(error)) => return Err(CommandError::Refused(error.to_string())),
                None => {}
            }
            let row = self.store().get(saga).await?.ok_or(CommandError::NotFound)?;
            if row.archived.is_some() {
                let message = "nothing is left to do: the saga is finished, and its log is in the archive";
                return Err(CommandError::Refused(message.to_owned()));
            }
            let state = self.read(&row).map_err(CommandError::LeftAlone)?;
            if state.phase().is_finished() {
                return self.of_finished(&state, request).map_err(|error| CommandError::Refused(error.to_string()));
            }
            if row.owner != self.instance().as_str() {
                return self.ask_owner(saga, &request, until).await;
            }
            if Instant::now() >= until {
                return Err(CommandError::Unanswered);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(ENTERING_MAX);
        }
    }

    /// `None`: this instance does not drive the saga, or has not written down by then what was decided. The database may refuse
    /// a log for as long as nobody mends it.
    pub(crate) async fn command_here(
        &self,
        saga: &SagaId,
        request: CommandRequest,
        until: Instant,
    ) -> Option<Result<(), DecideError>> {
        let (reply, answer) = oneshot::channel();
        let command = Command { saga: saga.clone(), input: request.into_input(), reply };
        self.commands().send(command).await.ok()?;
        tokio::time::timeout_at(until, answer).await.ok()?.ok()?
    }

    /// `None`: the saga is not finished, or can't be read.
    pub(crate) async fn command_to_finished(
        &self,
        saga: &SagaId,
        request: CommandRequest,
    ) -> Option<Result<(), DecideError>> {
        let row = self.store().get(saga).await.ok()??;
        let state = self.read(&row).ok().filter(|state| state.phase().is_finished())?;
        Some(self.of_finished(&state, request))
    }

    /// What has taken effect is answered so, and everything else comes too late.
    fn of_finished(&self, state: &SagaState, request: CommandRequest) -> Result<(), DecideError> {
        decide(self.workload().definition(), state, request.into_input(), self.now().0, Jitter(0)).map(|_| ())
    }

    fn read(&self, row: &SagaRow) -> Result<Arc<SagaState>, String> {
        let log = row.log.as_ref().map_err(Clone::clone)?;
        let state = SagaState::replay(self.workload().definition(), log).map_err(|error| error.to_string())?;
        Ok(Arc::new(state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Replicas of other versions read and write the same JSON.
    #[test]
    fn requests_between_replicas_keep_their_form() {
        let request = CommandRequest {
            command: RequestedCommand::Operator(OperatorCommand::Retry { step: None }),
            by: "ada".to_owned(),
            reason: "now".to_owned(),
            id: Some("one".to_owned()),
        };
        let text = r#"{"verb":{"steer":{"verb":"retry","step":null}},"by":"ada","reason":"now","id":"one"}"#;
        assert_eq!(serde_json::to_string(&request).unwrap(), text);
        assert_eq!(serde_json::from_str::<CommandRequest>(text).unwrap(), request);
    }
}
