//! When a section meets: parsed once into minutes of the week, so that a clash is a comparison of numbers.

use std::fmt;

/// Letters of the days, Monday first.
const DAYS: &str = "MTWRFSU";
const DAY_NAMES: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const MINUTES_OF_DAY: u32 = 24 * 60;
/// Longest text of meetings in bytes: a section that meets at seven different times takes 100.
const MEETINGS_BYTES_MAX: usize = 500;

/// The times at which a section meets every week. Empty: no set time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meetings {
    text: String,
    /// Ordered by start.
    spans: Vec<Span>,
}

/// A stretch of the week in minutes since Monday 00:00; the end is not part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    start: u32,
    end: u32,
}

/// Why a text is no list of meetings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidMeetings(String);

impl Meetings {
    /// Takes meetings from their text, such as `MTR 08:00-08:50;F 10:00-11:40`.
    pub fn parse(text: &str) -> Result<Self, InvalidMeetings> {
        if text.len() > MEETINGS_BYTES_MAX {
            let problem = format!("must have at most {MEETINGS_BYTES_MAX} bytes, got {}", text.len());
            return Err(InvalidMeetings(problem));
        }
        let mut spans = Vec::new();
        if !text.trim().is_empty() {
            for meeting in text.split(';') {
                parse_one(meeting.trim(), &mut spans)?;
            }
        }
        spans.sort_unstable();
        Ok(Self { text: text.trim().to_owned(), spans })
    }

    /// The text that they were made of.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The times of the week, ordered by their start.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Every stretch of the week in which both meet.
    pub fn clashes(&self, other: &Self) -> impl Iterator<Item = Span> {
        self.spans.iter().flat_map(|our| {
            let until_our_end = other.spans.iter().take_while(|their| their.start < our.end);
            let both =
                until_our_end.map(|their| Span { start: our.start.max(their.start), end: our.end.min(their.end) });
            both.filter(|both| both.start < both.end)
        })
    }
}

impl Span {
    /// A stretch of one day; Monday is day 0.
    pub fn of_day(day: u32, start: u32, end: u32) -> Self {
        Self { start: day * MINUTES_OF_DAY + start, end: day * MINUTES_OF_DAY + end }
    }

    /// Its day, of which 0 is Monday.
    pub fn day(self) -> u32 {
        self.start / MINUTES_OF_DAY
    }

    /// Its first minute of the day.
    pub fn from_minute(self) -> u32 {
        self.start - self.day() * MINUTES_OF_DAY
    }

    /// The minute of the day at which it is over; 1,440 is midnight.
    pub fn to_minute(self) -> u32 {
        self.end - self.day() * MINUTES_OF_DAY
    }

