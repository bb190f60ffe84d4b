//! The retention on both databases: when it is interrupted, when two instances do it, when a service or the disk is
//! away.

mod world;

use std::path::Path;

use futures::future::join_all;
use matricula_kit::database::{Args, Database};
use matricula_kit::testing::{BACKENDS, Backend};

use super::*;
use crate::archive::Archive;
use crate::{SagaFilter, SubmitError, Submitted};
use world::{DAY_MS, PATIENCE, Services, System};

/// Marks the first instance as dead. PostgreSQL has `MIN` of bytes since version 18.
const END_FIRST: &str = "UPDATE instances SET dead = 1 \
     WHERE instance_id = (SELECT instance_id FROM instances ORDER BY instance_id LIMIT 1)";

fn archived(dir: &Path) -> Vec<SagaRow> {
    let archive = Archive::open(&[dir.to_owned()]).unwrap();
    let mut sagas: Vec<SagaRow> = archive.map(|read| read.unwrap().saga).collect();
    sagas.sort_by_key(|a| a.id);
    sagas
}

fn swept(archived: u64, left: u64) -> Option<Swept> {
    Some(Swept { archived, left })
}

#[tokio::test]
async fn old_finished_sagas_leave_and_their_keys_stay_taken() {
    for backend in BACKENDS {
        let system = System::new(backend).await;
        let mut ids = system.finish_all(0..30).await;
        ids.sort();
        let before = system.runtime.store().get(ids[3]).await.unwrap().unwrap();
        assert_eq!(system.sweep_in(29).await.unwrap(), swept(0, 0), "{backend:?}: too early");
        assert!(system.services.forgotten("alpha").is_empty(), "{backend:?}: rows are needed until the margin is over");
        system.services.is_held.send_replace(true);
        let (running, _) = system.submit("running", "deed").await.unwrap();

        assert_eq!(system.sweep_in(31).await.unwrap(), swept(30, 0), "{backend:?}");
        assert_eq!(system.rows().await, (1, 1, 30), "{backend:?}: what is not finished stays");
        for service in ["alpha", "beta"] {
            let mut forgotten = system.services.forgotten(service);
            forgotten.sort();
            assert_eq!(forgotten, ids, "{backend:?}: {service}");
        }
        let files = archived(system.dir.path());
        assert_eq!(files.iter().map(|saga| saga.id).collect::<Vec<_>>(), ids, "{backend:?}");
        assert_eq!(files[3].log, before.log, "{backend:?}: with its whole log");
        assert_eq!(system.sweep_in(31).await.unwrap(), swept(0, 0), "{backend:?}: once");

        let kept = system.runtime.store().get(ids[3]).await.unwrap().unwrap();
        assert_eq!(kept.archived.as_ref().unwrap().receipt, "[\"deed\",\"committed\",4]", "{backend:?}");
        assert!(kept.log.is_err_and(|why| why.contains(".jsonl")), "{backend:?}: it says where");
        assert_eq!((kept.updated_at, kept.phase), (before.updated_at, before.phase), "{backend:?}");

        let key = &before.idempotency_key;
        let again = system.submit(key, "deed").await.unwrap().1;
        assert_eq!(again, Submitted::Existing(ids[3]), "{backend:?}: the same key is the same saga");
        let other = system.submit(key, "another").await;
        assert_eq!(other, Err(SubmitError::KeyReused { existing: ids[3] }), "{backend:?}");

        // Pages with sagas of both kinds, the newest first; each page begins where the one before has ended.
        let mut listed = Vec::new();
        let mut filter = SagaFilter { archived: true, limit: 4, ..SagaFilter::default() };
        loop {
            let page = system.runtime.store().list(filter.clone()).await.unwrap();
            let Some(last) = page.last() else { break };
            filter.before = Some(last.id.to_string());
            listed.extend(page.into_iter().map(|row| row.id));
        }
        let expect: Vec<SagaId> = [&running].into_iter().chain(ids.iter().rev()).cloned().collect();
        assert_eq!(listed, expect, "{backend:?}");
        let in_the_log = SagaFilter { limit: 100, ..hot() };
        assert_eq!(system.runtime.store().list(in_the_log).await.unwrap().len(), 1, "{backend:?}");
        let of = |subject: &str| SagaFilter { subject: Some(subject.to_owned()), archived: true, limit: 9, ..hot() };
        assert_eq!(system.runtime.store().list(of("ada")).await.unwrap().len(), 9, "{backend:?}");
        assert!(system.runtime.store().list(of("bob")).await.unwrap().is_empty(), "{backend:?}");
        system.services.is_held.send_replace(false);
        system.until_finished(0).await;
    }
}

