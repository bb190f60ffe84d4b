//! A saga in words, for operators.
//!
//! Promises: the text has only recorded facts. Times are distances, so that a reader needs no calendar.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::definition::{Definition, StepIndex};
use crate::event::{Direction, Event, Intervention, Recorded, Resolution};
use crate::state::{CallState, CallStatus, Phase, SagaState};

/// The wait of one call of a saga, as the instance that drives the saga sees it. The log does not distinguish a call
/// that is in flight from a call that waits to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallWait {
    /// Name of the step.
    pub step: String,
    /// The direction of the call.
    #[serde(rename = "leg")]
    pub direction: Direction,
    /// The event that the call waits for.
    pub wait: Wait,
    /// Since when no call of its service has succeeded though calls were made; `None` while the service answers.
    #[serde(default)]
    pub failing_since_ms: Option<i64>,
    /// How the last call of its service failed; empty when that call succeeded.
    #[serde(default)]
    pub last_error: String,
}

impl CallWait {
    /// The wait of a call whose service answers.
    pub fn new(step: &str, direction: Direction, wait: Wait) -> Self {
        Self { step: step.to_owned(), direction, wait, failing_since_ms: None, last_error: String::new() }
    }
}

/// The event that a call waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Wait {
    /// The turn of its saga, which has made no call yet.
    Turn {
        /// The number of sagas before it.
        ahead: Option<u64>,
    },
    /// The record of an event: the call is about to leave, or its answer is being recorded.
    Record,
    /// Its place in the queue of its service. The call has not left.
    Queue {
        /// Since when.
        since_ms: i64,
        /// The number of calls of the same RPC before it.
        ahead: u64,
    },
    /// Its service, whose breaker is open. The call has not left.
    Breaker {
        /// Since when.
        since_ms: i64,
        /// The number of calls of the same RPC before it.
        ahead: u64,
        /// When the breaker lets the next call through; `None` while that call is in flight.
        probe_at_ms: Option<i64>,
    },
    /// An operator, who has parked the calls of its service. The call has not left.
    Limit {
        /// Since when.
        since_ms: i64,
        /// The number of calls of the same RPC before it.
        ahead: u64,
    },
    /// The answer: the call is in flight.
    Call {
        /// When the call left.
        since_ms: i64,
        /// When the call times out.
        until_ms: i64,
    },
    /// The end of the pause after a failed attempt.
    Pause {
        /// When the call is made again.
        until_ms: i64,
    },
}

/// An event in one line.
pub fn describe(recorded: &Recorded) -> String {
    match &recorded.event {
        Event::Admitted { definition, version, applies, deadline_at_ms } => format!(
            "admitted as {definition} v{version}, to its pivot within {}; steps: {}",
            distance(deadline_at_ms.saturating_sub(recorded.at_ms)),
            applies.join(", ")
        ),
        Event::Adopted { by } => format!("taken over by instance {by}"),
        Event::Succeeded { step, direction, attempt, .. } => {
            format!("{} succeeded{}", title(step, *direction), nth(*attempt))
        }
        Event::Refused { step, attempt, refusal, .. } => {
            format!("{step} refused{}: {refusal}", nth(*attempt))
        }
        Event::Failed { step, direction, attempt, error, next_attempt_at_ms, needs_attention, .. } => format!(
            "{} failed{}: {error}; next attempt in {}{}",
            title(step, *direction),
            nth(*attempt),
            distance(next_attempt_at_ms.saturating_sub(recorded.at_ms)),
            if *needs_attention { "; needs attention" } else { "" }
        ),
        Event::CompensationStarted { cause } => format!("compensation started: {cause}"),
        Event::CompensationReverted { step, attempt, .. } => {
            format!("compensation reverted{}: {step} had happened", nth(*attempt))
        }
        Event::Intervened { by, reason, intervention, .. } => {
            format!("{by} {}: {reason}", intervention_in_words(intervention))
        }
        Event::Finished => String::from("finished"),
    }
}

/// The state and the waits of a saga: a headline, and a line for each step that has anything to do. `calls` is what the
/// instance that drives it sees; `None` when only the log is known.
pub fn explain(def: &Definition, state: &SagaState, calls: Option<&[CallWait]>, now_ms: i64) -> String {
    let mut text = String::from(match state.phase() {
        Phase::Running if state.is_before_pivot(def) => "running: not decided, can be cancelled",
        Phase::Running if state.may_compensate(def) => {
            "running: its pivot has no answer; a cancel takes effect if the pivot has not happened"
        }
        Phase::Running => "running: its pivot may have been called, can't be cancelled any more",
        Phase::Compensating if state.decided_at_ms().is_some() && state.owes_withdrawal(def) => {
            "compensating: all is undone, and the service of its pivot is called until it rejects a late call of it"
        }
        Phase::Compensating if state.decided_at_ms().is_some() => "compensating: all is undone, closing",
        Phase::Compensating if state.is_pivot_unknown(def) => {
            "compensating: its service is asked whether its pivot has happened, nothing else is undone before"
        }
        Phase::Compensating => "compensating: being undone",
        Phase::Completing => "completing: committed, its tail is being finished",
        Phase::Completed => "completed",
        Phase::Compensated => "compensated: all that may have been done is undone",
        Phase::Abandoned => "abandoned: finished by an operator's decision, with something left undone",
    });
    if let Some(cause) = state.cause() {
        let _ = write!(text, " ({cause})");
    }
    if state.needs_attention() {
        text.push_str("; needs attention");
    }
    text.push('\n');
    let live: Vec<(StepIndex, Direction)> = state.trying(def).map(|(index, direction, _)| (index, direction)).collect();
    for ((index, step), progress) in def.indexed().zip(state.steps()) {
        if !progress.applies {
            continue;
        }
        let words = |direction: Direction| {
            let seen = |calls: &[CallWait]| {
                let mut of_call = calls.iter().filter(|wait| wait.step == step.name && wait.direction == direction);
                // The log that is explained is a moment older than the waits.
                of_call.next().cloned().unwrap_or_else(|| CallWait::new(step.name, direction, Wait::Record))
            };
            let wait = live.contains(&(index, direction)).then(|| calls.map(seen));
            call_in_words(progress.call(direction), step.destination, wait, now_ms)
        };
        let _ = write!(text, "  {:<22} {}", step.name, words(Direction::Forward));
        if let Some(refusal) = &progress.refusal {
            let _ = write!(text, ": {refusal}");
        }
        if progress.undo.status != CallStatus::NotStarted {
            let _ = write!(text, "; undo {}", words(Direction::Compensation));
        }
        text.push('\n');
    }
    text
}

