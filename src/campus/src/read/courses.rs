//! Courses and their rules. The names in rules are checked after all courses are read.

use std::collections::{HashMap, HashSet};

use matricula_grammar::Requirement;

use super::{
    Reading,
    values::{parse_credits, parse_minor_units},
};
use crate::{
    file::File,
    ids::{CourseId, Invalid},
    model::Course,
    problem::{Finding, Problems},
    table::Row,
};

pub(super) const PREREQUISITES: &str = "metadata.prerequisites";
const COREQUISITES: &str = "metadata.corequisites";

/// The rules of a course as they were read.
pub(super) struct Rules {
    /// The line of the course in its file.
    pub line: u64,
    pub prerequisites: Option<Requirement>,
    corequisites: Option<Requirement>,
}

/// The names that rules can use: the codes of courses, and the ids that are no course's code. Each name has a number.
pub(super) struct Names {
    numbers: HashMap<String, usize>,
    /// The names of each course: its code, and its id if that is a name.
    pub of_courses: Vec<Vec<usize>>,
}

impl Reading<'_> {
    pub(super) fn courses(&mut self) {
        let Some(mut table) = self.open(File::Courses, &["sourcedId", "title"]) else { return };
        while let Some(row) = table.next_row(&mut self.problems) {
            let problems = &mut self.problems;
            let (id, closed) = self.courses.add(row, CourseId::try_new, problems);
            if let Some(org) = row.optional("orgSourcedId", Ok, problems).filter(|_| !closed) {
                self.orgs.check_kept(row, "orgSourcedId", org, problems);
            }
            let Some((course, rules)) = id.and_then(|id| parse_course(row, id, closed, problems)) else { continue };
            self.bundle.courses.push(course);
            self.rules.push(rules);
        }
        self.courses.complete = table.complete;
        if table.complete {
            self.name_courses();
        }
    }

    /// Checks that every name in a rule belongs to a course, and writes the rules in the form of the services.
    fn name_courses(&mut self) {
        let names = Names::of(&self.bundle.courses);
        for (course, rules) in self.bundle.courses.iter_mut().zip(&self.rules) {
            for (column, rule, text) in [
                (PREREQUISITES, &rules.prerequisites, &mut course.prerequisites),
                (COREQUISITES, &rules.corequisites, &mut course.corequisites),
            ] {
                let problem =
                    |value: &str, what: String| Finding::of_value(File::Courses, rules.line, column, value, what);
                for name in names_of(rule).into_iter().filter(|name| names.number(name).is_none()) {
                    let missing = "is not the courseCode or sourcedId of a course; add the course or correct the name";
                    self.problems.push(match Requirement::parse(text) {
                        // Words in a row are not the name of a course: then a quote or an `and` is missing.
                        Err(error) if name.contains(' ') => problem(text, error.to_string()),
                        _ => problem(name, missing.to_owned()),
                    });
                }
                // Names of several words get quotes.
                if let (Err(_), Some(rule)) = (Requirement::parse(text), rule) {
                    *text = rule.to_string();
                    if let Err(error) = Requirement::parse(text) {
                        self.problems.push(problem(text, error.to_string()));
                    }
                }
            }
        }
    }
}

/// Every name in a rule, in order.
pub(super) fn names_of(rule: &Option<Requirement>) -> Vec<&str> {
    rule.as_ref().map(Requirement::names).unwrap_or_default()
}

impl Names {
    pub(super) fn of(courses: &[Course]) -> Self {
        let mut numbers = HashMap::new();
        let mut number = |name: &str| {
            let next = numbers.len();
            *numbers.entry(name.to_owned()).or_insert(next)
        };
        let mut of_courses: Vec<Vec<usize>> = courses.iter().map(|course| vec![number(&course.code)]).collect();
        let codes: HashSet<&str> = courses.iter().map(|course| course.code.as_str()).collect();
        for (course, names) in courses.iter().zip(&mut of_courses) {
            if !codes.contains(course.id.as_str()) {
                names.push(number(course.id.as_str()));
            }
        }
        Self { numbers, of_courses }
    }

    /// The number of a name; `None` if it belongs to no course.
    pub(super) fn number(&self, name: &str) -> Option<usize> {
        self.numbers.get(name).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }
}

fn parse_course(row: Row<'_>, id: CourseId, closed: bool, problems: &mut Problems) -> Option<(Course, Rules)> {
    let rule = |text: &str| Requirement::parse_joined(text).map_err(|problem| Invalid::new(problem.to_string()));
    let title = row.required_for_people("title", problems);
    let code = row.for_people("courseCode", problems);
    if let Some(code) = code.filter(|code| code.contains('"')) {
        row.refuse(
            "courseCode",
            code,
            "contains a quote, so no prerequisite could refer to it; remove the quote",
            problems,
        );
    }
    let credits_hundredths = row.optional("metadata.credits", parse_credits, problems).unwrap_or(0);
    let prerequisites = row.optional(PREREQUISITES, rule, problems).unwrap_or_default();
    let corequisites = row.optional(COREQUISITES, rule, problems).unwrap_or_default();
    let fee_minor = row.optional("metadata.feeMinor", parse_minor_units, problems).unwrap_or(0);
    let code = match code? {
        "" => id.to_string(),
        code => code.to_owned(),
    };
    let course = Course {
        id,
        code,
        title: title?.to_owned(),
        credits_hundredths,
        prerequisites: row.text(PREREQUISITES, problems)?.to_owned(),
        corequisites: row.text(COREQUISITES, problems)?.to_owned(),
        fee_minor,
        closed,
    };
    Some((course, Rules { line: row.line, prerequisites, corequisites }))
}
