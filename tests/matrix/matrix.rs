//! Every case against every service, on both databases.

use std::sync::Arc;

use matricula_kit::testing::{BACKENDS, Backend};
use matricula_registration::saga;
use matricula_testkit::{Case, Shape, World as _, cases, run_matrix};

use crate::services::Services;
use crate::world::{Campus, Change};

/// Sagas at a time: as many as a batch may have operations.
const AT_A_TIME: usize = 1_000;
const COMMAND: &str = "cargo xtask test --test matrix";

/// Only the engine distinguishes the codes, and its own tests cover them with simulated participants.
fn all_cases(shape: &Shape) -> Vec<Case> {
    let families =
        [cases::basic, cases::lost_answers, cases::repeats, cases::late, cases::pairs, cases::everything_again];
    let mut all: Vec<Case> = families.into_iter().flat_map(|family| family(shape)).collect();
    all.extend(cases::crashes(shape, cases::basic(shape)));
    all.extend(cases::cancelled_behind(shape));
    all
}

async fn check(backend: Backend, change: Change, cases: fn(&Shape) -> Vec<Case>) {
    check_campus(Campus::new(change, Arc::new(Services::start(backend).await)), backend, change, cases).await;
}

async fn check_campus(campus: Campus, backend: Backend, change: Change, cases: fn(&Shape) -> Vec<Case>) {
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

/// Fewer cases, because version 1 does not change any more. Its crash cases run with simulated participants.
fn cases_of_first_version(shape: &Shape) -> Vec<Case> {
    let families = [cases::basic, cases::lost_answers, cases::repeats, cases::late, cases::cancelled_behind];
    families.into_iter().flat_map(|family| family(shape)).collect()
}

/// Registrations that began before an upgrade end with the current services.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_swap_of_the_first_version_holds() {
    for backend in BACKENDS {
        let definition = saga::definition(1).expect("a sound table");
        let campus = Campus::of(definition, Change::Swap, Arc::new(Services::start(backend).await));
        check_campus(campus, backend, Change::Swap, cases_of_first_version).await;
    }
}

/// The tables that grow with every registration, by service, with their names in statements.
const GROWING: [(&str, &[&str]); 5] = [
    ("seats", &["barrier", "b", "holds", "h"]),
    ("enrollments", &["barrier", "b", "enrollments", "e"]),
    ("academics", &["barrier", "b", "course_record", "c"]),
    ("fees", &["barrier", "b", "postings", "c", "accounts", "a"]),
    ("notifications", &["barrier", "b", "messages", "m"]),
];

/// A registration costs the same with a million others behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_service_scans_earlier_registrations() {
    let campus = Campus::new(Change::Swap, Arc::new(Services::start(Backend::Sqlite).await));
    let report = run_matrix(&campus, cases::basic(campus.shape()), AT_A_TIME).await;
    report.assert_holds(COMMAND);
    for (service, tables) in GROWING {
        let scans = campus.services().scans(service, tables).await;
        assert!(scans.is_empty(), "{service} reads whole tables: {scans:#?}");
    }
}
