//! Operators' commands against real processes, sent to another orchestrator than the one that drives the saga.

use std::io::{BufRead as _, BufReader};
use std::process::Output;
use std::sync::mpsc;

use matricula_harness::{Metrics, PATIENCE, System, submission, submit};
use matricula_kit::testing::Backend;
use matricula_proto::enrollments::v1::ListEnrollmentsRequest;
use matricula_proto::enrollments::v1::enrollment_service_client::EnrollmentServiceClient;
use matricula_proto::registration::v1::{Outcome, SubmitRegistrationRequest};
use serde_json::Value;

use crate::campus::bundle;

const OWNER: &str = "orchestrator";
const OTHER: &str = "second";
/// The arguments of every command.
const DECISION: [&str; 4] = ["--by", "ada", "--reason", "ticket 7"];

/// Five services, and two orchestrators. The first has a wrong address for the notifications.
async fn system() -> System {
    let mut system = System::separate(Backend::Postgres, &[]).await;
    let elsewhere = format!("http://{}", system.address("seats"));
    system.set_own(OWNER, "orchestrator.notifications_url", &elsewhere);
    system.kill(OWNER);
    system.restart(OWNER);
    system.add_orchestrator(OTHER);
    system
}

/// Runs a command at the other orchestrator.
fn run(system: &System, arguments: &[&str]) -> (Option<i32>, String, String) {
    run_at(system, OTHER, arguments)
}

fn run_at(system: &System, orchestrator: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let url = format!("http://{}", system.address(orchestrator));
    let Output { status, stdout, stderr } = system.run(&[arguments, &["--orchestrator", &url]].concat());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (status.code(), text(stdout), text(stderr))
}

#[track_caller]
fn done(system: &System, arguments: &[&str]) -> String {
    let (code, stdout, stderr) = run(system, arguments);
    assert_eq!(code, Some(0), "{arguments:?}\n{stdout}\n{stderr}");
    stdout
}

#[track_caller]
fn check_refused(system: &System, arguments: &[&str], code: i32, says: &str) {
    let (found, stdout, stderr) = run(system, &[arguments, &DECISION].concat());
    assert_eq!(found, Some(code), "{arguments:?}\n{stdout}\n{stderr}");
    assert!(stderr.contains(says), "{arguments:?}: {stderr}");
}

fn json(system: &System, arguments: &[&str]) -> Value {
    serde_json::from_str(&done(system, &[arguments, &["--output", "json"]].concat())).expect("JSON")
}

