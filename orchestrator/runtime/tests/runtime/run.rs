//! One saga at a time: forward, back, cancelled, watched.

use matricula_engine::{Cause, Event, Outcome, Phase};
use matricula_kit::testing::{BACKENDS, Backend};
use matricula_runtime::{CommandError, RuntimeConfig, SubmitError, Submitted};

use crate::system::{config, decided, finished, new, order, within};
use crate::world::Order;

fn refuse(steps: &[&str]) -> Order {
    Order { refuse: steps.iter().map(|step| (*step).to_owned()).collect(), ..Order::default() }
}

#[tokio::test]
async fn forward() {
    for backend in BACKENDS {
        let (_test, system) = new(backend, config()).await;
        let (id, state) = system.run("k", Order::default()).await;
        assert_eq!((state.phase(), state.outcome()), (Phase::Completed, Outcome::Committed), "{backend:?}");
        let done = system.world.done(id);
        assert_eq!(done[..2], ["reserve", "hold"]);
        assert_eq!(done[4], "commit");
        let row = system.runtime.store().get(id).await.unwrap().unwrap();
        let log = row.log.unwrap();
        assert_eq!(log.len(), 10, "{backend:?}: the admission, an event a step, the end: {log:?}");
        assert_eq!((row.phase.as_str(), row.needs_attention), ("completed", false));
    }
}

#[tokio::test]
async fn steps_with_nothing_to_do_are_skipped() {
    let (_test, system) = new(Backend::Sqlite, config()).await;
    let skip = ["hold", "charge", "settle", "bill"].map(str::to_owned).to_vec();
    let (id, watcher) = system.submit("k", Order { skip, ..Order::default() }).await;
    assert_eq!(finished(watcher).await.outcome(), Outcome::Committed);
    assert_eq!(system.world.done(id), ["reserve", "enroll", "commit", "notify"]);
}

#[tokio::test]
async fn a_refusal_turns_it_round_in_reverse() {
    for backend in BACKENDS {
        let (_test, system) = new(backend, config()).await;
        let (id, state) = system.run("at the pivot", refuse(&["commit"])).await;
        assert_eq!(state.outcome(), Outcome::Refused, "{backend:?}");
        let done = system.world.done(id);
        assert_eq!(done[done.len() - 3..], ["-hold", "-reserve", "notify"], "{backend:?}: {done:?}");

        let (id, state) = system.run("both of a stage", refuse(&["enroll", "charge"])).await;
        assert_eq!(state.refusals().map(|(step, _)| step).collect::<Vec<_>>(), ["enroll", "charge"], "{backend:?}");
        assert_eq!(system.world.done(id), ["reserve", "hold", "-hold", "-reserve", "notify"], "{backend:?}");

        let (id, _) = system.run("at once", refuse(&["reserve"])).await;
        assert_eq!(system.world.done(id), ["notify"], "{backend:?}");
    }
}

#[tokio::test]
async fn a_key_has_one_saga() {
    for backend in BACKENDS {
        let (_test, system) = new(backend, config()).await;
        let (id, _) = system.run("k", Order::default()).await;
        let again = system.runtime.submit(order("k", Order::default())).await;
        assert_eq!(again, Ok(Submitted::Existing(id)), "{backend:?}");
        let other = system.runtime.submit(order("k", refuse(&["hold"]))).await;
        assert_eq!(other, Err(SubmitError::KeyReused { existing: id }), "{backend:?}");
    }
}

#[tokio::test]
async fn what_can_not_be_stored_is_refused_by_itself() {
    let (_test, system) = new(Backend::Postgres, config()).await;
    // PostgreSQL has no text with a NUL. All are in one batch: the first holds the writer up while the others come.
    let submit = async |key: String| system.runtime.submit(order(&key, Order::default())).await;
    let keys = ["a", "b", "bad\0", "c", "d"].map(str::to_owned);
    let outcomes = futures::future::join_all(keys.map(submit)).await;
    for (index, outcome) in outcomes.into_iter().enumerate() {
        match index {
            2 => assert!(matches!(outcome, Err(SubmitError::Unstorable(_))), "{outcome:?}"),
            _ => assert!(matches!(outcome, Ok(Submitted::Accepted { .. })), "{outcome:?}"),
        }
    }
    // A saga without its pivot could never end.
    let skip = vec!["commit".to_owned()];
    let outcome = system.runtime.submit(order("e", Order { skip, ..Order::default() })).await;
    assert!(matches!(outcome, Err(SubmitError::Unstorable(_))), "{outcome:?}");
    assert_eq!(system.all_settled().await, 4);
}

