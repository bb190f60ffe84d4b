//! Plans an import, as a pure function: which rows are added, changed, closed, opened or left alone.
//!
//! | in the services | in the bundle | in the plan |
//! |---|---|---|
//! | nothing | a row | added |
//! | nothing | a closed row | left alone |
//! | a row | the same | left alone |
//! | a row | a different one | changed, closed or opened |
//! | a row | no row, but the file is present | closed, if its kind can be closed |

use std::collections::{BTreeMap, BTreeSet};

use matricula_proto::academics::v1::{Course, Section, Student, Term};
use matricula_proto::fees::v1::{CourseFee, TermRates};
use matricula_proto::imports::v1::ImportRow;
use matricula_proto::notifications::v1::Contact;
use matricula_proto::seats::v1::SectionCapacity;

use super::rows::Row;
use super::state::{ById, Service, State};

/// An import without --yes closes or ends at most this many rows of a kind,
const CLOSED_WITHOUT_YES_MAX: usize = 10;
/// or this percentage of a kind.
const CLOSED_WITHOUT_YES_PERCENT_MAX: usize = 5;

/// The whole rows that result from merging a bundle with the state of the services.
#[derive(Debug, Clone, Default)]
pub struct Desired {
    /// Terms.
    pub terms: Vec<Term>,
    /// Courses.
    pub courses: Vec<Course>,
    /// Sections.
    pub sections: Vec<Section>,
    /// Students.
    pub students: Vec<Student>,
    /// Capacities.
    pub capacities: Vec<SectionCapacity>,
    /// Rates.
    pub rates: Vec<TermRates>,
    /// Course fees.
    pub course_fees: Vec<CourseFee>,
    /// Addresses.
    pub contacts: Vec<Contact>,
}

/// The changes to the rows of one kind.
#[derive(Debug, Clone, Default)]
pub struct Changes<R> {
    /// New rows.
    pub added: Vec<R>,
    /// Different rows, each with the row before.
    pub changed: Vec<(R, R)>,
    /// Rows that are closed, or removed if their kind has no closed state.
    pub closed: Vec<R>,
    /// Rows that were closed and accept registrations again.
    pub opened: Vec<R>,
    /// Rows that stay as they are.
    pub left_alone: usize,
    /// Number of rows that were open before.
    pub open_before: usize,
}

/// The changes to parts of rows: holds and lines of transcripts, by `student/id`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartChanges {
    /// New ones.
    pub added: Vec<String>,
    /// Those with a different text.
    pub changed: Vec<String>,
    /// Removed ones.
    pub removed: Vec<String>,
    /// Unchanged ones.
    pub left_alone: usize,
}

/// The whole plan.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The versions of the services' data on which the plan is based.
    pub versions: BTreeMap<Service, i64>,
    /// Terms.
    pub terms: Changes<Term>,
    /// Courses.
    pub courses: Changes<Course>,
    /// Sections.
    pub sections: Changes<Section>,
    /// Students.
    pub students: Changes<Student>,
    /// Holds of bundles.
    pub holds: PartChanges,
    /// Lines of transcripts.
    pub transcripts: PartChanges,
    /// Seats.
    pub capacities: Changes<SectionCapacity>,
    /// Rates.
    pub rates: Changes<TermRates>,
    /// Course fees.
    pub course_fees: Changes<CourseFee>,
    /// Addresses.
    pub contacts: Changes<Contact>,
}

/// The import would close more of a kind than it may close without --yes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// The kind, such as `students`.
    pub what: &'static str,
    /// The change: `closed` or `lifted`.
    pub how: &'static str,
    /// The ids.
    pub ids: Vec<String>,
    /// The number of open ones before.
    pub of: usize,
}

impl Alarm {
    /// An alarm, if the change concerns so many of the existing records that it may be a mistake.
    pub fn raised(what: &'static str, how: &'static str, ids: Vec<String>, of: usize) -> Option<Self> {
        let count = ids.len();
        let is_raised = count > CLOSED_WITHOUT_YES_MAX && count * 100 > of * CLOSED_WITHOUT_YES_PERCENT_MAX;
        is_raised.then_some(Self { what, how, ids, of })
    }
}

impl Plan {
    /// Compares the desired rows with the existing ones.
    pub fn new(state: &State, desired: Desired) -> Self {
        let (holds, transcripts) = parts_of_students(state, &desired.students);
        Self {
            versions: state.versions.clone(),
            terms: compare(&state.terms, desired.terms),
            courses: compare(&state.courses, desired.courses),
            sections: compare(&state.sections, desired.sections),
            students: compare(&state.students, desired.students),
            holds,
            transcripts,
            capacities: compare(&state.capacities, desired.capacities),
            rates: compare(&state.rates, desired.rates),
            course_fees: compare(&state.course_fees, desired.course_fees),
            contacts: compare(&state.contacts, desired.contacts),
        }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        Service::ALL.into_iter().all(|service| self.rows_of(service).is_empty())
    }

