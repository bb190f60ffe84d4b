//! What an operator decides about a saga: its bounds, its way to the instance that drives the saga, and what the answer
//! is called.

use std::time::Duration;

use matricula_engine::{Definition, OperatorCommand, Outcome, Resolution, Wait};
use matricula_kit::answer::{Reason, Refusal};
use matricula_kit::rpc::{FieldError, checked_id};
use matricula_kit::status;
use matricula_proto::ops::v1 as ops;
use matricula_proto::ops::v1::resolve_step_request as wire_resolution;
use matricula_registration::StoredRegistration;
use matricula_runtime::{CommandError, CommandRequest, RequestedCommand, SagaId, Workload as _};
use tokio::time::Instant;
use tonic::{Code, Status};

use super::{SagaGrpc, saga_id};
use crate::{explain, waits, wire};

/// Longest name of an operator: an address of mail fits.
const BY_BYTES_MAX: usize = 64;
/// Longest reason: some sentences, kept in the log for good.
const REASON_BYTES_MAX: usize = 500;
/// How long a command that has a saga undone waits for that before it is answered as it stands: it takes some
/// milliseconds while every service answers.
const UNDONE_WAIT: Duration = Duration::from_secs(2);
/// How long a call that was retried may wait in the queue of a service that answers, and the time between two looks.
const CALLED_WAIT: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// When an unanswered command may be sent again: a takeover by another instance is under way.
const RETRY_UNANSWERED: Duration = Duration::from_secs(1);

/// What has become of a command that was taken: the saga, an [`ops::VerbResult`], and what it waits for.
pub(super) type Carried = (Option<ops::SagaSummary>, i32, String);

impl SagaGrpc {
    /// Has a command carried out by whoever drives the saga, and reads what has become of the command and of the saga.
    pub(super) async fn carry_out(
        &self,
        saga: String,
        command: RequestedCommand,
        by: String,
        reason: String,
        command_id: String,
    ) -> Result<Carried, Status> {
        let id = saga_id(saga)?;
        let command_id = match command_id {
            id if id.is_empty() => None,
            id => Some(checked_id("command_id", id)?),
        };
        let request =
            CommandRequest { command: command.clone(), by: by_of(by)?, reason: reason_of(reason)?, id: command_id };
        let id = id?;
        let mut watcher = self.runtime.watch(id);
        self.runtime.command(id, request).await.map_err(|error| not_done(id, &command, error))?;
        let mut stored = self.stored(id).await?;
        let is_open = stored.state().is_some_and(|state| state.outcome() == Outcome::Pending);
        if is_undoing(&command) && is_open {
            let undone = async { while watcher.changed().await.outcome() == Outcome::Pending {} };
            let _ = tokio::time::timeout(UNDONE_WAIT, undone).await;
            stored = self.stored(id).await?;
        }
        let summary = waits::summaries(&self.runtime, std::slice::from_ref(&stored)).await?.pop();
        let pending = self.pending(&stored, &command).await;
        let result = if pending.is_some() { ops::VerbResult::Recorded } else { ops::VerbResult::Done };
        Ok((summary, result.into(), pending.unwrap_or_default()))
    }

