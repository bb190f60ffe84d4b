//! The ends of commands and servers: on a full disk, behind a closed pipe, at a hang-up; and their colours.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use matricula_harness::campus::bundle;
use matricula_harness::{PATIENCE, System};

use super::{run, said, until};

/// The message when the work was done and its result is lost.
const LOST: &str = "the work was done, but its result could not be written: No space left on device";
/// Number of SIGHUP.
const SIGHUP: i32 = 1;

fn full_disk() -> Stdio {
    File::options().write(true).open("/dev/full").expect("Linux has it").into()
}

#[tokio::test]
async fn a_full_disk_under_stdout_is_reported() {
    let system = System::up();
    system.import(&bundle(&[("A", 9, "")], 3));
    let made = system.folder().join("made").display().to_string();
    for arguments in [
        vec!["sections", "show"],
        vec!["sections", "show", "--output", "json"],
        vec!["sections", "watch"],
        vec!["register", "S1", "--add", "A", "--key", "k1"],
        vec!["registration", "list", "S1"],
        vec!["student", "show", "S1"],
        vec!["saga", "list"],
        vec!["audit"],
        vec!["config"],
        vec!["campus", "generate", &made, "--students", "30", "--sections", "10"],
        vec!["--help"],
        vec!["saga", "--help"],
        vec!["--version"],
    ] {
        let output = system.matricula().args(&arguments).stdout(full_disk()).stdin(Stdio::null()).output();
        let (code, _, stderr) = said(output.expect("the binary runs"));
        assert_eq!(code, Some(1), "{arguments:?}: {stderr}");
        assert!(stderr.contains(LOST), "{arguments:?}: {stderr}");
    }
    // The command was carried out.
    let (code, shown, _) = run(&system, &["register", "S1", "--add", "A", "--key", "k1"]);
    assert!(code == Some(0) && shown.contains("ENROLLED"), "{shown}");
    // Carried out too, although no output can be written at all.
    let mut hold = system.matricula();
    hold.args(["hold", "set", "S2", "h", "--text", "t", "--reason", "why"]).stderr(full_disk()).stdin(Stdio::null());
    let output = hold.output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[tokio::test]
async fn a_reader_that_closes_its_pipe_causes_no_message() {
    let system = System::up();
    system.import(&bundle(&[("A", 9, "")], 3));
    for arguments in [&["sections", "show"][..], &["config"], &["--help"], &["sections", "watch"]] {
        let (reader, stdout) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = system.matricula().args(arguments).stdout(stdout).stdin(Stdio::null()).output();
        let (code, _, stderr) = said(output.expect("the binary runs"));
        assert_eq!(code, Some(1), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("written") && !stderr.contains("panic"), "{arguments:?}: {stderr}");
    }
}

/// A file that could not be written whole is absent, and an earlier one is unchanged.
#[tokio::test]
async fn files_are_written_whole_or_not_at_all() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // A limit of the size of files replaces a full disk: 512 bytes a block.
    let limited = |limit: &str, arguments: &str| {
        let binary = env!("CARGO_BIN_EXE_matricula");
        let script = format!("ulimit -f {limit}; exec {binary} {arguments}");
        let mut command = Command::new("sh");
        said(command.args(["-c", &script]).current_dir(folder.path()).stdin(Stdio::null()).output().expect("sh runs"))
    };
    let names = |folder: &std::path::Path| {
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    let target = folder.path().join("campus");
    let (code, _, stderr) = limited("40", "campus generate campus --students 2000 --sections 100");
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("can't write campus/"), "{stderr}");
    assert_eq!(names(&target), [""; 0], "nothing of it is there");
    let (code, _, stderr) = limited("unlimited", "campus generate campus --students 30 --sections 10");
    assert_eq!(code, Some(0), "{stderr}");
    let whole = names(&target);
    assert!(whole.contains(&"registrations.csv".to_owned()) && whole.len() == 10, "{whole:?}");
    let before = std::fs::read(target.join("users.csv")).expect("it is there");
    let (code, ..) = limited("40", "campus generate campus --students 2000 --sections 100");
    assert_eq!(code, Some(1));
    assert_eq!(names(&target), whole);
    assert_eq!(std::fs::read(target.join("users.csv")).expect("it is there"), before, "the old bundle is whole");
}

/// A server on free ports, in a folder of its own.
struct Server {
    child: Child,
    lines: mpsc::Receiver<String>,
    _folder: tempfile::TempDir,
}

