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
    let report = std::fs::read_to_string(&report).expect("the report");
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    let order = &report["first_come_first_served"];
    let refused = order["refused_closed_section"].as_u64().expect("a number");
    assert!(refused > 0 && Some(refused) == report["refusals"]["CLOSED_SECTION"].as_u64(), "{report}");
    let overtaken = order["overtaken"].as_u64().expect("a number") as usize;
    assert_eq!(order["overtaken_examples"].as_array().map(Vec::len), Some(overtaken.min(10)), "{report}");
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