/// A call in words. `wait` is `None` for a call that is not due, and `Some(None)` when only the log is known.
fn call_in_words(call: &CallState, service: &str, wait: Option<Option<CallWait>>, now_ms: i64) -> String {
    match call.status {
        CallStatus::NotStarted => String::from("not started"),
        CallStatus::Trying => {
            let mut parts = Vec::new();
            if let Some(error) = &call.last_error {
                parts.push(format!("attempt {} failed: {error}", call.attempts));
            }
            match wait {
                None => parts.push(String::from("not waited for any more")),
                Some(Some(wait)) => parts.push(wait_in_words(&wait, service, now_ms)),
                Some(None) => parts.push(match call.next_attempt_at_ms {
                    Some(at_ms) if at_ms > now_ms => next_in(at_ms, now_ms),
                    Some(_) => String::from("next is due"),
                    None => format!("waits for its turn or for {service}: the log does not say which"),
                }),
            }
            parts.join("; ")
        }
        CallStatus::Done => format!("done{}", nth(call.attempts)),
        CallStatus::Refused => format!("refused{}", nth(call.attempts)),
        CallStatus::Skipped => String::from("skipped by an operator: not done"),
    }
}

/// The wait of a call, in words.
pub fn wait_in_words(wait: &CallWait, service: &str, now_ms: i64) -> String {
    let since = |since_ms: i64| distance(now_ms.saturating_sub(since_ms).max(0));
    match wait.wait {
        Wait::Turn { ahead: Some(ahead) } => {
            format!("not called: the saga waits for its turn, {ahead} are ahead of it")
        }
        Wait::Turn { ahead: None } => String::from("not called: the saga waits for its turn"),
        Wait::Record => String::from("about to be called, or its answer is being recorded"),
        Wait::Queue { since_ms, ahead } => {
            format!("not called: in the queue of {service} for {}, {ahead} calls are ahead of it", since(since_ms))
        }
        Wait::Breaker { since_ms, ahead, probe_at_ms } => {
            let probe = match probe_at_ms {
                Some(at_ms) if at_ms > now_ms => format!("the next probe is in {}", distance(at_ms - now_ms)),
                Some(_) => String::from("the next probe is due"),
                None => String::from("a probe is in flight"),
            };
            format!(
                "not called: parked for {}, the breaker of {service} is open ({}); {probe}, {ahead} calls are ahead of it",
                since(since_ms),
                if wait.last_error.is_empty() { "no answer" } else { &wait.last_error }
            )
        }
        Wait::Limit { since_ms, .. } => {
            format!("not called: parked for {}, an operator has set the limit of {service} to 0", since(since_ms))
        }
        Wait::Call { since_ms, until_ms } => format!(
            "called {} ago, not answered; given up {}",
            since(since_ms),
            if until_ms > now_ms { format!("in {}", distance(until_ms - now_ms)) } else { String::from("now") }
        ),
        Wait::Pause { until_ms } if until_ms > now_ms => next_in(until_ms, now_ms),
        Wait::Pause { .. } => String::from("next is due"),
    }
}

fn next_in(at_ms: i64, now_ms: i64) -> String {
    format!("next in {}", distance(at_ms.saturating_sub(now_ms)))
}

fn intervention_in_words(intervention: &Intervention) -> String {
    match intervention {
        Intervention::Retry { step: None } => String::from("had what waits tried again"),
        Intervention::Retry { step: Some(step) } => format!("had {step} tried again"),
        Intervention::Skip { step, direction } => format!("skipped the {direction} of {step}"),
        Intervention::Resolve { step, direction, answer: Resolution::Done } => {
            format!("found the {direction} of {step} done")
        }
        Intervention::Resolve { step, answer: Resolution::Refused { .. }, .. } => {
            format!("found that the {} of {step} never happens", Direction::Forward)
        }
        Intervention::Abandon => String::from("abandoned it"),
    }
}

fn title(step: &str, direction: Direction) -> String {
    match direction {
        Direction::Forward => step.to_owned(),
        Direction::Compensation => format!("undo of {step}"),
    }
}

fn nth(attempt: u32) -> String {
    if attempt == 1 { String::new() } else { format!(" at attempt {attempt}") }
}

/// A span of time, as short as it can be read.
pub fn distance(span_ms: i64) -> String {
    if span_ms.unsigned_abs() < 10_000 { format!("{span_ms} ms") } else { format!("{} s", span_ms / 1_000) }
}
