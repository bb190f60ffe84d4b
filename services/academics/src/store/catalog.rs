//! The catalogue in the database and in memory. It is parsed once a version and shared; each use compares the
//! version in the database first, so that every replica decides by the catalogue that is in force.

use std::sync::{Arc, PoisonError, RwLock};

use jiff::civil::Date;
use matricula_kit::database::{Args, Database, DbError, PendingQuery, Row, Rows, Tx};
use matricula_kit::id::{CourseId, SectionId, TermId};
use matricula_kit::named::NamedValue as _;
use matricula_kit::time::{UnixMs, zone};

use super::int32;
use crate::domain::catalog::{Catalog, CatalogChanges, Course, SectionEntry, Term};
use crate::domain::component::Component;
use matricula_grammar::Meetings;
use matricula_grammar::Requirement;

/// The catalogue that was last seen.
#[derive(Debug, Default)]
pub(super) struct CatalogCache {
    last: RwLock<Arc<Catalog>>,
}

const VERSION: &str = "SELECT version FROM catalog_version";
/// Keeps imports out until the transaction ends, so that what is loaded after it is of one version.
const VERSION_FOR_SHARE: &str = "SELECT version FROM catalog_version {for_share}";
const SET_VERSION: &str = "UPDATE catalog_version SET version = $1";

const TERMS: &str = "SELECT term_id, title, add_deadline, drop_deadline, max_credits_hundredths, starts_on, ends_on, \
                     time_zone, parent_term_id, kind, closed FROM term";
const COURSES: &str =
    "SELECT course_id, code, title, credits_hundredths, prerequisites, corequisites, closed FROM course";
const SECTIONS: &str = "SELECT section_id, course_id, term_id, title, component, meetings, cancelled, \
                        permission_required FROM section";

// All terms go in one statement, so that a parent may come after its parts.
const PUT_TERMS: &str = "INSERT INTO term (term_id, title, add_deadline, drop_deadline, max_credits_hundredths, \
     starts_on, ends_on, time_zone, parent_term_id, kind, closed) \
     SELECT term_id, title, add_deadline, drop_deadline, max_credits_hundredths, starts_on, ends_on, time_zone, \
     parent_term_id, kind, closed FROM {rows} WHERE true \
     ON CONFLICT (term_id) DO UPDATE SET title = excluded.title, add_deadline = excluded.add_deadline, \
     drop_deadline = excluded.drop_deadline, max_credits_hundredths = excluded.max_credits_hundredths, \
     starts_on = excluded.starts_on, ends_on = excluded.ends_on, time_zone = excluded.time_zone, \
     parent_term_id = excluded.parent_term_id, kind = excluded.kind, closed = excluded.closed";
const PUT_COURSES: &str = "INSERT INTO course (course_id, code, title, credits_hundredths, prerequisites, \
     corequisites, closed) \
     SELECT course_id, code, title, credits_hundredths, prerequisites, corequisites, closed FROM {rows} WHERE true \
     ON CONFLICT (course_id) DO UPDATE SET code = excluded.code, title = excluded.title, \
     credits_hundredths = excluded.credits_hundredths, prerequisites = excluded.prerequisites, \
     corequisites = excluded.corequisites, closed = excluded.closed";
const PUT_SECTIONS: &str = "INSERT INTO section (section_id, course_id, term_id, title, component, meetings, cancelled, \
     permission_required) \
     SELECT section_id, course_id, term_id, title, component, meetings, cancelled, permission_required \
     FROM {rows} WHERE true \
     ON CONFLICT (section_id) DO UPDATE SET course_id = excluded.course_id, term_id = excluded.term_id, \
     title = excluded.title, component = excluded.component, meetings = excluded.meetings, \
     cancelled = excluded.cancelled, permission_required = excluded.permission_required";

impl CatalogCache {
    /// Queries which catalogue is in force.
    pub(super) fn queue(&self, tx: &mut Tx) -> PendingQuery {
        tx.queue(VERSION, Args::new())
    }

