//! Holds: staff set and lift them, and bundles name them.
//!
//! | `source` | named by the bundle | what is in force | staff lift it | the bundle stops to name it |
//! |---|---|---|---|---|
//! | `BUNDLE` | yes | the bundle's text, unless staff have lifted it | it stays, lifted | it goes |
//! | `STAFF` | no | staff's text | it goes | |
//! | `STAFF` | yes | staff's text | it becomes the bundle's, lifted | it stays |
//! | NULL: stored by an earlier version | no | its text | it goes | |
//!
//! Only imports change what is named, and only staff change what is lifted.

use std::collections::HashMap;

use matricula_kit::database::{Args, DbError, PendingQuery, Row, Rows, Tx};
use matricula_kit::id::{HoldId, StudentId};
use matricula_kit::source::Source;

use super::students::ids;
use crate::domain::student::{Hold, Profile};

// `CROSS JOIN` with a condition keeps SQLite from reading the whole table: it takes the rows one after the other.
const IN_FORCE: &str = "SELECT h.student_id, h.hold_id, h.description, h.source FROM {rows} CROSS JOIN hold h \
     WHERE h.student_id = r.student_id AND h.lifted = 0 ORDER BY h.hold_id";
const NAMED: &str = "SELECT h.student_id, h.hold_id, h.bundle_description FROM {rows} CROSS JOIN hold h \
     WHERE h.student_id = r.student_id AND h.bundle_description IS NOT NULL ORDER BY h.hold_id";

const SET: &str = "INSERT INTO hold (student_id, hold_id, description, source) VALUES ($1, $2, $3, 'STAFF') \
     ON CONFLICT (student_id, hold_id) DO UPDATE SET description = excluded.description, source = 'STAFF', lifted = 0";
const LIFT_UNNAMED: &str = "DELETE FROM hold WHERE student_id = $1 AND hold_id = $2 AND bundle_description IS NULL";
const LIFT_NAMED: &str = "UPDATE hold SET source = 'BUNDLE', description = bundle_description, lifted = 1 \
     WHERE student_id = $1 AND hold_id = $2 AND bundle_description IS NOT NULL";

const NAME: &str = "INSERT INTO hold (student_id, hold_id, description, source, bundle_description) \
     SELECT student_id, hold_id, description, 'BUNDLE', description FROM {rows} WHERE true \
     ON CONFLICT (student_id, hold_id) DO UPDATE SET bundle_description = excluded.bundle_description, \
     description = CASE WHEN hold.source = 'STAFF' THEN hold.description ELSE excluded.description END, \
     source = COALESCE(hold.source, 'BUNDLE')";
const UNNAME_OF_STAFF: &str = "UPDATE hold SET bundle_description = NULL FROM {rows} \
     WHERE hold.student_id = r.student_id AND hold.hold_id = r.hold_id AND hold.source = 'STAFF'";
const UNNAME_OF_BUNDLE: &str = "DELETE FROM hold WHERE source = 'BUNDLE' \
     AND (student_id, hold_id) IN (SELECT student_id, hold_id FROM {rows})";

/// Queries the holds in force of these students.
pub(super) fn queue_in_force(tx: &mut Tx, students: &[&StudentId]) -> PendingQuery {
    tx.queue(IN_FORCE, ids(students))
}

/// The student and the hold of a row of those in force.
pub(super) fn in_force(row: &Row) -> Result<(String, Hold), DbError> {
    // The wire has no word for none, and like a hold of staff it stays until staff lift it.
    let source = row.opt_named("source")?.unwrap_or(Source::Staff);
    let hold = Hold { id: HoldId::stored(row.text("hold_id")?), description: row.text("description")?, source };
    Ok((row.text("student_id")?, hold))
}

/// Adds the holds that the bundle names to their students, whether they are in force or not.
pub(super) async fn add_named(
    tx: &mut Tx,
    students: &[&StudentId],
    into: &mut HashMap<StudentId, Profile>,
) -> Result<(), DbError> {
    for row in tx.fetch(NAMED, ids(students)).await? {
        let (id, description) = (HoldId::stored(row.text("hold_id")?), row.text("bundle_description")?);
        if let Some(profile) = into.get_mut(row.text("student_id")?.as_str()) {
            profile.holds.push(Hold { id, description, source: Source::Bundle });
        }
    }
    Ok(())
}

/// Sends that staff set a hold, or give it another text.
pub(super) fn set(tx: &mut Tx, student: &StudentId, hold: &Hold) {
    tx.send(SET, Args::new().text(student.as_str()).text(hold.id.as_str()).text(&hold.description));
}

/// Sends that staff lift a hold, if it is there.
pub(super) fn lift(tx: &mut Tx, student: &StudentId, hold: &HoldId) {
    for sql in [LIFT_UNNAMED, LIFT_NAMED] {
        tx.send(sql, Args::new().text(student.as_str()).text(hold.as_str()));
    }
}

/// Stores that the bundle names holds, with these texts.
pub(super) async fn name(tx: &mut Tx, holds: &[(&StudentId, &Hold)]) -> Result<(), DbError> {
    let rows = keys(holds).text("description", holds.iter().map(|(_, hold)| hold.description.as_str()));
    tx.execute(NAME, rows.into()).await.map(drop)
}

/// Stores that the bundle does not name holds any more.
pub(super) async fn unname(tx: &mut Tx, holds: &[(&StudentId, &Hold)]) -> Result<(), DbError> {
    tx.send(UNNAME_OF_STAFF, keys(holds).into());
    tx.execute(UNNAME_OF_BUNDLE, keys(holds).into()).await.map(drop)
}

fn keys(holds: &[(&StudentId, &Hold)]) -> Rows {
    Rows::new()
        .text("student_id", holds.iter().map(|(student, _)| student.as_str()))
        .text("hold_id", holds.iter().map(|(_, hold)| hold.id.as_str()))
}
