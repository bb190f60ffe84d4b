//! Orchestrators whose clocks are an hour ahead and an hour behind. Leases and sagas use the database's clock, so none
//! is taken for dead because of it, and an instance with another clock drives their sagas on in time.

use matricula_harness::{PATIENCE, System, submission, wrong_clock};
use matricula_kit::testing::Backend;
use matricula_proto::registration::v1::{Outcome, Registration};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::{FIRST, accept, block_in_place, eventually, saga, unfinished, watched};
use crate::campus::bundle;

const AHEAD: &str = "ahead";
const BEHIND: &str = "behind";
const HOUR_S: i64 = 3_600;

fn add(system: &mut System, name: &'static str, environment: &[(&'static str, String)]) {
    let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    block_in_place(|| system.add_orchestrator_in(name, &environment));
}

/// Ten registrations at each of these; all of them retry calls to a service that is away.
async fn begin(system: &mut System, round: u32, at: &[&'static str]) -> Vec<Registration> {
    block_in_place(|| system.kill("seats"));
    let mut accepted = Vec::new();
    for (place, name) in at.iter().enumerate() {
        let portal = system.channel(name).await;
        for number in 1..=10 {
            let student = format!("S{}", round * 30 + place as u32 * 10 + number);
            accepted.push(accept(&portal, submission(&student, "k", &["A"], &[])).await);
        }
    }
    let portal = system.channel(at[0]).await;
    eventually("a saga of each has failed and has a time for the next attempt", async || {
        let mut waiting = 0;
        for sagas in accepted.chunks(10) {
            waiting += usize::from(tries_again(&portal, &sagas[0].registration_id).await);
        }
        waiting == at.len()
    })
    .await;
    accepted
}

async fn tries_again(portal: &Channel, saga_id: &str) -> bool {
    saga(portal, saga_id).await.steps.iter().any(|step| {
        let action = step.action.as_ref().expect("a step has an action");
        action.attempts > 0 && action.next_attempt_at.is_some()
    })
}

/// Brings the service back, and waits until all are enrolled: no student has lost a place because of a clock.
async fn all_enrolled(system: &mut System, accepted: Vec<Registration>) {
    block_in_place(|| system.restart("seats"));
    let portal = system.channel(FIRST).await;
    let mut watching = JoinSet::new();
    for registration in accepted {
        watching.spawn(watched(portal.clone(), registration.registration_id));
    }
    let ends = tokio::time::timeout(PATIENCE, watching.join_all()).await.expect("no timer is lost");
    eventually("all are finished", async || unfinished(&portal).await.is_empty()).await;
    for end in &ends {
        assert_eq!(end.outcome(), Outcome::Enrolled, "{end:?}");
    }
}

/// The duration of each failed attempt of the step, from the log of the saga.
async fn durations(portal: &Channel, saga_id: &str) -> Vec<i64> {
    let events = saga(portal, saga_id).await.events;
    let failed = events.into_iter().filter(|event| event.name == "step_failed" && event.step == "hold_seats");
    failed.map(|event| event.duration_ms).collect()
}

/// A service is stopped in the middle of its work, and the call of it times out after a second. The log must say so
/// with any clock of the calling machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durations_of_calls_do_not_depend_on_wall_clocks() {
    let (Some(ahead), Some(behind)) = (wrong_clock(HOUR_S), wrong_clock(-HOUR_S)) else {
        eprintln!("SKIPPED: libfaketime is not installed (`cargo xtask test` installs it)");
        return;
    };
    let mut system = System::separate(Backend::Postgres, &[("orchestrator.runtime.call_timeout_ms", "1000")]).await;
    add(&mut system, AHEAD, &ahead);
    add(&mut system, BEHIND, &behind);
    block_in_place(|| system.import(&bundle(&[("A", 100, "")], 3)));
    system.pause("seats");
    let mut accepted = Vec::new();
    for (student, name) in [("S1", FIRST), ("S2", AHEAD), ("S3", BEHIND)] {
        let portal = system.channel(name).await;
        let registration = accept(&portal, submission(student, "k", &["A"], &[])).await;
        let id = registration.registration_id.clone();
        eventually("a call is given up", async || !durations(&portal, &id).await.is_empty()).await;
        let durations = durations(&portal, &id).await;
        assert!(durations.iter().all(|ms| (1_000..60_000).contains(ms)), "{name}: {durations:?}");
        accepted.push(registration);
    }
    system.resume("seats");
    let portal = system.channel(FIRST).await;
    for registration in accepted {
        assert_eq!(watched(portal.clone(), registration.registration_id).await.outcome(), Outcome::Enrolled);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hour_ahead_and_an_hour_behind_lose_no_timer_and_run_nothing_twice() {
    let (Some(ahead), Some(behind)) = (wrong_clock(HOUR_S), wrong_clock(-HOUR_S)) else {
        eprintln!("SKIPPED: libfaketime is not installed (`cargo xtask test` installs it)");
        return;
    };
    let mut system = System::separate(Backend::Postgres, &[("orchestrator.runtime.lease_ttl_ms", "1500")]).await;
    add(&mut system, AHEAD, &ahead);
    add(&mut system, BEHIND, &behind);
    block_in_place(|| system.import(&bundle(&[("A", 100, "")], 100)));

    // Their clocks are wrong, and they keep running.
    let accepted = begin(&mut system, 0, &[FIRST, AHEAD, BEHIND]).await;
    all_enrolled(&mut system, accepted).await;

    // The adopting instance must not wait an hour for the next attempts of the sagas.
    let accepted = begin(&mut system, 1, &[FIRST, AHEAD, BEHIND]).await;
    block_in_place(|| system.kill(AHEAD));
    all_enrolled(&mut system, accepted).await;

    // The other way round: the one ahead adopts the sagas of the right one and of the one behind.
    block_in_place(|| system.restart(AHEAD));
    let accepted = begin(&mut system, 2, &[AHEAD, FIRST, BEHIND]).await;
    block_in_place(|| system.kill(FIRST));
    block_in_place(|| system.kill(BEHIND));
    let portal = system.channel(AHEAD).await;
    eventually("the one ahead has adopted all", async || {
        let owners: std::collections::HashSet<String> =
            unfinished(&portal).await.into_iter().map(|saga| saga.owner).collect();
        owners.len() <= 1
    })
    .await;
    block_in_place(|| system.restart(FIRST));
    all_enrolled(&mut system, accepted).await;
    block_in_place(|| system.audit());
}
