//! Bounds: submissions, sagas at work, RPCs in flight, batches.

use matricula_engine::Outcome;
use matricula_kit::testing::{BACKENDS, Backend};
use matricula_runtime::{RuntimeConfig, Submitted};

use crate::system::{System, config, decided, eventually, finished, is_full, new, order};
use crate::world::Order;

#[tokio::test]
async fn the_sagas_at_work_are_bounded() {
    let bounds = RuntimeConfig { in_flight_max: 5, ..config() };
    let (_test, system) = new(Backend::Sqlite, bounds).await;
    system.world.hold("Reserve");
    let sagas = system.submit_all("k", 40).await;
    eventually("five were begun", async || {
        let waiting = system.destination("alpha").await.1;
        system.world.now().at_work.len() + waiting == 5
    })
    .await;
    system.world.release("Reserve");
    system.all_finished(sagas, Outcome::Committed).await;
    let most = system.world.now().at_work_most;
    assert!((2..=5).contains(&most), "{most} at a time");
}

#[tokio::test]
async fn the_rpcs_in_flight_are_bounded() {
    let bounds = RuntimeConfig { destination_in_flight_max: 2, call_batch_max: 1, ..config() };
    let (_test, system) = new(Backend::Sqlite, bounds).await;
    system.world.hold("Hold");
    let sagas = system.submit_all("k", 40).await;
    system.world.until(|world| world.in_flight.get("beta") == Some(&2)).await;
    eventually("the others wait", async || system.destination("beta").await.1 == 38).await;
    system.world.release("Hold");
    system.all_finished(sagas, Outcome::Committed).await;
    let most = system.world.now().in_flight_most.clone();
    assert!(most.values().all(|most| *most <= 2), "{most:?}");
    assert_eq!(most["beta"], 2);
}

#[tokio::test]
async fn waiting_calls_leave_in_one_batch() {
    let bounds = RuntimeConfig { destination_in_flight_max: 1, call_batch_max: 20, ..config() };
    let (_test, system) = new(Backend::Sqlite, bounds).await;
    system.world.hold("Reserve");
    let mut sagas = system.submit_all("first", 1).await;
    system.world.until(|world| world.in_flight.get("alpha") == Some(&1)).await;
    sagas.extend(system.submit_all("k", 50).await);
    eventually("fifty wait", async || system.destination("alpha").await.1 == 50).await;
    system.world.release("Reserve");
    system.all_finished(sagas, Outcome::Committed).await;
    let sizes = system.world.rpcs("Reserve");
    assert!(sizes[0] == 1 && sizes[1] == 20 && sizes.iter().sum::<usize>() == 51, "{sizes:?}");
}

/// A flood of one RPC does not starve another one of the same service: the RPC with the oldest call goes first.
#[tokio::test]
async fn a_single_call_is_not_starved() {
    let bounds = RuntimeConfig { destination_in_flight_max: 1, call_batch_max: 1, ..config() };
    let (_test, system) = new(Backend::Sqlite, bounds).await;
    system.world.hold("Reserve");
    system.world.hold("Hold");
    let (cancelled, watcher) = system.submit("cancelled", Order::default()).await;
    system.world.until(|world| world.in_flight.get("alpha") == Some(&1)).await;
    let mut sagas = system.submit_all("before", 5).await;
    eventually("five wait", async || system.destination("alpha").await.1 == 5).await;
    system.cancel(cancelled, "ada", "").await.unwrap();
    eventually("its undo waits", async || system.destination("alpha").await.1 == 6).await;
    sagas.extend(system.submit_all("after", 20).await);
    eventually("twenty more wait", async || system.destination("alpha").await.1 == 26).await;
    system.world.release("Reserve");
    assert_eq!(finished(watcher).await.outcome(), Outcome::Cancelled);
    let rpcs: Vec<_> =
        system.world.now().rpcs.iter().map(|(rpc, _)| *rpc).filter(|rpc| rpc.ends_with("eserve")).collect();
    assert_eq!(rpcs.iter().position(|rpc| *rpc == "Unreserve"), Some(6), "{rpcs:?}");
    system.world.release("Hold");
    system.all_finished(sagas, Outcome::Committed).await;
}

