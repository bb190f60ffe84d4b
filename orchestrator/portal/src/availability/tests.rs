//! The promises of the cache.

use super::*;

fn seats(capacity: i32, taken: i32, version: i64) -> Seats {
    let capacity_source = Source::Bundle;
    Seats { capacity, taken, version, changed_at: Some(UnixMs(version)), capacity_source }
}

fn section(id: &str, capacity: i32, taken: i32, version: i64) -> (SectionId, Seats) {
    (SectionId::stored(id.to_owned()), seats(capacity, taken, version))
}

fn cache(sections: &[(&str, i32, i32, i64)]) -> AvailabilityCache {
    let cache = AvailabilityCache::default();
    let snapshot = sections.iter().map(|(id, capacity, taken, version)| section(id, *capacity, *taken, *version));
    cache.replace(snapshot.collect(), Some(UnixMs(1_000)), Instant::now());
    cache
}

/// `id:free@version` of each, in order of ids.
fn shown(mut sections: Vec<wire::Availability>) -> String {
    sections.sort_by(|a, b| a.section_id.cmp(&b.section_id));
    let shown = sections.iter().map(|seats| format!("{}:{}@{}", seats.section_id, seats.free, seats.version));
    shown.collect::<Vec<_>>().join(" ")
}

/// The changes of a cache that has purged nothing.
#[track_caller]
fn since(cache: &AvailabilityCache, cursor: Option<Cursor>, of: Option<&[SectionId]>) -> Changes {
    cache.since(cursor, of).expect("no removal was purged")
}

fn id(id: &str) -> SectionId {
    SectionId::stored(id.to_owned())
}

/// Moves the cursor; returns the changed and the unknown sections, in order of ids.
fn step(cache: &AvailabilityCache, cursor: &mut Option<Cursor>, of: Option<&[SectionId]>) -> String {
    let mut changes = since(cache, *cursor, of);
    *cursor = changes.cursor;
    changes.unknown.sort();
    format!("{} -{}", shown(changes.sections), changes.unknown.join(" -"))
}

#[track_caller]
fn check(cache: &AvailabilityCache, expect: &str) {
    assert_eq!(shown(since(cache, None, None).sections), expect);
}

#[tokio::test]
async fn the_highest_version_of_a_section_holds() {
    let cache = cache(&[("A", 10, 3, 5), ("B", 2, 2, 1)]);
    check(&cache, "A:7@5 B:0@1");
    cache.apply(vec![section("A", 10, 9, 4), section("B", 2, 1, 2)], Some(UnixMs(2_000)));
    check(&cache, "A:7@5 B:1@2");
    cache.apply(vec![section("C", 1, 0, 1)], None);
    check(&cache, "A:7@5 B:1@2 C:1@1");
}

#[tokio::test]
async fn free_seats_are_never_below_zero() {
    check(&cache(&[("A", 3, 5, 1), ("B", 0, 0, 1)]), "A:0@1 B:0@1");
}

#[tokio::test]
async fn a_snapshot_replaces_the_state() {
    let cache = cache(&[("A", 10, 3, 5), ("B", 2, 2, 1)]);
    cache.replace(HashMap::from([section("A", 10, 4, 2), section("C", 1, 0, 1)]), Some(UnixMs(2_000)), Instant::now());
    check(&cache, "A:6@2 C:1@1");
}

#[tokio::test]
async fn unknown_sections_are_listed_apart() {
    let cache = cache(&[("A", 10, 3, 5)]);
    let (found, unknown, freshness) = cache.get(vec!["X".into(), "A".into()]);
    assert_eq!((shown(found), unknown), ("A:7@5".to_owned(), vec!["X".to_owned()]));
    assert_eq!(freshness, Freshness { as_of: Some(UnixMs(1_000)), live: true });
}

