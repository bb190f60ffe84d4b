//! The only SQL of the service. A batch of registrations is loaded with a handful of statements whatever its size, and
//! decided under the locks of its students' rows.

use std::sync::Arc;

use jiff::tz::TimeZone;
use matricula_kit::answer::Refusal;
use matricula_kit::database::{Database, DbError, Row, Tx};
use matricula_kit::id::{SagaId, StudentId};
use matricula_kit::time::{self, UnixMs};

use crate::domain::catalog::Catalog;
use crate::domain::context::{ChangeSet, Context, RuleContext};
use crate::domain::decide::{Action, Command, World};
use crate::domain::rules;
use crate::domain::student::Student;

mod catalog;
mod holds;
mod imports;
mod ledger;
mod records;
mod students;
mod transcripts;

pub use ledger::{COURSES, OVERRIDES};
use students::Access;
pub use students::StaffError;

/// What the service has in its database, and the catalogue in memory.
pub struct AcademicStore {
    /// The database.
    pub database: Database,
    catalogs: catalog::CatalogCache,
    /// The time zone of the campus, and of the moments in answers.
    zone: TimeZone,
}

impl AcademicStore {
    /// On a migrated database, for a campus in this time zone.
    pub fn new(database: Database, zone: TimeZone) -> Self {
        Self { database, catalogs: catalog::CatalogCache::default(), zone }
    }

    /// The catalogue in force.
    pub async fn catalog(&self) -> Result<Arc<Catalog>, DbError> {
        self.catalogs.current(&self.database).await
    }

    /// Every reason that speaks against a change set now. Advice: nothing is locked.
    pub async fn advise(&self, student: &StudentId, change: &ChangeSet) -> Result<Vec<Refusal>, DbError> {
        let mut tx = self.database.snapshot().await?;
        let catalog = self.catalogs.in_snapshot(&mut tx).await?;
        let mut found = students::one(&mut tx, student).await?;
        let in_force = records::queue_in_force(&mut tx, &[student]);
        records::add(&mut tx, in_force, &mut found).await?;
        Ok(match found.get(student) {
            Some(student) => {
                let context = Context { now: time::now(), zone: self.zone.clone() };
                rules::check(&RuleContext::new(&catalog, student, change, &context))
            }
            None => vec![rules::student_not_found(student)],
        })
    }

    /// A student with everything that was ever on the record, newest registration first; `None`: not on record.
    pub async fn record(&self, student: &StudentId) -> Result<Option<Student>, DbError> {
        let mut tx = self.database.snapshot().await?;
        let Some(mut student) = students::one(&mut tx, student).await?.remove(student) else { return Ok(None) };
        student.courses = records::of_student(&mut tx, &student.profile.id).await?;
        Ok(Some(student))
    }

    /// Loads and locks what the commands may touch.
    pub async fn load(&self, tx: &mut Tx, commands: &[&Command]) -> Result<World, DbError> {
        let is_reserving = |command: &&&Command| matches!(command.action, Action::Reserve(_) | Action::TakeOver(_));
        let all = distinct(commands.iter().map(|command| &command.student));
        let reserving = distinct(commands.iter().filter(is_reserving).map(|command| &command.student));
        // Rules look at all courses of a student; an end looks at its own.
        let ending = commands.iter().filter(|command| reserving.binary_search(&&command.student).is_err());
        let ending: Vec<(&StudentId, &SagaId)> =
            ending.map(|command| (&command.student, &command.registration)).collect();
        let locked = students::queue(tx, Access::Lock, &all);
        let in_force = records::queue_in_force(tx, &reserving);
        let of_registrations = records::queue_of_registrations(tx, &ending);
        let details = students::queue_details(tx, &reserving);
        let version = self.catalogs.queue(tx);
        let mut students = students::read(tx, locked).await?;
        records::add(tx, in_force, &mut students).await?;
        records::add(tx, of_registrations, &mut students).await?;
        students::add_details(tx, details, &mut students).await?;
        Ok(World { catalog: self.catalogs.in_write(tx, version).await?, students, zone: self.zone.clone() })
    }
}

/// Sends what has changed.
pub fn write(tx: &mut Tx, world: &World, now: UnixMs) {
    records::write(tx, &world.students, now);
    students::write_granted(tx, &world.students);
}

fn distinct<'a>(students: impl Iterator<Item = &'a StudentId>) -> Vec<&'a StudentId> {
    let mut students: Vec<&StudentId> = students.collect();
    students.sort_unstable();
    students.dedup();
    students
}

/// A column that holds a 32-bit number.
fn int32(row: &Row, column: &str) -> Result<i32, DbError> {
    i32::try_from(row.int(column)?).map_err(|_| DbError::corrupt(format!("{column} is too large")))
}
