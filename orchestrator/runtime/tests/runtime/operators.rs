//! Operators give commands at any instance. The owner of the saga decides each, durably and in one order with all
//! inputs.

use matricula_engine::{Code, Event, Intervention, OperatorCommand, Outcome, Phase, Resolution};
use matricula_kit::testing::{BACKENDS, Backend};
use matricula_runtime::{CommandError, RuntimeConfig, SagaId, Watcher};

use crate::crash::{refuse_events_of, take_all_events};
use crate::system::{Place, System, config, decided, eventually, finished, new, within};
use crate::world::{Fault, Order};

/// Far more failures than happen in these tests.
const FOREVER: usize = 100_000;

fn skip(step: &str) -> OperatorCommand {
    OperatorCommand::Skip { step: step.to_owned() }
}

/// A compensating saga whose undo of `charge` is not permitted, so that it needs attention.
async fn stuck(system: &System, key: &str) -> (SagaId, Watcher) {
    system.world.script("Void", vec![Fault::Before(Code::PermissionDenied); FOREVER]);
    let refused = Order { refuse: vec!["commit".to_owned()], ..Order::default() };
    let (id, mut watcher) = system.submit(key, refused).await;
    within(async { while !watcher.changed().await.needs_attention() {} }).await;
    (id, watcher)
}

async fn interventions(system: &System, saga: SagaId) -> Vec<Intervention> {
    let log = system.runtime.store().get(saga).await.unwrap().unwrap().log.unwrap();
    let of = |event| match event {
        Event::Intervened { intervention, .. } => Some(intervention),
        _ => None,
    };
    log.into_iter().filter_map(|recorded| of(recorded.event)).collect()
}

async fn beside(place: &Place, system: &System, config: RuntimeConfig) -> System {
    System::start(place.open().await, system.world.clone(), config).await
}

#[tokio::test]
async fn what_is_skipped_lets_the_rest_go_on_and_is_never_called_compensated() {
    for backend in BACKENDS {
        let (_place, system) = new(backend, config()).await;
        let (id, watcher) = stuck(&system, "k").await;
        let early = system.intervene(id, skip("hold")).await;
        assert!(matches!(&early, Err(CommandError::Refused(why)) if why.contains("not being tried")), "{early:?}");
        system.intervene(id, skip("charge")).await.unwrap();
        assert_eq!(interventions(&system, id).await.len(), 1, "it is durable when it is answered");
        let state = finished(watcher).await;
        assert_eq!((state.phase(), state.outcome()), (Phase::Abandoned, Outcome::Refused), "{backend:?}");
        assert_eq!(system.world.done(id).last().map(String::as_str), Some("notify"), "{backend:?}");
        // A repeat, as if the answer was lost; and another command, which comes too late.
        system.intervene(id, skip("charge")).await.unwrap();
        let late = system.intervene(id, OperatorCommand::Abandon).await;
        assert!(matches!(&late, Err(CommandError::Refused(why)) if why.contains("abandoned")), "{late:?}");
    }
}

#[tokio::test]
async fn a_retry_calls_what_waits() {
    let (_place, system) = new(Backend::Sqlite, config()).await;
    let (id, watcher) = stuck(&system, "k").await;
    // It waits between two attempts. While a call is in flight there is nothing to retry.
    eventually("a retry is taken", async || system.intervene(id, OperatorCommand::Retry { step: None }).await.is_ok())
        .await;
    let attempts = system.world.rpcs("Void").len();
    system.world.until(|world| world.rpcs.iter().filter(|(rpc, _)| *rpc == "Void").count() > attempts).await;
    system.intervene(id, skip("charge")).await.unwrap();
    assert_eq!(finished(watcher).await.phase(), Phase::Abandoned);
    assert!(matches!(
        interventions(&system, id).await[..],
        [Intervention::Retry { step: None }, Intervention::Skip { .. }]
    ));
}

