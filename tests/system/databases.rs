//! Databases that fail under the running system. PostgreSQL is restarted in the middle of a rush and of the recovery,
//! made read-only, away at a start, out of connections. SQLite is locked by another process, and its disk is full.
//!
//! The requirements are the same each time: clear errors meanwhile, nothing lost, recovery by itself, no process ended.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use matricula_harness::campus::bundle;
use matricula_harness::{
    Cluster, Mode, PATIENCE, ROLES, RunningCommand, Sql, System, is_settled, retry_delay, submission, submit,
};
use matricula_kit::testing::Backend;
use matricula_proto::registration::v1::registration_service_client::RegistrationServiceClient;
use matricula_proto::registration::v1::{GetRegistrationRequest, Outcome};
use matricula_proto::seats::v1::SetCapacityRequest;
use matricula_proto::seats::v1::seat_service_client::SeatServiceClient;
use tonic::{Code, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_types::StatusExt as _;

/// Between two checks of a fact without a notification.
const LOOK: Duration = Duration::from_millis(20);
/// The longest time that a client may wait for an answer, on a machine that is busy with other tests.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// The time of a commit that is slow but not failed.
const SLOW_LOG: Duration = Duration::from_secs(6);
/// A file may not grow beyond this many bytes: less than any database has, so that each is full at once.
const FULL_BYTES: &str = "4096:";

/// Waits for a fact.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let give_up_at = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < give_up_at, "never: {what}");
        tokio::time::sleep(LOOK).await;
    }
}

async fn until_said(system: &System, process: &'static str, words: &str) {
    until(&format!("{process} says {words:?}"), async || system.log(process).iter().any(|line| line.contains(words)))
        .await;
}

/// A morning of clicks that is being played.
struct Rush {
    child: RunningCommand,
    talk: JoinHandle<Vec<String>>,
}

impl Rush {
    fn begin(system: &System) -> Self {
        let folder = system.folder().join("campus").display().to_string();
        system.done(&["campus", "generate", &folder, "--students", "300", "--sections", "100", "--seed", "11"]);
        system.done(&["import", &folder]);
        let mut child = system.spawn(&["rush", &folder, "--speed", "100x"]);
        let lines = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
        let talk = std::thread::spawn(move || lines.map_while(Result::ok).collect());
        Self { child, talk }
    }

    /// It ends with 0 only if every click has its outcome, the same key the same answer, and the audit is clean.
    #[track_caller]
    fn ends_clean(self) {
        let output = self.child.wait_with_output().expect("the rush ends");
        let talk = self.talk.join().expect("no panic").join("\n");
        assert!(output.status.success(), "{}\n{}\n{talk}", output.status, String::from_utf8_lossy(&output.stdout));
    }
}

#[track_caller]
fn all_live(system: &mut System) {
    for role in ROLES {
        assert!(!system.has_ended(role), "{role} has ended:\n{}", system.log(role).join("\n"));
    }
}

/// A retryable error: it has a time to come back, and no internals.
#[track_caller]
fn check(error: &Status, code: Code, reason: &str) {
    let info = error.get_details_error_info().map(|info| info.reason);
    assert_eq!((error.code(), info.as_deref()), (code, Some(reason)), "{error:?}");
    let after = error.get_details_retry_info().and_then(|info| info.retry_delay);
    assert!(after.is_some_and(|after| !after.is_zero()), "{error:?}");
    for inside in ["SELECT", "INSERT", "UPDATE", "sqlx", "transaction"] {
        assert!(!error.message().contains(inside), "{error:?}");
    }
}

async fn submit_error(system: &System, student: &str, key: &str) -> Status {
    let mut client = RegistrationServiceClient::new(system.channel("orchestrator").await);
    let answer = client.submit_registration(submission(student, key, &["A"], &[]));
    let answer = tokio::time::timeout(ANSWER_MAX, answer).await.expect("an error comes in time");
    answer.expect_err("it can't be written down")
}

async fn capacity_error(system: &System) -> Status {
    let mut client = SeatServiceClient::new(system.channel("seats").await);
    let request = SetCapacityRequest { section_id: "A".to_owned(), capacity: 9 };
    client.set_capacity(request).await.expect_err("it can't be written down")
}

