//! A generated morning has the proportions of real ones, for every seed.

use std::collections::{HashMap, HashSet};

use crate::{Bundle, SectionId, Spec, SpecError, StudentId, generate};

struct Measured {
    requests_per_student: f64,
    double_click_share: f64,
    drop_share: f64,
    top_1_percent_share: f64,
    top_10_percent_share: f64,
    oversubscribed_share: f64,
    opening_minute_share: f64,
    linked_section_share: f64,
}

fn measure(bundle: &Bundle) -> Measured {
    let rows = &bundle.registrations;
    let mut seen = HashSet::new();
    let requests: Vec<_> = rows.iter().filter(|row| seen.insert((&row.student_id, &row.key))).collect();
    let mut adds: HashMap<&SectionId, f64> = HashMap::new();
    let mut wanted: HashMap<&SectionId, HashSet<&StudentId>> = HashMap::new();
    let mut first_ms: HashMap<&StudentId, u64> = HashMap::new();
    for request in &requests {
        first_ms.entry(&request.student_id).or_insert(request.arrival_ms);
        for section in &request.adds {
            *adds.entry(section).or_default() += 1.0;
            wanted.entry(section).or_default().insert(&request.student_id);
        }
    }
    let mut counts: Vec<f64> = adds.into_values().collect();
    counts.sort_by(|a, b| b.total_cmp(a));
    let total: f64 = counts.iter().sum();
    let sections = bundle.sections.len() as f64;
    let top = |share: f64| counts.iter().take((sections * share).round() as usize).sum::<f64>() / total;
    let oversubscribed = bundle.sections.iter().filter(|section| {
        let demand = wanted.get(&section.id).map_or(0, HashSet::len);
        section.capacity.is_some_and(|seats| demand > seats as usize)
    });
    let share = |part: usize, of: usize| part as f64 / of as f64;
    Measured {
        requests_per_student: share(requests.len(), bundle.students.len()),
        double_click_share: share(rows.len() - requests.len(), rows.len()),
        drop_share: share(requests.iter().filter(|request| !request.drops.is_empty()).count(), requests.len()),
        top_1_percent_share: top(0.01),
        top_10_percent_share: top(0.1),
        oversubscribed_share: oversubscribed.count() as f64 / sections,
        opening_minute_share: share(first_ms.values().filter(|ms| **ms < 60_000).count(), first_ms.len()),
        linked_section_share: share(
            bundle.sections.iter().filter(|section| !section.component.is_empty()).count(),
            bundle.sections.len(),
        ),
    }
}

#[track_caller]
fn check(students: u32, sections: u32, seed: u64) {
    let bundle = generate(Spec::try_new(students, sections, seed).unwrap());
    assert_eq!((bundle.students.len(), bundle.sections.len()), (students as usize, sections as usize), "seed {seed}");
    let last = bundle.registrations.last().unwrap();
    assert!(bundle.registrations.is_sorted_by_key(|row| row.arrival_ms) && last.arrival_ms < 960_000, "seed {seed}");
    let is = measure(&bundle);
    for (what, is, wanted, tolerance) in [
        ("requests a student", is.requests_per_student, 5.2, 0.2),
        ("double clicks", is.double_click_share, 0.07, 0.01),
        ("drops", is.drop_share, 0.04, 0.01),
        ("adds of the top 1 %", is.top_1_percent_share, 0.2, 0.03),
        ("adds of the top 10 %", is.top_10_percent_share, 0.75, 0.03),
        ("oversubscribed sections", is.oversubscribed_share, 0.5, 0.01),
        ("first clicks in the opening minute", is.opening_minute_share, 0.5, 0.05),
        ("linked sections", is.linked_section_share, 0.37, 0.15),
    ] {
        assert!((is - wanted).abs() <= tolerance, "seed {seed}, {students} x {sections}: {what}: {is}, not {wanted}");
    }
}

#[test]
fn proportions_are_those_of_real_mornings() {
    for seed in 1..=8 {
        check(1_000, 200, seed);
        check(3_000, 400, seed);
        check(1_500, 500, seed);
    }
    check(16_000, 2_000, 1);
}