impl Server {
    /// Starts `up` as a shell starts it after `before`.
    fn start(before: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let script = format!("{before} exec {} {}", env!("CARGO_BIN_EXE_matricula"), up_on_free_ports());
        let mut command = Command::new("sh");
        command.args(["-c", &script]).current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("sh runs");
        let stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let server = Self { child, lines, _folder: folder };
        server.until_says("ready:");
        server
    }

    fn until_says(&self, what: &str) {
        while !self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("never says {what}")).contains(what) {}
    }

    fn signal(&self, signal: &str) {
        kill(&self.child, signal);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The flags of `up` on free ports, with no campus.
fn up_on_free_ports() -> String {
    let roles = ["seats", "enrollments", "academics", "fees", "notifications", "orchestrator"];
    let ports: String = roles.iter().map(|role| format!(" --set {role}.listen=127.0.0.1:0")).collect();
    format!("up --students 0 --set orchestrator.http_listen=127.0.0.1:0{ports}")
}

fn kill(child: &Child, signal: &str) {
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status();
    assert!(sent.expect("kill runs").success());
}

/// On a full disk only logs are lost.
#[test]
fn a_full_disk_under_stderr_ends_no_server() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let flags = up_on_free_ports();
    let mut up = Command::new(env!("CARGO_BIN_EXE_matricula"));
    up.args(flags.split(' ')).current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::null());
    let child = up.stderr(full_disk()).spawn().expect("the binary starts");
    let (_, lines) = mpsc::channel();
    let database = folder.path().join("matricula-data/orchestrator.db");
    let mut server = Server { child, lines, _folder: folder };
    // It has written much until now, and can't report that it is ready.
    until("the orchestrator is being started", || database.is_file());
    server.signal("-TERM");
    assert_eq!(server.child.wait().expect("it ends").code(), Some(0), "in order, and without a panic");
}

