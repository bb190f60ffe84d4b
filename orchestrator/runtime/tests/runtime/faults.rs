//! Calls that fail: they are retried or parked, and never start a compensation.

use std::time::Duration;

use matricula_engine::{Code, Direction, Outcome};
use matricula_kit::database::Args;
use matricula_kit::testing::{BACKENDS, Backend};
use matricula_runtime::RuntimeConfig;

use crate::system::{config, eventually, finished, new, within};
use crate::world::{Fault, Order};

/// Runs one saga with an RPC that fails like this, and checks how often it was called.
async fn check(rpc: &'static str, faults: &[Fault], attempts: u32, outcome: Outcome, order: Order) {
    let (_test, system) = new(Backend::Sqlite, RuntimeConfig { call_timeout_ms: 100, ..config() }).await;
    system.world.script(rpc, faults.iter().copied());
    let (_, state) = system.run("k", order).await;
    assert_eq!(state.outcome(), outcome, "{rpc} {faults:?}");
    assert_eq!(system.world.rpcs(rpc).len() as u32, attempts, "{rpc} {faults:?}");
    let calls =
        state.steps().iter().flat_map(|step| [step.call(Direction::Forward), step.call(Direction::Compensation)]);
    assert_eq!(calls.map(|call| call.attempts).max(), Some(attempts), "{rpc} {faults:?}");
}

#[tokio::test]
async fn an_unknown_result_is_tried_again() {
    let done = || Order::default();
    for rpc in ["Reserve", "Hold", "Charge", "Commit", "Settle", "Notify"] {
        check(rpc, &[Fault::Before(Code::Unavailable)], 2, Outcome::Committed, done()).await;
        check(rpc, &[Fault::After(Code::DeadlineExceeded)], 2, Outcome::Committed, done()).await;
    }
    let faults = [Fault::After(Code::Aborted), Fault::Before(Code::Internal), Fault::After(Code::Unknown)];
    check("Commit", &faults, 4, Outcome::Committed, done()).await;
    let undone = || Order { refuse: vec!["commit".to_owned()], ..Order::default() };
    for rpc in ["Unreserve", "Release", "Void"] {
        check(rpc, &faults, 4, Outcome::Refused, undone()).await;
    }
}

#[tokio::test]
async fn a_missing_answer_is_an_unknown_result() {
    check("Hold", &[Fault::OneShort], 2, Outcome::Committed, Order::default()).await;
}

#[tokio::test]
async fn a_panic_in_a_call_is_an_unknown_result() {
    check("Hold", &[Fault::Panic, Fault::Panic], 3, Outcome::Committed, Order::default()).await;
}

#[tokio::test]
async fn a_call_that_hangs_times_out() {
    check("Hold", &[Fault::Hang], 2, Outcome::Committed, Order::default()).await;
}

#[tokio::test]
async fn codes_that_no_retry_mends_need_attention_and_are_retried() {
    for code in [Code::InvalidArgument, Code::Unimplemented, Code::PermissionDenied, Code::Unauthenticated] {
        let (_test, system) = new(Backend::Sqlite, config()).await;
        system.world.script("Hold", [Fault::Before(code)]);
        let (_, mut watcher) = system.submit("k", Order::default()).await;
        let mut flagged = false;
        let state = loop {
            let state = watcher.changed().await;
            flagged |= state.needs_attention();
            if state.phase().is_finished() {
                break state;
            }
        };
        assert!(flagged, "{code}");
        assert_eq!((state.outcome(), state.needs_attention()), (Outcome::Committed, false), "{code}");
    }
}

/// A service that rejects an operation as invalid has answered: no other call waits for it.
#[tokio::test]
async fn an_invalid_operation_opens_no_breaker() {
    let config =
        RuntimeConfig { breaker_failures: 2, breaker_open_ms: 600_000, breaker_open_max_ms: 600_000, ..config() };
    let (_test, system) = new(Backend::Sqlite, config).await;
    system.world.script("Hold", vec![Fault::Before(Code::InvalidArgument); 6]);
    let (_, watcher) = system.submit("k", Order::default()).await;
    assert_eq!(finished(watcher).await.steps()[1].call(Direction::Forward).attempts, 7);
}

#[tokio::test]
async fn an_error_of_a_batch_is_unknown_for_all_of_it() {
    let (_test, system) = new(Backend::Sqlite, RuntimeConfig { destination_in_flight_max: 1, ..config() }).await;
    system.world.hold("Hold");
    let first = system.submit_all("first", 1).await;
    system.world.until(|world| world.in_flight.get("beta") == Some(&1)).await;
    let sagas = system.submit_all("k", 9).await;
    eventually("nine wait", async || system.destination("beta").await.1 == 9).await;
    system.world.script("Hold", [Fault::After(Code::Unavailable)]);
    system.world.release("Hold");
    system.all_finished(first, Outcome::Committed).await;
    for (id, watcher) in sagas {
        let state = finished(watcher).await;
        assert_eq!(state.steps()[1].call(Direction::Forward).attempts, 2, "{id}");
        system.world.audit(id, Outcome::Committed);
    }
    assert_eq!(system.world.rpcs("Hold")[..2], [1, 9]);
}

