//! Several orchestrators over one log, and one that is full.

use matricula_proto::registration::v1 as wire;
use matricula_proto::registration::v1::Outcome;
use matricula_runtime::RuntimeConfig;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::world::{WAIT_MS, World, check_error, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_is_followed_from_another_replica() {
    let mut world = World::start_shared().await;
    let mut other = world.replica().await;
    world.seats.stop().await;
    let stuck = world.submit_for("s1", "k1", &["A"], &[], 0).await.expect("accepted");
    let watch = wire::WatchRegistrationRequest { registration_id: stuck.registration_id.clone() };
    let mut changes = other.watch_registration(watch).await.expect("a watch").into_inner();
    let first = changes.message().await.expect("the state").and_then(|change| change.registration);
    assert_eq!(first.map(|first| first.outcome()), Some(Outcome::Pending));
    let cancel =
        wire::CancelRegistrationRequest { registration_id: stuck.registration_id.clone(), ..Default::default() };
    check_error(other.cancel_registration(cancel).await, Code::Unavailable, "NOT_CANCELLED_YET");

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
