//! The service as a client sees it, over the in-memory channel: bounds, answers, the feed, the ledger.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use matricula_kit::id::SagaId;
use matricula_kit::serve::{self, Limits, Listen, Serving};
use matricula_kit::tasks::Tasks;
use matricula_kit::testing::{self, BACKENDS, Backend, TestDatabase};
use matricula_kit::time::{self, TimeZone, UnixMs};
use matricula_proto::common::v1 as common;
use matricula_proto::imports::v1::import_row::Row;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::Channel;
use tonic_types::StatusExt as _;
use wire::export_ledger_response::Entry;
use wire::release_seats_operation::Target;
use wire::seat_service_client::SeatServiceClient;

use super::*;

/// Longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(60);

struct Replica {
    client: SeatServiceClient<Channel>,
    serving: Serving,
    shutdown: CancellationToken,
}

async fn replica(database: &Database) -> Replica {
    let shutdown = CancellationToken::new();
    let role = crate::start(database.clone(), TimeZone::UTC, shutdown.clone()).await.expect("it starts");
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let listen = Listen { grpc: any_port, http: None, limits: Limits::default() };
    let serving = serve::serve(role, listen, shutdown.clone()).await.expect("it is served");
    Replica { client: SeatServiceClient::new(serving.in_memory.clone()), serving, shutdown }
}

async fn started(backend: Backend, capacities: &[(&str, i32)]) -> (Replica, TestDatabase) {
    let test = testing::empty_database(backend).await;
    let mut replica = replica(&test.database).await;
    import(&mut replica, capacities).await;
    (replica, test)
}

async fn import(replica: &mut Replica, capacities: &[(&str, i32)]) {
    let row = |(id, capacity): &(&str, i32)| {
        Row::Capacity(wire::SectionCapacity { section_id: (*id).into(), capacity: *capacity, ..Default::default() })
    };
    let imported = testing::import(replica.serving.in_memory.clone(), capacities.iter().map(row)).await;
    imported.expect("it is imported");
}

fn operation(saga: &str, step: &str) -> Option<common::Operation> {
    Some(common::Operation { saga_id: saga.into(), step: step.into(), ..Default::default() })
}

fn hold(saga: &str, sections: &[&str]) -> wire::HoldSeatsOperation {
    let course = |id: &&str| common::ReservedCourse {
        section_id: (*id).into(),
        course_id: "C1".into(),
        term_id: "T1".into(),
        ..Default::default()
    };
    wire::HoldSeatsOperation {
        operation: operation(saga, "hold_seats"),
        student_id: "S1".into(),
        sections: sections.iter().map(course).collect(),
    }
}

async fn held(replica: &mut Replica, saga: &str, sections: &[&str]) -> Vec<common::Refusal> {
    let request = wire::HoldSeatsRequest { operations: vec![hold(saga, sections)] };
    let mut results = replica.client.hold_seats(request).await.expect("answered").into_inner().results;
    match results.pop().and_then(|result| result.outcome).expect("an outcome") {
        common::operation_result::Outcome::Done(_) => Vec::new(),
        common::operation_result::Outcome::Refused(refused) => refused.reasons,
        common::operation_result::Outcome::Error(error) => panic!("{error:?}"),
    }
}

async fn released(replica: &mut Replica, saga: &str, step: &str, target: Target) {
    let operation =
        wire::ReleaseSeatsOperation { operation: operation(saga, step), student_id: "S1".into(), target: Some(target) };
    let request = wire::ReleaseSeatsRequest { operations: vec![operation] };
    let results = replica.client.release_seats(request).await.expect("answered").into_inner().results;
    assert!(matches!(results[0].outcome, Some(common::operation_result::Outcome::Done(_))));
}

async fn next(watch: &mut Streaming<wire::WatchSeatsResponse>) -> wire::WatchSeatsResponse {
    let message = watch.message().await.expect("the watch goes on").expect("a message");
    assert!(message.sent_at.is_some());
    message
}

