//! What an import changes of students, row by row: pure, and nothing where a student is stored as the import has it.

use std::collections::{HashMap, HashSet};

use matricula_kit::id::StudentId;
use matricula_kit::rpc::FieldError;

use crate::domain::student::{Hold, Profile};

/// The rows that are to be written.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct StudentChanges<'a> {
    /// Students that are stored and of whom anything changes: decisions about them must wait.
    pub(super) stored: Vec<&'a StudentId>,
    /// Students that are new, or whose own row changes.
    pub(super) profiles: Vec<&'a Profile>,
    /// Students whose transcript changes.
    pub(super) transcripts: Vec<&'a Profile>,
    /// Holds that the bundle names, newly or with another text.
    pub(super) named: Vec<(&'a StudentId, &'a Hold)>,
    /// Holds that the bundle does not name any more.
    pub(super) unnamed: Vec<(&'a StudentId, &'a Hold)>,
}

impl<'a> StudentChanges<'a> {
    /// From what is stored to what the import has, both in order ([`Profile::in_order`]).
    pub(super) fn between(
        stored: &'a HashMap<StudentId, Profile>,
        imported: &'a [Profile],
    ) -> Result<Self, FieldError> {
        let mut changes = Self::default();
        let mut seen = HashSet::with_capacity(imported.len());
        for new in imported {
            if !seen.insert(&new.id) {
                return Err(FieldError::new(
                    format!("students[{}].student_id", new.id),
                    "is named twice: name it once",
                ));
            }
            match stored.get(&new.id) {
                Some(old) if old == new => {}
                Some(old) => {
                    changes.stored.push(&new.id);
                    changes.change(Some(old), new);
                }
                None => changes.change(None, new),
            }
        }
        Ok(changes)
    }

    fn change(&mut self, old: Option<&'a Profile>, new: &'a Profile) {
        if !old.is_some_and(|old| has_same_row(old, new)) {
            self.profiles.push(new);
        }
        if old.map_or(&[][..], |old| &old.completed[..]) != new.completed {
            self.transcripts.push(new);
        }
        let holds = old.map_or(&[][..], |old| &old.holds[..]);
        let same_id = |holds: &'a [Hold], hold: &Hold| {
            holds.binary_search_by(|other| other.id.cmp(&hold.id)).ok().map(|found| &holds[found])
        };
        let is_new = |hold: &&Hold| same_id(holds, hold).is_none_or(|old| old.description != hold.description);
        self.named.extend(new.holds.iter().filter(is_new).map(|hold| (&new.id, hold)));
        let is_gone = |hold: &&Hold| same_id(&new.holds, hold).is_none();
        self.unnamed.extend(holds.iter().filter(is_gone).map(|hold| (&new.id, hold)));
    }
}

/// Whether both are one and the same row of the table of students.
fn has_same_row(one: &Profile, other: &Profile) -> bool {
    let row = |of: &Profile| {
        let limits = (of.appointment_start, of.appointment_end, of.max_credits_hundredths);
        (limits, of.closed, of.disabled, of.active_from, of.active_until)
    };
    one.name == other.name && row(one) == row(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fixture::{self, BEFORE, student_id};
    use crate::domain::student::Student;

    fn profile(id: &str, change: impl FnOnce(Student) -> Student) -> Profile {
        Profile { id: student_id(id), ..change(fixture::student()).profile.in_order() }
    }

    /// What changes from `ada` as she is stored to `ada` as imported, in words.
    #[track_caller]
    fn check(old: impl FnOnce(Student) -> Student, new: impl FnOnce(Student) -> Student, expect: &str) {
        let stored = HashMap::from([(student_id("ada"), profile("ada", old))]);
        let imported = [profile("ada", new)];
        let changes = StudentChanges::between(&stored, &imported).expect("named once");
        let holds =
            |of: &[(&StudentId, &Hold)]| of.iter().map(|(_, hold)| hold.id.to_string()).collect::<Vec<_>>().join(",");
        let told = format!(
            "locked {} row {} transcript {} named {} unnamed {}",
            changes.stored.len(),
            changes.profiles.len(),
            changes.transcripts.len(),
            holds(&changes.named),
            holds(&changes.unnamed)
        );
        assert_eq!(told, expect);
    }

    #[test]
    fn only_what_differs_is_written() {
        let full = |student: Student| student.completed("MATH", "F").completed("MATH", "B").hold("h1").hold("h2");
        check(full, full, "locked 0 row 0 transcript 0 named  unnamed ");
        let limited = |student: Student| full(student).max_credits(9);
        check(full, limited, "locked 1 row 1 transcript 0 named  unnamed ");
        let graded = |student: Student| student.completed("MATH", "F").completed("MATH", "A").hold("h2").hold("h3");
        check(full, graded, "locked 1 row 0 transcript 1 named h3 unnamed h1");
        let reworded = |student: Student| {
            let mut student = full(student);
            student.profile.holds[1].description = "Pay.".to_owned();
            student
        };
        check(full, reworded, "locked 1 row 0 transcript 0 named h2 unnamed ");
        let until = |student: Student| {
            let mut student = full(student);
            student.profile.active_until = Some(BEFORE);
            student
        };
        check(full, until, "locked 1 row 1 transcript 0 named  unnamed ");
    }

    #[test]
    fn a_new_student_is_written_and_has_no_lock() {
        let imported = [profile("bob", |student| student.completed("MATH", "B").hold("h1"))];
        let stored = HashMap::new();
        let changes = StudentChanges::between(&stored, &imported).expect("named once");
        let Profile { id, holds, .. } = &imported[0];
        let expect = StudentChanges {
            profiles: vec![&imported[0]],
            transcripts: vec![&imported[0]],
            named: vec![(id, &holds[0])],
            ..StudentChanges::default()
        };
        assert_eq!(changes, expect);
    }

    #[test]
    fn a_student_is_named_once() {
        let imported = [profile("bob", |student| student), profile("bob", |student| student.hold("h1"))];
        let error = StudentChanges::between(&HashMap::new(), &imported).expect_err("which one holds?").to_string();
        assert_eq!(error, "students[bob].student_id: is named twice: name it once");
    }
}
