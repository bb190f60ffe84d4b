//! The records of students: holds and completed courses.

use std::collections::{BTreeMap, HashMap};

use matricula_grammar::Grade;

use super::Reading;
use crate::{
    file::File,
    ids::{CourseId, HoldId, Invalid, StudentId, TermId},
    model::{CompletedCourse, Hold},
    problem::Finding,
    table::Row,
};

/// Maximum number of holds, and of completed courses, per student: more than anyone has.
const OF_STUDENT_MAX: usize = 500;

impl Reading<'_> {
    pub(super) fn holds(&mut self) {
        let Some(mut table) = self.open(File::Holds, File::Holds.columns()) else { return };
        let places = self.student_places();
        let mut lines = HashMap::new();
        while let Some(row) = table.next_row(&mut self.problems) {
            let id = row.required("holdId", HoldId::try_new, &mut self.problems);
            let student_id = row.required("studentSourcedId", StudentId::try_new, &mut self.problems);
            let description = row.required_for_people("description", &mut self.problems);
            let (Some(id), Some(student_id), Some(description)) = (id, student_id, description) else { continue };
            if !self.is_student_or_noted(row, "studentSourcedId", student_id.as_str()) {
                continue;
            }
            if let Some(line) = lines.insert((student_id.clone(), id.clone()), row.line) {
                let what = format!("the student also has it in line {line}; keep one of them");
                row.refuse("holdId", id.as_str(), what, &mut self.problems);
            } else if let Some(place) = places.get(&student_id) {
                if self.bundle.students[*place].holds.len() == OF_STUDENT_MAX {
                    self.refuse_more(row, "holdId", id.as_str());
                    continue;
                }
                self.bundle.students[*place].holds.push(Hold { id, description: description.to_owned() });
            }
        }
    }

    pub(super) fn completed(&mut self) {
        let columns = ["studentSourcedId", "courseSourcedId", "grade"];
        let Some(mut table) = self.open(File::Completed, &columns) else { return };
        let places = self.student_places();
        let mut lines = HashMap::new();
        let mut unknown: BTreeMap<CourseId, usize> = BTreeMap::new();
        while let Some(row) = table.next_row(&mut self.problems) {
            let Some((student_id, completed)) = self.parse_completed(row) else { continue };
            if self.courses.missing(completed.course_id.as_str()).is_some() {
                *unknown.entry(completed.course_id.clone()).or_default() += 1;
            }
            let key = (student_id.clone(), completed.course_id.clone(), completed.term_id.clone());
            if let Some(line) = lines.insert(key, row.line) {
                let when = completed.term_id.map_or(String::new(), |term| format!(" in term {term}"));
                let what = format!("the student also completed it{when} in line {line}; keep the grade that counts");
                row.refuse("courseSourcedId", completed.course_id.as_str(), what, &mut self.problems);
            } else if let Some(place) = places.get(&student_id) {
                if self.bundle.students[*place].completed.len() == OF_STUDENT_MAX {
                    self.refuse_more(row, "courseSourcedId", completed.course_id.as_str());
                    continue;
                }
                self.bundle.students[*place].completed.push(completed);
            }
        }
        if let Some(first) = unknown.keys().next() {
            let (rows, courses): (usize, usize) = (unknown.values().sum(), unknown.len());
            let text = format!(
                "{rows} rows refer to {courses} courses that are not in {}, such as {first}; the rows are imported",
                File::Courses
            );
            self.notes.push(Finding::of_file(File::Completed, text));
        }
    }

    fn parse_completed(&mut self, row: Row<'_>) -> Option<(StudentId, CompletedCourse)> {
        let student_id = row.required("studentSourcedId", StudentId::try_new, &mut self.problems);
        let course_id = row.required("courseSourcedId", CourseId::try_new, &mut self.problems);
        let term_id = row.optional("termSourcedId", TermId::try_new, &mut self.problems);
        let grade = row.required("grade", parse_grade, &mut self.problems);
        let (student_id, course_id, grade) = (student_id?, course_id?, grade?);
        let is_student = self.is_student_or_noted(row, "studentSourcedId", student_id.as_str());
        let term = term_id.as_ref().map(TermId::as_str);
        let has_term = term.is_none_or(|term| self.terms.check(row, "termSourcedId", term, &mut self.problems));
        (is_student && has_term).then_some((student_id, CompletedCourse { course_id, term_id, grade }))
    }

    fn refuse_more(&mut self, row: Row<'_>, column: &str, value: &str) {
        let what = format!("the student has {OF_STUDENT_MAX} in the rows above, which is the limit; remove some");
        row.refuse(column, value, what, &mut self.problems);
    }
}

fn parse_grade(text: &str) -> Result<String, Invalid> {
    let grade: Result<Grade, _> = text.parse();
    grade.map(|grade| grade.to_string()).map_err(|problem| Invalid::new(problem.to_string()))
}
