//! No false hope: the refusal of a student who saw seats says what has happened since, from the versions that the
//! portal has shown.

use matricula_kit::time::{TimeZone, UnixMs, shown};
use matricula_proto::catalog::v1::Availability;
use matricula_proto::common::v1::{Reason, Refusal, SeenSection};
use matricula_proto::notifications::v1 as notifications;
use matricula_proto::notifications::v1::notification_service_client::NotificationServiceClient;
use matricula_proto::registration::v1 as wire;
use matricula_proto::registration::v1::Outcome;

use crate::world::{World, until};

fn moment(wire: Option<prost_types::Timestamp>) -> String {
    shown(wire.as_ref().and_then(UnixMs::from_wire).expect("a moment"), &TimeZone::UTC)
}

/// The one reason of a refusal.
#[track_caller]
fn reason(registration: &wire::Registration) -> &Refusal {
    assert_eq!((registration.outcome(), registration.reasons.len()), (Outcome::Refused, 1), "{registration:?}");
    &registration.reasons[0]
}

/// A version that was seen, in a refusal, when its seats are known.
fn confirmed(seen: &Availability) -> Option<SeenSection> {
    Some(SeenSection {
        version: seen.version,
        free: Some(seen.free),
        capacity: Some(seen.capacity),
        changed_at: seen.changed_at,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_refusal_of_a_full_section_has_both_moments_and_versions() {
    let world = World::start().await;
    let seen = world.seen(&world.orchestrator, "LAST").await;
    assert_eq!(seen.free, 1);
    world.submit("s1", "k1", &["LAST"], &[]).await.expect("an outcome");
    let refused = world.submit_seen(&world.orchestrator, ("s2", "k1"), "LAST", seen.version).await;
    let refusal = reason(&refused);
    assert_eq!((refusal.reason(), refusal.seen), (Reason::ClosedSection, confirmed(&seen)));
    assert_eq!((refusal.section_version, refusal.capacity), (seen.version + 1, Some(1)));
    let (saw, went) = (moment(seen.changed_at), moment(refusal.closed_at));
    let expected = format!(
        "Section LAST had 1 free seat when you saw it (version {}, of {saw}); the last one went at {went}, and it was \
         at version {} when you were refused.",
        seen.version, refusal.section_version
    );
    assert_eq!(refusal.message, expected);
    // A query and a repeat get the same, and the student gets it by mail.
    assert_eq!(world.get(&refused.registration_id).await, refused);
    let again = world.submit_seen(&world.orchestrator, ("s2", "k1"), "LAST", seen.version).await;
    assert_eq!(again, refused);
    let mail = NotificationServiceClient::new(world.notifications.channel.clone());
    until("the student is notified", async || {
        let request = notifications::ListNotificationsRequest { student_id: "s2".into(), ..Default::default() };
        let list = mail.clone().list_notifications(request).await.expect("a list").into_inner();
        list.notifications.iter().any(|message| message.body.contains(&expected))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen_and_cancelled_sections_have_refusals_of_their_own() {
    let world = World::start().await;
    let seen = world.seen(&world.orchestrator, "A").await;
    world.set_capacity("A", 0).await;
    let refused = world.submit_seen(&world.orchestrator, ("s1", "k1"), "A", seen.version).await;
    let refusal = reason(&refused);
    assert_eq!((refusal.reason(), refusal.seen, refusal.capacity), (Reason::ClosedSection, confirmed(&seen), Some(0)));
    assert_eq!(refusal.closed_at, refusal.capacity_set_at);
    let frozen = format!("; its capacity was set to 0 at {}, and", moment(refusal.capacity_set_at));
    assert!(refusal.message.contains(&frozen), "{}", refusal.message);

    let seen = world.seen(&world.orchestrator, "B").await;
    world.cancel_section("B").await;
    let refused = world.submit_seen(&world.orchestrator, ("s1", "k2"), "B", seen.version).await;
    let refusal = reason(&refused);
    assert_eq!((refusal.reason(), refusal.seen), (Reason::SectionCancelled, confirmed(&seen)));
    assert!(refusal.message.contains("had 10 free seats when you saw it (version 1, of "), "{}", refusal.message);
}

/// A refusal has the seats of a version only if the portal has shown that version.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_was_not_shown_is_not_confirmed() {
    let world = World::start().await;
    let seen = world.seen(&world.orchestrator, "LAST").await;
    world.submit("s1", "k1", &["LAST"], &[]).await.expect("an outcome");
    for (key, version) in [("future", 1_000), ("before", 0), ("negative", -3)] {
        let refused = world.submit_seen(&world.orchestrator, ("s2", key), "LAST", version).await;
        let refusal = reason(&refused);
        assert_eq!(refusal.seen, Some(SeenSection { version, ..Default::default() }));
        assert!(refusal.message.starts_with("Section LAST is full: its one seat is taken."), "{}", refusal.message);
    }
    // The version in which it was full is known, and misled nobody.
    let full = seen.version + 1;
    until("the portal shows that it is full", async || world.seen(&world.orchestrator, "LAST").await.version == full)
        .await;
    let refused = world.submit_seen(&world.orchestrator, ("s2", "full"), "LAST", full).await;
    assert_eq!(reason(&refused).seen.and_then(|seen| seen.free), Some(0));
    assert!(reason(&refused).message.starts_with("Section LAST is full"), "{refused:?}");
    let unseen = world.submit("s2", "unseen", &["LAST"], &[]).await.expect("an outcome");
    assert_eq!(reason(&unseen).seen, None);
}

/// Another replica has the versions of the same feed. A replica that was started since has not, so its refusals say
/// less. A version that was confirmed once is in the answers of all replicas.
#[tokio::test(flavor = "multi_thread")]
async fn every_replica_confirms_the_versions_it_has() {
    let world = World::start_shared().await;
    let other = world.replica().await;
    until("the other replica shows the seat", async || world.shows(&other, "LAST").await).await;
    let seen = world.seen(&world.orchestrator, "LAST").await;
    world.submit("s1", "k1", &["LAST"], &[]).await.expect("an outcome");
    let refusal = world.submit_seen(&other, ("s2", "k1"), "LAST", seen.version).await;
    assert_eq!(reason(&refusal).seen, confirmed(&seen));

    let late = world.replica().await;
    until("the late one shows the section", async || world.shows(&late, "LAST").await).await;
    let less = world.submit_seen(&late, ("s3", "k1"), "LAST", seen.version).await;
    assert_eq!(reason(&less).seen, Some(SeenSection { version: seen.version, ..Default::default() }));
    // By its key, from the replica that has not the version.
    let again = world.submit_seen(&late, ("s2", "k1"), "LAST", seen.version).await;
    assert_eq!(again.reasons, refusal.reasons);
}