#[tokio::test]
async fn an_invalid_operation_affects_no_other_of_its_batch() {
    let (_place, system) = new(Backend::Sqlite, RuntimeConfig { destination_in_flight_max: 1, ..config() }).await;
    system.world.hold("Reserve");
    let first = system.submit_all("first", 1).await;
    system.world.until(|world| world.in_flight.get("alpha") == Some(&1)).await;
    let mut sagas = system.submit_all("k", 30).await;
    eventually("thirty wait", async || system.destination("alpha").await.1 == 30).await;
    let (bad, mut watcher) = sagas.remove(17);
    system.world.now().invalid.insert(bad);
    system.world.release("Reserve");
    while !within(watcher.changed()).await.needs_attention() {}
    for (id, watcher) in sagas.into_iter().chain(first) {
        let state = finished(watcher).await;
        assert_eq!(state.steps()[0].call(Direction::Forward).attempts, 1, "{id}");
        system.world.audit(id, Outcome::Committed);
    }
    system.world.now().invalid.clear();
    assert_eq!(finished(watcher).await.outcome(), Outcome::Committed);
    system.world.audit(bad, Outcome::Committed);
}

#[tokio::test]
async fn an_open_breaker_parks_calls_without_spending_attempts() {
    let slow_probes = RuntimeConfig { breaker_failures: 2, breaker_open_ms: 300, breaker_open_max_ms: 300, ..config() };
    let (_test, system) = new(Backend::Sqlite, slow_probes).await;
    system.world.down("beta");
    let first = system.submit_all("first", 1).await;
    eventually("it opens", async || system.destination("beta").await.0 == "open").await;
    assert!(system.destination("beta").await.2.contains("scripted"), "{:?}", system.destination("beta").await);
    let parked = system.submit_all("parked", 50).await;
    eventually("they wait", async || system.destination("beta").await.1 >= 50).await;
    let before = system.world.rpcs("Hold").len();
    system.world.until(|world| world.rpcs.iter().filter(|(rpc, _)| *rpc == "Hold").count() >= before + 2).await;
    assert_eq!(system.world.rpcs("Hold")[before..before + 2], [1, 1], "a probe is one call");

    // Calls of another service are not affected.
    assert_eq!(system.destination("alpha").await.0, "closed");
    system.world.up("beta");
    let mut attempts = 0;
    for (id, watcher) in parked {
        let state = finished(watcher).await;
        attempts += state.steps()[1].call(Direction::Forward).attempts;
        system.world.audit(id, Outcome::Committed);
    }
    system.all_finished(first, Outcome::Committed).await;
    let probes = system.world.rpcs("Hold").iter().filter(|operations| **operations == 1).count() as u32;
    assert!(attempts <= 50 + probes, "{attempts} attempts for 50 calls, and {probes} probes");
    assert_eq!((system.destination("beta").await.0, system.destination("beta").await.2.as_str()), ("closed", ""));
}

/// Every RPC fails in some way with a probability of 30 %, and retries come within milliseconds: whatever order
/// answers, wakes and appends meet in, nothing is lost and nothing is done twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_storm_everything_finishes_once() {
    for (backend, sagas) in BACKENDS.into_iter().zip([2_000, 500]) {
        let (_test, system) =
            new(backend, RuntimeConfig { call_batch_max: 7, destination_in_flight_max: 20, ..config() }).await;
        let seed = rand::random();
        println!("seed {seed}");
        system.world.storm(seed, 0.3);
        let sagas = system.submit_all("k", sagas).await;
        system.all_finished(sagas, Outcome::Committed).await;
        system.world.calm();
    }
}

/// While an append is under way, a wake comes in, and after it the answer of a call that failed. Deciding the wake must
/// not make that call again: the next attempt would find it in its way, and never be made.
#[tokio::test]
async fn a_wake_does_not_call_again_what_has_been_answered() {
    const LOCK: &str = "LOCK TABLE sagas IN EXCLUSIVE MODE";
    const WAITING: &str = "SELECT pid FROM pg_locks WHERE NOT granted";
    /// The slow retry of the definition, and a margin. The test is about the timer, so there is no fact to wait for.
    const WOKEN: Duration = Duration::from_millis(100);

    let (_place, system) = new(Backend::Postgres, config()).await;
    let world = &system.world;
    ["Bill", "Notify"].iter().for_each(|rpc| world.hold(rpc));
    world.script("Settle", [Fault::Before(Code::InvalidArgument)]);
    world.script("Notify", [Fault::Before(Code::Unavailable)]);
    let (id, mut watcher) = system.submit("k", Order::default()).await;
    while !within(watcher.changed()).await.needs_attention() {}

    let mut lock = system.database.begin().await.unwrap();
    lock.execute(LOCK, Args::new()).await.unwrap();
    world.release("Bill");
    eventually("the append waits", async || !lock.fetch(WAITING, Args::new()).await.unwrap().is_empty()).await;
    tokio::time::sleep(WOKEN).await;
    world.release("Notify");
    world.until(|world| world.in_flight.get("delta") == Some(&0)).await;
    world.hold("Notify");
    tokio::time::sleep(WOKEN).await;
    lock.commit().await.unwrap();
    world.until(|world| world.in_flight.get("delta") == Some(&1)).await;
    tokio::time::sleep(WOKEN).await;
    world.release("Notify");
    finished(watcher).await;
    world.audit(id, Outcome::Committed);
    assert_eq!(world.rpcs("Notify").len(), 2);
}
