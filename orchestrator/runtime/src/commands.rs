//! Commands and looks of clients and operators. They may arrive at any instance; the instance that drives the saga
//! answers them.
//!
//! ```text
//! here:     command, look ──► core ──► log ──► answer
//! another:  command, look ──► row of saga_requests ──NOTIFY──► the owner's `answer_others` ──► its core
//!                             answer in the row    ◄─────────
//! ```
//!
//! Promises:
//!
//! - The one core that drives the saga decides a command, in sequence with all other inputs of the saga.
//! - A command is answered when it is durable.
//! - A command that is repeated after it took effect gets the same answer. The log keeps the id of each operator's
//!   command, so a repeat is not decided anew (see the engine's `operator`). This also covers an owner that crashed
//!   before it answered: the adopter carries out the request again.
//! - A request whose sender does not wait any more is swept.
//! - A look changes nothing, and times out soon, because an operator waits. Then only the log can be shown.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use matricula_core::{Input, QueuedSaga, Reply, SagaId, SagaView, answer_finished};
use matricula_engine::{CallWait, OperatorCommand, SagaState};
use matricula_kit::database::DbError;
use matricula_kit::telemetry;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::store::{SagaRow, StoredRequest};
use crate::workflow::Carried;
use crate::{Runtime, Workload};

/// Timeout of a command. It is longer than the adoption of a saga by another instance takes.
const ANSWER_WAIT: Duration = Duration::from_secs(12);
/// Timeout of a look in the core of this instance.
const LOOK_MAX: Duration = Duration::from_millis(500);
/// Timeout of a look at another instance.
const OWNER_MAX: Duration = Duration::from_secs(3);
/// First and longest pause between tries while a saga is on its way into the core. An accepted saga enters at once; one
/// of many adopted sagas takes longer.
const ENTERING: Duration = Duration::from_millis(20);
const ENTERING_MAX: Duration = Duration::from_millis(500);
/// The most requests that are read and answered together.
const BATCH_MAX: i64 = 100;
/// Time between two reads without a message: a message may be lost, or the saga is still being adopted.
const LOOK: Duration = Duration::from_secs(1);
/// How long a command whose log can't be written delays the other requests. The next read tries it again.
const HOLD_UP_MAX: Duration = Duration::from_secs(2);

/// A command about a saga, with its author.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandRequest {
    /// The command.
    #[serde(rename = "verb")]
    pub command: RequestedCommand,
    /// The student or operator.
    pub by: String,
    /// The reason that they give.
    pub reason: String,
    /// The id of this command. A command that is repeated because its answer was lost has the same id. None: a new one.
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
    pub(crate) fn into_input(self) -> matricula_engine::Input {
        let Self { command, by, reason, id } = self;
        match command {
            RequestedCommand::Cancel => matricula_engine::Input::Cancel { by, reason },
            RequestedCommand::Operator(command) => {
                matricula_engine::Input::Operator { command, by, reason, command_id: id }
            }
        }
    }
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// There is no such saga.
    #[error("there is no such saga")]
    NotFound,
    /// The command would be unsafe, or there is nothing to do. The message says what can be done instead.
    #[error("{0}")]
    Refused(String),
    /// This build can't read the saga's log, so it is left alone.
    #[error("the saga can't be read here and is left alone: {0}")]
    LeftAlone(String),
    /// No instance that drives the saga has answered in time. The command may or may not take effect; it may be
    /// repeated.
    #[error("no instance that drives the saga has answered within {} s", ANSWER_WAIT.as_secs())]
    Unanswered,
    /// The database.
    #[error("the saga store")]
    Database(#[from] DbError),
}

/// The result of a look: what the log of a saga does not contain.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The calls that are due or in flight, and what each waits for.
    pub calls: Vec<CallWait>,
    /// The state in memory, if this instance drives the saga. It may be ahead of the log.
    pub state: Option<Arc<SagaState>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Done,
    Refused(String),
    /// The calls of the saga; none if the saga is not in the memory of its owner.
    Seen(Option<Vec<CallWait>>),
}

/// The content of a request to the owner of a saga.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Wanted {
    Look(LookWanted),
    Command(CommandRequest),
}

/// A request to look at the calls of a saga.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LookWanted {
    Look,
}

