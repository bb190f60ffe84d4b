//! What a bundle says, as plain values. Everything refers to what exists: [`crate::read`] and [`crate::generate`] see
//! to it.

use std::fmt;

use jiff::{Timestamp, civil::Date};

use crate::{
    ids::{CourseId, HoldId, IdempotencyKey, Invalid, RosterId, SectionId, StudentId, TermId},
    notes::Note,
    scope::Scope,
};

/// A whole campus. Each list is in the order of its file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bundle {
    /// Which files and columns say it: of the others the values here say nothing.
    pub scope: Scope,
    /// `academicSessions.csv`.
    pub terms: Vec<Term>,
    /// `courses.csv`.
    pub courses: Vec<Course>,
    /// `classes.csv`; what is to be deleted there is a cancelled section here.
    pub sections: Vec<Section>,
    /// Users with the role of a student, with their holds and completed courses. A user without that role, or with
    /// another one instead, is not among them.
    pub students: Vec<Student>,
    /// `enrollments.csv`: rows of students; none when there is no such file. Each student has at most one row in force
    /// for a section.
    pub rosters: Option<Vec<RosterEntry>>,
    /// The morning, in order of arrival; empty when there is no `registrations.csv`.
    pub registrations: Vec<Registration>,
    /// What people should know of the bundle before it is imported.
    pub notes: Vec<Note>,
}

/// A term with its deadlines and rates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// `sourcedId`.
    pub id: TermId,
    /// For people.
    pub title: String,
    /// Term, semester and so on.
    pub kind: TermKind,
    /// The session that it is a part of. No session is a part of itself, however far up.
    pub parent: Option<TermId>,
    /// First day.
    pub starts_on: Date,
    /// The day after the last one, as OneRoster's `endDate` is exclusive; later than `starts_on`.
    pub ends_on: Date,
    /// Where its days and hours are, by the IANA database; none: the campus's zone.
    pub time_zone: Option<String>,
    /// No adds from this moment on; none: no deadline.
    pub add_deadline: Option<Timestamp>,
    /// No drops from this moment on; none: no deadline.
    pub drop_deadline: Option<Timestamp>,
    /// Credits that a student may take, in hundredths and above 0; none: no limit.
    pub max_credits_hundredths: Option<i32>,
    /// None: the term charges nothing.
    pub rates: Option<Rates>,
    /// The row is marked `tobedeleted`: no new registration.
    pub closed: bool,
}

/// What an academic session is, in the words of OneRoster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TermKind {
    /// `term`; also where the bundle does not say.
    Term,
    /// `semester`.
    Semester,
    /// `gradingPeriod`: a part of one of the above with grades of its own.
    GradingPeriod,
    /// `schoolYear`: a year of them.
    SchoolYear,
}

/// What a term charges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rates {
    /// Charge for one credit; its currency holds for the whole term.
    pub per_credit: Money,
    /// Ordered by `until`; after the last step nothing is given back.
    pub refund_ladder: Vec<RefundStep>,
    /// The most that a student may owe after a charge, in minor units and above 0; none: no limit.
    pub balance_limit_minor: Option<i64>,
}

/// An amount of money, never below 0 here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Money {
    /// What it is counted in.
    pub currency: Currency,
    /// 12345 is USD 123.45.
    pub minor_units: i64,
}

/// ISO 4217 code: three capital letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Currency([u8; 3]);

/// Part of a charge that a drop gives back before a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundStep {
    /// The step holds before this moment.
    pub until: Timestamp,
    /// 0 to 100.
    pub percent: u8,
}

/// A course of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Course {
    /// `sourcedId`.
    pub id: CourseId,
    /// How prerequisites name it; the id where the file has no code.
    pub code: String,
    /// For people.
    pub title: String,
    /// 3 credits are 300.
    pub credits_hundredths: i32,
    /// `C101 and (C102:B or "MATH 103")`; empty: none. The form is checked, and every name is a course's code, or a
    /// course's id where no course has that code.
    pub prerequisites: String,
    /// What must be taken before or at the same time, in the same form.
    pub corequisites: String,
    /// A fee besides the credits, in minor units of the term's currency.
    pub fee_minor: i64,
    /// The row is marked `tobedeleted`: no new registration. Its sections are cancelled.
    pub closed: bool,
}

