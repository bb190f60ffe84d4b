//! What an operator decides about a saga: told first where it can't be taken back, sent until it is answered.

use std::process::ExitCode;
use std::time::Duration;

use matricula_proto::ops::v1::resolve_step_request::{Answer, Done, Refused};
use matricula_proto::ops::v1::{
    AbandonSagaRequest, CancelSagaRequest, ExplainSagaRequest, ResolveStepRequest, RetrySagaRequest, SagaSummary,
    SkipStepRequest, VerbResult,
};
use serde_json::json;
use tonic::{Request, Status};

use super::lines::{self, Width};
use super::{Client, explain, sagas_shown, summary_to_json};
use crate::arguments::{Decision, Format};
use crate::clients::{explained, persistently};
use crate::output;

/// Exit code for a verb that was not confirmed: as for a flag that is missing.
const EXIT_NOT_CONFIRMED: u8 = 2;
/// Exit code for a verb that the saga's log has, and that is not carried out yet.
const EXIT_RECORDED: u8 = 3;
/// How long an owner that does not answer is waited for: twice what a takeover takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest time of one call: the service itself answers within 18 s.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// A decision about a saga.
pub struct Order {
    /// The saga.
    pub id: String,
    /// What is wanted.
    pub verb: Verb,
    /// The person who decides, and the reason.
    pub decision: Decision,
    /// Whether it needs no further confirmation.
    pub is_sure: bool,
}

/// What is wanted.
pub enum Verb {
    /// Call at once what waits.
    Retry {
        /// Only this step.
        step: Option<String>,
    },
    /// Leave it undone.
    Skip {
        /// The step.
        step: String,
    },
    /// Count it as answered.
    Resolve {
        /// The step.
        step: String,
        /// Done; or else refused.
        done: bool,
    },
    /// End the saga.
    Abandon,
    /// Turn the saga round.
    Cancel,
}

impl Verb {
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
pub async fn run(mut client: Client, order: Order, format: Format) -> anyhow::Result<ExitCode> {
    if !order.is_sure {
        let request = ExplainSagaRequest { saga_id: order.id };
        let answer = client.explain_saga(request).await.map_err(|status| explained(&status))?.into_inner();
        eprintln!("{}", explain::preview(&answer, order.verb.name(), order.verb.step(), order.verb.answer()));
        return Ok(ExitCode::from(EXIT_NOT_CONFIRMED));
    }
    let failed = |status: &Status| eprintln!("Not now: {:#}; trying again", explained(status));
    // One id however often it is sent: what took effect and was not answered is answered so when it comes again.
    let command_id = uuid::Uuid::now_v7().to_string();
    let answer = persistently(PATIENCE, failed, async || send(client.clone(), &order, &command_id).await).await;
    let Taken { summary, result, pending } = answer.map_err(|status| explained(&status))?;
    let is_done = result != VerbResult::Recorded;
    match format {
        Format::Table => output::print(sagas_shown(&[summary])),
        Format::Json => {
            let mut shown = summary_to_json(&summary);
            shown["result"] = json!(if is_done { "done" } else { "recorded" });
            shown["pending"] = json!((!pending.is_empty()).then_some(&pending));
            output::json(&shown)?;
        }
    }
    let (verb, by) = (order.verb.name(), order.decision.by());
    if is_done {
        eprintln!("Done, and recorded in the saga's log: {verb} by {by}");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("Recorded in the saga's log: {verb} by {by}");
    eprintln!("{}", lines::wrapped(&format!("Not carried out yet: {pending}"), 2, Width::now().text));
    Ok(ExitCode::from(EXIT_RECORDED))
}

/// What the service has answered to a verb that was taken.
struct Taken {
    summary: SagaSummary,
    result: VerbResult,
    pending: String,
}

/// The same of every verb.
macro_rules! taken {
    ($answer:expr) => {{
        let answer = $answer.await?.into_inner();
        let result = answer.result();
        Taken { summary: answer.summary.unwrap_or_default(), result, pending: answer.pending }
    }};
}

async fn send(mut client: Client, order: &Order, command_id: &str) -> Result<Taken, Status> {
    let (saga_id, by, reason) = (order.id.clone(), order.decision.by(), order.decision.reason.clone());
    let command_id = command_id.to_owned();
    Ok(match &order.verb {
        Verb::Retry { step } => {
            let step = step.clone().unwrap_or_default();
            taken!(client.retry_saga(within(RetrySagaRequest { saga_id, step, by, reason, command_id })))
        }
        Verb::Skip { step } => {
            let step = step.clone();
            taken!(client.skip_step(within(SkipStepRequest { saga_id, step, by, reason, command_id })))
        }
        Verb::Resolve { step, done } => {
            let (step, answer) =
                (step.clone(), Some(if *done { Answer::Done(Done {}) } else { Answer::Refused(Refused {}) }));
            let request = ResolveStepRequest { saga_id, step, by, reason, command_id, answer };
            taken!(client.resolve_step(within(request)))
        }
        Verb::Abandon => taken!(client.abandon_saga(within(AbandonSagaRequest { saga_id, by, reason, command_id }))),
        Verb::Cancel => taken!(client.cancel_saga(within(CancelSagaRequest { saga_id, by, reason, command_id }))),
    })
}

fn within<T>(request: T) -> Request<T> {
    let mut request = Request::new(request);
    request.set_timeout(CALL_TIMEOUT);
    request
}