    /// The catalogue in force, for a transaction that writes and has queried which it is.
    pub(super) async fn in_write(&self, tx: &mut Tx, asked: PendingQuery) -> Result<Arc<Catalog>, DbError> {
        let last = self.last();
        if version_in(&tx.rows(asked).await?)? == last.version() {
            return Ok(last);
        }
        let version = version(tx, VERSION_FOR_SHARE).await?;
        Ok(self.put(load(tx, version).await?))
    }

    /// The catalogue in force, for a snapshot: it sees one version by itself.
    pub(super) async fn in_snapshot(&self, tx: &mut Tx) -> Result<Arc<Catalog>, DbError> {
        let (last, version) = (self.last(), version(tx, VERSION).await?);
        Ok(if version == last.version() { last } else { self.put(load(tx, version).await?) })
    }

    /// The catalogue in force, outside of any transaction.
    pub(super) async fn current(&self, database: &Database) -> Result<Arc<Catalog>, DbError> {
        let last = self.last();
        if version_in(&database.fetch(VERSION, Args::new()).await?)? == last.version() {
            return Ok(last);
        }
        self.in_snapshot(&mut database.snapshot().await?).await
    }

    fn last(&self) -> Arc<Catalog> {
        self.last.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps a catalogue that is in force.
    pub(super) fn put(&self, catalog: Catalog) -> Arc<Catalog> {
        let catalog = Arc::new(catalog);
        *self.last.write().unwrap_or_else(PoisonError::into_inner) = catalog.clone();
        catalog
    }
}

async fn version(tx: &mut Tx, sql: &'static str) -> Result<i64, DbError> {
    version_in(&tx.fetch(sql, Args::new()).await?)
}

fn version_in(rows: &[Row]) -> Result<i64, DbError> {
    rows.first().ok_or_else(|| DbError::corrupt("the catalogue has no version"))?.int("version")
}

async fn load(tx: &mut Tx, version: i64) -> Result<Catalog, DbError> {
    let terms: Result<_, DbError> = tx.fetch(TERMS, Args::new()).await?.iter().map(term).collect();
    let courses: Result<_, DbError> = tx.fetch(COURSES, Args::new()).await?.iter().map(course).collect();
    let sections: Result<_, DbError> = tx.fetch(SECTIONS, Args::new()).await?.iter().map(section).collect();
    Catalog::build(version, terms?, courses?, sections?).map_err(DbError::corrupt)
}

fn term(row: &Row) -> Result<Term, DbError> {
    let id = row.text("term_id")?;
    let date = |column: &str| {
        let parsed = row.opt_text(column)?.map(|text| text.parse::<Date>()).transpose();
        parsed.map_err(|error| DbError::corrupt(format!("term {id}, {column}: {error}")))
    };
    Ok(Term {
        title: row.text("title")?,
        add_deadline: row.opt_int("add_deadline")?.map(UnixMs),
        drop_deadline: row.opt_int("drop_deadline")?.map(UnixMs),
        max_credits_hundredths: int32(row, "max_credits_hundredths")?,
        starts_on: date("starts_on")?,
        ends_on: date("ends_on")?,
        time_zone: zone(&row.text("time_zone")?).map_err(DbError::corrupt)?,
        parent: row.opt_text("parent_term_id")?.map(TermId::stored),
        kind: row.named("kind")?,
        closed: row.int("closed")? == 1,
        id: TermId::stored(id),
    })
}

fn course(row: &Row) -> Result<Course, DbError> {
    let id = row.text("course_id")?;
    let requirement = |column: &str| {
        let parsed = Requirement::parse(&row.text(column)?);
        parsed.map_err(|error| DbError::corrupt(format!("course {id}, {column}: {error}")))
    };
    Ok(Course {
        code: row.text("code")?,
        title: row.text("title")?,
        credits_hundredths: int32(row, "credits_hundredths")?,
        prerequisites: requirement("prerequisites")?,
        corequisites: requirement("corequisites")?,
        closed: row.int("closed")? == 1,
        id: CourseId::stored(id),
    })
}

fn section(row: &Row) -> Result<SectionEntry, DbError> {
    let id = row.text("section_id")?;
    let component = Component::parse(&row.text("component")?);
    let meetings = Meetings::parse(&row.text("meetings")?);
    Ok(SectionEntry {
        component: component.map_err(|error| DbError::corrupt(format!("section {id}, component: {error}")))?,
        meetings: meetings.map_err(|error| DbError::corrupt(format!("section {id}, meetings: {error}")))?,
        course: CourseId::stored(row.text("course_id")?),
        term: TermId::stored(row.text("term_id")?),
        title: row.text("title")?,
        cancelled: row.int("cancelled")? == 1,
        permission_required: row.int("permission_required")? == 1,
        id: SectionId::stored(id),
    })
}

/// Writes the changes that have made a catalogue, and its version, in a transaction that no other import can overtake.
pub(super) async fn write(tx: &mut Tx, changes: &CatalogChanges, version: i64) -> Result<(), DbError> {
    tx.send(SET_VERSION, Args::new().int(version));
    let terms = &changes.terms;
    let shown = |date: &Option<Date>| date.map(|date| date.to_string());
    let rows = Rows::new()
        .text("term_id", terms.iter().map(|term| term.id.as_str()))
        .text("title", terms.iter().map(|term| term.title.as_str()))
        .opt_int("add_deadline", terms.iter().map(|term| term.add_deadline.map(|at| at.0)))
        .opt_int("drop_deadline", terms.iter().map(|term| term.drop_deadline.map(|at| at.0)))
        .int("max_credits_hundredths", terms.iter().map(|term| term.max_credits_hundredths.into()))
        .opt_text("starts_on", terms.iter().map(|term| shown(&term.starts_on)))
        .opt_text("ends_on", terms.iter().map(|term| shown(&term.ends_on)))
        .text("time_zone", terms.iter().map(|term| term.time_zone.iana_name().unwrap_or("UTC")))
        .opt_text("parent_term_id", terms.iter().map(|term| term.parent.as_ref().map(TermId::as_str)))
        .text("kind", terms.iter().map(|term| term.kind.name()))
        .int("closed", terms.iter().map(|term| term.closed.into()));
    tx.execute(PUT_TERMS, rows.into()).await?;

    let shown = |requirement: &Option<Requirement>| requirement.as_ref().map(ToString::to_string).unwrap_or_default();
    let courses = &changes.courses;
    let rows = Rows::new()
        .text("course_id", courses.iter().map(|course| course.id.as_str()))
        .text("code", courses.iter().map(|course| course.code.as_str()))
        .text("title", courses.iter().map(|course| course.title.as_str()))
        .int("credits_hundredths", courses.iter().map(|course| course.credits_hundredths.into()))
        .text("prerequisites", courses.iter().map(|course| shown(&course.prerequisites)))
        .text("corequisites", courses.iter().map(|course| shown(&course.corequisites)))
        .int("closed", courses.iter().map(|course| course.closed.into()));
    tx.execute(PUT_COURSES, rows.into()).await?;

    let component = |section: &SectionEntry| section.component.as_ref().map(ToString::to_string).unwrap_or_default();
    let sections = &changes.sections;
    let rows = Rows::new()
        .text("section_id", sections.iter().map(|section| section.id.as_str()))
        .text("course_id", sections.iter().map(|section| section.course.as_str()))
        .text("term_id", sections.iter().map(|section| section.term.as_str()))
        .text("title", sections.iter().map(|section| section.title.as_str()))
        .text("component", sections.iter().map(component))
        .text("meetings", sections.iter().map(|section| section.meetings.as_str()))
        .int("cancelled", sections.iter().map(|section| section.cancelled.into()))
        .int("permission_required", sections.iter().map(|section| section.permission_required.into()));
    tx.execute(PUT_SECTIONS, rows.into()).await?;
    Ok(())
}
