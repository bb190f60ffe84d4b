//! Ends of instances of every kind, and the adoption of their sagas.

use std::time::Duration;

use matricula_engine::{Event, Outcome};
use matricula_kit::database::{Args, Database};
use matricula_kit::testing::{BACKENDS, Backend, empty_database};
use matricula_runtime::{RuntimeConfig, SagaFilter, SagaId, StoreError, SubmitError};

use crate::system::{Place, System, config, eventually, finished, new, order, within};
use crate::world::{Order, World};

pub fn short_lease() -> RuntimeConfig {
    RuntimeConfig { lease_ttl_ms: 500, ..config() }
}

async fn restart(place: &Place, crashed: System, config: RuntimeConfig) -> System {
    let world = crashed.crash().await;
    System::start(place.open().await, world, config).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crash_after_crash_everything_finishes_once() {
    for backend in BACKENDS {
        let (place, mut system) = new(backend, short_lease()).await;
        let refused = Order { refuse: vec!["commit".to_owned()], ..Order::default() };
        let mut accepted = 0;
        for round in 0..12 {
            let submitting = (0..40).map(|number| {
                let request = if number % 3 == 0 { refused.clone() } else { Order::default() };
                system.runtime.submit(order(&format!("{round}-{number}"), request))
            });
            let outcomes = futures::future::join_all(submitting).await;
            accepted += outcomes.iter().filter(|outcome| outcome.is_ok()).count();
            // In the middle of the work, each time a little later.
            let before = system.world.now().rpcs.len();
            system.world.until(|world| world.rpcs.len() > before + round || world.at_work.is_empty()).await;
            system = restart(&place, system, short_lease()).await;
        }
        assert_eq!(accepted, 12 * 40, "{backend:?}");
        assert_eq!(system.all_settled().await, accepted, "{backend:?}");
    }
}

#[tokio::test]
async fn a_shutdown_finishes_the_calls_in_flight() {
    for backend in BACKENDS {
        let (place, system) = new(backend, config()).await;
        system.world.hold("Reserve");
        let (id, _watcher) = system.submit("k", Order::default()).await;
        system.world.until(|world| world.in_flight.get("alpha") == Some(&1)).await;
        system.shutdown.cancel();
        let late = system.runtime.submit(order("late", Order::default())).await;
        assert_eq!(late, Err(SubmitError::ShuttingDown), "{backend:?}");
        system.world.release("Reserve");
        let System { world, runtime, task, database, .. } = system;
        within(task).await.unwrap().unwrap();

        // The call in flight was answered, the answer recorded, and nothing more begun. Any instance can adopt the
        // saga.
        let row = runtime.store().get(id).await.unwrap().unwrap();
        assert!(!row.owner_alive, "{backend:?}: the lease is given back");
        let log = row.log.unwrap();
        let reserved = |event: &Event| matches!(event, Event::Succeeded { step, .. } if step == "reserve");
        assert!(log.iter().any(|recorded| reserved(&recorded.event)), "{backend:?}: {log:?}");
        assert_eq!(world.rpcs("Hold").len(), 0, "{backend:?}");

        database.close().await;
        drop((runtime, database));
        let system = System::start(place.open().await, world, config()).await;
        assert_eq!(system.all_settled().await, 1, "{backend:?}");
        assert_eq!(system.world.rpcs("Reserve").len(), 1, "{backend:?}: nothing is called twice");
    }
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_calls_that_hang() {
    let (_test, system) = new(Backend::Sqlite, RuntimeConfig { call_timeout_ms: 50, ..config() }).await;
    system.world.hold("Reserve");
    system.submit("k", Order::default()).await;
    system.world.until(|world| world.in_flight.get("alpha") == Some(&1)).await;
    assert!(system.stop().await.is_ok());
}

#[tokio::test]
async fn a_fenced_instance_stops_and_writes_nothing_more() {
    for backend in BACKENDS {
        let (_test, system) = new(backend, short_lease()).await;
        system.world.hold("Hold");
        system.submit_all("k", 20).await;
        system.world.until(|world| world.in_flight.get("beta").is_some_and(|rpcs| *rpcs > 0)).await;
        system.sql("UPDATE instances SET dead = 1", Args::new()).await;
        let System { world, runtime, task, database, .. } = system;
        let before = events(&database).await;
        world.release("Hold");
        let ended = within(task).await.unwrap();
        assert!(matches!(ended, Err(StoreError::Fenced)), "{backend:?}: {ended:?}");
        assert_eq!(runtime.submit(order("late", Order::default())).await, Err(SubmitError::ShuttingDown));
        assert_eq!(events(&database).await, before, "{backend:?}");
    }
}

async fn events(database: &Database) -> i64 {
    let sql = "SELECT CAST(SUM(sequence) AS BIGINT) AS events FROM sagas";
    database.fetch(sql, Args::new()).await.unwrap()[0].int("events").unwrap()
}

#[tokio::test]
async fn unreadable_and_unknown_sagas_are_left_alone_and_flagged() {
    for backend in BACKENDS {
        let (place, system) = new(backend, short_lease()).await;
        system.world.hold("Hold");
        let mut ids = Vec::new();
        for key in ["poisoned", "unfoldable", "request", "version", "cut short", "good"] {
            ids.push(system.submit(key, Order::default()).await.0);
        }
        eventually("all are reserved", async || {
            let rows = system.list(SagaFilter { limit: 10, ..SagaFilter::default() }).await;
            rows.iter().all(|row| row.log.as_ref().is_ok_and(|log| log.len() == 2))
        })
        .await;
        let of = |index: usize| Args::new().id(ids[index].to_string());
        // Its second entry begins with its number.
        let spoil = |index: usize, begins: &str| of(index).text("\u{1}\"").text(begins);
        const SPOIL: &str = "UPDATE sagas SET log = REPLACE(log, $2, $3) WHERE saga_id = $1";
        system.sql(SPOIL, spoil(0, "\u{1}\"not JSON")).await;
        system.sql(SPOIL, spoil(1, "\u{1}'")).await;
        system.sql("UPDATE sagas SET request = '[1]' WHERE saga_id = $1", of(2)).await;
        system.sql("UPDATE sagas SET version = 2 WHERE saga_id = $1", of(3)).await;
        system.sql("UPDATE sagas SET sequence = 3 WHERE saga_id = $1", of(4)).await;
        let system = restart(&place, system, short_lease()).await;
        system.world.release("Hold");
        eventually("the good one is finished, the others are flagged", async || {
            let rows = system.list(SagaFilter { limit: 10, ..SagaFilter::default() }).await;
            let is = |index: usize, phase, flagged| {
                let row = rows.iter().find(|row| row.id == ids[index]).unwrap();
                row.phase == phase && row.needs_attention == flagged
            };
            is(5, "completed", false) && (0..5).all(|index| is(index, "running", true))
        })
        .await;
        let unknown = system.runtime.store().get(ids[3]).await.unwrap().unwrap();
        assert!(!unknown.owner_alive, "{backend:?}: it waits for an instance that knows its version");
        system.world.audit(ids[5], Outcome::Committed);
        // The instance goes on.
        system.run("new", Order::default()).await;
    }
}

/// SQLite accepts any type in a column. An unreadable value hides no other saga.
#[tokio::test]
async fn an_unreadable_row_hides_no_other() {
    let (place, system) = new(Backend::Sqlite, short_lease()).await;
    system.world.hold("Hold");
    let (bad, _) = system.submit("bad", Order::default()).await;
    let (good, _) = system.submit("good", Order::default()).await;
    system.sql("UPDATE sagas SET created_at = 'noon' WHERE saga_id = $1", Args::new().id(bad.to_string())).await;
    let system = restart(&place, system, short_lease()).await;
    system.world.release("Hold");
    eventually("the good one is finished, the bad one is flagged", async || {
        let rows = system.list(SagaFilter { limit: 10, ..SagaFilter::default() }).await;
        let of = |id: SagaId| rows.iter().find(|row| row.id == id).unwrap();
        of(good).phase == "completed" && of(bad).needs_attention && of(bad).log.is_err()
    })
    .await;
}

/// The database refuses each event of one saga: the others of its commits are written, and it is flagged. When what
/// refuses it is mended, it goes on by itself.
#[tokio::test]
async fn a_saga_whose_log_is_refused_delays_no_other() {
    for backend in BACKENDS {
        let (_place, system) = new(backend, config()).await;
        system.world.hold("Reserve");
        let mut sagas = system.submit_all("k", 50).await;
        let (bad, of_bad) = sagas.remove(20);
        refuse_events_of(&system.database, bad).await;
        system.world.release("Reserve");
        for (id, watcher) in sagas {
            finished(watcher).await;
            system.world.audit(id, Outcome::Committed);
        }
        eventually("it is flagged", async || system.runtime.store().get(bad).await.unwrap().unwrap().needs_attention)
            .await;
        take_all_events(&system.database).await;
        assert_eq!(finished(of_bad).await.outcome(), Outcome::Committed, "{backend:?}");
        system.world.audit(bad, Outcome::Committed);
    }
}

pub async fn refuse_events_of(database: &Database, saga: SagaId) {
    if database.is_shared() {
        let id = saga.to_string().replace('-', "");
        let guard = format!("CHECK (saga_id <> decode('{id}', 'hex') OR sequence = 1)");
        run(database, &[&format!("ALTER TABLE sagas ADD CONSTRAINT poisoned {guard}")]).await;
    } else {
        // SQLite can't change the constraints of a table that is there.
        let guard = format!("NEW.saga_id = '{saga}' AND NEW.sequence > 1");
        let refuse = "BEGIN SELECT RAISE(ABORT, 'poisoned'); END";
        run(database, &[&format!("CREATE TRIGGER poisoned BEFORE UPDATE ON sagas WHEN {guard} {refuse}")]).await;
    }
}

pub async fn take_all_events(database: &Database) {
    let mend =
        if database.is_shared() { "ALTER TABLE sagas DROP CONSTRAINT poisoned" } else { "DROP TRIGGER poisoned" };
    run(database, &[mend]).await;
}

async fn run(database: &Database, statements: &[&str]) {
    let mut tx = database.begin().await.unwrap();
    for statement in statements {
        tx.execute((*statement).to_owned().leak(), Args::new()).await.unwrap();
    }
    tx.commit().await.unwrap();
}

/// More than can be worked off within a lease: it goes on being renewed, and no more is taken than there are places
/// for.
#[tokio::test]
async fn a_large_takeover_does_not_cost_the_lease() {
    const BACKLOG: usize = 600;
    for backend in BACKENDS {
        let (place, system) = new(backend, short_lease()).await;
        system.world.hold("Reserve");
        system.submit_all("k", BACKLOG).await;
        let few = RuntimeConfig { in_flight_max: 10, parked_max: 0, adoption_chunk: 10, ..short_lease() };
        let system = restart(&place, system, few).await;
        let owner = system.runtime.instance().as_str().to_owned();
        let lease = async || {
            let sql = "SELECT lease_until FROM instances WHERE instance_id = $1";
            let rows = system.database.fetch(sql, Args::new().id(owner.as_str())).await.unwrap();
            rows[0].int("lease_until").unwrap()
        };
        let first = lease().await;
        eventually("sagas are at work", async || system.world.in_flight("alpha") > 0).await;
        eventually("three leases have passed", async || lease().await > first + 1_500).await;
        let taken = system.list(SagaFilter { limit: 10_000, unfinished: true, ..SagaFilter::default() }).await;
        let taken = taken.iter().filter(|row| row.owner == owner).count();
        assert!((20..100).contains(&taken), "{backend:?}: {taken} are taken over for 10 places");

        // Sagas that are submitted meanwhile come after the older ones.
        let (_, watcher) = system.submit("young", Order::default()).await;
        system.world.release("Reserve");
        assert_eq!(finished(watcher).await.outcome(), Outcome::Committed);
        assert_eq!(system.all_settled().await, BACKLOG + 1, "{backend:?}");
        assert!(!system.task.is_finished());
    }
}

/// If the database is away at any moment of a start, the start fails.
#[tokio::test]
async fn a_closed_database_is_an_error_at_start() {
    let test = empty_database(Backend::Sqlite).await;
    let store = matricula_runtime::SagaStore::open(test.database.clone()).await.unwrap();
    test.database.close().await;
    let started =
        matricula_runtime::Runtime::start(World::new(), store, config(), tokio_util::sync::CancellationToken::new());
    assert!(tokio::time::timeout(Duration::from_secs(30), started).await.unwrap().is_err());
}
