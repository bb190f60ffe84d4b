//! The outcome does not depend on the number of clicks: two adds in one registration are accepted exactly when one of
//! them, and then the other one, are accepted in a registration each. Corequisites and linked parts, which ask for
//! sections together, are not in these catalogues.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::ToSpan as _;
use jiff::tz::TimeZone;
use matricula_kit::answer::{Answer, Reason};
use matricula_kit::enrollment::EnrollmentStatus;
use proptest::prelude::*;

use super::{BEFORE, NOW};
use crate::domain::catalog::{Catalog, CatalogChanges, Course, SectionEntry, Term, TermKind};
use crate::domain::decide::{Action, Command, World};
use crate::domain::fixture::{change, course, saga, section, student, term};
use matricula_grammar::Requirement;
use matricula_kit::participant::RowState;

use crate::domain::student::{RecordedCourse, Student};

const TERMS: usize = 4;
const COURSES: [&str; 4] = ["A", "B", "C", "D"];
const SECTIONS: usize = 7;
/// Reasons that a catalogue without linked parts and corequisites can give and that staff can permit.
const REASONS: [Reason; 6] = [
    Reason::PrerequisiteNotMet,
    Reason::TimeConflict,
    Reason::MaxCreditsExceeded,
    Reason::DuplicateCourse,
    Reason::PermissionRequired,
    Reason::AddDeadlinePassed,
];

/// True once in so many times.
fn rarely(times: u32) -> impl Strategy<Value = bool> {
    prop::bool::weighted(1.0 / f64::from(times))
}

/// A term of one to three blocks of four weeks between July 2026 and February 2027, or one whose dates are not known. A
/// term is a part of an earlier one of the list, if of any.
fn any_term(index: usize) -> impl Strategy<Value = Term> {
    let blocks = prop::option::weighted(0.8, (0..6_i64, 1..4_i64));
    let zone = prop::sample::select(vec!["UTC", "UTC", "UTC", "America/New_York", "Asia/Tokyo"]);
    let kind =
        prop::sample::select(vec![TermKind::Term, TermKind::Semester, TermKind::GradingPeriod, TermKind::SchoolYear]);
    let parent = prop::option::of(0..index.max(1));
    let limit = prop::sample::select(vec![0, 0, 0, 400, 800]);
    (blocks, zone, kind, parent, limit, rarely(20), rarely(20)).prop_map(
        move |(blocks, zone, kind, parent, limit, is_closed, is_late)| {
            let mut term = term(&format!("t{index}"), is_late.then_some(BEFORE), limit).in_zone(zone).of_kind(kind);
            if let Some((first, count)) = blocks {
                let begin = jiff::civil::date(2026, 7, 13);
                term.starts_on = Some(begin + (28 * first).days());
                term.ends_on = Some(begin + (28 * (first + count)).days());
            }
            if let Some(parent) = parent.filter(|parent| *parent < index) {
                term = term.part_of(&format!("t{parent}"), kind);
            }
            Term { closed: is_closed, ..term }
        },
    )
}

fn any_course(code: &'static str) -> impl Strategy<Value = Course> {
    let names = prop::sample::subsequence(COURSES.to_vec(), 0..=2);
    let names = prop::option::of(names).prop_map(Option::unwrap_or_default);
    let joined = prop::sample::select(vec![" and ", " or "]);
    (names, joined, 0..4_i32, rarely(20)).prop_map(move |(names, joined, credits, is_closed)| {
        let others: Vec<&str> = names.into_iter().filter(|name| *name != code).collect();
        let prerequisites = Requirement::parse(&others.join(joined)).expect("prerequisites");
        Course { prerequisites, closed: is_closed, ..course(code, credits, "", "") }
    })
}

fn any_section(index: usize) -> impl Strategy<Value = SectionEntry> {
    let place = (0..COURSES.len(), 0..TERMS);
    (place, 0..5_usize, 8..12_u8, rarely(20), rarely(10)).prop_map(
        move |((course, term), day, hour, cancelled, permission_required)| {
            let meetings = format!("{} {hour:02}:00-{:02}:30", &"MTWRF"[day..=day], hour + 1);
            let section = section(&format!("{}-{index}", COURSES[course]), &format!("t{term}"), "", &meetings);
            SectionEntry { cancelled, permission_required, ..section }
        },
    )
}

