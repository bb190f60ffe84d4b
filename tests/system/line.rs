//! The waiting line and the door, with real processes: two orchestrators on one PostgreSQL, and the command line.

use std::time::Duration;

use matricula_harness::{PATIENCE, System, submission, submit};
use matricula_kit::testing::Backend;
use matricula_proto::ops::v1::GetSagaRequest;
use matricula_proto::ops::v1::saga_service_client::SagaServiceClient;
use matricula_proto::registration::v1::registration_service_client::RegistrationServiceClient;
use matricula_proto::registration::v1::{
    CancelRegistrationRequest, Door, GetRegistrationRequest, Outcome, Registration, SubmitRegistrationRequest,
    WatchLineRequest, WatchLineResponse, WatchRegistrationRequest, WatchRegistrationResponse,
};
use serde_json::Value;
use tokio::task::block_in_place;
use tonic::transport::Channel;
use tonic::{Code, Streaming};
use tonic_types::StatusExt as _;

use crate::campus::bundle;

/// The first has the name of its role, as the harness requires.
const FIRST: &str = "orchestrator";
const SECOND: &str = "second";
const THIRD: &str = "third";
/// One saga at work at each orchestrator, which keeps its slot while a service is away; a short lease for a test that
/// waits for one.
const NARROW: [(&str, &str); 3] = [
    ("orchestrator.runtime.in_flight_max", "1"),
    ("orchestrator.runtime.parked_max", "0"),
    ("orchestrator.runtime.lease_ttl_ms", "1500"),
];
const LOOK: Duration = Duration::from_millis(20);

async fn two() -> System {
    let mut system = System::separate(Backend::Postgres, &NARROW).await;
    block_in_place(|| system.add_orchestrator(SECOND));
    block_in_place(|| system.import(&bundle(&[("A", 30, "")], 30)));
    system
}

/// Submits without waiting for the outcome.
async fn accept(channel: &Channel, student: u32) -> Registration {
    let request = SubmitRegistrationRequest { wait_ms: 0, ..submission(&format!("S{student}"), "k", &["A"], &[]) };
    submit(channel, request).await
}

async fn get(channel: &Channel, id: &str) -> Registration {
    let request = GetRegistrationRequest { registration_id: id.to_owned() };
    let answer = RegistrationServiceClient::new(channel.clone()).get_registration(request).await;
    answer.expect("an answer").into_inner().registration.expect("a registration")
}

async fn line(channel: &Channel) -> Streaming<WatchLineResponse> {
    let answer = RegistrationServiceClient::new(channel.clone()).watch_line(WatchLineRequest {}).await;
    answer.expect("a watch").into_inner()
}

