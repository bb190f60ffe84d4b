//! Requests on the wire: bounds of fields and lists, pages, and the operations of a request as domain operations.

use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::ops::RangeInclusive;
use std::time::Duration;

use matricula_proto::common::v1 as wire;
use tonic::Status;
use tracing::Span;

use crate::answer::Answer;
use crate::id::{InvalidId, SagaId, StepName, StudentId, check_id};
use crate::participant::{Direction, Key, Operation, Participant, Writer};
use crate::telemetry::{TraceContext, spans};
use crate::time::UnixMs;

/// Most operations in one request; the contract's bound for every mutating RPC.
pub const OPERATIONS_MAX: usize = 1_000;

/// Longest wait for an outcome: below the minute after which proxies give up on a call.
const WAIT_MS_MAX: i32 = 30_000;

/// Longest path of a field and longest problem in an error, in characters: an answer that repeated a huge value would
/// be larger than what a client takes as the end of a call, and the caller would get no answer at all.
const ERROR_CHARS_MAX: usize = 500;

/// What stands between the parts of a page token.
const TOKEN_SEPARATOR: char = '~';
/// What stood there in tokens of earlier builds, which may arrive during a rolling upgrade.
const OLD_TOKEN_SEPARATOR: char = ' ';

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
    pub fn new(field: impl Into<String>, problem: impl fmt::Display) -> Self {
        Self { field: shortened(field.into()), problem: shortened(problem.to_string()) }
    }

    /// The same problem, seen from the message that holds the field.
    pub fn within(mut self, outer: &str) -> Self {
        self.field = format!("{outer}.{}", self.field);
        self
    }
}

