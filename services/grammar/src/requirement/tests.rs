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
    assert_eq!(requirement.is_met(&|name, _| has.contains(&name)), expect, "{text} with {has:?}");
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
fn names_are_quoted_where_they_must_be() {
    check("\"MATH 101\":B and \"C2\"", "\"MATH 101\":B and C2");
    check("\"MATH 101\"and(\"a:b\"or \"(x)\")", "\"MATH 101\" and (\"a:b\" or \"(x)\")");
    check("\"And\" or \"or\" or \"ore\"", "\"And\" or \"or\" or ore");
    check("\" \"", "\" \"");
    // An earlier version has taken such a code; it stays readable.
    check("C\"1 or C2\"", "C\"1 or C2\"");
}

#[test]
fn words_in_a_row_are_joined_where_that_is_wanted() {
    for (text, expect) in [
        ("MATH 101", r#""MATH 101""#),
        ("(ÄRT 7 a:B or C1) and MATH\t101", r#"("ÄRT 7 a":B or C1) and "MATH 101""#),
        (r#""MATH 101" and C1"#, r#""MATH 101" and C1"#),
        ("MATH  101:B or ART 7", r#""MATH 101":B or "ART 7""#),
        // A quote begins a name only where a name begins.
        (r#"C1 or"C2" C3"#, r#""C1 or"C2" C3""#),
    ] {
        let joined = Requirement::parse_joined(text).expect("a requirement").expect("not empty");
        assert_eq!(joined.to_string(), expect);
    }
}

#[test]
fn quotes_that_are_missing_are_shown() {
    let expected = "expected `and`, `or` or the end";
    check(
        "MATH 101",
        &format!("! at character 6: {expected}, found \"101\"; a name with spaces is quoted: \"MATH 101\""),
    );
    check(
        "C1 and INTRO TO LAW:B",
        &format!("! at character 14: {expected}, found \"TO\"; a name with spaces is quoted: \"INTRO TO LAW\""),
    );
    check(
        "(MATH 101 or C2)",
        "! at character 7: expected `and`, `or` or `)`, found \"101\"; a name with spaces is quoted: \"MATH 101\"",
    );
    check("C1:B C2", &format!("! at character 6: {expected}, found \"C2\""));
    check("C1:B C 2", &format!("! at character 6: {expected}, found \"C\"; a name with spaces is quoted: \"C 2\""));
    check("urn:uuid:4", "! at character 5: \"uuid\" is not a grade; use A+ to D-, F; a name with a colon is quoted");
    check("C1 and \"MATH 101", "! at character 8: this quote is never closed");
    check("C1 or \"\"", "! at character 7: there is no name in these quotes");
    check("C1 \"C 2\"", &format!("! at character 4: {expected}, found \"C 2\""));
    check("C1:\"B\"", "! at character 4: expected a grade, found \"B\"");
}

#[test]
fn errors_say_where_and_what() {
    check("C101 and", "! at character 9: expected a course or `(`, found the end");
    check("and C101", "! at character 1: expected a course or `(`, found `and`");
    check(
        "C101 C102",
        "! at character 6: expected `and`, `or` or the end, found \"C102\"; a name with spaces is quoted: \
         \"C101 C102\"",
    );
    check("(C101 or C102", "! at character 1: this parenthesis is never closed");
    check(
        "(C101 C102)",
        "! at character 7: expected `and`, `or` or `)`, found \"C102\"; a name with spaces is quoted: \"C101 C102\"",
    );
    check("C101)", "! at character 5: expected `and`, `or` or the end, found `)`");
    check("()", "! at character 2: expected a course or `(`, found `)`");
    check("C101:", "! at character 6: expected a grade, found the end");
    check("C101:P", "! at character 6: \"P\" is not a grade; use A+ to D-, F; a name with a colon is quoted");
    check("é: B or or", "! at character 9: expected a course or `(`, found `or`");
    check(":B", "! at character 1: expected a course or `(`, found `:`");
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
    let name = prop_oneof!["[A-Z]{1,4}-?[0-9]{1,3}", "[a-zA-Z():. ]{1,8}", "and|or|AND|Or"];
    let course = (name, minimum).prop_map(|(name, minimum)| Requirement::Course { name, minimum });
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
    fn no_text_panics(text in "\\PC{0,60}|[A-C1():+\" andor]{0,80}") {
        if let Ok(Some(requirement)) = Requirement::parse(&text) {
            let again = Requirement::parse(&requirement.to_string());
            prop_assert_eq!(again, Ok(Some(requirement)));
        }
    }
}
