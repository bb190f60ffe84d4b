//! No false hope: who saw seats and is refused is told what has happened since, from what the portal itself has shown.

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

/// What a refusal says of what was seen, when all of it is known.
fn confirmed(seen: &Availability) -> Option<SeenSection> {
    Some(SeenSection {
        version: seen.version,
        free: Some(seen.free),
        capacity: Some(seen.capacity),
        changed_at: seen.changed_at,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seat_that_went_since_is_told_with_both_moments_and_versions() {
    let world = World::start().await;
    let seen = world.seen(&world.orchestrator, "LAST").await;
    assert_eq!(seen.free, 1);
    world.submit("s1", "k1", &["LAST"], &[]).await.expect("an outcome");
    let refused = world.submit_seen(&world.orchestrator, ("s2", "k1"), "LAST", seen.version).await;
    let told = reason(&refused);
    assert_eq!((told.reason(), told.seen), (Reason::ClosedSection, confirmed(&seen)));
    assert_eq!((told.section_version, told.capacity), (seen.version + 1, Some(1)));
    let (saw, went) = (moment(seen.changed_at), moment(told.closed_at));
    let expected = format!(
        "Section LAST had 1 free seat when you saw it (version {}, of {saw}); the last one went at {went}, and it was \
         at version {} when you were refused.",
        seen.version, told.section_version
    );
    assert_eq!(told.message, expected);
    // Whoever asks again is told the same, and so is the student by mail.
    assert_eq!(world.get(&refused.registration_id).await, refused);
    let again = world.submit_seen(&world.orchestrator, ("s2", "k1"), "LAST", seen.version).await;
    assert_eq!(again, refused);
    let mail = NotificationServiceClient::new(world.notifications.channel.clone());
    until("the student is told", async || {
        let request = notifications::ListNotificationsRequest { student_id: "s2".into(), ..Default::default() };
        let list = mail.clone().list_notifications(request).await.expect("a list").into_inner();
        list.notifications.iter().any(|message| message.body.contains(&expected))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen_and_cancelled_sections_are_told_apart_from_full_ones() {
    let world = World::start().await;
    let seen = world.seen(&world.orchestrator, "A").await;
    world.set_capacity("A", 0).await;
    let refused = world.submit_seen(&world.orchestrator, ("s1", "k1"), "A", seen.version).await;
    let told = reason(&refused);
    assert_eq!((told.reason(), told.seen, told.capacity), (Reason::ClosedSection, confirmed(&seen), Some(0)));
    assert_eq!(told.closed_at, told.capacity_set_at);
    let frozen = format!("; its capacity was set to 0 at {}, and", moment(told.capacity_set_at));
    assert!(told.message.contains(&frozen), "{}", told.message);

    let seen = world.seen(&world.orchestrator, "B").await;
    world.cancel_section("B").await;
    let refused = world.submit_seen(&world.orchestrator, ("s1", "k2"), "B", seen.version).await;
    let told = reason(&refused);
    assert_eq!((told.reason(), told.seen), (Reason::SectionCancelled, confirmed(&seen)));
    assert!(told.message.contains("had 10 free seats when you saw it (version 1, of "), "{}", told.message);
}

/// The client may say what it likes: only what the portal has shown is repeated as true.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_shown_is_not_believed() {
    let world = World::start().await;
    let seen = world.seen(&world.orchestrator, "LAST").await;
    world.submit("s1", "k1", &["LAST"], &[]).await.expect("an outcome");
    for (key, version) in [("future", 1_000), ("before", 0), ("negative", -3)] {
        let refused = world.submit_seen(&world.orchestrator, ("s2", key), "LAST", version).await;
        let told = reason(&refused);
        assert_eq!(told.seen, Some(SeenSection { version, ..Default::default() }));
        assert!(told.message.starts_with("Section LAST is full: its one seat is taken."), "{}", told.message);
    }
    // The version in which it was full is known, and nobody was misled by it.
    let full = seen.version + 1;
    until("the portal shows that it is full", async || world.seen(&world.orchestrator, "LAST").await.version == full)
        .await;
    let refused = world.submit_seen(&world.orchestrator, ("s2", "full"), "LAST", full).await;
    assert_eq!(reason(&refused).seen.and_then(|seen| seen.free), Some(0));
    assert!(reason(&refused).message.starts_with("Section LAST is full"), "{refused:?}");
    let unseen = world.submit("s2", "unseen", &["LAST"], &[]).await.expect("an outcome");
    assert_eq!(reason(&unseen).seen, None);
}

/// Another replica has heard the same feed. One that was started since says less; and what was confirmed once is told
/// by every one of them.
#[tokio::test(flavor = "multi_thread")]
async fn every_replica_tells_what_it_knows() {
    let world = World::start_shared().await;
    let heard = world.replica().await;
    until("the other has heard of the seat", async || world.shows(&heard, "LAST").await).await;
    let seen = world.seen(&world.orchestrator, "LAST").await;
    world.submit("s1", "k1", &["LAST"], &[]).await.expect("an outcome");
    let told = world.submit_seen(&heard, ("s2", "k1"), "LAST", seen.version).await;
    assert_eq!(reason(&told).seen, confirmed(&seen));

    let late = world.replica().await;
    until("the late one shows the section", async || world.shows(&late, "LAST").await).await;
    let less = world.submit_seen(&late, ("s3", "k1"), "LAST", seen.version).await;
    assert_eq!(reason(&less).seen, Some(SeenSection { version: seen.version, ..Default::default() }));
    // By its key, from one that did not know.
    let again = world.submit_seen(&late, ("s2", "k1"), "LAST", seen.version).await;
    assert_eq!(again.reasons, told.reasons);
}