fn any_catalog() -> impl Strategy<Value = Catalog> {
    let terms: Vec<_> = (0..TERMS).map(any_term).collect();
    let courses: Vec<_> = COURSES.into_iter().map(any_course).collect();
    let sections: Vec<_> = (0..SECTIONS).map(any_section).collect();
    (terms, courses, sections).prop_map(|(terms, courses, sections)| {
        Catalog::default().merged(&CatalogChanges { terms, courses, sections }).expect("a sound catalogue")
    })
}

/// What a student brings, by the places of courses, terms and sections in their lists.
#[derive(Debug, Clone)]
struct History {
    completed: Vec<(usize, bool, Option<usize>)>,
    permits: Vec<(Reason, Option<usize>)>,
    /// Sections on the record; the registration that added or drops one may not be settled.
    records: Vec<(usize, bool, bool)>,
    max_credits: i32,
    is_closed: bool,
    has_hold: bool,
}

fn any_history() -> impl Strategy<Value = History> {
    let completed = (0..COURSES.len(), any::<bool>(), prop::option::of(0..TERMS));
    let permit = (prop::sample::select(REASONS.to_vec()), prop::option::weighted(0.8, 0..SECTIONS));
    let record = (0..SECTIONS, rarely(4), rarely(10));
    let lists = (
        prop::collection::vec(completed, 0..3),
        prop::collection::vec(permit, 0..4),
        prop::collection::vec(record, 0..3),
    );
    let limit = prop::sample::select(vec![0, 0, 0, 4, 8]);
    (lists, limit, rarely(30), rarely(30)).prop_map(
        |((completed, permits, records), max_credits, is_closed, has_hold)| History {
            completed,
            permits,
            records,
            max_credits,
            is_closed,
            has_hold,
        },
    )
}

impl History {
    /// The student, with nothing on record in the sections that are about to be added.
    fn student(&self, catalog: &Catalog, adds: [&str; 2]) -> Student {
        let sections: Vec<_> = catalog.sections_after(None).collect();
        let mut student = student().max_credits(self.max_credits);
        student.profile.closed = self.is_closed;
        for (course, is_passed, term) in &self.completed {
            let term = term.map(|term| format!("t{term}")).unwrap_or_default();
            student = student.completed_in(COURSES[*course], if *is_passed { "C" } else { "F" }, &term);
        }
        for (reason, section) in &self.permits {
            student = student.permit(*reason, section.map_or("", |section| sections[section].id.as_str()));
        }
        if self.has_hold {
            student = student.hold("h1");
        }
        for (section, is_pending, is_leaving) in &self.records {
            let section = sections[*section];
            let is_there = student.courses.iter().any(|course| course.section == section.id);
            if is_there || adds.contains(&section.id.as_str()) {
                continue;
            }
            student.courses.push(RecordedCourse {
                student: student.profile.id.clone(),
                registration: saga("old"),
                section: section.id.clone(),
                course: section.course.id.clone(),
                term: section.term.id.clone(),
                credits_hundredths: section.course.credits_hundredths,
                status: if *is_pending { EnrollmentStatus::Pending } else { EnrollmentStatus::Enrolled },
                dropped_by: (*is_leaving && !*is_pending).then(|| saga("other")),
                row_state: RowState::Kept,
            });
        }
        student
    }
}

/// Whether registrations of these adds, one after the other, are all accepted.
fn accepts(catalog: &Arc<Catalog>, student: &Student, registrations: &[&str]) -> bool {
    let id = student.profile.id.clone();
    let students = HashMap::from([(id.clone(), student.clone())]);
    let mut world = World { catalog: catalog.clone(), students, zone: TimeZone::UTC };
    registrations.iter().enumerate().all(|(number, adds)| {
        let registration = saga(&format!("r{number}"));
        let command = |action| Command { registration: registration.clone(), student: id.clone(), action };
        let answer = world.decide(&command(Action::Reserve(change(adds, ""))), NOW);
        world.decide(&command(Action::Settle), NOW);
        matches!(answer, Answer::Done(_))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn one_click_or_two(
        catalog in any_catalog(),
        history in any_history(),
        (one, other) in (0..SECTIONS, 1..SECTIONS).prop_map(|(one, by)| (one, (one + by) % SECTIONS)),
    ) {
        let catalog = Arc::new(catalog);
        let sections: Vec<&str> = catalog.sections_after(None).map(|section| section.id.as_str()).collect();
        let (one, other) = (sections[one], sections[other]);
        let student = history.student(&catalog, [one, other]);
        let together = accepts(&catalog, &student, &[&format!("{one} {other}")]);
        let in_some_order = accepts(&catalog, &student, &[one, other]) || accepts(&catalog, &student, &[other, one]);
        prop_assert_eq!(together, in_some_order, "{} and {}", one, other);
    }
}
