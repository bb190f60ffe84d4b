//! The command line for people and programs: JSON of every command, exit codes, ids, full disks, hang-ups, colours.

mod endings;
mod ids;
mod list;
mod names;
mod staff;

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use matricula_harness::campus::bundle;
use matricula_harness::{PATIENCE, System, submission, submit};
use matricula_kit::testing::Backend;
use matricula_proto::registration::v1::{Outcome, SubmitRegistrationRequest};
use serde_json::Value;

use list::{COMMANDS, Shows};
use names::{LISTS, NAMES};

/// Between two checks of a fact.
const LOOK: Duration = Duration::from_millis(50);

/// A command with its exit code and its output.
fn run(system: &System, arguments: &[&str]) -> (Option<i32>, String, String) {
    said(system.run(arguments))
}

fn said(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn json(system: &System, arguments: &[&str]) -> Value {
    serde_json::from_str(&system.done(&[arguments, &["--output", "json"]].concat())).expect("JSON")
}

fn until(what: &str, fact: impl Fn() -> bool) {
    let start = Instant::now();
    while !fact() {
        assert!(start.elapsed() < PATIENCE, "in vain: {what}");
        std::thread::sleep(LOOK);
    }
}

/// The ids of the sagas in the archive, which has no folder before its first saga.
fn archived(system: &System) -> Vec<String> {
    let (_, listed, _) = run(system, &["archive", "list", "--output", "json"]);
    let listed: Vec<Value> = serde_json::from_str(&listed).unwrap_or_default();
    listed.iter().map(|saga| saga["saga_id"].as_str().expect("an id").to_owned()).collect()
}

/// The values for the names in braces in the list of invocations.
struct Made(Vec<(String, String)>);

impl Made {
    fn filled(&self, arguments: &str) -> Vec<String> {
        let mut filled = arguments.to_owned();
        for (name, value) in &self.0 {
            filled = filled.replace(&format!("{{{name}}}"), value);
        }
        assert!(!filled.contains('{'), "{filled}: nothing has this name");
        shlex::split(&filled).expect("quotes are closed")
    }
}

/// The forms on which programs rely, anywhere in a document: times are RFC 3339, ids are complete, enum values are
/// names.
#[track_caller]
fn check_stable(path: &str, value: &Value) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| check_stable(path, item)),
        Value::Object(fields) => {
            for (name, field) in fields {
                check_field(path, name, field);
                check_stable(path, field);
            }
        }
        _ => {}
    }
}

#[track_caller]
fn check_field(path: &str, name: &str, field: &Value) {
    let Some(text) = field.as_str() else {
        let is_named = ["outcome", "phase", "status", "reason", "kind", "breaker"].contains(&name);
        let is_sound = field.is_null() || !(is_named || name.ends_with("_at") || name.ends_with("_id"));
        assert!(is_sound, "{path}: {name} is {field}");
        return;
    };
    if name.ends_with("_at") || name == "valid_until" {
        assert!(text.parse::<jiff::Timestamp>().is_ok() && text.ends_with('Z'), "{path}: {name} is {text}");
    }
    if name == "saga_id" || name == "registration_id" {
        assert_eq!(uuid::Uuid::try_parse(text).map(|id| id.to_string()).as_deref(), Ok(text), "{path}: {name}");
    }
}

/// The first line of a command that runs until it is interrupted.
fn first_line(system: &System, arguments: &[&str]) -> String {
    let mut child = system.spawn(arguments);
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("stdout is piped")).read_line(&mut line).expect("it says something");
    child.kill().expect("it runs");
    child.wait().expect("it has ended");
    line
}

/// Each command with `--output json` prints one document, or one a line.
#[tokio::test(flavor = "multi_thread")]
async fn every_command_that_shows_something_has_json() {
    // Sagas go to the archive a second after their end, so that it has one.
    let retention = [
        ("orchestrator.retention.margin_s", "0"),
        ("orchestrator.retention.keep_finished_s", "1"),
        ("orchestrator.retention.look_ms", "100"),
    ];
    let mut system = System::separate(Backend::Sqlite, &retention).await;
    let folder = |name: &str| system.folder().join(name).display().to_string();
    let mut made = Made(vec![("made".to_owned(), folder("made")), ("campus".to_owned(), folder("campus"))]);
    let mut bundle = bundle(&[("A", 9, ""), ("B", 9, ""), ("C", 9, "")], 9);
    bundle.registrations = vec![matricula_campus::Registration {
        arrival_ms: 10,
        key: matricula_campus::IdempotencyKey::try_new("k").expect("a key"),
        student_id: matricula_campus::StudentId::try_new("S9").expect("an id"),
        adds: vec![matricula_campus::SectionId::try_new("C").expect("an id")],
        drops: Vec::new(),
    }];
    matricula_campus::write(&bundle, &system.folder().join("campus")).expect("written");
    let mut is_stuck = false;
    for command in COMMANDS.iter().filter(|command| command.shows != Shows::Nothing) {
        if command.path == "archive list" {
            until("something is in the archive", || !archived(&system).is_empty());
            made.0.push(("archived".to_owned(), archived(&system).remove(0)));
        }
        if command.path.starts_with("saga") && !is_stuck {
            is_stuck = true;
            stick(&mut system, &mut made).await;
        }
        if command.path == "saga cancel" {
            let waiting = SubmitRegistrationRequest { wait_ms: 0, ..submission("S8", "k8", &["A"], &[]) };
            let parked = submit(&system.channel("orchestrator").await, waiting).await.registration_id;
            // A cancel before the call of fees is carried out at once: the fee service has nothing to compensate.
            let waits = |destination: &Value| destination["name"] == "fees" && destination["waiting"] != 0;
            let destinations = || json(&system, &["saga", "destinations"]);
            let is_parked = || destinations().as_array().is_some_and(|all| all.iter().any(waits));
            until("the saga waits for the fees", is_parked);
            made.0.push(("parked".to_owned(), parked));
        }
        let path = command.path;
        let arguments: Vec<String> = path.split(' ').map(str::to_owned).chain(made.filled(command.arguments)).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(["--output", "json"]).collect();
        let shown = match command.shows {
            Shows::Lines => first_line(&system, &arguments),
            // The calls of fees are parked: the cancel is recorded, and nothing is compensated yet.
            _ if path == "saga cancel" => recorded(&system, &arguments),
            _ => system.done(&arguments),
        };
        let document: Value = serde_json::from_str(&shown).unwrap_or_else(|error| panic!("{path}: {error}\n{shown}"));
        check_stable(path, &document);
        check_names(path, &document);
        if path == "register" {
            let id = document["registration_id"].as_str().expect("an id");
            made.0.push(("registration".to_owned(), id.to_owned()));
        }
    }
}

