//! Several orchestrators over one log, and one that is full.

use matricula_proto::registration::v1 as wire;
use matricula_proto::registration::v1::Outcome;
use matricula_proto::registration::v1::registration_service_client::RegistrationServiceClient;
use matricula_runtime::RuntimeConfig;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::world::{WAIT_MS, World, check_error, until, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_is_followed_from_another_replica() {
    let mut world = World::start_shared().await;
    let mut other = RegistrationServiceClient::new(world.replica().await);
    world.seats.stop().await;
    let stuck = world.submit_for("s1", "k1", &["A"], &[], 0).await.expect("accepted");
    let watch = wire::WatchRegistrationRequest { registration_id: stuck.registration_id.clone() };
    let mut changes = other.watch_registration(watch).await.expect("a watch").into_inner();
    let first = changes.message().await.expect("the state").and_then(|change| change.registration);
    assert_eq!(first.map(|first| first.outcome()), Some(Outcome::Pending));

    let again = wire::SubmitRegistrationRequest {
        idempotency_key: "k1".into(),
        student_id: "s1".into(),
        adds: vec!["A".into()],
        wait_ms: WAIT_MS,
        ..Default::default()
    };
    let resume = async {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        world.seats.resume().await;
    };
    let (waited, ()) = tokio::join!(other.submit_registration(again), resume);
    let waited = waited.expect("an outcome").into_inner().registration.expect("a registration");
    assert_eq!((waited.outcome(), waited.registration_id), (Outcome::Enrolled, stuck.registration_id));
    let mut last = None;
    while let Some(change) = within("the end of the watch", changes.message()).await.expect("a change") {
        last = change.registration;
    }
    assert_eq!(last.map(|last| last.outcome()), Some(Outcome::Enrolled));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_reaches_the_instance_that_drives_the_registration() {
    let mut world = World::start_shared().await;
    let other = RegistrationServiceClient::new(world.replica().await);
    let cancel = async |id: &str| {
        let request = wire::CancelRegistrationRequest { registration_id: id.to_owned(), ..Default::default() };
        within("the answer", other.clone().cancel_registration(request)).await
    };
    let enrolled = world.submit("s1", "k1", &["A"], &[]).await.expect("an outcome");
    check_error(cancel(&enrolled.registration_id).await, Code::FailedPrecondition, "TOO_LATE_TO_CANCEL");
    check_error(cancel("nobody").await, Code::NotFound, "NOT_FOUND");

    world.seats.stop().await;
    // Long enough that the call to the seat service is made. Without it the cancel is complete at once.
    let stuck = world.submit_for("s1", "k2", &["B"], &[], 200).await.expect("accepted").registration_id;
    let cancelled = cancel(&stuck).await.expect("the cancel is recorded").into_inner().registration;
    assert_eq!(cancelled.map(|one| (one.outcome(), one.reasons.len())), Some((Outcome::Pending, 1)));
    world.seats.resume().await;
    until("the cancel is complete", async || world.get(&stuck).await.outcome() == Outcome::Cancelled).await;
    let again = cancel(&stuck).await.expect("a cancel is idempotent").into_inner().registration;
    assert_eq!(again.map(|one| one.outcome()), Some(Outcome::Cancelled));
}

/// A registration at work can't go on: those behind it have their place. Another replica takes them out of the line.
#[tokio::test(flavor = "multi_thread")]
async fn a_registration_has_its_place_until_its_turn_has_come() {
    let config = RuntimeConfig { in_flight_max: 1, parked_max: 0, ..Default::default() };
    let mut world = World::start_shared_with(config).await;
    world.seats.stop().await;
    let mut pending = Vec::new();
    for (student, place) in [("s1", None), ("s2", Some(0)), ("s3", Some(1)), ("s4", Some(2))] {
        let accepted = world.submit_for(student, "k1", &["A"], &[], 0).await.expect("accepted");
        // How far the line has come may not be known yet.
        assert!(accepted.place_in_line >= place, "{student}: {accepted:?}");
        until("its place is known", async || world.get(&accepted.registration_id).await.place_in_line == place).await;
        pending.push(accepted.registration_id);
    }
    // It has slots for all of them.
    let other = RegistrationServiceClient::new(world.replica().await);
    until("its turn has come elsewhere", async || {
        let request = wire::GetRegistrationRequest { registration_id: pending[3].clone() };
        let elsewhere = other.clone().get_registration(request).await.expect("it is known").into_inner();
        elsewhere.registration.is_some_and(|of| of.ticket == Some(4) && of.place_in_line.is_none())
    })
    .await;
    let watch = wire::WatchRegistrationRequest { registration_id: pending[3].clone() };
    let mut changes = world.portal.clone().watch_registration(watch).await.expect("a watch").into_inner();
    world.cancel(&pending[2]).await.expect("the cancel is recorded");
    world.seats.resume().await;
    let mut places = Vec::new();
    while let Some(change) = within("the end of the watch", changes.message()).await.expect("a change") {
        places.push(change.registration.expect("a registration").place_in_line);
    }
    assert_eq!(places.last(), Some(&None), "{places:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_student_with_too_many_is_rejected_and_others_are_served() {
    let config = RuntimeConfig { subject_open_max: 2, ..Default::default() };
    let mut world = World::start_with(config).await;
    world.seats.stop().await;
    let first = world.submit_for("s1", "k1", &["A"], &[], 0).await.expect("accepted");
    world.submit_for("s1", "k2", &["B"], &[], 0).await.expect("accepted");
    let refused = world.submit_for("s1", "k3", &["C"], &[], 0).await;
    let status = check_error(refused, Code::ResourceExhausted, "STUDENT_QUOTA_EXCEEDED");
    let delay = status.get_error_details().retry_info().and_then(|info| info.retry_delay);
    assert!(delay.is_some_and(|delay| delay.as_millis() >= 100), "{delay:?}");
    let again = world.submit_for("s1", "k1", &["A"], &[], 0).await.expect("what was accepted is answered");
    assert_eq!(again.registration_id, first.registration_id);
    check_error(world.submit_for("s1", "k1", &["C"], &[], 0).await, Code::AlreadyExists, "IDEMPOTENCY_KEY_REUSED");
    world.submit_for("s2", "k1", &["A"], &[], 0).await.expect("another student is served");
    world.seats.resume().await;
    until("there is room again", async || world.submit_for("s1", "k3", &["C"], &[], 0).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_says_when_to_come_back() {
    let config = RuntimeConfig { in_flight_max: 1, parked_max: 0, admission_queue_max: 1, ..Default::default() };
    let mut world = World::start_with(config).await;
    world.seats.stop().await;
    for student in ["s1", "s2"] {
        world.submit_for(student, "k1", &["A"], &[], 0).await.expect("accepted");
    }
    let status = check_error(
        world.submit_for("s3", "k1", &["A"], &[], 0).await,
        Code::ResourceExhausted,
        "ADMISSION_QUEUE_FULL",
    );
    let delay = status.get_error_details().retry_info().and_then(|info| info.retry_delay).expect("when to come back");
    assert!(delay.as_millis() >= 100, "{delay:?}");
    let list = wire::ListRegistrationsRequest { student_id: "s3".into(), ..Default::default() };
    let list = world.portal.clone().list_registrations(list).await.expect("a list").into_inner();
    assert!(list.registrations.is_empty(), "nothing was accepted");
}
