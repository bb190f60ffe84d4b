//! A short form of the benchmark for the suite: it checks the benchmark's assertions and output. `cargo xtask bench`
//! measures.

use std::time::Duration;

use matricula_bench::{Entry, Kind, Layout, Looking, Plan, Report, play, prefilled, reads};

const SEPARATE: Layout = Layout::Separate { orchestrators: 1 };

fn small(layout: Layout, floor: bool) -> Plan {
    Plan { layout, in_flight: 8, length: Duration::from_secs(1), repeats: 1, floor, students_min: 60 }
}

/// Each scenario has audited its system, or would have panicked.
#[track_caller]
fn check(entry: Entry, lines: &[&str]) {
    let text = entry.to_string();
    for line in lines {
        assert!(text.contains(line), "there is no {line:?} in\n{text}");
    }
    let mut report = Report::default();
    report.add(entry);
    assert!(serde_json::to_string(&report).is_ok_and(|json| json.contains("\"audit\":\"clean\"")));
}

#[tokio::test]
async fn a_campus_is_measured_on_sqlite_beside_its_floor() {
    let measured = play(Kind::Campus, small(Layout::OneProcess, true)).await;
    let floor = measured.floor.as_ref().expect("it was measured");
    assert!(floor.registrations > 0 && floor.rows_per_registration > 5.0 && floor.ratio > 0.0, "{floor:?}");
    assert!(measured.median.cpu_us["up"] > 0.0 && measured.memory_peak_mib["up"] > 0);
    let lines = ["registrations/s", "median", "CPU us/registration", "saga log", "seats", "ENROLLED", "floor", "clean"];
    check(Entry::Scenario(Box::new(measured)), &lines);
}

#[tokio::test]
async fn unpayable_fees_are_compensated_on_postgres_beside_the_floor() {
    let measured = play(Kind::Compensated, small(SEPARATE, true)).await;
    assert!(measured.median.reasons.contains_key("BALANCE_LIMIT_EXCEEDED"), "{:?}", measured.median.reasons);
    assert!(measured.floor.as_ref().is_some_and(|floor| floor.rows_per_registration > 5.0 && floor.ratio > 0.0));
    let lines = ["postgres", "orchestrator", "load generator", "notifications", "floor", "clean"];
    check(Entry::Scenario(Box::new(measured)), &lines);
}

#[tokio::test]
async fn a_hot_section_and_a_full_campus_are_decided() {
    let hot = play(Kind::Hot, small(Layout::OneProcess, false)).await;
    assert!(hot.median.outcomes["ENROLLED"] > 0.0);
    check(Entry::Scenario(Box::new(hot)), &["one hot section", "clean"]);
    let refused = play(Kind::Refused, small(Layout::OneProcess, false)).await;
    assert_eq!(refused.median.outcomes.keys().collect::<Vec<_>>(), ["REFUSED"]);
    check(Entry::Scenario(Box::new(refused)), &["all refused", "CLOSED_SECTION", "clean"]);
}

#[tokio::test]
async fn a_slow_service_is_measured() {
    let measured = play(Kind::SlowService, small(SEPARATE, false)).await;
    assert!(measured.median.p99_ms >= 50.0, "no way was slow: {:?}", measured.median);
    check(Entry::Scenario(Box::new(measured)), &["one service 50 ms slow", "clean"]);
}

#[tokio::test]
async fn filled_databases_hold_up_to_the_audit() {
    for layout in [Layout::OneProcess, SEPARATE] {
        let prefilled = prefilled(small(layout, false), 5_000).await;
        assert!(prefilled.finished >= 5_000 && prefilled.time_ratio > 0.0);
        check(Entry::Prefilled(Box::new(prefilled)), &["finished registrations", "filled by empty", "clean"]);
    }
}

#[tokio::test]
async fn reads_and_streams_are_measured() {
    for (layout, apart, looked_at) in
        [(Layout::OneProcess, false, "orchestrator that registers"), (SEPARATE, true, "orchestrator of their own")]
    {
        let looking = Looking { reads_per_s: 1_000, sections_of_read: 5, apart, streams: 200 };
        let seen = reads(small(layout, false), looking).await;
        assert!(seen.looks.answered_per_s > 0.0 && seen.streams.messages_per_s > 0.0, "{seen:?}");
        check(Entry::Reads(Box::new(seen)), &[looked_at, "ratio of medians", "commit to watcher", "streams", "clean"]);
    }
}
