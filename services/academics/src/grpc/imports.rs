//! The service's part in imports: rows on the wire, which the store reads and applies.

use async_trait::async_trait;
use matricula_kit::database::DbError;
use matricula_kit::imports::{ImportError, Imported, foreign_row};
use matricula_kit::rpc::FieldError;
use matricula_proto::imports::v1::ImportRow;
use matricula_proto::imports::v1::import_row::Row;

use super::{reply, request};
use crate::domain::catalog::{CatalogChanges, Course, SectionEntry, Term};
use crate::domain::student::Profile;
use crate::store::AcademicStore;

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
impl Imported for AcademicStore {
    async fn read(&self) -> Result<(i64, Vec<ImportRow>), DbError> {
        let mut content = self.imported().await?;
        let catalog = content.catalog.clone();
        let mut terms: Vec<&Term> = catalog.terms().collect();
        terms.sort_unstable_by_key(|term| &term.id);
        let mut courses: Vec<&Course> = catalog.courses().collect();
        courses.sort_unstable_by_key(|course| &course.id);
        let terms = terms.into_iter().map(|term| Row::Term(reply::term(term)));
        let courses = courses.into_iter().map(|course| Row::Course(reply::course(course)));
        let sections = catalog.sections_after(None).map(|it| Row::Section(reply::section_entry(&it.entry())));
        let students = content.all_students().await?.into_iter().map(|it| Row::Student(reply::profile(it)));
        let rows = terms.chain(courses).chain(sections).chain(students);
        Ok((content.version, rows.map(|row| ImportRow { row: Some(row) }).collect()))
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
    let (name, checked) = match row.row {
        Some(Row::Term(term)) => ("term", request::term(term).map(Checked::Term)),
        Some(Row::Course(course)) => ("course", request::course(course).map(Checked::Course)),
        Some(Row::Section(section)) => ("section", request::section(section).map(Checked::Section)),
        Some(Row::Student(student)) => ("student", request::profile(student).map(Checked::Student)),
        _ => return Err(foreign_row()),
    };
    checked.map_err(|problem| problem.within(name))
}
