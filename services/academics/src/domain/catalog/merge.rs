//! An import: what would be wrong with the catalogue after it, by the field that is at fault, such as
//! `courses[c-PHYS].prerequisites`; otherwise the new catalogue.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::hash::Hash;

use matricula_kit::id::{CourseId, SectionId, TermId};
use matricula_kit::rpc::{FieldError, first_twice};

use super::{Catalog, Course, SectionEntry, Term};
use matricula_grammar::Requirement;

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
        check_named_once("terms", "term_id", changes.terms.iter().map(|term| &term.id))?;
        check_named_once("courses", "course_id", changes.courses.iter().map(|course| &course.id))?;
        check_named_once("sections", "section_id", changes.sections.iter().map(|section| &section.id))?;

        let mut terms: HashMap<&TermId, &Term> = self.terms().map(|term| (&term.id, term)).collect();
        terms.extend(changes.terms.iter().map(|term| (&term.id, term)));
        let mut courses: HashMap<&CourseId, &Course> = self.courses().map(|course| (&course.id, course)).collect();
        courses.extend(changes.courses.iter().map(|course| (&course.id, course)));
        check_terms(&terms, changes)?;

        let replaced: HashSet<&SectionId> = changes.sections.iter().map(|section| &section.id).collect();
        let kept = self.sections.values().filter(|section| !replaced.contains(&section.id));
        let mut sections: Vec<SectionEntry> = kept.map(super::Section::entry).collect();
        check_references(&terms, &courses, changes)?;
        check_components(&sections, changes)?;
        sections.extend(changes.sections.iter().cloned());

        let terms = terms.into_values().cloned().collect();
        let courses = courses.into_values().cloned().collect();
        // Every new section was checked above and every old one was linked before; the error is for completeness.
        let after = Self::build(self.version + 1, terms, courses, sections)
            .map_err(|dangling| FieldError::new("sections", dangling.to_string()))?;
        check_requirements(&after, changes)?;
        check_renamed(self, &after, changes)?;
        Ok(after)
    }
}

/// No two rows of a list have the same id.
fn check_named_once<'a, I: Hash + Eq + Display + 'a>(
    list: &str,
    id_field: &str,
    ids: impl Iterator<Item = &'a I>,
) -> Result<(), FieldError> {
    match first_twice(ids) {
        Some((_, id)) => Err(FieldError::new(format!("{list}[{id}].{id_field}"), format!("{id} is named twice"))),
        None => Ok(()),
    }
}

/// A term ends after it begins, its parent exists, and no term is a part of itself.
fn check_terms(terms: &HashMap<&TermId, &Term>, changes: &CatalogChanges) -> Result<(), FieldError> {
    for term in &changes.terms {
        let fault = |field: &str, problem: String| Err(FieldError::new(format!("terms[{}].{field}", term.id), problem));
        match (term.starts_on, term.ends_on) {
            (Some(starts_on), Some(ends_on)) if starts_on >= ends_on => {
                return fault("ends_on", format!("must be after starts_on, which is {starts_on}, got {ends_on}"));
            }
            (Some(_), None) => return fault("ends_on", "is required with starts_on".to_owned()),
            (None, Some(_)) => return fault("starts_on", "is required with ends_on".to_owned()),
            _ => {}
        }
        let mut around = HashSet::from([&term.id]);
        let mut inner = term;
        while let Some(parent) = &inner.parent {
            let Some(outer) = terms.get(parent) else {
                return fault("parent_term_id", format!("there is no term {parent}"));
            };
            if !around.insert(parent) {
                let problem = "must be a term around it, got one that is a part of itself";
                return fault("parent_term_id", problem.to_owned());
            }
            inner = outer;
        }
    }
    Ok(())
}

/// Requirements of closed courses bind nobody: the courses that they name may have left the catalogue or changed their
/// code.
fn check_requirements(after: &Catalog, changes: &CatalogChanges) -> Result<(), FieldError> {
    for course in changes.courses.iter().filter(|course| !course.closed) {
        for (field, requirement) in requirements(course) {
            if let Some(unknown) = requirement.names().into_iter().find(|name| !after.has_named(name)) {
                let problem = format!("no course has the code or the id {unknown:?}");
                return Err(FieldError::new(format!("courses[{}].{field}", course.id), problem));
            }
        }
    }
    Ok(())
}

/// A course that is given another code must not leave requirements behind that name the old one.
fn check_renamed(before: &Catalog, after: &Catalog, changes: &CatalogChanges) -> Result<(), FieldError> {
    for course in &changes.courses {
        let Some(old) = before.course(&course.id).map(|course| course.code.as_str()) else { continue };
        if after.codes.contains(old) || after.is_named(&course.id, old) {
            continue;
        }
        let names_old = |other: &&Course| requirements(other).any(|(_, tree)| tree.names().contains(&old));
        if let Some(other) =
            after.courses().filter(|other| !other.closed).filter(names_old).min_by_key(|other| &other.id)
        {
            let problem = format!("the old code {old:?} is still named by the requirements of course {}", other.id);
            return Err(FieldError::new(format!("courses[{}].code", course.id), problem));
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
    for section in &changes.sections {
        if !courses.contains_key(&section.course) {
            let problem = format!("there is no course {}", section.course);
            return Err(FieldError::new(format!("sections[{}].course_id", section.id), problem));
        }
        if !terms.contains_key(&section.term) {
            let problem = format!("there is no term {}", section.term);
            return Err(FieldError::new(format!("sections[{}].term_id", section.id), problem));
        }
    }
    Ok(())
}

/// All sections of a course in a term have a component, or none has: else a class without one belongs nowhere. Sections
/// that are cancelled are no part of what is offered.
fn check_components(kept: &[SectionEntry], changes: &CatalogChanges) -> Result<(), FieldError> {
    let mut firsts: HashMap<(&CourseId, &TermId), &SectionEntry> =
        open(kept).map(|section| ((&section.course, &section.term), section)).collect();
    for section in open(&changes.sections) {
        let first = firsts.entry((&section.course, &section.term)).or_insert(section);
        if first.component.is_some() != section.component.is_some() {
            let has = if first.component.is_some() { "has a component" } else { "has none" };
            let problem = format!("section {} of the same course and term {has}: all must have one, or none", first.id);
            return Err(FieldError::new(format!("sections[{}].component", section.id), problem));
        }
    }
    Ok(())
}

fn open(sections: &[SectionEntry]) -> impl Iterator<Item = &SectionEntry> {
    sections.iter().filter(|section| !section.cancelled)
}
