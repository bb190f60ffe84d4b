//! What an import refuses, and by which field.

use super::*;
use crate::domain::fixture::{catalog, changes, course, section, section_id, term};

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
        "courses[1].prerequisites: no course has the code \"NONE\"",
    );
    check(of_courses(vec![course("NEW", 3, "", "NONE")]), "courses[0].corequisites: no course has the code \"NONE\"");
    check(
        of_courses(vec![course("NEW", 3, "", ""), course("NEW", 3, "", "")]),
        "courses[1].course_id: c-NEW is named twice",
    );
    check(of_sections(vec![section("NEW-1", "fall", "", "")]), "sections[0].course_id: there is no course c-NEW");
    check(of_sections(vec![section("MATH-9", "winter", "", "")]), "sections[0].term_id: there is no term winter");
    check(
        of_sections(vec![section("CHEM-Z", "fall", "", "")]),
        "sections[0].component: section CHEM-T of the same course and term has a component: all must have one, or none",
    );
    let terms = vec![term("summer", None, 0), term("summer", None, 0)];
    check(CatalogChanges { terms, ..CatalogChanges::default() }, "terms[1].term_id: summer is named twice");
    check(
        of_courses(vec![Course { code: "MATHS".to_owned(), ..course("MATH", 3, "", "") }]),
        "courses[0].code: the old code \"MATH\" is still named by the requirements of course c-OPUS",
    );
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
    assert_eq!(ids(Some("PHYS-1")), ["PHYS-2"]);
}