#[test]
fn the_seed_decides_everything() {
    let campus = |seed| generate(Spec::try_new(200, 40, seed).unwrap());
    assert_eq!(campus(7), campus(7));
    assert_ne!(campus(7), campus(8));
}

#[test]
fn a_linked_course_is_added_with_lecture_and_lab() {
    let bundle = generate(Spec::try_new(500, 100, 5).unwrap());
    let components: HashMap<_, _> =
        bundle.sections.iter().map(|section| (&section.id, (&section.course_id, section.component.as_str()))).collect();
    for request in &bundle.registrations {
        for together in [&request.adds, &request.drops] {
            let parts: Vec<_> = together.iter().map(|section| components[section]).collect();
            match parts[..] {
                [] | [(_, "")] => {}
                [(lecture, first), (lab, second)] => {
                    assert_eq!(lecture, lab, "seed 5: {request:?}");
                    assert!(first.ends_with("/1") && second.ends_with("/2"), "seed 5: {request:?}");
                }
                _ => panic!("seed 5: {request:?}"),
            }
        }
    }
}

#[test]
fn one_seed_in_full() {
    let bundle = generate(Spec::try_new(3, 12, 21).unwrap());
    let mut shown = String::new();
    for section in &bundle.sections {
        let seats = section.capacity.unwrap();
        shown += &format!("{} {:?} {:?}, {seats} seats\n", section.id, section.component, section.meetings);
    }
    for row in &bundle.registrations {
        let ids = |sections: &[SectionId]| sections.iter().map(SectionId::as_str).collect::<Vec<_>>().join("|");
        shown += &format!("{} ms {} +{} -{}\n", row.arrival_ms, row.key, ids(&row.adds), ids(&row.drops));
    }
    insta::assert_snapshot!(shown, @r#"
    C001-L1 "" "MWF 10:00-10:50", 1 seats
    C001-L2 "" "MWF 14:00-14:50", 5 seats
    C001-L3 "" "TR 08:00-09:15", 1 seats
    C001-L4 "" "TR 14:00-15:15", 4 seats
    C002-L1 "" "TR 15:30-16:45", 1 seats
    C002-L2 "" "MWF 16:00-16:50", 1 seats
    C003-L1 "3/1" "TR 12:30-13:45", 3 seats
    C003-B1 "3/2" "W 10:00-11:50", 4 seats
    C003-B2 "3/2" "R 14:00-15:50", 9 seats
    C003-L2 "3/1" "MWF 08:00-08:50", 1 seats
    C003-B3 "3/2" "T 18:00-19:50", 2 seats
    C003-B4 "3/2" "M 16:00-17:50", 6 seats
    28229 ms S000002-1 +C002-L2 -
    36454 ms S000002-2 +C003-L2|C003-B3 -
    60833 ms S000003-1 +C002-L2 -
    62102 ms S000002-3 +C001-L3 -
    66378 ms S000002-4 +C002-L2 -
    77342 ms S000003-2 + -C002-L2
    77691 ms S000003-2 + -C002-L2
    81687 ms S000002-5 +C002-L1 -
    82052 ms S000003-3 +C001-L3 -
    88256 ms S000003-4 +C003-L2|C003-B3 -
    92258 ms S000002-6 +C001-L3 -
    127617 ms S000003-5 +C001-L1 -
    131317 ms S000003-6 +C003-L1|C003-B2 -
    153759 ms S000002-7 +C002-L1 -
    590092 ms S000001-1 +C002-L2 -
    640518 ms S000001-2 +C001-L2 -
    655459 ms S000001-3 +C003-L2|C003-B3 -
    719268 ms S000001-4 +C001-L1 -
    738793 ms S000001-5 +C001-L1 -
    743759 ms S000001-6 +C002-L1 -
    "#);
}

#[test]
fn sizes_that_are_refused() {
    assert_eq!(Spec::try_new(0, 1, 1), Err(SpecError::Students(0)));
    assert_eq!(Spec::try_new(1, 0, 1), Err(SpecError::Sections(0)));
    assert_eq!(Spec::try_new(1_000_000, 1, 1).unwrap_err().to_string(), "1000000 students: use 1 to 999999");
}
