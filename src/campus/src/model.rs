//! The values of a bundle. All references are valid: [`crate::read`] and [`crate::generate`] check them.

use iso_currency::Currency;
use jiff::{Timestamp, civil::Date};

use crate::{
    ids::{CourseId, HoldId, IdempotencyKey, RosterId, SectionId, StudentId, TermId},
    problem::Finding,
    scope::Scope,
};

/// A whole campus. Each list is in the order of its file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bundle {
    /// The files and columns that are present. Values of other columns have no meaning.
    pub scope: Scope,
    /// `academicSessions.csv`.
    pub terms: Vec<Term>,
    /// `courses.csv`.
    pub courses: Vec<Course>,
    /// `classes.csv`; a section marked for deletion is a cancelled section here.
    pub sections: Vec<Section>,
    /// Users with the role of a student, with their holds and completed courses.
    pub students: Vec<Student>,
    /// `enrollments.csv`: rows of students; `None` if there is no such file. Each student has at most one row in force
    /// per section.
    pub rosters: Option<Vec<RosterEntry>>,
    /// The registration morning, in order of arrival; empty if there is no `registrations.csv`.
    pub registrations: Vec<Registration>,
    /// Messages for people before the import.
    pub notes: Vec<Finding>,
}

/// A term with its deadlines and rates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// `sourcedId`.
    pub id: TermId,
    /// The title for people.
    pub title: String,
    /// The kind of session: term, semester and so on.
    pub kind: TermKind,
    /// The session that contains this one. There are no cycles.
    pub parent: Option<TermId>,
    /// First day.
    pub starts_on: Date,
    /// The day after the last day, because OneRoster's `endDate` is exclusive; later than `starts_on`.
    pub ends_on: Date,
    /// The time zone by its IANA name; `None` means the zone of the campus.
    pub time_zone: Option<String>,
    /// Adds are refused from this moment on; `None`: no deadline.
    pub add_deadline: Option<Timestamp>,
    /// Drops are refused from this moment on; `None`: no deadline.
    pub drop_deadline: Option<Timestamp>,
    /// The credit limit of a student, in hundredths and above 0; `None`: no limit.
    pub max_credits_hundredths: Option<i32>,
    /// `None`: the term charges nothing.
    pub rates: Option<Rates>,
    /// The row is marked `tobedeleted`: new registrations are refused.
    pub closed: bool,
}

/// The kind of an academic session, as in OneRoster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TermKind {
    /// `term`; also the default.
    Term,
    /// `semester`.
    Semester,
    /// `gradingPeriod`: a part of a term or semester with its own grades.
    GradingPeriod,
    /// `schoolYear`: contains terms or semesters.
    SchoolYear,
}

/// The charges of a term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rates {
    /// Of all charges of the term.
    pub currency: Currency,
    /// Charge for one credit in minor units, never negative: 12345 is USD 123.45.
    pub per_credit_minor: i64,
    /// Ordered by `until`; after the last step nothing is refunded.
    pub refund_ladder: Vec<RefundStep>,
    /// The most that a student may owe after a charge, in minor units and above 0; `None`: no limit.
    pub balance_limit_minor: Option<i64>,
}

/// The part of a charge that is refunded for a drop before a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundStep {
    /// The step applies before this moment.
    pub until: Timestamp,
    /// 0 to 100.
    pub percent: u8,
}

/// A course of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Course {
    /// `sourcedId`.
    pub id: CourseId,
    /// The code in prerequisites; the id if the file has no code.
    pub code: String,
    /// The title for people.
    pub title: String,
    /// 3 credits are 300.
    pub credits_hundredths: i32,
    /// `C101 and (C102:B or "MATH 103")`; empty: none. The syntax is checked. Every name is the code of a course, or
    /// the id of a course if no course has that code.
    pub prerequisites: String,
    /// Courses that must be taken before or at the same time, in the same form.
    pub corequisites: String,
    /// A fee in addition to the credits, in minor units of the term's currency.
    pub fee_minor: i64,
    /// The row is marked `tobedeleted`: new registrations are refused, and the course's sections are cancelled.
    pub closed: bool,
}

/// A section (a class in OneRoster).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// `sourcedId`.
    pub id: SectionId,
    /// Its course.
    pub course_id: CourseId,
    /// Its term.
    pub term_id: TermId,
    /// The title for people.
    pub title: String,
    /// Seats: 0 means not open, `None` means unlimited.
    pub capacity: Option<i32>,
    /// `configuration/subpart`; empty when the course has one part.
    pub component: String,
    /// `MTR 08:00-08:50`, several separated by `;`; empty: no set time. See `matricula_grammar`.
    pub meetings: String,
    /// Every student needs a permission of staff.
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
    /// E-mail address of notifications; may be empty.
    pub email: String,
    /// The student can register from this moment on; `None`: from the beginning.
    pub appointment_start: Option<Timestamp>,
    /// The student can register before this moment; `None`: no end.
    pub appointment_end: Option<Timestamp>,
    /// The student's own credit limit, in hundredths and above 0; `None`: the term's limit.
    pub max_credits_hundredths: Option<i32>,
    /// From `holds.csv`.
    pub holds: Vec<Hold>,
    /// From `completed.csv`.
    pub completed: Vec<CompletedCourse>,
    /// The row is marked `tobedeleted`: new registrations are refused.
    pub closed: bool,
    /// `enabledUser` is false: new registrations are refused.
    pub disabled: bool,
    /// The first day of the role of a student; `None`: no begin.
    pub active_from: Option<Date>,
    /// The day after the last day of the role; `None`: no end.
    pub active_until: Option<Date>,
}

/// A hold, which blocks the student's registrations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Unique for the student.
    pub id: HoldId,
    /// The text for the student: the reason, and what to do.
    pub description: String,
}

/// A course that the student has completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletedCourse {
    /// The course; it may be missing in the catalogue.
    pub course_id: CourseId,
    /// The term; `None`: unknown. A student may complete a course in several terms.
    pub term_id: Option<TermId>,
    /// `A+` to `F`, `P` or `NP`.
    pub grade: String,
}

/// A student in a section, from a roster. A row that has ended may refer to deleted records.
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
    /// The day after the last day in the section; `None`: no end.
    pub ends_on: Option<Date>,
    /// The line of the row in its file, for messages.
    pub line: u64,
}

/// A click of the morning: a change set that happens completely or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The time of the click after the opening.
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
    /// Given and family name; the id if both are empty.
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
