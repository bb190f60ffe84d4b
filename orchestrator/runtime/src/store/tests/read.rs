//! Reads: by id, by the beginning of an id, by key, and lists. An unreadable row hides no other.

use matricula_kit::database::Database;
use matricula_kit::testing::{BACKENDS, Backend};

use super::*;

async fn list(store: &SagaStore, filter: SagaFilter) -> Vec<SagaId> {
    store.list(filter).await.unwrap().into_iter().map(|row| row.id).collect()
}

async fn somewhat_old(store: &SagaStore) -> Vec<SagaId> {
    store.list_somewhat_old(all()).await.unwrap().into_iter().map(|row| row.id).collect()
}

fn all() -> SagaFilter {
    SagaFilter { limit: 100, ..SagaFilter::default() }
}

#[tokio::test]
async fn gets_return_existing_sagas() {
    for backend in BACKENDS {
        let fixture = Fixture::new(backend).await;
        let ids = fixture.admit(&["a", "b"]).await;
        let unknown = crate::new_saga_id();
        assert!(fixture.store.get(unknown).await.unwrap().is_none(), "{backend:?}");
        assert!(fixture.store.get_many(Vec::new()).await.unwrap().is_empty(), "{backend:?}");
        let rows = fixture.store.get_many(vec![ids[1], unknown, ids[0]]).await.unwrap();
        assert_eq!(rows.into_iter().map(|row| row.id).collect::<Vec<_>>(), ids, "{backend:?}");
    }
}

/// A copy of the database that gets no more changes plays a replica that is behind.
#[tokio::test]
async fn a_list_that_may_be_old_comes_from_the_replica_as_long_as_it_answers() {
    let fixture = Fixture::new(Backend::Postgres).await;
    let here = fixture.admit(&["a", "b"]).await;
    let behind = Fixture::new(Backend::Postgres).await;
    let there = behind.admit(&["a"]).await;
    let store = fixture.store.clone().with_lists_from(Database::replica(&behind.test.url).await.unwrap());
    assert_eq!(somewhat_old(&store).await, there);
    assert_eq!(list(&store, all()).await.len(), 2, "an audit reads what is true now");
    let one = store.get(here[1]).await.unwrap().expect("what is asked for by its id is true");
    assert_eq!(one.id, here[1]);

    let (server, _) = behind.test.url.rsplit_once('/').expect("a URL with a database");
    let nowhere = Database::replica(&format!("{server}/no_such_database")).await.unwrap();
    let store = fixture.store.clone().with_lists_from(nowhere);
    let mut newest_first = here.clone();
    newest_first.reverse();
    assert_eq!(somewhat_old(&store).await, newest_first, "a replica that is away holds nobody up");
    assert!(Database::replica("sqlite:x").await.is_err());
}

#[tokio::test]
async fn lists_filter() {
    for backend in BACKENDS {
        let fixture = Fixture::new(backend).await;
        let mut ids = fixture.admit(&["a", "b", "c"]).await;
        let bobs = saga("bob", "a", "same");
        write(&fixture.store, &fixture.instance, std::slice::from_ref(&bobs), &[]).await.unwrap();
        ids.push(bobs.id);
        fixture.append(finished(ids[0], 2)).await;
        let attention = Summary { phase: "compensating", needs_attention: true, ..RUNNING };
        fixture.append(Append { summary: attention, ..events(ids[1], 2, 2) }).await;

        let check = async |filter: SagaFilter, expected: &[usize]| {
            let expected: Vec<SagaId> = expected.iter().map(|index| ids[*index]).collect();
            let found = list(&fixture.store, filter.clone()).await;
            assert_eq!(found, expected, "{backend:?} {filter:?}");
        };
        let (ada, nobody) = (Some("ada".to_owned()), Some("nobody".to_owned()));
        check(all(), &[3, 2, 1, 0]).await;
        check(SagaFilter { subject: ada.clone(), ..all() }, &[2, 1, 0]).await;
        check(SagaFilter { subject: nobody, ..all() }, &[]).await;
        check(SagaFilter { phases: vec!["completed"], ..all() }, &[0]).await;
        check(SagaFilter { phases: vec!["running", "completed"], ..all() }, &[3, 2, 0]).await;
        check(SagaFilter { needs_attention: true, ..all() }, &[1]).await;
        check(SagaFilter { unfinished: true, ..all() }, &[3, 2, 1]).await;
        check(SagaFilter { subject: ada.clone(), unfinished: true, phases: vec!["running"], ..all() }, &[2]).await;
        check(SagaFilter { limit: 0, ..all() }, &[]).await;
        // A subject may look like a pattern of SQL.
        check(SagaFilter { subject: Some("%".to_owned()), ..all() }, &[]).await;

        for subject in [None, ada] {
            let newest_first = list(&fixture.store, SagaFilter { subject: subject.clone(), ..all() }).await;
            let (mut paged, mut before) = (Vec::new(), None);
            loop {
                let filter = SagaFilter { subject: subject.clone(), before: before.clone(), limit: 2, ..all() };
                let page = list(&fixture.store, filter).await;
                let Some(last) = page.last() else { break };
                before = Some(last.to_string());
                paged.extend(page);
            }
            assert_eq!(paged, newest_first, "{backend:?}");
        }
    }
}

