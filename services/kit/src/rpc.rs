//! Batches on the wire: bounds, field errors, and the operations of a request as domain operations.

use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::time::Duration;

use matricula_proto::common::v1 as wire;
use tracing::Span;

use crate::answer::Answer;
use crate::id::{InvalidId, SagaId, StepName, check_id};
use crate::participant::{Key, Leg, Operation};
use crate::telemetry::{TraceContext, spans};
use crate::time::UnixMs;

/// Most operations in one request; the contract's bound for every mutating RPC.
pub const OPERATIONS_MAX: usize = 1_000;

/// Longest wait for an outcome: below the minute after which proxies give up on a call.
const WAIT_MS_MAX: i32 = 30_000;

/// Longest path of a field and longest problem that are told, in characters: an answer that repeated a huge value would
/// be larger than what a client takes as the end of a call, and the caller would hear nothing at all.
const TOLD_CHARS_MAX: usize = 500;

/// A field of a request that is out of its bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct FieldError {
    /// Path of the field, such as `operations[3].student_id`.
    pub field: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl FieldError {
    /// A problem with one field.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: shortened(field.into()), problem: shortened(problem.into()) }
    }

    /// The same problem, seen from the message that holds the field.
    pub fn within(mut self, outer: &str) -> Self {
        self.field = format!("{outer}.{}", self.field);
        self
    }
}