/// Reads on until `section` has `version`.
async fn until(watch: &mut Streaming<wire::WatchSeatsResponse>, section: &str, version: i64) -> wire::SectionSeats {
    loop {
        let sections = next(watch).await.sections;
        if let Some(found) = sections.into_iter().find(|seats| seats.section_id == section && seats.version >= version)
        {
            assert_eq!(found.version, version);
            return found;
        }
    }
}

#[tokio::test]
async fn seats_are_held_refused_and_released() {
    for backend in BACKENDS {
        let (mut replica, _test) = started(backend, &[("A", 1), ("B", 5)]).await;
        let [first, second, third] = [(); 3].map(|()| String::from(SagaId::generate()));
        assert!(held(&mut replica, &first, &["A", "B"]).await.is_empty());
        let refused = held(&mut replica, &second, &["A", "B", "X"]).await;
        let reasons: Vec<_> = refused.iter().map(|refusal| (refusal.reason(), refusal.section_id.as_str())).collect();
        assert_eq!(reasons, [(common::Reason::ClosedSection, "A"), (common::Reason::SectionNotFound, "X")]);
        assert_eq!(
            (refused[0].section_version, refused[0].closed_at.is_some(), refused[0].overridable),
            (2, true, true)
        );

        released(&mut replica, &first, "hold_seats", Target::HeldByStep(wire::HeldByStep {})).await;
        assert!(
            !held(&mut replica, &second, &["A"]).await.is_empty(),
            "a refusal is repeated, whatever has happened since"
        );
        assert!(held(&mut replica, &third, &["A"]).await.is_empty());
        let dropped =
            common::DroppedCourse { section_id: "A".into(), course_id: "C1".into(), registration_id: third.clone() };
        let dropped = Target::Dropped(wire::DroppedSections { sections: vec![dropped] });
        released(&mut replica, &String::from(SagaId::generate()), "release_dropped_seats", dropped).await;

        let request = wire::GetSectionsRequest { section_ids: vec!["A".into(), "X".into()] };
        let sections = replica.client.get_sections(request).await.expect("read").into_inner().sections;
        let seen: Vec<_> =
            sections.iter().map(|seats| (seats.section_id.as_str(), seats.taken, seats.version)).collect();
        assert_eq!(seen, [("A", 0, 5)]);

        let mut ledger = replica.client.export_ledger(wire::ExportLedgerRequest {}).await.expect("read").into_inner();
        let (mut sections, mut live, mut granted) = (0, 0, Vec::new());
        while let Some(entry) = ledger.message().await.expect("read") {
            match entry.entry.expect("an entry") {
                Entry::Section(_) => sections += 1,
                Entry::Hold(hold) if hold.released_at.is_some() => {
                    granted.push((hold.section_id, hold.section_version))
                }
                Entry::Hold(_) => live += 1,
            }
        }
        assert_eq!((sections, live), (2, 0));
        granted.sort_unstable();
        let expect = [("A", 2), ("A", 4), ("B", 2)].map(|(section, version)| (section.to_owned(), version));
        assert_eq!(granted, expect);
    }
}

#[tokio::test]
async fn capacities_are_set_and_imported() {
    for backend in BACKENDS {
        let (mut replica, _test) = started(backend, &[("A", 1), ("B", 2)]).await;
        import(&mut replica, &[("B", 3), ("C", 0)]).await;
        let request = wire::GetSectionsRequest { section_ids: ["A", "B", "C"].map(String::from).to_vec() };
        let sections = replica.client.get_sections(request).await.expect("read").into_inner().sections;
        let seen: Vec<_> = sections.iter().map(|seats| (seats.capacity, seats.version)).collect();
        assert_eq!(seen, [(1, 1), (3, 2), (0, 1)]);
        assert!(sections.iter().all(|seats| seats.capacity_source() == common::Source::Bundle));

        let request = wire::SetCapacityRequest { section_id: "A".into(), capacity: 7 };
        let section =
            replica.client.set_capacity(request.clone()).await.expect("set").into_inner().section.expect("it");
        assert_eq!((section.capacity, section.version, section.capacity_source()), (7, 2, common::Source::Staff));
        let again = replica.client.set_capacity(request).await.expect("set").into_inner().section.expect("it");
        assert_eq!(again, section);
        let request = wire::SetCapacityRequest { section_id: "X".into(), capacity: 7 };
        assert_eq!(replica.client.set_capacity(request).await.expect_err("unknown").code(), Code::NotFound);
    }
}

