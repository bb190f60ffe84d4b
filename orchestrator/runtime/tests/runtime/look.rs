//! The operators' view of a saga distinguishes a turn, a queue, a call, a pause, a breaker and a limit, from any
//! replica.

use matricula_engine::{CallWait, Outcome, Wait};
use matricula_kit::testing::Backend;
use matricula_runtime::{Door, DoorState, RuntimeConfig, SagaId, Seen};

use crate::system::{System, config, eventually, finished, new};
use crate::world::{Fault, Order};

async fn seen(system: &System, saga: SagaId) -> Result<Seen, String> {
    let row = system.runtime.store().get(saga).await.unwrap().unwrap();
    system.runtime.look(&row).await
}

/// The wait of a saga that has one call due.
async fn wait(system: &System, saga: SagaId) -> Option<CallWait> {
    match seen(system, saga).await {
        Ok(seen) => seen.calls.into_iter().next(),
        Err(_) => None,
    }
}

#[track_caller]
fn until(
    system: &System,
    saga: SagaId,
    what: &'static str,
    is_so: impl Fn(&CallWait) -> bool,
) -> impl Future<Output = ()> {
    eventually(what, async move || wait(system, saga).await.is_some_and(|wait| is_so(&wait)))
}

/// Only `gamma` is called by the third stage.
fn order() -> Order {
    Order { skip: vec!["enroll".to_owned()], ..Order::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_a_queue_a_call_and_a_limit_are_distinguished_from_any_replica() {
    let narrow = RuntimeConfig {
        in_flight_max: 2,
        destination_in_flight_max: 1,
        call_batch_max: 1,
        call_timeout_ms: 60_000,
        ..config()
    };
    let (place, first) = new(Backend::Postgres, narrow.clone()).await;
    let second = System::start(place.open().await, first.world.clone(), narrow).await;
    first.world.hold("Charge");
    let (called, of_called) = first.submit("called", order()).await;
    until(&first, called, "it is called", |wait| matches!(wait.wait, Wait::Call { .. })).await;
    let (queued, of_queued) = first.submit("queued", order()).await;
    until(&first, queued, "it waits in the queue", |wait| matches!(wait.wait, Wait::Queue { ahead: 0, .. })).await;
    let door = |state| Door { state, sentence: String::new() };
    first.runtime.set_door(&door(DoorState::Paused), "grace", "a look at the line").await.unwrap();
    let (waiting, of_waiting) = first.submit("waiting", order()).await;
    let (last, of_last) = first.submit("last", order()).await;
    for system in [&first, &second] {
        for saga in [waiting, last] {
            let Err(why) = seen(system, saga).await else { panic!("nobody drives it") };
            assert!(why.contains("waits in line"), "{why}");
        }
        let of_call = wait(system, called).await.unwrap();
        let Wait::Call { since_ms, until_ms } = of_call.wait else { panic!("{of_call:?}") };
        assert!((until_ms - since_ms - 60_000).abs() < 1_000, "{of_call:?}");
        assert_eq!(of_call.step, "charge");
        assert!(matches!(wait(system, queued).await.unwrap().wait, Wait::Queue { .. }));
    }
    assert!(first.runtime.set_destination_limit("gamma", 0).await);
    until(&second, queued, "it is parked", |wait| matches!(wait.wait, Wait::Limit { .. })).await;
    assert!(first.runtime.set_destination_limit("gamma", 1).await);
    first.runtime.set_door(&door(DoorState::Open), "grace", "on with it").await.unwrap();
    first.world.release("Charge");
    for watcher in [of_called, of_queued, of_waiting, of_last] {
        assert_eq!(finished(watcher).await.outcome(), Outcome::Committed);
    }
}

#[tokio::test]
async fn a_pause_and_an_open_breaker_are_distinguished() {
    let parked =
        RuntimeConfig { breaker_failures: 1, breaker_open_ms: 60_000, breaker_open_max_ms: 60_000, ..config() };
    let (_place, system) = new(Backend::Sqlite, parked).await;
    system.world.script("Charge", [Fault::Later(60_000)]);
    let (paused, _) = system.submit("paused", order()).await;
    until(&system, paused, "it is in a pause", |wait| matches!(wait.wait, Wait::Pause { .. })).await;
    let of_pause = wait(&system, paused).await.unwrap();
    assert!(of_pause.failing_since_ms.is_some() && of_pause.last_error.contains("scripted"), "{of_pause:?}");
    let (parked, _) = system.submit("parked", order()).await;
    until(&system, parked, "it is parked", |wait| matches!(wait.wait, Wait::Breaker { .. })).await;
    let of_breaker = wait(&system, parked).await.unwrap();
    assert!(matches!(of_breaker.wait, Wait::Breaker { probe_at_ms: Some(_), .. }), "{of_breaker:?}");
    assert!(of_breaker.last_error.contains("scripted"), "{of_breaker:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_answer_of_its_instance_only_the_log_of_a_saga_is_shown() {
    let (place, first) = new(Backend::Postgres, RuntimeConfig { lease_ttl_ms: 60_000, ..config() }).await;
    let second = System::start(place.open().await, first.world.clone(), config()).await;
    first.world.hold("Charge");
    let (id, _) = first.submit("k", order()).await;
    until(&second, id, "it is called", |wait| matches!(wait.wait, Wait::Call { .. })).await;
    // Its lease lives on.
    first.crash().await;
    let Err(why) = seen(&second, id).await else { panic!("nobody can have told") };
    assert!(why.contains("did not answer"), "{why}");
}
