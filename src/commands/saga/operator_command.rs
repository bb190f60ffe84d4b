//! Sends an operator's decision about a saga, and repeats it until it is answered. A decision that can't be reverted
//! needs `--yes`; without it, only its effect is shown.

use std::process::ExitCode;
use std::time::Duration;

use matricula_proto::ops::v1::resolve_step_request::{Answer, Done, Refused};
use matricula_proto::ops::v1::{
    AbandonSagaRequest, CancelSagaRequest, ExplainSagaRequest, ResolveStepRequest, RetrySagaRequest, SagaSummary,
    SkipStepRequest, VerbResult,
};
use serde_json::json;
use tonic::{Request, Status};

use super::lines;
use super::{Client, explain, sagas_shown, summary_to_json};
use crate::arguments::{Decision, Format};
use crate::clients::{answered, explained, print_retry, retried};
use crate::output::{self, text};

/// Exit code of a command that was not confirmed; as for a missing flag.
const EXIT_NOT_CONFIRMED: u8 = 2;
/// Exit code of a command that is in the saga's log, but not carried out yet.
const EXIT_RECORDED: u8 = 3;
/// How long to wait for an owner that does not answer: twice the time of a takeover.
const RETRY_FOR: Duration = Duration::from_secs(30);
/// Timeout of one call: the service itself answers within 18 s.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// An operator's decision about a saga.
pub struct OperatorCommand {
    /// The saga's id.
    pub id: String,
    /// The action.
    pub action: Action,
    /// The author and the reason.
    pub decision: Decision,
    /// Whether it is carried out without a further confirmation.
    pub is_confirmed: bool,
}

/// What the operator wants to be done.
pub enum Action {
    /// Send the calls that wait for their next attempt now.
    Retry {
        /// Only this step.
        step: Option<String>,
    },
    /// Give up a failing step.
    Skip {
        /// The step.
        step: String,
    },
    /// Record the result of a step.
    Resolve {
        /// The step.
        step: String,
        /// True: done; false: refused.
        done: bool,
    },
    /// End the saga as abandoned.
    Abandon,
    /// Cancel the saga.
    Cancel,
}

impl Action {
    fn name(&self) -> &'static str {
        match self {
            Self::Retry { .. } => "retry",
            Self::Skip { .. } => "skip",
            Self::Resolve { .. } => "resolve",
            Self::Abandon => "abandon",
            Self::Cancel => "cancel",
        }
    }

    fn step(&self) -> &str {
        match self {
            Self::Retry { step } => step.as_deref().unwrap_or_default(),
            Self::Skip { step } | Self::Resolve { step, .. } => step,
            Self::Abandon | Self::Cancel => "",
        }
    }

    fn answer(&self) -> Option<&'static str> {
        match self {
            Self::Resolve { done, .. } => Some(if *done { "done" } else { "refused" }),
            _ => None,
        }
    }
}

/// Carries out a decision and prints the saga after it.
pub async fn run(mut client: Client, command: OperatorCommand, format: Format) -> anyhow::Result<ExitCode> {
    if !command.is_confirmed {
        let request = ExplainSagaRequest { saga_id: command.id };
        let answer = answered(client.explain_saga(request)).await?;
        eprintln!(
            "{}",
            explain::preview(&answer, command.action.name(), command.action.step(), command.action.answer())
        );
        return Ok(ExitCode::from(EXIT_NOT_CONFIRMED));
    }
    // All attempts have the same id, so the service recognizes a repeated command and repeats its answer.
    let command_id = uuid::Uuid::now_v7().to_string();
    let answer = retried(RETRY_FOR, print_retry, async || send(client.clone(), &command, &command_id).await).await;
    let (summary, result, pending) = answer.map_err(|status| explained(&status))?;
    let is_done = result != VerbResult::Recorded;
    let document = || {
        let mut shown = summary_to_json(&summary);
        shown["result"] = json!(if is_done { "done" } else { "recorded" });
        shown["pending"] = json!(text(&pending));
        shown
    };
    output::show(format, || sagas_shown(std::slice::from_ref(&summary)), document)?;
    let (verb, by) = (command.action.name(), command.decision.by());
    if is_done {
        eprintln!("Done, and recorded in the saga's log: {verb} by {by}");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("Recorded in the saga's log: {verb} by {by}");
    eprintln!("{}", lines::wrapped(&format!("Not carried out yet: {pending}"), 2, lines::width()));
    Ok(ExitCode::from(EXIT_RECORDED))
}

/// The answer to an accepted command: the saga after it, the result, and what is pending.
type Accepted = (SagaSummary, VerbResult, String);

/// Sends a request and reads its answer; all actions have the same fields in their answers.
macro_rules! accepted {
    ($answer:expr) => {{
        let answer = $answer.await?.into_inner();
        let result = answer.result();
        (answer.summary.unwrap_or_default(), result, answer.pending)
    }};
}

async fn send(mut client: Client, command: &OperatorCommand, command_id: &str) -> Result<Accepted, Status> {
    let (saga_id, by, reason) = (command.id.clone(), command.decision.by(), command.decision.reason.clone());
    let command_id = command_id.to_owned();
    Ok(match &command.action {
        Action::Retry { step } => {
            let step = step.clone().unwrap_or_default();
            accepted!(client.retry_saga(within(RetrySagaRequest { saga_id, step, by, reason, command_id })))
        }
        Action::Skip { step } => {
            let step = step.clone();
            accepted!(client.skip_step(within(SkipStepRequest { saga_id, step, by, reason, command_id })))
        }
        Action::Resolve { step, done } => {
            let (step, answer) =
                (step.clone(), Some(if *done { Answer::Done(Done {}) } else { Answer::Refused(Refused {}) }));
            let request = ResolveStepRequest { saga_id, step, by, reason, command_id, answer };
            accepted!(client.resolve_step(within(request)))
        }
        Action::Abandon => {
            accepted!(client.abandon_saga(within(AbandonSagaRequest { saga_id, by, reason, command_id })))
        }
        Action::Cancel => accepted!(client.cancel_saga(within(CancelSagaRequest { saga_id, by, reason, command_id }))),
    })
}

fn within<T>(request: T) -> Request<T> {
    let mut request = Request::new(request);
    request.set_timeout(CALL_TIMEOUT);
    request
}
