//! Applies an import. What is to be written is worked out before anything is locked; what is written is only what
//! differs.
//!
//! ```text
//! snapshot of version v --catalogue merged, students compared--> changes
//! version v locked --> students locked --> changes written --> committed: version v + 1
//! ```
//!
//! Why the comparison holds under the locks: nothing but an import changes what is compared, and each import makes a
//! version.

use matricula_kit::database::{DbError, Rows, Tx};
use matricula_kit::id::StudentId;
use matricula_kit::imports::{self, ImportError};
use matricula_kit::rpc::FieldError;

use super::{AcademicStore, catalog, holds, students, transcripts};
use crate::domain::catalog::{Catalog, CatalogChanges};
use crate::domain::student::Profile;

mod changes;
mod content;

use changes::StudentChanges;

/// Most rows of a statement, with transcripts some megabytes: PostgreSQL has 15 s to answer each message.
const ROWS_MAX: usize = 5_000;

/// Locks students in the order in which batches lock them, so that an import and a batch never wait for each other.
const LOCK: &str = "SELECT s.student_id FROM {rows} CROSS JOIN student s WHERE s.student_id = r.student_id \
     ORDER BY s.student_id {for_update}";
const PUT_STUDENTS: &str = "INSERT INTO student (student_id, name, appointment_start, appointment_end, \
     max_credits_hundredths, closed, disabled, active_from, active_until) \
     SELECT student_id, name, appointment_start, appointment_end, max_credits_hundredths, closed, disabled, \
     active_from, active_until FROM {rows} WHERE true \
     ON CONFLICT (student_id) DO UPDATE SET name = excluded.name, appointment_start = excluded.appointment_start, \
     appointment_end = excluded.appointment_end, max_credits_hundredths = excluded.max_credits_hundredths, \
     closed = excluded.closed, disabled = excluded.disabled, active_from = excluded.active_from, \
     active_until = excluded.active_until";

impl AcademicStore {
    /// Creates or replaces terms, courses, sections and students ([`Profile::in_order`]), all or none, if
    /// `base_version` is the version in force.
    pub async fn apply_import(
        &self,
        base_version: i64,
        catalog_changes: &CatalogChanges,
        profiles: &[Profile],
    ) -> Result<(), ImportError> {
        let mut content = self.imported().await?;
        imports::check_base(base_version, content.version)?;
        let merged = merged(&content.catalog, catalog_changes)?;
        let ids: Vec<&StudentId> = profiles.iter().map(|profile| &profile.id).collect();
        let stored = content.students(&ids).await?;
        content.tx.commit().await?;
        let changes = StudentChanges::between(&stored, profiles)?;

        let mut tx = imports::begin(&self.database, base_version).await?;
        // Before the catalogue: a batch locks its students first, and then waits for the catalogue.
        tx.fetch(LOCK, students::ids(&changes.stored)).await?;
        if let Some(merged) = &merged {
            catalog::write(&mut tx, catalog_changes, merged.version()).await?;
        }
        write(&mut tx, &changes).await?;
        tx.commit().await?;
        if let Some(merged) = merged {
            self.catalogs.put(merged);
        }
        Ok(())
    }
}

/// The catalogue after the changes; none when they change nothing.
fn merged(catalog: &Catalog, changes: &CatalogChanges) -> Result<Option<Catalog>, FieldError> {
    let is_same = changes.terms.iter().all(|term| catalog.term(&term.id) == Some(term))
        && changes.courses.iter().all(|course| catalog.course(&course.id) == Some(course))
        && changes.sections.iter().all(|new| catalog.section(&new.id).is_some_and(|old| old.entry() == *new));
    if is_same { Ok(None) } else { catalog.merged(changes).map(Some) }
}

async fn write(tx: &mut Tx, changes: &StudentChanges<'_>) -> Result<(), DbError> {
    for profiles in changes.profiles.chunks(ROWS_MAX) {
        tx.execute(PUT_STUDENTS, profile_rows(profiles).into()).await?;
    }
    for profiles in changes.transcripts.chunks(ROWS_MAX) {
        transcripts::put(tx, profiles).await?;
    }
    for unnamed in changes.unnamed.chunks(ROWS_MAX) {
        holds::unname(tx, unnamed).await?;
    }
    for named in changes.named.chunks(ROWS_MAX) {
        holds::name(tx, named).await?;
    }
    Ok(())
}

fn profile_rows(profiles: &[&Profile]) -> Rows {
    Rows::new()
        .text("student_id", profiles.iter().map(|profile| profile.id.as_str()))
        .text("name", profiles.iter().map(|profile| profile.name.as_str()))
        .opt_int("appointment_start", profiles.iter().map(|profile| profile.appointment_start.map(|at| at.0)))
        .opt_int("appointment_end", profiles.iter().map(|profile| profile.appointment_end.map(|at| at.0)))
        .int("max_credits_hundredths", profiles.iter().map(|profile| profile.max_credits_hundredths.into()))
        .int("closed", profiles.iter().map(|profile| profile.closed.into()))
        .int("disabled", profiles.iter().map(|profile| profile.disabled.into()))
        .opt_int("active_from", profiles.iter().map(|profile| profile.active_from.map(|at| at.0)))
        .opt_int("active_until", profiles.iter().map(|profile| profile.active_until.map(|at| at.0)))
}