#[tokio::test]
async fn an_unreadable_event_spoils_its_own_log_only() {
    for backend in BACKENDS {
        let fixture = Fixture::new(backend).await;
        let ids = fixture.admit(&["poisoned", "good", "lost"]).await;
        fixture.append(events(ids[0], 2, 3)).await;
        fixture.sabotage("UPDATE sagas SET log = log || 'poison' WHERE idempotency_key = 'poisoned'").await;
        fixture.sabotage("UPDATE sagas SET log = '' WHERE idempotency_key = 'lost'").await;
        let rows = fixture.store.list(all()).await.unwrap();
        let logs: Vec<_> = rows.into_iter().rev().map(|row| row.log).collect();
        assert!(matches!(&logs[0], Err(problem) if problem.contains("event 2")), "{backend:?}: {:?}", logs[0]);
        assert_eq!(logs[1].as_ref().map(Vec::len), Ok(1), "{backend:?}");
        assert!(matches!(&logs[2], Err(problem) if problem.contains("no events")), "{backend:?}: {:?}", logs[2]);
    }
}

/// The store never writes such an id. Its saga can't be driven, and all others are read and adopted.
#[tokio::test]
async fn a_saga_whose_id_is_not_a_uuid_is_left_alone_and_hides_no_other() {
    for backend in BACKENDS {
        let Fixture { test, store, instance } = Fixture::new(backend).await;
        let fixture = Fixture { test, store: store.clone(), instance };
        let ids = fixture.admit(&["a", "b", "c", "spoilt"]).await;
        fixture.sabotage("UPDATE sagas SET saga_id = 'none' WHERE idempotency_key = 'spoilt'").await;
        let newest_first = [ids[2], ids[1], ids[0]];
        assert_eq!(list(&store, all()).await, newest_first, "{backend:?}");
        assert_eq!(
            list(&store, SagaFilter { limit: 2, ..all() }).await,
            newest_first[..2],
            "{backend:?}: a whole page"
        );
        let unfinished = store.unfinished(Some(ids[0]), 2).await.unwrap();
        assert_eq!(unfinished.into_iter().map(|row| row.id).collect::<Vec<_>>(), ids[1..3], "{backend:?}");
        assert_eq!(store.of_prefix(&["ada"], "").await.unwrap().len(), 3, "{backend:?}");

        let heir = InstanceId::generate();
        store.register(&heir, LONG_MS).await.unwrap();
        store.release(&fixture.instance).await.unwrap();
        assert_eq!(store.adoptable(&[("one", 1)], 10).await.unwrap(), ids[..3], "{backend:?}");
    }
}

async fn between(store: &SagaStore, first: &str, last: &str, limit: i64) -> Vec<String> {
    let found = store.ids_between(first, last, limit).await.unwrap();
    found.into_iter().map(String::from).collect()
}

#[tokio::test]
async fn ids_are_found_by_their_range() {
    for backend in BACKENDS {
        let fixture = Fixture::new(backend).await;
        let ids: Vec<String> = fixture.admit(&["a", "b", "c"]).await.into_iter().map(String::from).collect();
        let (zeros, effs) = ("00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff");
        assert_eq!(between(&fixture.store, zeros, effs, 10).await, ids, "{backend:?}");
        assert_eq!(between(&fixture.store, zeros, effs, 2).await, ids[..2], "{backend:?}");
        assert_eq!(between(&fixture.store, &ids[1], &ids[1], 10).await, [ids[1].clone()], "{backend:?}");
        assert_eq!(between(&fixture.store, zeros, &ids[0], 10).await, [ids[0].clone()], "{backend:?}");
        assert!(between(&fixture.store, zeros, zeros, 10).await.is_empty(), "{backend:?}");
    }
}

async fn keys(store: &SagaStore, subjects: &[&str]) -> Vec<String> {
    let found = store.of_prefix(subjects, "import·").await.unwrap();
    found.into_iter().map(|saga| format!("{} {} {}", saga.subject, saga.idempotency_key, saga.outcome)).collect()
}

#[tokio::test]
async fn sagas_are_found_by_the_beginning_of_their_keys() {
    for backend in BACKENDS {
        let fixture = Fixture::new(backend).await;
        let ids = fixture.admit(&["import·E1·0", "a click", "import·E1·1"]).await;
        let other = saga("bob", "import·E1·0", "same");
        write(&fixture.store, &fixture.instance, &[other], &[]).await.unwrap();
        let of_ada = ["ada import·E1·0 pending", "ada import·E1·1 pending"];
        assert_eq!(keys(&fixture.store, &["ada"]).await, of_ada, "{backend:?}");
        assert_eq!(keys(&fixture.store, &["bob", "eve"]).await, ["bob import·E1·0 pending"], "{backend:?}");
        assert!(keys(&fixture.store, &[]).await.is_empty(), "{backend:?}");

        // The first saga moves to the archive.
        fixture.sabotage("UPDATE sagas SET finished = 1, phase = 'completed', outcome = 'committed'").await;
        let receipts = [(ids[0], "{}".to_owned())];
        fixture.store.keep_receipts(&fixture.instance, "a file", &receipts).await.unwrap();
        let both = ["ada import·E1·0 committed", "ada import·E1·1 committed"];
        assert_eq!(keys(&fixture.store, &["ada"]).await, both, "{backend:?}: between receipt and removal");
        fixture.store.remove(&fixture.instance, &ids[..1]).await.unwrap();
        assert_eq!(keys(&fixture.store, &["ada"]).await, both, "{backend:?}: removed");
    }
}
