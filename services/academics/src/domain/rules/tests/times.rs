//! Two sections conflict on the days on which both meet.

use super::*;
use crate::domain::catalog::{Catalog, CatalogChanges, Term};
use crate::domain::clash::Clash;
use crate::domain::fixture::{course, section, section_id, term};

#[test]
fn time_conflict() {
    let math = || student().completed("MATH", "F").permit(PrerequisiteNotMet, "");
    check(math().enrolled("MATH-1"), "PHYS-1", "", &["TIME_CONFLICT PHYS-1 MATH-1"]);
    check(math().pending("MATH-1"), "PHYS-1", "", &["TIME_CONFLICT PHYS-1 MATH-1"]);
    check(math().leaving("MATH-1"), "PHYS-1", "", &["TIME_CONFLICT PHYS-1 MATH-1"]);
    check(math().enrolled("MATH-1"), "PHYS-1", "MATH-1", &[]);
    check(math(), "PHYS-1 MATH-1", "", &["TIME_CONFLICT MATH-1 PHYS-1"]);
    check(math(), "PHYS-1 MATH-S", "", &[]);
    check(math().enrolled("MATH-2"), "PHYS-1", "", &[]);
    check(math().enrolled("MATH-1").permit(TimeConflict, "PHYS-1"), "PHYS-1", "", &[]);
    check(math().enrolled("MATH-1").permit(TimeConflict, "MATH-1"), "PHYS-1", "", &[]);
    check(math().enrolled("MATH-1").permit(TimeConflict, "PHYS-2"), "PHYS-1", "", &["TIME_CONFLICT PHYS-1 MATH-1"]);
}

#[test]
fn parts_of_a_semester_conflict_with_the_whole() {
    check(student().enrolled("MATH-1"), "DANCE-A", "", &["TIME_CONFLICT DANCE-A MATH-1"]);
    check(student().enrolled("MATH-A"), "DANCE-B", "", &[]);
    check(student().enrolled("MATH-O"), "DANCE-A", "", &[]);
    check(student().enrolled("MATH-1"), "DANCE-T", "", &["TIME_CONFLICT DANCE-T MATH-1"]);
    check_sentence(
        student().enrolled("MATH-1"),
        "DANCE-T",
        "",
        "DANCE Introduction to DANCE (section DANCE-T) meets M 17:30-18:30 (Asia/Tokyo), at the same time as MATH \
         Introduction to MATH (section MATH-1), which meets M 08:00-09:00 (UTC): Monday 2026-08-24 17:30-18:00 JST.",
        "Choose a section at another time, or drop MATH-1 in the same registration.",
    );
}

/// The first clash of A-1 in the one term with B-1 in the other, and the other way round whether there is one.
#[track_caller]
fn check_clash(ours: (Term, &str), theirs: (Term, &str), expect: &str) {
    let sections =
        vec![section("A-1", ours.0.id.as_str(), "", ours.1), section("B-1", theirs.0.id.as_str(), "", theirs.1)];
    let mut terms = vec![ours.0, theirs.0];
    terms.dedup();
    let courses = vec![course("A", 1, "", ""), course("B", 1, "", "")];
    let catalog = Catalog::default().merged(&CatalogChanges { terms, courses, sections }).expect("a sound catalogue");
    let found = |id: &str| catalog.section(&section_id(id)).expect("a section");
    let clash = Clash::of(found("A-1"), found("B-1"));
    assert_eq!(clash.map(|clash| clash.to_string()).unwrap_or_default(), expect);
    assert_eq!(Clash::of(found("B-1"), found("A-1")).is_some(), !expect.is_empty(), "the other way round");
}

fn one(starts_on: &str, ends_on: &str) -> Term {
    term("one", None, 0).dates(starts_on, ends_on)
}

fn two(starts_on: &str, ends_on: &str) -> Term {
    term("two", None, 0).dates(starts_on, ends_on)
}