/// While an older submission waits for the database, a new one gets a time to come back.
async fn enrolls(system: &System, student: &str, key: &str) {
    let mut client = RegistrationServiceClient::new(system.channel("orchestrator").await);
    let registration = loop {
        match client.submit_registration(submission(student, key, &["A"], &[])).await {
            Ok(answer) => break answer.into_inner().registration.expect("an answer has a registration"),
            Err(error) => tokio::time::sleep(retry_delay(&error).expect("a time to come back")).await,
        }
    };
    assert_eq!(registration.outcome(), Outcome::Enrolled, "{registration:?}");
}

#[tokio::test]
async fn postgres_restarts_under_load_and_during_recovery() {
    let cluster = Cluster::start();
    let mut system = System::on_cluster(&cluster, &[("orchestrator.runtime.lease_ttl_ms", "1500")]).await;
    let rush = Rush::begin(&system);
    let sagas = async |of: &str| {
        let mut log = Sql::open(&system.database_url("orchestrator")).await;
        log.number(&format!("SELECT COUNT(*) FROM sagas WHERE {of}")).await
    };
    until("the rush is under way", async || sagas("1 = 1").await >= 50).await;
    cluster.restart(Mode::Immediate);
    // Again while all clients reconnect.
    cluster.restart(Mode::Immediate);
    // An orchestrator dies with sagas at work, and the server again while another adopts them.
    system.pause("fees");
    until("sagas are under way", async || sagas("finished = 0").await >= 20).await;
    system.kill("orchestrator");
    system.relaunch("orchestrator");
    until_said(&system, "orchestrator", "adopted sagas").await;
    cluster.restart(Mode::Immediate);
    system.resume("fees");
    rush.ends_clean();
    all_live(&mut system);
}

/// Acceptance takes seconds in a rush. Meanwhile the client must not get an error that asks it to retry.
#[tokio::test]
async fn a_submission_waits_for_a_slow_log() {
    let cluster = Cluster::start();
    let mut system = System::on_cluster(&cluster, &[]).await;
    system.import(&bundle(&[("A", 5, "")], 1));
    let portal = system.channel("orchestrator").await;
    let mut other = Sql::open(&system.database_url("orchestrator")).await;
    other.run("BEGIN; LOCK TABLE sagas IN EXCLUSIVE MODE").await;
    let submitting = submit(&portal, submission("S1", "k", &["A"], &[]));
    tokio::pin!(submitting);
    // Longer than a submission waits while the log can't be written.
    let answer = tokio::time::timeout(SLOW_LOG, &mut submitting).await;
    assert!(answer.is_err(), "nothing can have been decided: {answer:?}");
    other.run("ROLLBACK").await;
    assert_eq!(submitting.await.outcome(), Outcome::Enrolled);
    audit_when_finished(&system).await;
    all_live(&mut system);
}

#[tokio::test]
async fn a_read_only_primary_is_reported_and_survived() {
    let cluster = Cluster::start();
    let mut system = System::on_cluster(&cluster, &[]).await;
    system.import(&bundle(&[("A", 5, "")], 3));
    let portal = system.channel("orchestrator").await;
    let before = submit(&portal, submission("S1", "k", &["A"], &[])).await;
    cluster.set_read_only(true).await;
    check(&submit_error(&system, "S2", "k").await, Code::Unavailable, "LOG_UNAVAILABLE");
    check(&capacity_error(&system).await, Code::Unavailable, "NOT_COMMITTED");
    // Reads still work.
    let request = GetRegistrationRequest { registration_id: before.registration_id };
    let read = RegistrationServiceClient::new(portal).get_registration(request).await.expect("an answer").into_inner();
    assert_eq!(read.registration.expect("a registration").outcome(), Outcome::Enrolled);
    assert_eq!(probe(&system, "seats"), 200);
    cluster.set_read_only(false).await;
    enrolls(&system, "S2", "k").await;
    enrolls(&system, "S3", "k").await;
    audit_when_finished(&system).await;
    all_live(&mut system);
}

