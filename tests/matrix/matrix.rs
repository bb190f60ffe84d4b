//! Every case against every service, on both databases.

use std::sync::Arc;

use matricula_kit::testing::{BACKENDS, Backend};
use matricula_testkit::{Case, Shape, World as _, cases, run_matrix};

use crate::services::Services;
use crate::world::{Campus, Change};

/// Sagas on their way at a time: as many as there may be operations in a batch.
const AT_A_TIME: usize = 1_000;
const COMMAND: &str = "cargo xtask test --test matrix";

/// The codes make a difference to the engine alone, which meets them with simulated participants.
fn all_cases(shape: &Shape) -> Vec<Case> {
    let families =
        [cases::basic, cases::lost_answers, cases::repeats, cases::late, cases::pairs, cases::everything_again];
    let mut all: Vec<Case> = families.into_iter().flat_map(|family| family(shape)).collect();
    all.extend(cases::crashes(shape, cases::basic(shape)));
    all
}

async fn check(backend: Backend, change: Change, cases: fn(&Shape) -> Vec<Case>) {
    let campus = Campus::new(change, Arc::new(Services::start(backend).await));
    let report = run_matrix(&campus, cases(campus.shape()), AT_A_TIME).await;
    println!("{backend:?}, {change:?}: {} cases", report.runs.len());
    report.assert_holds(COMMAND);
    let audit = campus.audit(&report.runs).await;
    assert!(audit.holds(), "{backend:?}, {change:?}: {audit:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_swap_holds() {
    for backend in BACKENDS {
        check(backend, Change::Swap, all_cases).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn enrollments_and_drops_hold() {
    for backend in BACKENDS {
        for change in [Change::Enroll, Change::Drop] {
            check(backend, change, cases::basic).await;
        }
    }
}
