//! The commands of staff for a student, as a refusal proposes them.

use matricula_harness::System;
use matricula_harness::campus::bundle;

use super::{json, run, until};

const DECISION: [&str; 4] = ["--by", "ada", "--reason", "ticket 7"];

#[track_caller]
fn check_refused(system: &System, arguments: &[&str], code: i32, says: &str) {
    let (found, stdout, stderr) = run(system, arguments);
    assert_eq!((found, stdout.as_str()), (Some(code), ""), "{arguments:?}: {stderr}");
    assert!(stderr.contains(says), "{arguments:?}: {stderr}");
}

#[tokio::test]
async fn a_refusal_names_the_command_for_an_override() {
    let system = System::up();
    system.import(&bundle(&[("A", 1, ""), ("B", 9, "")], 2));
    system.done(&["register", "S2", "--add", "A"]);
    let set = ["hold", "set", "S1", "library", "--text", "Unpaid library fine: pay at the desk"];
    let held = system.done(&[&set[..], &DECISION].concat());
    assert!(held.contains("library") && held.contains("pay at the desk"), "{held}");

    // The refusal has a command for its reason, and the command works unchanged.
    let (code, refused, _) = run(&system, &["register", "S1", "--add", "B"]);
    assert_eq!(code, Some(1), "{refused}");
    let (_, full, _) = run(&system, &["register", "S2", "--add", "B", "--drop", "A"]);
    assert!(full.contains("ENROLLED"), "{full}");
    let proposed = |refusal: &str| {
        let lines = refusal.lines().filter_map(|line| line.trim().strip_prefix("matricula override "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let commands = proposed(&refused);
    assert_eq!(commands, [r#"grant S1 HOLD --reason "WHY""#], "{refused}");
    for command in commands {
        let words = shlex::split(&command).expect("quotes are closed");
        let words: Vec<&str> = ["override"].into_iter().chain(words.iter().map(String::as_str)).collect();
        system.done(&words);
    }
    assert!(system.done(&["register", "S1", "--add", "A"]).contains("ENROLLED"));

    // The record is settled after the outcome.
    let status = || json(&system, &["student", "show", "S1"])["courses"][0]["status"].clone();
    until("it is settled", || status() == "ENROLLED");
    let shown = json(&system, &["student", "show", "S1"]);
    assert_eq!(shown["holds"][0]["hold_id"], "library", "{shown:#}");
    assert_eq!(shown["overrides"][0]["reason"], "HOLD", "{shown:#}");
    assert_eq!(shown["overrides"][0]["justification"], "WHY", "{shown:#}");
    assert_eq!(shown["courses"][0]["section_id"], "A", "{shown:#}");
    assert_eq!(shown["registrations"].as_array().map(Vec::len), Some(2), "{shown:#}");
    assert_eq!(shown["account"]["balance"]["minor_units"], 0, "this term charges nothing: {shown:#}");
    let text = system.done(&["student", "show", "S1"]);
    for part in ["library", "HOLD", "ENROLLED", "REFUSED", "balance       USD 0.00"] {
        assert!(text.contains(part), "{part}: {text}");
    }

    let (_, none, stderr) = run(&system, &[&["hold", "lift", "S1", "library"], &DECISION[..]].concat());
    assert!(none.contains("S1 has no hold") && stderr.contains("lifted by ada"), "{none}{stderr}");
    until("the log says who changed the hold", || {
        let log = system.log("up").join("\n");
        log.contains("staff changed a hold") && log.contains("ticket 7")
    });
}

#[tokio::test]
async fn bad_input_of_staff_names_the_field() {
    let system = System::up();
    system.import(&bundle(&[("A", 1, "")], 1));
    let grant = ["override", "grant"];
    let long = "x".repeat(501);
    for (arguments, code, says) in [
        (vec!["S9", "HOLD", "--reason", "why"], 1, "there is no student S9"),
        (vec!["S1", "HOLD", "--section", "Z", "--reason", "why"], 1, "there is no section Z"),
        (vec!["S 1", "HOLD", "--reason", "why"], 1, "student_id"),
        (vec!["S1", "HOLD", "--section", "a b", "--reason", "why"], 1, "section_id"),
        (vec!["S1", "HOLD", "--reason", &long], 1, "justification"),
        (vec!["S1", "HOLD", "--reason", "why", "--by", &long], 1, "granted_by"),
        (vec!["S1", "NOT_ENROLLED", "--reason", "why"], 2, "REASON"),
        (vec!["S1", "BRIBE", "--reason", "why"], 2, "CLOSED_SECTION"),
        (vec!["S1", "HOLD"], 2, "--reason"),
        (vec!["S1", "HOLD", "--reason", "why", "--until", "tomorrow"], 2, "--until"),
    ] {
        check_refused(&system, &[&grant[..], &arguments].concat(), code, says);
    }
    for (arguments, code, says) in [
        (vec!["set", "S1", "a b", "--text", "t", "--reason", "why"], 1, "hold.hold_id"),
        (vec!["set", "S1", "h", "--text", "", "--reason", "why"], 1, "hold.description"),
        (vec!["set", "S1", "h", "--text", "t", "--reason", &long], 1, "justification"),
        (vec!["set", "S9", "h", "--text", "t", "--reason", "why"], 1, "there is no student S9"),
        (vec!["set", "S1", "h", "--reason", "why"], 2, "--text"),
        (vec!["lift", "S1", "h", "--reason", "why"], 1, "S1 has no hold named h"),
        (vec!["list", "S9"], 1, "there is no student S9"),
    ] {
        check_refused(&system, &[&["hold"], &arguments[..]].concat(), code, says);
    }
    check_refused(&system, &["student", "show", "S9"], 1, "there is no student S9");
    check_refused(&system, &["student", "show", "no body"], 1, "student_id");
    assert_eq!(json(&system, &["override", "list", "S1"]), serde_json::json!([]));
}
