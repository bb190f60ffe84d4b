//! The ids of an earlier build's databases are converted while students register: no registration is lost or fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use matricula_harness::campus::bundle;
use matricula_harness::{Former, PATIENCE, Portals, System, submission};
use matricula_kit::testing::Backend;
use matricula_proto::registration::v1::Outcome;
use serde_json::Value;
use tokio::task::{JoinSet, block_in_place};

/// The tables of an earlier build, without a row.
const EMPTY: [Former; 6] = [
    Former { last_migration: 103, rows: "" },
    Former { last_migration: 102, rows: "" },
    Former { last_migration: 102, rows: "" },
    Former { last_migration: 101, rows: "" },
    Former { last_migration: 101, rows: "" },
    Former { last_migration: 13, rows: "" },
];
const STUDENTS: usize = 240;
const AT_A_TIME: usize = 8;

/// The command's message for each role, and its exit code.
fn compact(system: &System) -> (Option<i32>, Vec<(String, String)>) {
    let output = system.run(&["database", "compact", "--output", "json"]);
    let shown: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let roles = shown.as_array().expect("a list").iter();
    (output.status.code(), roles.map(|role| (text(&role["role"]), text(&role["ids"]))).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_are_converted_while_students_register() {
    let system = System::separate_on_former(Backend::Postgres, &EMPTY).await;
    block_in_place(|| system.import(&bundle(&[("A", 1_000, ""), ("B", 1_000, "")], STUDENTS as u32)));
    let (portals, done) = (Arc::new(Portals::at([system.address("orchestrator")])), Arc::new(AtomicUsize::new(0)));
    let mut clicks = JoinSet::new();
    for first in 0..AT_A_TIME {
        let (portals, done) = (portals.clone(), done.clone());
        clicks.spawn(async move {
            for number in (first..STUDENTS).step_by(AT_A_TIME) {
                let student = format!("S{}", number + 1);
                let click = submission(&student, "add", &["A"], &[]);
                assert_eq!(portals.follow(0, click).await.outcome(), Outcome::Enrolled, "{student}");
                let swap = submission(&student, "swap", &["B"], &["A"]);
                assert_eq!(portals.follow(0, swap).await.outcome(), Outcome::Enrolled, "{student}");
                done.fetch_add(1, Ordering::AcqRel);
            }
        });
    }
    let begun = Instant::now();
    while done.load(Ordering::Acquire) < STUDENTS / 4 {
        assert!(begun.elapsed() < PATIENCE, "they do not register");
        tokio::task::yield_now().await;
    }
    // A long read of a table stops it; then it is run again.
    let is_compact = |(_, ids): &(String, String)| ids.starts_with("compact") || ids == "none";
    loop {
        let (code, roles) = block_in_place(|| compact(&system));
        if code == Some(0) {
            assert!(roles.len() == 6 && roles.iter().all(is_compact), "{roles:?}");
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{roles:?}");
    }
    assert!(done.load(Ordering::Acquire) < STUDENTS, "they registered meanwhile");
    while let Some(ended) = clicks.join_next().await {
        ended.expect("every click has its outcome");
    }
    block_in_place(|| {
        let again = compact(&system);
        assert!(again.0 == Some(0) && again.1.iter().all(|(_, ids)| ids != "compact now"), "{again:?}");
        system.audit();
    });
}
