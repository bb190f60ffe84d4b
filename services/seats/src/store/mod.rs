//! The only SQL of seats.
//!
//! A section's row is the lock of its seats: sections are locked first, in the order of their ids, and every hold is
//! read and changed under the lock of its section. So replicas on one database never wait for each other in a circle
//! here.

use std::collections::BTreeSet;

use matricula_kit::database::{Database, DbError, Row, Rows, Tx};
use matricula_kit::id::{OverrideId, SagaId, SectionId, StepName, StudentId};
use matricula_kit::imports as kit_imports;
use matricula_kit::named::NamedValue as _;
use matricula_kit::pages::{KeyColumn, PagedTable};
use matricula_kit::participant::{Key, Reading, RowState};
use matricula_kit::source::Source;
use matricula_kit::time::{TimeZone, UnixMs};

use crate::domain::{Command, Hold, HoldKey, Section, World};

mod imports;

pub use imports::{all_sections, import_version};

/// Every section, in the order of ids.
pub const SECTIONS: PagedTable<Section> = PagedTable {
    sql: "SELECT section_id, capacity, taken, version, changed_at, closed_at, capacity_set_at, bundle_capacity, \
          capacity_source FROM sections WHERE section_id > $1 ORDER BY section_id LIMIT $2",
    key: &[KeyColumn::Text("section_id")],
    row: section,
};
/// Every hold, in the order of registrations.
pub const HOLDS: PagedTable<Hold> = PagedTable {
    sql: "SELECT registration_id, section_id, step, student_id, granted_at, released_at, released_by, taken_after, \
          capacity_at_grant, section_version, override_id FROM holds \
          WHERE (registration_id, section_id) > ($1, $2) ORDER BY registration_id, section_id LIMIT $3",
    key: &[KeyColumn::Id("registration_id"), KeyColumn::Text("section_id")],
    row: hold,
};

const HELD_BY_STEP: &str = "SELECT h.registration_id, h.section_id FROM {rows} \
     JOIN holds h ON h.registration_id = r.registration_id AND h.step = r.step WHERE h.released_at IS NULL";
const LOCK_SECTIONS: &str = "SELECT s.section_id, s.capacity, s.taken, s.version, s.changed_at, s.closed_at, \
     s.capacity_set_at, s.bundle_capacity, s.capacity_source FROM {rows} \
     JOIN sections s ON s.section_id = r.section_id ORDER BY s.section_id {for_update}";
const READ_SECTIONS: &str = "SELECT s.section_id, s.capacity, s.taken, s.version, s.changed_at, s.closed_at, \
     s.capacity_set_at, s.bundle_capacity, s.capacity_source FROM {rows} \
     JOIN sections s ON s.section_id = r.section_id ORDER BY s.section_id";
const READ_HOLDS: &str = "SELECT h.registration_id, h.section_id, h.step, h.student_id, h.granted_at, h.released_at, \
     h.released_by, h.taken_after, h.capacity_at_grant, h.section_version, h.override_id FROM {rows} \
     JOIN holds h ON h.registration_id = r.registration_id AND h.section_id = r.section_id";
const INSERT_SECTIONS: &str = "INSERT INTO sections (section_id, capacity, taken, version, changed_at, closed_at, \
     capacity_set_at, bundle_capacity, capacity_source) SELECT section_id, capacity, taken, version, changed_at, \
     closed_at, capacity_set_at, bundle_capacity, capacity_source FROM {rows}";
const UPDATE_SECTIONS: &str = "UPDATE sections SET capacity = r.capacity, taken = r.taken, version = r.version, \
     changed_at = r.changed_at, closed_at = r.closed_at, capacity_set_at = r.capacity_set_at, \
     bundle_capacity = r.bundle_capacity, capacity_source = r.capacity_source \
     FROM {rows} WHERE sections.section_id = r.section_id";
const INSERT_HOLDS: &str = "INSERT INTO holds (registration_id, section_id, step, student_id, granted_at, released_at, \
     released_by, taken_after, capacity_at_grant, section_version, override_id) SELECT registration_id, section_id, step, \
     student_id, granted_at, released_at, released_by, taken_after, capacity_at_grant, section_version, override_id \
     FROM {rows}";