fn hot() -> SagaFilter {
    SagaFilter::default()
}

/// Cut off after the file, and after the receipts: what comes next is done again, and nothing is lost or doubled.
#[tokio::test]
async fn an_interrupted_retention_goes_on() {
    for backend in BACKENDS {
        let system = System::new(backend).await;
        let mut ids = system.finish_all(0..10).await;
        ids.sort();
        let store = system.runtime.store();
        let now = system.runtime.now();
        let chunk = async || {
            let rows = store.get_many(ids[..6].to_vec()).await.unwrap();
            system.retention.read(rows)
        };
        let after_file = chunk().await;
        archive::write(system.dir.path(), now, &after_file.lines).unwrap();
        assert_eq!(system.rows().await, (10, 10, 0), "{backend:?}");
        let after_receipts = chunk().await;
        let file = archive::write(system.dir.path(), now, &after_receipts.lines).unwrap();
        store.keep_receipts(system.runtime.instance(), &file, &after_receipts.receipts).await.unwrap();
        store.keep_receipts(system.runtime.instance(), "another", &after_receipts.receipts).await.unwrap();
        assert_eq!(system.rows().await, (10, 10, 6), "{backend:?}");
        // The saga is in both places: it is shown once, with its log, and its key has one saga.
        let listed = store.list(SagaFilter { archived: true, limit: 100, ..hot() }).await.unwrap();
        assert_eq!(listed.len(), 10, "{backend:?}");
        assert!(listed.iter().all(|row| row.log.is_ok()), "{backend:?}");
        assert_eq!(system.submit("k2", "deed").await.unwrap().1.existing(), id_of(&listed, "k2"), "{backend:?}");
        // Without a receipt nothing is removed.
        assert_eq!(store.remove(system.runtime.instance(), &ids[6..]).await.unwrap(), 0, "{backend:?}");

        assert_eq!(system.sweep_in(31).await.unwrap(), swept(10, 0), "{backend:?}");
        assert_eq!(system.rows().await, (0, 0, 10), "{backend:?}");
        let files = archived(system.dir.path());
        assert_eq!(files.into_iter().map(|saga| saga.id).collect::<Vec<_>>(), ids, "{backend:?}: each once");
    }
}

fn id_of(rows: &[SagaRow], key: &str) -> Option<SagaId> {
    rows.iter().find(|row| row.idempotency_key == key).map(|row| row.id)
}

impl Submitted {
    fn existing(self) -> Option<SagaId> {
        match self {
            Self::Existing(id) => Some(id),
            Self::Accepted { .. } => None,
        }
    }
}