#[tokio::test]
async fn changes_are_those_since_a_revision() {
    let cache = cache(&[("A", 10, 3, 5), ("B", 2, 2, 1), ("C", 1, 0, 1)]);
    let start = since(&cache, None, None);
    assert_eq!((start.sections.len(), start.has_more), (3, false));
    cache.apply(vec![section("A", 10, 4, 6), section("B", 2, 1, 2)], None);
    cache.apply(vec![section("A", 10, 5, 7)], None);
    let next = since(&cache, start.cursor, None);
    assert_eq!(shown(next.sections), "A:5@7 B:1@2");
    assert_eq!(shown(since(&cache, next.cursor, None).sections), "");
    let only_b = [SectionId::stored("B".to_owned()), SectionId::stored("X".to_owned())];
    assert_eq!(shown(since(&cache, start.cursor, Some(&only_b)).sections), "B:1@2");
    // A snapshot without anything new is no change.
    let again = [("A", 10, 5, 7), ("B", 2, 1, 2), ("C", 1, 0, 1)];
    let again = again.iter().map(|(id, capacity, taken, version)| section(id, *capacity, *taken, *version));
    cache.replace(again.collect(), None, Instant::now());
    assert_eq!(shown(since(&cache, next.cursor, None).sections), "");
}

#[tokio::test]
async fn each_watcher_gets_the_removal_of_a_section_once() {
    let cache = cache(&[("A", 10, 3, 5), ("B", 2, 2, 1), ("C", 1, 0, 1)]);
    let (ab, none) = ([id("A"), id("B"), id("X")], [id("X")]);
    let (mut all, mut two, mut never) = (None, None, None);
    assert_eq!(step(&cache, &mut all, None), "A:7@5 B:0@1 C:1@1 -");
    assert_eq!(step(&cache, &mut two, Some(&ab)), "A:7@5 B:0@1 -X");
    assert_eq!(step(&cache, &mut never, Some(&none)), " -X");
    // A database was restored: B and C are not in it.
    cache.replace(HashMap::from([section("A", 10, 4, 4)]), Some(UnixMs(2_000)), Instant::now());
    let away = all;
    assert_eq!(step(&cache, &mut all, None), "A:6@4 -B -C");
    assert_eq!(step(&cache, &mut two, Some(&ab)), "A:6@4 -B");
    assert_eq!(step(&cache, &mut never, Some(&none)), " -");
    // They are back and gone again, and then B is back.
    let whole = [section("A", 10, 4, 4), section("B", 2, 0, 1), section("C", 1, 0, 1)];
    cache.replace(HashMap::from(whole), Some(UnixMs(3_000)), Instant::now());
    cache.replace(HashMap::from([section("A", 10, 4, 4)]), Some(UnixMs(4_000)), Instant::now());
    cache.apply(vec![section("B", 2, 1, 2), section("X", 1, 0, 1)], Some(UnixMs(5_000)));
    let mut slow = away;
    assert_eq!(step(&cache, &mut slow, None), "A:6@4 B:1@2 X:1@1 -C", "a slow watcher gets the latest state");
    assert_eq!(step(&cache, &mut all, None), "B:1@2 X:1@1 -C");
    assert_eq!(step(&cache, &mut two, Some(&ab)), "B:1@2 X:1@1 -");
    assert_eq!(step(&cache, &mut never, Some(&none)), "X:1@1 -");
    assert_eq!([all, two, never].map(|mut cursor| step(&cache, &mut cursor, None)), [" -", " -", " -"]);
    // A watcher that begins now never had C.
    assert_eq!(step(&cache, &mut None, None), "A:6@4 B:1@2 X:1@1 -");
    assert_eq!(step(&cache, &mut None, Some(&[id("C")])), " -C");
}

#[tokio::test]
async fn nothing_is_unknown_before_the_first_snapshot() {
    let cache = AvailabilityCache::default();
    let (of, mut cursor) = ([id("A"), id("X")], None);
    assert_eq!(step(&cache, &mut cursor, Some(&of)), " -");
    cache.replace(HashMap::new(), Some(UnixMs(1)), Instant::now());
    assert_eq!(step(&cache, &mut cursor, Some(&of)), " -A -X");
    assert_eq!(step(&cache, &mut cursor, Some(&of)), " -");
    cache.apply(vec![section("A", 1, 0, 1)], Some(UnixMs(2)));
    assert_eq!(step(&cache, &mut cursor, Some(&of)), "A:1@1 -");
}

