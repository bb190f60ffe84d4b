//! The line of accepted registrations, and the quota of one subject.

use std::time::Duration;

use matricula_engine::Outcome;
use matricula_kit::testing::{BACKENDS, Backend};
use matricula_runtime::{Door, DoorState, RuntimeConfig, SagaId, SubmitError, Submitted, Ticket, Watcher};

use crate::system::{System, config, decided, eventually, finished, new, order};
use crate::world::Order;

/// Submits, and returns the result.
async fn submitted(system: &System, key: &str) -> (SagaId, Watcher, Submitted) {
    let submission = order(key, Order::default());
    let (id, watcher) = (submission.id, system.runtime.watch(submission.id));
    let outcome = system.runtime.submit(submission).await;
    (id, watcher, outcome.unwrap_or_else(|error| panic!("{key}: {error}")))
}

#[tokio::test]
async fn all_submissions_are_accepted_and_turns_follow_tickets() {
    for backend in BACKENDS {
        let (_test, system) = new(backend, RuntimeConfig { in_flight_max: 2, ..config() }).await;
        system.world.hold("Reserve");
        let mut sagas = Vec::new();
        for number in 0..6 {
            let (id, watcher, outcome) = submitted(&system, &format!("k{number}")).await;
            let expected = Submitted::Accepted { ticket: Ticket(number + 1), is_queued: number >= 2 };
            assert_eq!(outcome, expected, "{backend:?}");
            sagas.push((id, watcher));
        }
        let mut line = system.runtime.line();
        let line = line.wait_for(|line| line.last == Ticket(6)).await.unwrap().clone();
        assert_eq!((line.served, line.ahead(Ticket(2)), line.ahead(Ticket(6))), (Ticket(2), None, Some(3)));
        let row = system.runtime.store().get(sagas[5].0).await.unwrap().unwrap();
        assert_eq!((row.phase.as_str(), row.owner.as_str(), row.log.unwrap().len()), ("queued", "", 1), "{backend:?}");
        // A cancelled saga does not wait for its turn.
        let (cancelled, watcher) = sagas.remove(3);
        system.cancel(cancelled, "ada", "").await.unwrap();
        system.cancel(cancelled, "ada", "").await.unwrap();
        assert_eq!(decided(&mut { watcher }).await, Outcome::Cancelled);
        system.world.release("Reserve");
        system.all_finished(sagas, Outcome::Committed).await;
        let mut line = system.runtime.line();
        line.wait_for(|line| line.served == line.last).await.unwrap();
        assert_eq!(system.all_settled().await, 6, "{backend:?}");
    }
}

/// Queued sagas are in the database: a restarted process goes on with them, in their order.
#[tokio::test]
async fn the_line_outlives_its_instance() {
    for backend in BACKENDS {
        let (test, system) = new(backend, RuntimeConfig { in_flight_max: 1, ..config() }).await;
        system.world.hold("Reserve");
        let mut ids = Vec::new();
        for number in 0..5 {
            ids.push(submitted(&system, &format!("k{number}")).await.0);
        }
        let world = system.world.clone();
        system.crash().await;
        world.release("Reserve");
        let system = System::start(test.open().await, world, config()).await;
        for (id, number) in ids.iter().zip(0..) {
            let again = system.runtime.submit(order(&format!("k{number}"), Order::default())).await;
            assert_eq!(again, Ok(Submitted::Existing(*id)), "{backend:?}");
        }
        assert_eq!(system.all_settled().await, 5, "{backend:?}");
    }
}

#[tokio::test]
async fn the_door_is_shut_with_a_sentence() {
    let (_test, system) = new(Backend::Sqlite, config()).await;
    let door = |state, sentence: &str| Door { state, sentence: sentence.to_owned() };
    let mut line = system.runtime.line();
    system.runtime.set_door(&door(DoorState::Paused, "soon"), "grace", "a fault").await.unwrap();
    line.wait_for(|line| line.door.state == DoorState::Paused).await.unwrap();
    let (_, mut watcher, outcome) = submitted(&system, "waits").await;
    assert_eq!(outcome, Submitted::Accepted { ticket: Ticket(1), is_queued: true });
    system.runtime.set_door(&door(DoorState::Closed, "Until August."), "grace", "it is over").await.unwrap();
    assert_eq!(decided(&mut watcher).await, Outcome::Committed, "the line goes on");
    let more = system.runtime.submit(order("more", Order::default())).await;
    assert_eq!(more, Err(SubmitError::Closed { sentence: "Until August.".to_owned() }));
    system.runtime.set_door(&door(DoorState::Open, ""), "grace", "again").await.unwrap();
    system.run("more", Order::default()).await;
}