    /// The name of its day.
    pub fn day_name(self) -> &'static str {
        DAY_NAMES.get(self.day() as usize).copied().unwrap_or_default()
    }

    /// Its hours, as people write them: `09:00-09:50`.
    pub fn hours(self) -> String {
        let (from, to) = (self.from_minute(), self.to_minute());
        format!("{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

impl fmt::Display for Meetings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn parse_one(meeting: &str, spans: &mut Vec<Span>) -> Result<(), InvalidMeetings> {
    let invalid = |problem: &str| InvalidMeetings(format!("{meeting:?}: {problem}"));
    let form = || invalid("must have the form `MTR 08:00-08:50`");
    let time =
        |time: &str| minutes(time).ok_or_else(|| invalid(&format!("{time:?} is no time; times are 00:00 to 24:00")));
    let (days, times) = meeting.split_once(char::is_whitespace).ok_or_else(form)?;
    let (start, end) = times.trim().split_once('-').ok_or_else(form)?;
    let (start, end) = (time(start)?, time(end)?);
    if start >= end {
        return Err(invalid("it must end after it begins"));
    }
    for (index, letter) in days.char_indices() {
        let no_day = || invalid(&format!("{letter:?} is no day; the days are M T W R F S U"));
        let day = DAYS.find(letter).ok_or_else(no_day)?;
        if days[..index].contains(letter) {
            return Err(invalid(&format!("the day {letter} is named twice")));
        }
        // `DAYS` has seven letters of one byte.
        spans.push(Span::of_day(day as u32, start, end));
    }
    Ok(())
}

/// The minute of the day of a time such as `08:50`.
fn minutes(time: &str) -> Option<u32> {
    let two_digits = |text: &str| match text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse::<u32>().ok(),
        false => None,
    };
    let (hour, minute) = time.split_once(':')?;
    let (hour, minute) = (two_digits(hour)?, two_digits(minute)?);
    Some(hour * 60 + minute).filter(|minutes| minute < 60 && *minutes <= MINUTES_OF_DAY)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(ours: &str, theirs: &str, expect: &str) {
        let (ours, theirs) = (Meetings::parse(ours).expect("meetings"), Meetings::parse(theirs).expect("meetings"));
        let clashes = |a: &Meetings, b: &Meetings| {
            let mut spans: Vec<Span> = a.clashes(b).collect();
            spans.sort_unstable();
            let shown: Vec<String> =
                spans.into_iter().map(|span| format!("{} {}", span.day_name(), span.hours())).collect();
            shown.join(", ")
        };
        assert_eq!(clashes(&ours, &theirs), expect);
        assert_eq!(clashes(&theirs, &ours), expect, "the other way round");
    }

    #[track_caller]
    fn check_error(text: &str, expect: &str) {
        assert_eq!(Meetings::parse(text).expect_err("not meetings").to_string(), expect);
    }

    #[test]
    fn clashes_are_found() {
        check("MTR 08:00-08:50", "R 08:49-10:00", "Thursday 08:49-08:50");
        check("MTR 08:00-08:50", "R 08:50-10:00", "");
        check("MTR 08:00-08:50;F 10:00-11:40", "F 09:00-10:10", "Friday 10:00-10:10");
        check("M 08:00-20:00", "M 09:00-09:10;W 08:00-09:00", "Monday 09:00-09:10");
        check("F 10:00-12:00;M 08:00-09:00", "M 10:00-11:00;F 11:00-13:00", "Friday 11:00-12:00");
        check("MW 08:00-09:00", "MW 08:30-09:30", "Monday 08:30-09:00, Wednesday 08:30-09:00");
        check("M 08:00-12:00;M 09:00-10:00", "M 11:00-13:00", "Monday 11:00-12:00");
        check("U 23:00-24:00", "M 00:00-01:00", "");
        check("F 22:00-24:00", "F 23:00-24:00", "Friday 23:00-24:00");
        check("S 08:00-09:00", "U 08:00-09:00", "");
        check("", "M 08:00-09:00", "");
        check(" M  08:00-09:00 ; T 08:00-09:00 ", "T 08:30-08:40", "Tuesday 08:30-08:40");
    }

    #[test]
    fn errors_say_what_is_wrong() {
        check_error("08:00-08:50", "\"08:00-08:50\": must have the form `MTR 08:00-08:50`");
        check_error("M 08:00-09:00;", "\"\": must have the form `MTR 08:00-08:50`");
        check_error("MX 08:00-08:50", "\"MX 08:00-08:50\": 'X' is no day; the days are M T W R F S U");
        check_error("MTM 08:00-08:50", "\"MTM 08:00-08:50\": the day M is named twice");
        check_error("M 8:00-08:50", "\"M 8:00-08:50\": \"8:00\" is no time; times are 00:00 to 24:00");
        check_error("M 08:00-24:01", "\"M 08:00-24:01\": \"24:01\" is no time; times are 00:00 to 24:00");
        check_error("M 09:00-09:00", "\"M 09:00-09:00\": it must end after it begins");
        check_error(&"M 08:00-09:00;".repeat(50), "must have at most 500 bytes, got 700");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,40}|[MTWRFSU]{1,3} [0-9:-]{0,12}(;[MTWRFSU0-9: -]{0,16}){0,3}") {
            if let Ok(meetings) = Meetings::parse(&text) {
                let again = Meetings::parse(meetings.as_str());
                prop_assert_eq!(again.as_ref(), Ok(&meetings));
            }
        }
    }
}
