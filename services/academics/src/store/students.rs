//! Students with their completed courses, holds and overrides: loaded under lock for a batch, and changed by staff.

use std::collections::HashMap;

use matricula_kit::answer::Reason;
use matricula_kit::database::{Args, DbError, PendingQuery, Row, Rows, Tx};
use matricula_kit::id::{HoldId, OverrideId, SectionId, StudentId};
use matricula_kit::named::NamedValue as _;
use matricula_kit::time::UnixMs;

use super::{AcademicStore, holds, int32, transcripts};
use crate::domain::student::{Hold, Override, Profile, Student};

/// How the rows of students are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// As they are.
    Read,
    /// Locked until the transaction ends, in the order of ids, so that no two batches wait for each other.
    Lock,
}

/// Why staff could not change a student.
#[derive(Debug, thiserror::Error)]
pub enum StaffError {
    /// There is no such student or section.
    #[error("there is no {what} {id}")]
    NotFound {
        /// What was looked for.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// The database failed.
    #[error("the change could not be stored")]
    Database(#[from] DbError),
}

// `CROSS JOIN` with a condition keeps SQLite from reading the whole table: it takes the rows one after the other.
const STUDENTS: &str = "SELECT s.student_id, s.name, s.appointment_start, s.appointment_end, \
     s.max_credits_hundredths, s.closed, s.disabled, s.active_from, s.active_until \
     FROM {rows} CROSS JOIN student s WHERE s.student_id = r.student_id";
const STUDENTS_LOCKED: &str = "SELECT s.student_id, s.name, s.appointment_start, s.appointment_end, \
     s.max_credits_hundredths, s.closed, s.disabled, s.active_from, s.active_until \
     FROM {rows} CROSS JOIN student s WHERE s.student_id = r.student_id ORDER BY s.student_id {for_update}";
const OVERRIDES: &str = "SELECT o.override_id, o.student_id, o.section_id, o.reason, o.granted_by, o.justification, \
     o.granted_at, o.valid_until, o.source FROM {rows} CROSS JOIN override_grant o \
     WHERE o.student_id = r.student_id ORDER BY o.override_id";

const PUT_OVERRIDES: &str = "INSERT INTO override_grant (override_id, student_id, section_id, reason, granted_by, \
     justification, granted_at, valid_until, source) \
     SELECT override_id, student_id, section_id, reason, granted_by, justification, granted_at, valid_until, source \
     FROM {rows}";

/// Queries students.
pub(super) fn queue(tx: &mut Tx, access: Access, students: &[&StudentId]) -> PendingQuery {
    tx.queue(if access == Access::Lock { STUDENTS_LOCKED } else { STUDENTS }, ids(students))
}

/// The queried students, without their courses of registrations.
pub(super) async fn read(tx: &mut Tx, students: PendingQuery) -> Result<HashMap<StudentId, Student>, DbError> {
    let mut found = HashMap::new();
    for row in tx.rows(students).await? {
        let profile = profile(&row)?;
        let student = Student { overrides: Vec::new(), courses: Vec::new(), granted: Vec::new(), profile };
        found.insert(student.profile.id.clone(), student);
    }
    Ok(found)
}

/// A student, if there is one, without courses of registrations.
pub(super) async fn one(tx: &mut Tx, student: &StudentId) -> Result<HashMap<StudentId, Student>, DbError> {
    let (profile, details) = (queue(tx, Access::Read, &[student]), queue_details(tx, &[student]));
    let mut found = read(tx, profile).await?;
    add_details(tx, details, &mut found).await?;
    Ok(found)
}

/// What the rules need of students.
pub(super) struct PendingDetails {
    completed: PendingQuery,
    holds: PendingQuery,
    overrides: PendingQuery,
}

/// Queries what the rules need of these students: completed courses, holds and overrides.
pub(super) fn queue_details(tx: &mut Tx, students: &[&StudentId]) -> PendingDetails {
    PendingDetails {
        completed: transcripts::queue(tx, students),
        holds: holds::queue_in_force(tx, students),
        overrides: tx.queue(OVERRIDES, ids(students)),
    }
}

/// Adds what was queried to its students.
pub(super) async fn add_details(
    tx: &mut Tx,
    details: PendingDetails,
    into: &mut HashMap<StudentId, Student>,
) -> Result<(), DbError> {
    for row in tx.rows(details.completed).await? {
        let (student, completed) = transcripts::transcript(&row)?;
        if let Some(student) = into.get_mut(student.as_str()) {
            student.profile.completed = completed;
        }
    }
    for row in tx.rows(details.holds).await? {
        let (student, hold) = holds::in_force(&row)?;
        if let Some(student) = into.get_mut(student.as_str()) {
            student.profile.holds.push(hold);
        }
    }
    for row in tx.rows(details.overrides).await? {
        let granted = override_of(&row)?;
        if let Some(student) = into.get_mut(&granted.student) {
            student.overrides.push(granted);
        }
    }
    Ok(())
}

/// The override of a row.
pub(super) fn override_of(row: &Row) -> Result<Override, DbError> {
    let reason = row.text("reason")?;
    let known = Reason::ALL.iter().copied().find(|known| known.name() == reason);
    Ok(Override {
        id: OverrideId::stored(row.text("override_id")?),
        student: StudentId::stored(row.text("student_id")?),
        section: row.opt_text("section_id")?.map(SectionId::stored),
        reason: known.ok_or_else(|| DbError::corrupt(format!("unknown reason {reason}")))?,
        granted_by: row.text("granted_by")?,
        justification: row.text("justification")?,
        granted_at: UnixMs(row.int("granted_at")?),
        valid_until: row.opt_int("valid_until")?.map(UnixMs),
        source: row.named("source")?,
    })
}

impl AcademicStore {
    /// Sets a hold, or replaces its description: it is staff's from now on.
    pub async fn set_hold(&self, student: &StudentId, hold: &Hold) -> Result<(), StaffError> {
        let mut tx = self.lock_one(student).await?;
        holds::set(&mut tx, student, hold);
        Ok(tx.commit().await?)
    }

    /// Takes a hold away, if it is there. A hold that the bundle names stays lifted as long as it is named.
    pub async fn lift_hold(&self, student: &StudentId, hold: &HoldId) -> Result<(), StaffError> {
        let mut tx = self.lock_one(student).await?;
        holds::lift(&mut tx, student, hold);
        Ok(tx.commit().await?)
    }

    /// Records an override of a student and a section that exist.
    pub async fn grant(&self, granted: &Override) -> Result<(), StaffError> {
        if let Some(section) = &granted.section
            && self.catalog().await?.section(section).is_none()
        {
            return Err(StaffError::NotFound { what: "section", id: section.to_string() });
        }
        let mut tx = self.lock_one(&granted.student).await?;
        tx.execute(PUT_OVERRIDES, override_rows(&[granted])).await?;
        Ok(tx.commit().await?)
    }

    async fn lock_one(&self, student: &StudentId) -> Result<Tx, StaffError> {
        let mut tx = self.database.begin().await?;
        match tx.fetch(STUDENTS_LOCKED, ids(&[student])).await?.is_empty() {
            false => Ok(tx),
            true => Err(StaffError::NotFound { what: "student", id: student.to_string() }),
        }
    }
}

/// Sends the overrides that the batch grants.
pub(super) fn write_granted(tx: &mut Tx, students: &HashMap<StudentId, Student>) {
    let granted: Vec<&Override> = students.values().flat_map(|student| &student.granted).collect();
    tx.send(PUT_OVERRIDES, override_rows(&granted));
}

fn override_rows(granted: &[&Override]) -> Args {
    let section = |it: &&Override| it.section.as_ref().map(ToString::to_string);
    let rows = Rows::new()
        .text("override_id", granted.iter().map(|it| it.id.as_str()))
        .text("student_id", granted.iter().map(|it| it.student.as_str()))
        .opt_text("section_id", granted.iter().map(section))
        .text("reason", granted.iter().map(|it| it.reason.name()))
        .text("granted_by", granted.iter().map(|it| it.granted_by.as_str()))
        .text("justification", granted.iter().map(|it| it.justification.as_str()))
        .int("granted_at", granted.iter().map(|it| it.granted_at.0))
        .opt_int("valid_until", granted.iter().map(|it| it.valid_until.map(|until| until.0)))
        .text("source", granted.iter().map(|it| it.source.name()));
    rows.into()
}

/// The ids as the rows of a statement.
pub(super) fn ids(students: &[&StudentId]) -> Args {
    Rows::new().text("student_id", students.iter().map(|id| id.as_str())).into()
}

/// The profile of a row, without completed courses and holds.
pub(super) fn profile(row: &Row) -> Result<Profile, DbError> {
    Ok(Profile {
        id: StudentId::stored(row.text("student_id")?),
        name: row.text("name")?,
        appointment_start: row.opt_int("appointment_start")?.map(UnixMs),
        appointment_end: row.opt_int("appointment_end")?.map(UnixMs),
        max_credits_hundredths: int32(row, "max_credits_hundredths")?,
        completed: Vec::new(),
        holds: Vec::new(),
        closed: row.int("closed")? == 1,
        disabled: row.int("disabled")? == 1,
        active_from: row.opt_int("active_from")?.map(UnixMs),
        active_until: row.opt_int("active_until")?.map(UnixMs),
    })
}
