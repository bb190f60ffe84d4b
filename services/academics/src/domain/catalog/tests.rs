//! What an import refuses, and by which field.

use super::*;
use crate::domain::fixture::{catalog, changes, course, course_id, section, section_id, term, term_id};

#[track_caller]
fn check(changes: CatalogChanges, expect: &str) {
    let error = catalog().merged(&changes).expect_err("a broken import");
    assert_eq!(error.to_string(), expect);
}

fn of_courses(courses: Vec<Course>) -> CatalogChanges {
    CatalogChanges { courses, ..CatalogChanges::default() }
}

fn of_sections(sections: Vec<SectionEntry>) -> CatalogChanges {
    CatalogChanges { sections, ..CatalogChanges::default() }
}

#[test]
fn broken_imports_are_refused_by_field() {
    check(
        of_courses(vec![course("NEW", 3, "", ""), course("NEW2", 3, "MATH and NONE:B", "")]),
        "courses[c-NEW2].prerequisites: no course has the code or the id \"NONE\"",
    );
    check(
        of_courses(vec![course("NEW", 3, "", "NONE")]),
        "courses[c-NEW].corequisites: no course has the code or the id \"NONE\"",
    );
    check(
        of_courses(vec![course("NEW", 3, "", ""), course("NEW", 3, "", "")]),
        "courses[c-NEW].course_id: c-NEW is named twice",
    );
    check(of_sections(vec![section("NEW-1", "fall", "", "")]), "sections[NEW-1].course_id: there is no course c-NEW");
    check(of_sections(vec![section("MATH-9", "winter", "", "")]), "sections[MATH-9].term_id: there is no term winter");
    check(
        of_sections(vec![section("CHEM-Z", "fall", "", "")]),
        "sections[CHEM-Z].component: section CHEM-T of the same course and term has a component: all must have one, or none",
    );
    check(of_terms(vec![term("new", None, 0), term("new", None, 0)]), "terms[new].term_id: new is named twice");
    check(
        of_courses(vec![Course { code: "MATHS".to_owned(), ..course("MATH", 3, "", "") }]),
        "courses[c-MATH].code: the old code \"MATH\" is still named by the requirements of course c-OPUS",
    );
}

fn of_terms(terms: Vec<Term>) -> CatalogChanges {
    CatalogChanges { terms, ..CatalogChanges::default() }
}

#[test]
fn broken_terms_are_refused_by_field() {
    let one = || term("one", None, 0);
    check(
        of_terms(vec![one().dates("2028-08-28", "2028-08-28")]),
        "terms[one].ends_on: must be after starts_on, which is 2028-08-28, got 2028-08-28",
    );
    let half = Term { ends_on: None, ..one().dates("2028-08-28", "2028-12-16") };
    check(of_terms(vec![half]), "terms[one].ends_on: is required with starts_on");
    let half = Term { starts_on: None, ..one().dates("2028-08-28", "2028-12-16") };
    check(of_terms(vec![half]), "terms[one].starts_on: is required with ends_on");
    let orphan = one().part_of("none", TermKind::Term);
    check(of_terms(vec![term("two", None, 0), orphan]), "terms[one].parent_term_id: there is no term none");
    let circle = "must be a term around it, got one that is a part of itself";
    check(of_terms(vec![one().part_of("one", TermKind::Term)]), &format!("terms[one].parent_term_id: {circle}"));
    let year = term("year", None, 0).part_of("fall-a", TermKind::SchoolYear);
    check(of_terms(vec![year]), &format!("terms[year].parent_term_id: {circle}"));
}

#[test]
fn sessions_come_from_the_inside_out() {
    let catalog = catalog();
    let ids =
        |id: &str| catalog.sessions(&term_id(id)).map(|session| session.id.to_string()).collect::<Vec<_>>().join(" ");
    assert_eq!([ids("fall-a"), ids("spring"), ids("tokyo")], ["fall-a fall year", "spring year", "tokyo"]);
    let closed = |id: &str| catalog.closed_session(&term_id(id)).map(|session| session.id.to_string());
    assert_eq!([closed("shut-a"), closed("shut"), closed("fall-a")], [Some("shut".into()), Some("shut".into()), None]);
}

