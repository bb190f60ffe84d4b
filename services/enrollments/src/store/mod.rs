//! The only SQL of enrollments.
//!
//! The rows in force of a student are the lock of that student's enrollments, taken in one order. Where a student has
//! none yet, the unique indexes decide between two replicas, and the second batch is decided again on what the first
//! wrote.

use std::collections::BTreeSet;

use matricula_kit::database::{Args, Database, DbError, Row, Rows, Tx};
use matricula_kit::id::{CourseId, RosterRowId, SagaId, SectionId, StudentId};
use matricula_kit::named::NamedValue as _;
use matricula_kit::pages::{KeyColumn, PagedTable};
use matricula_kit::participant::RowState;
use matricula_kit::time::UnixMs;

use crate::domain::{Action, Command, Enrollment, World};

macro_rules! columns {
    () => {
        "SELECT registration_id, section_id, student_id, course_id, component, status, dropped_by_registration_id, \
         dropped_by_import, roster_row_id, created_at, changed_at "
    };
}

/// Every enrollment, in the order of registrations.
pub const LEDGER: PagedTable<Enrollment> = PagedTable {
    sql: concat!(
        columns!(),
        "FROM enrollments WHERE (registration_id, section_id) > ($1, $2) ORDER BY registration_id, section_id LIMIT $3"
    ),
    key: &[KeyColumn::Id("registration_id"), KeyColumn::Text("section_id")],
    row: enrollment,
};

const LOCK_IN_FORCE: &str = concat!(
    columns!(),
    "FROM {rows} JOIN enrollments e ON e.student_id = r.student WHERE e.status IN ('PENDING', 'ENROLLED') \
     ORDER BY e.student_id, e.registration_id, e.section_id {for_update}"
);
/// What a registration has added, and what it has marked.
const LOCK_REGISTRATIONS: &str = concat!(
    columns!(),
    "FROM {rows} JOIN enrollments e ON e.student_id = r.student \
     WHERE e.registration_id = r.registration OR e.dropped_by_registration_id = r.dropped_by \
     ORDER BY e.student_id, e.registration_id, e.section_id {for_update}"
);
const OF_STUDENT: &str = concat!(
    columns!(),
    "FROM enrollments WHERE student_id = $1 AND (created_at, registration_id, section_id) < ($2, $3, $4) \
     ORDER BY created_at DESC, registration_id DESC, section_id DESC LIMIT $5"
);
const INSERT: &str = "INSERT INTO enrollments (registration_id, section_id, student_id, course_id, component, status, \
     dropped_by_registration_id, dropped_by_import, roster_row_id, created_at, changed_at) SELECT registration_id, \
     section_id, student_id, course_id, component, status, dropped_by, dropped_by_import, roster_row_id, created_at, \
     changed_at FROM {rows}";
const UPDATE: &str = "UPDATE enrollments SET status = r.status, dropped_by_registration_id = r.dropped_by, \
     dropped_by_import = r.dropped_by_import, changed_at = r.changed_at FROM {rows} \
     WHERE enrollments.registration_id = r.registration_id AND enrollments.section_id = r.section_id";

/// Where a page of a student's enrollments ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Of the last enrollment.
    pub created_at: UnixMs,
    /// Its key; the texts are compared, not looked up.
    pub key: (String, String),
}

