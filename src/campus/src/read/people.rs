//! Students: users with that role, their holds and what they have completed.

use std::collections::{HashMap, HashSet};

use super::{COMPLETED, HOLDS, ROLES, Reading, USERS, parse_credit_limit, parse_timestamp};
use crate::{
    ids::{CourseId, HoldId, StudentId, check_email},
    model::{CompletedCourse, Hold, Student},
    prerequisites::check_grade,
    problem::Problems,
    table::{Index, PEOPLE_CHARS_MAX, Row},
};

/// Most holds, and most completed courses, of a student: more than a life of study brings.
const OF_STUDENT_MAX: usize = 500;

impl Reading<'_> {
    /// Takes every user; [`Self::roles`] keeps the students.
    pub(super) fn users(&mut self) {
        let Some(mut table) = self.required(USERS, &["sourcedId", "givenName", "familyName"]) else { return };
        while let Some(row) = table.next_row(&mut self.problems) {
            let problems = &mut self.problems;
            let deleted = row.deleted(problems);
            let id = row.required("sourcedId", StudentId::try_new, problems);
            if let Some(id) = &id {
                self.users.insert(row, "sourcedId", id.as_str(), deleted, problems);
            }
            if let Some(student) = id.and_then(|id| parse_student(row, id, problems)).filter(|_| !deleted) {
                self.bundle.students.push(student);
            }
        }
        self.users.complete = table.complete;
    }

    pub(super) fn roles(&mut self) {
        let Some(mut table) = self.required(ROLES, &["sourcedId", "userSourcedId", "role"]) else { return };
        let mut rows = Index::new(ROLES);
        let mut students = HashSet::new();
        while let Some(row) = table.next_row(&mut self.problems) {
            let problems = &mut self.problems;
            let deleted = row.deleted(problems);
            if let Some(id) = row.required("sourcedId", Ok, problems) {
                rows.insert(row, "sourcedId", id, deleted, problems);
            }
            let user = row.required("userSourcedId", Ok, problems);
            let role = row.required("role", Ok, problems);
            let (Some(user), Some("student"), false) = (user, role, deleted) else { continue };
            if self.users.check(row, "userSourcedId", user, problems) {
                students.insert(user.to_owned());
            }
        }
        self.bundle.students.retain(|student| students.contains(student.id.as_str()));
        self.students = table.complete.then_some(students);
    }

    pub(super) fn holds(&mut self) {
        let Some(mut table) = self.optional(HOLDS, &["holdId", "studentSourcedId", "description"]) else { return };
        let places = self.student_places();
        let mut lines = HashMap::new();
        while let Some(row) = table.next_row(&mut self.problems) {
            let id = row.required("holdId", HoldId::try_new, &mut self.problems);
            let student_id = row.required("studentSourcedId", StudentId::try_new, &mut self.problems);
            let description = row.required_for_people("description", &mut self.problems);
            let (Some(id), Some(student_id), Some(description)) = (id, student_id, description) else { continue };
            if !self.is_student(row, student_id.as_str()) {
                continue;
            }
            if let Some(line) = lines.insert((student_id.clone(), id.clone()), row.line) {
                let what = format!("the student has it in line {line}, too; keep one of them");
                row.refuse("holdId", id.as_str(), what, &mut self.problems);
            } else if let Some(place) = places.get(&student_id) {
                let holds = &mut self.bundle.students[*place].holds;
                if holds.len() == OF_STUDENT_MAX {
                    let what = format!("the student has {OF_STUDENT_MAX} above, which is the limit; remove some");
                    row.refuse("holdId", id.as_str(), what, &mut self.problems);
                    continue;
                }
                holds.push(Hold { id, description: description.to_owned() });
            }
        }
    }

    pub(super) fn completed(&mut self) {
        let columns = ["studentSourcedId", "courseSourcedId", "grade"];
        let Some(mut table) = self.optional(COMPLETED, &columns) else { return };
        let places = self.student_places();
        let mut lines = HashMap::new();
        while let Some(row) = table.next_row(&mut self.problems) {
            let student_id = row.required("studentSourcedId", StudentId::try_new, &mut self.problems);
            let course_id = row.required("courseSourcedId", CourseId::try_new, &mut self.problems);
            let grade = row.required("grade", check_grade, &mut self.problems);
            let (Some(student_id), Some(course_id), Some(grade)) = (student_id, course_id, grade) else { continue };
            let exists = self.is_student(row, student_id.as_str())
                & self.courses.check(row, "courseSourcedId", course_id.as_str(), &mut self.problems);
            if !exists {
                continue;
            }
            if let Some(line) = lines.insert((student_id.clone(), course_id.clone()), row.line) {
                let what = format!("the student completed it in line {line}, too; keep the grade that counts");
                row.refuse("courseSourcedId", course_id.as_str(), what, &mut self.problems);
            } else if let Some(place) = places.get(&student_id) {
                let completed = &mut self.bundle.students[*place].completed;
                if completed.len() == OF_STUDENT_MAX {
                    let what = format!("the student has {OF_STUDENT_MAX} above, which is the limit; remove some");
                    row.refuse("courseSourcedId", course_id.as_str(), what, &mut self.problems);
                    continue;
                }
                completed.push(CompletedCourse { course_id, grade });
            }
        }
    }

    fn student_places(&self) -> HashMap<StudentId, usize> {
        self.bundle.students.iter().enumerate().map(|(place, student)| (student.id.clone(), place)).collect()
    }
}

fn parse_student(row: Row<'_>, id: StudentId, problems: &mut Problems) -> Option<Student> {
    let given_name = row.for_people("givenName", problems);
    let family_name = row.for_people("familyName", problems);
    if let (Some(given), Some(family)) = (given_name, family_name)
        && given.chars().count() + 1 + family.chars().count() > PEOPLE_CHARS_MAX
    {
        let what = format!("is longer than {PEOPLE_CHARS_MAX} characters with givenName; shorten one of them");
        row.refuse("familyName", family, what, problems);
    }
    let checked_email = |text| check_email(text).map(|()| text);
    let email = row.optional("email", checked_email, problems).unwrap_or_default();
    let appointment_start = row.optional("metadata.appointmentStart", parse_timestamp, problems);
    let appointment_end = row.optional("metadata.appointmentEnd", parse_timestamp, problems);
    if let (Some(start), Some(end)) = (appointment_start, appointment_end)
        && end <= start
    {
        let what = "is not after metadata.appointmentStart; correct one of them";
        row.refuse("metadata.appointmentEnd", &end.to_string(), what, problems);
    }
    let max_credits_hundredths = row.optional("metadata.maxCredits", parse_credit_limit, problems);
    Some(Student {
        id,
        given_name: given_name?.to_owned(),
        family_name: family_name?.to_owned(),
        email: email.to_owned(),
        appointment_start,
        appointment_end,
        max_credits_hundredths,
        holds: Vec::new(),
        completed: Vec::new(),
    })
}
