//! Requirements: what is read, what is refused, what is met.

use proptest::prelude::*;

use super::*;

#[track_caller]
fn check(text: &str, expect: &str) {
    let shown = match Requirement::parse(text) {
        Ok(Some(requirement)) => requirement.to_string(),
        Ok(None) => "nothing".to_owned(),
        Err(error) => format!("! {error}"),
    };
    assert_eq!(shown, expect, "{text:?}");
}

#[track_caller]
fn check_met(text: &str, has: &[&str], expect: bool) {
    let requirement = Requirement::parse(text).expect("a requirement").expect("not empty");
    assert_eq!(requirement.is_met(&|code, _| has.contains(&code)), expect, "{text} with {has:?}");
}

#[test]
fn requirements_are_read() {
    check("", "nothing");
    check("  ", "nothing");
    check("C101", "C101");
    check("C101:B+", "C101:B+");
    check("C101 and (C102:B or C103)", "C101 and (C102:B or C103)");
    check("C1 or C2 and C3", "C1 or C2 and C3");
    check("(C1 or C2) AND C3 And C4", "(C1 or C2) and C3 and C4");
    check("((C1))", "C1");
    check("C1 and (C2 and C3)", "C1 and (C2 and C3)");
    check("C1 or (C2 or C3)", "C1 or (C2 or C3)");
    check(" ( C1:A or C2 )and C3", "(C1:A or C2) and C3");
    check("ANDREWS101 or ORG2", "ANDREWS101 or ORG2");
}

#[test]
fn errors_say_where_and_what() {
    check("C101 and", "! at character 9: expected a course code or `(`, found the end");
    check("and C101", "! at character 1: expected a course code or `(`, found `and`");
    check("C101 C102", "! at character 6: expected `and`, `or` or the end, found \"C102\"");
    check("(C101 or C102", "! at character 1: this parenthesis is never closed");
    check("(C101 C102)", "! at character 7: expected `and`, `or` or `)`, found \"C102\"");
    check("C101)", "! at character 5: expected `and`, `or` or the end, found `)`");
    check("()", "! at character 2: expected a course code or `(`, found `)`");
    check("C101:", "! at character 6: expected a grade, found the end");
    check("C101:P", "! at character 6: \"P\" is no grade: A+ to D-, F");
    check("é: B or or", "! at character 9: expected a course code or `(`, found `or`");
    check(":B", "! at character 1: expected a course code or `(`, found `:`");
    check(&"(".repeat(100), "! at character 21: more than 20 parentheses in one another");
    check(&"C".repeat(2_001), "! must have at most 2000 bytes, got 2001");
}

#[test]
fn trees_are_met_branch_by_branch() {
    check_met("C1", &["C1"], true);
    check_met("C1", &[], false);
    check_met("C1 and C2", &["C1"], false);
    check_met("C1 or C2", &["C2"], true);
    check_met("C1 or C2 and C3", &["C1"], true);
    check_met("C1 or C2 and C3", &["C2"], false);
    check_met("(C1 or C2) and C3", &["C1"], false);
    check_met("(C1 or C2) and C3", &["C2", "C3"], true);
}

fn any_requirement() -> impl Strategy<Value = Requirement> {
    let minimum = prop::option::of(prop::sample::select(Letter::all().collect::<Vec<_>>()));
    let course = ("[A-Z]{1,4}-?[0-9]{1,3}", minimum);
    let course = course.prop_map(|(code, minimum)| Requirement::Course { code, minimum });
    course.prop_recursive(4, 24, 4, |inner| {
        let branches = prop::collection::vec(inner, 2..4);
        prop_oneof![branches.clone().prop_map(Requirement::All), branches.prop_map(Requirement::Any)]
    })
}

proptest! {
    #[test]
    fn what_is_printed_is_read_back(requirement in any_requirement()) {
        let read = Requirement::parse(&requirement.to_string());
        prop_assert_eq!(read, Ok(Some(requirement)));
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,60}|[A-C1():+ andor]{0,80}") {
        if let Ok(Some(requirement)) = Requirement::parse(&text) {
            let again = Requirement::parse(&requirement.to_string());
            prop_assert_eq!(again, Ok(Some(requirement)));
        }
    }
}
