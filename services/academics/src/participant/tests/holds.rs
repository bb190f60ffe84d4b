//! Whose a hold is, and how long it stays.

use super::*;

/// What happens to the hold `h` of a student.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// A bundle names it, with this text.
    Named(&'static str),
    /// A bundle does not name it.
    Unnamed,
    /// Staff set it, with this text.
    Set(&'static str),
    /// Staff lift it.
    Lifted,
}

use Event::{Lifted, Named, Set, Unnamed};

async fn happens(bed: &Bed, event: Event) {
    let ada = student_id("ada");
    let named = |holds| vec![Profile { holds, ..profile("ada") }];
    match event {
        Named(text) => bed.import_students(named(vec![Hold { source: Source::Bundle, ..hold("h", text) }])).await,
        Unnamed => bed.import_students(named(Vec::new())).await,
        Set(text) => bed.store.set_hold(&ada, &hold("h", text)).await.expect("set"),
        Lifted => bed.store.lift_hold(&ada, &hold("h", "").id).await.expect("lifted"),
    }
}

/// After the events, `in_force` is what stops the student (`SOURCE text`), and `named` is what a plan reads as the
/// bundle's, each empty when there is none.
async fn check(events: &[Event], in_force: &str, named: &str) {
    for backend in BACKENDS {
        let bed = Bed::new(backend).await;
        for event in events {
            happens(&bed, *event).await;
        }
        let record = bed.store.record(&student_id("ada")).await.expect("the database answers").expect("on record");
        let shown = |hold: &Hold| format!("{} {}", hold.source.name(), hold.description);
        let holds: Vec<String> = record.profile.holds.iter().map(shown).collect();
        let mut content = bed.store.imported().await.expect("the database answers");
        let students = content.all_students().await.expect("read");
        let ada = students.iter().find(|profile| profile.id.as_str() == "ada").expect("she is on record");
        let read: Vec<&str> = ada.holds.iter().map(|hold| hold.description.as_str()).collect();
        assert_eq!(
            (holds.join(","), read.join(",")),
            (in_force.to_owned(), named.to_owned()),
            "{backend:?} {events:?}"
        );

        let expect = if in_force.is_empty() { "done" } else { "HOLD" };
        assert_eq!(word(&bed.write(reserve("r1", "MATH-1", "")).await), expect, "{backend:?} {events:?}");
    }
}

#[tokio::test]
async fn a_bundle_names_its_holds() {
    check(&[Named("Fine")], "BUNDLE Fine", "Fine").await;
    check(&[Named("Fine"), Named("Fine of 3")], "BUNDLE Fine of 3", "Fine of 3").await;
    check(&[Named("Fine"), Unnamed], "", "").await;
}

#[tokio::test]
async fn a_hold_that_staff_lift_stays_lifted_while_bundles_name_it() {
    check(&[Named("Fine"), Lifted], "", "Fine").await;
    check(&[Named("Fine"), Lifted, Named("Fine")], "", "Fine").await;
    check(&[Named("Fine"), Lifted, Named("Fine of 3")], "", "Fine of 3").await;
    check(&[Named("Fine"), Lifted, Unnamed], "", "").await;
    check(&[Named("Fine"), Lifted, Unnamed, Named("Fine")], "BUNDLE Fine", "Fine").await;
    check(&[Named("Fine"), Lifted, Lifted], "", "Fine").await;
}

#[tokio::test]
async fn a_hold_of_staff_survives_every_bundle() {
    check(&[Set("Call us"), Unnamed], "STAFF Call us", "").await;
    check(&[Set("Call us"), Named("Fine")], "STAFF Call us", "Fine").await;
    check(&[Set("Call us"), Named("Fine"), Unnamed], "STAFF Call us", "").await;
    check(&[Set("Call us"), Lifted], "", "").await;
    check(&[Set("Call us"), Lifted, Named("Fine")], "BUNDLE Fine", "Fine").await;
}

#[tokio::test]
async fn staff_take_a_hold_of_a_bundle_over() {
    check(&[Named("Fine"), Set("Call us")], "STAFF Call us", "Fine").await;
    check(&[Named("Fine"), Set("Call us"), Named("Fine of 3")], "STAFF Call us", "Fine of 3").await;
    check(&[Named("Fine"), Set("Call us"), Unnamed], "STAFF Call us", "").await;
    check(&[Named("Fine"), Lifted, Set("Call us")], "STAFF Call us", "Fine").await;
    // What is lifted must not come back as the bundle's at once.
    check(&[Named("Fine"), Set("Call us"), Lifted], "", "Fine").await;
}
