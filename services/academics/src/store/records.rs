//! Courses of registrations: what is in force is loaded for a batch, and what the batch changed is written set-wise.

use std::collections::HashMap;

use matricula_kit::database::{Args, DbError, PendingQuery, Row, Rows, Tx};
use matricula_kit::id::{CourseId, SagaId, SectionId, StudentId, TermId};
use matricula_kit::named::NamedValue as _;
use matricula_kit::participant::RowState;
use matricula_kit::time::UnixMs;

use super::int32;
use super::students::ids;
use crate::domain::student::{RecordedCourse, Student};

// `CROSS JOIN` with a condition keeps SQLite from reading the whole table: it takes the rows one after the other.
const IN_FORCE: &str = "SELECT c.registration_id, c.section_id, c.student_id, c.course_id, c.term_id, \
     c.credits_hundredths, c.status, c.dropped_by_registration_id \
     FROM {rows} CROSS JOIN course_record c WHERE c.student_id = r.student_id \
     AND c.status IN ('PENDING', 'ENROLLED') ORDER BY c.registration_id, c.section_id";
/// What the end of a registration may change: its own courses, and those that it drops.
const OF_REGISTRATIONS: &str = "SELECT c.registration_id, c.section_id, c.student_id, c.course_id, c.term_id, \
     c.credits_hundredths, c.status, c.dropped_by_registration_id \
     FROM {rows} CROSS JOIN course_record c WHERE c.student_id = r.student_id \
     AND c.status IN ('PENDING', 'ENROLLED') \
     AND (c.registration_id = r.registration_id OR c.dropped_by_registration_id = r.registration_id) \
     ORDER BY c.registration_id, c.section_id";
const OF_STUDENT: &str = "SELECT registration_id, section_id, student_id, course_id, term_id, credits_hundredths, \
     status, dropped_by_registration_id FROM course_record WHERE student_id = $1 \
     ORDER BY registration_id DESC, section_id";
const INSERT: &str = "INSERT INTO course_record (registration_id, section_id, student_id, course_id, term_id, \
     credits_hundredths, status, dropped_by_registration_id, recorded_at, changed_at) \
     SELECT registration_id, section_id, student_id, course_id, term_id, credits_hundredths, status, \
     dropped_by_registration_id, $1, $1 FROM {rows}";
const UPDATE: &str = "UPDATE course_record SET status = r.status, \
     dropped_by_registration_id = r.dropped_by_registration_id, changed_at = $1 FROM {rows} \
     WHERE course_record.registration_id = r.registration_id AND course_record.section_id = r.section_id \
     AND course_record.status IN ('PENDING', 'ENROLLED')";

/// Queries the courses in force of these students.
pub(super) fn queue_in_force(tx: &mut Tx, students: &[&StudentId]) -> PendingQuery {
    tx.queue(IN_FORCE, ids(students))
}

/// Queries the courses in force that these registrations of students have added or drop.
pub(super) fn queue_of_registrations(tx: &mut Tx, registrations: &[(&StudentId, &SagaId)]) -> PendingQuery {
    let rows = Rows::new()
        .text("student_id", registrations.iter().map(|(student, _)| student.as_str()))
        .id("registration_id", registrations.iter().map(|(_, registration)| registration.as_str()));
    tx.queue(OF_REGISTRATIONS, rows.into())
}

/// Adds the queried courses to their students. A course that came before is not added again: one of the registrations
/// has added it, and another drops it.
pub(super) async fn add(
    tx: &mut Tx,
    courses: PendingQuery,
    into: &mut HashMap<StudentId, Student>,
) -> Result<(), DbError> {
    for row in tx.rows(courses).await? {
        let course = recorded_course(&row)?;
        let Some(student) = into.get_mut(&course.student) else { continue };
        let is_known =
            |known: &RecordedCourse| (&known.registration, &known.section) == (&course.registration, &course.section);
        if !student.courses.iter().any(is_known) {
            student.courses.push(course);
        }
    }
    Ok(())
}

/// All courses that registrations ever put on a student's record, newest registration first.
pub(super) async fn of_student(tx: &mut Tx, student: &StudentId) -> Result<Vec<RecordedCourse>, DbError> {
    tx.fetch(OF_STUDENT, Args::new().text(student.as_str())).await?.iter().map(recorded_course).collect()
}

/// Sends what is new or changed.
pub(super) fn write(tx: &mut Tx, students: &HashMap<StudentId, Student>, now: UnixMs) {
    let with_state = |what: RowState| {
        let courses = students.values().flat_map(|student| &student.courses);
        let mut courses: Vec<&RecordedCourse> = courses.filter(|course| course.row_state == what).collect();
        // In the order of the key: new rows go to the end of the index one beside the other.
        courses.sort_unstable_by_key(|course| (&course.registration, &course.section));
        courses
    };
    let new = with_state(RowState::New);
    let rows = key_and_state(&new)
        .text("student_id", new.iter().map(|course| course.student.as_str()))
        .text("course_id", new.iter().map(|course| course.course.as_str()))
        .text("term_id", new.iter().map(|course| course.term.as_str()))
        .int("credits_hundredths", new.iter().map(|course| course.credits_hundredths.into()));
    tx.send(INSERT, Args::new().int(now.0).rows(rows));
    // Under the locks of their students nobody else has changed them since they were read.
    tx.send(UPDATE, Args::new().int(now.0).rows(key_and_state(&with_state(RowState::Changed))));
}

/// The recorded course of a row.
pub(super) fn recorded_course(row: &Row) -> Result<RecordedCourse, DbError> {
    Ok(RecordedCourse {
        student: StudentId::stored(row.text("student_id")?),
        registration: SagaId::stored(row.id("registration_id")?),
        section: SectionId::stored(row.text("section_id")?),
        course: CourseId::stored(row.text("course_id")?),
        term: TermId::stored(row.text("term_id")?),
        credits_hundredths: int32(row, "credits_hundredths")?,
        status: row.named("status")?,
        dropped_by: row.opt_id("dropped_by_registration_id")?.map(SagaId::stored),
        row_state: RowState::Kept,
    })
}

fn key_and_state(courses: &[&RecordedCourse]) -> Rows {
    let dropped_by = |course: &&RecordedCourse| course.dropped_by.as_ref().map(ToString::to_string);
    Rows::new()
        .id("registration_id", courses.iter().map(|course| course.registration.as_str()))
        .text("section_id", courses.iter().map(|course| course.section.as_str()))
        .text("status", courses.iter().map(|course| course.status.name()))
        .opt_id("dropped_by_registration_id", courses.iter().map(dropped_by))
}