/// A queued call would be made when its service is back, and repeat what a person has done manually.
#[tokio::test]
async fn what_is_decided_manually_is_not_called_any_more() {
    let (_place, system) = new(Backend::Sqlite, config()).await;
    let (id, watcher) = stuck(&system, "k").await;
    let waiting = async || system.destination("gamma").await.1;
    assert!(system.runtime.set_destination_limit("gamma", 0).await);
    eventually("its call waits", async || {
        // It is refused once no call waits for its next attempt.
        let _ = system.intervene(id, OperatorCommand::Retry { step: None }).await;
        waiting().await == 1
    })
    .await;
    let calls = system.world.rpcs("Void").len();
    let resolve = OperatorCommand::Resolve { step: "charge".to_owned(), answer: Resolution::Done };
    system.intervene(id, resolve).await.unwrap();
    eventually("it is taken back", async || waiting().await == 0).await;
    assert!(system.runtime.set_destination_limit("gamma", 4).await);
    assert_eq!(finished(watcher).await.phase(), Phase::Compensated);
    assert_eq!(system.world.rpcs("Void").len(), calls);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_replica_takes_a_verb_and_the_owner_carries_it_out() {
    let (place, first) = new(Backend::Postgres, config()).await;
    let second = beside(&place, &first, config()).await;
    let (id, watcher) = stuck(&first, "k").await;
    let refused = second.intervene(id, skip("settle")).await;
    assert!(matches!(&refused, Err(CommandError::Refused(why)) if why.contains("not being tried")), "{refused:?}");
    let resolve = OperatorCommand::Resolve { step: "charge".to_owned(), answer: Resolution::Done };
    second.intervene(id, resolve).await.unwrap();
    assert_eq!(interventions(&second, id).await.len(), 1, "it is durable when it is answered");
    assert_eq!(finished(watcher).await.phase(), Phase::Compensated);
    let row = second.runtime.store().get(id).await.unwrap().unwrap();
    assert_eq!(row.owner, first.runtime.instance().as_str());
    eventually("no request is left behind", async || {
        second.runtime.store().unanswered(first.runtime.instance(), 10).await.unwrap().is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_works_at_any_replica() {
    let (place, first) = new(Backend::Postgres, config()).await;
    let second = beside(&place, &first, config()).await;
    first.world.hold("Hold");
    let (id, mut watcher) = first.submit("k", Order::default()).await;
    second.cancel(id, "ada", "changed my mind").await.unwrap();
    assert_eq!(decided(&mut watcher).await, Outcome::Cancelled);
    first.world.release("Hold");
}

/// A cancel of a saga whose log the database refuses has no answer. Cancels of other sagas are answered meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_that_can_not_be_written_down_holds_up_no_other() {
    let (place, first) = new(Backend::Postgres, config()).await;
    let second = beside(&place, &first, config()).await;
    first.world.hold("Reserve");
    let (bad, of_bad) = first.submit("bad", Order::default()).await;
    let (good, mut of_good) = first.submit("good", Order::default()).await;
    refuse_events_of(&first.database, bad).await;
    let (refused, taken) = tokio::join!(second.cancel(bad, "ada", "no"), second.cancel(good, "ada", "no"));
    assert!(matches!(refused, Err(CommandError::Unanswered)), "{refused:?}");
    taken.unwrap();
    first.world.release("Reserve");
    assert_eq!(decided(&mut of_good).await, Outcome::Cancelled);
    take_all_events(&first.database).await;
    assert_eq!(finished(of_bad).await.outcome(), Outcome::Cancelled);
}

/// Commands at both replicas at once, and the saga's own retries meanwhile: each is taken or refused, and the log has
/// one order. The sequence that the store checks would not let two writers through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verbs_at_the_same_time_are_taken_one_after_the_other() {
    let (place, first) = new(Backend::Postgres, config()).await;
    let second = beside(&place, &first, config()).await;
    for round in 0..10 {
        let (id, watcher) = stuck(&first, &format!("k{round}")).await;
        let (a, b, c) = tokio::join!(
            first.intervene(id, skip("charge")),
            second.intervene(id, OperatorCommand::Abandon),
            second.intervene(id, OperatorCommand::Resolve { step: "charge".to_owned(), answer: Resolution::Done }),
        );
        let taken = [&a, &b, &c].into_iter().filter(|outcome| outcome.is_ok()).count();
        let logged = interventions(&first, id).await;
        assert_eq!(logged.len(), taken, "{a:?} {b:?} {c:?} {logged:?}");
        assert!(taken >= 1, "{a:?} {b:?} {c:?}");
        let skipped = |it: &Intervention| matches!(it, Intervention::Skip { .. } | Intervention::Abandon);
        let abandoned = logged.iter().any(skipped);
        assert_eq!(finished(watcher).await.phase() == Phase::Abandoned, abandoned, "{logged:?}");
    }
}

/// The owner dies with the request unanswered. The instance that adopts the saga answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_outlives_the_owner() {
    let short = RuntimeConfig { lease_ttl_ms: 600, ..config() };
    let (place, first) = new(Backend::Postgres, short.clone()).await;
    let (id, _) = stuck(&first, "k").await;
    let second = beside(&place, &first, short.clone()).await;
    let third = beside(&place, &first, short).await;
    first.crash().await;
    second.intervene(id, skip("charge")).await.unwrap();
    let watcher = third.runtime.watch(id);
    eventually("it ends as abandoned", async || {
        let row = third.runtime.store().get(id).await.unwrap().unwrap();
        row.phase == Phase::Abandoned.as_str()
    })
    .await;
    drop(watcher);
}

/// A client that waits at another instance is woken by the owner's message, before the next read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_replica_moves_is_told_to_the_other() {
    let short = RuntimeConfig { lease_ttl_ms: 600, ..config() };
    let (place, first) = new(Backend::Postgres, short.clone()).await;
    let second = beside(&place, &first, short).await;
    first.world.hold("Notify");
    let mut told = second.runtime.moved();
    // The first instance detects the second one with its next heartbeat, and sends messages from then on.
    for round in 0.. {
        let (id, mut watcher) = first.submit(&format!("k{round}"), Order::default()).await;
        decided(&mut watcher).await;
        let heard = async {
            loop {
                if told.next().await == Some(id) {
                    return;
                }
            }
        };
        if tokio::time::timeout(std::time::Duration::from_millis(200), heard).await.is_ok() {
            break;
        }
        assert!(round < 100, "the word never came");
    }
    let (id, _) = first.submit("last", Order::default()).await;
    let mut there = second.runtime.watch(id);
    assert_eq!(decided(&mut there).await, Outcome::Committed);
    first.world.release("Notify");
}