/// The first message of the line that matches.
async fn line_that(
    messages: &mut Streaming<WatchLineResponse>,
    what: &str,
    is_so: impl Fn(&WatchLineResponse) -> bool,
) -> WatchLineResponse {
    let found = async {
        loop {
            let message = messages.message().await.expect("the watch lasts").expect("it does not end");
            if is_so(&message) {
                return message;
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("{what}"))
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !is_so().await {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("{what}"));
}

async fn watch(channel: &Channel, id: &str) -> Streaming<WatchRegistrationResponse> {
    let request = WatchRegistrationRequest { registration_id: id.to_owned() };
    let answer = RegistrationServiceClient::new(channel.clone()).watch_registration(request).await;
    answer.expect("a watch").into_inner()
}

/// The next message of a watch; none when the registration is finished.
async fn next(changes: &mut Streaming<WatchRegistrationResponse>) -> Option<Registration> {
    let change = changes.message().await.expect("the watch lasts")?;
    Some(change.registration.expect("a registration"))
}

/// Every message of a watch up to its end.
async fn changes(channel: &Channel, id: &str) -> Vec<Registration> {
    let (mut stream, mut seen) = (watch(channel, id).await, Vec::new());
    while let Some(change) = next(&mut stream).await {
        seen.push(change);
    }
    seen
}

fn tickets(registrations: &[Registration]) -> Vec<i64> {
    registrations.iter().map(|one| one.ticket.expect("it has a ticket")).collect()
}

/// Submits this many in turns at both, and waits until all except the two at work have a place in line.
async fn in_line(first: &Channel, second: &Channel, students: u32) -> Vec<Registration> {
    let mut accepted = Vec::new();
    for student in 1..=students {
        accepted.push(accept(if student % 2 == 1 { first } else { second }, student).await);
    }
    let last = accepted.last().expect("some").registration_id.clone();
    let place = i32::try_from(students - 3).ok();
    for channel in [first, second] {
        until("all replicas know the line", async || get(channel, &last).await.place_in_line == place).await;
    }
    accepted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_student_gets_a_ticket_a_place_and_the_turn() {
    let mut system = two().await;
    let (first, second) = (system.channel(FIRST).await, system.channel(SECOND).await);
    system.pause("seats");
    let accepted = in_line(&first, &second, 8).await;
    let given = tickets(&accepted);
    assert!(given.is_sorted_by(|a, b| a < b), "in the order of acceptance, over both: {given:?}");
    let mut line = line(&second).await;
    let now = line_that(&mut line, "the line", |line| line.last_ticket == given[7]).await;
    assert_eq!((now.now_serving, now.door(), now.sentence.as_str()), (given[1], Door::Open, ""));

    // A cancel does not need a turn.
    let cancel =
        CancelRegistrationRequest { registration_id: accepted[4].registration_id.clone(), reason: String::new() };
    let cancelled = RegistrationServiceClient::new(second.clone()).cancel_registration(cancel).await;
    let cancelled = cancelled.expect("it is cancelled").into_inner().registration.expect("a registration");
    assert_eq!((cancelled.outcome(), cancelled.place_in_line), (Outcome::Cancelled, None), "{cancelled:?}");

    // A third orchestrator claims the next one. The watch at another orchestrator gets that before any outcome.
    let watching = async {
        let mut changes = watch(&second, &accepted[2].registration_id).await;
        let place = next(&mut changes).await.and_then(|one| one.place_in_line);
        block_in_place(|| system.add_orchestrator(THIRD));
        (place, next(&mut changes).await.expect("its turn"))
    };
    let (place, turn) = tokio::time::timeout(PATIENCE, watching).await.expect("its turn is sent");
    assert_eq!((place, turn.place_in_line, turn.outcome()), (Some(0), None, Outcome::Pending), "{turn:?}");

    // Clients wait for each registration at the replica that did not accept it, and watch it at the one that did.
    let again = submission("S8", "k", &["A"], &[]);
    let waiting = submit(&first, again);
    let watching = changes(&second, &accepted[7].registration_id);
    let resuming = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        system.resume("seats");
    };
    let (waited, seen, ()) = tokio::join!(waiting, watching, resuming);
    assert_eq!((waited.outcome(), &waited.registration_id), (Outcome::Enrolled, &accepted[7].registration_id));
    let places: Vec<bool> = seen.iter().map(|one| one.place_in_line.is_some()).collect();
    assert_eq!(places.first(), Some(&true), "{seen:?}");
    assert!(places.is_sorted_by(|a, b| a >= b) && places.last() == Some(&false), "its place, its outcome: {seen:?}");
    assert!(tickets(&seen).iter().all(|ticket| *ticket == given[7]), "{seen:?}");
    let end = line_that(&mut line, "the line is empty", |line| line.now_serving == line.last_ticket).await;
    assert!(end.last_ticket >= given[7] && end.work.is_some(), "{end:?}");
    for (number, one) in accepted.iter().enumerate().filter(|(number, _)| *number != 4) {
        until("it is decided", async || get(&first, &one.registration_id).await.outcome() != Outcome::Pending).await;
        assert_eq!(get(&second, &one.registration_id).await.outcome(), Outcome::Enrolled, "{number}");
    }
    block_in_place(|| system.audit());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_keeps_the_line_and_its_order() {
    let mut system = two().await;
    let (first, second) = (system.channel(FIRST).await, system.channel(SECOND).await);
    system.pause("seats");
    let accepted = in_line(&first, &second, 10).await;
    block_in_place(|| system.kill(FIRST));
    let last = get(&second, &accepted[9].registration_id).await;
    assert_eq!((last.place_in_line, last.ticket), (Some(7), accepted[9].ticket), "the line is where it was");
    system.resume("seats");
    let mut decided = Vec::new();
    for one in &accepted {
        let waited = submit(&second, submission(&one.student_id, "k", &["A"], &[])).await;
        assert_eq!((waited.outcome(), &waited.registration_id), (Outcome::Enrolled, &one.registration_id));
        let at = waited.decided_at.expect("it is decided");
        decided.push((at.seconds, at.nanos));
    }
    // The first two were at work when one of them lost its owner.
    assert!(decided[2..].is_sorted(), "one at a time, by their tickets: {decided:?}");
    block_in_place(|| system.restart(FIRST));
    block_in_place(|| system.audit());
}

fn json(system: &System, arguments: &[&str]) -> Value {
    let shown = system.done(&[arguments, &["--output", "json"]].concat());
    serde_json::from_str(&shown).unwrap_or_else(|error| panic!("{error}: {shown}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrars_pause_close_and_open_the_door() {
    let system = System::up();
    system.import(&bundle(&[("A", 9, "")], 9));
    let portal = system.channel(FIRST).await;
    assert_eq!(json(&system, &["registration", "door"])["door"], "open");
    let by = ["--by", "ada", "--reason", "fees charge twice"];
    let set = |verb: &str, sentence: &str| {
        let arguments = [&["registration", verb, "--sentence", sentence][..], &by].concat();
        json(&system, &arguments)
    };
    let paused = set("pause", "You keep your place.");
    assert_eq!((&paused["door"], &paused["by"], &paused["reason"]), (&"paused".into(), &by[1].into(), &by[3].into()));
    let mut line = line(&portal).await;
    let now = line_that(&mut line, "the line says so", |line| line.door() == Door::Paused).await;
    assert_eq!((now.sentence.as_str(), now.expected_wait), ("You keep your place.", None));

    let waits = accept(&portal, 1).await;
    assert_eq!((waits.outcome(), waits.place_in_line, waits.expected_wait), (Outcome::Pending, Some(0), None));
    let id = waits.registration_id.as_str();
    let listed = json(&system, &["saga", "list", "--unfinished"]);
    assert_eq!(listed[0]["phase"], "queued", "{listed:#}");
    let explained = system.done(&["saga", "explain", id]);
    let explained = explained.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(explained.contains("paused by ada") && explained.contains("fees charge twice"), "{explained}");
    assert!(system.done(&["registration", "show", id]).contains("next in line"));
    assert_eq!(json(&system, &["registration", "show", id])["ticket"], waits.ticket.expect("a ticket"));

    // It continues with the registrations in line, and accepts no others.
    set("close", "Come back on Monday.");
    until("the line goes on", async || get(&portal, id).await.outcome() == Outcome::Enrolled).await;
    let mut client = RegistrationServiceClient::new(portal.clone());
    let refused = client.submit_registration(submission("S2", "k", &["A"], &[])).await;
    let refused = refused.expect_err("registration is closed");
    let reason = refused.get_details_error_info().map(|info| info.reason);
    assert_eq!((refused.code(), reason.as_deref()), (Code::FailedPrecondition, Some("REGISTRATION_CLOSED")));
    assert_eq!(refused.message(), "Come back on Monday.");
    assert_eq!(accept(&portal, 1).await.registration_id, id, "what was accepted is answered");
    let unsaid = system.run(&[&["registration", "close"][..], &by].concat());
    assert_eq!(unsaid.status.code(), Some(1), "it is closed with a sentence");

    set("open", "");
    assert_eq!(submit(&portal, submission("S2", "k", &["A"], &[])).await.outcome(), Outcome::Enrolled);
    let door = json(&system, &["registration", "door"]);
    let states: Vec<&str> =
        door["changes"].as_array().expect("a list").iter().filter_map(|it| it["door"].as_str()).collect();
    assert_eq!(states, ["open", "closed", "paused"], "{door:#}");
    system.audit();
}

/// There is one slot, and its registration waits for fees. Another registration is refused before it needs fees, and
/// does not wait for the missing answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unavailable_service_delays_only_registrations_that_need_it() {
    let settings = [("orchestrator.runtime.in_flight_max", "1"), ("orchestrator.runtime.call_timeout_ms", "60000")];
    let system = System::separate(Backend::Sqlite, &settings).await;
    block_in_place(|| system.import(&bundle(&[("A", 30, ""), ("FULL", 0, "")], 3)));
    let portal = system.channel(FIRST).await;
    system.pause("fees");
    let mut waiting = Vec::new();
    // The second one needs fees when their outage is already known.
    for (student, key) in [(1, "k"), (3, "l")] {
        waiting.push(accept(&portal, student).await.registration_id);
        let refused = submit(&portal, submission("S2", key, &["FULL"], &[])).await;
        assert_eq!(refused.outcome(), Outcome::Refused, "{refused:?}");
    }
    for id in &waiting {
        let request = GetSagaRequest { saga_id: id.clone() };
        let saga = SagaServiceClient::new(portal.clone()).get_saga(request).await.expect("a saga").into_inner();
        let failed = saga.events.iter().filter(|event| event.name == "step_failed").count();
        assert_eq!(failed, 0, "the call of fees has not ended");
    }
    system.resume("fees");
    for id in &waiting {
        until("it goes on", async || get(&portal, id).await.outcome() == Outcome::Enrolled).await;
    }
}