#[tokio::test]
async fn one_subject_can_not_take_the_places_of_others() {
    for backend in BACKENDS {
        let (_test, system) = new(backend, RuntimeConfig { subject_open_max: 3, ..config() }).await;
        system.world.hold("Hold");
        let sagas = system.submit_all("k", 3).await;
        let more = system.runtime.submit(order("k3", Order::default())).await;
        let Err(SubmitError::OverQuota { retry_after }) = more else { panic!("{more:?}") };
        assert!((Duration::from_millis(100)..=Duration::from_secs(30)).contains(&retry_after), "{retry_after:?}");
        // A repeat of an accepted submission gets its saga, and another request with the key is rejected.
        let again = system.runtime.submit(order("k1", Order::default())).await;
        assert_eq!(again, Ok(Submitted::Existing(sagas[1].0)));
        let refuse = vec!["hold".to_owned()];
        let other = system.runtime.submit(order("k1", Order { refuse, ..Order::default() })).await;
        assert_eq!(other, Err(SubmitError::KeyReused { existing: sagas[1].0 }));
        // Other subjects are not affected.
        let mut of_bob = order("k1", Order::default());
        of_bob.subject = "bob".to_owned();
        assert!(matches!(system.runtime.submit(of_bob).await, Ok(Submitted::Accepted { .. })));
        system.world.release("Hold");
        system.all_finished(sagas, Outcome::Committed).await;
        let room = system.runtime.submit(order("k3", Order::default())).await;
        assert!(matches!(room, Ok(Submitted::Accepted { .. })), "every place came back: {room:?}");
        system.all_settled().await;
    }
}

/// Waits until one more saga is accepted, and for its end.
async fn one_more(system: &System, key: &str) {
    let mut number = 0;
    eventually("there is room", async || {
        number += 1;
        let submission = order(&format!("{key}-{number}"), Order::default());
        let watcher = system.runtime.watch(submission.id);
        let is_accepted = matches!(system.runtime.submit(submission).await, Ok(Submitted::Accepted { .. }));
        if is_accepted {
            finished(watcher).await;
        }
        is_accepted
    })
    .await;
}

/// However a submission ends, it gives its part of the quota back.
#[tokio::test]
async fn a_quota_comes_back_whatever_becomes_of_the_submission() {
    let (_test, system) = new(Backend::Sqlite, RuntimeConfig { subject_open_max: 1, ..config() }).await;
    system.run("done", Order::default()).await;
    for _ in 0..3 {
        // It is not open any more: the database finds that it exists.
        let again = system.runtime.submit(order("done", Order::default())).await;
        assert!(matches!(again, Ok(Submitted::Existing(_))), "{again:?}");
    }
    // The caller stops waiting. Its saga is still admitted, or is found to exist.
    for key in ["gone", "done"] {
        {
            let submitting = system.runtime.submit(order(key, Order::default()));
            tokio::pin!(submitting);
            assert!(futures::poll!(&mut submitting).is_pending());
        }
        one_more(&system, &format!("after-{key}")).await;
    }
    system.run("refused", Order { refuse: vec!["hold".to_owned()], ..Order::default() }).await;
    system.run("last", Order::default()).await;
    system.all_settled().await;
}

#[tokio::test]
async fn too_many_submissions_a_second_get_a_retry_hint() {
    let bounds = RuntimeConfig { subject_per_second_max: 1, subject_burst_max: 20, ..config() };
    let (_test, system) = new(Backend::Sqlite, bounds).await;
    let mut answers = Vec::new();
    for number in 0..40 {
        answers.push(system.runtime.submit(order(&format!("k{number}"), Order::default())).await);
    }
    let accepted = answers.iter().take_while(|answer| answer.is_ok()).count();
    assert!((20..40).contains(&accepted), "{accepted}");
    let Err(SubmitError::OverQuota { retry_after }) = answers[accepted] else { panic!("{:?}", answers[accepted]) };
    assert!(retry_after <= Duration::from_secs(1), "{retry_after:?}");
    let again = system.runtime.submit(order("k0", Order::default())).await;
    assert!(matches!(again, Ok(Submitted::Existing(_))), "{again:?}");
    system.all_settled().await;
}

/// A full line: no more submissions are accepted until turns come.
#[tokio::test]
async fn the_line_is_bounded() {
    let bounds = RuntimeConfig { admission_queue_max: 20, in_flight_max: 10, ..config() };
    let (_test, system) = new(Backend::Sqlite, bounds).await;
    system.world.hold("Commit");
    let sagas = system.submit_all("k", 30).await;
    let more = system.runtime.submit(order("more", Order::default())).await;
    let Err(SubmitError::QueueFull { retry_after }) = more else { panic!("{more:?}") };
    assert!(retry_after <= Duration::from_secs(30), "{retry_after:?}");
    system.world.release("Commit");
    system.all_finished(sagas, Outcome::Committed).await;
    one_more(&system, "after").await;
}
