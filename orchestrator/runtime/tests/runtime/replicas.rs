//! Several instances on one PostgreSQL, and a PostgreSQL that comes and goes.

use std::time::Duration;

use matricula_engine::Outcome;
use matricula_kit::database::{Args, Database};
use matricula_kit::testing::Backend;
use matricula_postgres::POSTGRES_URL;
use matricula_runtime::{RuntimeConfig, SagaFilter, StoreError, Submitted};

use crate::system::{Place, System, config, eventually, new, order, within};
use crate::world::Order;

fn short_lease() -> RuntimeConfig {
    RuntimeConfig { lease_ttl_ms: 600, ..config() }
}

async fn beside(place: &Place, system: &System, config: RuntimeConfig) -> System {
    System::start(place.open().await, system.world.clone(), config).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_takes_over_within_the_lease() {
    let (place, first) = new(Backend::Postgres, short_lease()).await;
    let second = beside(&place, &first, short_lease()).await;
    first.world.hold("Hold");
    first.submit_all("k", 100).await;
    second.submit_all("l", 100).await;
    first.world.until(|world| world.in_flight.get("beta").is_some_and(|rpcs| *rpcs > 1)).await;
    first.crash().await;
    let crashed = tokio::time::Instant::now();
    let owner = second.runtime.instance().as_str();
    eventually("all are adopted", async || {
        let rows = second.list(SagaFilter { limit: 1_000, unfinished: true, ..SagaFilter::default() }).await;
        rows.iter().all(|row| row.owner == owner)
    })
    .await;
    assert!(crashed.elapsed() < Duration::from_secs(10), "{:?}", crashed.elapsed());
    second.world.release("Hold");
    assert_eq!(second.all_settled().await, 200);
}

/// The sagas of an instance that released its lease are adopted at once.
#[tokio::test]
async fn after_an_end_in_order_another_takes_over_at_once() {
    let long = RuntimeConfig { lease_ttl_ms: 60_000, ..config() };
    let (place, first) = new(Backend::Postgres, long).await;
    first.world.hold("Hold");
    first.submit_all("k", 20).await;
    first.world.until(|world| world.in_flight.get("beta").is_some_and(|rpcs| *rpcs > 0)).await;
    let world = first.world.clone();
    let stopping = first.stop();
    world.release("Hold");
    stopping.await.unwrap();
    let second = System::start(place.open().await, world, short_lease()).await;
    assert_eq!(second.all_settled().await, 20);
}

/// The first instance is declared dead while it lives: it stops, and each effect happens once, although both made
/// calls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_was_given_up_stops_while_the_other_goes_on() {
    let (place, first) = new(Backend::Postgres, config()).await;
    first.world.hold("Commit");
    first.submit_all("k", 100).await;
    first.world.until(|world| world.rpcs.iter().any(|(rpc, _)| *rpc == "Commit")).await;
    let second = beside(&place, &first, short_lease()).await;
    let dead = Args::new().id(first.runtime.instance().as_str());
    first.sql("UPDATE instances SET dead = 1 WHERE instance_id = $1", dead).await;
    first.world.release("Commit");
    let ended = within(first.task).await.unwrap();
    assert!(matches!(ended, Err(StoreError::Fenced)), "{ended:?}");
    assert_eq!(second.all_settled().await, 100);
}

/// A saga can leave a live instance: a person has changed its owner in the database. A client that waits for it at the
/// instance that had it gets the outcome that another reaches.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_where_a_saga_was_driven_hears_of_its_end_elsewhere() {
    // The first instance looks for sagas of others only at its start, so it does not adopt its own saga again.
    let long = RuntimeConfig { lease_ttl_ms: 60_000, ..config() };
    let (place, first) = new(Backend::Postgres, long).await;
    first.world.hold("Hold");
    let sagas = first.submit_all("k", 20).await;
    first.world.until(|world| world.in_flight.get("beta").is_some_and(|rpcs| *rpcs > 0)).await;
    let second = beside(&place, &first, short_lease()).await;
    let gone = "INSERT INTO instances (instance_id, started_at, lease_until, dead) VALUES ('gone', 0, 0, 1)";
    first.sql(gone, Args::new()).await;
    first.sql("UPDATE sagas SET owner = 'gone'", Args::new()).await;
    eventually("the second has adopted them", async || {
        let filter = SagaFilter { limit: 100, ..SagaFilter::default() };
        second.list(filter).await.iter().all(|row| row.owner == second.runtime.instance().as_str())
    })
    .await;
    first.world.release("Hold");
    // The watches are at the first instance, which detects at its next append that it has lost the sagas.
    first.all_finished(sagas, Outcome::Committed).await;
    assert_eq!(second.all_settled().await, 20);
    assert!(!first.task.is_finished(), "an instance that lives goes on");
}