#[tokio::test]
async fn roles_wait_for_a_server_that_is_away_or_full_of_clients() {
    let cluster = Cluster::start();
    cluster.set("max_connections", "50");
    cluster.restart(Mode::Fast);
    let mut system = System::on_cluster(&cluster, &[]).await;
    system.import(&bundle(&[("A", 5, "")], 3));
    assert_eq!((probe(&system, "seats"), health(&system).await), (200, ServingStatus::Serving));

    cluster.stop(Mode::Immediate);
    until("seats are not ready", async || probe(&system, "seats") == 503).await;
    assert_eq!(health(&system).await, ServingStatus::NotServing);
    system.kill("academics");
    system.relaunch("academics");
    until_said(&system, "academics", "the database can't be used yet").await;
    check(&capacity_error(&system).await, Code::Unavailable, "NOT_COMMITTED");
    cluster.start_again();
    until("seats are ready", async || probe(&system, "seats") == 200).await;
    assert_eq!(health(&system).await, ServingStatus::Serving);
    until_said(&system, "academics", " gRPC ").await;
    enrolls(&system, "S1", "k").await;

    // Other clients take every connection of the server.
    system.kill("fees");
    let mut taken = Vec::new();
    let refused = loop {
        match Sql::try_open(&format!("{}/postgres", cluster.url())).await {
            Ok(connection) => taken.push(connection),
            Err(refused) => break refused.to_string(),
        }
    };
    assert!(refused.contains("too many clients"), "{refused}");
    system.relaunch("fees");
    until_said(&system, "fees", "too many clients").await;
    drop(taken);
    until_said(&system, "fees", " gRPC ").await;
    enrolls(&system, "S2", "k").await;
    audit_when_finished(&system).await;
    all_live(&mut system);
}

#[tokio::test]
async fn a_locked_sqlite_file_and_a_full_disk_are_survived() {
    let mut system = System::separate(Backend::Sqlite, &[]).await;
    system.import(&bundle(&[("A", 5, "")], 4));
    let mut other = Sql::open(&system.database_url("seats")).await;
    other.run("BEGIN EXCLUSIVE").await;
    check(&capacity_error(&system).await, Code::Unavailable, "NOT_COMMITTED");
    other.run("ROLLBACK").await;
    enrolls(&system, "S1", "k").await;
    let mut other = Sql::open(&system.database_url("orchestrator")).await;
    other.run("BEGIN EXCLUSIVE").await;
    check(&submit_error(&system, "S2", "k").await, Code::Unavailable, "LOG_UNAVAILABLE");
    other.run("ROLLBACK").await;
    enrolls(&system, "S2", "k").await;

    // From now on no file of theirs can grow, in the middle of a registration: seats first, then all.
    grow(&system, &["seats"], FULL_BYTES);
    check(&capacity_error(&system).await, Code::Unavailable, "NOT_COMMITTED");
    let mut under_way = submission("S3", "k", &["A"], &[]);
    under_way.wait_ms = 0;
    let accepted = submit(&system.channel("orchestrator").await, under_way).await;
    assert_eq!(accepted.outcome(), Outcome::Pending, "seats can't be held: {accepted:?}");
    grow(&system, &ROLES, FULL_BYTES);
    check(&submit_error(&system, "S4", "k").await, Code::Unavailable, "LOG_UNAVAILABLE");
    grow(&system, &ROLES, "unlimited:");
    enrolls(&system, "S3", "k").await;
    enrolls(&system, "S4", "k").await;
    audit_when_finished(&system).await;
    all_live(&mut system);
}

/// A registration has its outcome before its saga ends, and an owner that could not write has no lease for a moment. An
/// audit in that moment reports that no instance drives the saga.
async fn audit_when_finished(system: &System) {
    let portal = system.channel("orchestrator").await;
    until("everything finishes", async || is_settled(&portal).await).await;
    system.audit();
}

/// Sets the largest file size of processes.
#[track_caller]
fn grow(system: &System, processes: &[&'static str], bytes: &str) {
    for process in processes {
        let pid = system.pid(process).to_string();
        let limited = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}")]).status();
        assert!(limited.expect("prlimit runs: it is part of util-linux").success());
    }
}

/// The `/readyz` answer of a process.
fn probe(system: &System, process: &'static str) -> u16 {
    let mut stream = TcpStream::connect(system.http_address(process)).expect("HTTP is served");
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{answer}"))
}

/// The gRPC health answer of the seat service.
async fn health(system: &System) -> ServingStatus {
    let mut client = HealthClient::new(system.channel("seats").await);
    let request = HealthCheckRequest { service: "matricula.seats.v1.SeatService".to_owned() };
    let answer: HealthCheckResponse = client.check(request).await.expect("an answer").into_inner();
    answer.status()
}
