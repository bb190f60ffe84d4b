//! The catalogue: terms, courses and sections, parsed and linked once, then only read.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use matricula_kit::id::{CourseId, SectionId, TermId};

use super::component::Component;
use matricula_grammar::Meetings;
use matricula_grammar::Requirement;

mod merge;
mod term;
#[cfg(test)]
mod tests;

pub use merge::CatalogChanges;
pub use term::{Term, TermKind};

/// A course.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Course {
    /// Its id.
    pub id: CourseId,
    /// What people and prerequisites call it.
    pub code: String,
    /// For people.
    pub title: String,
    /// Credits in hundredths.
    pub credits_hundredths: i32,
    /// What must have been taken before.
    pub prerequisites: Option<Requirement>,
    /// What must have been taken before or is taken with it.
    pub corequisites: Option<Requirement>,
    /// It takes no new registration.
    pub closed: bool,
}

/// A section, with its course as a `C` and its term as a `T`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SectionWith<C, T> {
    /// Its id.
    pub id: SectionId,
    /// The course that it is a class of.
    pub course: C,
    /// When it takes place.
    pub term: T,
    /// For people.
    pub title: String,
    /// Which part of the course it is; `None`: the course has one part.
    pub component: Option<Component>,
    /// When it meets.
    pub meetings: Meetings,
    /// It does not take place.
    pub cancelled: bool,
    /// Staff must permit each student.
    pub permission_required: bool,
}

/// A section as it is imported and stored: its course and term by id.
pub type SectionEntry = SectionWith<CourseId, TermId>;

/// A section with its course and term at hand.
pub type Section = SectionWith<Arc<Course>, Arc<Term>>;

/// The parts in which a course is offered in one term, with the sections of each that take place.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Offering {
    parts: BTreeMap<Component, Vec<SectionId>>,
}

/// The whole catalogue in one version.
#[derive(Debug, Default)]
pub struct Catalog {
    version: i64,
    terms: HashMap<TermId, Arc<Term>>,
    courses: HashMap<CourseId, Arc<Course>>,
    codes: HashSet<String>,
    sections: BTreeMap<SectionId, Section>,
    offerings: HashMap<CourseId, HashMap<TermId, Offering>>,
}

/// A section names a course or a term that is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("section {section}: there is no {what}")]
pub struct DanglingSection {
    section: SectionId,
    what: String,
}

impl Catalog {
    /// Links the parts of a catalogue.
    pub fn build(
        version: i64,
        terms: Vec<Term>,
        courses: Vec<Course>,
        sections: Vec<SectionEntry>,
    ) -> Result<Self, DanglingSection> {
        let mut catalog = Self { version, ..Self::default() };
        catalog.terms = terms.into_iter().map(|term| (term.id.clone(), Arc::new(term))).collect();
        catalog.codes = courses.iter().map(|course| course.code.clone()).collect();
        catalog.courses = courses.into_iter().map(|course| (course.id.clone(), Arc::new(course))).collect();
        for entry in sections {
            let section = catalog.resolve(entry)?;
            if let (Some(component), false) = (&section.component, section.cancelled) {
                let offerings = catalog.offerings.entry(section.course.id.clone()).or_default();
                let offering = offerings.entry(section.term.id.clone()).or_default();
                offering.parts.entry(component.clone()).or_default().push(section.id.clone());
            }
            catalog.sections.insert(section.id.clone(), section);
        }
        for offering in catalog.offerings.values_mut().flat_map(HashMap::values_mut) {
            offering.parts.values_mut().for_each(|sections| sections.sort_unstable());
        }
        Ok(catalog)
    }

    /// Which version it is; every import makes the next one.
    pub fn version(&self) -> i64 {
        self.version
    }

    /// A section by its id.
    pub fn section(&self, id: &SectionId) -> Option<&Section> {
        self.sections.get(id)
    }