const RELEASE_HOLDS: &str = "UPDATE holds SET released_at = r.released_at, released_by = r.released_by FROM {rows} \
     WHERE holds.registration_id = r.registration_id AND holds.section_id = r.section_id AND holds.released_at IS NULL";

/// Loads and locks what the commands may touch. A step that is new holds no seat yet: the key of a hold refuses it
/// otherwise.
pub async fn load(
    tx: &mut Tx,
    commands: impl Iterator<Item = &Command>,
    reading: Reading,
    zone: TimeZone,
) -> Result<World, DbError> {
    let mut has_import = false;
    let mut sections = BTreeSet::new();
    let mut seats = BTreeSet::new();
    let mut steps = BTreeSet::new();
    for command in commands {
        match command {
            Command::Hold { holder, wanted, .. } => {
                sections.extend(wanted.iter().map(|wanted| wanted.section.clone()));
                if reading == Reading::All {
                    seats.extend(wanted.iter().map(|wanted| (holder.saga.clone(), wanted.section.clone())));
                }
            }
            Command::ReleaseStep(holder) => {
                steps.insert(holder);
            }
            Command::ReleaseDropped { seats: dropped, .. } => {
                sections.extend(dropped.iter().map(|(_, section)| section.clone()));
                seats.extend(dropped.iter().cloned());
            }
            Command::SetCapacity { section, .. } => {
                sections.insert(section.clone());
            }
            Command::Import { capacities, .. } => {
                has_import = true;
                sections.extend(capacities.iter().map(|(section, _)| section.clone()));
            }
        }
    }
    // Locked before all sections, by every import.
    let import_version = if has_import { Some(kit_imports::lock(tx).await?) } else { None };
    // Read without a lock, to find which sections to lock. A step that has held its seats takes no more, so nothing
    // can be missed; what another replica releases meanwhile is seen below.
    for held in held_by_steps(tx, &steps).await? {
        sections.insert(held.1.clone());
        seats.insert(held);
    }
    let locked = tx.queue(LOCK_SECTIONS, section_rows(&sections).into());
    let held = tx.queue(READ_HOLDS, seat_rows(&seats).into());
    let locked = tx.rows(locked).await?.iter().map(section).collect::<Result<_, _>>()?;
    let held = tx.rows(held).await?.iter().map(hold).collect::<Result<_, _>>()?;
    Ok(World::new(locked, held, import_version, zone))
}

/// Sends what has changed, each table set-wise.
pub fn write(tx: &mut Tx, world: &World) {
    for _ in 0..world.imports_applied {
        kit_imports::next(tx);
    }
    for (sql, row_state) in [(INSERT_SECTIONS, RowState::New), (UPDATE_SECTIONS, RowState::Changed)] {
        let rows: Vec<&Section> = world.sections.in_state(row_state).collect();
        tx.send(sql, sections_as_rows(&rows).into());
    }
    let granted: Vec<&Hold> = world.holds.in_state(RowState::New).collect();
    tx.send(INSERT_HOLDS, holds_as_rows(&granted).into());
    let released: Vec<&Hold> = world.holds.in_state(RowState::Changed).collect();
    let rows = released_columns(seat_rows(released.iter().map(|hold| &hold.key)), &released);
    tx.send(RELEASE_HOLDS, rows.into());
}

/// Reads sections as committed; unknown ones are left out.
pub async fn sections(database: &Database, ids: &[SectionId]) -> Result<Vec<Section>, DbError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = database.fetch(READ_SECTIONS, section_rows(ids).into()).await?;
    rows.iter().map(section).collect()
}

async fn held_by_steps(tx: &mut Tx, steps: &BTreeSet<&Key>) -> Result<Vec<HoldKey>, DbError> {
    let rows = Rows::new()
        .id("registration_id", steps.iter().map(|key| key.saga.as_str()))
        .text("step", steps.iter().map(|key| key.step.as_str()));
    let rows = tx.fetch(HELD_BY_STEP, rows.into()).await?;
    rows.iter().map(hold_key).collect()
}

fn section_rows<'a>(ids: impl IntoIterator<Item = &'a SectionId>) -> Rows {
    Rows::new().text("section_id", ids.into_iter().map(SectionId::as_str))
}

