//! A database with many finished sagas: no statement reads them, nothing gets slower, and they leave while
//! others come and go.

#[path = "../runtime/system.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod system;
#[path = "../runtime/world.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod world;

mod fill;

use std::sync::Arc;
use std::time::{Duration, Instant};

use matricula_engine::Outcome;
use matricula_kit::testing::{BACKENDS, Backend, RowsRead, scans_of_sqlite};
use matricula_runtime::{Retention, RetentionConfig, RuntimeConfig, SagaFilter, Submitted};
use tokio_util::sync::CancellationToken;

use crate::system::{Place, System, config, eventually, order};
use crate::world::{Order, World};

/// The tables that must not be scanned, with their aliases in statements.
const TABLES: [&str; 3] = ["sagas", "saga_events", "receipts"];
const ALIASES: [&str; 9] = ["sagas", "s", "u", "q", "o", "saga_events", "e", "receipts", "a"];
/// Indexes that have only unfinished, queued or flagged sagas.
const PARTIAL: [&str; 3] = ["sagas_unfinished", "sagas_needing_attention", "sagas_in_line"];

fn settings() -> RuntimeConfig {
    RuntimeConfig { lease_ttl_ms: 600, ..config() }
}

/// Everything that an orchestrator does with its database, except the count of its rows.
async fn work(place: &Place, batch: usize) {
    let first = System::start(place.open().await, World::new(), settings()).await;
    let store = first.runtime.store().clone();
    let sagas = first.submit_all("new", batch).await;
    let ids: Vec<_> = sagas.iter().map(|(id, _)| *id).collect();
    first.all_finished(sagas, Outcome::Committed).await;
    for (key, existing) in [("new0", ids[0].to_string()), ("hot7", fill::hot(7)), ("old7", fill::old(7))] {
        let submission = if key == "new0" { order(key, Order::default()) } else { fill::again(key) };
        match first.runtime.submit(submission).await {
            Ok(Submitted::Existing(id)) => assert_eq!(id.to_string(), existing, "{key}"),
            other => panic!("{key}: {other:?}"),
        }
    }
    let lists = [
        SagaFilter { limit: 10, ..SagaFilter::default() },
        SagaFilter { limit: 10, archived: true, ..SagaFilter::default() },
        SagaFilter { limit: 10, unfinished: true, ..SagaFilter::default() },
        SagaFilter { limit: 10, phases: vec!["running", "compensating"], ..SagaFilter::default() },
        SagaFilter { limit: 10, needs_attention: true, ..SagaFilter::default() },
        SagaFilter { limit: 10, subject: Some("s7".to_owned()), archived: true, ..SagaFilter::default() },
    ];
    for filter in lists {
        store.list(filter.clone()).await.unwrap();
        store.list(SagaFilter { before: Some(ids[0].to_string()), ..filter }).await.unwrap();
    }
    store.unfinished(None, 10).await.unwrap();
    store.unfinished(Some(ids[0]), 10).await.unwrap();
    let many =
        vec![ids[0], fill::hot(3).parse().unwrap(), fill::old(3).parse().unwrap(), matricula_runtime::new_saga_id()];
    assert_eq!(store.get_many(many).await.unwrap().len(), 3);
    // Then another process has the file.
    drop(store);
    // A saga that another instance adopts.
    first.world.hold("Hold");
    let left = first.submit_all("left", batch).await;
    first.world.until(|world| world.in_flight.get("beta").is_some_and(|rpcs| *rpcs > 0)).await;
    let world = first.crash().await;
    drop(left);
    world.release("Hold");
    let second = System::start(place.open().await, world, settings()).await;
    let unfinished = SagaFilter { limit: 1, unfinished: true, ..SagaFilter::default() };
    eventually("all are finished", async || second.list(unfinished.clone()).await.is_empty()).await;
    let database = second.database.clone();
    second.stop().await.unwrap();
    database.close().await;
}

/// Has the retention look again and again until all that the database was filled with has left.
async fn retain(system: &System, folder: &std::path::Path) {
    let config = RetentionConfig { margin_s: 0, keep_finished_s: 0, look_ms: 100, ..RetentionConfig::default() };
    assert_eq!(config.problems(), []);
    let shutdown = CancellationToken::new();
    let retention = Arc::new(Retention::new(system.runtime.clone(), config, folder.to_owned()));
    let retaining = tokio::spawn(retention.run(shutdown.clone()));
    eventually("they leave", async || fill::count(&system.database, "filled").await == 0).await;
    assert_eq!(fill::count(&system.database, "events").await, 0, "their events have left with them");
    shutdown.cancel();
    retaining.await.unwrap();
}

