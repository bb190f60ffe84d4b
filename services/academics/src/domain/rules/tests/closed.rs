//! A closed student, course, section or term takes no adds. What the student has can be dropped.

use jiff::tz::TimeZone;
use matricula_kit::time::{UnixMs, zone};

use super::*;
use crate::domain::context::Context;

#[test]
fn a_closed_student_only_drops() {
    let refused = ["STUDENT_NOT_ACTIVE - -"];
    check(student().closed(), "MATH-1", "", &refused);
    check(student().closed(), "", "", &refused);
    check(student().closed().enrolled("MATH-1"), "", "MATH-1", &[]);
    check(student().closed().enrolled("MATH-1"), "MATH-2", "MATH-1", &refused);
    check(student().closed().permit(Hold, ""), "MATH-1", "", &refused);
}

/// The role is judged at the decision, however early the registration was submitted.
#[test]
fn the_role_of_a_student_has_dates() {
    let refused = ["STUDENT_NOT_ACTIVE - -"];
    check(student().active(Some(BEFORE), Some(AFTER)), "MATH-1", "", &[]);
    check(student().active(Some(NOW), None), "MATH-1", "", &[]);
    check(student().active(Some(AFTER), None), "MATH-1", "", &refused);
    check(student().active(None, Some(NOW)), "MATH-1", "", &refused);
    check(student().active(None, Some(BEFORE)), "MATH-1", "", &refused);
    check(student().active(None, Some(BEFORE)).enrolled("MATH-1"), "", "MATH-1", &[]);

    let (catalog, change) = (catalog(), change("MATH-1", ""));
    let until_after = student().active(None, Some(AFTER));
    let decided_at = |now| {
        let context = Context { now, zone: TimeZone::UTC };
        super::super::check(&RuleContext::new(&catalog, &until_after, &change, &context)).len()
    };
    assert_eq!((decided_at(UnixMs(AFTER.0 - 1)), decided_at(AFTER)), (0, 1));
}

#[test]
fn sections_of_closed_courses_and_terms() {
    check(student(), "LAW-1", "", &["COURSE_NOT_OFFERED LAW-1 -"]);
    check(student().enrolled("LAW-1"), "", "LAW-1", &[]);
    check(student().enrolled("LAW-1"), "MATH-1", "LAW-1", &[]);
    check(student(), "DANCE-C", "", &["TERM_CLOSED DANCE-C -"]);
    check(student().enrolled("DANCE-C"), "", "DANCE-C", &[]);
    check(student().enrolled("DANCE-C"), "DANCE-A", "DANCE-C", &[]);
    check(student(), "DANCE-U", "", &["TERM_CLOSED DANCE-U -"]);
    check(student().enrolled("DANCE-U"), "", "DANCE-U", &[]);
}

#[test]
fn a_term_ends_when_its_last_day_is_over() {
    let catalog = catalog();
    let term = |id: &str| catalog.term(&crate::domain::fixture::term_id(id)).expect("a term").clone();
    let at = |text: &str| UnixMs(text.parse::<jiff::Timestamp>().expect("a moment").as_millisecond());
    let (summer, undated) = (term("summer"), term("undated"));
    assert!(!summer.has_ended(at("2026-08-14T23:59:59.999Z")));
    assert!(summer.has_ended(at("2026-08-15T00:00:00Z")));
    assert!(!summer.clone().in_zone("America/Los_Angeles").has_ended(at("2026-08-15T06:59:59Z")));
    assert!(summer.in_zone("America/Los_Angeles").has_ended(at("2026-08-15T07:00:00Z")));
    assert!(!undated.has_ended(at("9000-01-01T00:00:00Z")), "nobody knows when it ends");
}

#[test]
fn sentences_say_what_happened_and_what_to_do() {
    let ask = "Ask the registrar to correct your status. You can still drop sections.";
    check_sentence(student().closed(), "MATH-1", "", "You are not an active student, so you can't add sections.", ask);
    let until = "You were a student until 2026-08-17 07:59:00 UTC, so you can't add sections any more.";
    check_sentence(student().active(None, Some(BEFORE)), "MATH-1", "", until, ask);
    let from = "You are a student from 2026-08-17 08:01:00 UTC on, so you can't add sections yet.";
    check_sentence(student().active(Some(AFTER), None), "MATH-1", "", from, ask);
    check_sentence(
        student(),
        "LAW-1",
        "",
        "LAW Introduction to LAW (section LAW-1) can't be added: the course is not offered any more.",
        "Choose a section of another course.",
    );
    let open = "Choose a section of a term that is open.";
    let dance = "DANCE Introduction to DANCE";
    let shut = format!("{dance} (section DANCE-C) can't be added: Term shut is closed.");
    check_sentence(student(), "DANCE-C", "", &shut, open);
    let ended = format!("{dance} (section DANCE-U) can't be added: Term summer ended on 2026-08-15 00:00:00 UTC.");
    check_sentence(student(), "DANCE-U", "", &ended, open);
}

/// Moments about the student are told in the time zone of the campus, deadlines in that of the term.
#[test]
fn moments_name_their_time_zone() {
    let (mut changes, change) = (crate::domain::fixture::changes(), change("LATIN-1", ""));
    let past = changes.terms.iter_mut().find(|term| term.id.as_str() == "past").expect("a term");
    *past = past.clone().in_zone("Asia/Tokyo");
    let catalog = crate::domain::catalog::Catalog::default().merged(&changes).expect("a sound catalogue");
    let context = Context { now: NOW, zone: zone("America/Los_Angeles").expect("a time zone") };
    let late = student().appointment(BEFORE, BEFORE);
    let reasons = super::super::check(&RuleContext::new(&catalog, &late, &change, &context));
    let messages: Vec<&str> = reasons.iter().map(|refusal| refusal.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "Your enrollment appointment ended on 2026-08-17 00:59:00 PDT.",
            "LATIN Introduction to LATIN (section LATIN-1) can't be added any more: the deadline of Term past was \
             2026-08-17 16:59:00 JST.",
        ]
    );
}