/// Enough of a text to find it again.
fn shortened(text: String) -> String {
    match text.char_indices().nth(ERROR_CHARS_MAX) {
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

/// Takes a number from the wire, within its bounds.
pub fn bounded(field: &str, number: i32, bounds: RangeInclusive<i32>) -> Result<i32, FieldError> {
    if bounds.contains(&number) {
        return Ok(number);
    }
    Err(FieldError::new(field, format!("must be {} to {}, got {number}", bounds.start(), bounds.end())))
}

/// Takes an id from the wire, or says which field is wrong.
pub fn required_id<T>(
    field: &str,
    text: String,
    try_new: impl FnOnce(String) -> Result<T, InvalidId>,
) -> Result<T, FieldError> {
    try_new(text).map_err(|problem| FieldError::new(field, problem))
}

/// Takes an id from the wire that may be left out.
pub fn optional_id<T>(
    field: &str,
    text: String,
    try_new: impl FnOnce(String) -> Result<T, InvalidId>,
) -> Result<Option<T>, FieldError> {
    if text.is_empty() { Ok(None) } else { required_id(field, text, try_new).map(Some) }
}

/// Takes a moment from the wire that may be left out.
pub fn moment(field: &str, wire: Option<prost_types::Timestamp>) -> Result<Option<UnixMs>, FieldError> {
    let Some(wire) = wire else { return Ok(None) };
    let problem = || FieldError::new(field, format!("must be in the years 1 to 9999, got {} s", wire.seconds));
    UnixMs::from_wire(&wire).map(Some).ok_or_else(problem)
}

/// Takes a moment from the wire.
pub fn required_moment(field: &str, wire: Option<prost_types::Timestamp>) -> Result<UnixMs, FieldError> {
    moment(field, wire)?.ok_or_else(|| FieldError::new(field, "is required"))
}

/// Takes an id that Matricula makes from the wire, as text within the bounds.
pub fn checked_id(field: &str, text: String) -> Result<String, FieldError> {
    check_id(&text).map_err(|problem| FieldError::new(field, problem))?;
    Ok(text)
}

/// Takes a list of messages from the wire, as many as `bounds` allow, or says which of them is wrong.
pub fn each<W, T>(
    field: &str,
    wire: Vec<W>,
    bounds: RangeInclusive<usize>,
    convert: impl Fn(W) -> Result<T, FieldError>,
) -> Result<Vec<T>, FieldError> {
    check_count(field, wire.len(), bounds)?;
    let items = wire.into_iter().enumerate();
    items.map(|(index, it)| convert(it).map_err(|problem| problem.within(&format!("{field}[{index}]")))).collect()
}

/// Takes a list of messages that name different ids in their field `id_field`.
pub fn each_distinct<W, T, I: Hash + Eq + fmt::Display>(
    field: &str,
    wire: Vec<W>,
    bounds: RangeInclusive<usize>,
    convert: impl Fn(W) -> Result<T, FieldError>,
    id_field: &str,
    id: impl Fn(&T) -> &I,
) -> Result<Vec<T>, FieldError> {
    let items = each(field, wire, bounds, convert)?;
    match first_twice(items.iter().map(id)) {
        Some((index, id)) => {
            Err(FieldError::new(format!("{field}[{index}].{id_field}"), format!("{id} is named twice")))
        }
        None => Ok(items),
    }
}

/// The first id that is there before, and its place.
pub fn first_twice<'a, I: Hash + Eq + 'a>(ids: impl Iterator<Item = &'a I>) -> Option<(usize, &'a I)> {
    let mut seen = HashSet::new();
    ids.enumerate().find(|(_, id)| !seen.insert(*id))
}

fn check_count(field: &str, count: usize, bounds: RangeInclusive<usize>) -> Result<(), FieldError> {
    let (min, max) = (bounds.start(), bounds.end());
    match count {
        _ if count < *min => Err(FieldError::new(field, format!("at least {min}, got {count}"))),
        _ if count > *max => Err(FieldError::new(field, format!("at most {max}, got {count}"))),
        _ => Ok(()),
    }
}

/// Takes a list of ids from the wire, at most `max` and none twice.
pub fn distinct_ids<T: Hash + Eq + fmt::Display>(
    field: &str,
    texts: Vec<String>,
    max: usize,
    try_new: impl Fn(String) -> Result<T, InvalidId>,
) -> Result<Vec<T>, FieldError> {
    check_count(field, texts.len(), 0..=max)?;
    let problem = |index: usize, problem: String| FieldError::new(format!("{field}[{index}]"), problem);
    let ids = texts.into_iter().enumerate();
    let ids = ids.map(|(index, text)| try_new(text).map_err(|invalid| problem(index, invalid.to_string())));
    let ids: Vec<T> = ids.collect::<Result<_, _>>()?;
    match first_twice(ids.iter()) {
        Some((index, id)) => Err(problem(index, format!("{id} is named twice"))),
        None => Ok(ids),
    }
}

/// The size of a page from the wire: 0 means 100, and 1,000 is the most.
pub fn page_size(asked: i32) -> Result<i64, FieldError> {
    match asked {
        0 => Ok(100),
        1..=1_000 => Ok(i64::from(asked)),
        _ => Err(FieldError::new("page_size", format!("must be 0 (for 100) to 1000, got {asked}"))),
    }
}

/// The key after which a page begins, from the wire: `key` makes it of its parts. `None` for the first page.
pub fn page_after<K, const N: usize>(
    token: &str,
    key: impl FnOnce([&str; N]) -> Option<K>,
) -> Result<Option<K>, FieldError> {
    if token.is_empty() {
        return Ok(None);
    }
    let separator = if token.contains(TOKEN_SEPARATOR) { TOKEN_SEPARATOR } else { OLD_TOKEN_SEPARATOR };
    let parts: Vec<&str> = token.splitn(N, separator).collect();
    let key = parts.try_into().ok().and_then(key);
    key.map(Some).ok_or_else(|| FieldError::new("page_token", "must be empty, or the next_page_token of an answer"))
}

/// The one part of a key that is an id which Matricula makes.
pub fn id_part([id]: [&str; 1]) -> Option<String> {
    check_id(id).is_ok().then(|| id.to_owned())
}

/// The token of the page after the row with a key. Only the last part of a key may have the separator in it.
pub fn page_token(key: &[&dyn fmt::Display]) -> String {
    let parts: Vec<String> = key.iter().map(ToString::to_string).collect();
    parts.join(&TOKEN_SEPARATOR.to_string())
}

/// A page of rows of which one more than `size` was read, if there are so many: then there is another page. `token` is
/// that of the page after a row.
pub fn page<T>(mut rows: Vec<T>, size: i64, token: impl FnOnce(&T) -> String) -> (Vec<T>, String) {
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let is_last = rows.len() <= size;
    rows.truncate(size);
    let next_page_token = rows.last().filter(|_| !is_last).map(token);
    (rows, next_page_token.unwrap_or_default())
}

/// How long to wait for an outcome, from the wire.
pub fn wait_time(wait_ms: i32) -> Result<Duration, FieldError> {
    let wait_ms = bounded("wait_ms", wait_ms, 0..=WAIT_MS_MAX)?;
    Ok(Duration::from_millis(wait_ms.unsigned_abs().into()))
}

/// Turns the operations of a request into domain operations, or names the one that is out of bounds. To be called where
/// the request is answered: the span of the request records them, and what they cause becomes part of it.
fn operations<W, C>(
    wire: Vec<W>,
    convert: impl Fn(W) -> Result<Operation<C>, FieldError>,
) -> Result<Vec<Operation<C>>, FieldError> {
    let mut operations = each("operations", wire, 0..=OPERATIONS_MAX, convert)?;
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

/// A saga's operation: its key, its trace context and its student from the wire, with the command that the service
/// makes of the rest.
pub fn saga_operation<C>(
    wire: Option<wire::Operation>,
    direction: Direction,
    student_id: String,
    command: impl FnOnce(&Key, StudentId) -> Result<C, FieldError>,
) -> Result<Operation<C>, FieldError> {
    let wire = wire.ok_or_else(|| FieldError::new("operation", "is required"))?;
    let saga = required_id("operation.saga_id", wire.saga_id, SagaId::try_new)?;
    let step = required_id("operation.step", wire.step, StepName::try_new)?;
    let trace = TraceContext::from_wire(wire.traceparent, wire.tracestate);
    let owner_alive_at = moment("operation.owner_alive_at", wire.owner_alive_at)?;
    let key = Key { saga, step };
    let command = command(&key, required_id("student_id", student_id, StudentId::try_new)?)?;
    Ok(Operation { key: Some(key), direction, trace, owner_alive_at, command })
}

/// Has the operations of a request written. Returns their answers in order.
pub async fn write<P: Participant, W>(
    writer: &Writer<P>,
    wire: Vec<W>,
    convert: impl Fn(W) -> Result<Operation<P::Command>, FieldError>,
) -> Result<Vec<wire::OperationResult>, Status> {
    let operations = operations(wire, convert)?;
    Ok(results(writer.write(operations).await?))
}

/// The answers of a request on the wire, in its order. The span of a request with one operation records the answer.
fn results(answers: Vec<Answer>) -> Vec<wire::OperationResult> {
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
    fn errors_are_short() {
        let error = FieldError::new("f".repeat(10_000), "é".repeat(10_000)).within("operations[0]");
        assert!(error.to_string().chars().count() < 1_100, "{} bytes", error.to_string().len());
        assert!(error.problem.ends_with("é..."));
        assert_eq!(FieldError::new("field", "is required").to_string(), "field: is required");
    }

    #[test]
    fn a_page_begins_after_the_last_row_of_the_page_before() {
        let after = |token: &str| page_after(token, |[at, id]| Some((at.parse::<i64>().ok()?, id.to_owned())));
        let token = |(at, id): &(i64, String)| page_token(&[at, id]);
        let rows: Vec<_> = [(3, "a"), (2, "b~c"), (1, "d")].map(|(at, id)| (at, id.to_owned())).into();
        assert_eq!(page(rows.clone(), 3, token), (rows.clone(), String::new()));
        let (first, next) = page(rows.clone(), 2, token);
        assert_eq!((&first[..], next.as_str()), (&rows[..2], "2~b~c"));
        assert_eq!(after(&next), Ok(Some(rows[1].clone())));
        assert_eq!(after("3 a"), Ok(Some(rows[0].clone())), "of an earlier build");
        assert_eq!(after(""), Ok(None));
        for bad in ["2", "x~y", "~", "é"] {
            assert_eq!(after(bad).expect_err("no token").field, "page_token", "{bad}");
        }
    }

    #[test]
    fn lists_have_bounds() {
        let take = |texts: &[&str]| {
            let convert = |text: String| required_id("id", text, StepName::try_new);
            let texts = texts.iter().map(ToString::to_string).collect();
            each_distinct("list", texts, 1..=2, convert, "id", |id| id).map_err(|problem| problem.to_string())
        };
        assert_eq!(take(&["a", "b"]).map(|ids| ids.len()), Ok(2));
        assert_eq!(take(&[]), Err("list: at least 1, got 0".to_owned()));
        assert_eq!(take(&["a", "b", "c"]), Err("list: at most 2, got 3".to_owned()));
        assert_eq!(take(&["a", "a"]), Err("list[1].id: a is named twice".to_owned()));
        assert!(take(&["a", ""]).expect_err("no id").starts_with("list[1].id: must be"));
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
