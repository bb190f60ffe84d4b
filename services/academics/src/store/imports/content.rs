//! What imports have brought, as of one moment: the catalogue, and the students with the holds that the bundle names.

use std::collections::HashMap;
use std::sync::Arc;

use matricula_kit::database::{DbError, Tx};
use matricula_kit::id::StudentId;
use matricula_kit::imports;
use matricula_kit::pages::{Cursor, KeyColumn, PAGE_ROWS, PagedTable};

use crate::domain::catalog::Catalog;
use crate::domain::student::Profile;
use crate::store::students::{self, Access};
use crate::store::{AcademicStore, holds, transcripts};

/// Every student, without completed courses and holds.
const STUDENTS: PagedTable<Profile> = PagedTable {
    sql: "SELECT student_id, name, appointment_start, appointment_end, max_credits_hundredths, closed, disabled, \
          active_from, active_until FROM student WHERE student_id > $1 ORDER BY student_id LIMIT $2",
    key: &[KeyColumn::Text("student_id")],
    row: students::profile,
};
/// A reading of everything that imports can change.
pub struct ImportedContent {
    /// Reads one state of the database.
    pub(super) tx: Tx,
    /// The version that imports have made.
    pub version: i64,
    /// The catalogue.
    pub catalog: Arc<Catalog>,
}

impl AcademicStore {
    /// Begins a reading of everything that imports can change, as it is committed now.
    pub async fn imported(&self) -> Result<ImportedContent, DbError> {
        let mut tx = self.database.snapshot().await?;
        let version = imports::version(&mut tx).await?;
        let catalog = self.catalogs.in_snapshot(&mut tx).await?;
        Ok(ImportedContent { tx, version, catalog })
    }
}

impl ImportedContent {
    /// Every student.
    pub async fn all_students(&mut self) -> Result<Vec<Profile>, DbError> {
        let (mut all, mut next) = (Vec::new(), Some(Cursor::default()));
        while let Some(after) = next {
            let page = STUDENTS.page(&mut self.tx, &after).await?;
            let profiles = with_details(&mut self.tx, page.rows).await?;
            all.extend(profiles.into_values());
            next = page.next;
        }
        Ok(all)
    }

    /// The students of these ids, as far as they are stored.
    pub(super) async fn students(&mut self, ids: &[&StudentId]) -> Result<HashMap<StudentId, Profile>, DbError> {
        let mut found = HashMap::with_capacity(ids.len());
        for ids in ids.chunks(PAGE_ROWS) {
            let queued = students::queue(&mut self.tx, Access::Read, ids);
            let profiles = self.tx.rows(queued).await?;
            let profiles = profiles.iter().map(students::profile).collect::<Result<Vec<_>, _>>()?;
            found.extend(with_details(&mut self.tx, profiles).await?);
        }
        Ok(found)
    }
}

/// The profiles with completed courses and the holds that the bundle names, in order ([`Profile::in_order`]).
async fn with_details(tx: &mut Tx, profiles: Vec<Profile>) -> Result<HashMap<StudentId, Profile>, DbError> {
    let ids: Vec<StudentId> = profiles.iter().map(|profile| profile.id.clone()).collect();
    let ids: Vec<&StudentId> = ids.iter().collect();
    let mut found: HashMap<_, _> = profiles.into_iter().map(|profile| (profile.id.clone(), profile)).collect();
    let transcripts = transcripts::queue(tx, &ids);
    for row in tx.rows(transcripts).await? {
        let (student, completed) = transcripts::transcript(&row)?;
        if let Some(profile) = found.get_mut(student.as_str()) {
            profile.completed = completed;
        }
    }
    holds::add_named(tx, &ids, &mut found).await?;
    Ok(found.into_iter().map(|(id, profile)| (id, profile.in_order())).collect())
}
