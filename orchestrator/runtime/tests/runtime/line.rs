//! The line of accepted registrations, and what one subject may take of it.

use std::time::Duration;

use matricula_engine::Outcome;
use matricula_kit::testing::{BACKENDS, Backend};
use matricula_runtime::{RuntimeConfig, SubmitError, Submitted};

use crate::system::{System, config, eventually, finished, new, order};
use crate::world::Order;

/// How many are before each; a dot for one whose turn has come, a dash for one that is not open here.
async fn places(system: &System, sagas: &[(matricula_runtime::SagaId, matricula_runtime::Watcher)]) -> Vec<String> {
    let shown = |place: Option<matricula_runtime::InLine>| match place {
        None => "-".to_owned(),
        Some(place) => place.ahead.map_or(".".to_owned(), |ahead| ahead.to_string()),
    };
    let places = sagas.iter().map(async |(id, _)| shown(system.runtime.place(*id).await));
    futures::future::join_all(places).await
}

#[tokio::test]
async fn everybody_who_is_accepted_knows_the_place_at_once() {
    for backend in BACKENDS {
        let (_test, system) = new(backend, RuntimeConfig { in_flight_max: 2, ..config() }).await;
        system.world.hold("Reserve");
        let mut sagas = Vec::new();
        for number in 0..6_usize {
            let (id, watcher) = system.submit(&format!("k{number}"), Order::default()).await;
            // As soon as it is accepted, whether or not its saga has entered the core.
            let place = system.runtime.place(id).await.expect("it is open here");
            assert!(place.ahead.is_none_or(|ahead| ahead <= number), "{number}: {place:?}");
            sagas.push((id, watcher));
        }
        eventually("two are at work", async || places(&system, &sagas).await == [".", ".", "0", "1", "2", "3"]).await;
        // One that is cancelled has left the line when those before it have their turn.
        system.cancel(sagas[3].0, "ada", "").await.unwrap();
        let cancelled = sagas.remove(3);
        system.world.release("Reserve");
        assert_eq!(finished(cancelled.1).await.outcome(), Outcome::Cancelled);
        eventually("nobody is in line", async || places(&system, &sagas).await == ["-"; 5]).await;
        system.all_finished(sagas, Outcome::Committed).await;
    }
}

#[tokio::test]
async fn the_wait_is_told_when_the_rate_is_known() {
    let (_test, system) = new(Backend::Sqlite, RuntimeConfig { in_flight_max: 10, ..config() }).await;
    let mut waits = 0;
    let mut sagas = system.submit_all("k", 200).await;
    let mut round = 0;
    // Somebody waits all the time, until the rate is known.
    while waits == 0 {
        round += 1;
        assert!(round < 1_000, "the rate is never known");
        let more = system.submit_all(&format!("k{round}-"), 100).await;
        for (id, _) in &more {
            let place = system.runtime.place(*id).await;
            waits += usize::from(place.is_some_and(|place| place.expected_wait.is_some()));
        }
        sagas.extend(more);
    }
    system.all_finished(sagas, Outcome::Committed).await;
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
        // What was accepted is answered by its key, and another body is still another body.
        let again = system.runtime.submit(order("k1", Order::default())).await;
        assert_eq!(again, Ok(Submitted::Existing(sagas[1].0)));
        let refuse = vec!["hold".to_owned()];
        let other = system.runtime.submit(order("k1", Order { refuse, ..Order::default() })).await;
        assert_eq!(other, Err(SubmitError::KeyReused { existing: sagas[1].0 }));
        // Others are served.
        let mut of_bob = order("k1", Order::default());
        of_bob.subject = "bob".to_owned();
        assert_eq!(system.runtime.submit(of_bob).await, Ok(Submitted::Accepted));
        system.world.release("Hold");
        system.all_finished(sagas, Outcome::Committed).await;
        let room = system.runtime.submit(order("k3", Order::default())).await;
        assert_eq!(room, Ok(Submitted::Accepted), "every place came back");
        system.all_settled().await;
    }
}

/// Waits until one more is accepted, and for its end.
async fn one_more(system: &System, key: &str) {
    let mut number = 0;
    eventually("there is room", async || {
        number += 1;
        let submission = order(&format!("{key}-{number}"), Order::default());
        let watcher = system.runtime.watch(submission.id);
        let is_accepted = system.runtime.submit(submission).await == Ok(Submitted::Accepted);
        if is_accepted {
            finished(watcher).await;
        }
        is_accepted
    })
    .await;
}

/// Every way in which a submission ends gives its place in the quota back.
#[tokio::test]
async fn a_quota_comes_back_whatever_becomes_of_the_submission() {
    let (_test, system) = new(Backend::Sqlite, RuntimeConfig { subject_open_max: 1, ..config() }).await;
    system.run("done", Order::default()).await;
    for _ in 0..3 {
        // It is not open any more: the log itself finds that it exists.
        let again = system.runtime.submit(order("done", Order::default())).await;
        assert!(matches!(again, Ok(Submitted::Existing(_))), "{again:?}");
    }
    // The caller goes away: its saga is admitted all the same, or is found to exist, and nobody is there to hear of it.
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
async fn too_many_a_second_are_told_when_to_come_back() {
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

/// Nobody can be decided: no more is accepted than the time allows at the rate that a start reckons with, but a quarter
/// more than may be at work.
#[tokio::test]
async fn no_more_are_accepted_than_are_decided_in_time() {
    for (admission_wait_max_ms, in_flight_max, accepted) in [(80, 10, 56), (80, 400, 125)] {
        let bounds = RuntimeConfig { admission_wait_max_ms, in_flight_time_max_ms: 60, in_flight_max, ..config() };
        let (_test, system) = new(Backend::Sqlite, bounds).await;
        system.world.hold("Commit");
        let sagas = system.submit_all("k", accepted).await;
        let more = system.runtime.submit(order("more", Order::default())).await;
        let Err(SubmitError::QueueFull { retry_after }) = more else { panic!("{more:?}") };
        assert!(retry_after <= Duration::from_secs(30), "{retry_after:?}");
        system.world.release("Commit");
        system.all_finished(sagas, Outcome::Committed).await;
    }
}