/// A section (in OneRoster's words: a class).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// `sourcedId`.
    pub id: SectionId,
    /// Its course.
    pub course_id: CourseId,
    /// Its term.
    pub term_id: TermId,
    /// For people.
    pub title: String,
    /// Seats: 0 is not open, none is without a limit.
    pub capacity: Option<i32>,
    /// `configuration/subpart`; empty when the course has one part.
    pub component: String,
    /// `MTR 08:00-08:50`, several separated by `;`; empty: no set time. See `matricula_grammar`.
    pub meetings: String,
    /// Staff must permit each student.
    pub permission_required: bool,
    /// The row is marked `tobedeleted`.
    pub cancelled: bool,
}

/// A student.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Student {
    /// `sourcedId`.
    pub id: StudentId,
    /// May be empty.
    pub given_name: String,
    /// May be empty.
    pub family_name: String,
    /// Where notifications go; may be empty.
    pub email: String,
    /// Registers from this moment on; none: from the beginning.
    pub appointment_start: Option<Timestamp>,
    /// Registers before this moment; none: no end.
    pub appointment_end: Option<Timestamp>,
    /// The student's own limit, in hundredths and above 0; none: the term's.
    pub max_credits_hundredths: Option<i32>,
    /// From `holds.csv`.
    pub holds: Vec<Hold>,
    /// From `completed.csv`.
    pub completed: Vec<CompletedCourse>,
    /// The row is marked `tobedeleted`: no new registration.
    pub closed: bool,
    /// `enabledUser` is false: no new registration.
    pub disabled: bool,
    /// From which day the user has the role of a student; none: always had.
    pub active_from: Option<Date>,
    /// Until which day, that day excluded; none: no end.
    pub active_until: Option<Date>,
}

/// What keeps a student from registering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Unique for the student.
    pub id: HoldId,
    /// For the student: why, and what to do.
    pub description: String,
}

/// A course that the student has completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletedCourse {
    /// Which; it may be a course that the catalogue does not have.
    pub course_id: CourseId,
    /// When; none: not known. A student may complete a course in several terms.
    pub term_id: Option<TermId>,
    /// `A+` to `F`, `P` or `NP`.
    pub grade: String,
}

/// A student in a section, as a roster of the bundle says. What a row that has ended refers to may be gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RosterEntry {
    /// `sourcedId`.
    pub id: RosterId,
    /// The student.
    pub student_id: StudentId,
    /// The section.
    pub section_id: SectionId,
    /// The row is marked `tobedeleted`.
    pub ended: bool,
    /// From this day on the student is not in the section any more; none: no end.
    pub ends_on: Option<Date>,
    /// Where the row is in its file, for messages.
    pub line: u64,
}

/// One click of the morning: a change set that happens whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// When it comes, after opening.
    pub arrival_ms: u64,
    /// A double click has the same key twice.
    pub key: IdempotencyKey,
    /// The student that clicks.
    pub student_id: StudentId,
    /// Sections to add.
    pub adds: Vec<SectionId>,
    /// Sections to drop.
    pub drops: Vec<SectionId>,
}

impl Student {
    /// Given and family name; the id when both are empty.
    pub fn name(&self) -> String {
        let name = format!("{} {}", self.given_name, self.family_name);
        let name = name.trim();
        if name.is_empty() { self.id.to_string() } else { name.to_owned() }
    }
}

impl TermKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Term, Self::Semester, Self::GradingPeriod, Self::SchoolYear];

    /// Its name in OneRoster.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Term => "term",
            Self::Semester => "semester",
            Self::GradingPeriod => "gradingPeriod",
            Self::SchoolYear => "schoolYear",
        }
    }
}

impl Currency {
    /// Checks the code and takes it. In gold and the like, which have no minor unit, nobody can pay.
    pub fn try_new(code: &str) -> Result<Self, Invalid> {
        let has_minor_unit = iso_currency::Currency::from_code(code).is_some_and(|known| known.exponent().is_some());
        match <[u8; 3]>::try_from(code.as_bytes()) {
            Ok(letters) if has_minor_unit => Ok(Self(letters)),
            _ => Err(Invalid::new("not a currency; use the three letters of ISO 4217, such as USD")),
        }
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
