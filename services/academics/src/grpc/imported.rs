//! The service's part in imports: rows on the wire, which the store reads and applies.

use async_trait::async_trait;
use matricula_kit::database::DbError;
use matricula_kit::imports::{ImportError, Imported, foreign_row};
use matricula_kit::rpc::FieldError;
use matricula_proto::imports::v1::ImportRow;
use matricula_proto::imports::v1::import_row::Row;

use super::{import, reply};
use crate::domain::catalog::{CatalogChanges, Course, SectionEntry, Term};
use crate::domain::student::Profile;
use crate::store::Academics;

#[cfg(test)]
mod tests;

/// A row, checked.
enum Checked {
    Term(Term),
    Course(Course),
    Section(SectionEntry),
    Student(Profile),
}

#[async_trait]
impl Imported for Academics {
    async fn read(&self) -> Result<(i64, Vec<ImportRow>), DbError> {
        let mut content = self.imported().await?;
        let catalog = content.catalog().clone();
        let mut terms: Vec<&Term> = catalog.terms().collect();
        terms.sort_unstable_by_key(|term| &term.id);
        let mut courses: Vec<&Course> = catalog.courses().collect();
        courses.sort_unstable_by_key(|course| &course.id);
        let terms = terms.into_iter().map(|term| Row::Term(reply::term(term)));
        let courses = courses.into_iter().map(|course| Row::Course(reply::course(course)));
        let sections = catalog.sections_after(None).map(|it| Row::Section(reply::section_entry(&it.entry())));
        let mut rows: Vec<ImportRow> = terms.chain(courses).chain(sections).map(of).collect();
        loop {
            let page = content.next_students().await?;
            if page.is_empty() {
                return Ok((content.version(), rows));
            }
            rows.extend(page.into_iter().map(|profile| of(Row::Student(reply::profile(profile)))));
        }
    }

    fn check(&self, row: &ImportRow) -> Result<(), FieldError> {
        checked(row.clone()).map(drop)
    }

    async fn apply(&self, base_version: i64, rows: Vec<ImportRow>) -> Result<(), ImportError> {
        let (mut catalog, mut students) = (CatalogChanges::default(), Vec::new());
        for (index, row) in rows.into_iter().enumerate() {
            match checked(row).map_err(|problem| problem.within(&format!("rows[{index}]")))? {
                Checked::Term(term) => catalog.terms.push(term),
                Checked::Course(course) => catalog.courses.push(course),
                Checked::Section(section) => catalog.sections.push(section),
                Checked::Student(profile) => students.push(profile),
            }
        }
        self.apply_import(base_version, &catalog, &students).await
    }
}

fn checked(row: ImportRow) -> Result<Checked, FieldError> {
    match row.row {
        Some(Row::Term(term)) => import::term(term).map(Checked::Term).map_err(|problem| problem.within("term")),
        Some(Row::Course(course)) => {
            import::course(course).map(Checked::Course).map_err(|problem| problem.within("course"))
        }
        Some(Row::Section(section)) => {
            import::section(section).map(Checked::Section).map_err(|problem| problem.within("section"))
        }
        Some(Row::Student(student)) => {
            import::profile(student).map(Checked::Student).map_err(|problem| problem.within("student"))
        }
        _ => Err(foreign_row()),
    }
}

fn of(row: Row) -> ImportRow {
    ImportRow { row: Some(row) }
}
