//! Finished sagas move to the archive while registrations go on: answers, lists and audits stay the same, and the
//! archive has the logs.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use matricula_harness::campus::bundle;
use matricula_harness::{PATIENCE, ROLES, Sql, System, submission, submit};
use matricula_kit::testing::{BACKENDS, Backend};
use matricula_proto::common::v1::operation_result::Outcome as Answer;
use matricula_proto::common::v1::{Operation, ReservedCourse};
use matricula_proto::registration::v1::Outcome;
use matricula_proto::seats::v1::seat_service_client::SeatServiceClient;
use matricula_proto::seats::v1::{HoldSeatsOperation, HoldSeatsRequest};
use serde_json::Value;

/// Between two checks of a fact without a notification.
const LOOK: Duration = Duration::from_millis(50);
/// A saga leaves a second after its end: these tests have no late calls.
const SHORT: [(&str, &str); 4] = [
    ("orchestrator.retention.margin_s", "0"),
    ("orchestrator.retention.keep_finished_s", "1"),
    ("orchestrator.retention.look_ms", "100"),
    ("orchestrator.retention.chunk", "50"),
];

async fn started(backend: Backend) -> System {
    match backend {
        Backend::Sqlite => System::up_with(&["--students", "0"], &SHORT),
        Backend::Postgres => System::separate(backend, &SHORT).await,
    }
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let give_up_at = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < give_up_at, "never: {what}");
        tokio::time::sleep(LOOK).await;
    }
}

fn json(system: &System, arguments: &[&str]) -> Value {
    serde_json::from_str(&system.done(&[arguments, &["--output", "json"]].concat())).expect("JSON")
}

fn ids(list: &Value) -> Vec<String> {
    let sagas = list.as_array().expect("a list").iter();
    let mut ids: Vec<String> = sagas.map(|saga| saga["saga_id"].as_str().expect("an id").to_owned()).collect();
    ids.sort();
    ids
}

/// Number of rows of a table of a role.
async fn rows(system: &System, role: &str, table: &str) -> i64 {
    Sql::open(&system.database_url(role)).await.number(&format!("SELECT COUNT(*) FROM {table}")).await
}

async fn until_all_have_left(system: &System) {
    until("no saga is left", async || rows(system, "orchestrator", "sagas").await == 0).await;
    assert_eq!(rows(system, "orchestrator", "saga_events").await, 0);
    for role in ROLES.into_iter().filter(|role| *role != "orchestrator") {
        assert_eq!(rows(system, role, "barrier").await, 0, "{role} has forgotten them");
    }
}

#[tokio::test]
async fn archived_sagas_are_answered_listed_audited_and_found_in_files() {
    for backend in BACKENDS {
        let system = started(backend).await;
        system.import(&bundle(&[("A", 1, "MW 09:00-09:50"), ("B", 5, "T 09:00-09:50")], 3));
        let portal = system.channel("orchestrator").await;
        let mut registrations = Vec::new();
        for (student, key, adds, drops, outcome) in [
            ("S1", "k1", &["A"][..], &[][..], Outcome::Enrolled),
            ("S2", "k1", &["A"], &[], Outcome::Refused),
            ("S1", "k2", &["B"], &["A"], Outcome::Enrolled),
            ("S2", "k2", &["A"], &[], Outcome::Enrolled),
            ("S3", "k1", &["B"], &[], Outcome::Enrolled),
        ] {
            let answer = submit(&portal, submission(student, key, adds, drops)).await;
            assert_eq!(answer.outcome(), outcome, "{backend:?}: {student} {key}: {answer:?}");
            registrations.push((submission(student, key, adds, drops), answer));
        }
        until_all_have_left(&system).await;

        // The same key returns the same registration with the same answer, and so do shows and lists.
        for (click, answer) in &registrations {
            let again = submit(&portal, click.clone()).await;
            assert_eq!(again, *answer, "{backend:?}");
            let shown = json(&system, &["registration", "show", &answer.registration_id]);
            assert_eq!(shown["registration_id"], answer.registration_id.as_str(), "{backend:?}: {shown:#}");
        }
        let mut changed = registrations[0].0.clone();
        changed.adds = vec!["B".to_owned()];
        let mut client =
            matricula_proto::registration::v1::registration_service_client::RegistrationServiceClient::new(portal);
        let reused = client.submit_registration(changed).await.expect_err("the key is taken");
        assert_eq!(reused.code(), tonic::Code::AlreadyExists, "{backend:?}: {reused:?}");
        let listed = json(&system, &["registration", "list", "S1"]);
        assert_eq!(listed.as_array().map(Vec::len), Some(2), "{backend:?}: {listed:#}");
        system.audit();

        let saga = registrations[1].1.registration_id.as_str();
        check_archive(
            &system,
            saga,
            &registrations.iter().map(|(_, answer)| answer.registration_id.as_str()).collect::<Vec<_>>(),
        );
        check_late_call(&system, saga).await;
        system.audit();
    }
}

