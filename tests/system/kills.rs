//! `kill -9` of the orchestrator and of each service in the middle of a rush, and a restart: the rush ends, and the
//! audit is clean.

use std::io::{BufRead as _, BufReader};

use matricula_kit::testing::BACKENDS;

use matricula_harness::{ROLES, System};

/// Rushes while these processes are killed one after the other. The result must not depend on the moment of a kill.
fn check(system: &mut System, kills: &[&'static str]) {
    let folder = system.folder().join("campus").display().to_string();
    system.done(&["campus", "generate", &folder, "--students", "600", "--sections", "100", "--seed", "7"]);
    system.done(&["import", &folder]);
    let mut rush = system.spawn(&["rush", &folder, "--speed", "100x"]);
    // Its first output shows that it is under way; earlier kills would hit an idle system.
    let mut talk = BufReader::new(rush.stderr.take().expect("stderr is piped")).lines();
    talk.next().expect("the rush says what it does").expect("readable");
    let drained = std::thread::spawn(move || talk.map_while(Result::ok).collect::<Vec<_>>());
    for process in kills {
        system.kill(process);
        system.restart(process);
    }
    let output = rush.wait_with_output().expect("the rush ends");
    let talk = drained.join().expect("no panic");
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}\n{report}\n{}", output.status, talk.join("\n"));
    system.audit();
}

#[tokio::test]
async fn every_process_is_killed_in_the_middle_of_a_rush() {
    let kills: Vec<&'static str> = ROLES.into_iter().rev().chain(["orchestrator"]).collect();
    for backend in BACKENDS {
        // A short lease: on PostgreSQL the sagas of a killed orchestrator are adopted when it lapses.
        let mut system = System::separate(backend, &[("orchestrator.runtime.lease_ttl_ms", "1500")]).await;
        check(&mut system, &kills);
    }
}

#[tokio::test]
async fn everything_at_once_is_killed_in_the_middle_of_a_rush() {
    check(&mut System::up(), &["up", "up", "up"]);
}
