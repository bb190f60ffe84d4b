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
async fn a_cancel_reaches_whoever_drives_the_registration() {
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
    let stuck = world.submit_for("s1", "k2", &["B"], &[], 0).await.expect("accepted").registration_id;
    let turned = cancel(&stuck).await.expect("the cancel is recorded").into_inner().registration;
    assert_eq!(turned.map(|one| (one.outcome(), one.reasons.len())), Some((Outcome::Pending, 1)));
    world.seats.resume().await;
    until("the cancel is complete", async || world.get(&stuck).await.outcome() == Outcome::Cancelled).await;
    let again = cancel(&stuck).await.expect("a cancel is idempotent").into_inner().registration;
    assert_eq!(again.map(|one| one.outcome()), Some(Outcome::Cancelled));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_says_when_to_come_back() {
    let config = RuntimeConfig { admission_queue_max: 2, ..Default::default() };
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
