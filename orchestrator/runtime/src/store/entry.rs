//! A row of the log: the events of one append, or the first event of a saga, which is in the saga's own row.
//!
//! There is a row for each append, and not for each event, because the rows are what it costs. It has the sequence and
//! the time of its first event. Its text is JSON: one event is an object; several are an array of (time, event) pairs,
//! with sequences that follow the first without a gap. The text is packed where no replica of an earlier build can be
//! left to read it.

use matricula_core::SagaId;
use matricula_engine::{Event, Recorded};
use matricula_kit::database::{DbError, Row};

use super::packed::{pack, unpack};

/// The text of the row of these events of a saga.
pub(super) fn entry_text(saga: SagaId, events: &[Recorded], is_packed: bool) -> Result<String, DbError> {
    let json = match events {
        [one] => serde_json::to_string(&one.event),
        several => pairs(several),
    };
    let json = json.map_err(|error| DbError::corrupt(format!("events of saga {saga}: {error}")))?;
    Ok(if is_packed { pack(&json, events.first().map_or(0, |first| first.at_ms)) } else { json })
}

/// The text of the first event in the row of its saga. It has the time of the event, which has no column there.
pub(super) fn first_event_text(saga: SagaId, first: &Recorded) -> Result<String, DbError> {
    let json = pairs(std::slice::from_ref(first));
    Ok(pack(&json.map_err(|error| DbError::corrupt(format!("first event of saga {saga}: {error}")))?, 0))
}

fn pairs(events: &[Recorded]) -> serde_json::Result<String> {
    let pairs: Vec<(i64, &Event)> = events.iter().map(|recorded| (recorded.at_ms, &recorded.event)).collect();
    serde_json::to_string(&pairs)
}

/// The events of a row; what can't be read is told, not thrown: one bad saga must not hide the others.
pub(super) fn entries(row: &Row) -> Result<Vec<Recorded>, String> {
    let first = row.int("sequence").map_err(|error| error.to_string())?;
    let first = u64::try_from(first).map_err(|_| format!("event {first}"))?;
    let text = row.text("event").map_err(|error| error.to_string())?;
    let at_ms = row.int("at").map_err(|error| error.to_string())?;
    parsed(first, at_ms, &text).map_err(|problem| format!("event {first}: {problem}"))
}

/// The first event of a saga by the text in its row. None when the text is empty: the event is in the log, or the saga
/// has not begun.
pub(super) fn first_event(text: &str) -> Result<Vec<Recorded>, String> {
    if text.is_empty() { Ok(Vec::new()) } else { parsed(1, 0, text).map_err(|problem| format!("event 1: {problem}")) }
}

fn parsed(first: u64, at_ms: i64, text: &str) -> Result<Vec<Recorded>, String> {
    let json = unpack(text, at_ms)?;
    if !json.starts_with('[') {
        let event = serde_json::from_str(&json).map_err(|error| error.to_string())?;
        return Ok(vec![Recorded { sequence: first, at_ms, event }]);
    }
    let pairs: Vec<(i64, Event)> = serde_json::from_str(&json).map_err(|error| error.to_string())?;
    let recorded = (first..).zip(pairs).map(|(sequence, (at_ms, event))| Recorded { sequence, at_ms, event });
    Ok(recorded.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(sequence: u64, event: Event) -> Recorded {
        Recorded { sequence, at_ms: 1_000 + i64::try_from(sequence).unwrap_or_default(), event }
    }

    #[test]
    fn what_is_written_is_read() {
        let adopted = |by: &str| Event::Adopted { by: by.to_owned() };
        let events = [recorded(4, adopted("a")), recorded(5, adopted("b")), recorded(6, adopted("c"))];
        for count in 1..=events.len() {
            let text =
                |is_packed| entry_text(SagaId::from_u128(1), &events[..count], is_packed).expect("it is written");
            assert_eq!(text(false).starts_with('['), count > 1, "{}", text(false));
            for text in [text(false), text(true)] {
                assert_eq!(parsed(4, 1_004, &text).expect("it can be read"), events[..count], "{text}");
            }
        }
        for damaged in ["", "[", "none", "[1]", "[[1]]", "{\"type\":\"from the future\"}", "\u{1}\u{1f}"] {
            assert!(parsed(4, 1_004, damaged).is_err(), "{damaged}");
        }
    }

    #[test]
    fn a_first_event_is_read_with_its_time() {
        let first =
            recorded(1, Event::Admitted { definition: "d".into(), version: 2, applies: vec![], deadline_at_ms: 9 });
        let text = first_event_text(SagaId::from_u128(1), &first).expect("it is written");
        assert_eq!(first_event(&text), Ok(vec![first]));
        assert_eq!(first_event(""), Ok(Vec::new()));
        assert!(first_event("none").is_err());
    }
}
