//! A saga in words, for operators.
//!
//! Promises: says what is recorded and nothing that only may be so; times are distances, so that a reader needs no
//! calendar.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::definition::{Definition, StepIndex};
use crate::event::{Event, Intervention, Leg, Recorded, Resolution};
use crate::state::{LegState, LegStatus, Phase, SagaState};

/// What one leg of a saga waits for, as the instance that drives the saga sees it. The log does not tell a call that is
/// in flight from one that waits to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegWait {
    /// Name of the step.
    pub step: String,
    /// Which direction.
    pub leg: Leg,
    /// What it waits for.
    pub wait: Wait,
    /// Since when no call of its service has succeeded though calls were made; none while the service answers.
    #[serde(default)]
    pub failing_since_ms: Option<i64>,
    /// How the last call of its service failed; empty when it did not.
    #[serde(default)]
    pub last_error: String,
}

impl LegWait {
    /// Of a leg whose service answers.
    pub fn new(step: &str, leg: Leg, wait: Wait) -> Self {
        Self { step: step.to_owned(), leg, wait, failing_since_ms: None, last_error: String::new() }
    }
}

/// What a leg can wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Wait {
    /// The turn of its saga: nothing of it is called yet.
    Turn {
        /// Sagas that are before it.
        ahead: Option<u64>,
    },
    /// Its call is about to leave, or its answer is being recorded.
    Record,
    /// A place among the calls of its service: it is not called.
    Queue {
        /// Since when.
        since_ms: i64,
        /// Calls of the same RPC that are before it.
        ahead: u64,
    },
    /// Its service, whose breaker is open: it is not called.
    Breaker {
        /// Since when.
        since_ms: i64,
        /// Calls of the same RPC that are before it.
        ahead: u64,
        /// When the next call is let through; none while that one is under way.
        probe_at_ms: Option<i64>,
    },
    /// An operator, who has parked the calls of its service: it is not called.
    Limit {
        /// Since when.
        since_ms: i64,
        /// Calls of the same RPC that are before it.
        ahead: u64,
    },
    /// The answer of a call that is in flight.
    Call {
        /// When it was called.
        since_ms: i64,
        /// When it is given up.
        until_ms: i64,
    },
    /// The end of the pause after a failed attempt.
    Pause {
        /// When it is called again.
        until_ms: i64,
    },
}

/// What is known of a saga beside its log.
#[derive(Debug, Clone, Copy)]
pub enum Sight<'a> {
    /// What the instance that drives it sees.
    Live(&'a [LegWait]),
    /// Nothing.
    LogOnly,
}

impl Sight<'_> {
    fn of(self, step: &str, leg: Leg) -> Option<LegWait> {
        let Self::Live(legs) = self else { return None };
        let seen = legs.iter().find(|wait| wait.step == step && wait.leg == leg).cloned();
        // The log that is explained is a moment older than what was seen.
        Some(seen.unwrap_or_else(|| LegWait::new(step, leg, Wait::Record)))
    }
}

/// One line about an event.
pub fn describe(recorded: &Recorded) -> String {
    match &recorded.event {
        Event::Admitted { definition, version, applies, deadline_at_ms } => format!(
            "admitted as {definition} v{version}, to its pivot within {}; steps: {}",
            distance(deadline_at_ms.saturating_sub(recorded.at_ms)),
            applies.join(", ")
        ),
        Event::Adopted { by } => format!("taken over by instance {by}"),
        Event::Succeeded { step, leg, attempt, .. } => {
            format!("{} succeeded{}", title(step, *leg), nth(*attempt))
        }
        Event::Refused { step, attempt, refusal, .. } => {
            format!("{step} refused{}: {refusal}", nth(*attempt))
        }
        Event::Failed { step, leg, attempt, error, next_attempt_at_ms, needs_attention, .. } => format!(
            "{} failed{}: {error}; next attempt in {}{}",
            title(step, *leg),
            nth(*attempt),
            distance(next_attempt_at_ms.saturating_sub(recorded.at_ms)),
            if *needs_attention { "; needs attention" } else { "" }
        ),
        Event::Turned { cause } => format!("turned round: {cause}"),
        Event::TurnedBack { step, attempt, .. } => {
            format!("turned back{}: {step} had happened", nth(*attempt))
        }
        Event::Intervened { by, reason, intervention, .. } => {
            format!("{by} {}: {reason}", intervention_in_words(intervention))
        }
        Event::Finished => String::from("finished"),
    }
}

