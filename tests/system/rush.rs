//! A whole morning of a generated campus, on both databases, ending in a clean audit.

use matricula_kit::testing::Backend;

use matricula_harness::System;

#[track_caller]
fn check(system: &System) {
    let folder = system.folder().join("campus");
    let folder = folder.display().to_string();
    system.done(&["campus", "generate", &folder, "--students", "400", "--sections", "80", "--seed", "20261122"]);
    system.done(&["import", &folder]);
    let report = system.folder().join("report.json");
    // `rush` ends with 1 if a click has no outcome, a repeated key got another answer, or the audit is not clean.
    let said = system.done(&["rush", &folder, "--speed", "600x", "--report", &report.display().to_string()]);
    assert!(said.contains("ENROLLED") && said.contains("REFUSED"), "{said}");
    assert!(report.is_file());
    system.audit();
}

#[tokio::test]
async fn a_morning_in_one_process_on_sqlite() {
    check(&System::up());
}

#[tokio::test]
async fn a_morning_in_six_processes_on_postgres() {
    check(&System::separate(Backend::Postgres, &[]).await);
}