/// The output of a command that is in the saga's log and is not carried out yet.
#[track_caller]
fn recorded(system: &System, arguments: &[&str]) -> String {
    let (code, shown, stderr) = run(system, arguments);
    assert_eq!(code, Some(3), "{shown}\n{stderr}");
    shown
}

/// Every name that programs rely on is in the document, or in the first of a list.
#[track_caller]
fn check_names(path: &str, document: &Value) {
    let (_, names) = NAMES.iter().find(|(known, _)| *known == path).unwrap_or_else(|| panic!("{path} has no names"));
    let is_list = document.is_array();
    let first = if is_list { &document[0] } else { document };
    assert_eq!(is_list, LISTS.contains(&path), "{path}: {document:#}");
    for name in names.split_whitespace() {
        assert!(first.get(name).is_some(), "{path}: {name} is gone: {first:#}");
    }
}

/// Sagas that need attention: the orchestrator has a wrong address for the notifications.
async fn stick(system: &mut System, made: &mut Made) {
    let elsewhere = format!("http://{}", system.address("seats"));
    system.set_own("orchestrator", "orchestrator.notifications_url", &elsewhere);
    system.kill("orchestrator");
    system.restart("orchestrator");
    let portal = system.channel("orchestrator").await;
    for number in 1..=4 {
        let enrolled = submit(&portal, submission(&format!("S{}", number + 1), "stuck", &["A"], &[])).await;
        assert_eq!(enrolled.outcome(), Outcome::Enrolled, "{enrolled:?}");
        made.0.push((format!("stuck{number}"), enrolled.registration_id));
    }
    let stuck = || json(system, &["saga", "list", "--needs-attention"])["sagas"].as_array().map(Vec::len);
    until("all need attention", || stuck() == Some(4));
}

/// Exit codes of every command, as the contract has them.
#[tokio::test]
async fn exit_codes_are_those_of_the_contract() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let code = |arguments: &[&str]| {
        let mut command = matricula(folder.path());
        let output = command.args(arguments).stdin(Stdio::null()).output().expect("the binary runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for command in COMMANDS {
        let path: Vec<&str> = command.path.split(' ').collect();
        let with = |more: &[&'static str]| [&path[..], more].concat();
        assert_eq!(code(&with(&["--help"])).0, Some(0), "{}", command.path);
        assert_eq!(code(&with(&["--no-such-flag"])).0, Some(2), "{}", command.path);
        // With everything that it needs, and an unknown setting.
        let id = "01a20394-7ebb-7176-8acb-23285aac80e3";
        let filled = command.arguments.replace("{made}", "made").replace("{campus}", "campus");
        let filled: Vec<String> = shlex::split(&filled).expect("quotes are closed");
        let filled: Vec<&str> =
            filled.iter().map(|word| if word.starts_with('{') { id } else { word.as_str() }).collect();
        let (bad, said) = code(&[&path[..], &filled, &["--set", "no.such=1"]].concat());
        assert_eq!(bad, Some(64), "{}: {said}", command.path);
        // No service listens there. Commands that need no system succeed, or fail for another reason.
        let needs_none = ["up", "serve", "config", "campus generate", "database compact"];
        if !needs_none.contains(&command.path) {
            let (away, said) = code(&[&path[..], &filled, &["--orchestrator", "http://127.0.0.1:1"]].concat());
            assert_eq!(away, Some(1), "{}: {said}", command.path);
            assert!(said.starts_with("error: ") || command.path.contains("import") || command.path == "rush", "{said}");
        }
    }
    assert_eq!(code(&["--version"]).0, Some(0));
    assert_eq!(code(&[]).0, Some(2));
    assert_eq!(code(&["saga", "show", "01a"]).0, Some(2), "too short to name a saga");
}

/// The binary in an empty folder, without the environment of this machine.
fn matricula(folder: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_matricula"));
    command.current_dir(folder).env_clear();
    for (setting, url) in SERVICES_AWAY {
        command.env(setting, url);
    }
    command
}

/// Addresses at which no service listens.
const SERVICES_AWAY: [(&str, &str); 5] = [
    ("MATRICULA_ORCHESTRATOR__SEATS_URL", "http://127.0.0.1:1"),
    ("MATRICULA_ORCHESTRATOR__ENROLLMENTS_URL", "http://127.0.0.1:1"),
    ("MATRICULA_ORCHESTRATOR__ACADEMICS_URL", "http://127.0.0.1:1"),
    ("MATRICULA_ORCHESTRATOR__FEES_URL", "http://127.0.0.1:1"),
    ("MATRICULA_ORCHESTRATOR__NOTIFICATIONS_URL", "http://127.0.0.1:1"),
];