#[tokio::test]
async fn nothing_leaves_while_a_service_or_the_disk_is_away() {
    for backend in BACKENDS {
        let system = System::new(backend).await;
        system.finish_all(0..10).await;
        *system.services.away.lock().unwrap() = Some("beta");
        let error = system.sweep_in(31).await.unwrap_err();
        assert!(matches!(error, RetentionError::NotForgotten { destination: "beta", .. }), "{backend:?}: {error:?}");
        assert_eq!(system.rows().await, (10, 10, 0), "{backend:?}");
        assert!(archived(system.dir.path()).is_empty(), "{backend:?}: nothing is written again and again");

        *system.services.away.lock().unwrap() = None;
        let in_the_way = system.dir.path().join("file");
        std::fs::write(&in_the_way, "").unwrap();
        let elsewhere = Retention::new(system.runtime.clone(), RetentionConfig::default(), in_the_way);
        let error = elsewhere.run_once(system.runtime.now().plus_ms(31 * DAY_MS)).await.unwrap_err();
        assert!(matches!(error, RetentionError::File(_)), "{backend:?}: {error:?}");
        assert_eq!(system.rows().await, (10, 10, 0), "{backend:?}");
        assert_eq!(system.sweep_in(31).await.unwrap(), swept(10, 0), "{backend:?}");
    }
}

#[tokio::test]
async fn an_unreadable_saga_stays_and_delays_no_other() {
    for backend in BACKENDS {
        let system = System::new(backend).await;
        system.finish_all(0..9).await;
        system.submit("k9", "no receipt").await.unwrap();
        system.until_finished(0).await;
        system
            .run("UPDATE sagas SET log = 'none' WHERE saga_id = (SELECT saga_id FROM sagas ORDER BY saga_id LIMIT 1)")
            .await;
        system.run("UPDATE sagas SET version = 9 WHERE idempotency_key = 'k5'").await;
        for _ in 0..2 {
            let outcome = system.sweep_in(31).await.unwrap().unwrap();
            assert_eq!(outcome.left, 3, "{backend:?}");
            assert_eq!(system.number("SELECT COUNT(*) AS n FROM sagas").await, 3, "{backend:?}");
        }
        assert_eq!(archived(system.dir.path()).len(), 7, "{backend:?}");
    }
}

/// After an upgrade the sagas of both versions leave, and all services of both versions delete their barrier rows.
#[tokio::test]
async fn sagas_of_an_earlier_version_leave_too() {
    for backend in BACKENDS {
        let mut system = System::new(backend).await;
        let mut ids = system.finish_all(0..5).await;
        let test = system.test.take().unwrap();
        let (_, dir) = system.crash().await;
        let upgraded = System::on(test.database.clone(), Services::upgraded(), dir).await;
        upgraded.run(END_FIRST).await;
        ids.extend(upgraded.finish_all(5..9).await);
        ids.sort();
        assert_eq!(upgraded.sweep_in(31).await.unwrap(), swept(9, 0), "{backend:?}");
        let versions: Vec<u32> = archived(upgraded.dir.path()).iter().map(|saga| saga.version).collect();
        assert_eq!(versions, [1, 1, 1, 1, 1, 2, 2, 2, 2], "{backend:?}");
        for service in ["alpha", "beta", "gamma"] {
            let mut forgotten = upgraded.services.forgotten(service);
            forgotten.sort();
            assert_eq!(forgotten, ids, "{backend:?}: {service}");
        }
    }
}

/// The eldest instance does it; after its death the next one.
#[tokio::test]
async fn only_the_eldest_instance_archives() {
    let first = System::new(Backend::Postgres).await;
    let url = first.test.as_ref().unwrap().url.clone();
    let database = Database::open(&url).await.unwrap();
    let second = System::on(database, first.services.clone(), tempfile::tempdir().unwrap()).await;
    first.finish_all(0..8).await;
    assert_eq!(second.sweep_in(31).await.unwrap(), None, "an elder one lives");
    assert_eq!(first.sweep_in(31).await.unwrap(), swept(8, 0));
    second.finish_all(8..20).await;
    first.run(END_FIRST).await;
    assert_eq!(second.sweep_in(31).await.unwrap(), swept(12, 0));
    assert_eq!(archived(second.dir.path()).len(), 12);
    let fenced = first.runtime.store().remove(first.runtime.instance(), &[]).await;
    assert!(matches!(fenced, Err(StoreError::Fenced)), "one that was given up removes nothing: {fenced:?}");
    // Two instances may do it at the same time.
    let third =
        System::on(Database::open(&url).await.unwrap(), first.services.clone(), tempfile::tempdir().unwrap()).await;
    let ids = second.finish_all(20..40).await;
    let read =
        async |system: &System| system.retention.read(system.runtime.store().get_many(ids.clone()).await.unwrap());
    let (chunk, same) = (read(&second).await, read(&third).await);
    let now = second.runtime.now();
    let (a, b) = tokio::join!(second.retention.take_out(chunk, now), third.retention.take_out(same, now));
    assert_eq!(a.unwrap() + b.unwrap(), 20, "each leaves once");
    assert_eq!(second.rows().await, (0, 0, 40));
    drop(first.crash().await);
}

