//! Seats for portals: they follow the commits of the seat service, and are not live when they can't.

use matricula_proto::catalog::v1 as wire;
use tonic::{Code, Streaming};

use crate::world::{World, check_error, own, until, within};

/// `live: id:free ...` of the next message.
async fn next(watch: &mut Streaming<wire::WatchAvailabilityResponse>) -> String {
    let message = within("a message of the watch", watch.message()).await.expect("no error").expect("no end");
    let seats = message.sections.iter().map(|seats| format!(" {}:{}", seats.section_id, seats.free));
    let unknown = message.unknown_section_ids.iter().map(|id| format!(" -{id}"));
    let live = message.freshness.expect("a freshness").live;
    format!("{live}:{}{}", seats.collect::<String>(), unknown.collect::<String>())
}

async fn watch(world: &World, sections: &[&str]) -> Streaming<wire::WatchAvailabilityResponse> {
    let request = wire::WatchAvailabilityRequest { section_ids: own(sections) };
    world.catalog.clone().watch_availability(request).await.expect("a watch").into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn seats_follow_holds_and_capacities() {
    let world = World::start().await;
    let mut a = watch(&world, &["A"]).await;
    assert_eq!(next(&mut a).await, "true: A:10");
    world.submit("s1", "k1", &["A", "B"], &[]).await.expect("an outcome");
    assert_eq!(next(&mut a).await, "true: A:9");
    world.set_capacity("A", 3).await;
    assert_eq!(next(&mut a).await, "true: A:2");
    world.set_capacity("A", 0).await;
    assert_eq!(next(&mut a).await, "true: A:0");
    let mut all = watch(&world, &[]).await;
    let first = within("the state", all.message()).await.expect("no error").expect("no end");
    assert_eq!(first.sections.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_feed_is_not_live_and_recovers() {
    let mut world = World::start().await;
    let mut a = watch(&world, &["A"]).await;
    assert_eq!(next(&mut a).await, "true: A:10");
    world.seats.stop().await;
    assert_eq!(next(&mut a).await, "false:");
    // The seats are still shown, as not live.
    assert_eq!(world.availability(&["A"]).await.expect("seats"), ("A:10".to_owned(), false));
    world.seats.resume().await;
    assert_eq!(next(&mut a).await, "true:");
    world.set_capacity("A", 4).await;
    assert_eq!(next(&mut a).await, "true: A:4");
    assert_eq!(world.availability(&["A"]).await.expect("seats"), ("A:4".to_owned(), true));
}

/// A restored database does not have a section yet. Every watcher gets its removal, also a slow one. A new watcher of a
/// section that never existed gets the same.
#[tokio::test(flavor = "multi_thread")]
async fn watchers_get_the_removal_of_a_section() {
    let mut world = World::start().await;
    let (mut a, mut all) = (watch(&world, &["A", "NOWHERE"]).await, watch(&world, &[]).await);
    assert_eq!(next(&mut a).await, "true: A:10 -NOWHERE");
    next(&mut all).await;
    world.seats.stop().await;
    world.seats.delete("A").await;
    assert_eq!(next(&mut a).await, "false:");
    world.seats.resume().await;
    assert_eq!(next(&mut a).await, "true: -A");
    assert_eq!([next(&mut all).await, next(&mut all).await], ["false:", "true: -A"]);
    assert_eq!(world.availability(&["A", "B"]).await.expect("seats"), ("B:10".to_owned(), true));
    // Back from another import.
    world.import_section("A", 4).await;
    assert_eq!(next(&mut a).await, "true: A:4");
    assert_eq!(next(&mut all).await, "true: A:4");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalogue_has_seats_and_pages() {
    let world = World::start().await;
    let (mut found, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = wire::ListSectionsRequest { page_size: 4, page_token, ..Default::default() };
        let page = world.catalog.clone().list_sections(request).await.expect("a page").into_inner();
        assert!(page.freshness.expect("a freshness").live);
        found.extend(page.sections);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let shown: Vec<String> = found
        .iter()
        .map(|section| {
            format!("{} {}", section.section_id, section.availability.as_ref().map_or(-1, |seats| seats.free))
        })
        .collect();
    assert_eq!(shown, ["A 10", "B 10", "C 10", "D 10", "E 10", "LAST 1"]);
    assert_eq!((found[0].course_code.as_str(), found[0].credits_hundredths), ("X A", 300));

    let request = wire::GetAvailabilityRequest { section_ids: own(&["NOWHERE", "LAST"]) };
    let answer = world.catalog.clone().get_availability(request).await.expect("seats").into_inner();
    assert_eq!((answer.sections.len(), answer.unknown_section_ids), (1, own(&["NOWHERE"])));
    for ids in [vec![], vec!["A".to_owned(); 1_001], own(&["a b"])] {
        let answer = world.catalog.clone().get_availability(wire::GetAvailabilityRequest { section_ids: ids }).await;
        check_error(answer, Code::InvalidArgument, "INVALID_FIELD");
    }
    let request = wire::ListSectionsRequest { page_size: -1, ..Default::default() };
    check_error(world.catalog.clone().list_sections(request).await, Code::InvalidArgument, "INVALID_FIELD");
    until("the seats are as fresh as the heartbeat", async || {
        world.availability(&["A"]).await.is_ok_and(|(_, live)| live)
    })
    .await;
}
