//! Capacities as imports bring them. They go through the one writer, so that the feed and the versions of sections see
//! them as every other change.
//!
//! Promises: `read` returns the capacity of the last bundle, with the present one beside it. A capacity that staff have
//! set stays until a bundle says another number.

use async_trait::async_trait;
use matricula_kit::database::DbError;
use matricula_kit::id::SectionId;
use matricula_kit::imports::{ImportError, Imported, check_named_once, foreign_row};
use matricula_kit::participant::StaffError;
use matricula_kit::rpc::FieldError;
use matricula_proto::imports::v1::ImportRow;
use matricula_proto::imports::v1::import_row::Row;
use matricula_proto::seats::v1::SectionCapacity;

use super::{SeatsGrpc, new_capacity, source_number};
use crate::domain::{Command, Section};
use crate::store;

#[cfg(test)]
mod tests;

#[async_trait]
impl Imported for SeatsGrpc {
    async fn read(&self) -> Result<(i64, Vec<ImportRow>), DbError> {
        let (version, sections) = store::all_sections(&self.database).await?;
        let rows = sections.into_iter().map(|section| ImportRow { row: Some(Row::Capacity(to_wire(section))) });
        Ok((version, rows.collect()))
    }

    fn check(&self, row: &ImportRow) -> Result<(), FieldError> {
        capacity(row.clone()).map(drop)
    }

    async fn apply(&self, base_version: i64, rows: Vec<ImportRow>) -> Result<(), ImportError> {
        let capacities = capacities(rows)?;
        match self.writer.write_staff(Command::Import { base_version, capacities }).await {
            Ok(_) => Ok(()),
            // The rules refuse no import, and put off the one whose plan is outdated.
            Err(StaffError::NotYet(_) | StaffError::Refused(_)) => {
                let version = store::import_version(&self.database).await?;
                Err(ImportError::Outdated { base: base_version, version })
            }
            Err(StaffError::Write(error)) => Err(error.into()),
        }
    }
}

fn capacities(rows: Vec<ImportRow>) -> Result<Vec<(SectionId, i32)>, FieldError> {
    let capacities = rows.into_iter().map(capacity).collect::<Result<Vec<_>, _>>()?;
    check_named_once("capacity.section_id", capacities.iter().map(|(section, _)| section))?;
    Ok(capacities)
}

fn capacity(row: ImportRow) -> Result<(SectionId, i32), FieldError> {
    match row.row {
        Some(Row::Capacity(row)) => {
            new_capacity(row.section_id, row.capacity).map_err(|problem| problem.within("capacity"))
        }
        _ => Err(foreign_row()),
    }
}

fn to_wire(section: Section) -> SectionCapacity {
    SectionCapacity {
        section_id: section.id.into(),
        capacity: section.bundle_capacity.unwrap_or(section.capacity),
        current_capacity: section.capacity,
        source: source_number(section.capacity_source),
    }
}
