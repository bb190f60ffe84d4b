//! Sequences of commands, chosen and random. The record stays sound, whatever is settled or compensated.

use matricula_kit::named::NamedValue as _;
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::domain::catalog::CatalogChanges;
use crate::domain::clash::Clash;
use crate::domain::fixture::{NOW, catalog, change, course, saga, section, student, term};

mod roster;

fn world(student: Student) -> World {
    world_of(Arc::new(catalog()), [student])
}

fn world_of<const STUDENTS: usize>(catalog: Arc<Catalog>, students: [Student; STUDENTS]) -> World {
    let students = students.into_iter().map(|student| (student.profile.id.clone(), student)).collect();
    World { catalog, students, zone: TimeZone::UTC }
}

fn reserve(adds: &str, drops: &str) -> Action {
    Action::Reserve(change(adds, drops))
}

impl World {
    fn act(&mut self, registration: &SagaId, action: &Action) -> Answer {
        let (registration, action) = (registration.clone(), action.clone());
        self.decide(&Command { registration, student: student().profile.id, action }, NOW)
    }
}

/// What is on the record: `section registration STATUS credits dropped_by`.
fn record(world: &World) -> Vec<String> {
    let courses = world.students.values().flat_map(|student| &student.courses);
    let shown = courses.map(|course| {
        let dropped_by = course.dropped_by.as_ref().map_or("-", |saga| saga.as_str());
        let (section, registration) = (&course.section, &course.registration);
        format!("{section} {registration} {} {} {dropped_by}", course.status.name(), course.credits_hundredths)
    });
    shown.collect()
}

/// Runs a script of (registration, action) and compares the answers, in a word each, and the record after it.
#[track_caller]
fn check(student: Student, script: &[(&str, Action)], answers: &str, expect: &[&str]) {
    let mut world = world(student);
    let answered: Vec<String> = script
        .iter()
        .map(|(registration, action)| match world.act(&saga(registration), action) {
            Answer::Done(_) => "done".to_owned(),
            Answer::Refused(reasons) => reasons[0].reason.name().to_owned(),
            Answer::NotYet(not_yet) => not_yet.reason,
        })
        .collect();
    assert_eq!(answered.join(" "), answers);
    assert_eq!(record(&world), expect);
}

#[test]
fn reserve_remove_settle() {
    check(student(), &[("r1", reserve("MATH-1", ""))], "done", &["MATH-1 r1 PENDING 300 -"]);
    let removed = [("r1", reserve("MATH-1", "")), ("r1", Action::Remove)];
    check(student(), &removed, "done done", &["MATH-1 r1 CANCELLED 300 -"]);
    let settled = [("r1", reserve("MATH-1", "")), ("r1", Action::Settle)];
    check(student(), &settled, "done done", &["MATH-1 r1 ENROLLED 300 -"]);
}

#[test]
fn a_swap_keeps_the_old_seat_until_it_is_settled() {
    let swap = ("r1", reserve("MATH-2", "MATH-1"));
    let start = || student().enrolled("MATH-1");
    check(start(), std::slice::from_ref(&swap), "done", &["MATH-1 old ENROLLED 300 r1", "MATH-2 r1 PENDING 300 -"]);
    check(
        start(),
        &[swap.clone(), ("r1", Action::Remove)],
        "done done",
        &["MATH-1 old ENROLLED 300 -", "MATH-2 r1 CANCELLED 300 -"],
    );
    check(
        start(),
        &[swap, ("r1", Action::Settle)],
        "done done",
        &["MATH-1 old DROPPED 300 r1", "MATH-2 r1 ENROLLED 300 -"],
    );
}

#[test]
fn a_refusal_changes_nothing() {
    let script = [("r1", reserve("MATH-2", "")), ("r1", reserve("BIO-1", "MATH-1"))];
    let answers = "DUPLICATE_COURSE COREQUISITE_REQUIRED";
    check(student().enrolled("MATH-1"), &script, answers, &["MATH-1 old ENROLLED 300 -"]);
}

#[test]
fn what_an_earlier_registration_holds_waits_for_it() {
    let waits = "EARLIER_REGISTRATION_PENDING";
    let pending = "MATH-1 other PENDING 300 -";
    check(student().pending("MATH-1"), &[("r1", reserve("", "MATH-1"))], waits, &[pending]);
    check(student().pending("MATH-1"), &[("r1", reserve("MATH-1", ""))], waits, &[pending]);
    let leaves = || student().leaving("MATH-1");
    check(leaves(), &[("r1", reserve("MATH-1", ""))], waits, &["MATH-1 old ENROLLED 300 other"]);
    check(leaves(), &[("r1", reserve("MATH-2", "MATH-1"))], waits, &["MATH-1 old ENROLLED 300 other"]);
    let after = [("other", Action::Settle), ("r1", reserve("", "MATH-1"))];
    check(student().pending("MATH-1"), &after, "done done", &["MATH-1 other ENROLLED 300 r1"]);
    let undone = [("other", Action::Remove), ("r1", reserve("MATH-1", ""))];
    let expect = ["MATH-1 other CANCELLED 300 -", "MATH-1 r1 PENDING 300 -"];
    check(student().pending("MATH-1"), &undone, "done done", &expect);
}

