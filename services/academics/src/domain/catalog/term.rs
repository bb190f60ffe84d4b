//! A term: its dates, where its days and hours are, and what it is a part of.

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use matricula_kit::id::TermId;
use matricula_kit::named::NamedValue;
use matricula_kit::time::UnixMs;

/// A term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// Its id.
    pub id: TermId,
    /// For people.
    pub title: String,
    /// The last moment to add; `None`: no deadline.
    pub add_deadline: Option<UnixMs>,
    /// The last moment to drop; `None`: no deadline.
    pub drop_deadline: Option<UnixMs>,
    /// Most credits a student may take in it; 0: no limit.
    pub max_credits_hundredths: i32,
    /// The first day; `None`: not known, because an earlier version has stored the term.
    pub starts_on: Option<Date>,
    /// The day after the last one; `None` together with `starts_on`.
    pub ends_on: Option<Date>,
    /// Where its days and hours are.
    pub time_zone: TimeZone,
    /// The session that it is a part of.
    pub parent: Option<TermId>,
    /// What it is.
    pub kind: TermKind,
    /// It takes no new registration.
    pub closed: bool,
}

/// What an academic session is, in the words of OneRoster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TermKind {
    /// A term.
    Term,
    /// A semester.
    Semester,
    /// A part of one with grades of its own.
    GradingPeriod,
    /// A year of terms.
    SchoolYear,
}

impl Term {
    /// Whether its first and its last day are known.
    pub fn has_dates(&self) -> bool {
        self.starts_on.is_some() && self.ends_on.is_some()
    }

    /// The moment at which the first day begins; `None`: not known.
    pub fn starts_at(&self) -> Option<UnixMs> {
        self.midnight(self.starts_on?)
    }

    /// The moment at which the last day is over; `None`: not known.
    pub fn ends_at(&self) -> Option<UnixMs> {
        self.midnight(self.ends_on?)
    }

    /// Whether the term has ended. A term whose dates are not known never ends.
    pub fn has_ended(&self, at: UnixMs) -> bool {
        self.ends_at().is_some_and(|end| at >= end)
    }

    /// Whether the term has ended when the other one begins; `None`: the dates of one of them are not known.
    pub fn precedes(&self, other: &Self) -> Option<bool> {
        if self.time_zone == other.time_zone {
            return Some(self.ends_on? <= other.starts_on?);
        }
        Some(self.ends_at()? <= other.starts_at()?)
    }

    fn midnight(&self, date: Date) -> Option<UnixMs> {
        let moment = self.time_zone.to_timestamp(date.to_datetime(Time::midnight())).ok()?;
        Some(UnixMs(moment.as_millisecond()))
    }
}

impl NamedValue for TermKind {
    const NAMES: &'static [(Self, &'static str)] = &[
        (Self::Term, "TERM"),
        (Self::Semester, "SEMESTER"),
        (Self::GradingPeriod, "GRADING_PERIOD"),
        (Self::SchoolYear, "SCHOOL_YEAR"),
    ];
}