/// Waits for a fact without a notification.
fn until(what: &str, fact: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !fact() {
        assert!(start.elapsed() < PATIENCE, "in vain: {what}");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

/// The audit is clean, and names the manual decisions.
#[track_caller]
fn check_audit(system: &System, by_hand: [&String; 3]) {
    let report = json(system, &["audit"]);
    assert_eq!(report["holds"], true, "{report:#}");
    let mut expect = by_hand.map(String::as_str);
    expect.sort_unstable();
    assert_eq!(report["decided_by_hand"], serde_json::json!({ "count": 3, "registration_ids": expect }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_saga_is_explained_and_decided_at_another_replica() {
    let mut system = system().await;
    system.import(&bundle(&[("A", 9, "")], 4));
    let portal = system.channel(OWNER).await;
    let mut ids = Vec::new();
    for student in ["S1", "S2", "S3", "S4"] {
        let enrolled = submit(&portal, submission(student, "k1", &["A"], &[])).await;
        assert_eq!(enrolled.outcome(), Outcome::Enrolled);
        ids.push(enrolled.registration_id);
    }
    let [skipped, resolved, abandoned, left] = &ids[..] else { panic!("four") };
    let stuck = || json(&system, &["saga", "list", "--needs-attention"])["sagas"].clone();
    until("all need attention", || stuck().as_array().is_some_and(|sagas| sagas.len() == 4));

    let mut watch = system.spawn(&[
        "saga",
        "watch",
        "--needs-attention",
        "--orchestrator",
        &format!("http://{}", system.address(OTHER)),
    ]);
    let (lines, watched) = mpsc::channel();
    let stdout = BufReader::new(watch.stdout.take().expect("stdout is piped"));
    std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
    let next = || watched.recv_timeout(PATIENCE).expect("the watch prints it");
    for id in &ids {
        let line = next();
        assert!(line.contains(id.as_str()) && line.contains("ATTENTION"), "oldest first: {line}");
    }

    let explained = done(&system, &["saga", "explain", skipped]);
    for part in ["needs attention", "unimplemented", "skip ", "retry ", "abandon "] {
        assert!(explained.contains(part), "{explained}");
    }
    check_refused(&system, &["saga", "cancel", skipped], 1, "too late to cancel");
    check_refused(&system, &["saga", "skip", skipped, "enroll", "--yes"], 1, "VERB_REFUSED");
    check_refused(&system, &["saga", "skip", skipped, "bribe", "--yes"], 1, "step: must be one of");
    check_refused(&system, &["saga", "skip", "nobody", "notify", "--yes"], 1, "there is no saga nobody");
    check_refused(&system, &["saga", "skip", skipped, "notify"], 2, "leaves it undone for good");
    check_refused(&system, &["saga", "skip", skipped, "settle_courses"], 2, "would be refused in the current state");
    check_refused(&system, &["saga", "abandon", skipped], 2, "Add --yes to carry it out");
    check_refused(&system, &["saga", "resolve", skipped, "notify", "--yes"], 2, "--done|--refused");
    let (code, _, _) = run(&system, &["saga", "retry", skipped]);
    assert_eq!(code, Some(2), "nothing is decided without a reason");
    assert_eq!(stuck().as_array().map(Vec::len), Some(4), "nothing was done");

    let retried = done(&system, &[&["saga", "retry", skipped, "notify"], &DECISION[..]].concat());
    assert!(retried.contains("completing"), "{retried}");
    until("it has failed again", || stuck().as_array().is_some_and(|sagas| sagas.len() == 4));
    let one = done(&system, &[&["saga", "skip", skipped, "notify", "--yes"], &DECISION[..]].concat());
    assert!(one.contains("abandoned"), "{one}");
    let one = done(&system, &[&["saga", "resolve", resolved, "notify", "--done", "--yes"], &DECISION[..]].concat());
    assert!(one.contains("completed"), "{one}");
    let one = done(&system, &[&["saga", "abandon", abandoned, "--yes"], &DECISION[..]].concat());
    assert!(one.contains("abandoned"), "{one}");
    let shown = done(&system, &["saga", "show", skipped]);
    assert!(shown.contains("abandoned, ENROLLED"), "{shown}");
    assert!(shown.contains("notify (notifications, closing): skipped"), "{shown}");
    assert!(shown.contains("ada skipped the action of notify: ticket 7"), "{shown}");
    for id in [skipped, abandoned] {
        let mut line = next();
        while !(line.contains(id.as_str()) && line.contains("abandoned")) {
            line = next();
        }
    }
    check_audit(&system, [skipped, resolved, abandoned]);

    // Its owner is gone: the command waits for the instance that adopts the saga and has the right address.
    system.kill(OWNER);
    let (code, _, stderr) = run(&system, &[&["saga", "retry", left], &DECISION[..]].concat());
    assert!(code == Some(0) || stderr.contains("nothing"), "it goes on by itself, or by the verb: {stderr}");
    until("it is finished", || json(&system, &["saga", "show", left])["summary"]["phase"] == "completed");
    check_audit(&system, [skipped, resolved, abandoned]);
    watch.kill().expect("it runs");
    watch.wait().expect("it ends");
}

/// A service is away while a pivot waits for it, an operator finds that nothing is enrolled, and the service comes
/// back. The pivot must not be called afterwards: the outcome and the official record would differ.
#[tokio::test(flavor = "multi_thread")]
async fn a_pivot_that_was_found_refused_does_not_come_later() {
    let mut system = System::separate(Backend::Postgres, &[]).await;
    system.add_orchestrator(OTHER);
    system.import(&bundle(&[("A", 9, "")], 1));
    let limit = |system: &System, in_flight: &str| {
        let (code, _, stderr) = run_at(system, OWNER, &["saga", "limit", "fees", in_flight]);
        assert_eq!(code, Some(0), "{stderr}");
    };
    limit(&system, "0");
    let submission = SubmitRegistrationRequest { wait_ms: 0, ..submission("S1", "k1", &["A"], &[]) };
    let id = submit(&system.channel(OWNER).await, submission).await.registration_id;
    let explained = |system: &System| done(system, &["saga", "explain", &id]);
    let says =
        |text: String, step: &str, word: &str| text.lines().any(|line| line.contains(step) && line.contains(word));
    until("it has its seat", || says(explained(&system), "hold_seats", "done"));
    system.kill("enrollments");
    limit(&system, "8");
    until("its pivot has failed", || says(explained(&system), "enroll", "failed"));
    let resolve = ["saga", "resolve", &id, "enroll", "--refused", "--yes"];
    let (code, stdout, stderr) = run(&system, &[&resolve[..], &DECISION].concat());
    assert_eq!(code, Some(3), "the service is asked first, and does not answer: {stdout} {stderr}");
    assert!(stderr.contains("Not carried out yet: being undone"), "{stderr}");
    let asked = explained(&system);
    assert!(asked.contains("whether its pivot has happened"), "{asked}");
    until("the question has failed", || says(explained(&system), "enroll", "failed"));
    check_refused(&system, &["saga", "resolve", &id, "enroll", "--done", "--yes"], 1, "is being asked");
    system.restart("enrollments");
    until("it is finished", || json(&system, &["saga", "show", &id])["summary"]["phase"] == "compensated");
    let report = json(&system, &["audit"]);
    assert_eq!(report["holds"], true, "{report:#}");
    let mut enrollments = EnrollmentServiceClient::new(system.channel("enrollments").await);
    let request = ListEnrollmentsRequest { student_id: "S1".to_owned(), ..ListEnrollmentsRequest::default() };
    let listed = enrollments.list_enrollments(request).await.expect("a list").into_inner().enrollments;
    assert!(listed.is_empty(), "{listed:?}");
}

/// A service is away under load. Operators see it as the cause, with its error and the number of waiting sagas. They do
/// not see the registrations that wait for other registrations.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_does_not_answer_is_named_as_the_cause() {
    const STUDENTS: u32 = 6;
    let settings = [("orchestrator.runtime.destination_attention_after_ms", "1000")];
    let mut system = System::separate(Backend::Postgres, &settings).await;
    system.add_orchestrator(OTHER);
    system.import(&bundle(&[("A", 9, "")], STUDENTS));
    system.kill("fees");
    let portal = system.channel(OWNER).await;
    let click = |student: &str, key: &str, adds: &[&str], drops: &[&str]| SubmitRegistrationRequest {
        wait_ms: 0,
        ..submission(student, key, adds, drops)
    };
    let mut victims = Vec::new();
    for student in 1..=STUDENTS {
        victims.push(submit(&portal, click(&format!("S{student}"), "add", &["A"], &[])).await.registration_id);
    }
    let says = |id: &str, what: &str| {
        let text = done(&system, &["saga", "explain", id]);
        text.split_whitespace().collect::<Vec<_>>().join(" ").contains(what)
    };
    until("the first one has its course", || says(&victims[0], "reserve_courses done"));
    // For the same student and course: it waits until the first one is over.
    let behind = submit(&portal, click("S1", "drop", &[], &["A"])).await.registration_id;

    let causes =
        |system: &System| json(system, &["saga", "list", "--needs-attention"])["destinations_in_trouble"].clone();
    until("fees needs attention, and all that wait are counted under it", || {
        let fees = &causes(&system)[0];
        fees["name"] == "fees" && fees["sagas_waiting"] == STUDENTS && fees["sagas_behind"] == 1
    });
    let fees = causes(&system)[0].clone();
    assert_eq!(causes(&system).as_array().map(Vec::len), Some(1), "the others answer");
    let error = fees["last_error"].as_str().expect("it has failed").to_owned();
    assert!(error.starts_with("unavailable"), "{error}");
    // The other replica has this from the replica that drives the sagas.
    let table = done(&system, &["saga", "list", "--needs-attention"]);
    for part in ["services that need attention", "fees", "has not answered for", "unavailable", "6 sagas wait for it"] {
        assert!(table.contains(part), "{part}: {table}");
    }
    for id in &victims {
        assert!(says(id, "waits for fees, which has not answered for"), "{}", done(&system, &["saga", "explain", id]));
    }
    let first = &victims[0];
    for part in [
        format!("waits for registration {first} of the same student"),
        "which waits for fees, which has not answered for".to_owned(),
    ] {
        assert!(says(&behind, &part), "{part}: {}", done(&system, &["saga", "explain", &behind]));
    }
    let list = json(&system, &["saga", "list", "--unfinished"]);
    let listed = |id: &str| list.as_array().and_then(|sagas| sagas.iter().find(|saga| saga["saga_id"] == id)).cloned();
    let waits = listed(&behind).expect("it is listed");
    assert_eq!((&waits["waits_for_saga_id"], &waits["waits_for_service"]), (&first.as_str().into(), &"fees".into()));
    assert_eq!(listed(&victims[3]).expect("it is listed")["waits_for_service"], "fees");
    let destinations = json(&system, &["saga", "destinations"]);
    let seen = destinations.as_array().expect("a list").iter().filter(|one| one["needs_attention"] == true);
    assert!(seen.clone().count() == 1 && seen.clone().all(|one| one["name"] == "fees"), "{destinations:#}");
    let gauge = async |system: &System| {
        let metrics = Metrics::read(&system.http_address(OWNER)).await.expect("it serves its metrics");
        metrics.by("matricula_destination_needs_attention", "destination").get("fees").copied()
    };
    assert_eq!(gauge(&system).await, Some(1.0));
    // A command whose effect has to wait is not reported as done.
    let retry = [&["saga", "retry", &victims[1]], &DECISION[..]].concat();
    let (code, _, stderr) = run(&system, &retry);
    assert!(code == Some(3) && stderr.contains("Not carried out yet") || code == Some(1), "{code:?} {stderr}");
    let (code, _, stderr) = run(&system, &[&["saga", "cancel", &victims[5]], &DECISION[..]].concat());
    assert_eq!(code, Some(3), "its fees can't be taken back: {stderr}");
    assert!(stderr.contains("being undone") && stderr.contains("assess_fees"), "{stderr}");

    system.restart("fees");
    until("fees needs no attention any more", || causes(&system).as_array().is_some_and(Vec::is_empty));
    until("all are finished", || {
        json(&system, &["saga", "list", "--unfinished"]).as_array().is_some_and(Vec::is_empty)
    });
    assert_eq!(gauge(&system).await, Some(0.0));
    let count = |level: &str, text: &str| {
        let is_meant = |line: &&String| line.contains(level) && line.contains(text) && line.contains("fees");
        system.log(OWNER).iter().filter(is_meant).count()
    };
    until("the log says once that fees answers again", || {
        count("INFO", "a service that needed attention answers again") == 1
    });
    assert_eq!(count("ERROR", "a service does not answer"), 1);
    system.audit();
}
