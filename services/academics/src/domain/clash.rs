//! When two sections meet at the same time.
//!
//! | the terms | what is compared |
//! |---|---|
//! | one term, or two in one time zone | the hours of the week, then whether that day comes while both terms run |
//! | two in different time zones | every meeting as a stretch of instants, day by day |
//! | two of which one has no known dates | nothing: they are apart |

use std::fmt;

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

use super::catalog::Section;
use matricula_grammar::Span;

/// How many days of a term are compared where time zones differ: all that a year has, so that every shift of the clock
/// is among them.
const DAYS_MAX: usize = 400;

/// The first time at which two sections meet, as the clocks of the first one show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash {
    /// The time of the week.
    span: Span,
    /// The day; `None`: the dates of the term are not known.
    date: Option<Date>,
    /// The abbreviation of the time zone, where the sections are in different ones.
    zone: Option<String>,
}

impl Clash {
    /// The first clash of two sections, if they have any.
    pub fn of(section: &Section, other: &Section) -> Option<Self> {
        let (ours, theirs) = (&section.term, &other.term);
        if ours.id != theirs.id && !(ours.has_dates() && theirs.has_dates()) {
            return None;
        }
        if ours.id != theirs.id && ours.time_zone != theirs.time_zone {
            return of_instants(section, other);
        }
        let mut clashes = section.meetings.clashes(&other.meetings);
        match (ours.starts_on.max(theirs.starts_on), ours.ends_on.min(theirs.ends_on)) {
            (Some(from), Some(until)) => {
                let on_days =
                    clashes.filter_map(|span| Some((first_day(span, from).filter(|day| *day < until)?, span)));
                let (date, span) = on_days.min()?;
                Some(Self { span, date: Some(date), zone: None })
            }
            _ => clashes.next().map(|span| Self { span, date: None, zone: None }),
        }
    }
}

/// The first day of a weekly meeting from a date on.
fn first_day(span: Span, from: Date) -> Option<Date> {
    let of_week = i32::try_from(span.day()).ok()?;
    let days = (of_week - i32::from(from.weekday().to_monday_zero_offset())).rem_euclid(7);
    from.checked_add(days.days()).ok()
}

/// The first clash of sections in different time zones.
fn of_instants(section: &Section, other: &Section) -> Option<Clash> {
    if section.meetings.spans().is_empty() || other.meetings.spans().is_empty() {
        return None;
    }
    let from = section.term.starts_at()?.max(other.term.starts_at()?);
    let until = section.term.ends_at()?.min(other.term.ends_at()?);
    let (from, until) = (Timestamp::from_millisecond(from.0).ok()?, Timestamp::from_millisecond(until.0).ok()?);
    let (ours, theirs) = (occurrences(section, from, until), occurrences(other, from, until));
    let (mut ours, mut theirs) = (ours.into_iter().peekable(), theirs.into_iter().peekable());
    while let (Some(our), Some(their)) = (ours.peek(), theirs.peek()) {
        let (start, end) = (our.0.max(their.0), our.1.min(their.1));
        if start < end {
            return shown_at(start, end, &section.term.time_zone);
        }
        if our.1 <= their.1 {
            ours.next()
        } else {
            theirs.next()
        };
    }
    None
}

/// The meetings of a section between two moments, with start and end, in order.
fn occurrences(section: &Section, from: Timestamp, until: Timestamp) -> Vec<(Timestamp, Timestamp)> {
    let zone = &section.term.time_zone;
    let moment = |date: Date, minute: u32| {
        let midnight = date.to_datetime(Time::midnight());
        zone.to_timestamp(midnight.checked_add(i64::from(minute).minutes()).ok()?).ok()
    };
    let first = from.to_zoned(zone.clone()).date();
    let days = first.series(1.day()).take(DAYS_MAX).take_while(|date| moment(*date, 0).is_some_and(|at| at < until));
    let mut found = Vec::new();
    for date in days {
        let of_week = date.weekday().to_monday_zero_offset();
        for span in section.meetings.spans().iter().filter(|span| i64::from(span.day()) == i64::from(of_week)) {
            if let (Some(start), Some(end)) = (moment(date, span.from_minute()), moment(date, span.to_minute())) {
                found.push((start, end));
            }
        }
    }
    // Where the clock is put forward, a meeting in the hour that is left out comes after one that begins later.
    found.sort_unstable();
    found
}

/// A stretch of instants within one day, as the clocks of a time zone show it.
fn shown_at(start: Timestamp, end: Timestamp, zone: &TimeZone) -> Option<Clash> {
    let (start, end) = (start.to_zoned(zone.clone()), end.to_zoned(zone.clone()));
    let minute = |time: Time| u32::try_from(i32::from(time.hour()) * 60 + i32::from(time.minute())).unwrap_or_default();
    let to = if end.date() > start.date() { 24 * 60 } else { minute(end.time()) };
    let day = u32::try_from(start.date().weekday().to_monday_zero_offset()).ok()?;
    let span = Span::of_day(day, minute(start.time()), to);
    Some(Clash { span, date: Some(start.date()), zone: Some(start.strftime("%Z").to_string()) })
}

impl fmt::Display for Clash {
    /// `Monday 2028-08-28 09:00-09:50 EDT`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.span.day_name())?;
        if let Some(date) = self.date {
            write!(f, " {date}")?;
        }
        write!(f, " {}", self.span.hours())?;
        match &self.zone {
            Some(zone) => write!(f, " {zone}"),
            None => Ok(()),
        }
    }
}