#[test]
fn credits_add_up_to_the_outermost_term() {
    let terms = vec![
        term("week", None, 0).part_of("half", TermKind::GradingPeriod),
        term("half", None, 0).part_of("semester", TermKind::Term),
        term("semester", None, 0).part_of("year", TermKind::Semester),
        term("year", None, 0).of_kind(TermKind::SchoolYear),
        term("quarter", None, 0).part_of("year", TermKind::GradingPeriod),
        term("month", None, 0).part_of("quarter", TermKind::GradingPeriod),
    ];
    let catalog = Catalog::default().merged(&of_terms(terms)).expect("sound terms");
    let credits = |id: &str| {
        catalog.credit_sessions(&term_id(id)).map(|session| session.id.to_string()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!([credits("week"), credits("semester")], ["week half semester", "semester"]);
    // A part that is in no term stands for itself, and so does a year.
    assert_eq!([credits("quarter"), credits("month"), credits("year")], ["quarter", "month", "year"]);
}

#[test]
fn a_course_goes_by_its_code_or_else_by_its_id() {
    let quoted = Course { code: "LAW 101".to_owned(), ..course("LAW", 1, "", "") };
    let by_id = course("NEW", 1, "\"LAW 101\" and c-MATH", "");
    // Another course has the id of ART as its code.
    let taken = Course { code: "c-ART".to_owned(), ..course("OTHER", 1, "", "") };
    let catalog = catalog().merged(&of_courses(vec![quoted, by_id, taken])).expect("sound courses");
    let named = |course: &str, name: &str| catalog.is_named(&course_id(course), name);
    assert!(named("c-LAW", "LAW 101") && named("c-LAW", "c-LAW") && !named("c-LAW", "LAW"));
    assert!(named("c-MATH", "MATH") && named("c-MATH", "c-MATH") && !named("c-MATH", "c-PHYS"));
    assert!(named("c-OTHER", "c-ART") && named("c-ART", "ART") && !named("c-ART", "c-ART"));
    assert!(named("elsewhere", "elsewhere") && !catalog.has_named("elsewhere"));
    assert!(catalog.has_named("LAW 101") && catalog.has_named("c-LAW") && !catalog.has_named("LAW"));
}

/// The old code is the id of the course, by which requirements still find it.
#[test]
fn a_course_whose_code_was_its_id_can_be_given_another_one() {
    let before = Course { code: "c-NEW".to_owned(), ..course("NEW", 1, "", "") };
    let asking = course("ASK", 1, "c-NEW", "");
    let catalog = catalog().merged(&of_courses(vec![before.clone(), asking])).expect("sound courses");
    let renamed = Course { code: "NEW 101".to_owned(), ..before };
    let catalog = catalog.merged(&of_courses(vec![renamed])).expect("still named by its id");
    assert!(catalog.is_named(&course_id("c-NEW"), "c-NEW"));
}

#[test]
fn an_import_creates_and_replaces() {
    let before = catalog();
    let new = CatalogChanges {
        terms: vec![term("summer", None, 0)],
        courses: vec![course("NEW", 3, "OTHER", ""), course("OTHER", 3, "", ""), course("MATH", 5, "", "")],
        sections: vec![section("NEW-1", "summer", "", ""), section("MATH-2", "spring", "", "")],
    };
    let after = before.merged(&new).expect("a sound import");
    assert_eq!((before.version(), after.version()), (1, 2));
    let math = after.section(&section_id("MATH-1")).expect("it was there before");
    assert_eq!(math.course.credits_hundredths, 500, "old sections see the new course");
    assert_eq!(after.section(&section_id("MATH-2")).expect("replaced").term.id.as_str(), "spring");
    assert!(after.section(&section_id("NEW-1")).is_some());
    assert!(before.section(&section_id("NEW-1")).is_none());
}

#[test]
fn the_same_import_again_changes_nothing() {
    let again = catalog().merged(&changes()).expect("a sound import");
    let entries = |catalog: &Catalog| catalog.sections_after(None).map(Section::entry).collect::<Vec<_>>();
    assert_eq!(entries(&again), entries(&catalog()));
}

#[test]
fn sections_come_by_id() {
    let catalog = catalog();
    let ids = |after: Option<&str>| {
        let after = after.map(section_id);
        catalog.sections_after(after.as_ref()).map(|section| section.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ids(None)[..3], ["ART-1", "ART-X", "BIO-1"]);
    assert_eq!(ids(Some("PHYS-1")), ["PHYS-2", "PHYS-B", "PHYS-O", "PHYS-S", "PHYS-S2"]);
}

#[test]
fn what_is_closed_stands_in_nobodys_way() {
    // The course that names the old code is closed in the same import, and so are the classes that have components.
    let closed = |course: Course| Course { closed: true, ..course };
    let renamed = Course { code: "MATHS".to_owned(), ..course("MATH", 3, "", "") };
    let naming = catalog().courses().filter(|course| course.code != "MATH").cloned().map(closed).collect::<Vec<_>>();
    let courses = [vec![renamed], naming].concat();
    let offered = |section: &&Section| section.course.code == "CHEM" && section.term.id == term_id("fall");
    let before = catalog();
    let sections =
        before.sections_after(None).filter(offered).map(|section| SectionEntry { cancelled: true, ..section.entry() });
    let sections = sections.chain([section("CHEM-Z", "fall", "", "")]).collect();
    let after =
        before.merged(&CatalogChanges { courses, sections, ..CatalogChanges::default() }).expect("nothing is broken");
    assert!(after.section(&section_id("CHEM-Z")).is_some());
}