    /// What a command waits for that is in the log; none when it is carried out.
    async fn pending(&self, stored: &StoredRegistration, command: &RequestedCommand) -> Option<String> {
        let state = stored.state()?;
        if state.phase().is_finished() {
            return None;
        }
        let definition = self.runtime.workload().definitions().of(state);
        let calls = async || self.runtime.look(&stored.row).await.map(|seen| seen.calls);
        match command {
            RequestedCommand::Operator(OperatorCommand::Retry { step }) => {
                let give_up_at = Instant::now() + CALLED_WAIT;
                loop {
                    let mut calls = match calls().await {
                        Ok(calls) => calls,
                        Err(why) => {
                            // It may have ended since it was read.
                            let now = self.stored(stored.row.id).await;
                            let has_ended = now.is_ok_and(|now| wire::is_finished(&now));
                            return (!has_ended).then_some(why);
                        }
                    };
                    // A call that was retried and has not left is parked, or in a queue that moves.
                    calls.retain(|call| step.as_ref().is_none_or(|step| call.step == *step) && !is_called(call.wait));
                    let moves = calls.iter().all(|call| matches!(call.wait, Wait::Queue { .. }));
                    if calls.is_empty() || !moves || Instant::now() >= give_up_at {
                        return (!calls.is_empty()).then(|| explain::pending(definition, &calls, self.runtime.now()));
                    }
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            }
            command if is_undoing(command) && state.outcome() == Outcome::Pending => Some(match calls().await {
                Ok(calls) if !calls.is_empty() => {
                    format!("being undone; {}", explain::pending(definition, &calls, self.runtime.now()))
                }
                _ => "being undone".to_owned(),
            }),
            _ => None,
        }
    }

    /// The name of a step that some definition has. A saga of another definition rejects the command.
    pub(super) fn step(&self, name: String) -> Result<String, FieldError> {
        let mut names: Vec<&str> = Vec::new();
        for step in self.runtime.workload().definitions().all().flat_map(Definition::steps) {
            if step.name == name {
                return Ok(name);
            }
            if !names.contains(&step.name) {
                names.push(step.name);
            }
        }
        Err(FieldError::new("step", format!("must be one of {}", names.join(", "))))
    }
}

/// Whether a command has a saga undone: its outcome comes later.
fn is_undoing(command: &RequestedCommand) -> bool {
    matches!(
        command,
        RequestedCommand::Cancel
            | RequestedCommand::Operator(OperatorCommand::Resolve { answer: Resolution::Refused { .. }, .. })
    )
}

/// Whether a call has left: it is in flight, its answer is being recorded, or it has failed again.
fn is_called(wait: Wait) -> bool {
    match wait {
        Wait::Call { .. } | Wait::Record | Wait::Pause { .. } => true,
        Wait::Turn { .. } | Wait::Queue { .. } | Wait::Breaker { .. } | Wait::Limit { .. } => false,
    }
}

/// How a person found a step to have ended, as its saga is told. The refusal of a pivot reaches the student, in words
/// of its domain.
pub(super) fn resolution(answer: Option<wire_resolution::Answer>, reason: &str) -> Result<Resolution, FieldError> {
    match answer {
        None => Err(FieldError::new("answer", "is required: done or refused")),
        Some(wire_resolution::Answer::Done(_)) => Ok(Resolution::Done),
        Some(wire_resolution::Answer::Refused(_)) => {
            let refusal = Refusal::whole(
                Reason::RegistrationCancelled,
                format!("The registration could not be completed: {reason}"),
                "Register again if you still want to.",
            );
            let refusal = serde_json::to_string(&[refusal]);
            let refusal = refusal.map_err(|error| FieldError::new("reason", error.to_string()))?;
            Ok(Resolution::Refused { refusal })
        }
    }
}

pub(super) fn by_of(by: String) -> Result<String, FieldError> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:@-".contains(&byte);
    match by.len() {
        1..=BY_BYTES_MAX if by.bytes().all(is_allowed) => Ok(by),
        bytes => {
            let bounds = format!("must be 1-{BY_BYTES_MAX} bytes of [A-Za-z0-9._:@-], got {bytes} bytes");
            Err(FieldError::new("by", bounds))
        }
    }
}

pub(super) fn reason_of(reason: String) -> Result<String, FieldError> {
    match reason.len() {
        1..=REASON_BYTES_MAX if !reason.chars().any(char::is_control) => Ok(reason),
        bytes => {
            let bounds = format!("must be 1-{REASON_BYTES_MAX} bytes without control characters, got {bytes} bytes");
            Err(FieldError::new("reason", bounds))
        }
    }
}

fn not_done(id: SagaId, command: &RequestedCommand, error: CommandError) -> Status {
    let message = error.to_string();
    let refused_as = match command {
        RequestedCommand::Cancel => "TOO_LATE_TO_CANCEL",
        RequestedCommand::Operator(_) => "VERB_REFUSED",
    };
    match error {
        CommandError::NotFound => status::not_found("saga", &id.to_string()),
        CommandError::Refused(_) => status::error(Code::FailedPrecondition, refused_as, message),
        CommandError::LeftAlone(_) => status::error(Code::FailedPrecondition, "SAGA_UNREADABLE", message),
        CommandError::Unanswered => status::retry(Code::Unavailable, "OWNER_DID_NOT_ANSWER", message, RETRY_UNANSWERED),
        CommandError::Database(error) => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<T: std::fmt::Debug>(checked: Result<T, FieldError>, field: Option<&str>) {
        assert_eq!(checked.err().map(|problem| problem.field).as_deref(), field);
    }

    #[test]
    fn operators_say_who_they_are_and_why() {
        for by in ["ada", "ada.lovelace@campus.example", "cron:night-1", &"a".repeat(64)] {
            check(by_of(by.to_owned()), None);
        }
        for by in ["", "ada lovelace", "ad\u{e4}", "a/b", "a\n", &"a".repeat(65)] {
            check(by_of(by.to_owned()), Some("by"));
        }
        for reason in ["x", "Die Geb\u{fc}hr ist bezahlt; see ticket #7", &"r".repeat(500)] {
            check(reason_of(reason.to_owned()), None);
        }
        for reason in ["", "two\nlines", "\u{1b}[31mred", "c1\u{9b}", &"r".repeat(501)] {
            check(reason_of(reason.to_owned()), Some("reason"));
        }
    }

    #[test]
    fn a_refused_pivot_has_a_reason_for_its_student() {
        use wire_resolution::Answer;
        check(resolution(None, "why"), Some("answer"));
        let done = ops::resolve_step_request::Done {};
        assert_eq!(resolution(Some(Answer::Done(done)), "why"), Ok(Resolution::Done));
        let refused = ops::resolve_step_request::Refused {};
        let Ok(Resolution::Refused { refusal }) = resolution(Some(Answer::Refused(refused)), "the term is over") else {
            panic!("it is a refusal");
        };
        let refusals: Vec<Refusal> = serde_json::from_str(&refusal).expect("in the words of registration");
        assert_eq!(refusals[0].message, "The registration could not be completed: the term is over");
    }
}
