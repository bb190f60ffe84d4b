//! Leases, and the fence of an instance that has been marked dead.

use std::time::Duration;

use matricula_kit::database::{Args, Database};
use matricula_kit::testing::BACKENDS;

use super::*;

/// An instance whose lease has lapsed.
async fn lapsed(store: &SagaStore) -> InstanceId {
    let instance = InstanceId::generate();
    store.register(&instance, LAPSED_MS).await.unwrap();
    instance
}

async fn is_fenced(store: &SagaStore, instance: &InstanceId) -> bool {
    match write(store, instance, &[], &[]).await {
        Ok(_) => false,
        Err(StoreError::Fenced) => true,
        Err(error) => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn nothing_of_a_fenced_batch_is_written() {
    for backend in BACKENDS {
        let fixture = Fixture::new(backend).await;
        let ids = fixture.admit(&["a"]).await;
        fixture.store.release(&fixture.instance).await.unwrap();
        let new = saga("ada", "new", "same");
        let batch = (std::slice::from_ref(&new), [events(ids[0], 2, 2)]);
        let outcome = write(&fixture.store, &fixture.instance, batch.0, &batch.1).await;
        assert!(matches!(outcome, Err(StoreError::Fenced)), "{backend:?}: {outcome:?}");
        assert!(fixture.store.get(new.id).await.unwrap().is_none());
        assert_eq!(fixture.log(ids[0]).await, [1]);
        let renewed = fixture.store.renew(&fixture.instance, LONG_MS).await;
        assert!(matches!(renewed, Err(StoreError::Fenced)), "{backend:?}: {renewed:?}");
        let adopted = fixture.store.adopt(&fixture.instance, &ids).await;
        assert!(matches!(adopted, Err(StoreError::Fenced)), "{backend:?}: {adopted:?}");
    }
}

#[tokio::test]
async fn an_instance_that_never_registered_is_fenced() {
    for backend in BACKENDS {
        let fixture = Fixture::new(backend).await;
        assert!(is_fenced(&fixture.store, &InstanceId::generate()).await, "{backend:?}");
    }
}

#[tokio::test]
async fn a_lapse_ends_an_instance_only_when_another_has_seen_it() {
    let Fixture { store, instance, test } = Fixture::new(Backend::Postgres).await;
    let (seen, back_in_time) = (lapsed(&store).await, lapsed(&store).await);
    assert!(!is_fenced(&store, &seen).await, "nobody has marked it");
    store.renew(&back_in_time, LONG_MS).await.unwrap();
    store.mark_lapsed(&instance).await.unwrap();
    assert!(is_fenced(&store, &seen).await);
    assert!(matches!(store.renew(&seen, LONG_MS).await, Err(StoreError::Fenced)), "dead for good");
    assert!(!is_fenced(&store, &back_in_time).await);
    assert!(!is_fenced(&store, &instance).await);
    drop(test);
}

/// An outage of the database, or a machine that slept, does not end the only instance.
#[tokio::test]
async fn an_instance_does_not_mark_itself() {
    for backend in BACKENDS {
        let Fixture { store, test, .. } = Fixture::new(backend).await;
        let late = lapsed(&store).await;
        store.mark_lapsed(&late).await.unwrap();
        assert!(!is_fenced(&store, &late).await, "{backend:?}");
        store.renew(&late, LONG_MS).await.unwrap();
        drop(test);
    }
}

/// A machine that wakes after a sleep sees the leases of all others as lapsed, although only itself was away.
#[tokio::test]
async fn an_instance_with_a_lapsed_lease_marks_no_other() {
    let Fixture { store, test, .. } = Fixture::new(Backend::Postgres).await;
    let (woken, other) = (lapsed(&store).await, lapsed(&store).await);
    store.mark_lapsed(&woken).await.unwrap();
    assert!(!is_fenced(&store, &other).await);
    store.renew(&woken, LONG_MS).await.unwrap();
    store.mark_lapsed(&woken).await.unwrap();
    assert!(is_fenced(&store, &other).await);
    drop(test);
}

/// The lock of the file proves that all earlier instances have ended. A server has no such lock.
#[tokio::test]
async fn a_registration_marks_the_other_instances_only_in_a_file() {
    for backend in BACKENDS {
        let Fixture { store, instance, test } = Fixture::new(backend).await;
        let second = InstanceId::generate();
        store.register(&second, LONG_MS).await.unwrap();
        assert_eq!(is_fenced(&store, &instance).await, backend == Backend::Sqlite, "{backend:?}");
        assert!(!is_fenced(&store, &second).await, "{backend:?}");
        drop(test);
    }
}

/// While a commit of an instance is in progress, no other instance can mark it dead.
#[tokio::test]
async fn the_mark_waits_for_a_commit_in_progress() {
    let Fixture { store, instance, test } = Fixture::new(Backend::Postgres).await;
    let other = InstanceId::generate();
    store.register(&other, LAPSED_MS).await.unwrap();
    let mut commit = test.database.begin().await.unwrap();
    assert_eq!(commit.fetch(FENCE, Args::new().id(other.as_str())).await.unwrap().len(), 1);
    let marking = store.mark_lapsed(&instance);
    tokio::pin!(marking);
    wait_for_a_lock(&test.database, &mut marking).await;
    commit.commit().await.unwrap();
    marking.await.unwrap();
    assert!(is_fenced(&store, &other).await);
}

/// Polls `blocked` until the server reports that a backend waits for a lock.
async fn wait_for_a_lock(database: &Database, blocked: &mut (impl Future<Output = Result<bool, DbError>> + Unpin)) {
    const WAITING: &str = "SELECT pid FROM pg_stat_activity \
                           WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while database.fetch(WAITING, Args::new()).await.unwrap().is_empty() {
        let step = tokio::time::timeout(Duration::from_millis(5), &mut *blocked).await;
        assert!(step.is_err(), "it did not wait: {step:?}");
    }
}

/// A process that is suspended during a commit does not hold the lock on its row for ever.
#[tokio::test]
async fn an_instance_stopped_in_the_middle_of_a_commit_can_be_marked() {
    let Fixture { store, instance, test } = Fixture::new(Backend::Postgres).await;
    let stopped = lapsed(&store).await;
    let mut commit = test.database.begin().await.unwrap();
    commit.fetch(FENCE, Args::new().id(stopped.as_str())).await.unwrap();
    store.mark_lapsed(&instance).await.unwrap();
    assert!(commit.commit().await.is_err(), "the server has ended it");
    assert!(is_fenced(&store, &stopped).await);
}
