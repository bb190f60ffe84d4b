//! The messages of a client that watches.

use std::collections::HashMap;

use matricula_kit::time::UnixMs;
use matricula_proto::seats::v1::SectionSeats;
use tonic::Code;

use super::*;
use crate::availability::Seats;

fn section(id: &str, capacity: i32, taken: i32, version: i64) -> (SectionId, Seats) {
    Seats::from_wire(SectionSeats { section_id: id.to_owned(), capacity, taken, version, ..Default::default() })
}

fn cache() -> Arc<AvailabilityCache> {
    let cache = Arc::new(AvailabilityCache::default());
    cache.replace(HashMap::from([section("A", 9, 0, 1), section("B", 9, 0, 1)]), Some(UnixMs(1)), Instant::now());
    cache
}

fn watch(cache: &Arc<AvailabilityCache>, of: &[&str]) -> Watch {
    let ids = of.iter().map(|id| SectionId::stored((*id).to_owned())).collect();
    Watch::new(cache.clone(), (!of.is_empty()).then_some(ids), CancellationToken::new())
}

/// `live: id:free@version ...` of the next message, in order of ids.
async fn next(watch: &mut Watch) -> String {
    let mut response = watch.next().await.expect("a message");
    response.sections.sort_by(|a, b| a.section_id.cmp(&b.section_id));
    let live = response.freshness.expect("a freshness").live;
    let seats = response.sections.iter().map(|s| format!(" {}:{}@{}", s.section_id, s.free, s.version));
    let unknown = response.unknown_section_ids.iter().map(|id| format!(" -{id}"));
    format!("{live}:{}{}", seats.collect::<String>(), unknown.collect::<String>())
}

#[tokio::test(start_paused = true)]
async fn the_state_comes_first_and_then_the_changes() {
    let cache = cache();
    let (mut all, mut one) = (watch(&cache, &[]), watch(&cache, &["B", "X"]));
    assert_eq!(next(&mut all).await, "true: A:9@1 B:9@1");
    assert_eq!(next(&mut one).await, "true: B:9@1 -X");
    cache.apply(vec![section("A", 9, 1, 2)], None);
    assert_eq!(next(&mut all).await, "true: A:8@2");
    cache.apply(vec![section("B", 9, 2, 2)], None);
    assert_eq!(next(&mut all).await, "true: B:7@2");
    // It does not watch A.
    assert_eq!(next(&mut one).await, "true: B:7@2");
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_gets_the_latest_version_alone() {
    let cache = cache();
    let mut slow = watch(&cache, &[]);
    next(&mut slow).await;
    for version in 2..=9 {
        cache.apply(vec![section("A", 9, i32::try_from(version).expect("small"), version)], None);
    }
    assert_eq!(next(&mut slow).await, "true: A:0@9");
}

#[tokio::test(start_paused = true)]
async fn a_client_sees_that_the_feed_is_lost_and_back() {
    let cache = cache();
    let mut all = watch(&cache, &["A"]);
    next(&mut all).await;
    cache.lose();
    assert_eq!(next(&mut all).await, "false:");
    cache.replace(HashMap::from([section("A", 9, 4, 5)]), Some(UnixMs(2)), Instant::now());
    assert_eq!(next(&mut all).await, "true: A:5@5");
    cache.lose();
    assert_eq!(next(&mut all).await, "false:");
    cache.replace(HashMap::from([section("A", 9, 4, 5)]), Some(UnixMs(3)), Instant::now());
    assert_eq!(next(&mut all).await, "true:");
}

#[tokio::test(start_paused = true)]
async fn quick_and_slow_clients_get_the_removal_of_a_section() {
    let cache = cache();
    let (mut quick, mut slow, mut one) = (watch(&cache, &[]), watch(&cache, &[]), watch(&cache, &["B"]));
    for watch in [&mut quick, &mut slow, &mut one] {
        next(watch).await;
    }
    // The feed was lost, and is back with a state that has no B.
    cache.lose();
    assert_eq!(next(&mut quick).await, "false:");
    cache.replace(HashMap::from([section("A", 9, 0, 1)]), Some(UnixMs(2)), Instant::now());
    assert_eq!(next(&mut quick).await, "true: -B");
    assert_eq!(next(&mut slow).await, "true: -B");
    assert_eq!(next(&mut one).await, "true: -B");
    cache.apply(vec![section("B", 9, 3, 1)], None);
    assert_eq!(next(&mut one).await, "true: B:6@1");
}

/// Of changes in several messages only the last moves `as_of`: before it, the client does not have everything.
#[tokio::test(start_paused = true)]
async fn as_of_moves_when_the_client_has_everything() {
    let many = |version| (0..2_500).map(move |n| section(&format!("S{n}"), 9, 0, version));
    let cache = Arc::new(AvailabilityCache::default());
    let mut watch = watch(&cache, &[]);
    let mut message = async || {
        let message = watch.next().await.expect("a message");
        let as_of = message.freshness.and_then(|freshness| UnixMs::from_wire(&freshness.as_of?)).map(|moment| moment.0);
        (message.sections.len(), as_of, message.snapshot_complete)
    };
    assert_eq!(message().await, (0, None, false), "the feed has not begun");
    cache.replace(many(1).collect(), Some(UnixMs(1)), Instant::now());
    assert_eq!([message().await, message().await], [(1_000, None, false), (1_000, None, false)]);
    assert_eq!(message().await, (500, Some(1), true));
    cache.apply(many(2).collect(), Some(UnixMs(2)));
    assert_eq!([message().await, message().await], [(1_000, Some(1), false), (1_000, Some(1), false)]);
    assert_eq!(message().await, (500, Some(2), false));
}

#[tokio::test(start_paused = true)]
async fn a_client_behind_the_purged_removals_begins_anew() {
    let cache = cache();
    let mut slow = watch(&cache, &[]);
    next(&mut slow).await;
    let many = (0..20_000).map(|n| section(&format!("S{n}"), 9, 0, 1)).collect();
    cache.replace(many, Some(UnixMs(2)), Instant::now());
    cache.replace(HashMap::from([section("A", 9, 0, 1)]), Some(UnixMs(3)), Instant::now());
    assert_eq!(slow.next().await.expect_err("the end").code(), Code::DataLoss);
    assert_eq!(next(&mut watch(&cache, &[])).await, "true: A:9@1");
}

#[tokio::test(start_paused = true)]
async fn a_client_before_the_feed_gets_a_message_that_is_not_live() {
    let cache = Arc::new(AvailabilityCache::default());
    let mut early = watch(&cache, &[]);
    assert_eq!(next(&mut early).await, "false:");
    cache.replace(HashMap::from([section("A", 1, 0, 1)]), Some(UnixMs(1)), Instant::now());
    assert_eq!(next(&mut early).await, "true: A:1@1");
}

#[tokio::test(start_paused = true)]
async fn the_shutdown_ends_it() {
    let (cache, shutdown) = (cache(), CancellationToken::new());
    let mut watch = Watch::new(cache.clone(), None, shutdown.clone());
    watch.next().await.expect("the state");
    shutdown.cancel();
    assert_eq!(watch.next().await.expect_err("the end").code(), Code::Unavailable);
}
