//! Prerequisites and corequisites: which grades and which terms count, and what a drop would break.

use super::*;

#[test]
fn completed_courses_count_by_their_grade() {
    let refused = ["PREREQUISITE_NOT_MET PHYS-2 MATH"];
    check(student(), "PHYS-2", "", &refused);
    check(student().completed("MATH", "D-"), "PHYS-2", "", &[]);
    check(student().completed("MATH", "P"), "PHYS-2", "", &[]);
    check(student().completed("MATH", "F"), "PHYS-2", "", &refused);
    check(student().completed("MATH", "F").completed("MATH", "C"), "PHYS-2", "", &[]);
    check(student().permit(PrerequisiteNotMet, "PHYS-2"), "PHYS-2", "", &[]);

    let opus = ["PREREQUISITE_NOT_MET OPUS-1 MATH:B and (PHYS or CHEM:C)"];
    check(student().completed("MATH", "B").completed("PHYS", "D"), "OPUS-1", "", &[]);
    check(student().completed("MATH", "B-").completed("PHYS", "A"), "OPUS-1", "", &opus);
    check(student().completed("MATH", "A").completed("CHEM", "C-"), "OPUS-1", "", &opus);
    check(student().completed("MATH", "P").completed("CHEM", "P"), "OPUS-1", "", &opus);
    check(student().enrolled("MATH-U").completed("CHEM", "P"), "OPUS-1", "", &[]);
    check(student().enrolled("MATH-1").completed("CHEM", "P"), "OPUS-1", "", &opus);
}

/// A course in progress counts when its term has ended before the section begins.
#[test]
fn courses_in_progress_count_by_their_term() {
    let refused = ["PREREQUISITE_NOT_MET PHYS-2 MATH"];
    check(student().enrolled("MATH-1"), "PHYS-2", "", &refused);
    check(student().enrolled("MATH-S"), "PHYS-2", "", &refused);
    check(student().enrolled("MATH-A"), "PHYS-2", "", &["PREREQUISITE_NOT_MET PHYS-2 MATH"]);
    check(student().enrolled("MATH-U"), "PHYS-2", "", &[]);
    check(student().pending("MATH-U"), "PHYS-2", "", &[]);
    check(student().leaving("MATH-U"), "PHYS-2", "", &refused);
    check(student().enrolled("MATH-A"), "PHYS-B", "", &[]);
    check(student().enrolled("MATH-B"), "PHYS-S", "", &[]);
    check(student().enrolled("MATH-1"), "PHYS-S", "", &[]);
    check(student().enrolled("MATH-1"), "PHYS-S", "MATH-1", &["PREREQUISITE_NOT_MET PHYS-S MATH"]);
    // Where dates are not known, only the same term does not count.
    check(student().enrolled("MATH-O"), "PHYS-O", "", &["PREREQUISITE_NOT_MET PHYS-O MATH"]);
    check(student().enrolled("MATH-O"), "PHYS-2", "", &[]);
    check(student().enrolled("MATH-S"), "PHYS-O", "", &[]);
    check_sentence(
        student().enrolled("MATH-1"),
        "PHYS-2",
        "",
        "PHYS Introduction to PHYS (section PHYS-2) asks for MATH, which you have neither completed nor in progress \
         before Term fall begins.",
        "Take the missing course first, or ask the department for an override.",
    );
}

#[test]
fn courses_of_the_same_registration_count_alike() {
    check(student(), "PHYS-2 MATH-1", "", &["PREREQUISITE_NOT_MET PHYS-2 MATH"]);
    check(student(), "PHYS-B MATH-A", "", &[]);
    check(student(), "MATH-1 PHYS-S", "", &[]);
    check(student(), "MATH-S PHYS-2", "", &["PREREQUISITE_NOT_MET PHYS-2 MATH"]);
    check(student(), "PHYS-B MATH-A", "MATH-2", &["NOT_ENROLLED MATH-2 -"]);
    check(student().enrolled("MATH-1"), "MATH-A PHYS-B", "MATH-1", &[]);
}

/// Of a term that has ended, the grade counts once it has come.
#[test]
fn a_grade_takes_the_place_of_its_course() {
    let refused = ["PREREQUISITE_NOT_MET PHYS-2 MATH"];
    check(student().enrolled("MATH-U").completed_in("MATH", "F", "summer"), "PHYS-2", "", &refused);
    check(student().enrolled("MATH-U").completed_in("MATH", "C", "summer"), "PHYS-2", "", &[]);
    check(student().enrolled("MATH-U").completed_in("MATH", "F", "spring"), "PHYS-2", "", &[]);
    check(student().enrolled("MATH-U").completed("MATH", "F"), "PHYS-2", "", &refused);
    check(student().enrolled("MATH-U").completed("CHEM", "F"), "PHYS-2", "", &[]);
    // The term has not ended: an earlier failure is no grade of it.
    check(student().enrolled("MATH-A").completed("MATH", "F"), "PHYS-B", "", &[]);
    check(student().enrolled("MATH-O").completed("MATH", "F"), "PHYS-2", "", &[]);
}