#[tokio::test]
async fn a_limit_of_zero_parks_a_destination() {
    let (_place, system) = new(Backend::Sqlite, config()).await;
    assert!(!system.runtime.set_destination_limit("omega", 1).await, "there is no such destination");
    assert!(system.runtime.set_destination_limit("beta", 0).await);
    let (_, watcher) = system.submit("k", Order::default()).await;
    system.world.until(|world| world.rpcs.iter().any(|(rpc, _)| *rpc == "Reserve")).await;
    eventually("its call waits", async || {
        let beta =
            system.runtime.destinations().await.into_iter().find(|destination| destination.name == "beta").unwrap();
        (beta.waiting, beta.in_flight, beta.in_flight_max) == (1, 0, 0)
    })
    .await;
    assert!(system.world.rpcs("Hold").is_empty());
    assert!(system.runtime.set_destination_limit("beta", 1).await);
    assert_eq!(finished(watcher).await.outcome(), Outcome::Committed);
}

/// A client whose answer was lost repeats its command at another instance, when the saga has gone on. It gets the
/// answer to that command, and not the error that there is nothing to retry.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_whose_answer_was_lost_is_answered_as_done_when_it_comes_again() {
    let (place, first) = new(Backend::Postgres, config()).await;
    let second = beside(&place, &first, config()).await;
    // Long enough that only the command ends the pause.
    first.world.script("Void", [Fault::Later(60_000)]);
    let refused = Order { refuse: vec!["commit".to_owned()], ..Order::default() };
    let (id, watcher) = first.submit("k", refused).await;
    let request = |command: &str| matricula_runtime::CommandRequest {
        command: matricula_runtime::RequestedCommand::Operator(OperatorCommand::Retry { step: None }),
        by: "ada".to_owned(),
        reason: "it is back".to_owned(),
        id: Some(command.to_owned()),
    };
    eventually("it waits for its next attempt", async || {
        first.world.hold("Void");
        let taken = second.runtime.command(id, request("one")).await.is_ok();
        if !taken {
            first.world.release("Void");
        }
        taken
    })
    .await;
    for system in [&first, &second, &first] {
        system.runtime.command(id, request("one")).await.expect("it was done");
    }
    let other = second.runtime.command(id, request("two")).await;
    assert!(matches!(&other, Err(CommandError::Refused(why)) if why.contains("nothing waits")), "{other:?}");
    assert_eq!(interventions(&first, id).await, [Intervention::Retry { step: None }], "it was done once");
    first.world.release("Void");
    assert_eq!(finished(watcher).await.phase(), Phase::Compensated);
    for system in [&first, &second] {
        system.runtime.command(id, request("one")).await.expect("it was done, and the saga has ended since");
        let other = system.runtime.command(id, request("two")).await;
        assert!(matches!(&other, Err(CommandError::Refused(why)) if why.contains("nothing is left")), "{other:?}");
    }
}