/// Enough of a text to find it again.
fn shortened(text: String) -> String {
    match text.char_indices().nth(TOLD_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// Takes a text for people from the wire: at most so many bytes, and of controls only what ends lines and parts words.
pub fn free_text(field: &str, text: String, bytes_max: usize) -> Result<String, FieldError> {
    if text.len() > bytes_max {
        return Err(FieldError::new(field, format!("must be at most {bytes_max} bytes, got {}", text.len())));
    }
    // A NUL can't be stored by PostgreSQL, and no sentence has one.
    match text.chars().find(|char| char.is_control() && !char.is_whitespace()) {
        Some(control) => Err(FieldError::new(field, format!("must have no control characters, got {control:?}"))),
        None => Ok(text),
    }
}

/// Takes an id from the wire, or says which field is wrong.
pub fn required_id<T>(
    field: &str,
    text: String,
    try_new: impl FnOnce(String) -> Result<T, InvalidId>,
) -> Result<T, FieldError> {
    try_new(text).map_err(|problem| FieldError::new(field, problem.to_string()))
}

/// Takes an id that Matricula makes from the wire, as text within the bounds.
pub fn checked_id(field: &str, text: String) -> Result<String, FieldError> {
    check_id(&text).map_err(|problem| FieldError::new(field, problem.to_string()))?;
    Ok(text)
}

/// Takes a list of messages from the wire, at most `max`, or says which of them is wrong.
pub fn each<W, T>(
    field: &str,
    wire: Vec<W>,
    max: usize,
    convert: impl Fn(W) -> Result<T, FieldError>,
) -> Result<Vec<T>, FieldError> {
    at_most(field, wire.len(), max)?;
    let items = wire.into_iter().enumerate();
    items.map(|(index, it)| convert(it).map_err(|problem| problem.within(&format!("{field}[{index}]")))).collect()
}

/// Checks that the messages of a list name different ids in a field of theirs.
pub fn distinct<'a, T: Hash + Eq + fmt::Display + 'a>(
    list: &str,
    field: &str,
    ids: impl Iterator<Item = &'a T>,
) -> Result<(), FieldError> {
    let mut seen = HashSet::new();
    for (index, id) in ids.enumerate() {
        if !seen.insert(id) {
            return Err(FieldError::new(format!("{list}[{index}].{field}"), format!("{id} is named twice")));
        }
    }
    Ok(())
}

fn at_most(field: &str, count: usize, max: usize) -> Result<(), FieldError> {
    if count > max { Err(FieldError::new(field, format!("at most {max}, got {count}"))) } else { Ok(()) }
}

/// Takes a list of ids from the wire, at most `max` and none twice.
pub fn distinct_ids<T: PartialEq + std::fmt::Display>(
    field: &str,
    texts: Vec<String>,
    max: usize,
    try_new: impl Fn(String) -> Result<T, InvalidId>,
) -> Result<Vec<T>, FieldError> {
    at_most(field, texts.len(), max)?;
    let mut ids: Vec<T> = Vec::with_capacity(texts.len());
    for (index, text) in texts.into_iter().enumerate() {
        let wrong = |problem: String| FieldError::new(format!("{field}[{index}]"), problem);
        let id = try_new(text).map_err(|problem| wrong(problem.to_string()))?;
        if ids.contains(&id) {
            return Err(wrong(format!("{id} is named twice")));
        }
        ids.push(id);
    }
    Ok(ids)
}

/// The size of a page from the wire: 0 means 100, and 1,000 is the most.
pub fn page_size(asked: i32) -> Result<i64, FieldError> {
    match asked {
        0 => Ok(100),
        1..=1_000 => Ok(i64::from(asked)),
        _ => Err(FieldError::new("page_size", format!("must be 0 (for 100) to 1000, got {asked}"))),
    }
}

/// Where a page begins, from the wire: behind the row of this id; `None` for the first page.
pub fn page_token(token: String) -> Result<Option<String>, FieldError> {
    if token.is_empty() { Ok(None) } else { checked_id("page_token", token).map(Some) }
}

/// How long to wait for an outcome, from the wire.
pub fn wait_time(wait_ms: i32) -> Result<Duration, FieldError> {
    match u64::try_from(wait_ms) {
        Ok(ms) if wait_ms <= WAIT_MS_MAX => Ok(Duration::from_millis(ms)),
        _ => Err(FieldError::new("wait_ms", format!("must be 0 to {WAIT_MS_MAX}, got {wait_ms}"))),
    }
}

/// Turns the operations of a request into domain operations, naming the one that is out of bounds. To be called where
/// the request is answered: its span is told what it is about, and what its operations cause becomes part of it.
pub fn operations<W, C>(
    wire: Vec<W>,
    convert: impl Fn(W) -> Result<Operation<C>, FieldError>,
) -> Result<Vec<Operation<C>>, FieldError> {
    let mut operations = each("operations", wire, OPERATIONS_MAX, convert)?;
    let span = Span::current();
    if !span.is_none() {
        spans::has_operations(&span, operations.len());
        if let [operation] = &operations[..] {
            operation.describe_in(&span);
        }
        let serving = TraceContext::of_span(&span, &TraceContext::default());
        for operation in &mut operations {
            operation.trace = std::mem::take(&mut operation.trace).within(&serving);
        }
    }
    Ok(operations)
}

/// A saga's operation: its key and trace context from the wire, with the command that the service made of the rest.
pub fn saga_operation<C>(wire: Option<wire::Operation>, leg: Leg, command: C) -> Result<Operation<C>, FieldError> {
    let wire = wire.ok_or_else(|| FieldError::new("operation", "is required"))?;
    let saga = required_id("operation.saga_id", wire.saga_id, SagaId::try_new)?;
    let step = required_id("operation.step", wire.step, StepName::try_new)?;
    let trace = TraceContext::from_wire(wire.traceparent, wire.tracestate);
    let owner_alive_at = match wire.owner_alive_at {
        None => None,
        Some(moment) => Some(UnixMs::from_wire(&moment).ok_or_else(|| {
            FieldError::new(
                "operation.owner_alive_at",
                format!("must be in the years 1 to 9999, got {} s", moment.seconds),
            )
        })?),
    };
    Ok(Operation { key: Some(Key { saga, step }), leg, trace, owner_alive_at, command })
}

/// The answers of a request on the wire, in its order. The span of a request with one operation is told its answer.
pub fn results(answers: Vec<Answer>) -> Vec<wire::OperationResult> {
    if let [answer] = &answers[..] {
        let (outcome, reason) = match answer {
            Answer::Done(_) => ("done", None),
            Answer::Refused(reasons) => ("refused", reasons.first().map(|refusal| refusal.reason.name())),
            Answer::NotYet(not_yet) => ("not_yet", Some(not_yet.reason.as_str())),
        };
        spans::has_answer(&Span::current(), outcome, reason);
    }
    answers.into_iter().map(Into::into).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_short() {
        let told = FieldError::new("f".repeat(10_000), "é".repeat(10_000)).within("operations[0]");
        assert!(told.to_string().chars().count() < 1_100, "{} bytes", told.to_string().len());
        assert!(told.problem.ends_with("é..."));
        assert_eq!(FieldError::new("field", "is required").to_string(), "field: is required");
    }

    #[test]
    fn a_wait_has_bounds() {
        assert!(wait_time(-1).is_err() && wait_time(30_001).is_err());
        assert_eq!(wait_time(30_000), Ok(Duration::from_secs(30)));
    }

    #[test]
    fn texts_for_people_have_bounds() {
        assert!(free_text("reason", "two lines,\n\tand more".to_owned(), 100).is_ok());
        for bad in ["a\0", "\u{7f}", &"x".repeat(101)] {
            assert_eq!(free_text("reason", bad.to_owned(), 100).expect_err("out of bounds").field, "reason");
        }
    }
}
