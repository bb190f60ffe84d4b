//! A short chaos run on both databases: `cargo xtask chaos` with fewer seconds.

use std::time::Duration;

use matricula_chaos::{Live, Plan, Tempo, run};
use matricula_kit::testing::Backend;

/// One deck of faults takes about this long.
const LENGTH: Duration = Duration::from_secs(8);

/// Injects faults from a seed. Everything must hold afterwards.
async fn check(database: Backend, seed: u64) {
    println!("chaos on {database:?}, seed {seed}");
    let plan = Plan { database, length: LENGTH, seed, tempo: Tempo::of_seconds(), clicks_per_s: 50 };
    let report = run(&plan, &mut Live::on_stderr()).await.expect("the run itself works");
    println!("{report}");
    assert!(report.holds(), "{report}");
    let (kills, pauses) = report.kills_and_pauses();
    assert!(kills >= 5 && pauses >= 1, "hardly anything was broken:\n{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_on_sqlite() {
    check(Backend::Sqlite, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_on_postgres() {
    check(Backend::Postgres, 1).await;
}