    /// The sections whose id is greater than `after`, by id.
    pub fn sections_after(&self, after: Option<&SectionId>) -> impl Iterator<Item = &Section> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.sections.range::<SectionId, _>((from, Unbounded)).map(|(_, section)| section)
    }

    /// A term by its id.
    pub fn term(&self, id: &TermId) -> Option<&Term> {
        self.terms.get(id).map(AsRef::as_ref)
    }

    /// Every term, in no order.
    pub fn terms(&self) -> impl Iterator<Item = &Term> {
        self.terms.values().map(AsRef::as_ref)
    }

    /// Every course, in no order.
    pub fn courses(&self) -> impl Iterator<Item = &Course> {
        self.courses.values().map(AsRef::as_ref)
    }

    /// A course by its id.
    pub fn course(&self, id: &CourseId) -> Option<&Course> {
        self.courses.get(id).map(AsRef::as_ref)
    }

    /// Whether a requirement that says `name` means this course. A course goes by its code, or by its id where no
    /// course has that code. A course that is not in the catalogue, such as one of another school, goes by its id.
    pub fn is_named(&self, course: &CourseId, name: &str) -> bool {
        match self.courses.get(course) {
            Some(known) if known.code == name => true,
            Some(_) => course.as_str() == name && !self.codes.contains(name),
            None => course.as_str() == name,
        }
    }

    /// Whether `name` means a course of the catalogue.
    pub fn has_named(&self, name: &str) -> bool {
        self.codes.contains(name) || self.courses.contains_key(name)
    }

    /// In which parts a section's course is offered in the section's term.
    pub fn offering(&self, section: &Section) -> Option<&Offering> {
        self.offerings.get(&section.course.id)?.get(&section.term.id)
    }

    fn resolve(&self, entry: SectionEntry) -> Result<Section, DanglingSection> {
        let dangling = |what: String| DanglingSection { section: entry.id.clone(), what };
        let course = self.courses.get(&entry.course).ok_or_else(|| dangling(format!("course {}", entry.course)))?;
        let term = self.terms.get(&entry.term).ok_or_else(|| dangling(format!("term {}", entry.term)))?;
        let (course, term) = (course.clone(), term.clone());
        Ok(entry.with(course, term))
    }

    // Sessions within sessions: a half of a semester, the semester, its school year.

    /// The sessions with this id and around it, from the inside out. `merged` allows no circle; the bound is for
    /// completeness.
    pub fn sessions(&self, id: &TermId) -> impl Iterator<Item = &Term> {
        let parent = |term: &&Term| term.parent.as_ref().and_then(|parent| self.term(parent));
        std::iter::successors(self.term(id), parent).take(self.terms.len())
    }

    /// The sessions in which the credits of a term add up, from the inside out: the last one is the outermost term or
    /// semester. A session that is in none stands for itself.
    pub fn credit_sessions(&self, id: &TermId) -> impl Iterator<Item = &Term> {
        let counts = |session: &Term| matches!(session.kind, TermKind::Term | TermKind::Semester);
        let outermost = self.sessions(id).enumerate().filter(|(_, session)| counts(session)).last();
        self.sessions(id).take(outermost.map_or(1, |(depth, _)| depth + 1))
    }

    /// The session that an import has closed and that the term is, or is in.
    pub fn closed_session(&self, term: &TermId) -> Option<&Term> {
        self.sessions(term).find(|session| session.closed)
    }
}

impl<C, T> SectionWith<C, T> {
    /// The same section, with its course and its term in another form.
    fn with<C2, T2>(self, course: C2, term: T2) -> SectionWith<C2, T2> {
        let Self { id, title, component, meetings, cancelled, permission_required, .. } = self;
        SectionWith { id, course, term, title, component, meetings, cancelled, permission_required }
    }
}

impl Section {
    /// The section as it is stored.
    pub fn entry(&self) -> SectionEntry {
        self.clone().with(self.course.id.clone(), self.term.id.clone())
    }

    /// Whether both are classes of one course in one term.
    pub fn is_of_same_offering(&self, other: &Self) -> bool {
        self.course.id == other.course.id && self.term.id == other.term.id
    }
}

impl Offering {
    /// Whether one class is the whole course.
    pub fn is_single(&self) -> bool {
        self.parts.len() <= 1
    }

    /// The parts of one configuration, with the sections of each by id.
    pub fn parts_of<'a>(&'a self, configuration: &'a str) -> impl Iterator<Item = (&'a Component, &'a [SectionId])> {
        let parts = self.parts.iter().filter(move |(component, _)| component.configuration == configuration);
        parts.map(|(component, sections)| (component, sections.as_slice()))
    }
}