#[test]
fn a_hang_up_stops_a_server_in_order() {
    let mut server = Server::start("");
    server.signal("-HUP");
    server.until_says("stopping:");
    assert_eq!(server.child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn a_hang_up_that_was_ignored_at_the_start_stays_ignored() {
    let mut server = Server::start("trap '' HUP;");
    server.signal("-HUP");
    // If the process reacted to the earlier signal, this one would end it at once, with 130.
    server.signal("-TERM");
    server.until_says("stopping:");
    assert_eq!(server.child.wait().expect("it ends").code(), Some(0));
}

#[tokio::test]
async fn a_hang_up_is_no_success_of_a_command() {
    let system = System::up();
    let mut bundle = bundle(&[("A", 9, "")], 3);
    bundle.registrations = (1..=3)
        .map(|number| matricula_campus::Registration {
            arrival_ms: if number == 3 { 3_600_000 } else { number },
            key: matricula_campus::IdempotencyKey::try_new(&format!("k{number}")).expect("a key"),
            student_id: matricula_campus::StudentId::try_new(&format!("S{number}")).expect("an id"),
            adds: vec![matricula_campus::SectionId::try_new("A").expect("an id")],
            drops: Vec::new(),
        })
        .collect();
    let folder = system.import(&bundle).display().to_string();
    let report = system.folder().join("report.json");
    // It waits an hour for the last click.
    let mut rush = system.spawn(&["rush", &folder, "--report", &report.display().to_string()]);
    let registered = || super::json(&system, &["saga", "list"]).as_array().map(Vec::len);
    until("the first clicks are played", || registered() == Some(2));
    kill(&rush, "-HUP");
    let status = rush.wait().expect("it ends");
    assert_eq!(status.code(), Some(1), "the morning was not played to its end");
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(report).expect("a report")).expect("JSON");
    assert_eq!((&report["clicks"], &report["clicks_planned"]), (&2.into(), &3.into()));
    for arguments in [&["sections", "watch"][..], &["saga", "watch"]] {
        let mut watch = system.spawn(arguments);
        if arguments[0] == "sections" {
            let mut line = String::new();
            BufReader::new(watch.stdout.as_mut().expect("piped")).read_line(&mut line).expect("it says something");
        }
        kill(&watch, "-HUP");
        let status = watch.wait().expect("it ends");
        assert!(!status.success() && status.signal() == Some(SIGHUP), "{arguments:?}: {status:?}");
    }
}

/// A command with a terminal under stdout and stderr, without the environment of this machine.
fn on_terminal(command: &str, environment: &[(&str, &str)], folder: &Path) -> Command {
    let mut script = Command::new("script");
    script.args(["-qec", command, "/dev/null"]).current_dir(folder).stdin(Stdio::null()).env_clear();
    script.env("PATH", std::env::var_os("PATH").unwrap_or_default()).envs([("TERM", "xterm"), ("SHELL", "/bin/sh")]);
    script.envs(environment.iter().copied());
    script
}

/// The output of a command on a terminal.
fn sent(command: &str, environment: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = on_terminal(command, environment, folder.path()).output().expect("util-linux has `script`");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The output of a server on a terminal, until it serves and has logged something. Then the terminal is closed.
fn logged(environment: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let ports = ["seats.listen", "seats.http_listen"].map(|it| format!(" --set {it}=127.0.0.1:0")).concat();
    let serve = format!("{} serve seats --set telemetry.log=trace{ports}", env!("CARGO_BIN_EXE_matricula"));
    let mut script = on_terminal(&serve, environment, folder.path());
    let mut child = script.stdout(Stdio::piped()).spawn().expect("util-linux has `script`");
    let mut stdout = child.stdout.take().expect("stdout is piped");
    let (mut sent, mut chunk) = (String::new(), [0; 4_096]);
    while !(sent.contains(" gRPC ") && sent.contains("DEBUG")) {
        let read = stdout.read(&mut chunk).expect("it can be read");
        assert!(read > 0, "it has ended: {sent}");
        sent.push_str(&String::from_utf8_lossy(&chunk[..read]));
    }
    child.kill().expect("it runs");
    child.wait().expect("it has ended");
    sent
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    const ESCAPE: char = '\u{1b}';
    let binary = env!("CARGO_BIN_EXE_matricula");
    let (help, usage) = (format!("{binary} --help"), format!("{binary} bribe"));
    let all = |environment: &[(&str, &str)]| [sent(&help, environment), sent(&usage, environment), logged(environment)];
    for wanted in [&[][..], &[("NO_COLOR", "")]] {
        for shown in all(wanted) {
            assert!(shown.contains(ESCAPE), "{wanted:?}: {shown}");
        }
    }
    for plain in [("NO_COLOR", "1"), ("NO_COLOR", "no"), ("CLICOLOR", "0"), ("TERM", "dumb")] {
        for shown in all(&[plain]) {
            assert!(!shown.is_empty() && !shown.contains(ESCAPE), "{plain:?}: {shown}");
        }
    }
    // Each stream by itself.
    assert!(!sent(&format!("{help} > out; {usage} 2> err; cat out err"), &[]).contains(ESCAPE), "files get no colours");
    assert!(sent(&format!("{usage} > out"), &[]).contains(ESCAPE), "stderr is a terminal still");
}

/// No table cuts an id on a terminal of 80 columns.
#[tokio::test]
async fn ids_can_be_copied_at_80_columns() {
    let system = System::up();
    system.import(&bundle(&[("a-section-with-a-rather-long-name", 9, "MTWRF 09:00-09:50")], 2));
    system.done(&["register", "S1", "--add", "a-section-with-a-rather-long-name"]);
    let listed = super::json(&system, &["registration", "list", "S1"]);
    let id = listed[0]["registration_id"].as_str().expect("an id");
    let environment: Vec<(String, String)> = system
        .matricula()
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_str()?.to_owned(), value?.to_str()?.to_owned())))
        .collect();
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    for (arguments, shown) in [
        ("registration list S1", &[id, "a-section-with-a-rather-long-name"][..]),
        ("saga list", &[id, "S1"]),
        ("sections show", &["a-section-with-a-rather-long-name"]),
        ("student show S1", &[id, "a-section-with-a-rather-long-name"]),
    ] {
        let command = format!("stty cols 80; {} {arguments}", env!("CARGO_BIN_EXE_matricula"));
        let sent = sent(&command, &environment);
        assert!(shown.iter().all(|id| sent.contains(*id)), "{arguments}:\n{sent}");
    }
}

/// Each command that `up` proposes is run in a shell without any setting of the system.
#[tokio::test]
async fn commands_that_up_proposes_work() {
    let system = System::up_with(&["--students", "40", "--sections", "10"], &[]);
    // Log lines may come in between.
    let start = format!("  {} ", env!("CARGO_BIN_EXE_matricula"));
    let proposed = || system.log("up").into_iter().filter(|line| line.starts_with(&start)).collect::<Vec<_>>();
    until("all is proposed", || proposed().len() == 4);
    let proposed = proposed();
    for line in proposed {
        let mut shell = Command::new("sh");
        shell.args(["-c", &line.replace("--speed 60x", "--speed 600x")]).current_dir(system.folder()).env_clear();
        shell.stdin(Stdio::null());
        let (code, stdout, stderr) = said(shell.output().expect("sh runs"));
        assert_eq!(code, Some(0), "{line}\n{stdout}\n{stderr}");
        assert!(!line.contains(" register ") || stdout.contains("ENROLLED"), "{line}\n{stdout}");
    }
}
