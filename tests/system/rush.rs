//! A whole morning of a generated campus, on both databases, ending in a clean audit.

use matricula_kit::testing::Backend;

use matricula_harness::System;

#[track_caller]
fn check(system: &System, flags: &[&str]) -> serde_json::Value {
    let folder = system.folder().join("campus");
    let folder = folder.display().to_string();
    system.done(&["campus", "generate", &folder, "--students", "400", "--sections", "80", "--seed", "20261122"]);
    system.done(&["import", &folder]);
    let report = system.folder().join("report.json");
    // `rush` ends with 1 if a click has no outcome, a repeated key got another answer, or the audit is not clean.
    let file = report.display().to_string();
    let said = system.done(&[&["rush", &folder, "--speed", "600x", "--report", &file], flags].concat());
    assert!(said.contains("ENROLLED") && said.contains("REFUSED"), "{said}");
    let report = std::fs::read_to_string(&report).expect("the report");
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    let order = &report["first_come_first_served"];
    let refused = order["refused_closed_section"].as_u64().expect("a number");
    assert!(refused > 0 && Some(refused) == report["refusals"]["CLOSED_SECTION"].as_u64(), "{report}");
    let overtaken = order["overtaken"].as_u64().expect("a number") as usize;
    assert_eq!(order["overtaken_examples"].as_array().map(Vec::len), Some(overtaken.min(10)), "{report}");
    system.audit();
    report
}

#[tokio::test]
async fn a_morning_in_one_process_on_sqlite() {
    let report = check(&System::up(), &[]);
    assert!(report.get("acceptance_since_due_ms").is_none(), "nothing has measured it: {report}");
}

#[tokio::test]
async fn a_morning_in_six_processes_on_postgres() {
    let report = check(&System::separate(Backend::Postgres, &[]).await, &["--acknowledge"]);
    let acceptance = |part: &str| report["acceptance_since_due_ms"][part].as_f64().expect("milliseconds");
    let to_outcome = report["acceptance_to_outcome_ms"]["p50"].as_f64().expect("milliseconds");
    assert!(acceptance("p50") > 0.0 && acceptance("p99") >= acceptance("p50") && to_outcome > 0.0, "{report}");
}
