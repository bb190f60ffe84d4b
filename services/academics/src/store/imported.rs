//! What imports have brought, as of one moment: the catalogue, and the students page by page with the holds that the bundle
//! names.

use std::collections::HashMap;
use std::sync::Arc;

use matricula_kit::database::{Args, Database, DbError, Tx};
use matricula_kit::id::StudentId;
use matricula_kit::imports;

use super::catalog::CatalogCache;
use super::{holds, students, transcripts};
use crate::domain::catalog::Catalog;
use crate::domain::student::Profile;

/// Students of a page: with their transcripts some megabytes.
const PAGE_ROWS: i64 = 1_000;

// Ids are never empty, so the empty one is before the first.
const STUDENTS: &str = "SELECT student_id, name, appointment_start, appointment_end, max_credits_hundredths, closed, \
     disabled, active_from, active_until FROM student WHERE student_id > $1 ORDER BY student_id LIMIT $2";
const STUDENTS_BY_ID: &str = "SELECT s.student_id, s.name, s.appointment_start, s.appointment_end, \
     s.max_credits_hundredths, s.closed, s.disabled, s.active_from, s.active_until \
     FROM {rows} CROSS JOIN student s WHERE s.student_id = r.student_id";

/// A reading of everything that imports can change.
pub struct ImportedContent {
    tx: Tx,
    version: i64,
    catalog: Arc<Catalog>,
    after: String,
}

impl ImportedContent {
    /// Begins a reading of what is committed now.
    pub(super) async fn begin(database: &Database, catalogs: &CatalogCache) -> Result<Self, DbError> {
        let mut tx = database.snapshot().await?;
        let version = imports::version(&mut tx).await?;
        let catalog = catalogs.in_snapshot(&mut tx).await?;
        Ok(Self { tx, version, catalog, after: String::new() })
    }

    /// The version that imports have made.
    pub fn version(&self) -> i64 {
        self.version
    }

    /// The catalogue.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// The next students; none after the last page.
    pub async fn next_students(&mut self) -> Result<Vec<Profile>, DbError> {
        let rows = self.tx.fetch(STUDENTS, Args::new().text(&self.after).int(PAGE_ROWS)).await?;
        let page = rows.iter().map(students::profile).collect::<Result<Vec<_>, _>>()?;
        if let Some(last) = page.last() {
            self.after = last.id.to_string();
        }
        let mut page = page.into_iter().map(|profile| (profile.id.clone(), profile)).collect();
        add_details(&mut self.tx, &mut page).await?;
        Ok(page.into_values().map(Profile::in_order).collect())
    }

    /// The students of these ids, as far as they are stored.
    pub(super) async fn students(&mut self, ids: &[&StudentId]) -> Result<HashMap<StudentId, Profile>, DbError> {
        let mut found = HashMap::with_capacity(ids.len());
        for ids in ids.chunks(PAGE_ROWS as usize) {
            let rows = self.tx.fetch(STUDENTS_BY_ID, students::ids(ids)).await?;
            let page = rows.iter().map(students::profile).collect::<Result<Vec<_>, _>>()?;
            let mut page = page.into_iter().map(|profile| (profile.id.clone(), profile)).collect();
            add_details(&mut self.tx, &mut page).await?;
            found.extend(page.into_iter().map(|(id, profile)| (id, profile.in_order())));
        }
        Ok(found)
    }

    /// Ends the reading.
    pub(super) async fn end(self) -> Result<(), DbError> {
        self.tx.commit().await
    }
}

/// Adds completed courses, and the holds that the bundle names.
async fn add_details(tx: &mut Tx, page: &mut HashMap<StudentId, Profile>) -> Result<(), DbError> {
    let ids: Vec<StudentId> = page.keys().cloned().collect();
    let ids: Vec<&StudentId> = ids.iter().collect();
    let transcripts = transcripts::queue(tx, &ids);
    for row in tx.rows(transcripts).await? {
        let (student, completed) = transcripts::transcript(&row)?;
        if let Some(profile) = page.get_mut(student.as_str()) {
            profile.completed = completed;
        }
    }
    holds::add_named(tx, &ids, page).await
}
