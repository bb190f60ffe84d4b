//! Tables of cases, one a rule: a student, what is asked for, and every reason against it.

use matricula_kit::answer::Reason::*;

use super::*;
use crate::domain::fixture::{AFTER, BEFORE, NOW, catalog, change, context, student};
use crate::domain::student::Student;

mod clicks;
mod closed;
mod credits;
mod required;
mod times;

fn reasons(student: &Student, adds: &str, drops: &str) -> Vec<Refusal> {
    let (catalog, change, context) = (catalog(), change(adds, drops), context());
    super::check(&RuleContext::new(&catalog, student, &change, &context))
}

/// Each expected reason is `REASON section conflicts_with`, with `-` for none.
#[track_caller]
fn check(student: Student, adds: &str, drops: &str, expect: &[&str]) {
    let reasons = reasons(&student, adds, drops);
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let shown: Vec<String> = reasons
        .iter()
        .map(|refusal| {
            let section = refusal.section.as_ref().map_or("", |section| section.as_str());
            format!("{} {} {}", refusal.reason.name(), or_dash(section), or_dash(&refusal.conflicts_with))
        })
        .collect();
    assert_eq!(shown, expect, "+[{adds}] -[{drops}]");
    for refusal in reasons {
        assert!(!refusal.message.is_empty() && !refusal.next_step.is_empty(), "{refusal:?}");
    }
}

#[track_caller]
fn check_sentence(student: Student, adds: &str, drops: &str, message: &str, next_step: &str) {
    let reasons = reasons(&student, adds, drops);
    let [refusal] = reasons.as_slice() else { panic!("one reason expected: {reasons:?}") };
    assert_eq!((refusal.message.as_str(), refusal.next_step.as_str()), (message, next_step));
}

#[test]
fn outside_appointment() {
    check(student().appointment(BEFORE, AFTER), "MATH-1", "", &[]);
    check(student().appointment(NOW, NOW), "MATH-1", "", &[]);
    check(student().appointment(AFTER, AFTER), "MATH-1", "", &["OUTSIDE_APPOINTMENT - -"]);
    check(student().appointment(BEFORE, BEFORE), "MATH-1", "", &["OUTSIDE_APPOINTMENT - -"]);
    check(student().appointment(AFTER, AFTER).enrolled("MATH-1"), "", "MATH-1", &["OUTSIDE_APPOINTMENT - -"]);
    check(student().appointment(AFTER, AFTER).permit(OutsideAppointment, ""), "MATH-1", "", &[]);
    check(student().appointment(AFTER, AFTER).permit(OutsideAppointment, "MATH-1"), "MATH-1", "", &[]);
    let for_one = student().appointment(AFTER, AFTER).permit(OutsideAppointment, "MATH-1");
    check(for_one, "MATH-1 BIO-1 CHEM-A CHEM-LA", "", &["OUTSIDE_APPOINTMENT - -"]);
}

#[test]
fn holds() {
    check(student().hold("h1").hold("h2"), "MATH-1", "", &["HOLD - h1", "HOLD - h2"]);
    check(student().hold("h1"), "", "", &["HOLD - h1"]);
    check(student().hold("h1").permit(Hold, ""), "MATH-1", "", &[]);
    check(student().hold("h1").permit(Hold, "MATH-2"), "MATH-1", "", &["HOLD - h1"]);
    check(student().hold("h1").permit_until(Hold, "", BEFORE), "MATH-1", "", &["HOLD - h1"]);
    check(student().hold("h1").permit_until(Hold, "", NOW), "MATH-1", "", &[]);
}

#[test]
fn sections_not_found_or_cancelled() {
    check(student(), "NO-1 MATH-1", "NO-2", &["SECTION_NOT_FOUND NO-1 -", "SECTION_NOT_FOUND NO-2 -"]);
    check(student().permit(PermissionRequired, "ART-X"), "ART-X", "", &["SECTION_CANCELLED ART-X -"]);
    check(student().enrolled("ART-X"), "", "ART-X", &[]);
}

