//! The meeting times of a section: `MTR 08:00-08:50;F 10:00-10:50`.

use crate::ids::Invalid;

/// The days of the week in order; R is Thursday and U is Sunday.
const DAY_LETTERS: &str = "MTWRFSU";
/// Midnight, allowed only as the end of a meeting.
const MIDNIGHT: &str = "24:00";
const DAY_MINUTES: u16 = 24 * 60;

/// A day of the week by its letter: M T W R F S U.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Day(char);

/// One line of a timetable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meeting {
    /// At least one, each at most once.
    pub days: Vec<Day>,
    /// Minutes after midnight.
    pub start_minute: u16,
    /// Minutes after midnight, after the start; 1,440 is the midnight that ends the day.
    pub end_minute: u16,
}

impl Day {
    /// Its letter.
    pub fn letter(self) -> char {
        self.0
    }
}

impl Meeting {
    /// Whether the meetings overlap.
    pub fn clashes_with(&self, other: &Self) -> bool {
        self.start_minute < other.end_minute
            && other.start_minute < self.end_minute
            && self.days.iter().any(|day| other.days.contains(day))
    }
}

/// Parses a list of meetings; an empty text means no set time.
pub fn parse_meetings(text: &str) -> Result<Vec<Meeting>, Invalid> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    text.split(';').map(parse_meeting).collect()
}

fn parse_meeting(text: &str) -> Result<Meeting, Invalid> {
    let Some((days, times)) = text.trim().split_once(' ') else {
        return Err(Invalid::new(
            "not a meeting; write days and times as in `MTR 08:00-08:50`, several separated by `;`",
        ));
    };
    let mut meeting = Meeting { days: Vec::new(), start_minute: 0, end_minute: 0 };
    for letter in days.chars() {
        if !DAY_LETTERS.contains(letter) {
            return Err(Invalid::new(format!("unknown day {letter}; use M T W R F S U")));
        }
        if meeting.days.contains(&Day(letter)) {
            return Err(Invalid::new(format!("day {letter} is repeated; write each day once")));
        }
        meeting.days.push(Day(letter));
    }
    let Some((start, end)) = times.trim().split_once('-') else {
        return Err(Invalid::new("the end is missing; write start and end as in `08:00-08:50`"));
    };
    meeting.start_minute = parse_minute(start, "23:59")?;
    meeting.end_minute = if end == MIDNIGHT { DAY_MINUTES } else { parse_minute(end, MIDNIGHT)? };
    if meeting.start_minute >= meeting.end_minute {
        return Err(Invalid::new("ends before it starts; split a meeting that passes midnight"));
    }
    Ok(meeting)
}

/// Parses a time as a minute of the day; `last` is the latest allowed text.
fn parse_minute(text: &str, last: &str) -> Result<u16, Invalid> {
    let two_digits = |text: &str| match text.as_bytes() {
        [tens @ b'0'..=b'9', units @ b'0'..=b'9'] => Some((tens - b'0') * 10 + (units - b'0')),
        _ => None,
    };
    match text.split_once(':').map(|(hour, minute)| (two_digits(hour), two_digits(minute))) {
        Some((Some(hour @ 0..=23), Some(minute @ 0..=59))) => Ok(u16::from(hour) * 60 + u16::from(minute)),
        _ => Err(Invalid::new(format!("{text:?} is not a time of day; write it as `08:00`, up to `{last}`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meeting_may_last_until_midnight() {
        let parse = |text: &str| parse_meetings(text).unwrap().remove(0);
        let late = parse("F 22:00-24:00");
        assert_eq!((late.start_minute, late.end_minute), (1_320, 1_440));
        assert!(late.clashes_with(&parse("F 23:59-24:00")));
        assert!(!late.clashes_with(&parse("R 23:59-24:00")) && !late.clashes_with(&parse("F 21:00-22:00")));
    }
}