#[test]
fn a_swap_within_the_term_does_not_ask_again() {
    check(student().enrolled("PHYS-1"), "PHYS-2", "PHYS-1", &[]);
    check(student().enrolled("PHYS-1"), "PHYS-B", "PHYS-1", &["PREREQUISITE_NOT_MET PHYS-B MATH"]);
    check(student().enrolled("PHYS-1 MATH-A"), "PHYS-B", "PHYS-1", &[]);
    // A permit for the course in one term is none for another term.
    let permitted = student().permit(PrerequisiteNotMet, "PHYS-S").permit(DuplicateCourse, "");
    check(permitted, "PHYS-S PHYS-2", "", &["PREREQUISITE_NOT_MET PHYS-2 MATH"]);
}

#[test]
fn corequisites() {
    let refused = ["COREQUISITE_REQUIRED BIO-1 CHEM"];
    check(student(), "BIO-1", "", &refused);
    check(student(), "BIO-1 CHEM-A CHEM-LA", "", &[]);
    check(student().completed("CHEM", "D"), "BIO-1", "", &[]);
    check(student().completed("CHEM", "NP"), "BIO-1", "", &refused);
    check(student().pending("CHEM-A CHEM-LA"), "BIO-1", "", &[]);
    check(student().leaving("CHEM-A CHEM-LA"), "BIO-1", "", &refused);
    check(student().enrolled("CHEM-A CHEM-LA"), "BIO-1", "CHEM-A CHEM-LA", &refused);
    check(student().permit(CorequisiteRequired, ""), "BIO-1", "", &[]);
    // Before it, or at the same time: a course of next spring is neither.
    check(student().enrolled("CHEM-P"), "BIO-1", "", &refused);
    check(student(), "BIO-1 CHEM-P", "", &refused);
    check(student().enrolled("CHEM-P"), "BIO-S", "", &[]);
    check(student().enrolled("CHEM-A CHEM-LA"), "BIO-S", "", &[]);
}

#[test]
fn a_drop_keeps_the_corequisites_of_what_stays() {
    let both = || student().enrolled("CHEM-A CHEM-LA BIO-1");
    check(both(), "", "CHEM-A CHEM-LA", &["COREQUISITE_REQUIRED CHEM-A BIO-1"]);
    check(both(), "", "CHEM-A CHEM-LA BIO-1", &[]);
    check(both(), "CHEM-S CHEM-T", "CHEM-A CHEM-LA", &[]);
    check(both(), "CHEM-P", "CHEM-A CHEM-LA", &["COREQUISITE_REQUIRED CHEM-A BIO-1"]);
    check(both().completed("CHEM", "C"), "", "CHEM-A CHEM-LA", &[]);
    check(both().permit(CorequisiteRequired, "BIO-1"), "", "CHEM-A CHEM-LA", &[]);
    check(both().permit(CorequisiteRequired, "CHEM-LA"), "", "CHEM-A CHEM-LA", &[]);
    check(student().enrolled("BIO-1 MATH-1"), "", "MATH-1", &[]);
}

#[test]
fn a_drop_keeps_the_prerequisites_of_what_stays() {
    let refused = ["PREREQUISITE_NOT_MET MATH-1 PHYS-S"];
    let both = || student().enrolled("MATH-1 PHYS-S");
    check(both(), "", "MATH-1", &refused);
    check(both(), "", "MATH-1 PHYS-S", &[]);
    check(both(), "", "PHYS-S", &[]);
    check(both(), "MATH-2", "MATH-1", &[]);
    check(both(), "MATH-A", "MATH-1", &[]);
    check(both(), "MATH-S", "MATH-1", &refused);
    check(both().completed("MATH", "C"), "", "MATH-1", &[]);
    check(both().completed("MATH", "F"), "", "MATH-1", &refused);
    check(both().permit(PrerequisiteNotMet, "PHYS-S"), "", "MATH-1", &[]);
    check(both().permit(PrerequisiteNotMet, "MATH-1"), "", "MATH-1", &[]);
    check(both().permit(PrerequisiteNotMet, "MATH-2"), "", "MATH-1", &refused);
    check(student().enrolled("MATH-1").leaving("PHYS-S"), "", "MATH-1", &[]);
    // The course that asks for it stays, in another section.
    check(both(), "PHYS-S2", "PHYS-S", &[]);
    check(both(), "PHYS-S2", "MATH-1 PHYS-S", &["PREREQUISITE_NOT_MET MATH-1 PHYS-S2"]);
    // It was not met before either: the course that is dropped did not count.
    check(student().enrolled("MATH-1 PHYS-2"), "", "MATH-1", &[]);
    check(student().enrolled("MATH-S PHYS-2"), "", "MATH-S", &[]);
    // Half of it was met before, and the other half is met afterwards: nothing is broken.
    check(student().enrolled("MATH-1 OPUS-S"), "CHEM-A CHEM-LA", "MATH-1", &[]);
    let whole = student().enrolled("MATH-1 CHEM-A CHEM-LA OPUS-S");
    check(whole, "", "MATH-1", &["PREREQUISITE_NOT_MET MATH-1 OPUS-S"]);
    check_sentence(
        both(),
        "",
        "MATH-1",
        "PHYS Introduction to PHYS (section PHYS-S) is taken after MATH, so MATH Introduction to MATH (section MATH-1) \
         can't go alone.",
        "Drop PHYS-S too, or keep MATH-1.",
    );
}
