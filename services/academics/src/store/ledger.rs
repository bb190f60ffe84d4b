//! The ledger for audits: every recorded course and every override, page by page, as of one moment.

use matricula_kit::database::{Args, Database, DbError, Tx};

use super::records::recorded_course;
use super::students::override_of;
use crate::domain::student::{Override, RecordedCourse};

/// Rows of a page: some hundred kilobytes, so that an export of any size needs little memory.
const PAGE_ROWS: i64 = 1_000;

// Ids are never empty, so the empty key is before the first.
const COURSES: &str = "SELECT registration_id, section_id, student_id, course_id, term_id, credits_hundredths, status, \
     dropped_by_registration_id FROM course_record WHERE (registration_id, section_id) > ($1, $2) \
     ORDER BY registration_id, section_id LIMIT $3";
const OVERRIDES: &str = "SELECT override_id, student_id, section_id, reason, granted_by, justification, granted_at, \
     valid_until, source FROM override_grant WHERE override_id > $1 ORDER BY override_id LIMIT $2";

/// One entry of the ledger.
#[derive(Debug)]
pub enum LedgerEntry {
    /// A course that a registration put on a record.
    Course(RecordedCourse),
    /// An override that staff granted.
    Override(Override),
}

/// An export under way.
pub struct Ledger {
    tx: Tx,
    next: Next,
}

enum Next {
    Courses { registration: String, section: String },
    Overrides { after: String },
    End,
}

impl Ledger {
    /// Begins an export of what is committed now.
    pub(super) async fn begin(database: &Database) -> Result<Self, DbError> {
        let next = Next::Courses { registration: String::new(), section: String::new() };
        Ok(Self { tx: database.snapshot().await?, next })
    }

    /// The next page; `None` after the last one. A page may be empty.
    pub async fn next_page(&mut self) -> Result<Option<Vec<LedgerEntry>>, DbError> {
        match &self.next {
            Next::Courses { registration, section } => {
                let after = Args::new().id(registration).text(section).int(PAGE_ROWS);
                let rows = self.tx.fetch(COURSES, after).await?;
                let courses = rows.iter().map(recorded_course).collect::<Result<Vec<_>, _>>()?;
                self.next = match courses.last().filter(|_| courses.len() as i64 == PAGE_ROWS) {
                    Some(last) => {
                        Next::Courses { registration: last.registration.to_string(), section: last.section.to_string() }
                    }
                    None => Next::Overrides { after: String::new() },
                };
                Ok(Some(courses.into_iter().map(LedgerEntry::Course).collect()))
            }
            Next::Overrides { after } => {
                let rows = self.tx.fetch(OVERRIDES, Args::new().text(after).int(PAGE_ROWS)).await?;
                let overrides = rows.iter().map(override_of).collect::<Result<Vec<_>, _>>()?;
                self.next = match overrides.last().filter(|_| overrides.len() as i64 == PAGE_ROWS) {
                    Some(last) => Next::Overrides { after: last.id.to_string() },
                    None => Next::End,
                };
                Ok(Some(overrides.into_iter().map(LedgerEntry::Override).collect()))
            }
            Next::End => Ok(None),
        }
    }
}
