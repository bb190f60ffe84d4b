//! A student sees a seat, another one takes it, and the refusal says what happened.

use std::process::Output;
use std::time::Instant;

use matricula_kit::testing::{BACKENDS, Backend};
use matricula_kit::time::{self, UnixMs};
use matricula_proto::registration::v1::Outcome;
use serde_json::{Value, json};

use crate::campus::bundle;
use matricula_harness::{PATIENCE, System, submission, submit};

/// The zone of the campus, in which students see times.
const ZONE: [(&str, &str); 1] = [("time_zone", "America/Los_Angeles")];

/// A time of a JSON document, in the form for students.
fn as_read(moment: &Value) -> String {
    let moment: jiff::Timestamp = moment.as_str().expect("a moment").parse().expect("RFC 3339");
    let shown = time::shown(UnixMs(moment.as_millisecond()), &time::zone(ZONE[0].1).expect("a zone"));
    assert!(shown.ends_with(" PST") || shown.ends_with(" PDT"), "{shown}");
    shown
}

fn parsed(stdout: &[u8]) -> Value {
    serde_json::from_slice(stdout).expect("JSON on stdout")
}

/// The section as a portal shows it. The feed brings an import to the portal a moment later.
fn shown(system: &System, section: &str) -> Value {
    let give_up_at = Instant::now() + PATIENCE;
    loop {
        let mut shown = parsed(system.done(&["sections", "show", section, "--output", "json"]).as_bytes());
        let seats = shown["sections"][0]["availability"].take();
        if !seats.is_null() {
            return seats;
        }
        assert!(Instant::now() < give_up_at, "the portal never heard of {section}");
    }
}

fn register(system: &System, student: &str, section: &str, seen: &Value, output: &str) -> Output {
    let seen = format!("{section}={}", seen["version"]);
    system.run(&["register", student, "--add", section, "--seen", &seen, "--output", output])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_names_a_seat_that_went_before_the_click() {
    for backend in BACKENDS {
        let system = match backend {
            Backend::Sqlite => System::up_with(&["--students", "0"], &ZONE),
            Backend::Postgres => System::separate(backend, &ZONE).await,
        };
        system.import(&bundle(&[("A", 1, ""), ("B", 5, "")], 3));
        let portal = system.channel("orchestrator").await;
        let (saw_a, saw_b) = (shown(&system, "A"), shown(&system, "B"));
        assert_eq!((&saw_a["free"], &saw_b["free"]), (&json!(1), &json!(5)));

        let first = submit(&portal, submission("S1", "k", &["A"], &[])).await;
        assert_eq!(first.outcome(), Outcome::Enrolled);
        let refused = register(&system, "S2", "A", &saw_a, "json");
        assert_eq!(refused.status.code(), Some(1), "{backend:?}");
        let refused = parsed(&refused.stdout);
        let reason = &refused["reasons"][0];
        assert_eq!(reason["reason"], "CLOSED_SECTION", "{refused}");
        let seen = json!({ "version": 1, "free": 1, "capacity": 1, "changed_at": saw_a["changed_at"] });
        assert_eq!((&reason["seen"], &reason["section_version"]), (&seen, &json!(2)));
        // The seat was taken while the first one was at work, by the same clock.
        let (submitted, decided) = (first.submitted_at.expect("a moment"), first.decided_at.expect("a moment"));
        let between = |moment: &Value| {
            let moment: jiff::Timestamp = moment.as_str().expect("a moment").parse().expect("RFC 3339");
            let moment = (moment.as_second(), moment.subsec_nanosecond());
            (submitted.seconds, submitted.nanos) <= moment && moment <= (decided.seconds, decided.nanos)
        };
        assert!(between(&reason["closed_at"]), "{refused}");
        let message = format!(
            "Section A had 1 free seat when you saw it (version 1, of {}); the last one went at {}, and it was at version \
             2 when you were refused.",
            as_read(&saw_a["changed_at"]),
            as_read(&reason["closed_at"]),
        );
        assert_eq!(reason["message"], message);

        system.done(&["sections", "set-capacity", "B", "0"]);
        let refused = register(&system, "S2", "B", &saw_b, "table");
        assert_eq!(refused.status.code(), Some(1), "{backend:?}");
        let refusal = String::from_utf8_lossy(&refused.stdout);
        assert!(refusal.contains("Section B had 5 free seats when you saw it (version 1, of "), "{refusal}");
        assert!(refusal.contains("; its capacity was set to 0 at "), "{refusal}");
        system.audit();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_seen_versions_are_unknown() {
    let mut system = System::up_with(&["--students", "0"], &ZONE);
    system.import(&bundle(&[("A", 1, "")], 3));
    let seen = shown(&system, "A");
    let portal = system.channel("orchestrator").await;
    submit(&portal, submission("S1", "k", &["A"], &[])).await;
    let refusal = parsed(&register(&system, "S2", "A", &seen, "json").stdout);
    drop(portal);
    system.kill("up");
    system.restart("up");
    // Confirmed views are in the log; versions that were seen and not sent are lost.
    let id = refusal["registration_id"].as_str().expect("an id");
    let again = parsed(system.done(&["registration", "show", id, "--output", "json"]).as_bytes());
    assert_eq!(again, refusal);
    let later = parsed(&register(&system, "S3", "A", &seen, "json").stdout);
    let version = json!({ "version": 1, "free": null, "capacity": null, "changed_at": null });
    assert_eq!(later["reasons"][0]["seen"], version, "{later}");
    // This sentence is the seat service's own.
    let went = as_read(&later["reasons"][0]["closed_at"]);
    let message = format!("Section A is full: its one seat is taken. The last seat went at {went}.");
    assert_eq!(later["reasons"][0]["message"], message);
}
