//! Databases of an earlier build, with unfinished sagas of version 1: this build finishes every one.
//!
//! The rows come from six processes that were ended one after the other while students registered: sagas wait at each
//! step of version 1, some wait in line, and the door is paused.

mod compact;

use matricula_harness::{Former, PATIENCE, System};
use matricula_kit::testing::{BACKENDS, Backend};
use serde_json::Value;
use tokio::task::block_in_place;

const FORMER: [Former; 6] = [
    Former { last_migration: 103, rows: include_str!("upgrade/seats.sql") },
    Former { last_migration: 102, rows: include_str!("upgrade/enrollments.sql") },
    Former { last_migration: 102, rows: include_str!("upgrade/academics.sql") },
    Former { last_migration: 101, rows: include_str!("upgrade/fees.sql") },
    Former { last_migration: 101, rows: include_str!("upgrade/notifications.sql") },
    Former { last_migration: 13, rows: include_str!("upgrade/orchestrator.sql") },
];
/// Students whose registrations wait in line behind the paused door.
const IN_LINE: [&str; 2] = ["S000025", "S000026"];

fn sagas(system: &System, filter: &[&str]) -> Vec<Value> {
    let shown = system.done(&[&["saga", "list"], filter, &["--output", "json"]].concat());
    serde_json::from_str(&shown).unwrap_or_else(|error| panic!("{error}: {shown}"))
}

/// Waits until only this many sagas are unfinished.
fn until_left(system: &System, left: usize) -> Vec<Value> {
    let begun = std::time::Instant::now();
    loop {
        let unfinished = sagas(system, &["--unfinished"]);
        if unfinished.len() == left {
            return unfinished;
        }
        assert!(begun.elapsed() < PATIENCE, "they do not finish: {unfinished:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_unfinished_saga_of_an_earlier_build_finishes() {
    for backend in BACKENDS {
        let system = System::separate_on_former(backend, &FORMER).await;
        block_in_place(|| every_saga_finishes(&system, backend));
    }
}

fn every_saga_finishes(system: &System, backend: Backend) {
    let in_line = until_left(system, IN_LINE.len());
    assert!(in_line.iter().all(|saga| saga["phase"] == "queued"), "{backend:?}: {in_line:#?}");
    system.done(&["registration", "open", "--by", "registrar", "--reason", "the upgrade is done"]);
    until_left(system, 0);
    if backend == Backend::Postgres {
        // Earlier data, and that of sagas of version 1, is the same with compact ids.
        system.done(&["database", "compact"]);
    }

    let all = sagas(system, &[]);
    assert_eq!(all.len(), 26, "{backend:?}: {all:#?}");
    let is_refused = |saga: &&Value| saga["outcome"] != "ENROLLED";
    let refused: Vec<_> = all.iter().filter(is_refused).map(|saga| &saga["student_id"]).collect();
    assert_eq!(refused, ["S000007"], "{backend:?}: the section was full: {all:#?}");
    system.audit();
}