/// The registration that others wait for is the one that is not settled: the one that adds, or the one that drops.
#[test]
fn who_waits_says_for_which_registration() {
    let waits_for = |student: Student| match world(student).act(&saga("r1"), &reserve("", "MATH-1")) {
        Answer::NotYet(not_yet) => not_yet.waits_for,
        other => panic!("{other:?}"),
    };
    assert_eq!(waits_for(student().pending("MATH-1")), Some(saga("other")));
    assert_eq!(waits_for(student().leaving("MATH-1")), Some(saga("other")), "and not the one that had added it");
}

#[test]
fn operations_of_one_batch_see_each_other() {
    let script = [
        ("r1", reserve("MATH-1", "")),
        ("r2", reserve("MATH-2", "")),
        ("r1", Action::Remove),
        ("r2", reserve("MATH-2", "")),
    ];
    let expect = ["MATH-1 r1 CANCELLED 300 -", "MATH-2 r2 PENDING 300 -"];
    check(student(), &script, "done DUPLICATE_COURSE done done", &expect);
}

#[test]
fn one_part_carries_the_credits() {
    let script = [
        ("r1", reserve("CHEM-LA CHEM-A", "")),
        ("r1", Action::Settle),
        ("r2", reserve("CHEM-LB", "CHEM-LA")),
        ("r2", Action::Settle),
        ("r3", reserve("CHEM-B", "CHEM-A")),
    ];
    let expect =
        ["CHEM-LA r1 DROPPED 0 r2", "CHEM-A r1 ENROLLED 400 r3", "CHEM-LB r2 ENROLLED 0 -", "CHEM-B r3 PENDING 400 -"];
    check(student(), &script, "done done done done done", &expect);
}

#[test]
fn done_tells_what_later_steps_need() {
    let student =
        student().enrolled("MATH-1").permit(Reason::ClosedSection, "").permit(Reason::ClosedSection, "CHEM-A");
    let answer = world(student).act(&saga("r1"), &reserve("CHEM-LA CHEM-A", "MATH-1"));
    let Answer::Done(done) = answer else { panic!("{answer:?}") };
    let added = done.added.iter().map(|added| {
        let permit = added.closed_section_override.as_ref().map_or("-", |id| id.as_str());
        format!(
            "{} {} {} {} {} {permit}",
            added.section, added.course, added.component, added.credits_hundredths, added.term
        )
    });
    assert_eq!(added.collect::<Vec<_>>(), ["CHEM-LA c-CHEM 1/lab 0 fall o0", "CHEM-A c-CHEM 1/lecture 400 fall o1"]);
    let dropped = done.dropped.iter().map(|drop| format!("{} {} {}", drop.section, drop.course, drop.registration));
    assert_eq!(dropped.collect::<Vec<_>>(), ["MATH-1 c-MATH old"]);
}

#[test]
fn a_student_who_is_not_on_record() {
    let mut world = world_of(Arc::new(catalog()), []);
    let refused = world.act(&saga("r1"), &reserve("MATH-1", ""));
    let Answer::Refused(reasons) = refused else { panic!("{refused:?}") };
    assert_eq!(reasons[0].reason, Reason::StudentNotFound);
    assert_eq!(world.act(&saga("r1"), &Action::Settle), Answer::done());
    assert_eq!(world.act(&saga("r1"), &Action::Remove), Answer::done());
}

const SECTIONS: [(&str, &str); 12] = [
    ("A-1", ""),
    ("A-2", ""),
    ("B-1", ""),
    ("B-2", ""),
    ("C-1", ""),
    ("D-1", "1/lecture"),
    ("D-2", "1/lecture"),
    ("D-3", "1/lab"),
    ("D-4", "1/lab"),
    ("D-5", "2/all"),
    ("E-1", "1/x"),
    ("E-2", "1/y"),
];

/// A campus of these sections, each meeting on a day and hour, and a limit of ten credits.
fn campus(hours: &[(usize, u8)]) -> Catalog {
    let courses = ["A", "B", "C", "D", "E"];
    let courses = courses.iter().enumerate().map(|(index, code)| course(code, index as i32 + 2, "", "")).collect();
    let sections = SECTIONS.iter().zip(hours).map(|((id, component), (day, hour))| {
        let day = &"MTWRFSU"[*day..=*day];
        section(id, "fall", component, &format!("{day} {hour:02}:00-{:02}:30", hour + 1))
    });
    let changes = CatalogChanges { terms: vec![term("fall", None, 1_000)], courses, sections: sections.collect() };
    Catalog::default().merged(&changes).expect("a sound campus")
}