impl<W: Workload> Runtime<W> {
    /// Has the instance that drives the saga carry out a command, and returns when the result is durable.
    pub async fn command(&self, saga: SagaId, mut request: CommandRequest) -> Result<(), CommandError> {
        // The loop below may send the command more than once, and to more than one instance.
        request.id.get_or_insert_with(|| uuid::Uuid::now_v7().to_string());
        let until = Instant::now() + ANSWER_WAIT;
        let mut pause = ENTERING;
        loop {
            if let Some(answer) = self.command_here(saga, request.clone(), until).await {
                return answer.map_err(CommandError::Refused);
            }
            let row = self.store.get(saga).await?.ok_or(CommandError::NotFound)?;
            if row.archived.is_some() {
                let message = "nothing is left to do: the saga is finished, and its log is in the archive";
                return Err(CommandError::Refused(message.to_owned()));
            }
            if row.is_queued {
                if let Some(answer) = self.command_in_line(row, request.clone(), until).await {
                    return answer.map_err(CommandError::Refused);
                }
                // Meanwhile an instance has claimed it.
                self.pause(&mut pause, until).await?;
                continue;
            }
            let state = self.replayed(&row).map_err(CommandError::LeftAlone)?;
            if state.phase().is_finished() {
                return self.command_finished(&state, request).map_err(CommandError::Refused);
            }
            if row.owner != self.instance.as_str() {
                return match self.request_owner(saga, &Wanted::Command(request), until).await? {
                    Some(Answer::Done) => Ok(()),
                    Some(Answer::Refused(message)) => Err(CommandError::Refused(message)),
                    Some(Answer::Seen(_)) | None => Err(CommandError::Unanswered),
                };
            }
            self.pause(&mut pause, until).await?;
        }
    }

    /// Waits before the next try, longer each time.
    async fn pause(&self, pause: &mut Duration, until: Instant) -> Result<(), CommandError> {
        if Instant::now() >= until {
            return Err(CommandError::Unanswered);
        }
        tokio::time::sleep(*pause).await;
        *pause = (*pause * 2).min(ENTERING_MAX);
        Ok(())
    }

    /// Looks at a saga at the instance that drives it; or returns why only its log can be shown: no instance drives it,
    /// or that instance has not answered.
    pub async fn look(&self, row: &SagaRow) -> Result<Seen, String> {
        if row.owner == self.instance.as_str() {
            return match tokio::time::timeout(LOOK_MAX, self.look_here(row.id)).await {
                Ok(Some(seen)) => Ok(Seen { calls: seen.waits, state: Some(seen.state) }),
                Ok(None) => Err("it is not in the memory of its instance".to_owned()),
                Err(_) => Err("its instance is too busy to look".to_owned()),
            };
        }
        if row.is_queued {
            return Err("it waits in line, and no instance drives it yet".to_owned());
        }
        if !row.owner_alive {
            return Err(format!("instance {}, which drove it, has ended", row.owner));
        }
        let until = Instant::now() + OWNER_MAX;
        let requesting = self.request_owner(row.id, &Wanted::Look(LookWanted::Look), until);
        match tokio::time::timeout_at(until + LOOK, requesting).await {
            Ok(Ok(Some(Answer::Seen(Some(calls))))) => Ok(Seen { calls, state: None }),
            _ => Err(format!("instance {}, which drives it, did not answer", row.owner)),
        }
    }

    /// Has the core of this instance carry out a command. `None`: this instance does not drive the saga, or the
    /// decision is not persisted by `until`. The database may refuse the log of a saga until somebody removes the
    /// cause.
    async fn command_here(&self, saga: SagaId, request: CommandRequest, until: Instant) -> Option<Result<(), String>> {
        let (caller, reply) = oneshot::channel();
        self.mailbox.input(Input::Commanded { saga, command: request.into_input(), caller });
        answered(reply, until).await
    }

    /// The same for a saga that waits in line: this instance claims it out of order. `None`: it has left the line.
    async fn command_in_line(
        &self,
        row: SagaRow,
        request: CommandRequest,
        until: Instant,
    ) -> Option<Result<(), String>> {
        let carried = Carried::stored(&row.request, row.trace);
        let saga = QueuedSaga { id: row.id, ticket: row.ticket, accepted_at_ms: row.created_at.0, request: carried };
        let (caller, reply) = oneshot::channel();
        self.mailbox.input(Input::CommandedInLine { saga, command: request.into_input(), caller });
        answered(reply, until).await
    }