/// A key that is submitted again while its saga leaves gets the same saga, at every instance.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_comes_back_while_its_saga_leaves_has_one_saga() {
    for backend in BACKENDS {
        let system = System::new(backend).await;
        let ids = system.finish_all(0..200).await;
        let is_over = CancellationToken::new();
        let clicking = async {
            let mut clicks = 0;
            while !is_over.is_cancelled() {
                let keys: Vec<(usize, String)> = (0..200).map(|key| (key, format!("k{key}"))).collect();
                let answers = join_all(keys.iter().map(|(_, key)| system.submit(key, "deed"))).await;
                for ((key, _), answer) in keys.iter().zip(answers) {
                    assert_eq!(answer.unwrap().1.existing().as_ref(), Some(&ids[*key]), "{backend:?}: k{key}");
                    clicks += 1;
                }
            }
            clicks
        };
        let sweeping = async {
            let outcome = system.sweep_in(31).await.unwrap();
            is_over.cancel();
            outcome
        };
        let (clicks, outcome) = tokio::join!(clicking, sweeping);
        assert_eq!(outcome, swept(200, 0), "{backend:?}");
        assert!(clicks >= 200, "{backend:?}");
        assert_eq!(system.rows().await, (0, 0, 200), "{backend:?}");
    }
}

/// Later writes see the receipts; the retention waits for earlier ones.
#[tokio::test]
async fn rows_are_removed_only_after_the_writes_in_progress() {
    const WAITING: &str = "SELECT COUNT(*) AS n FROM pg_stat_activity WHERE datname = current_database() \
                           AND wait_event_type = 'Lock'";
    let system = System::new(Backend::Postgres).await;
    let mut write = system.database.begin().await.unwrap();
    let guard = "SELECT instance_id FROM instances WHERE dead = 0 FOR SHARE";
    assert_eq!(write.fetch(guard, Args::new()).await.unwrap().len(), 1);
    let store = system.runtime.store().clone();
    let passing = tokio::spawn(async move { store.pass_writes().await });
    let start = tokio::time::Instant::now();
    while system.number(WAITING).await == 0 {
        assert!(!passing.is_finished(), "it does not wait");
        assert!(start.elapsed() < PATIENCE, "it does not ask");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    write.commit().await.unwrap();
    passing.await.unwrap().unwrap();
}

#[tokio::test]
async fn dead_instances_without_sagas_are_deleted() {
    for backend in BACKENDS {
        let system = System::new(backend).await;
        system.run("INSERT INTO instances (instance_id, started_at, lease_until, dead) VALUES ('0', 0, 5, 1), ('1', 0, 5, 1), ('2', 0, 50, 1)").await;
        system.services.is_held.send_replace(true);
        system.submit("k", "deed").await.unwrap();
        // No instance has its definition, so no instance adopts it.
        system.run("UPDATE sagas SET owner = '1', version = 9").await;
        assert_eq!(system.runtime.store().sweep_instances(UnixMs(10)).await.unwrap(), 1, "{backend:?}");
        assert_eq!(system.number("SELECT COUNT(*) AS n FROM instances").await, 3, "{backend:?}");
        system.services.is_held.send_replace(false);
    }
}
