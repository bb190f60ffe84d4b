//! The rules of enrollments, over values.
//!
//! An operation is a [`Command`]. A batch loads the enrollments that its commands could meet into a [`World`], which
//! decides one command after the other.
//!
//! | invariant | held by |
//! |---|---|
//! | a student is in force once in a section, and once in a part of a course; what is marked counts too, except for the registration that marked it | [`World::decide`] of a create and of an enroll |
//! | adds and drops of a registration change together | [`World::decide`] of an enroll, of a commit and of a cancel |
//! | what is committed is never undone | a cancel touches what is pending or marked, nothing else |
//! | an import of a roster ends only what an import added | [`World::decide`] of a create and of an enroll |
//!
//! A registration of definition version 2 is one enroll. One of version 1 is a create and a commit. Both keep the same
//! rows, so the rules hold between them.

use std::collections::HashMap;

use matricula_kit::answer::{Answer, Reason, Refusal};
use matricula_kit::enrollment::EnrollmentStatus;
use matricula_kit::id::{CourseId, RosterRowId, SagaId, SectionId, StudentId};
use matricula_kit::participant::LoadedRows;
use matricula_kit::time::UnixMs;

/// The registration that added it, and the section.
pub type EnrollmentKey = (SagaId, SectionId);

/// A student's enrollment in a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrollment {
    /// Its key.
    pub key: EnrollmentKey,
    /// The student.
    pub student: StudentId,
    /// The section's course.
    pub course: CourseId,
    /// The part of the course that the section is; empty when it has one part.
    pub component: String,
    /// How far it is.
    pub status: EnrollmentStatus,
    /// The registration that dropped it, or has marked it to be dropped.
    pub dropped_by: Option<SagaId>,
    /// That registration is an import's.
    pub dropped_by_import: bool,
    /// The row of a roster by which an import added it; `None` when a student registered.
    pub roster_row: Option<RosterRowId>,
    /// When it was added.
    pub created_at: UnixMs,
    /// When it changed last.
    pub changed_at: UnixMs,
}

impl Enrollment {
    /// Whether the student is in the section, or about to be.
    pub fn is_in_force(&self) -> bool {
        self.status.is_in_force()
    }

    /// Whether it takes its place under the unique indexes: what is marked leaves it to what is swapped in.
    pub fn takes_place(&self) -> bool {
        self.is_in_force() && self.dropped_by.is_none()
    }
}

/// The command of an operation.
#[derive(Debug, Clone)]
pub struct Command {
    /// The registration.
    pub registration: SagaId,
    /// Its student.
    pub student: StudentId,
    /// What to do with it.
    pub action: Action,
}

/// What to do with a registration.
#[derive(Debug, Clone)]
pub enum Action {
    /// The pivot of version 2: enrollments for the adds, an end of the drops, all or none.
    Enroll(ChangeSet),
    /// Pending enrollments for the adds, marks on the drops, all or none.
    Create(ChangeSet),
    /// The undo of a create.
    Cancel,
    /// The pivot of version 1.
    Commit,
    /// The question whether the pivot was done. Nothing takes back a pivot that was done. The barrier refuses a pivot
    /// that comes later.
    Withdraw,
}

/// What a registration adds and drops.
#[derive(Debug, Clone)]
pub struct ChangeSet {
    /// What it adds; no section twice.
    pub adds: Vec<Add>,
    /// What it drops, each by the registration that had added it.
    pub drops: Vec<EnrollmentKey>,
    /// The row of a roster that an import takes over, or ends; `None` when a student registers.
    pub roster_row: Option<RosterRowId>,
}

/// A section that a registration adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Add {
    /// The section.
    pub section: SectionId,
    /// Its course.
    pub course: CourseId,
    /// The part of the course that it is.
    pub component: String,
}

/// What a batch has loaded and locked, and what its operations made of it.
#[derive(Debug)]
pub struct World {
    /// The enrollments, in the order of their registrations.
    pub rows: LoadedRows<EnrollmentKey, Enrollment>,
    of_student: HashMap<StudentId, Vec<EnrollmentKey>>,
}