/// Operators see the file of a saga, and read it without the system.
fn check_archive(system: &System, saga: &str, all: &[&str]) {
    assert_eq!(json(system, &["saga", "list"]), serde_json::json!([]));
    let shown = json(system, &["saga", "show", saga]);
    let file = shown["archived_in"].as_str().expect("it says where");
    assert_eq!((&shown["summary"]["outcome"], &shown["unreadable_because"]), (&"REFUSED".into(), &Value::Null));
    assert!(system.done(&["saga", "show", saga]).contains(file));
    assert!(system.done(&["saga", "explain", saga]).contains("in the archive"));
    let cancel = system.run(&["saga", "cancel", saga, "--reason", "too late"]);
    assert!(String::from_utf8_lossy(&cancel.stderr).contains("nothing is left to do"), "{cancel:?}");

    let mut all: Vec<String> = all.iter().map(|id| (*id).to_owned()).collect();
    all.sort();
    assert_eq!(ids(&json(system, &["archive", "list"])), all);
    let of_student = ids(&json(system, &["archive", "list", "--student", "S2"]));
    assert_eq!(of_student.len(), 2, "{of_student:?}");
    let tree = system.done(&["archive", "show", saga]);
    assert!(tree.contains("hold_seats (seats, compensatable): refused, 1 attempt"), "{tree}");
    let unknown = system.run(&["archive", "show", "nobody"]);
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");

    // A copy with a damaged line, beside the archive: the damage is reported, and everything else is shown.
    let dir = system.folder().join("matricula-data/archive");
    let copy = system.folder().join("copy");
    std::fs::create_dir(&copy).expect("a folder");
    let damaged = copy.join(Path::new(file).file_name().expect("a file"));
    let text = std::fs::read_to_string(dir.join(file)).expect("the file is there");
    std::fs::write(&damaged, format!("{{\"saga_id\":\n{text}")).expect("written");
    let folders: Vec<String> = [dir, copy].iter().map(|folder: &PathBuf| folder.display().to_string()).collect();
    let arguments = ["archive", "list", "--output", "json", "--dir", &folders[0], "--dir", &folders[1]];
    let output = system.run(&arguments);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(ids(&serde_json::from_slice(&output.stdout).expect("JSON")), all);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains(&format!("{}:1: ", damaged.display())), "{stderr}");
}

/// A call that was delayed for longer than the barrier rows are kept.
async fn check_late_call(system: &System, saga: &str) {
    let mut seats = SeatServiceClient::new(system.channel("seats").await);
    let old = matricula_kit::time::now().plus_ms(-3 * 3_600_000);
    let operation = Operation {
        saga_id: saga.to_owned(),
        step: "hold_seats".to_owned(),
        owner_alive_at: Some(old.to_wire()),
        ..Operation::default()
    };
    let section = ReservedCourse { section_id: "B".to_owned(), course_id: "B".to_owned(), ..ReservedCourse::default() };
    let section = ReservedCourse { term_id: "T".to_owned(), ..section };
    let hold = HoldSeatsOperation { operation: Some(operation), student_id: "S2".to_owned(), sections: vec![section] };
    let answer = seats.hold_seats(HoldSeatsRequest { operations: vec![hold] }).await.expect("an answer");
    match answer.into_inner().results.remove(0).outcome {
        Some(Answer::Error(error)) => assert_eq!(error.reason, "STALE_OPERATION", "{error:?}"),
        other => panic!("it was decided: {other:?}"),
    }
}

/// A whole morning; each saga leaves as soon as it has ended.
#[tokio::test]
async fn a_morning_whose_sagas_leave_at_once_ends_in_a_clean_audit() {
    for backend in BACKENDS {
        let system = started(backend).await;
        let folder = system.folder().join("campus").display().to_string();
        system.done(&["campus", "generate", &folder, "--students", "200", "--sections", "40", "--seed", "20261125"]);
        system.done(&["import", &folder]);
        // Ends with 1 if a click has no outcome, a repeated key got another answer, or the audit is not clean.
        system.done(&["rush", &folder, "--speed", "600x"]);
        until_all_have_left(&system).await;
        system.audit();
        let archived = ids(&json(&system, &["archive", "list", "--limit", "1000000"]));
        assert_eq!(archived.len() as i64, rows(&system, "orchestrator", "receipts").await, "{backend:?}");
        assert!(archived.len() > 500, "{backend:?}: {}", archived.len());
    }
}

/// Two registrations of version 1: one that enrolled, and one that its pivot refused.
const VERSION_1: &str = include_str!("growth/version_1.jsonl");

/// The archive is kept for ever, and so are the tables of all versions.
#[test]
fn an_archive_of_version_1_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let of_unknown = VERSION_1.lines().next().expect("a line").replace("\"version\":1", "\"version\":7");
    let of_unknown = of_unknown.replace("8000-000000000001", "8000-000000000007");
    std::fs::write(folder.path().join("a.jsonl"), format!("{VERSION_1}{of_unknown}\n")).expect("written");
    let archive = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_matricula"));
        let output = command.arg("archive").args(arguments).arg("--dir").arg(folder.path()).output().expect("it runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let listed: Value = serde_json::from_str(&archive(&["list", "--output", "json"])).expect("JSON");
    let shown = |saga: &Value| {
        format!("{} v{} {}", saga["phase"], saga["definition_version"], saga["outcome"]).replace('"', "")
    };
    let listed: Vec<String> = listed.as_array().expect("a list").iter().map(shown).collect();
    assert_eq!(listed, ["completed v1 ENROLLED", "compensated v1 REFUSED", "unreadable v7 UNKNOWN"]);
    let show = |number: u32| archive(&["show", &format!("01a22a27-0000-7000-8000-00000000000{number}")]);
    for part in [
        "definition    registration version 1",
        "create_enrollments (enrollments, compensatable): done",
        "commit_enrollments (enrollments, pivot): done",
    ] {
        assert!(show(1).contains(part), "{part} is missing in:\n{}", show(1));
    }
    for part in ["undo CancelEnrollments: done", "commit_enrollments (enrollments, pivot): refused"] {
        assert!(show(2).contains(part), "{part} is missing in:\n{}", show(2));
    }
    assert!(show(7).contains("registration v7 is not known here"), "{}", show(7));
}