#[tokio::test]
async fn the_memory_for_removed_sections_is_bounded() {
    let ids = |count: usize| (0..count).map(|n| section(&format!("S{n}"), 1, 0, 1)).collect::<HashMap<_, _>>();
    let cache = AvailabilityCache::default();
    cache.replace(ids(GONE_MAX), Some(UnixMs(1)), Instant::now());
    let mut cursor = since(&cache, None, Some(&[id("S1")])).cursor;
    cache.replace(HashMap::new(), Some(UnixMs(2)), Instant::now());
    assert_eq!(cache.read().by_revision.len(), GONE_MAX);
    assert_eq!(step(&cache, &mut cursor, Some(&[id("S1")])), " -S1");
    let behind = cursor;
    cache.replace(ids(GONE_MAX + 1), Some(UnixMs(3)), Instant::now());
    cache.replace(HashMap::new(), Some(UnixMs(4)), Instant::now());
    let state = cache.read();
    assert_eq!((state.sections.len(), state.by_revision.len()), (0, 0));
    drop(state);
    assert!(cache.since(behind, None).is_none(), "the removed sections are not known any more");
    // A watcher that begins anew is not behind, and stays so.
    let mut anew = None;
    assert_eq!(step(&cache, &mut anew, Some(&[id("S1")])), " -S1");
    assert_eq!(step(&cache, &mut anew, Some(&[id("S1")])), " -");
}

/// Its first part may be far behind the last revision that was purged.
#[tokio::test]
async fn a_watch_that_begins_with_many_parts_is_not_behind() {
    let cache = AvailabilityCache::default();
    let kept: HashMap<_, _> = (0..CHANGES_MAX + 1).map(|n| section(&format!("K{n}"), 1, 0, 1)).collect();
    let mut both = kept.clone();
    both.extend((0..=GONE_MAX).map(|n| section(&format!("S{n}"), 1, 0, 1)));
    cache.replace(kept.clone(), Some(UnixMs(1)), Instant::now());
    cache.replace(both, Some(UnixMs(2)), Instant::now());
    cache.replace(kept, Some(UnixMs(3)), Instant::now());
    let first = since(&cache, None, None);
    assert!(first.has_more);
    let second = since(&cache, first.cursor, None);
    assert_eq!((second.sections.len(), second.has_more), (1, false));
}

#[tokio::test]
async fn many_changes_come_in_parts() {
    let cache = AvailabilityCache::default();
    let count = CHANGES_MAX * 2 + 1;
    cache.replace((0..count).map(|n| section(&format!("S{n}"), 1, 0, 1)).collect(), None, Instant::now());
    let (mut cursor, mut sizes, mut ids) = (None, Vec::new(), std::collections::BTreeSet::new());
    loop {
        let changes = since(&cache, cursor, None);
        cursor = changes.cursor;
        sizes.push(changes.sections.len());
        ids.extend(changes.sections.into_iter().map(|seats| seats.section_id));
        if !changes.has_more {
            break;
        }
    }
    assert_eq!((sizes, ids.len()), (vec![CHANGES_MAX, CHANGES_MAX, 1], count));
}

#[tokio::test]
async fn endless_changes_cost_no_memory() {
    let cache = cache(&[("A", 10, 3, 0), ("B", 2, 2, 0)]);
    for version in 1..=1_000 {
        cache.apply(vec![section("A", 10, 3, version)], None);
    }
    let state = cache.read();
    assert_eq!((state.sections.len(), state.by_revision.len()), (2, 2));
}