#[test]
fn permission_required() {
    check(student(), "ART-1", "", &["PERMISSION_REQUIRED ART-1 -"]);
    check(student().permit(PermissionRequired, "ART-X"), "ART-1", "", &["PERMISSION_REQUIRED ART-1 -"]);
    check(student().permit(PermissionRequired, "ART-1"), "ART-1", "", &[]);
    check(student().enrolled("ART-1"), "", "ART-1", &[]);
}

#[test]
fn deadlines() {
    check(student(), "LATIN-1", "", &["ADD_DEADLINE_PASSED LATIN-1 -"]);
    check(student().enrolled("LATIN-1"), "", "LATIN-1", &["DROP_DEADLINE_PASSED LATIN-1 -"]);
    let both = ["ADD_DEADLINE_PASSED LATIN-2 -", "DROP_DEADLINE_PASSED LATIN-1 -"];
    check(student().enrolled("LATIN-1"), "LATIN-2", "LATIN-1", &both);
    check(student().permit(AddDeadlinePassed, "LATIN-1"), "LATIN-1", "", &[]);
    check(student().enrolled("LATIN-1").permit(DropDeadlinePassed, ""), "", "LATIN-1", &[]);
    check(
        student().enrolled("LATIN-1").permit(AddDeadlinePassed, ""),
        "",
        "LATIN-1",
        &["DROP_DEADLINE_PASSED LATIN-1 -"],
    );
}

#[test]
fn already_enrolled_or_not_enrolled() {
    check(student().enrolled("MATH-1"), "MATH-1", "", &["ALREADY_ENROLLED MATH-1 -"]);
    check(student(), "", "MATH-1", &["NOT_ENROLLED MATH-1 -"]);
    let both = ["ALREADY_ENROLLED MATH-1 -", "NOT_ENROLLED BIO-1 -"];
    check(student().enrolled("MATH-1"), "MATH-1", "BIO-1", &both);
}

#[test]
fn duplicate_course() {
    check(student().enrolled("MATH-1"), "MATH-2", "", &["DUPLICATE_COURSE MATH-2 MATH-1"]);
    check(student().pending("MATH-1"), "MATH-2", "", &["DUPLICATE_COURSE MATH-2 MATH-1"]);
    check(student(), "MATH-2 MATH-1", "", &["DUPLICATE_COURSE MATH-1 MATH-2"]);
    check(student().enrolled("MATH-1"), "MATH-2", "MATH-1", &[]);
    check(student().leaving("MATH-1"), "MATH-2", "", &["DUPLICATE_COURSE MATH-2 MATH-1"]);
    check(student().enrolled("MATH-1"), "MATH-S", "", &["DUPLICATE_COURSE MATH-S MATH-1"]);
    check(student().enrolled("MATH-1").permit(DuplicateCourse, "MATH-2"), "MATH-2", "", &[]);
    check(student().completed("MATH", "F"), "MATH-1", "", &[]);
    check(student().enrolled("MATH-U"), "MATH-1", "", &["DUPLICATE_COURSE MATH-1 MATH-U"]);
}

#[test]
fn link_required() {
    check(student(), "CHEM-A CHEM-LA", "", &[]);
    check(student(), "CHEM-A", "", &["LINK_REQUIRED CHEM-A 1/lab"]);
    check(student(), "CHEM-T", "", &["LINK_REQUIRED CHEM-T 2/seminar"]);
    check(student(), "CHEM-A CHEM-LA CHEM-LB", "", &["LINK_REQUIRED CHEM-A 1/lab"]);
    check(student(), "CHEM-A CHEM-S", "", &["LINK_REQUIRED CHEM-A 2/seminar"]);
    let taken = || student().enrolled("CHEM-A CHEM-LA");
    check(taken(), "", "CHEM-A CHEM-LA", &[]);
    check(taken(), "", "CHEM-LA", &["LINK_REQUIRED CHEM-LA 1/lab"]);
    check(taken(), "CHEM-LB", "CHEM-LA", &[]);
    check(taken(), "CHEM-LB", "", &["LINK_REQUIRED CHEM-LB 1/lab"]);
    check(taken(), "CHEM-S CHEM-T", "CHEM-A CHEM-LA", &[]);
    check(taken(), "CHEM-S CHEM-T", "CHEM-A", &["LINK_REQUIRED CHEM-S 2/seminar"]);
    check(taken(), "CHEM-B", "CHEM-LA", &["LINK_REQUIRED CHEM-B 1/lecture", "LINK_REQUIRED CHEM-B 1/lab"]);
    check(taken(), "MATH-1", "", &[]);
    check(student().permit(LinkRequired, "CHEM-A"), "CHEM-A", "", &[]);
    check(taken().permit(LinkRequired, "CHEM-LA"), "", "CHEM-LA", &[]);
}

