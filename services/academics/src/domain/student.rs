//! A student as the rules see one: profile, holds, completed courses, overrides, and what is on the record.

use matricula_kit::answer::Reason;
use matricula_kit::enrollment::EnrollmentStatus;
use matricula_kit::id::{CourseId, HoldId, OverrideId, SagaId, SectionId, StudentId, TermId};
use matricula_kit::participant::RowState;
use matricula_kit::source::Source;
use matricula_kit::time::UnixMs;

use matricula_grammar::Grade;

/// What staff import of a student.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// The student.
    pub id: StudentId,
    /// For people.
    pub name: String,
    /// When the enrollment appointment begins; `None`: it always has.
    pub appointment_start: Option<UnixMs>,
    /// When it ends; `None`: never.
    pub appointment_end: Option<UnixMs>,
    /// The student's own limit of credits a term; 0: the term's.
    pub max_credits_hundredths: i32,
    /// Courses that ended with a grade.
    pub completed: Vec<Completed>,
    /// What forbids registration.
    pub holds: Vec<Hold>,
    /// The student takes no new registration.
    pub closed: bool,
    /// The campus has switched the student off, which is another thing than having left.
    pub disabled: bool,
    /// From when the student has the role of one; `None`: always had.
    pub active_from: Option<UnixMs>,
    /// Until when, that moment excluded; `None`: no end.
    pub active_until: Option<UnixMs>,
}

/// A course that ended with a grade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completed {
    /// The course, which need not be in the catalogue any more.
    pub course: CourseId,
    /// The grade.
    pub grade: Grade,
    /// The term in which it was taken; `None`: not known.
    pub term: Option<TermId>,
}

/// What forbids registration until it is lifted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Its id, one of the student's.
    pub id: HoldId,
    /// For the student: what it is and what to do.
    pub description: String,
    /// Whether staff or a bundle has set it.
    pub source: Source,
}

/// What staff let a student past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// Its id, in the order of granting.
    pub id: OverrideId,
    /// The student who is let past.
    pub student: StudentId,
    /// For which section; `None`: for every one.
    pub section: Option<SectionId>,
    /// Past which reason.
    pub reason: Reason,
    /// The name of the staff member.
    pub granted_by: String,
    /// Why it was granted.
    pub justification: String,
    /// When it was granted.
    pub granted_at: UnixMs,
    /// The last moment at which a registration may use it; `None`: no end.
    pub valid_until: Option<UnixMs>,
    /// Staff, or an import of rosters.
    pub source: Source,
}

/// A course of a registration on the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedCourse {
    /// The student.
    pub student: StudentId,
    /// The registration that added it.
    pub registration: SagaId,
    /// The section.
    pub section: SectionId,
    /// Its course.
    pub course: CourseId,
    /// Its term.
    pub term: TermId,
    /// The credits that it carries: those of its course, or 0 when another part of the course carries them.
    pub credits_hundredths: i32,
    /// Where it stands.
    pub status: EnrollmentStatus,
    /// The registration that dropped it, or is about to.
    pub dropped_by: Option<SagaId>,
    /// What has to be written of it.
    pub row_state: RowState,
}

/// A student with everything that the rules ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Student {
    /// What staff imported.
    pub profile: Profile,
    /// What staff granted.
    pub overrides: Vec<Override>,
    /// What registrations put on the record; at least everything that is in force.
    pub courses: Vec<RecordedCourse>,
    /// Overrides that imports of rosters grant in this batch, and that the store has yet to write.
    pub granted: Vec<Override>,
}

impl Profile {
    /// The same with completed courses and holds in the order of their texts, and no completed course twice, so that
    /// what is equal compares equal.
    pub fn in_order(mut self) -> Self {
        fn key(done: &Completed) -> (&CourseId, &str, &Option<TermId>) {
            (&done.course, done.grade.as_str(), &done.term)
        }
        self.completed.sort_unstable_by(|one, other| key(one).cmp(&key(other)));
        self.completed.dedup();
        self.holds.sort_unstable_by(|one, other| one.id.cmp(&other.id));
        self
    }
}

impl Student {
    /// What takes the student's time and counts as taken: in progress, reserved, or about to be dropped by a
    /// registration that may yet be undone.
    pub fn in_force(&self) -> impl Iterator<Item = &RecordedCourse> {
        self.courses.iter().filter(|course| course.status.is_in_force())
    }
}

impl RecordedCourse {
    /// Whether a registration that is not settled yet has its hand on it.
    pub fn is_unsettled(&self) -> bool {
        match self.status {
            EnrollmentStatus::Pending => true,
            EnrollmentStatus::Enrolled => self.dropped_by.is_some(),
            EnrollmentStatus::Cancelled | EnrollmentStatus::Dropped => false,
        }
    }

    /// The registration that added it last, or is about to drop it: while the course is unsettled, others wait for this
    /// one.
    pub fn hand_on_it(&self) -> &SagaId {
        match (self.status, &self.dropped_by) {
            (EnrollmentStatus::Enrolled, Some(dropping)) => dropping,
            _ => &self.registration,
        }
    }

    /// Changes where it stands, and marks the row to be written.
    pub fn change(&mut self, status: EnrollmentStatus, dropped_by: Option<SagaId>) {
        self.status = status;
        self.dropped_by = dropped_by;
        self.row_state.change();
    }
}