async fn check_plans(backend: Backend, rows: i64, batch: usize) -> Place {
    let place = Place::new(backend).await;
    fill::fill(&place, backend, rows).await;
    let counted = match backend {
        Backend::Sqlite => None,
        Backend::Postgres => Some(RowsRead::count_from_now(&place.url, &TABLES).await),
    };
    work(&place, batch).await;
    match counted {
        Some(counted) => {
            let read = counted.until_now().await;
            println!("{backend:?}: {} sagas among {rows} finished ones have read {read} rows", 2 * batch);
            assert!(read < rows, "PostgreSQL has read {read} rows: it goes through what is finished");
        }
        None => {
            let database = place.open().await;
            let mut scans = scans_of_sqlite(&database, &ALIASES, &PARTIAL).await;
            // Statements that are not of the runtime.
            let is_ours = |statement: &str| {
                statement.to_lowercase().contains("count(*)") || statement.contains("FROM sagas s CROSS JOIN")
            };
            // The result of two indexes, not a table.
            let is_found = |statement: &str, line: &str| line == "SCAN s" && statement.contains(") s WHERE");
            scans.retain(|(statement, line)| !is_ours(statement) && !is_found(statement, line));
            assert!(scans.is_empty(), "SQLite reads whole tables: {scans:#?}");
            database.close().await;
        }
    }
    place
}

/// The short form of [`a_million_finished_sagas_cost_nothing`]: by the plans of all statements, and by what was read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finished_sagas_are_not_read_and_leave_while_others_come() {
    const ROWS: i64 = 15_000;
    for backend in BACKENDS {
        let place = check_plans(backend, ROWS, 100).await;
        let folder = tempfile::tempdir().unwrap();
        let system = System::start(place.open().await, World::new(), config()).await;
        let is_over = CancellationToken::new();
        let coming = async {
            let mut rounds = 0;
            while !is_over.is_cancelled() {
                let sagas = system.submit_all(&format!("round{rounds}-"), 50).await;
                system.all_finished(sagas, Outcome::Committed).await;
                rounds += 1;
            }
            rounds
        };
        let leaving = async {
            retain(&system, folder.path()).await;
            is_over.cancel();
        };
        let (rounds, ()) = tokio::join!(coming, leaving);
        assert!(rounds > 0, "{backend:?}");
        let archive = matricula_runtime::archive::Archive::open(&[folder.path().to_owned()]).unwrap();
        let archived = archive.map(|read| read.unwrap().saga).filter(|saga| saga.subject.starts_with('s')).count();
        assert_eq!(archived as i64, ROWS, "{backend:?}");
        assert!(fill::count(&system.database, "receipts").await >= 2 * ROWS, "{backend:?}");
        system.stop().await.unwrap();
    }
}

/// Minutes long, and with a figure: run it by name, with `--ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes long; the short form runs in the suite"]
async fn a_million_finished_sagas_cost_nothing() {
    const ROWS: i64 = 1_000_000;
    for backend in BACKENDS {
        let full = check_plans(backend, ROWS, 250).await;
        let empty = Place::new(backend).await;
        let empty = System::start(empty.open().await, World::new(), config()).await;
        let full = System::start(full.open().await, World::new(), config()).await;
        let (mut of_empty, mut of_full) = (Vec::new(), Vec::new());
        // Alternately, so that other load of the machine affects both alike.
        for round in 0..60 {
            of_empty.push(time_of(&empty, round).await);
            of_full.push(time_of(&full, round).await);
        }
        let (of_empty, of_full) = (median(of_empty), median(of_full));
        println!(
            "{backend:?}: 250 sagas take {of_empty:?} in an empty database, {of_full:?} beside {ROWS} finished ones and as \
             many receipts (medians of 60): ratio {:.3}",
            of_full.as_secs_f64() / of_empty.as_secs_f64()
        );
    }
}

async fn time_of(system: &System, round: usize) -> Duration {
    let started = Instant::now();
    let sagas = system.submit_all(&format!("{round}-"), 250).await;
    for (_, watcher) in sagas {
        system::finished(watcher).await;
    }
    started.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
