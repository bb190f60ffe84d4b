//! One of three is killed, or stopped for longer than its lease. Another one drives its sagas on, and the stopped one
//! can write nothing when it continues.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use matricula_harness::{PATIENCE, System, submission, submit};
use matricula_proto::registration::v1::{Outcome, Registration};
use tokio::task::JoinSet;

use super::{
    ALL, FIRST, Load, SECOND, THIRD, accept, block_in_place, check_outcomes, eventually, looked_at, portals, saga,
    setbacks, since, three, unfinished, watched,
};
use crate::campus::bundle;

/// The promise of the design, with default settings.
const TAKEOVER_MAX: Duration = Duration::from_secs(10);
/// A short lease for tests that wait for several of them.
const LEASE_MS: u64 = 1_500;

/// Requests the outcomes of sagas at a replica that does not drive them, in every possible way.
async fn outcomes(system: &System, accepted: Vec<Registration>) -> Vec<(String, Registration)> {
    let (second, third) = (system.channel(SECOND).await, system.channel(THIRD).await);
    let mut asking = JoinSet::new();
    for (number, known) in accepted.into_iter().enumerate() {
        let (second, third) = (second.clone(), third.clone());
        asking.spawn(async move {
            let id = known.registration_id.clone();
            let sections: Vec<&str> = known.adds.iter().map(String::as_str).collect();
            let end = match number % 4 {
                0 => submit(&second, submission(&known.student_id, &known.idempotency_key, &sections, &[])).await,
                1 => submit(&third, submission(&known.student_id, &known.idempotency_key, &sections, &[])).await,
                2 => watched(third, id.clone()).await,
                _ => looked_at(second, id.clone()).await,
            };
            (id, end)
        });
    }
    tokio::time::timeout(PATIENCE, asking.join_all()).await.expect("every one who asks another replica has an outcome")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_at_another_replica_gets_the_outcome_and_a_killed_one_is_replaced_within_ten_seconds() {
    let mut system = three(&[]).await;
    block_in_place(|| system.import(&bundle(&[("A", 30, "")], 80)));
    let first = system.channel(FIRST).await;
    let seats = |ends: &[(String, Registration)]| {
        assert!(ends.iter().all(|(id, end)| *id == end.registration_id), "the same key is the same registration");
        ends.iter().filter(|(_, end)| end.outcome() == Outcome::Enrolled).count()
    };

    // The first lives and drives them.
    system.pause("seats");
    let mut accepted = Vec::new();
    for student in 1..=20 {
        accepted.push(accept(&first, submission(&format!("S{student}"), "k", &["A"], &[])).await);
    }
    let going_on = async {
        // Clients wait at the others before it continues.
        tokio::time::sleep(Duration::from_millis(200)).await;
        system.resume("seats");
        Instant::now()
    };
    let (ends, resumed) = tokio::join!(outcomes(&system, accepted), going_on);
    eprintln!("20 outcomes at other replicas than the owner: {} after they could be decided", since(resumed));
    assert_eq!(seats(&ends), 20);

    // It is killed while its sagas are in the middle of a step.
    system.pause("seats");
    let mut accepted = Vec::new();
    for student in 21..=80 {
        accepted.push(accept(&first, submission(&format!("S{student}"), "k", &["A"], &[])).await);
    }
    block_in_place(|| system.kill(FIRST));
    let killed = Instant::now();
    system.resume("seats");
    let ends = outcomes(&system, accepted).await;
    let took = killed.elapsed();
    eprintln!("60 outcomes, with default settings: {took:?} after the kill of their orchestrator");
    assert_eq!(seats(&ends), 10, "30 seats, of which 20 were taken");
    assert!(took < TAKEOVER_MAX, "the design promises an outcome within {TAKEOVER_MAX:?} of a kill: {took:?}");
    system.ask(SECOND);
    block_in_place(|| system.audit());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_stopped_for_three_leases_writes_nothing_more() {
    let mut system = three(&[("orchestrator.runtime.lease_ttl_ms", &LEASE_MS.to_string())]).await;
    block_in_place(|| system.import(&bundle(&[("MANY", 10_000, ""), ("FEW", 10, "")], 10_000)));
    let second = system.channel(SECOND).await;
    // Two thirds of the clicks go to the one that is stopped later.
    let portals = portals(&system);
    let load = Load::begin(&portals, 24, 10_000, |student| if student % 3 == 1 { 1 } else { 0 });
    load.more(50).await;

    // Sagas of the first wait for seats when it stops, and their answers come while it is stopped.
    system.pause("seats");
    let mut owners = HashMap::<String, Vec<String>>::new();
    eventually("sagas of two instances wait for seats", async || {
        owners.clear();
        for saga in unfinished(&second).await {
            owners.entry(saga.owner).or_default().push(saga.saga_id);
        }
        owners.values().map(Vec::len).max() >= Some(14) && owners.values().map(Vec::len).sum::<usize>() >= 24
    })
    .await;
    let (stopped, hung) = owners.into_iter().max_by_key(|(_, sagas)| sagas.len()).expect("there are owners");
    system.pause(FIRST);
    let paused = Instant::now();
    system.resume("seats");
    eventually("another has adopted all of them, and they are finished", async || {
        let left = unfinished(&second).await;
        left.iter().all(|saga| saga.owner != stopped && !hung.contains(&saga.saga_id))
    })
    .await;
    eprintln!("{} sagas of the stopped one were finished by others {} after it stopped", hung.len(), since(paused));
    assert!(paused.elapsed() < TAKEOVER_MAX, "{:?}", paused.elapsed());
    let mut before = Vec::new();
    for id in &hung {
        before.push(saga(&second, id).await);
    }

    tokio::time::sleep(Duration::from_millis(3 * LEASE_MS).saturating_sub(paused.elapsed())).await;
    system.resume(FIRST);
    let code = block_in_place(|| system.ended(FIRST));
    let log = system.log(FIRST).join("\n");
    assert_eq!(code, Some(1), "{log}");
    let refused = "this instance's lease has lapsed, and its sagas were given to another";
    assert!(log.contains(refused), "its log does not say why it ended:\n{log}");
    for (id, before) in hung.iter().zip(before) {
        assert_eq!(saga(&second, id).await, before, "it has written after it was given up");
    }

    load.more(20).await;
    block_in_place(|| system.restart(FIRST));
    load.more(20).await;
    let followed = load.end().await;
    eprintln!("{}", setbacks(&followed));
    check_outcomes(&followed, 10);
    for name in ALL {
        system.ask(name);
        block_in_place(|| system.audit());
    }
}
