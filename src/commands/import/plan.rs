//! The plan of an import: which rows are added, changed, closed and opened, and which are left alone. Pure.
//!
//! | the services have | the bundle says | the plan |
//! |---|---|---|
//! | nothing | a row | added |
//! | nothing | a closed row | left alone |
//! | a row | the same | left alone |
//! | a row | another one | changed, closed or opened |
//! | a row | nothing, in a file that is there | closed, where its kind can be |

use std::collections::{BTreeMap, BTreeSet};

use matricula_proto::academics::v1::{Course, Section, Student, Term};
use matricula_proto::fees::v1::{CourseFee, TermRates};
use matricula_proto::imports::v1::ImportRow;
use matricula_proto::notifications::v1::Contact;
use matricula_proto::seats::v1::SectionCapacity;

use super::rows::Row;
use super::state::{ById, Service, State};

/// An import may close so many of a kind without being asked.
const CLOSED_UNASKED_MAX: usize = 10;
/// And so large a part of a kind, in percent.
const CLOSED_UNASKED_PERCENT_MAX: usize = 5;

/// What a bundle says, laid over what the services have: whole rows.
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

/// What becomes of the rows of one kind.
#[derive(Debug, Clone, Default)]
pub struct Changes<R> {
    /// Rows that are new.
    pub added: Vec<R>,
    /// Rows that are different, with what was there.
    pub changed: Vec<(R, R)>,
    /// Rows that are closed, or removed where their kind is.
    pub closed: Vec<R>,
    /// Rows that were closed and take registrations again.
    pub opened: Vec<R>,
    /// Rows that stay as they are.
    pub left_alone: usize,
    /// Rows that were open before.
    pub open_before: usize,
}

/// What becomes of things that are a part of rows: holds and lines of transcripts, by `student/id`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartChanges {
    /// New ones.
    pub added: Vec<String>,
    /// Those with another text.
    pub changed: Vec<String>,
    /// Those that are gone.
    pub removed: Vec<String>,
    /// Those that stay.
    pub left_alone: usize,
}

/// The whole plan.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The versions that it was made of.
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

/// More would be closed than anybody closes in a night.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// What would be closed: `students`.
    pub what: &'static str,
    /// What becomes of it: `closed` or `lifted`.
    pub how: &'static str,
    /// Which.
    pub ids: Vec<String>,
    /// How many there were.
    pub of: usize,
}

impl Plan {
    /// Compares what is to be with what is.
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

    /// What an import must not do unasked.
    pub fn alarms(&self) -> Vec<Alarm> {
        let closed = [
            ("students", "closed", self.students.closed_ids(), self.students.open_before),
            ("sections", "closed", self.sections.closed_ids(), self.sections.open_before),
            ("courses", "closed", self.courses.closed_ids(), self.courses.open_before),
            ("holds", "lifted", self.holds.removed.clone(), self.holds.count_before()),
        ];
        let is_alarming =
            |count: usize, of: usize| count > CLOSED_UNASKED_MAX && count * 100 > of * CLOSED_UNASKED_PERCENT_MAX;
        let alarming = closed.into_iter().filter(|(.., ids, of)| is_alarming(ids.len(), *of));
        alarming.map(|(what, how, ids, of)| Alarm { what, how, ids, of }).collect()
    }

    /// The rows that a service is to be sent.
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
        rows.cloned().map(Row::into_import).collect()
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
    let absent: Vec<R> = absent.map(|(_, row)| row.closed().unwrap_or_else(|| row.clone())).collect();
    let open_before = state.values().filter(|row| !row.is_closed()).count();
    let mut changes = Changes {
        added: Vec::new(),
        changed: Vec::new(),
        closed: Vec::new(),
        opened: Vec::new(),
        left_alone: 0,
        open_before,
    };
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

/// What becomes of holds and transcripts. Those of students whom the bundle does not name stay.
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
