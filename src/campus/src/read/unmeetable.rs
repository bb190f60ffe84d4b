//! Finds prerequisites that no student can ever meet, such as those of two courses that require each other.
//!
//! A course is attainable if some transcript has it, or if it is not closed and attainable courses meet its
//! prerequisites. That is a least fixpoint: when a course becomes attainable, the courses whose prerequisites contain
//! it are checked again.

use std::collections::HashSet;

use super::{
    Reading,
    courses::{Names, PREREQUISITES, Rules, names_of},
};
use crate::{file::File, ids::CourseId, model::Course, problem::Finding};

impl Reading<'_> {
    pub(super) fn unmeetable(&mut self) {
        if !self.courses.complete {
            return;
        }
        let completed = self.bundle.students.iter().flat_map(|student| &student.completed);
        let completed: HashSet<&CourseId> = completed.map(|completed| &completed.course_id).collect();
        // Without transcripts in the bundle, earlier imports may have transcripts with a course that is closed now.
        let has_transcripts = self.bundle.scope.has_file(File::Completed);
        let unmeetable = unmeetable(&self.bundle.courses, &self.rules, |course, is_met| {
            completed.contains(&course.id) || (is_met && !(course.closed && has_transcripts))
        });
        for (course, rules, out_of_reach) in unmeetable {
            if !course.closed {
                let text = format!(
                    "no student can ever meet this: no student has, or can take before, {}",
                    out_of_reach.join(", ")
                );
                self.notes.push(Finding::of_column(File::Courses, rules.line, PREREQUISITES, text));
            }
        }
    }
}

/// The courses whose prerequisites no student can meet, each with its unattainable prerequisites. `can_be_had` decides
/// whether a course is attainable, given whether its prerequisites are met.
fn unmeetable<'a>(
    courses: &'a [Course],
    rules: &'a [Rules],
    can_be_had: impl Fn(&Course, bool) -> bool,
) -> Vec<(&'a Course, &'a Rules, Vec<&'a str>)> {
    let names = Names::of(courses);
    let mut named_by: Vec<Vec<usize>> = vec![Vec::new(); names.len()];
    for (place, rules) in rules.iter().enumerate() {
        let numbers = names_of(&rules.prerequisites).into_iter().filter_map(|name| names.number(name));
        numbers.for_each(|number| named_by[number].push(place));
    }
    let mut reached = vec![false; names.len()];
    let has = |name: &str, reached: &[bool]| names.number(name).is_some_and(|number| reached[number]);
    let is_met = |place: usize, reached: &[bool]| {
        let rule = rules[place].prerequisites.as_ref();
        rule.is_none_or(|rule| rule.is_met(&|name, _| has(name, reached)))
    };
    let mut to_look_at: Vec<usize> = (0..courses.len()).collect();
    while let Some(place) = to_look_at.pop() {
        if can_be_had(&courses[place], is_met(place, &reached)) {
            for number in
                names.of_courses[place].iter().filter(|number| !reached[**number]).copied().collect::<Vec<_>>()
            {
                reached[number] = true;
                to_look_at.extend(&named_by[number]);
            }
        }
    }
    let unmet = (0..courses.len()).filter(|place| !is_met(*place, &reached));
    let shown = |place: usize| {
        let named = names_of(&rules[place].prerequisites).into_iter();
        let out_of_reach = named.filter(|name| !has(name, &reached));
        (&courses[place], &rules[place], out_of_reach.collect())
    };
    unmet.map(shown).collect()
}
