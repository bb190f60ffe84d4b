//! An import: what would be wrong with the catalogue after it, by the field that is at fault; else the new catalogue.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::hash::Hash;

use matricula_kit::id::{CourseId, SectionId, TermId};
use matricula_kit::rpc::FieldError;

use super::{Catalog, Course, SectionEntry, Term};
use crate::domain::requirement::Requirement;

/// What an import creates or replaces.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CatalogChanges {
    /// Terms.
    pub terms: Vec<Term>,
    /// Courses.
    pub courses: Vec<Course>,
    /// Sections.
    pub sections: Vec<SectionEntry>,
}

impl Catalog {
    /// The next version, with the changes made; or the first field that would leave it broken.
    pub fn merged(&self, changes: &CatalogChanges) -> Result<Self, FieldError> {
        check_distinct("terms", "term_id", changes.terms.iter().map(|term| &term.id))?;
        check_distinct("courses", "course_id", changes.courses.iter().map(|course| &course.id))?;
        check_distinct("sections", "section_id", changes.sections.iter().map(|section| &section.id))?;

        let mut terms: HashMap<&TermId, &Term> = self.terms.iter().map(|(id, term)| (id, term.as_ref())).collect();
        terms.extend(changes.terms.iter().map(|term| (&term.id, term)));
        let mut courses: HashMap<&CourseId, &Course> =
            self.courses.iter().map(|(id, course)| (id, course.as_ref())).collect();
        courses.extend(changes.courses.iter().map(|course| (&course.id, course)));
        check_requirements(&courses, changes)?;
        check_renamed(self, &courses, changes)?;

        let replaced: HashSet<&SectionId> = changes.sections.iter().map(|section| &section.id).collect();
        let kept = self.sections.values().filter(|section| !replaced.contains(&section.id));
        let mut sections: Vec<SectionEntry> = kept.map(super::Section::entry).collect();
        check_references(&terms, &courses, changes)?;
        check_components(&sections, changes)?;
        sections.extend(changes.sections.iter().cloned());

        let terms = terms.into_values().cloned().collect();
        let courses = courses.into_values().cloned().collect();
        // Every new section was checked above and every old one was linked before; the error is for completeness.
        Self::build(self.version + 1, terms, courses, sections)
            .map_err(|dangling| FieldError::new("sections", dangling.to_string()))
    }
}

fn check_distinct<'a, T: Hash + Eq + Display + 'a>(
    list: &str,
    field: &str,
    ids: impl Iterator<Item = &'a T>,
) -> Result<(), FieldError> {
    let mut seen = HashSet::new();
    for (index, id) in ids.enumerate() {
        if !seen.insert(id) {
            return Err(FieldError::new(format!("{list}[{index}].{field}"), format!("{id} is named twice")));
        }
    }
    Ok(())
}

fn check_requirements(courses: &HashMap<&CourseId, &Course>, changes: &CatalogChanges) -> Result<(), FieldError> {
    let codes: HashSet<&str> = courses.values().map(|course| course.code.as_str()).collect();
    for (index, course) in changes.courses.iter().enumerate() {
        for (field, requirement) in requirements(course) {
            if let Some(unknown) = requirement.codes().into_iter().find(|code| !codes.contains(code)) {
                let field = format!("courses[{index}].{field}");
                return Err(FieldError::new(field, format!("no course has the code {unknown:?}")));
            }
        }
    }
    Ok(())
}

/// A course that is given another code must not leave requirements behind that name the old one.
fn check_renamed(
    before: &Catalog,
    courses: &HashMap<&CourseId, &Course>,
    changes: &CatalogChanges,
) -> Result<(), FieldError> {
    let codes: HashSet<&str> = courses.values().map(|course| course.code.as_str()).collect();
    for (index, course) in changes.courses.iter().enumerate() {
        let Some(old) = before.course(&course.id).map(|course| course.code.as_str()) else { continue };
        if codes.contains(old) {
            continue;
        }
        let names_old = |other: &&&Course| requirements(other).any(|(_, tree)| tree.codes().contains(&old));
        if let Some(other) = courses.values().filter(names_old).min_by_key(|other| &other.id) {
            let problem = format!("the old code {old:?} is still named by the requirements of course {}", other.id);
            return Err(FieldError::new(format!("courses[{index}].code"), problem));
        }
    }
    Ok(())
}

fn requirements(course: &Course) -> impl Iterator<Item = (&'static str, &Requirement)> {
    let prerequisites = course.prerequisites.iter().map(|tree| ("prerequisites", tree));
    prerequisites.chain(course.corequisites.iter().map(|tree| ("corequisites", tree)))
}

fn check_references(
    terms: &HashMap<&TermId, &Term>,
    courses: &HashMap<&CourseId, &Course>,
    changes: &CatalogChanges,
) -> Result<(), FieldError> {
    for (index, section) in changes.sections.iter().enumerate() {
        if !courses.contains_key(&section.course) {
            let problem = format!("there is no course {}", section.course);
            return Err(FieldError::new(format!("sections[{index}].course_id"), problem));
        }
        if !terms.contains_key(&section.term) {
            let problem = format!("there is no term {}", section.term);
            return Err(FieldError::new(format!("sections[{index}].term_id"), problem));
        }
    }
    Ok(())
}

/// All sections of a course in a term have a component, or none has: else a class without one belongs nowhere.
fn check_components(kept: &[SectionEntry], changes: &CatalogChanges) -> Result<(), FieldError> {
    let mut firsts: HashMap<(&CourseId, &TermId), &SectionEntry> =
        kept.iter().map(|section| ((&section.course, &section.term), section)).collect();
    for (index, section) in changes.sections.iter().enumerate() {
        let first = firsts.entry((&section.course, &section.term)).or_insert(section);
        if first.component.is_some() != section.component.is_some() {
            let has = if first.component.is_some() { "has a component" } else { "has none" };
            let problem = format!("section {} of the same course and term {has}: all must have one, or none", first.id);
            return Err(FieldError::new(format!("sections[{index}].component"), problem));
        }
    }
    Ok(())
}
