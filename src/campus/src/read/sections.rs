//! Sections: classes, each of one course and one term.

use std::collections::HashMap;

use matricula_grammar::Meetings;

use super::{Reading, values::parse_bool};
use crate::{
    file::File,
    ids::{CourseId, Invalid, SectionId, TermId, is_component_part},
    model::Section,
    problem::{Finding, Problems},
    table::Row,
};

const SEATS: &str = "metadata.maxNumberStudents";
/// Maximum number of seats: the limit of the seat service.
const CAPACITY_MAX: i32 = 1_000_000;

impl Reading<'_> {
    pub(super) fn sections(&mut self) {
        let columns = ["sourcedId", "title", "courseSourcedId", "termSourcedIds"];
        let Some(mut table) = self.open(File::Classes, &columns) else { return };
        // The first section of each course and term: its line, and whether it has a component.
        let mut firsts: HashMap<(CourseId, TermId), (u64, bool)> = HashMap::new();
        let mut unlimited = Unlimited::default();
        while let Some(row) = table.next_row(&mut self.problems) {
            let problems = &mut self.problems;
            let (id, cancelled) = self.sections.add(row, SectionId::try_new, problems);
            let Some(section) = id.and_then(|id| parse_section(row, id, cancelled, problems)) else { continue };
            let is_part = !section.component.is_empty();
            let of = (section.course_id.clone(), section.term_id.clone());
            let (line, first_is_part) = *firsts.entry(of).or_insert((row.line, is_part));
            if is_part != first_is_part {
                let has = if first_is_part { "has a component" } else { "has none" };
                let what = format!(
                    "the section of the same course and term in line {line} {has}; give all of them a component, or none"
                );
                row.refuse("metadata.component", &section.component, what, problems);
            }
            if self.refers(row, &section) {
                unlimited.add(row, &section);
                self.bundle.sections.push(section);
            }
        }
        self.sections.complete = table.complete;
        if self.bundle.scope.has_column(File::Classes, SEATS) {
            self.notes.extend(unlimited.note());
        }
    }

    /// Whether the course and term of a section exist. A section that is not cancelled must not refer to closed ones.
    fn refers(&mut self, row: Row<'_>, section: &Section) -> bool {
        let problems = &mut self.problems;
        let (course, term) = (section.course_id.as_str(), section.term_id.as_str());
        if section.cancelled {
            return self.courses.check(row, "courseSourcedId", course, problems)
                & self.terms.check(row, "termSourcedIds", term, problems);
        }
        if let Some(org) = row.optional("schoolSourcedId", Ok, problems) {
            self.orgs.check_kept(row, "schoolSourcedId", org, problems);
        }
        self.courses.check_kept(row, "courseSourcedId", course, problems)
            & self.terms.check_kept(row, "termSourcedIds", term, problems)
    }
}

/// Sections without a number of seats.
#[derive(Default)]
struct Unlimited {
    first: Option<(u64, SectionId)>,
    more: usize,
}

impl Unlimited {
    fn add(&mut self, row: Row<'_>, section: &Section) {
        if section.cancelled || section.capacity.is_some() {
            return;
        }
        match self.first {
            None => self.first = Some((row.line, section.id.clone())),
            Some(_) => self.more += 1,
        }
    }

    fn note(self) -> Option<Finding> {
        let (line, first) = self.first?;
        let text = match self.more {
            0 => format!("is empty for class {first}, which therefore has unlimited seats"),
            more => format!("is empty for class {first} and {more} more, which therefore have unlimited seats"),
        };
        Some(Finding::of_column(File::Classes, line, SEATS, text))
    }
}

fn parse_section(row: Row<'_>, id: SectionId, cancelled: bool, problems: &mut Problems) -> Option<Section> {
    let meetings = |text: &str| match Meetings::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(problem) => Err(Invalid::new(problem.to_string())),
    };
    let title = row.for_people("title", problems);
    let course_id = row.required("courseSourcedId", CourseId::try_new, problems);
    let term_id = row.required("termSourcedIds", parse_only_term, problems);
    let capacity = row.optional(SEATS, parse_capacity, problems);
    let component = row.optional("metadata.component", parse_component, problems).unwrap_or_default();
    let meetings = row.optional("metadata.meetings", meetings, problems).unwrap_or_default();
    let permission_required = row.optional("metadata.permissionRequired", parse_bool, problems).unwrap_or(false);
    let (title, course_id, term_id) = (title?.to_owned(), course_id?, term_id?);
    Some(Section { id, course_id, term_id, title, capacity, component, meetings, permission_required, cancelled })
}

fn parse_only_term(text: &str) -> Result<TermId, Invalid> {
    if text.contains(',') {
        return Err(Invalid::new("lists several terms; a section belongs to one: make a class for each term"));
    }
    TermId::try_new(text)
}

fn parse_capacity(text: &str) -> Result<i32, Invalid> {
    let seats = text.parse().ok().filter(|seats| (0..=CAPACITY_MAX).contains(seats));
    seats.ok_or_else(|| {
        Invalid::new(format!(
            "not a number of seats; use a whole number up to {CAPACITY_MAX}, 0 for a section that is not open, or leave it \
             empty for no limit"
        ))
    })
}

fn parse_component(text: &str) -> Result<String, Invalid> {
    match text.split_once('/') {
        Some((configuration, subpart)) if is_component_part(configuration) && is_component_part(subpart) => {
            Ok(text.to_owned())
        }
        _ => Err(Invalid::new("not a component; write `configuration/subpart`, such as `1/2`")),
    }
}