#[tokio::test]
async fn a_watch_sees_every_durable_change() {
    for backend in BACKENDS {
        let (_test, system) = new(backend, config()).await;
        let stages =
            [&["Reserve"][..], &["Hold"], &["Enroll"], &["Charge"], &["Commit"], &["Settle"], &["Bill"], &["Notify"]];
        stages.iter().flat_map(|stage| stage.iter()).for_each(|rpc| system.world.hold(rpc));
        let (id, mut watcher) = system.submit("k", Order::default()).await;
        assert_eq!(within(watcher.changed()).await.sequence(), 1, "{backend:?}: it is admitted");
        for (index, stage) in stages.iter().enumerate() {
            stage.iter().for_each(|rpc| system.world.release(rpc));
            let state = within(watcher.changed()).await;
            let stored = system.runtime.store().get(id).await.unwrap().unwrap().log.unwrap();
            assert_eq!(stored.len() as u64, state.sequence(), "{backend:?}: it is durable when it is told");
            // The end is recorded together with the last answer.
            let expected = 2 + index as u64 + u64::from(index == stages.len() - 1);
            assert_eq!(state.sequence(), expected, "{backend:?}: {stage:?}");
        }
    }
}

#[tokio::test]
async fn a_queued_saga_is_cancelled_before_anything_is_called() {
    let (_test, system) = new(Backend::Sqlite, RuntimeConfig { in_flight_max: 1, ..config() }).await;
    system.world.hold("Reserve");
    let (_, first) = system.submit("first", Order::default()).await;
    let (queued, mut watcher) = system.submit("queued", Order::default()).await;
    system.cancel(queued, "ada", "").await.unwrap();
    assert_eq!(decided(&mut watcher).await, Outcome::Cancelled);
    assert_eq!(finished(watcher).await.outcome(), Outcome::Cancelled);
    assert_eq!(system.world.done(queued), ["notify"]);
    assert_eq!(system.world.rpcs("Reserve"), [1], "only the first was called");
    system.world.release("Reserve");
    assert_eq!(finished(first).await.outcome(), Outcome::Committed);
}

#[tokio::test]
async fn a_cancel_is_answered_when_it_is_durable() {
    for backend in BACKENDS {
        let (_test, system) = new(backend, config()).await;
        system.world.hold("Hold");
        let (id, watcher) = system.submit("k", Order::default()).await;
        system.world.until(|world| world.in_flight.get("beta") == Some(&1)).await;
        system.cancel(id, "ada", "changed my mind").await.unwrap();
        let log = system.runtime.store().get(id).await.unwrap().unwrap().log.unwrap();
        let by_ada = |event: &Event| match event {
            Event::CompensationStarted { cause: Cause::Cancelled { by, .. } } => by == "ada",
            _ => false,
        };
        assert!(log.iter().any(|recorded| by_ada(&recorded.event)), "{backend:?}: {log:?}");
        // A repeat changes nothing. The call in flight arrives after its undo.
        system.cancel(id, "bob", "").await.unwrap();
        let state = finished(watcher).await;
        system.world.release("Hold");
        system.world.until(|world| world.in_flight.get("beta") == Some(&0)).await;
        assert_eq!(state.outcome(), Outcome::Cancelled);
        system.world.audit(id, Outcome::Cancelled);
    }
}

#[tokio::test]
async fn a_cancel_may_come_too_late() {
    let (_test, system) = new(Backend::Sqlite, config()).await;
    system.world.hold("Commit");
    let (id, watcher) = system.submit("k", Order::default()).await;
    system.world.until(|world| world.rpcs.iter().any(|(rpc, _)| *rpc == "Commit")).await;
    let refused = system.cancel(id, "ada", "").await;
    assert!(matches!(&refused, Err(CommandError::Refused(why)) if why.contains("too late")), "{refused:?}");
    system.world.release("Commit");
    assert_eq!(finished(watcher).await.outcome(), Outcome::Committed);
    let refused = system.cancel(id, "ada", "").await;
    assert!(matches!(&refused, Err(CommandError::Refused(why)) if why.contains("completed")), "{refused:?}");
    let unknown = system.cancel(matricula_runtime::new_saga_id(), "ada", "").await;
    assert!(matches!(unknown, Err(CommandError::NotFound)), "{unknown:?}");
}

/// A client can cancel its saga as soon as it has the acceptance.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_does_not_come_too_early() {
    let (_test, system) = new(Backend::Sqlite, config()).await;
    for round in 0..200 {
        // Not before the cancel has come: a finished saga has left memory.
        system.world.hold("Notify");
        let (id, watcher) = system.submit(&format!("k{round}"), Order::default()).await;
        let cancelled = system.cancel(id, "ada", "").await;
        system.world.release("Notify");
        let outcome = finished(watcher).await.outcome();
        match cancelled {
            Ok(()) => assert_eq!(outcome, Outcome::Cancelled),
            Err(CommandError::Refused(_)) => assert_eq!(outcome, Outcome::Committed),
            Err(error) => panic!("in round {round}: {error}"),
        }
        system.world.audit(id, outcome);
    }
}