#[tokio::test]
async fn only_versions_that_were_shown_are_known() {
    let cache = cache(&[("A", 10, 3, 5), ("B", 2, 2, 1)]);
    cache.apply(vec![section("A", 10, 5, 7)], None);
    cache.apply(vec![section("A", 4, 5, 8)], None);
    let free = |version| cache.seen(&SectionId::stored("A".to_owned()), version).map(|seen| seen.free);
    assert_eq!([5, 7, 8].map(free), [Some(7), Some(5), Some(0)]);
    let seen = cache.seen(&SectionId::stored("A".to_owned()), 7);
    assert_eq!(seen, Some(SeenSeats { free: 5, capacity: 10, changed_at: UnixMs(7) }));
    // Version 6 was committed together with 7 and never shown; what is to come is not known; nor is another section.
    assert_eq!([i64::MIN, 0, 4, 6, 9, i64::MAX].map(free), [None; 6]);
    assert_eq!(cache.seen(&SectionId::stored("C".to_owned()), 5), None);
    // A feed that comes back has missed versions, and the cache keeps the earlier ones.
    cache.lose();
    cache.replace(HashMap::from([section("A", 10, 6, 20)]), None, Instant::now());
    assert_eq!([5, 8, 12, 20].map(free), [Some(7), Some(0), None, Some(4)]);
    // A database that was restored counts anew: version 7 may be another one now.
    cache.replace(HashMap::from([section("A", 10, 1, 6)]), None, Instant::now());
    assert_eq!([5, 6, 7, 20].map(free), [None, Some(9), None, None]);
}

#[tokio::test]
async fn only_the_latest_versions_are_kept() {
    let cache = cache(&[("A", 1_000, 0, 0)]);
    let last = VERSIONS_MAX as i64 * 3;
    for version in 1..=last {
        cache.apply(vec![section("A", 1_000, version as i32, version)], None);
    }
    let is_known = |version| cache.seen(&SectionId::stored("A".to_owned()), version).is_some();
    let known: Vec<i64> = (0..=last).filter(|version| is_known(*version)).collect();
    assert_eq!(known, (last - VERSIONS_MAX as i64..=last).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_silent_or_lost_feed_is_not_live() {
    let live = |cache: &AvailabilityCache| cache.get(Vec::new()).2.live;
    let fresh = AvailabilityCache::default();
    assert_eq!(fresh.get(Vec::new()).2, Freshness { as_of: None, live: false });

    let cache = cache(&[("A", 10, 3, 5)]);
    assert!(live(&cache));
    tokio::time::advance(SILENCE_MAX - Duration::from_millis(1)).await;
    assert!(live(&cache));
    cache.apply(Vec::new(), Some(UnixMs(3_000)));
    tokio::time::advance(SILENCE_MAX / 2).await;
    assert!(live(&cache));
    tokio::time::advance(SILENCE_MAX).await;
    assert!(!live(&cache));
    cache.apply(Vec::new(), Some(UnixMs(9_000)));
    assert!(live(&cache));
    // A message that was long on its way is not live, though it has just arrived, and the next quick one is.
    tokio::time::advance(Duration::from_secs(2)).await;
    assert!(!cache.apply(Vec::new(), Some(UnixMs(9_100))).live);
    assert!(cache.apply(Vec::new(), Some(UnixMs(11_000))).live);
    cache.lose();
    // The state stays, and its age.
    assert_eq!(cache.get(Vec::new()).2, Freshness { as_of: Some(UnixMs(11_000)), live: false });
    check(&cache, "A:7@5");
    // A snapshot that took long to come is as old as its first part.
    let first_part = Instant::now();
    tokio::time::advance(SILENCE_MAX).await;
    cache.replace(HashMap::from([section("A", 10, 3, 5)]), Some(UnixMs(12_000)), first_part);
    assert_eq!(cache.get(Vec::new()).2, Freshness { as_of: Some(UnixMs(12_000)), live: false });
    assert!(cache.apply(Vec::new(), Some(UnixMs(12_900))).live);
}
