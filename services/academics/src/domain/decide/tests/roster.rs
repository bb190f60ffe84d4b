//! Rosters: no rule of registration is asked, nothing on the record becomes wrong, and a full section is no obstacle.

use super::*;
use crate::domain::fixture::{NOW, section_id};
use matricula_kit::source::Source;

fn take_over(adds: &str, drops: &str) -> Action {
    Action::TakeOver(change(adds, drops))
}

#[test]
fn rules_of_registration_are_not_asked() {
    let refused = |sections: &str| check(student().hold("fine"), &[("r1", reserve(sections, ""))], "HOLD", &[]);
    for (section, credits) in
        [("PHYS-1", 400), ("BIO-1", 300), ("ART-1", 200), ("ART-X", 200), ("LATIN-1", 200), ("CHEM-LA", 400)]
    {
        refused(section);
        let script = [("r1", take_over(section, "")), ("r1", Action::Settle)];
        let record = format!("{section} r1 ENROLLED {credits} -");
        check(student().hold("fine"), &script, "done done", &[record.as_str()]);
    }
    // MATH-1 meets when PHYS-1 meets, and the limit of the term is 12 credits.
    let script = [("r1", take_over("PHYS-1", "")), ("r2", take_over("OPUS-1", ""))];
    let record = ["MATH-1 old ENROLLED 300 -", "PHYS-1 r1 PENDING 400 -", "OPUS-1 r2 PENDING 900 -"];
    check(student().enrolled("MATH-1"), &script, "done done", &record);
    check(student().enrolled("LATIN-1"), &[("r1", take_over("", "LATIN-1"))], "done", &["LATIN-1 old ENROLLED 200 r1"]);
}

#[test]
fn a_closed_student_is_taken_over() {
    let mut closed = student();
    closed.profile.closed = true;
    check(closed, &[("r1", take_over("MATH-1", ""))], "done", &["MATH-1 r1 PENDING 300 -"]);
}

#[test]
fn nothing_becomes_wrong() {
    let has_math = ["MATH-1 old ENROLLED 300 -"];
    let start = || student().enrolled("MATH-1");
    check(start(), &[("r1", take_over("MATH-1", ""))], "ALREADY_ENROLLED", &has_math);
    check(start(), &[("r1", take_over("MATH-2", ""))], "DUPLICATE_COURSE", &has_math);
    check(start(), &[("r1", take_over("MATH-S", ""))], "DUPLICATE_COURSE", &has_math);
    let permitted = start().permit(Reason::DuplicateCourse, "");
    check(permitted, &[("r1", take_over("MATH-2", ""))], "DUPLICATE_COURSE", &has_math);
    check(start(), &[("r1", take_over("", "MATH-2"))], "NOT_ENROLLED", &has_math);
    check(start(), &[("r1", take_over("NONE-1", ""))], "SECTION_NOT_FOUND", &has_math);
    check(student(), &[("r1", take_over("MATH-1 MATH-2", ""))], "DUPLICATE_COURSE", &[]);
    let pending = ["MATH-1 other PENDING 300 -"];
    let waits = "EARLIER_REGISTRATION_PENDING";
    check(student().pending("MATH-1"), &[("r1", take_over("MATH-1", ""))], waits, &pending);
    // The parts of a course are different places.
    let parts = ["CHEM-A old ENROLLED 400 -", "CHEM-LA r1 PENDING 0 -"];
    check(student().enrolled("CHEM-A"), &[("r1", take_over("CHEM-LA", ""))], "done", &parts);
}

#[test]
fn a_row_that_moves_swaps() {
    let script = [("r1", take_over("MATH-2", "MATH-1")), ("r1", Action::Settle)];
    let record = ["MATH-1 old DROPPED 300 r1", "MATH-2 r1 ENROLLED 300 -"];
    check(student().enrolled("MATH-1"), &script, "done done", &record);
}

#[test]
fn an_override_of_the_import_lets_into_a_full_section() {
    let mut world = world(student());
    let answer = world.act(&saga("r1"), &take_over("MATH-1 PHYS-1", ""));
    let Answer::Done(done) = answer else { panic!("{answer:?}") };
    let named = done.added.iter().map(|added| added.closed_section_override.clone().expect("an override"));
    let named: Vec<_> = named.collect();
    let granted = &world.students[&student().profile.id].granted;
    assert_eq!(granted.iter().map(|it| it.id.clone()).collect::<Vec<_>>(), named);
    assert_eq!(named.iter().map(|id| id.as_str()).collect::<Vec<_>>(), ["r1:0", "r1:1"]);
    let first = &granted[0];
    assert_eq!((first.section.as_ref(), first.reason), (Some(&section_id("MATH-1")), Reason::ClosedSection));
    assert_eq!((first.granted_by.as_str(), first.source), ("import", Source::Bundle));
    assert_eq!((first.granted_at, first.valid_until), (NOW, Some(NOW)), "no later registration can use it");
}

#[test]
fn an_override_of_staff_goes_before_the_import_s() {
    let mut world = world(student().permit(Reason::ClosedSection, "MATH-1"));
    let answer = world.act(&saga("r1"), &take_over("MATH-1", ""));
    let Answer::Done(done) = answer else { panic!("{answer:?}") };
    assert_eq!(done.added[0].closed_section_override.as_ref().map(|id| id.as_str()), Some("o0"));
    assert!(world.students[&student().profile.id].granted.is_empty());
}

#[test]
fn what_ends_or_is_refused_grants_nothing() {
    for (start, action) in [
        (student().enrolled("MATH-1"), take_over("", "MATH-1")),
        (student().enrolled("MATH-1"), take_over("MATH-2", "")),
        (student(), reserve("MATH-1", "")),
    ] {
        let mut world = world(start);
        world.act(&saga("r1"), &action);
        assert!(world.students[&student().profile.id].granted.is_empty(), "{action:?}");
    }
}
