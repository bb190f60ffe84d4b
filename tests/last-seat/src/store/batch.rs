//! The same tables in batches: three statements for a batch of any size.

use std::collections::{BTreeMap, BTreeSet};

use matricula_kit::database::{DbError, Rows, Tx};
use matricula_kit::id::SectionId;

use super::Section;
use crate::designs::SeatRequest;

const LOCK_SECTIONS: &str = "SELECT s.section_id, s.capacity, s.taken FROM {rows} \
    JOIN sections s ON s.section_id = r.section_id ORDER BY s.section_id {for_update}";
const INSERT_HOLDS: &str = "INSERT INTO holds (registration_id, section_id, student_id) \
    SELECT registration_id, section_id, student_id FROM {rows}";
const UPDATE_SECTIONS: &str = "UPDATE sections SET taken = r.taken, version = sections.version + 1 FROM {rows} \
    WHERE sections.section_id = r.section_id";

/// Reads sections and locks them until the transaction ends.
pub async fn lock(
    tx: &mut Tx,
    sections: impl Iterator<Item = &SectionId>,
) -> Result<BTreeMap<SectionId, Section>, DbError> {
    let ids: BTreeSet<&SectionId> = sections.collect();
    let rows = Rows::new().text("section_id", ids.into_iter().map(SectionId::as_str));
    let rows = tx.fetch(LOCK_SECTIONS, rows.into()).await?;
    let section = |row: &matricula_kit::database::Row| -> Result<_, DbError> {
        let section = Section { capacity: row.int("capacity")?, taken: row.int("taken")? };
        Ok((SectionId::stored(row.text("section_id")?), section))
    };
    rows.iter().map(section).collect()
}

/// Writes holds.
pub fn insert_holds(tx: &mut Tx, granted: &[SeatRequest]) {
    let rows = Rows::new()
        .text("registration_id", granted.iter().map(|request| request.registration.as_str()))
        .text("section_id", granted.iter().map(|request| request.section.as_str()))
        .text("student_id", granted.iter().map(|request| request.student.as_str()));
    tx.send(INSERT_HOLDS, rows.into());
}

/// Writes the counts.
pub fn update(tx: &mut Tx, sections: &BTreeMap<SectionId, Section>) {
    let rows = Rows::new()
        .text("section_id", sections.keys().map(SectionId::as_str))
        .int("taken", sections.values().map(|section| section.taken));
    tx.send(UPDATE_SECTIONS, rows.into());
}