/// Puts one saga to work, fills the line of two, and checks that it is full then.
async fn fill(system: &System, prefix: &str) -> Vec<(matricula_runtime::SagaId, matricula_runtime::Watcher)> {
    let sagas = system.submit_all(prefix, 3).await;
    let more = system.runtime.submit(order(&format!("{prefix} more"), Order::default())).await;
    assert!(is_full(&more), "{prefix}: {more:?}");
    sagas
}

#[tokio::test]
async fn beyond_the_limit_submissions_are_rejected_and_every_place_comes_back() {
    for backend in BACKENDS {
        let (_test, system) =
            new(backend, RuntimeConfig { in_flight_max: 1, admission_queue_max: 2, ..config() }).await;
        system.world.hold("Commit");
        let sagas = fill(&system, "first").await;
        system.world.release("Commit");
        system.all_finished(sagas, Outcome::Committed).await;

        // A repeat of an accepted submission.
        for _ in 0..5 {
            let again = system.runtime.submit(order("first0", Order::default())).await;
            assert!(matches!(again, Ok(Submitted::Existing(_))), "{again:?}");
        }
        // A caller that stopped waiting; its saga is still admitted.
        let submission = order("gone", Order::default());
        let watcher = system.runtime.watch(submission.id);
        {
            let submitting = system.runtime.submit(submission);
            tokio::pin!(submitting);
            assert!(futures::poll!(&mut submitting).is_pending());
        }
        assert_eq!(finished(watcher).await.outcome(), Outcome::Committed);
        // Refused and cancelled sagas.
        let refuse = vec!["hold".to_owned()];
        system.run("refused", Order { refuse, ..Order::default() }).await;
        system.world.hold("Hold");
        let (id, watcher) = system.submit("cancelled", Order::default()).await;
        system.cancel(id, "ada", "").await.unwrap();
        assert_eq!(finished(watcher).await.outcome(), Outcome::Cancelled);

        let sagas = fill(&system, "second").await;
        system.world.release("Hold");
        system.all_finished(sagas, Outcome::Committed).await;
    }
}

/// A service that only the steps after the outcome need is away. Sagas are accepted until the memory is full.
#[tokio::test]
async fn a_waiting_tail_takes_no_place_but_memory() {
    let bounds = RuntimeConfig { in_flight_max: 1, admission_queue_max: 1, sagas_in_memory_max: 3, ..config() };
    let (_test, system) = new(Backend::Sqlite, bounds).await;
    system.world.down("delta");
    let mut sagas = Vec::new();
    for key in ["a", "b", "c"] {
        let (id, mut watcher) = system.submit(key, Order::default()).await;
        assert_eq!(decided(&mut watcher).await, Outcome::Committed, "{key}");
        sagas.push((id, watcher));
    }
    let more = system.runtime.submit(order("d", Order::default())).await;
    assert!(is_full(&more), "{more:?}");
    system.world.up("delta");
    system.all_finished(sagas, Outcome::Committed).await;
    let mut accepted = None;
    eventually("there is room", async || {
        accepted = Some(system.runtime.submit(order("d", Order::default())).await);
        matches!(accepted, Some(Ok(Submitted::Accepted { .. })))
    })
    .await;
    assert_eq!(system.all_settled().await, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_at_once_finish() {
    for backend in BACKENDS {
        let (_test, system) = new(backend, config()).await;
        let sagas = system.submit_all("k", 5_000).await;
        system.all_finished(sagas, Outcome::Committed).await;
        let rpcs = system.world.now().rpcs.len();
        // Services that answer at once, and a quick log, leave little time for calls to gather.
        assert!(rpcs < 40_000 / 4, "{backend:?}: {rpcs} RPCs for 40,000 calls: they do not go together");
    }
}
