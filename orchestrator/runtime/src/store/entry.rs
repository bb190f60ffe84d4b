//! An entry of the log: the events of one append.
//!
//! | where it is stored | events | form |
//! |---|---|---|
//! | in the row of its saga, in the column `log` | the first ones of a saga | its sequence and its packed JSON, after the earlier entries |
//! | in a row of `saga_events` | later ones | its packed JSON |
//! | in a row of `saga_events` | all, as long as an instance of an earlier build may read them | its JSON |
//!
//! There is one entry for each append, not for each event, because the cost depends on the number of entries. An entry
//! in the row of its saga costs least, because an append changes that row anyway. A row of `saga_events` has the
//! sequence and the time of its first event. In JSON, several events are an array of (time, event) pairs, with
//! sequences that follow the first one without a gap. A single event is an object in `saga_events`, where its time has
//! a column, and such an array in the row of its saga.

use matricula_core::SagaId;
use matricula_engine::{Event, Recorded};
use matricula_kit::database::{DbError, Row};

use super::packed::{PACKED, number, pack, push_number, unpack};

/// Events up to this sequence are in the row of their saga. Most sagas have fewer than 12 events. A saga that retries
/// for hours has hundreds, and each append would write all of them again.
const IN_ROW_MAX: u64 = 16;

/// Whether these events belong into the row of their saga.
pub(super) fn is_in_row(events: &[Recorded]) -> bool {
    events.last().is_some_and(|last| last.sequence <= IN_ROW_MAX)
}

/// Writes these events as an entry in the row of their saga.
pub(super) fn entry_in_row(saga: SagaId, events: &[Recorded]) -> Result<String, DbError> {
    let json = pairs(events).map_err(|error| unwritable(saga, &error))?;
    let mut entry = String::with_capacity(json.len() / 4 + 16);
    entry.push(PACKED);
    push_number(&mut entry, events.first().map_or(0, |first| first.sequence));
    pack(&mut entry, &json, made_at_ms(saga));
    Ok(entry)
}

/// Writes these events as the text of a row of `saga_events`.
pub(super) fn entry_text(saga: SagaId, events: &[Recorded], is_packed: bool) -> Result<String, DbError> {
    let json = match events {
        [one] => serde_json::to_string(&one.event),
        several => pairs(several),
    };
    let json = json.map_err(|error| unwritable(saga, &error))?;
    if !is_packed {
        return Ok(json);
    }
    let mut text = String::with_capacity(json.len() / 4 + 16);
    text.push(PACKED);
    pack(&mut text, &json, events.first().map_or(0, |first| first.at_ms));
    Ok(text)
}

fn pairs(events: &[Recorded]) -> serde_json::Result<String> {
    let pairs: Vec<(i64, &Event)> = events.iter().map(|recorded| (recorded.at_ms, &recorded.event)).collect();
    serde_json::to_string(&pairs)
}

fn unwritable(saga: SagaId, error: &serde_json::Error) -> DbError {
    DbError::corrupt(format!("events of saga {saga}: {error}"))
}

/// When a saga was created, by its id: a UUIDv7 begins with its time. For another kind of id the number means nothing.
fn made_at_ms(saga: SagaId) -> i64 {
    (saga.as_u128() >> 80) as i64
}

/// The events in the row of a saga.
pub(super) fn events_in_row(saga: SagaId, log: &str) -> Result<Vec<Recorded>, String> {
    let Some(entries) = log.strip_prefix(PACKED) else {
        return if log.is_empty() { Ok(Vec::new()) } else { Err("its first events are of a newer build".to_owned()) };
    };
    let mut events = Vec::new();
    for entry in entries.split(PACKED) {
        let (first, digits) = number(entry)?;
        let json = unpack(&entry[digits..], made_at_ms(saga));
        let recorded = json.and_then(|json| of_pairs(first, &json));
        events.extend(recorded.map_err(|problem| format!("event {first}: {problem}"))?);
    }
    Ok(events)
}

/// The events of a row of `saga_events`; or why they can't be read, so that one bad saga does not hide the others.
pub(super) fn entries(row: &Row) -> Result<Vec<Recorded>, String> {
    let first = row.int("sequence").map_err(|error| error.to_string())?;
    let first = u64::try_from(first).map_err(|_| format!("event {first}"))?;
    let text = row.text("event").map_err(|error| error.to_string())?;
    let at_ms = row.int("at").map_err(|error| error.to_string())?;
    parsed(first, at_ms, &text).map_err(|problem| format!("event {first}: {problem}"))
}

fn parsed(first: u64, at_ms: i64, text: &str) -> Result<Vec<Recorded>, String> {
    let unpacked = text.strip_prefix(PACKED).map(|packed| unpack(packed, at_ms)).transpose()?;
    let json = unpacked.as_deref().unwrap_or(text);
    if json.starts_with('[') {
        return of_pairs(first, json);
    }
    let event = serde_json::from_str(json).map_err(|error| error.to_string())?;
    Ok(vec![Recorded { sequence: first, at_ms, event }])
}

fn of_pairs(first: u64, json: &str) -> Result<Vec<Recorded>, String> {
    let pairs: Vec<(i64, Event)> = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let sequences = (0..).map(|further: u64| first.saturating_add(further));
    let recorded = sequences.zip(pairs).map(|(sequence, (at_ms, event))| Recorded { sequence, at_ms, event });
    Ok(recorded.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(sequence: u64, event: Event) -> Recorded {
        Recorded { sequence, at_ms: 1_000 + i64::try_from(sequence).unwrap_or_default(), event }
    }

    #[test]
    fn written_events_are_read() {
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
    fn entries_in_a_row_are_read_one_after_the_other() {
        let saga = SagaId::from_u128(0x0191_0000_0000_7000_8000_0000_0000_0001);
        let events: Vec<Recorded> =
            (1..=40).map(|sequence| recorded(sequence, Event::Adopted { by: format!("{sequence}") })).collect();
        let mut log = String::new();
        for entry in [&events[..1], &events[1..7], &events[7..8], &events[33..]] {
            log.push_str(&entry_in_row(saga, entry).expect("it is written"));
        }
        let expected = [&events[..8], &events[33..]].concat();
        assert_eq!(events_in_row(saga, &log), Ok(expected));
        assert_eq!(events_in_row(saga, ""), Ok(Vec::new()));
        for damaged in ["none", "[[1]]", "\u{1}", "\u{1}![]\u{1}", "\u{1}!none"] {
            assert!(events_in_row(saga, damaged).is_err(), "{damaged}");
        }
    }
}
