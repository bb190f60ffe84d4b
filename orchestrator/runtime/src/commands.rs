//! Commands and looks of clients and operators: each is answered by the instance that drives the saga, wherever it was
//! asked for.
//!
//! ```text
//! here:     command, look ──► core ──► log ──► answer
//! another:  command, look ──► row of saga_requests ──NOTIFY──► the owner's `answer_others` ──► its core
//!                             answer in the row    ◄─────────
//! ```
//!
//! Promises: a command is decided by the one core that drives the saga, in turn with all else that happens to it. A
//! command is answered when it is durable. A command that is sent again after it took effect is answered alike: the log
//! keeps the id of each operator's command, so that a repeat whose answer was lost is not decided anew. A request that
//! was carried out and not answered, because its owner crashed, is carried out again by the adopter, which answers
//! alike (see the engine's `operator`). A request whose asker has gone is swept. A look changes nothing, and gives up
//! soon, because an operator waits: then only the log is known.

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

/// How long an answer may take: a takeover by another instance is within it.
const ANSWER_WAIT: Duration = Duration::from_secs(12);
/// How long the core may take to answer an operator.
const LOOK_MAX: Duration = Duration::from_millis(500);
/// How long another instance may take to answer a look.
const OWNER_MAX: Duration = Duration::from_secs(3);
/// Between two tries while a saga enters the core: first, because it was just accepted; and longest, because it waits
/// with many others that were adopted.
const ENTERING: Duration = Duration::from_millis(20);
const ENTERING_MAX: Duration = Duration::from_millis(500);
/// Requests that one look takes.
const BATCH_MAX: i64 = 100;
/// A look though no message came: it may have been missed, or the saga is still being adopted.
const LOOK: Duration = Duration::from_secs(1);
/// How long one that can't be written down holds up the others; the next look tries it again.
const HOLD_UP_MAX: Duration = Duration::from_secs(2);

/// A command about a saga, with its author.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandRequest {
    /// The command.
    #[serde(rename = "verb")]
    pub command: RequestedCommand,
    /// The student or operator.
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

/// What is known of a saga beside its log.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its calls that are due, and what each waits for.
    pub calls: Vec<CallWait>,
    /// Its state, where this instance drives it: the log may be behind it.
    pub state: Option<Arc<SagaState>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Done,
    Refused(String),
    /// Where a saga stands; none when it is not in the memory of its owner.
    Seen(Option<Vec<CallWait>>),
}

/// What an owner is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Wanted {
    Look(LookWanted),
    Command(CommandRequest),
}

/// An operator wants to see where a saga stands.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LookWanted {
    Look,
}

impl<W: Workload> Runtime<W> {
    /// Has a request carried out by the instance that drives the saga, and returns when that is durable.
    pub async fn command(&self, saga: SagaId, mut request: CommandRequest) -> Result<(), CommandError> {
        // It may be tried more than once here, and by more than one instance.
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
                // Its turn has come meanwhile, here or elsewhere.
                self.pause(&mut pause, until).await?;
                continue;
            }
            let state = self.replayed(&row).map_err(CommandError::LeftAlone)?;
            if state.phase().is_finished() {
                return self.command_finished(&state, request).map_err(CommandError::Refused);
            }
            if row.owner != self.instance.as_str() {
                return match self.ask(saga, &Wanted::Command(request), until).await? {
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

    /// Where a saga stands by the instance that drives it; or why only its log is known: that instance has not answered,
    /// or there is none.
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
            return Err(format!("instance {}, which drove it, does not live", row.owner));
        }
        let until = Instant::now() + OWNER_MAX;
        let asking = self.ask(row.id, &Wanted::Look(LookWanted::Look), until);
        match tokio::time::timeout_at(until + LOOK, asking).await {
            Ok(Ok(Some(Answer::Seen(Some(calls))))) => Ok(Seen { calls, state: None }),
            _ => Err(format!("instance {}, which drives it, did not answer", row.owner)),
        }
    }

    /// Has a command carried out here. `None`: this instance does not drive the saga, or has not persisted by then what
    /// was decided. The database may refuse a log for as long as nobody mends it.
    async fn command_here(&self, saga: SagaId, request: CommandRequest, until: Instant) -> Option<Result<(), String>> {
        let (caller, reply) = oneshot::channel();
        self.mailbox.input(Input::Commanded { saga, command: request.into_input(), caller });
        answered(reply, until).await
    }

    /// The same of a saga that waits in line: it is driven here from now on. `None`: it does not wait there any more.
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

    /// Answers a command for a saga that is finished.
    fn command_finished(&self, state: &SagaState, request: CommandRequest) -> Result<(), String> {
        let answer = answer_finished(self.workload.definitions(), state, request.into_input(), self.now().0);
        answer.map_err(|error| error.to_string())
    }

    /// Where a saga stands. `None`: this instance does not drive it, or has ended.
    async fn look_here(&self, saga: SagaId) -> Option<SagaView> {
        self.mailbox.query(move |core, now| core.look(now, saga)).await?
    }

    /// Asks the owner of a saga, another instance; none when it does not answer.
    async fn ask(&self, saga: SagaId, wanted: &Wanted, until: Instant) -> Result<Option<Answer>, CommandError> {
        let request = uuid::Uuid::now_v7().to_string();
        let wanted = serde_json::to_string(wanted).map_err(|error| CommandError::Refused(error.to_string()))?;
        self.store.ask(&request, saga, &wanted).await?;
        let answer = self.answer_of(&request, until).await;
        if !matches!(answer, Ok(Some(_))) {
            // Nobody waits for it any more. When this fails too, it is swept.
            let _ = self.store.withdraw(&request).await;
        }
        answer
    }

    async fn answer_of(&self, request: &str, until: Instant) -> Result<Option<Answer>, CommandError> {
        loop {
            // Before the look, so that an answer between the two wakes it.
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

    /// The owner's end: carries out what other instances ask of the sagas of this one.
    pub(crate) async fn answer_others(self: Arc<Self>) {
        loop {
            if let Err(error) = self.answer_waiting().await {
                tracing::warn!(error = telemetry::chain(&error), "requests of other instances could not be answered");
            }
            tokio::select! {
                () = self.signals.asked.notified() => {}
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

    /// None for a saga that is not in memory yet, or not any more, or whose log is not taken: the next look finds out.
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

/// What the core has answered to a command. `None`: it does not drive the saga, or has not answered by then.
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