/// Loads and locks what the commands may touch.
pub async fn load(tx: &mut Tx, commands: impl Iterator<Item = &Command>) -> Result<World, DbError> {
    // Only what is added has to agree with what is in force.
    let adds = |command: &&Command| matches!(command.action, Action::Enroll(_) | Action::Create(_));
    let (adding, ending): (Vec<&Command>, Vec<&Command>) = commands.partition(adds);
    let students: BTreeSet<&StudentId> = adding.into_iter().map(|command| &command.student).collect();
    let registrations: BTreeSet<(&StudentId, &SagaId)> =
        ending.into_iter().map(|command| (&command.student, &command.registration)).collect();
    let rows = Rows::new().text("student", students.iter().map(|student| student.as_str()));
    let in_force = tx.queue(LOCK_IN_FORCE, rows.into());
    let rows = Rows::new()
        .text("student", registrations.iter().map(|(student, _)| student.as_str()))
        .id("registration", registrations.iter().map(|(_, registration)| registration.as_str()))
        .text("dropped_by", registrations.iter().map(|(_, registration)| registration.as_str()));
    let of_registrations = tx.queue(LOCK_REGISTRATIONS, rows.into());
    let mut loaded = tx.rows(in_force).await?;
    loaded.extend(tx.rows(of_registrations).await?);
    Ok(World::new(loaded.iter().map(enrollment).collect::<Result<Vec<_>, _>>()?))
}

/// Sends what has changed. Rows that leave their place under the unique indexes are written first, then those that stay
/// or come back, then the new ones: so the indexes hold after every statement and not only at the end.
pub fn write(tx: &mut Tx, world: &World) {
    let changed = || world.rows.in_state(RowState::Changed);
    for takes_place in [false, true] {
        let rows: Vec<&Enrollment> = changed().filter(|row| row.takes_place() == takes_place).collect();
        tx.send(UPDATE, changing_columns(key_columns(&rows), &rows).into());
    }
    let new: Vec<&Enrollment> = world.rows.in_state(RowState::New).collect();
    let columns = key_columns(&new)
        .text("student_id", new.iter().map(|row| row.student.as_str()))
        .text("course_id", new.iter().map(|row| row.course.as_str()))
        .text("component", new.iter().map(|row| row.component.as_str()))
        .opt_text("roster_row_id", new.iter().map(|row| row.roster_row.as_ref().map(RosterRowId::as_str)))
        .int("created_at", new.iter().map(|row| row.created_at.0));
    tx.send(INSERT, changing_columns(columns, &new).into());
}

/// Reads a page of a student's enrollments, newest first.
pub async fn of_student(
    database: &Database,
    student: &StudentId,
    after: Option<Position>,
    rows_max: i64,
) -> Result<Vec<Enrollment>, DbError> {
    let newest = || Position { created_at: UnixMs(i64::MAX), key: Default::default() };
    let Position { created_at, key: (registration, section) } = after.unwrap_or_else(newest);
    let args = Args::new().text(student.as_str()).int(created_at.0).id(registration).text(section).int(rows_max);
    database.fetch(OF_STUDENT, args).await?.iter().map(enrollment).collect()
}

fn key_columns(rows: &[&Enrollment]) -> Rows {
    Rows::new()
        .id("registration_id", rows.iter().map(|row| row.key.0.as_str()))
        .text("section_id", rows.iter().map(|row| row.key.1.as_str()))
}

fn changing_columns(columns: Rows, rows: &[&Enrollment]) -> Rows {
    columns
        .text("status", rows.iter().map(|row| row.status.name()))
        .opt_text("dropped_by", rows.iter().map(|row| row.dropped_by.as_ref().map(SagaId::as_str)))
        .int("dropped_by_import", rows.iter().map(|row| row.dropped_by_import.into()))
        .int("changed_at", rows.iter().map(|row| row.changed_at.0))
}

fn enrollment(row: &Row) -> Result<Enrollment, DbError> {
    let registration = SagaId::stored(row.id("registration_id")?);
    Ok(Enrollment {
        key: (registration, SectionId::stored(row.text("section_id")?)),
        student: StudentId::stored(row.text("student_id")?),
        course: CourseId::stored(row.text("course_id")?),
        component: row.text("component")?,
        status: row.named("status")?,
        dropped_by: row.opt_text("dropped_by_registration_id")?.map(SagaId::stored),
        dropped_by_import: row.int("dropped_by_import")? == 1,
        roster_row: row.opt_text("roster_row_id")?.map(RosterRowId::stored),
        created_at: UnixMs(row.int("created_at")?),
        changed_at: UnixMs(row.int("changed_at")?),
    })
}