/// 2028-08-28 is a Monday.
#[test]
fn terms_share_days() {
    let first = || one("2028-08-28", "2028-10-20");
    let mwf = "MWF 09:00-09:50";
    check_clash((first(), mwf), (first(), "F 09:49-10:00"), "Friday 2028-09-01 09:49-09:50");
    check_clash((first(), mwf), (first(), "F 09:50-10:00"), "");
    check_clash((first(), mwf), (two("2028-10-20", "2028-12-20"), mwf), "");
    check_clash((first(), mwf), (two("2028-10-19", "2028-12-20"), mwf), "");
    check_clash((first(), mwf), (two("2028-10-18", "2028-12-20"), mwf), "Wednesday 2028-10-18 09:00-09:50");
    check_clash((first(), mwf), (two("2028-09-05", "2028-09-06"), mwf), "");
    check_clash((first(), mwf), (two("2028-09-05", "2028-09-07"), mwf), "Wednesday 2028-09-06 09:00-09:50");
    check_clash(
        (first(), "F 22:00-24:00"),
        (two("2028-09-01", "2028-09-02"), "F 23:00-24:00"),
        "Friday 2028-09-01 23:00-24:00",
    );
    // A term of two days has no Monday.
    let short = || one("2028-08-29", "2028-08-31");
    check_clash((short(), "MT 09:00-10:00"), (short(), "M 09:00-10:00"), "");
    check_clash((short(), "MT 09:00-10:00"), (short(), "MT 09:30-10:00"), "Tuesday 2028-08-29 09:30-10:00");
    let undated = || term("one", None, 0);
    check_clash((undated(), mwf), (undated(), "W 09:00-10:00"), "Wednesday 09:00-09:50");
    check_clash((undated(), mwf), (two("2028-08-28", "2028-12-20"), mwf), "");
}

#[test]
fn time_zones_are_compared_as_instants() {
    let new_york = || one("2028-08-28", "2028-12-16").in_zone("America/New_York");
    let chicago = || two("2028-08-28", "2028-12-16").in_zone("America/Chicago");
    check_clash((new_york(), "M 09:00-09:50"), (chicago(), "M 09:00-09:50"), "");
    check_clash((new_york(), "M 09:00-09:50"), (chicago(), "M 08:30-09:00"), "Monday 2028-08-28 09:30-09:50 EDT");
    check_clash((new_york(), ""), (chicago(), "M 08:30-09:00"), "");
    // Phoenix keeps its clock: it is three hours behind New York until 2028-11-05, two hours after it.
    let phoenix = || two("2028-08-28", "2028-12-16").in_zone("America/Phoenix");
    check_clash((new_york(), "M 12:00-12:50"), (phoenix(), "M 10:00-10:50"), "Monday 2028-11-06 12:00-12:50 EST");
    let until_november = two("2028-08-28", "2028-11-04").in_zone("America/Phoenix");
    check_clash((new_york(), "M 12:00-12:50"), (until_november, "M 10:00-10:50"), "");
    // Monday morning in Tokyo is Sunday evening in New York.
    let tokyo = || two("2028-08-28", "2028-12-16").in_zone("Asia/Tokyo");
    check_clash((new_york(), "U 20:00-24:00"), (tokyo(), "M 12:00-13:00"), "Sunday 2028-09-03 23:00-24:00 EDT");
    check_clash((new_york(), "U 20:00-24:00"), (tokyo(), "M 13:00-14:00"), "Sunday 2028-11-05 23:00-24:00 EST");
    check_clash((new_york(), "U 20:00-24:00"), (tokyo(), "M 14:00-15:00"), "");
    // Both begin on the same date, but the Monday in Tokyo is over when the first one in New York begins.
    let one_day = || one("2028-08-28", "2028-08-29").in_zone("America/New_York");
    check_clash(
        (one_day(), "M 00:00-24:00"),
        (two("2028-08-28", "2028-08-29").in_zone("Asia/Tokyo"), "M 00:00-13:00"),
        "",
    );
    check_clash(
        (one_day(), "M 00:00-24:00"),
        (two("2028-08-28", "2028-08-29").in_zone("Asia/Tokyo"), "M 00:00-13:01"),
        "Monday 2028-08-28 00:00-00:01 EDT",
    );
}