#[test]
fn every_reason_is_told_in_a_stable_order() {
    let student = student().closed().appointment(AFTER, AFTER).hold("h1").enrolled("MATH-1").max_credits(3);
    check(
        student,
        "NO-1 MATH-2 PHYS-1 BIO-1 CHEM-A LATIN-1 ART-X LAW-1 DANCE-C MATH-1",
        "PHYS-2",
        &[
            "STUDENT_NOT_ACTIVE - -",
            "OUTSIDE_APPOINTMENT - -",
            "HOLD - h1",
            "SECTION_NOT_FOUND NO-1 -",
            "SECTION_CANCELLED ART-X -",
            "COURSE_NOT_OFFERED LAW-1 -",
            "TERM_CLOSED DANCE-C -",
            "PERMISSION_REQUIRED ART-X -",
            "ADD_DEADLINE_PASSED LATIN-1 -",
            "ALREADY_ENROLLED MATH-1 -",
            "NOT_ENROLLED PHYS-2 -",
            "DUPLICATE_COURSE MATH-2 MATH-1",
            "LINK_REQUIRED CHEM-A 1/lab",
            "PREREQUISITE_NOT_MET PHYS-1 MATH",
            "TIME_CONFLICT PHYS-1 MATH-1",
            "MAX_CREDITS_EXCEEDED - fall",
        ],
    );
}

#[test]
fn sentences_name_things() {
    check_sentence(
        student().appointment(AFTER, AFTER),
        "MATH-1",
        "",
        "Your enrollment appointment begins on 2026-08-17 08:01:00 UTC.",
        "Register again when your appointment has begun.",
    );
    check_sentence(
        student().hold("h1"),
        "MATH-1",
        "",
        "A hold on your record forbids registration: Library fine: pay at the desk.",
        "Clear the hold, then register again.",
    );
    check_sentence(
        student().completed("MATH", "A").enrolled("MATH-1"),
        "PHYS-1",
        "",
        "PHYS Introduction to PHYS (section PHYS-1) meets M 08:30-09:30, at the same time as MATH Introduction to MATH \
         (section MATH-1), which meets M 08:00-09:00: Monday 2026-08-24 08:30-09:00.",
        "Choose a section at another time, or drop MATH-1 in the same registration.",
    );
    check_sentence(
        student(),
        "CHEM-A",
        "",
        "CHEM Introduction to CHEM (section CHEM-A) is taken with a class of component 1/lab, which is missing.",
        "In the same registration, add CHEM-LA or CHEM-LB, or leave the whole course.",
    );
    check_sentence(
        student().max_credits(2),
        "MATH-1",
        "",
        "This would make 3 credits in Term fall, and your limit is 2: you have 0 and add 3.",
        "Drop a course in the same registration, or ask your advisor for a higher limit.",
    );
    check_sentence(
        student().enrolled("CHEM-A CHEM-LA BIO-1"),
        "",
        "CHEM-A CHEM-LA",
        "BIO Introduction to BIO (section BIO-1) is taken together with CHEM, so CHEM Introduction to CHEM (section \
         CHEM-A) can't go alone.",
        "Drop BIO-1 too, or keep CHEM-A.",
    );
}

#[test]
fn credits_are_shown_as_people_write_them() {
    for (hundredths, expect) in [(0, "0"), (300, "3"), (150, "1.5"), (125, "1.25"), (1_000, "10")] {
        assert_eq!(shown_credits(hundredths), expect);
    }
}
