//! A saga in words, for operators.
//!
//! Promises: says what is recorded and nothing that only may be so; times are distances, so that a reader needs no
//! calendar.

use std::fmt::Write as _;

use crate::definition::Definition;
use crate::event::{Event, Intervention, Leg, Recorded, Resolution};
use crate::state::{LegState, LegStatus, Phase, SagaState};

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
        Event::Intervened { by, reason, intervention } => {
            format!("{by} {}: {reason}", intervention_in_words(intervention))
        }
        Event::Finished => String::from("finished"),
    }
}

/// What a saga is doing and waiting for: a headline, and a line a step that has anything to do.
pub fn explain(def: &Definition, state: &SagaState, now_ms: i64) -> String {
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
    for (step, progress) in def.steps().iter().zip(state.steps()) {
        if !progress.applies {
            continue;
        }
        let _ = write!(text, "  {:<22} {}", step.name, leg_in_words(&progress.action, now_ms));
        if let Some(refusal) = &progress.refusal {
            let _ = write!(text, ": {refusal}");
        }
        if progress.undo.status != LegStatus::NotStarted {
            let _ = write!(text, "; undo {}", leg_in_words(&progress.undo, now_ms));
        }
        text.push('\n');
    }
    text
}

fn leg_in_words(leg: &LegState, now_ms: i64) -> String {
    match (leg.status, &leg.last_error) {
        (LegStatus::NotStarted, _) => String::from("not started"),
        (LegStatus::Trying, None) => String::from("called, not answered"),
        (LegStatus::Trying, Some(error)) => {
            let mut text = format!("attempt {} failed: {error}", leg.attempts);
            match leg.next_attempt_at_ms {
                Some(at_ms) if at_ms > now_ms => {
                    let _ = write!(text, "; next in {}", distance(at_ms.saturating_sub(now_ms)));
                }
                Some(_) => text.push_str("; next is due"),
                None => {}
            }
            text
        }
        (LegStatus::Done, _) => format!("done{}", nth(leg.attempts)),
        (LegStatus::Refused, _) => format!("refused{}", nth(leg.attempts)),
        (LegStatus::Skipped, _) => String::from("skipped by an operator: not done"),
    }
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

fn distance(span_ms: i64) -> String {
    if span_ms.unsigned_abs() < 10_000 { format!("{span_ms} ms") } else { format!("{} s", span_ms / 1_000) }
}