/// A lease that lapsed during an outage of the database does not end the only instance.
#[tokio::test]
async fn a_lapse_that_nobody_saw_is_survived() {
    let (_test, system) = new(Backend::Postgres, config()).await;
    system.sql("UPDATE instances SET lease_until = 0", Args::new()).await;
    system.run("k", Order::default()).await;
    assert!(!system.task.is_finished());
}

#[tokio::test]
async fn the_same_key_at_two_replicas_is_one_saga() {
    let (place, first) = new(Backend::Postgres, config()).await;
    let second = beside(&place, &first, config()).await;
    for round in 0..20 {
        let key = format!("k{round}");
        let (a, b) = tokio::join!(
            first.runtime.submit(order(&key, Order::default())),
            second.runtime.submit(order(&key, Order::default()))
        );
        let accepted = [&a, &b].into_iter().filter(|outcome| matches!(outcome, Ok(Submitted::Accepted { .. }))).count();
        let existing = [&a, &b].into_iter().filter(|outcome| matches!(outcome, Ok(Submitted::Existing(_)))).count();
        assert_eq!((accepted, existing), (1, 1), "{a:?} {b:?}");
    }
    assert_eq!(first.all_settled().await, 20);
}

/// The server's own connection, and the name of the database that comes and goes.
struct Outages {
    admin: Database,
    name: String,
}

impl Outages {
    async fn of(place: &Place) -> Self {
        let server = std::env::var(POSTGRES_URL).unwrap();
        let admin = Database::open(&format!("{}/postgres", server.trim_end_matches('/'))).await.unwrap();
        Self { admin, name: place.url.rsplit('/').next().unwrap().to_owned() }
    }

    /// Ends every connection so many times, each time after some RPCs more.
    async fn run(&self, system: &System, times: usize) {
        const END: &str = "SELECT pg_terminate_backend(pid) AS ended FROM pg_stat_activity WHERE datname = $1";
        for _ in 0..times {
            let before = system.world.now().rpcs.len();
            system.world.until(|world| world.rpcs.len() > before + 3 || world.at_work.is_empty()).await;
            self.admin.fetch(END, Args::new().text(self.name.as_str())).await.unwrap();
        }
    }
}

/// The server ends every connection again and again, in the middle of commits too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_accepted_saga_is_lost_when_the_database_comes_and_goes() {
    let (place, system) = new(Backend::Postgres, config()).await;
    let outages = Outages::of(&place).await;
    let submitting = async {
        let mut sagas = Vec::new();
        for round in 0..15 {
            sagas.extend(system.submit_all(&format!("{round}-"), 60).await);
        }
        sagas
    };
    let (sagas, ()) = tokio::join!(submitting, outages.run(&system, 25));
    system.all_finished(sagas, Outcome::Committed).await;
    assert_eq!(system.all_settled().await, 900);
    assert!(!system.task.is_finished());
}

/// Adopted sagas that could not be read at once are not lost: no other instance would adopt them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_saga_is_lost_when_the_database_comes_and_goes_during_a_takeover() {
    let few = RuntimeConfig { in_flight_max: 20, adoption_chunk: 5, ..short_lease() };
    let (place, first) = new(Backend::Postgres, short_lease()).await;
    first.world.hold("Reserve");
    first.submit_all("k", 500).await;
    let world = first.crash().await;
    let second = System::start(place.open().await, world, few).await;
    let outages = Outages::of(&place).await;
    second.world.release("Reserve");
    let (settled, ()) = tokio::join!(second.all_settled(), outages.run(&second, 25));
    assert_eq!(settled, 500);
}
