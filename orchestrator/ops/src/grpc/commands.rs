//! Commands of operators: their bounds, the way to the instance that drives the saga, and the result in the answer.

use std::ops::RangeInclusive;
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
/// How long a command that starts a compensation waits for its end before it is answered with the state of that moment.
/// A compensation takes some milliseconds while every service answers.
const COMPENSATED_WAIT: Duration = Duration::from_secs(2);
/// How long a call that was retried may wait in the queue of a service that answers, and the time between two checks.
const CALLED_WAIT: Duration = Duration::from_secs(2);
const CHECK_AGAIN: Duration = Duration::from_millis(50);
/// When an unanswered command may be sent again: a takeover by another instance is under way.
const RETRY_UNANSWERED: Duration = Duration::from_secs(1);

/// The result of a command: the saga, an [`ops::VerbResult`], and what the command waits for.
pub(super) type Carried = (Option<ops::SagaSummary>, i32, String);

impl SagaGrpc {
    /// Sends a command to the instance that drives the saga, and reads the saga afterwards.
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
        if is_compensating(&command) && is_open {
            let compensated = async { while watcher.changed().await.outcome() == Outcome::Pending {} };
            let _ = tokio::time::timeout(COMPENSATED_WAIT, compensated).await;
            stored = self.stored(id).await?;
        }
        let summary = waits::summaries(&self.runtime, std::slice::from_ref(&stored)).await?.pop();
        let pending = self.pending(&stored, &command).await;
        let result = if pending.is_some() { ops::VerbResult::Recorded } else { ops::VerbResult::Done };
        Ok((summary, result.into(), pending.unwrap_or_default()))
    }

    /// The calls or the compensation that a recorded command waits for, in words; none when it is carried out.
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
                            // The saga may have ended since it was read.
                            let now = self.stored(stored.row.id).await;
                            let has_ended = now.is_ok_and(|now| wire::is_finished(&now));
                            return (!has_ended).then_some(why);
                        }
                    };
                    // A call that was retried and not sent is parked, or in a queue that moves.
                    calls.retain(|call| step.as_ref().is_none_or(|step| call.step == *step) && !is_called(call.wait));
                    let moves = calls.iter().all(|call| matches!(call.wait, Wait::Queue { .. }));
                    if calls.is_empty() || !moves || Instant::now() >= give_up_at {
                        return (!calls.is_empty()).then(|| explain::pending(definition, &calls, self.runtime.now()));
                    }
                    tokio::time::sleep(CHECK_AGAIN).await;
                }
            }
            command if is_compensating(command) && state.outcome() == Outcome::Pending => Some(match calls().await {
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

/// Whether a command starts the compensation of a saga, whose outcome comes later.
fn is_compensating(command: &RequestedCommand) -> bool {
    matches!(
        command,
        RequestedCommand::Cancel
            | RequestedCommand::Operator(OperatorCommand::Resolve { answer: Resolution::Refused { .. }, .. })
    )
}

/// Whether a call was sent: it is in flight, its answer is being recorded, or it has failed again.
fn is_called(wait: Wait) -> bool {
    match wait {
        Wait::Call { .. } | Wait::Record | Wait::Pause { .. } => true,
        Wait::Turn { .. } | Wait::Queue { .. } | Wait::Breaker { .. } | Wait::Limit { .. } => false,
    }
}

/// The end of a step that a person has found, as an answer to its saga. The refusal of a pivot reaches the student, in
/// the words of registration.
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
    let is_allowed = |char: char| char.is_ascii_alphanumeric() || "._:@-".contains(char);
    bounded("by", by, 1..=BY_BYTES_MAX, "of [A-Za-z0-9._:@-]", is_allowed)
}

pub(super) fn reason_of(reason: String) -> Result<String, FieldError> {
    bounded("reason", reason, 1..=REASON_BYTES_MAX, "without control characters", |char| !char.is_control())
}

/// Takes a text of an operator, or names the bound that it violates.
pub(super) fn bounded(
    field: &str,
    text: String,
    bytes: RangeInclusive<usize>,
    chars: &str,
    is_allowed: impl Fn(char) -> bool,
) -> Result<String, FieldError> {
    if bytes.contains(&text.len()) && text.chars().all(is_allowed) {
        return Ok(text);
    }
    let problem = format!("must be {}-{} bytes {chars}, got {} bytes", bytes.start(), bytes.end(), text.len());
    Err(FieldError::new(field, problem))
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
    fn a_command_has_an_author_and_a_reason() {
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
