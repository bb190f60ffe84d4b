//! Short forms of the load tests for the suite; `cargo xtask load` runs the long ones.

use std::time::Duration;

use matricula_harness::PATIENCE;
use matricula_kit::testing::{BACKENDS, Backend};
use matricula_load::{Place, line, spike, unfinished};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_at_the_start_is_worked_off_oldest_first_and_within_the_bounds() {
    for backend in BACKENDS {
        let (in_flight_max, in_memory_max, adoption_chunk, lease_ttl_ms) = (50, 200, 50, 1_000);
        let spec = unfinished::Spec { sagas: 800, in_flight_max, in_memory_max, adoption_chunk, lease_ttl_ms };
        eprintln!("{backend:?}\n{}", unfinished::run(Place::Of(backend), spec).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_times_the_load_is_mostly_rejected_and_loses_nothing() {
    let (warm_up, spike) = (Duration::from_secs(1), Duration::from_secs(1));
    let spec =
        spike::Spec { in_flight_max: 16, queue_max: 60, warm_up, spike, clicks_per_s_max: 20_000.0, students: 1_000 };
    eprintln!("{}", spike::run(Place::Of(Backend::Postgres), spec).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_line_is_accepted_shown_and_kept_in_its_order_over_a_crash() {
    for backend in BACKENDS {
        let (measure, snapshot) = (Duration::from_secs(2), Duration::from_secs(2));
        let spec = line::Spec { waiting: 2_000, streams: 50, measure, snapshot, empty: PATIENCE, seed: 1 };
        let table = line::run(Place::Of(backend), spec).await;
        eprintln!("{backend:?}\n{table}");
        assert_eq!(table.value("left in line at the end"), Some("0"));
        assert_eq!(table.value("audit"), Some("clean"), "it was empty in time");
    }
}