fn seat_rows<'a>(seats: impl IntoIterator<Item = &'a HoldKey> + Clone) -> Rows {
    Rows::new()
        .id("registration_id", seats.clone().into_iter().map(|(registration, _)| registration.as_str()))
        .text("section_id", seats.into_iter().map(|(_, section)| section.as_str()))
}

fn sections_as_rows(sections: &[&Section]) -> Rows {
    section_rows(sections.iter().map(|section| &section.id))
        .int("capacity", sections.iter().map(|section| i64::from(section.capacity)))
        .int("taken", sections.iter().map(|section| i64::from(section.taken)))
        .int("version", sections.iter().map(|section| section.version))
        .int("changed_at", sections.iter().map(|section| section.changed_at.0))
        .opt_int("closed_at", sections.iter().map(|section| section.closed_at.map(|moment| moment.0)))
        .opt_int("capacity_set_at", sections.iter().map(|section| section.capacity_set_at.map(|moment| moment.0)))
        .opt_int("bundle_capacity", sections.iter().map(|section| section.bundle_capacity.map(i64::from)))
        .opt_text("capacity_source", sections.iter().map(|section| section.capacity_source.map(Source::name)))
}

fn holds_as_rows(holds: &[&Hold]) -> Rows {
    let rows = seat_rows(holds.iter().map(|hold| &hold.key))
        .text("step", holds.iter().map(|hold| hold.step.as_str()))
        .text("student_id", holds.iter().map(|hold| hold.student.as_str()))
        .int("granted_at", holds.iter().map(|hold| hold.granted_at.0))
        .int("taken_after", holds.iter().map(|hold| i64::from(hold.taken_after)))
        .int("capacity_at_grant", holds.iter().map(|hold| i64::from(hold.capacity_at_grant)))
        .int("section_version", holds.iter().map(|hold| hold.section_version))
        .opt_text("override_id", holds.iter().map(|hold| hold.override_id.as_ref().map(OverrideId::as_str)));
    released_columns(rows, holds)
}

fn released_columns(rows: Rows, holds: &[&Hold]) -> Rows {
    rows.opt_int("released_at", holds.iter().map(|hold| hold.released.as_ref().map(|(moment, _)| moment.0)))
        .opt_id("released_by", holds.iter().map(|hold| hold.released.as_ref().map(|(_, by)| by.as_str())))
}

fn section(row: &Row) -> Result<Section, DbError> {
    let bundle_capacity = row.opt_int("bundle_capacity")?.map(i32::try_from).transpose();
    Ok(Section {
        id: SectionId::stored(row.text("section_id")?),
        capacity: seats(row, "capacity")?,
        taken: seats(row, "taken")?,
        version: row.int("version")?,
        changed_at: UnixMs(row.int("changed_at")?),
        closed_at: row.opt_int("closed_at")?.map(UnixMs),
        capacity_set_at: row.opt_int("capacity_set_at")?.map(UnixMs),
        capacity_source: row.opt_named("capacity_source")?,
        bundle_capacity: bundle_capacity.map_err(DbError::corrupt)?,
    })
}

fn hold(row: &Row) -> Result<Hold, DbError> {
    let released = match (row.opt_int("released_at")?, row.opt_id("released_by")?) {
        (Some(moment), Some(by)) => Some((UnixMs(moment), SagaId::stored(by))),
        _ => None,
    };
    Ok(Hold {
        key: hold_key(row)?,
        step: StepName::stored(row.text("step")?),
        student: StudentId::stored(row.text("student_id")?),
        granted_at: UnixMs(row.int("granted_at")?),
        released,
        taken_after: seats(row, "taken_after")?,
        capacity_at_grant: seats(row, "capacity_at_grant")?,
        section_version: row.int("section_version")?,
        override_id: row.opt_text("override_id")?.map(OverrideId::stored),
    })
}

fn hold_key(row: &Row) -> Result<HoldKey, DbError> {
    Ok((SagaId::stored(row.id("registration_id")?), SectionId::stored(row.text("section_id")?)))
}

fn seats(row: &Row, column: &str) -> Result<i32, DbError> {
    let stored = row.int(column)?;
    i32::try_from(stored).map_err(|_| DbError::corrupt(format!("{column} is {stored}")))
}