#[tokio::test]
async fn what_is_out_of_bounds_is_named() {
    let (replica, _test) = started(Backend::Sqlite, &[("A", 1)]).await;
    let client = &replica.client;
    let check = async |operation: wire::HoldSeatsOperation, field: &str| {
        let request = wire::HoldSeatsRequest { operations: vec![hold("r0", &["A"]), operation] };
        let status = client.clone().hold_seats(request).await.expect_err(field);
        let fields = status.get_error_details().bad_request().expect("a bad request").field_violations.clone();
        assert_eq!((status.code(), fields[0].field.as_str()), (Code::InvalidArgument, field));
    };
    check(wire::HoldSeatsOperation { operation: None, ..hold("r1", &["A"]) }, "operations[1].operation").await;
    check(hold("", &["A"]), "operations[1].operation.saga_id").await;
    check(wire::HoldSeatsOperation { student_id: "é".into(), ..hold("r1", &["A"]) }, "operations[1].student_id").await;
    check(hold("r1", &[]), "operations[1].sections").await;
    check(hold("r1", &["A", "A"]), "operations[1].sections[1].section_id").await;
    check(hold("r1", &["A", "B'--"]), "operations[1].sections[1].section_id").await;
    let many: Vec<String> = (0..21).map(|number| format!("A{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    check(hold("r1", &many), "operations[1].sections").await;

    for capacity in [-1, 1_000_001] {
        let request = wire::SetCapacityRequest { section_id: "A".into(), capacity };
        assert_eq!(client.clone().set_capacity(request).await.expect_err("bounds").code(), Code::InvalidArgument);
    }
    let release =
        wire::ReleaseSeatsOperation { operation: operation("r1", "s"), student_id: "S1".into(), target: None };
    let request = wire::ReleaseSeatsRequest { operations: vec![release] };
    assert_eq!(client.clone().release_seats(request).await.expect_err("no target").code(), Code::InvalidArgument);
    let request = wire::HoldSeatsRequest { operations: vec![hold("r1", &["A"]); 1_001] };
    assert_eq!(client.clone().hold_seats(request).await.expect_err("too many").code(), Code::InvalidArgument);
}

#[tokio::test]
async fn the_feed_begins_with_the_state_and_goes_on_with_changes_and_heartbeats() {
    for backend in BACKENDS {
        let test = testing::empty_database(backend).await;
        let mut replica = replica(&test.database).await;
        let mut watch = replica.client.watch_seats(wire::WatchSeatsRequest {}).await.expect("watched").into_inner();
        let first = next(&mut watch).await;
        assert_eq!((first.sections.len(), first.snapshot_complete), (0, true), "an empty state is a state");
        let silent = next(&mut watch).await;
        assert_eq!((silent.sections.len(), silent.snapshot_complete), (0, false), "a heartbeat");

        import(&mut replica, &[("A", 1)]).await;
        until(&mut watch, "A", 1).await;
        held(&mut replica, &String::from(SagaId::generate()), &["A"]).await;
        let closed = until(&mut watch, "A", 2).await;
        assert_eq!((closed.taken, closed.closed_at.is_some()), (1, true));

        // More sections than a page has: the state comes in parts, of which the last is marked.
        let ids: Vec<String> = (0..2_000).map(|number| format!("M{number:04}")).collect();
        let many: Vec<(&str, i32)> = ids.iter().map(|id| (id.as_str(), 1)).collect();
        import(&mut replica, &many).await;
        let mut late = replica.client.watch_seats(wire::WatchSeatsRequest {}).await.expect("watched").into_inner();
        let mut parts = Vec::new();
        loop {
            let part = next(&mut late).await;
            parts.push(part.sections.len());
            if part.snapshot_complete {
                break;
            }
        }
        assert_eq!(parts, [1_000, 1_000, 1]);
        until(&mut watch, "M1999", 1).await;

        // A shutdown ends the endless streams at once, so that it does not wait for them.
        replica.shutdown.cancel();
        let ended = loop {
            match late.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("ended without a status"),
                Err(status) => break status,
            }
        };
        assert_eq!(ended.code(), Code::Unavailable);
        replica.serving.ended().await;
    }
}

#[tokio::test]
async fn the_feed_of_one_replica_has_the_changes_of_another() {
    let (mut one, test) = started(Backend::Postgres, &[("A", 9)]).await;
    let second = Database::open(&test.url).await.expect("opens");
    let mut two = replica(&second).await;
    let mut watch = one.client.watch_seats(wire::WatchSeatsRequest {}).await.expect("watched").into_inner();
    assert_eq!(next(&mut watch).await.sections.len(), 1);
    for version in [2, 4, 6] {
        held(&mut two, &String::from(SagaId::generate()), &["A"]).await;
        until(&mut watch, "A", version).await;
        held(&mut one, &String::from(SagaId::generate()), &["A"]).await;
        until(&mut watch, "A", version + 1).await;
    }
}

/// Waits until the clock shows a later millisecond; that one.
async fn later(than: UnixMs) -> UnixMs {
    loop {
        match time::now() {
            now if now > than => return now,
            _ => tokio::task::yield_now().await,
        }
    }
}

/// A client that takes a message late gets the moment up to which the message is complete, and not a later one.
#[tokio::test]
async fn a_slow_watcher_gets_the_moment_of_the_message() {
    for backend in BACKENDS {
        let (_replica, test) = started(backend, &[("A", 9)]).await;
        let feed = Arc::new(Feed::default());
        let shutdown = CancellationToken::new();
        let tasks = Tasks::new("seats");
        crate::feed::follow(feed.clone(), &test.database, shutdown.clone(), &tasks).await.expect("follows");
        let seats = Arc::new(Seats::new(feed.clone(), &test.database, TimeZone::UTC));
        let writer = Writer::start(seats, test.database.clone(), Default::default(), &tasks);
        let service = SeatsGrpc { writer, database: test.database.clone(), feed };
        // Not over a connection, which would take messages ahead of the client.
        let request = Request::new(wire::WatchSeatsRequest {});
        let mut watch = service.watch_seats(request).await.expect("watched").into_inner();
        watch.next().await.expect("a message").expect("the state");
        let mut first = None;
        for capacity in [5, 7] {
            let request = wire::SetCapacityRequest { section_id: "A".into(), capacity };
            service.set_capacity(Request::new(request)).await.expect("set");
            let answered = time::now();
            later(answered).await;
            first.get_or_insert(answered);
        }
        // The second change was committed after this, and the client has not taken it yet.
        let first = first.expect("a moment");
        let message = loop {
            let message = watch.next().await.expect("a message").expect("the watch goes on");
            if !message.sections.is_empty() {
                break message;
            }
        };
        assert_eq!(message.sections[0].capacity, 5);
        let sent_at = message.sent_at.as_ref().and_then(UnixMs::from_wire).expect("a moment");
        assert!(sent_at <= first, "{backend:?}: {sent_at} is after {first}, and the next change may be before it");
        // The writer ends when the last handle to it is gone.
        drop((watch, service));
        shutdown.cancel();
        assert_eq!(tasks.join(Instant::now() + PATIENCE).await, 0, "it ends");
    }
}

/// While a commit is under way, what it changes may be committed and is not published: no heartbeat claims otherwise.
#[tokio::test]
async fn a_heartbeat_during_a_commit_is_complete_up_to_its_begin() {
    let (_replica, test) = started(Backend::Sqlite, &[("A", 9)]).await;
    for end in [Feed::not_committed as fn(&Feed), |feed: &Feed| feed.publish(Vec::new())] {
        let feed = Feed::default();
        feed.open();
        let mut watch = feed.watch(test.database.clone()).expect("open");
        let mut complete_until =
            async || watch.next().await.expect("an update").expect("the watch goes on").complete_until;
        complete_until().await;
        let begin = time::now();
        feed.committing();
        let begun = time::now();
        later(begun).await;
        feed.beat();
        let moment = complete_until().await;
        assert!(begin <= moment && moment <= begun, "{moment} is not from {begin} to {begun}");
        end(&feed);
        feed.beat();
        assert!(complete_until().await > begun);
    }
}

/// What was answered before a message's moment is in that message or in one before it, whichever replica wrote it.
#[tokio::test(flavor = "multi_thread")]
async fn every_message_is_complete_up_to_its_moment() {
    for backend in BACKENDS {
        let (mut one, test) = started(backend, &[("A", 1_000)]).await;
        let mut watch = one.client.watch_seats(wire::WatchSeatsRequest {}).await.expect("watched").into_inner();
        let mut second = match backend {
            Backend::Sqlite => None,
            Backend::Postgres => Some(replica(&Database::open(&test.url).await.expect("opens")).await),
        };
        let last = 60;
        let watching = tokio::spawn(async move {
            let (mut seen, mut version) = (Vec::new(), 0);
            while version < last {
                let message = next(&mut watch).await;
                version = message.sections.iter().map(|section| section.version).fold(version, i64::max);
                seen.push((message.sent_at.as_ref().and_then(UnixMs::from_wire).expect("a moment"), version));
            }
            seen
        });
        let mut answered = Vec::new();
        for version in 2..=last {
            let replica = second.as_mut().filter(|_| version % 2 == 0).unwrap_or(&mut one);
            held(replica, &String::from(SagaId::generate()), &["A"]).await;
            answered.push((time::now(), version));
        }
        let seen = watching.await.expect("it ends");
        for (moment, version) in &seen {
            let missing = answered.iter().find(|(at, answered)| at < moment && answered > version);
            assert_eq!(missing, None, "{backend:?}: version {version} is called complete up to {moment}");
        }
    }
}

#[tokio::test]
async fn who_watches_too_slowly_is_told_so() {
    let (mut replica, test) = started(Backend::Sqlite, &[("A", 100)]).await;
    let feed = Arc::new(Feed::default());
    let shutdown = CancellationToken::new();
    let tasks = Tasks::new("seats");
    crate::feed::follow(feed.clone(), &test.database, shutdown.clone(), &tasks).await.expect("follows");
    let mut watch = feed.watch(test.database.clone()).expect("open");
    assert!(watch.next().await.expect("a state").expect("read").snapshot_complete);
    held(&mut replica, "r1", &["A"]).await;
    let ids = [SectionId::try_new("A").expect("valid")];
    let sections = store::sections(&test.database, &ids).await.expect("read");
    for _ in 0..5_000 {
        feed.publish(sections.clone());
    }
    let error = watch.next().await.expect("an end").expect_err("too slow");
    assert_eq!(feed_status(error).code(), Code::DataLoss);
    assert!(watch.next().await.is_none());
    shutdown.cancel();
    assert_eq!(tasks.join(Instant::now() + PATIENCE).await, 0, "it ends");
    assert!(matches!(feed.watch(test.database.clone()).err(), Some(FeedError::NotConnected)));
}