    /// The changes that need --yes.
    pub fn alarms(&self) -> Vec<Alarm> {
        let closed = [
            ("students", "closed", self.students.closed_ids(), self.students.open_before),
            ("sections", "closed", self.sections.closed_ids(), self.sections.open_before),
            ("courses", "closed", self.courses.closed_ids(), self.courses.open_before),
            ("holds", "lifted", self.holds.removed.clone(), self.holds.count_before()),
        ];
        closed.into_iter().filter_map(|(what, how, ids, of)| Alarm::raised(what, how, ids, of)).collect()
    }

    /// The changed rows of a service.
    pub fn rows_of(&self, service: Service) -> Vec<ImportRow> {
        match service {
            Service::Fees => [self.rates.rows(), self.course_fees.rows()].concat(),
            Service::Seats => self.capacities.rows(),
            Service::Notifications => self.contacts.rows(),
            Service::Academics => {
                [self.terms.rows(), self.courses.rows(), self.sections.rows(), self.students.rows()].concat()
            }
        }
    }
}

impl<R: Row> Changes<R> {
    /// Every row that is not left alone.
    fn rows(&self) -> Vec<ImportRow> {
        let changed = self.changed.iter().map(|(after, _)| after);
        let rows = self.added.iter().chain(changed).chain(&self.closed).chain(&self.opened);
        rows.cloned().map(|row| ImportRow { row: Some(R::WIRE(row)) }).collect()
    }

    fn closed_ids(&self) -> Vec<String> {
        self.closed.iter().map(|row| row.id().to_owned()).collect()
    }
}

impl PartChanges {
    fn count_before(&self) -> usize {
        self.changed.len() + self.removed.len() + self.left_alone
    }
}

fn compare<R: Row>(state: &ById<R>, desired: Vec<R>) -> Changes<R> {
    let named: BTreeSet<&str> = desired.iter().map(Row::id).collect();
    let absent = state.iter().filter(|(id, _)| !named.contains(id.as_str()));
    let absent = absent.map(|(_, row)| {
        let mut row = row.clone();
        row.close();
        row
    });
    let absent: Vec<R> = absent.collect();
    let open_before = state.values().filter(|row| !row.is_closed()).count();
    let mut changes = Changes { open_before, ..Changes::default() };
    for row in desired.into_iter().chain(absent) {
        match state.get(row.id()) {
            None if row.is_closed() => changes.left_alone += 1,
            None => changes.added.push(row),
            Some(before) if *before == row => changes.left_alone += 1,
            Some(before) => match (before.is_closed(), row.is_closed()) {
                (false, true) => changes.closed.push(row),
                (true, false) => changes.opened.push(row),
                _ => changes.changed.push((row, before.clone())),
            },
        }
    }
    changes
}

/// The changes to holds and transcripts. Those of students outside the bundle stay.
fn parts_of_students(state: &State, desired: &[Student]) -> (PartChanges, PartChanges) {
    let (mut holds, mut transcripts) = (PartChanges::default(), PartChanges::default());
    let none = Student::default();
    let of_holds = |student: &Student| -> BTreeMap<String, String> {
        student.holds.iter().map(|hold| (hold.hold_id.clone(), hold.description.clone())).collect()
    };
    let of_transcript = |student: &Student| -> BTreeMap<String, String> {
        let line = |done: &matricula_proto::academics::v1::CompletedCourse| match done.term_id.as_str() {
            "" => format!("{} {}", done.course_id, done.grade),
            term => format!("{} {} in {term}", done.course_id, done.grade),
        };
        student.completed.iter().map(|done| (line(done), String::new())).collect()
    };
    let mut named = BTreeSet::new();
    for student in desired {
        named.insert(student.student_id.as_str());
        let before = state.students.get(&student.student_id).unwrap_or(&none);
        holds.add(&student.student_id, &of_holds(before), &of_holds(student));
        transcripts.add(&student.student_id, &of_transcript(before), &of_transcript(student));
    }
    for student in state.students.values().filter(|student| !named.contains(student.student_id.as_str())) {
        holds.left_alone += student.holds.len();
        transcripts.left_alone += student.completed.len();
    }
    (holds, transcripts)
}

impl PartChanges {
    fn add(&mut self, student: &str, before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) {
        for (id, text) in after {
            match before.get(id) {
                None => self.added.push(format!("{student}/{id}")),
                Some(old) if old != text => self.changed.push(format!("{student}/{id}")),
                Some(_) => self.left_alone += 1,
            }
        }
        let removed = before.keys().filter(|id| !after.contains_key(*id));
        self.removed.extend(removed.map(|id| format!("{student}/{id}")));
    }
}
