//! How a log entry is stored: a row for each append, and not for each event, because the rows are what it costs.
//!
//! A row has the sequence and the time of its first event. One event is an object; several are an array of (time,
//! event) pairs, with sequences that follow the first without a gap.

use matricula_core::SagaId;
use matricula_engine::{Event, Recorded};
use matricula_kit::database::{DbError, Row};

/// The text of the row of these events of a saga.
pub(super) fn written(saga: SagaId, events: &[Recorded]) -> Result<String, DbError> {
    let text = match events {
        [one] => serde_json::to_string(&one.event),
        several => {
            let pairs: Vec<(i64, &Event)> = several.iter().map(|recorded| (recorded.at_ms, &recorded.event)).collect();
            serde_json::to_string(&pairs)
        }
    };
    text.map_err(|error| DbError::corrupt(format!("events of saga {saga}: {error}")))
}

/// The events of a row; what can't be read is told, not thrown: one bad saga must not hide the others.
pub(super) fn read(row: &Row) -> Result<Vec<Recorded>, String> {
    let first = row.int("sequence").map_err(|error| error.to_string())?;
    let first = u64::try_from(first).map_err(|_| format!("event {first}"))?;
    let text = row.text("event").map_err(|error| error.to_string())?;
    let at_ms = row.int("at").map_err(|error| error.to_string())?;
    parsed(first, at_ms, &text).map_err(|error| format!("event {first}: {error}"))
}

fn parsed(first: u64, at_ms: i64, text: &str) -> Result<Vec<Recorded>, serde_json::Error> {
    if !text.starts_with('[') {
        let event = serde_json::from_str(text)?;
        return Ok(vec![Recorded { sequence: first, at_ms, event }]);
    }
    let pairs: Vec<(i64, Event)> = serde_json::from_str(text)?;
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
            let text = written(SagaId::from_u128(1), &events[..count]).expect("it can be written");
            assert_eq!(text.starts_with('['), count > 1, "{text}");
            assert_eq!(parsed(4, 1_004, &text).expect("it can be read"), events[..count], "{text}");
        }
        for damaged in ["", "[", "none", "[1]", "[[1]]", "{\"type\":\"from the future\"}"] {
            assert!(parsed(4, 1_004, damaged).is_err(), "{damaged}");
        }
    }
}