impl World {
    /// What was loaded: what is in force of every student for whom something is enrolled or created, and of every
    /// registration that the other commands name what it has added and what it has marked.
    pub fn new(loaded: impl IntoIterator<Item = Enrollment>) -> Self {
        // A row can be loaded twice: as one of its student's and as one of its registration's.
        let rows: LoadedRows<_, _> = loaded.into_iter().map(|row| (row.key.clone(), row)).collect();
        let mut of_student: HashMap<StudentId, Vec<EnrollmentKey>> = HashMap::new();
        for row in rows.rows() {
            of_student.entry(row.student.clone()).or_default().push(row.key.clone());
        }
        Self { rows, of_student }
    }

    /// Decides one command and changes the world accordingly. What is refused changes nothing.
    pub fn decide(&mut self, command: &Command, now: UnixMs) -> Answer {
        let Command { registration, student, action } = command;
        match action {
            Action::Enroll(change) => self.create(command, change, true, now),
            Action::Create(change) => self.create(command, change, false, now),
            Action::Cancel => self.cancel(registration, student, now),
            Action::Commit => self.commit(registration, student, now),
            Action::Withdraw => is_committed(),
        }
    }

    /// Enrolls, or creates what is committed later.
    fn create(&mut self, command: &Command, change: &ChangeSet, is_pivot: bool, now: UnixMs) -> Answer {
        let Command { registration, student, .. } = command;
        let ChangeSet { adds, drops, roster_row } = change;
        let refused_adds = adds.iter().enumerate().filter_map(|(index, add)| {
            let earlier = adds[..index].iter().find(|earlier| earlier.is_same_part(&add.course, &add.component));
            self.refuse_add(command, drops, add).or_else(|| earlier.map(|earlier| add.twice(earlier)))
        });
        let refused_drops = drops.iter().filter_map(|key| self.refuse_drop(command, roster_row.is_some(), key));
        let refusals: Vec<Refusal> = refused_adds.chain(refused_drops).collect();
        if !refusals.is_empty() {
            return Answer::Refused(refusals);
        }
        for key in drops {
            self.change(key, now, |row| {
                (row.dropped_by, row.dropped_by_import) = (Some(registration.clone()), roster_row.is_some());
                if is_pivot {
                    row.status = EnrollmentStatus::Dropped;
                }
            });
        }
        for Add { section, course, component } in adds {
            let enrollment = Enrollment {
                key: (registration.clone(), section.clone()),
                student: student.clone(),
                course: course.clone(),
                component: component.clone(),
                status: if is_pivot { EnrollmentStatus::Enrolled } else { EnrollmentStatus::Pending },
                dropped_by: None,
                dropped_by_import: false,
                roster_row: roster_row.clone(),
                created_at: now,
                changed_at: now,
            };
            self.of_student.entry(student.clone()).or_default().push(enrollment.key.clone());
            self.rows.insert(enrollment.key.clone(), enrollment);
        }
        Answer::done()
    }

    /// What is in force against an add. What another registration has marked is still in force: that one may be
    /// cancelled.
    fn refuse_add(&self, command: &Command, drops: &[EnrollmentKey], add: &Add) -> Option<Refusal> {
        let Command { registration, student, .. } = command;
        if self.rows.get(&(registration.clone(), add.section.clone())).is_some() {
            return Some(add.already_enrolled());
        }
        let mut duplicate = None;
        for other in self.in_force(student).filter(|other| !drops.contains(&other.key)) {
            if other.key.1 == add.section {
                return Some(add.already_enrolled());
            }
            if add.is_same_part(&other.course, &other.component) {
                duplicate = Some(&other.key.1);
            }
        }
        duplicate.map(|other| add.duplicate_of(other))
    }

    /// What speaks against a drop. What a student added is not an import's to drop.
    fn refuse_drop(&self, command: &Command, is_import: bool, key: &EnrollmentKey) -> Option<Refusal> {
        let Command { registration, student, .. } = command;
        let enrolled = self.rows.get(key).filter(|row| {
            let is_free = row.dropped_by.as_ref().is_none_or(|by| by == registration);
            row.status == EnrollmentStatus::Enrolled && row.student == *student && is_free
        });
        if enrolled.is_some_and(|row| is_import && row.roster_row.is_none()) {
            let message = format!("The student has registered for section {}: an import does not end that.", key.1);
            return Some(Refusal::section(Reason::NotEnrolled, &key.1, message, "Drop it as staff, if it is wrong."));
        }
        let message = || format!("You are not enrolled in section {}, or you are dropping it already.", key.1);
        let next_step = "Look at your enrollments and choose again.";
        enrolled.is_none().then(|| Refusal::section(Reason::NotEnrolled, &key.1, message(), next_step))
    }