    /// The answer to a command for a finished saga.
    fn command_finished(&self, state: &SagaState, request: CommandRequest) -> Result<(), String> {
        let answer = answer_finished(self.workload.definitions(), state, request.into_input(), self.now().0);
        answer.map_err(|error| error.to_string())
    }

    /// Looks at a saga in the core of this instance. `None`: the saga is not there, or the core has ended.
    async fn look_here(&self, saga: SagaId) -> Option<SagaView> {
        self.mailbox.query(move |core, now| core.look(now, saga)).await?
    }

    /// Sends a request to the owner of a saga, another instance; none if it does not answer.
    async fn request_owner(
        &self,
        saga: SagaId,
        wanted: &Wanted,
        until: Instant,
    ) -> Result<Option<Answer>, CommandError> {
        let request = uuid::Uuid::now_v7().to_string();
        let wanted = serde_json::to_string(wanted).map_err(|error| CommandError::Refused(error.to_string()))?;
        self.store.request(&request, saga, &wanted).await?;
        let answer = self.answer_of(&request, until).await;
        if !matches!(answer, Ok(Some(_))) {
            // Nobody waits for the answer any more. If this fails too, the request is swept later.
            let _ = self.store.withdraw(&request).await;
        }
        answer
    }

    async fn answer_of(&self, request: &str, until: Instant) -> Result<Option<Answer>, CommandError> {
        loop {
            // Before the query, so that an answer that comes in between wakes this task.
            let mut answered = pin!(self.signals.answered.notified());
            answered.as_mut().enable();
            if let Some(text) = self.store.take_answer(request).await? {
                let answer = serde_json::from_str(&text);
                return answer.map(Some).map_err(|error| CommandError::Refused(format!("the owner's answer: {error}")));
            }
            if Instant::now() >= until {
                return Ok(None);
            }
            tokio::select! {
                () = answered => {}
                () = tokio::time::sleep_until(until.min(Instant::now() + LOOK)) => {}
            }
        }
    }

    /// The side of the owner: carries out requests of other instances for sagas of this instance.
    pub(crate) async fn answer_others(self: Arc<Self>) {
        loop {
            if let Err(error) = self.answer_waiting().await {
                tracing::warn!(error = telemetry::chain(&error), "requests of other instances could not be answered");
            }
            tokio::select! {
                () = self.signals.requested.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn answer_waiting(&self) -> Result<(), DbError> {
        let requests = self.store.unanswered(&self.instance, BATCH_MAX).await?;
        let answers = join_all(requests.into_iter().map(|request| self.answer_one(request))).await;
        let answers: Vec<(String, String)> = answers.into_iter().flatten().collect();
        if !answers.is_empty() {
            self.store.answer(&answers).await?;
        }
        Ok(())
    }

    /// None if the saga is not in memory, or the database refuses its log. The request stays, and the next read tries
    /// it again.
    async fn answer_one(&self, request: StoredRequest) -> Option<(String, String)> {
        let answer = match serde_json::from_str::<Wanted>(&request.wanted) {
            Err(error) => Answer::Refused(format!("this request is of another version: {error}")),
            Ok(Wanted::Look(LookWanted::Look)) => {
                let seen = tokio::time::timeout(LOOK_MAX, self.look_here(request.saga)).await.ok().flatten();
                Answer::Seen(seen.map(|seen| seen.waits))
            }
            Ok(Wanted::Command(command)) => {
                let until = Instant::now() + HOLD_UP_MAX;
                let answer = match self.command_here(request.saga, command.clone(), until).await {
                    Some(answer) => answer,
                    None => {
                        let row = self.store.get(request.saga).await.ok()??;
                        let state = self.replayed(&row).ok().filter(|state| state.phase().is_finished())?;
                        self.command_finished(&state, command)
                    }
                };
                answer.map_or_else(Answer::Refused, |()| Answer::Done)
            }
        };
        let text = serde_json::to_string(&answer).ok()?;
        Some((request.id, text))
    }
}

/// The core's answer to a command. `None`: it does not drive the saga, or has not answered by `until`.
async fn answered(reply: oneshot::Receiver<Reply>, until: Instant) -> Option<Result<(), String>> {
    match tokio::time::timeout_at(until, reply).await.ok()?.ok()? {
        Reply::Done(_) => Some(Ok(())),
        Reply::Refused(error) => Some(Err(error.to_string())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Instances of other versions read and write the same JSON.
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
