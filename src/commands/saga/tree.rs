//! Shows a saga as a tree for people: its stages, the steps of each with their attempts and compensations, and its log.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use matricula_proto::ops::v1::{Event, GetSagaResponse, Leg, LegStatus, SagaSummary, Step};

use super::lines;
use super::{direction_status_name, phase_name, waits_for};
use crate::commands::registration;
use crate::output::{NONE, moment_or_none};

/// The indentation of continuation lines.
const HANG: usize = 14;

/// Shows the whole saga.
pub fn shown(saga: &GetSagaResponse, width: usize) -> String {
    let mut text = lines::wrapped(&head(saga), HANG, width);
    text.push('\n');
    let times = call_times(&saga.events);
    let mut stages: BTreeMap<i32, Vec<&Step>> = BTreeMap::new();
    for step in &saga.steps {
        stages.entry(step.stage).or_default().push(step);
    }
    for (stage, steps) in stages {
        let together = if steps.len() > 1 { ", in parallel" } else { "" };
        // Writing to a string does not fail.
        let _ = writeln!(text, "\nstage {stage}{together}");
        for (index, step) in steps.iter().enumerate() {
            let is_last = index + 1 == steps.len();
            let mut lines = String::new();
            write_step(&mut lines, step, is_last, &times);
            text.push_str(&lines::wrapped(&lines, HANG, width));
            text.push('\n');
        }
    }
    if !saga.events.is_empty() {
        text.push('\n');
        text.push_str(&log(&saga.events, width));
        text.push('\n');
    }
    text
}

fn head(saga: &GetSagaResponse) -> String {
    let unknown = SagaSummary::default();
    let summary = saga.summary.as_ref().unwrap_or(&unknown);
    let (phase, outcome) = (phase_name(summary.phase), registration::outcome_name(summary.outcome));
    let mut text = format!("{}  {phase}, {outcome}\n", summary.saga_id);
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "  {name:<13} {}", if value.is_empty() { NONE } else { value });
    };
    if !saga.unreadable_because.is_empty() {
        line("attention", "needed: this replica can't read the saga's log, and does not drive the saga");
    } else if summary.needs_attention {
        line("attention", "needed: a step below has failed for longer than its policy allows; it is still retried");
    }
    if let Some(waits) = waits_for(summary) {
        line("now", &waits);
    }
    line("student", &summary.student_id);
    if let Some(registration) = &saga.registration {
        line("adds", &registration.adds.join(" "));
        line("drops", &registration.drops.join(" "));
    }
    if !saga.roster_row_id.is_empty() {
        line("made by", &format!("an import: row {} of a roster (enrollments.csv)", saga.roster_row_id));
    }
    if !saga.turned_because.is_empty() {
        line("undo cause", &saga.turned_because);
    }
    if !saga.unreadable_because.is_empty() {
        line("unreadable", &saga.unreadable_because);
    }
    if !saga.archived_in.is_empty() {
        line("log", &format!("archived in {}: `matricula archive show ID` shows it", saga.archived_in));
    }
    line("created", &moment_or_none(summary.created_at.as_ref()));
    line("last recorded", &moment_or_none(summary.updated_at.as_ref()));
    line("driven by", &summary.owner);
    line("definition", &format!("{} version {}", summary.definition, summary.definition_version));
    line("trace", &saga.traceparent);
    text
}

fn write_step(text: &mut String, step: &Step, is_last: bool, times: &CallTimes) {
    let (branch, below) = if is_last { ("└─", "  ") } else { ("├─", "│ ") };
    let Step { service, kind, .. } = step;
    let name = step.name.as_str();
    let action = match &step.action {
        _ if !step.applies => "not needed".to_owned(),
        Some(leg) => direction_shown(leg, times.get(&(name, false))),
        None => NONE.to_owned(),
    };
    let _ = writeln!(text, "{branch} {name} ({service}, {kind}): {action}");
    if let Some(leg) = &step.action {
        write_trouble(text, leg, below);
    }
    // A compensation that was never needed is not shown.
    let called_for = |leg: &&Leg| leg.status() != LegStatus::NotStarted && leg.status() != LegStatus::Unspecified;
    if let Some(undo) = step.undo.as_ref().filter(called_for) {
        let _ =
            writeln!(text, "{below}   undo {}: {}", step.undo_name, direction_shown(undo, times.get(&(name, true))));
        write_trouble(text, undo, below);
    }
}

fn direction_shown(leg: &Leg, time_ms: Option<&i64>) -> String {
    let status = direction_status_name(leg.status).replace('_', " ");
    let attempts = match leg.attempts {
        0 => return status,
        1 => "1 attempt".to_owned(),
        attempts => format!("{attempts} attempts"),
    };
    match time_ms {
        Some(time_ms) => format!("{status}, {attempts}, {time_ms} ms in calls"),
        None => format!("{status}, {attempts}"),
    }
}

fn write_trouble(text: &mut String, leg: &Leg, below: &str) {
    if leg.needs_attention {
        let _ = writeln!(text, "{below}   ! needs attention");
    }
    if !leg.last_error.is_empty() {
        let _ = writeln!(text, "{below}   last error: {}", leg.last_error);
    }
    if leg.next_attempt_at.is_some() {
        let _ = writeln!(text, "{below}   next attempt: {}", moment_or_none(leg.next_attempt_at.as_ref()));
    }
}

fn log(events: &[Event], width: usize) -> String {
    let number = events.iter().map(|event| event.sequence.to_string().len()).max().unwrap_or_default();
    let mut text = String::new();
    for event in events {
        let took = if event.duration_ms > 0 { format!(" ({} ms)", event.duration_ms) } else { String::new() };
        let at = moment_or_none(event.at.as_ref());
        let line = format!(" {:>number$}  {at}  {}{took}", event.sequence, event.description);
        text.push_str(&lines::wrapped(&line, number + 28, width));
        text.push('\n');
    }
    text.trim_end().to_owned()
}

/// The total time of the recorded calls, by step and direction.
type CallTimes<'a> = BTreeMap<(&'a str, bool), i64>;

fn call_times(events: &[Event]) -> CallTimes<'_> {
    let mut times = BTreeMap::new();
    for event in events.iter().filter(|event| event.duration_ms > 0) {
        *times.entry((event.step.as_str(), event.undo)).or_insert(0) += event.duration_ms;
    }
    times
}

#[cfg(test)]
mod tests;