    fn cancel(&mut self, registration: &SagaId, student: &StudentId, now: UnixMs) -> Answer {
        for key in self.adds_of(registration, |row| row.status == EnrollmentStatus::Pending) {
            self.change(&key, now, |row| row.status = EnrollmentStatus::Cancelled);
        }
        for key in self.marked_by(registration, student) {
            self.change(&key, now, |row| (row.dropped_by, row.dropped_by_import) = (None, false));
        }
        Answer::done()
    }

    fn commit(&mut self, registration: &SagaId, student: &StudentId, now: UnixMs) -> Answer {
        let marked = self.marked_by(registration, student);
        let adds = self.adds_of(registration, |_| true);
        let cancelled = self.adds_of(registration, |row| row.status == EnrollmentStatus::Cancelled);
        if !cancelled.is_empty() || (adds.is_empty() && marked.is_empty()) {
            let message = "The registration was cancelled before it was committed.";
            return Answer::Refused(vec![Refusal::whole(Reason::RegistrationCancelled, message, "Register again.")]);
        }
        for key in self.adds_of(registration, |row| row.status == EnrollmentStatus::Pending) {
            self.change(&key, now, |row| row.status = EnrollmentStatus::Enrolled);
        }
        for key in marked {
            self.change(&key, now, |row| row.status = EnrollmentStatus::Dropped);
        }
        Answer::done()
    }

    fn in_force(&self, student: &StudentId) -> impl Iterator<Item = &Enrollment> {
        let keys = self.of_student.get(student).into_iter().flatten();
        keys.filter_map(|key| self.rows.get(key)).filter(|row| row.is_in_force())
    }

    /// What a registration has added.
    fn adds_of(&self, registration: &SagaId, which: impl Fn(&Enrollment) -> bool) -> Vec<EnrollmentKey> {
        // The empty section is before all others.
        let first = (registration.clone(), SectionId::stored(String::new()));
        let rows = self.rows.starting_at(first).take_while(|((of, _), _)| of == registration);
        rows.filter(|(_, row)| which(row)).map(|(key, _)| key.clone()).collect()
    }

    /// What a registration has marked to be dropped and not dropped yet.
    fn marked_by(&self, registration: &SagaId, student: &StudentId) -> Vec<EnrollmentKey> {
        let marked = self.in_force(student).filter(|row| row.dropped_by.as_ref() == Some(registration));
        marked.map(|row| row.key.clone()).collect()
    }

    fn change(&mut self, key: &EnrollmentKey, now: UnixMs, how: impl FnOnce(&mut Enrollment)) {
        let Some(row) = self.rows.change(key) else { return };
        how(row);
        row.changed_at = now;
    }
}

fn is_committed() -> Answer {
    let message = "The registration is committed: its sections are yours, and nothing takes that back.";
    let next_step = "Drop what you do not want in a new registration.";
    Answer::Refused(vec![Refusal::whole(Reason::AlreadyEnrolled, message, next_step)])
}

impl Add {
    fn is_same_part(&self, course: &CourseId, component: &str) -> bool {
        self.course == *course && self.component == component
    }

    fn already_enrolled(&self) -> Refusal {
        let message = format!("Section {} is already among your enrollments.", self.section);
        let next_step = "Nothing is left to do for this section; register the others without it.";
        Refusal::section(Reason::AlreadyEnrolled, &self.section, message, next_step)
    }

    fn duplicate_of(&self, other: &SectionId) -> Refusal {
        let message = format!("You are already in section {other} of course {}.", self.course);
        let next_step = format!("To swap, drop section {other} in the same registration.");
        Refusal::section(Reason::DuplicateCourse, &self.section, message, next_step).against(other.as_str())
    }

    fn twice(&self, other: &Self) -> Refusal {
        let message =
            format!("Sections {} and {} are the same part of course {}.", other.section, self.section, self.course);
        let next_step = "Choose one of the two.";
        Refusal::section(Reason::DuplicateCourse, &self.section, message, next_step).against(other.section.as_str())
    }
}

#[cfg(test)]
pub mod tests;