/// What a saga is doing and waiting for: a headline, and a line a step that has anything to do.
pub fn explain(def: &Definition, state: &SagaState, sight: Sight<'_>, now_ms: i64) -> String {
    let mut text = String::from(match state.phase() {
        Phase::Running if state.may_turn(def) => "running: not decided, can be cancelled",
        Phase::Running => "running: its pivot may have been called, can't be cancelled any more",
        Phase::Compensating if state.decided_at_ms().is_some() => "compensating: all is undone, closing",
        Phase::Compensating if state.is_pivot_unknown(def) => {
            "compensating: first to be known is whether its pivot has happened"
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
    let live: Vec<(StepIndex, Leg)> = state.trying(def).map(|(index, leg, _)| (index, leg)).collect();
    for ((index, step), progress) in def.indexed().zip(state.steps()) {
        if !progress.applies {
            continue;
        }
        let words = |leg: Leg| {
            let wait = match live.contains(&(index, leg)) {
                true => Some(sight.of(step.name, leg)),
                false => None,
            };
            leg_in_words(progress.leg(leg), step.destination, wait, now_ms)
        };
        let _ = write!(text, "  {:<22} {}", step.name, words(Leg::Action));
        if let Some(refusal) = &progress.refusal {
            let _ = write!(text, ": {refusal}");
        }
        if progress.undo.status != LegStatus::NotStarted {
            let _ = write!(text, "; undo {}", words(Leg::Undo));
        }
        text.push('\n');
    }
    text
}

/// `wait` is none for a leg that is not to be called as its saga stands; it holds none when only the log is known.
fn leg_in_words(leg: &LegState, service: &str, wait: Option<Option<LegWait>>, now_ms: i64) -> String {
    match leg.status {
        LegStatus::NotStarted => String::from("not started"),
        LegStatus::Trying => {
            let mut parts = Vec::new();
            if let Some(error) = &leg.last_error {
                parts.push(format!("attempt {} failed: {error}", leg.attempts));
            }
            match wait {
                None => parts.push(String::from("not waited for any more")),
                Some(Some(wait)) => parts.push(wait_in_words(&wait, service, now_ms)),
                Some(None) => parts.push(match leg.next_attempt_at_ms {
                    Some(at_ms) if at_ms > now_ms => next_in(at_ms, now_ms),
                    Some(_) => String::from("next is due"),
                    None => format!("waits for its turn or for {service}: the log does not say which"),
                }),
            }
            parts.join("; ")
        }
        LegStatus::Done => format!("done{}", nth(leg.attempts)),
        LegStatus::Refused => format!("refused{}", nth(leg.attempts)),
        LegStatus::Skipped => String::from("skipped by an operator: not done"),
    }
}

/// What a leg waits for, in words.
pub fn wait_in_words(wait: &LegWait, service: &str, now_ms: i64) -> String {
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
        Intervention::Skip { step, leg } => format!("skipped the {leg} of {step}"),
        Intervention::Resolve { step, leg, answer: Resolution::Done } => format!("found the {leg} of {step} done"),
        Intervention::Resolve { step, leg, answer: Resolution::Refused { .. } } => {
            format!("found that the {leg} of {step} never happens")
        }
        Intervention::Abandon => String::from("abandoned it"),
    }
}

fn title(step: &str, leg: Leg) -> String {
    match leg {
        Leg::Action => step.to_owned(),
        Leg::Undo => format!("undo of {step}"),
    }
}

fn nth(attempt: u32) -> String {
    if attempt == 1 { String::new() } else { format!(" at attempt {attempt}") }
}

/// A span of time, as short as it can be read.
pub fn distance(span_ms: i64) -> String {
    if span_ms.unsigned_abs() < 10_000 { format!("{span_ms} ms") } else { format!("{} s", span_ms / 1_000) }
}
