//! A service that does not answer needs attention itself, and the sagas that wait for it are counted.

use matricula_engine::{OperatorCommand, Outcome};
use matricula_kit::database::Args;
use matricula_kit::testing::{BACKENDS, Backend};
use matricula_runtime::{Outage, RuntimeConfig, SagaFilter};

use crate::system::{System, config, eventually, finished, new};
use crate::world::Order;

/// Short, so that tests wait little.
fn short() -> RuntimeConfig {
    RuntimeConfig { destination_attention_after_ms: 200, ..config() }
}

fn outages(system: &System) -> Vec<Outage> {
    system.runtime.outages().to_vec()
}

async fn ends(system: &System) {
    eventually("no service needs attention any more", async || outages(system).is_empty()).await;
}

#[tokio::test]
async fn a_service_that_does_not_answer_is_the_cause_and_sagas_are_counted_under_it() {
    const SAGAS: usize = 5;
    for backend in BACKENDS {
        let (_place, system) = new(backend, short()).await;
        system.world.down("gamma");
        let mut sagas = system.submit_all("k", SAGAS).await;
        let (last, watcher) = system.submit("last", Order::default()).await;
        // It waits for one of them, and the next saga waits for it, so both wait for the service.
        for key in ["behind", "behind that"] {
            let before = sagas[sagas.len() - 1].0;
            let submission = crate::system::order(key, Order::default());
            system.world.now().behind.insert(submission.id, before);
            let watcher = system.runtime.watch(submission.id);
            sagas.push((submission.id, watcher));
            system.runtime.submit(submission).await.unwrap();
        }
        sagas.push((last, watcher));
        eventually("all that wait are counted", async || {
            let outages = outages(&system);
            outages.first().is_some_and(|one| (one.sagas_waiting, one.sagas_behind) == (SAGAS + 1, 2))
        })
        .await;
        let seen = outages(&system);
        assert_eq!(seen.len(), 1, "the others answer: {seen:?}");
        assert_eq!((seen[0].destination.as_str(), seen[0].breaker.is_empty()), ("gamma", false));
        assert!(seen[0].last_error.contains("scripted"), "{seen:?}");
        assert_eq!(seen[0].instance, system.runtime.instance().as_str());
        assert_eq!(seen[0].oldest.as_ref(), sagas.iter().map(|(id, _)| id).min(), "{backend:?}");
        let status = system.runtime.destinations().await.into_iter().find(|one| one.name == "gamma").unwrap();
        assert_eq!(status.failing_since_ms, Some(seen[0].since_ms));
        system.world.up("gamma");
        ends(&system).await;
        system.all_finished(sagas, Outcome::Committed).await;
    }
}

/// No call has failed: the first one only has no answer, and may have none for longer than a service may be silent.
#[tokio::test]
async fn a_service_that_hangs_needs_attention_before_its_first_call_is_given_up() {
    let (_place, system) = new(Backend::Sqlite, RuntimeConfig { call_timeout_ms: 60_000, ..short() }).await;
    system.world.hold("Charge");
    let (_, watcher) = system.submit("k", Order::default()).await;
    eventually("it needs attention", async || outages(&system).len() == 1).await;
    let seen = outages(&system);
    assert_eq!((seen[0].destination.as_str(), seen[0].last_error.as_str()), ("gamma", ""));
    system.world.release("Charge");
    ends(&system).await;
    assert_eq!(finished(watcher).await.outcome(), Outcome::Committed);
}

#[tokio::test]
async fn a_service_that_no_saga_waits_for_needs_no_attention() {
    let (_place, system) = new(Backend::Sqlite, short()).await;
    system.world.down("delta");
    let (id, watcher) = system.submit("k", Order::default()).await;
    eventually("it needs attention", async || outages(&system).len() == 1).await;
    eventually("it is skipped", async || {
        system.intervene(id, OperatorCommand::Skip { step: "notify".to_owned() }).await.is_ok()
    })
    .await;
    finished(watcher).await;
    ends(&system).await;
    assert!(
        system.runtime.destinations().await.iter().any(|one| one.name == "delta" && one.failing_since_ms.is_some())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_replicas_see_it_too_until_its_instance_ends() {
    let fast = RuntimeConfig { lease_ttl_ms: 600, ..short() };
    let (place, first) = new(Backend::Postgres, fast.clone()).await;
    let second = System::start(place.open().await, crate::world::World::new(), fast).await;
    first.world.down("gamma");
    first.submit("k", Order::default()).await;
    eventually("the other one sees it", async || {
        let seen = outages(&second);
        seen.iter().any(|one| one.instance == first.runtime.instance().as_str() && one.destination == "gamma")
    })
    .await;
    // The services of its own world answer.
    first.crash().await;
    ends(&second).await;
    let unfinished = SagaFilter { unfinished: true, limit: 1, ..SagaFilter::default() };
    eventually("it is finished there", async || second.list(unfinished.clone()).await.is_empty()).await;
}

/// The database refuses the record for a while, when the outage begins and when it ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_failed_is_made_again() {
    let (place, first) = new(Backend::Postgres, short()).await;
    let second = System::start(place.open().await, crate::world::World::new(), short()).await;
    let database = place.open().await;
    // Taken again and again: the server ends a transaction that is idle for 4 s, and the orchestrator may wait for the
    // table twice, for 2 s each.
    const LOCK: &str = "LOCK TABLE outages IN ACCESS EXCLUSIVE MODE";
    let mut lock = database.begin().await.unwrap();
    lock.execute(LOCK, Args::new()).await.unwrap();
    first.world.down("gamma");
    let (_, watcher) = first.submit("k", Order::default()).await;
    // It is shown here only after it could not be recorded.
    let recording = eventually("its own instance sees it", async || {
        lock.execute(LOCK, Args::new()).await.unwrap();
        !outages(&first).is_empty()
    });
    recording.await;
    assert!(outages(&second).is_empty(), "it is not recorded yet");
    lock.commit().await.unwrap();
    eventually("the other one sees it", async || !outages(&second).is_empty()).await;

    let mut lock = database.begin().await.unwrap();
    lock.execute(LOCK, Args::new()).await.unwrap();
    first.world.up("gamma");
    finished(watcher).await;
    let recording = eventually("its own instance sees that it has ended", async || {
        lock.execute(LOCK, Args::new()).await.unwrap();
        outages(&first).is_empty()
    });
    recording.await;
    lock.commit().await.unwrap();
    ends(&second).await;
}