/// What is wrong with the courses in force.
fn faults(catalog: &Catalog, student: &Student) -> Vec<String> {
    let mut faults = Vec::new();
    let sections: Vec<&Section> =
        student.in_force().map(|course| catalog.section(&course.section).expect("in the catalogue")).collect();
    for (index, one) in sections.iter().enumerate() {
        for other in &sections[..index] {
            if Clash::of(one, other).is_some() {
                faults.push(format!("{} and {} clash", one.id, other.id));
            }
        }
    }
    let mut courses: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for section in &sections {
        let component = section.component.as_ref().map(ToString::to_string).unwrap_or_default();
        courses.entry(&section.course.code).or_default().push(component);
    }
    let whole: BTreeSet<Vec<&str>> =
        [vec![""], vec!["1/lab", "1/lecture"], vec!["2/all"], vec!["1/x", "1/y"]].into_iter().collect();
    for (code, parts) in &mut courses {
        parts.sort_unstable();
        if !whole.contains(&parts.iter().map(String::as_str).collect::<Vec<_>>()) {
            faults.push(format!("{code} is taken as {parts:?}"));
        }
    }
    let credits: i32 = student.in_force().map(|course| course.credits_hundredths).sum();
    let distinct: BTreeMap<_, _> =
        sections.iter().map(|section| (&section.course.id, section.course.credits_hundredths)).collect();
    if credits != distinct.values().sum::<i32>() || credits > 1_000 {
        faults.push(format!("{credits} credits are carried for {distinct:?}"));
    }
    faults
}

/// What a student might well add at a time; some of it is not a whole course.
const BUNDLES: [&str; 14] =
    ["A-1", "A-2", "B-1", "B-2", "C-1", "D-1 D-3", "D-2 D-4", "D-5", "E-1 E-2", "D-1", "D-2", "D-3", "D-4", "E-1"];

/// A request at random: bundles to add, and which of the courses in force to drop, as bits.
#[derive(Debug, Clone)]
struct Request {
    bundles: Vec<&'static str>,
    drops: u16,
    settles: bool,
    open_max: usize,
}

fn any_request() -> impl Strategy<Value = Request> {
    let bundles = prop::sample::subsequence(BUNDLES.to_vec(), 0..3);
    // Two masks on top of each other: mostly nothing or one course is dropped.
    let parts = (bundles, any::<u16>(), any::<u16>(), any::<bool>(), 0..3_usize);
    parts.prop_map(|(bundles, one, other, settles, open_max)| Request {
        bundles,
        drops: one & other,
        settles,
        open_max,
    })
}

impl Request {
    fn action(&self, student: &Student) -> Action {
        let drops = student.in_force().enumerate().filter(|(index, _)| self.drops >> index & 1 == 1);
        let drops: Vec<&str> = drops.map(|(_, course)| course.section.as_str()).collect();
        let adds: BTreeSet<&str> = self.bundles.iter().flat_map(|bundle| bundle.split(' ')).collect();
        let adds: Vec<&str> = adds.into_iter().filter(|add| !drops.contains(add)).collect();
        reserve(&adds.join(" "), &drops.join(" "))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Registrations are reserved one after the other while earlier ones are open, then each is settled or taken back,
    /// in any order. No mix of them leaves a record that breaks a rule.
    #[test]
    fn no_interleaving_breaks_the_record(
        hours in prop::collection::vec((0..3_usize, 8..11_u8), SECTIONS.len()),
        requests in prop::collection::vec(any_request(), 1..12),
    ) {
        let catalog = Arc::new(campus(&hours));
        let id = student().profile.id;
        let mut world = world_of(catalog.clone(), [student()]);
        let mut open: Vec<(SagaId, bool)> = Vec::new();
        for (number, request) in requests.iter().enumerate() {
            let registration = saga(&format!("r{number}"));
            let action = request.action(&world.students[&id]);
            if let Answer::Done(_) = world.act(&registration, &action) {
                open.push((registration, request.settles));
            }
            while open.len() > request.open_max {
                let (registration, settles) = open.swap_remove(number % open.len());
                let end = if settles { Action::Settle } else { Action::Remove };
                prop_assert_eq!(world.act(&registration, &end), Answer::done());
            }
        }
        for (registration, settles) in open {
            let end = if settles { Action::Settle } else { Action::Remove };
            prop_assert_eq!(world.act(&registration, &end), Answer::done());
        }
        let student = &world.students[&id];
        prop_assert!(student.in_force().all(|course| !course.is_unsettled()));
        prop_assert_eq!(faults(&catalog, student), Vec::<String>::new());
    }
}
