//! Registrations, from the submission to the outcome.

use std::collections::BTreeSet;

use futures::future::join_all;
use matricula_proto::common::v1::Reason;
use matricula_proto::registration::v1 as wire;
use matricula_proto::registration::v1::Outcome;
use tonic::{Code, Streaming};
use tonic_types::StatusExt as _;

use crate::world::{WAIT_MS, World, check_error, own, until, within};

fn reasons(registration: &wire::Registration) -> Vec<Reason> {
    registration.reasons.iter().map(|refusal| refusal.reason()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_is_enrolled_or_refused() {
    let world = World::start().await;
    let enrolled = world.submit("s1", "k1", &["A", "B"], &[]).await.expect("an outcome");
    assert_eq!((enrolled.outcome(), reasons(&enrolled)), (Outcome::Enrolled, vec![]));
    assert_eq!(enrolled.charged.as_ref().map(|charged| charged.minor_units), Some(60_000));
    assert!(enrolled.decided_at.is_some() && !enrolled.needs_attention);
    assert_eq!(world.get(&enrolled.registration_id).await, enrolled);

    // A swap whose add is refused changes nothing.
    assert_eq!(world.submit("s2", "k1", &["LAST"], &[]).await.expect("an outcome").outcome(), Outcome::Enrolled);
    let full = world.submit("s1", "k2", &["LAST"], &["A"]).await.expect("an outcome");
    assert_eq!((full.outcome(), reasons(&full)), (Outcome::Refused, vec![Reason::ClosedSection]));
    assert_eq!(full.charged, None);
    let unknown = world.submit("s1", "k3", &["NOWHERE", "A"], &[]).await.expect("an outcome");
    assert_eq!(unknown.outcome(), Outcome::Refused);
    let found: BTreeSet<Reason> = reasons(&unknown).into_iter().collect();
    assert_eq!(found, BTreeSet::from([Reason::SectionNotFound, Reason::AlreadyEnrolled]));

    let swapped = world.submit("s1", "k4", &["C"], &["A"]).await.expect("an outcome");
    assert_eq!(swapped.outcome(), Outcome::Enrolled);
    until("the seats follow", async || {
        world.availability(&["A", "B", "C", "LAST"]).await.expect("seats").0 == "A:10 B:9 C:9 LAST:0"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_one_registration() {
    let world = World::start().await;
    let clicks = join_all((0..50).map(|_| world.submit("s1", "double-click", &["A", "B"], &[]))).await;
    let ids: BTreeSet<String> = clicks
        .into_iter()
        .map(|click| click.expect("an outcome"))
        .map(|click| {
            assert_eq!(click.outcome(), Outcome::Enrolled);
            click.registration_id
        })
        .collect();
    assert_eq!(ids.len(), 1);
    let list = wire::ListRegistrationsRequest { student_id: "s1".into(), ..Default::default() };
    let list = world.portal.clone().list_registrations(list).await.expect("a list").into_inner();
    assert_eq!(list.registrations.len(), 1);

    // The order of sections makes no other request, and a decided registration needs no wait.
    let again = world.submit_for("s1", "double-click", &["B", "A"], &[], 0).await.expect("the same");
    assert_eq!((again.outcome(), ids.contains(&again.registration_id)), (Outcome::Enrolled, true));
    let other = world.submit("s1", "double-click", &["C"], &[]).await;
    check_error(other, Code::AlreadyExists, "IDEMPOTENCY_KEY_REUSED");
    let others_key = world.submit("s2", "double-click", &["C"], &[]).await.expect("a key is a student's own");
    assert_eq!(others_key.outcome(), Outcome::Enrolled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_request_names_the_field() {
    let world = World::start().await;
    let too_many: Vec<String> = (0..21).map(|n| format!("S{n}")).collect();
    let too_many: Vec<&str> = too_many.iter().map(String::as_str).collect();
    type Row<'a> = (&'a str, &'a str, &'a [&'a str], &'a [&'a str], i32, &'a str);
    let rows: [Row; 6] = [
        ("s1", "", &["A"], &[], 0, "idempotency_key"),
        ("s 1", "k", &["A"], &[], 0, "student_id"),
        ("s1", "k", &too_many, &[], 0, "adds"),
        ("s1", "k", &["A", "A"], &[], 0, "adds[1]"),
        ("s1", "k", &["A"], &["A"], 0, "drops"),
        ("s1", "k", &["A"], &[], 30_001, "wait_ms"),
    ];
    for (student, key, adds, drops, wait_ms, field) in rows {
        let answer = world.submit_for(student, key, adds, drops, wait_ms).await;
        let status = check_error(answer, Code::InvalidArgument, "INVALID_FIELD");
        let details = status.get_error_details();
        let named = details.bad_request().map(|bad| bad.field_violations[0].field.clone());
        assert_eq!(named.as_deref(), Some(field));
    }
    let list = wire::ListRegistrationsRequest { student_id: "s1".into(), page_size: 1_001, ..Default::default() };
    check_error(world.portal.clone().list_registrations(list).await, Code::InvalidArgument, "INVALID_FIELD");
    let list =
        wire::ListRegistrationsRequest { student_id: "s1".into(), page_token: "é".into(), ..Default::default() };
    check_error(world.portal.clone().list_registrations(list).await, Code::InvalidArgument, "INVALID_FIELD");
    let get = wire::GetRegistrationRequest { registration_id: "nobody".into() };
    check_error(world.portal.clone().get_registration(get).await, Code::NotFound, "NOT_FOUND");
    let watch = wire::WatchRegistrationRequest { registration_id: "nobody".into() };
    check_error(world.portal.clone().watch_registration(watch).await.map(|_| ()), Code::NotFound, "NOT_FOUND");
    check_error(world.cancel("nobody").await, Code::NotFound, "NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cart_has_an_outcome_an_item() {
    let world = World::start().await;
    let item = |key: &str, adds: &[&str]| wire::CartItem {
        idempotency_key: key.to_owned(),
        adds: own(adds),
        ..Default::default()
    };
    let items = vec![item("k1", &["A"]), item("k2", &["NOWHERE"]), item("k3", &["B", "C"])];
    let cart = wire::SubmitCartRequest { student_id: "s1".into(), items: items.clone(), wait_ms: WAIT_MS };
    let answer = world.portal.clone().submit_cart(cart.clone()).await.expect("outcomes").into_inner();
    let outcomes: Vec<_> =
        answer.registrations.iter().map(|one| (one.idempotency_key.as_str(), one.outcome())).collect();
    assert_eq!(outcomes, [("k1", Outcome::Enrolled), ("k2", Outcome::Refused), ("k3", Outcome::Enrolled)]);
    let again = world.portal.clone().submit_cart(cart).await.expect("outcomes").into_inner();
    let ids = |answer: &wire::SubmitCartResponse| -> Vec<String> {
        answer.registrations.iter().map(|one| one.registration_id.clone()).collect()
    };
    assert_eq!(ids(&again), ids(&answer));
    // If an item is out of bounds, none is accepted.
    let items = vec![item("k8", &["D"]), item("k9", &[])];
    let cart = wire::SubmitCartRequest { student_id: "s1".into(), items, wait_ms: 0 };
    check_error(world.portal.clone().submit_cart(cart).await, Code::InvalidArgument, "INVALID_FIELD");
    let list = wire::ListRegistrationsRequest { student_id: "s1".into(), ..Default::default() };
    let list = world.portal.clone().list_registrations(list).await.expect("a list").into_inner();
    assert_eq!(list.registrations.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_to_the_end() {
    let world = World::start().await;
    let pending = world.submit_for("s1", "k1", &["A"], &[], 0).await.expect("accepted");
    assert_eq!(pending.outcome(), Outcome::Pending);
    let watch = wire::WatchRegistrationRequest { registration_id: pending.registration_id.clone() };
    let mut changes = world.portal.clone().watch_registration(watch.clone()).await.expect("a watch").into_inner();
    let mut seen = Vec::new();
    while let Some(change) = within("the end of the watch", changes.message()).await.expect("a change") {
        seen.push(change.registration.expect("a registration"));
    }
    assert_eq!(seen.last().map(|last| last.outcome()), Some(Outcome::Enrolled));
    assert!(seen.windows(2).all(|pair| pair[0] != pair[1]), "a change that is none: {seen:?}");
    // A finished registration has one message.
    let mut finished = world.portal.clone().watch_registration(watch).await.expect("a watch").into_inner();
    assert_eq!(finished.message().await.expect("the state").and_then(|one| one.registration), seen.pop());
    assert_eq!(finished.message().await.expect("the end"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_is_acknowledged_and_watched_in_one_call() {
    let mut world = World::start().await;
    let request = |key: &str, section: &str| wire::SubmitAndWatchRegistrationRequest {
        idempotency_key: key.to_owned(),
        student_id: "s1".to_owned(),
        adds: own(&[section]),
        ..Default::default()
    };
    let watch = async |world: &World, request| {
        let answer = world.portal.clone().submit_and_watch_registration(request).await.expect("accepted");
        answer.into_inner()
    };
    let next = async |changes: &mut Streaming<wire::SubmitAndWatchRegistrationResponse>| {
        let change = within("a change", changes.message()).await.expect("a change or the end");
        change.and_then(|change| change.registration)
    };
    world.seats.stop().await;
    let mut changes = watch(&world, request("k1", "A")).await;
    let accepted = next(&mut changes).await.expect("the acknowledgement");
    assert_eq!((accepted.outcome(), accepted.ticket.is_some()), (Outcome::Pending, true));
    // The same key watches the same registration. Another body is refused.
    let mut again = watch(&world, request("k1", "A")).await;
    assert_eq!(next(&mut again).await.map(|again| again.registration_id), Some(accepted.registration_id.clone()));
    let other = world.portal.clone().submit_and_watch_registration(request("k1", "B")).await;
    check_error(other.map(drop), Code::AlreadyExists, "IDEMPOTENCY_KEY_REUSED");
    let empty = wire::SubmitAndWatchRegistrationRequest { adds: Vec::new(), ..request("k2", "A") };
    let empty = world.portal.clone().submit_and_watch_registration(empty).await;
    check_error(empty.map(drop), Code::InvalidArgument, "INVALID_FIELD");
    world.seats.resume().await;
    for mut changes in [changes, again] {
        let mut last = None;
        while let Some(change) = next(&mut changes).await {
            last = Some(change);
        }
        let last = last.expect("an outcome");
        assert_eq!((last.outcome(), &last.registration_id), (Outcome::Enrolled, &accepted.registration_id));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_comes_in_time_or_too_late() {
    let mut world = World::start().await;
    let enrolled = world.submit("s1", "k1", &["A"], &[]).await.expect("an outcome");
    check_error(world.cancel(&enrolled.registration_id).await, Code::FailedPrecondition, "TOO_LATE_TO_CANCEL");
    let refused = world.submit("s1", "k2", &["NOWHERE"], &[]).await.expect("an outcome");
    check_error(world.cancel(&refused.registration_id).await, Code::FailedPrecondition, "TOO_LATE_TO_CANCEL");

    world.seats.stop().await;
    let stuck = world.submit_for("s1", "k3", &["B"], &[], 200).await.expect("accepted");
    assert_eq!(stuck.outcome(), Outcome::Pending);
    // A registration that compensates is not cancelled yet: the seat service must first answer the compensation.
    let cancelled = world.cancel(&stuck.registration_id).await.expect("the cancel is recorded");
    assert_eq!(cancelled.outcome(), Outcome::Pending);
    assert_eq!(reasons(&cancelled), [Reason::RegistrationCancelled]);
    world.seats.resume().await;
    until("the cancel is complete", async || world.get(&stuck.registration_id).await.outcome() == Outcome::Cancelled)
        .await;
    let again = world.cancel(&stuck.registration_id).await.expect("a cancel is idempotent");
    assert_eq!(again.outcome(), Outcome::Cancelled);
}

/// The service that enrolls is away, so that the registration waits in its pivot.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_counts_while_the_enrollment_service_is_away() {
    let mut world = World::start().await;
    world.enrollments.stop().await;
    let stuck = world.submit_for("s1", "k1", &["LAST"], &[], 0).await.expect("accepted").registration_id;
    let has_seat = async || world.availability(&["LAST"]).await.expect("seats").0 == "LAST:0";
    until("it holds the seat", has_seat).await;
    let cancelled = world.cancel(&stuck).await.expect("the cancel is recorded");
    assert_eq!((cancelled.outcome(), reasons(&cancelled)), (Outcome::Pending, vec![Reason::RegistrationCancelled]));
    assert!(has_seat().await, "nothing is given back before the service has answered");
    world.enrollments.resume().await;
    until("the cancel is complete", async || world.get(&stuck).await.outcome() == Outcome::Cancelled).await;
    // The seat is free, and the student's record too.
    let other = world.submit("s2", "k1", &["LAST"], &[]).await.expect("an outcome");
    assert_eq!(other.outcome(), Outcome::Enrolled);
    let again = world.submit("s1", "k2", &["A"], &[]).await.expect("an outcome");
    assert_eq!(again.outcome(), Outcome::Enrolled);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages_newest_first() {
    let world = World::start().await;
    let mut ids = Vec::new();
    for (key, section) in [("k1", "A"), ("k2", "B"), ("k3", "C"), ("k4", "D"), ("k5", "E")] {
        ids.insert(0, world.submit("s1", key, &[section], &[]).await.expect("an outcome").registration_id);
    }
    world.submit("s2", "k1", &["A"], &[]).await.expect("an outcome");
    let (mut found, mut sizes, mut page_token) = (Vec::new(), Vec::new(), String::new());
    loop {
        let request = wire::ListRegistrationsRequest { student_id: "s1".into(), page_size: 2, page_token };
        let page = world.portal.clone().list_registrations(request).await.expect("a page").into_inner();
        sizes.push(page.registrations.len());
        found.extend(page.registrations.into_iter().map(|one| one.registration_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!((found, sizes), (ids, vec![2, 2, 1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shutdown_ends_every_stream() {
    let mut world = World::start().await;
    world.seats.stop().await;
    let stuck = world.submit_for("s1", "k1", &["A"], &[], 0).await.expect("accepted");
    let watch = wire::WatchRegistrationRequest { registration_id: stuck.registration_id };
    let mut changes = world.portal.clone().watch_registration(watch).await.expect("a watch").into_inner();
    changes.message().await.expect("the state");
    let seats = matricula_proto::catalog::v1::WatchAvailabilityRequest::default();
    let mut seats = world.catalog.clone().watch_availability(seats).await.expect("a watch").into_inner();
    seats.message().await.expect("the state");
    let waiting = world.submit("s2", "k1", &["A"], &[]);
    let shutdown = async {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        world.shutdown.cancel();
    };
    let (waited, ()) = within("the wait ends", async { tokio::join!(waiting, shutdown) }).await;
    // It is accepted, and the answer says so.
    assert_eq!(waited.expect("the state").outcome(), Outcome::Pending);
    let ended = within("the watch ends", async {
        loop {
            match changes.message().await {
                Ok(Some(_)) => {}
                other => return other,
            }
        }
    });
    check_error(ended.await, Code::Unavailable, "SHUTTING_DOWN");
    let ended = within("the watch of seats ends", async {
        loop {
            match seats.message().await {
                Ok(Some(_)) => {}
                other => return other,
            }
        }
    });
    check_error(ended.await, Code::Unavailable, "SHUTTING_DOWN");
}
