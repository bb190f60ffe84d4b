//! The report of a run, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use comfy_table::{LineStyle, Table, TableStyle};
use matricula_postgres::Backend;
use serde::Serialize;
use serde_json::Value;

use crate::run::Plan;
use crate::signs::Findings;

/// One line under the header, as the binary's tables have it.
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));
/// The prefix of an unexpected reason.
pub const UNEXPLAINED: &str = "UNEXPLAINED";

/// The whole result.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    database: &'static str,
    seed: u64,
    /// How long faults were injected.
    broken_for_s: f64,
    /// From the heal to the last proof.
    pub healed_after_s: f64,
    /// Everything, the start too.
    pub length_s: f64,
    /// Faults by kind.
    pub faults: BTreeMap<String, u64>,
    kills: u64,
    pauses: u64,
    ended_by_themselves: BTreeMap<String, u64>,
    clicks: u64,
    clicks_without_outcome: u64,
    outcomes: BTreeMap<String, u64>,
    /// Clicks whose call failed, and how often they were sent again.
    answers_lost: Again,
    /// Clicks that were rejected, and how often they were sent again.
    #[serde(rename = "turned_away")]
    rejected: Again,
    /// Calls of sagas to services that were repeated, by service: a lower bound.
    pub calls_failed: BTreeMap<String, u64>,
    #[serde(flatten)]
    findings: Findings,
    /// Longest time in which a client waited and no client got an outcome.
    stall_longest_s: f64,
    latency_p50_ms: f64,
    latency_p99_ms: f64,
    audit: Vec<Invariant>,
    /// The violations; empty when everything holds.
    problems: Vec<String>,
    /// Where the logs and databases are, when they were kept.
    pub folder: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Again {
    clicks: u64,
    calls: u64,
}

#[derive(Debug, Clone, Serialize)]
struct Invariant {
    title: String,
    checked: u64,
    violations: u64,
}

impl Report {
    /// Of a run that has been healed.
    pub fn new(plan: &Plan, broken_for: Duration) -> Self {
        let database = match plan.database {
            Backend::Sqlite => "SQLite, one orchestrator",
            Backend::Postgres => "PostgreSQL, three orchestrators",
        };
        Self { database, seed: plan.seed, broken_for_s: broken_for.as_secs_f64(), ..Self::default() }
    }

    /// Something does not hold.
    pub fn problem(&mut self, problem: String) {
        self.problems.push(problem);
    }

    /// Whether everything holds.
    pub fn holds(&self) -> bool {
        self.problems.is_empty()
    }

    /// Processes killed and processes stopped.
    pub fn kills_and_pauses(&self) -> (u64, u64) {
        let sum = |kind: &str| self.faults.iter().filter(|(name, _)| name.starts_with(kind)).map(|(_, n)| n).sum();
        (sum("kill -9"), sum("pause"))
    }

    /// Takes over what `rush` reports.
    pub fn add_rush(&mut self, figures: &Value) {
        let count = |name: &str| figures[name].as_u64().unwrap_or_default();
        let again = |name: &str| Again {
            clicks: figures[name]["clicks"].as_u64().unwrap_or_default(),
            calls: figures[name]["calls"].as_u64().unwrap_or_default(),
        };
        self.clicks = count("clicks");
        self.clicks_without_outcome = count("clicks_without_outcome");
        self.answers_lost = again("answers_lost");
        self.rejected = again("turned_away");
        self.stall_longest_s = figures["stall_longest_ms"].as_f64().unwrap_or_default() / 1_000.0;
        self.latency_p50_ms = figures["latency_since_due_ms"]["p50"].as_f64().unwrap_or_default();
        self.latency_p99_ms = figures["latency_since_due_ms"]["p99"].as_f64().unwrap_or_default();
        let outcomes = figures["outcomes"].as_object().into_iter().flatten();
        self.outcomes =
            outcomes.map(|(outcome, count)| (outcome.clone(), count.as_u64().unwrap_or_default())).collect();
    }

    /// Takes over the audit. An audit that does not hold is a problem.
    pub fn add_audit(&mut self, audit: &Value) {
        for invariant in audit["invariants"].as_array().into_iter().flatten() {
            let title = invariant["title"].as_str().unwrap_or_default().to_owned();
            if invariant["holds"] != true {
                self.problem(format!("the invariant \"{title}\" is broken: {}", invariant["violations"]));
            }
            let count = |name: &str| invariant[name].as_u64().unwrap_or_default();
            self.audit.push(Invariant { title, checked: count("checked"), violations: count("violations_count") });
        }
        if audit["holds"] != true || self.audit.is_empty() {
            self.problem("the audit does not hold".to_owned());
        }
    }

    /// Takes over which processes ended without being killed. An end without a known reason is a problem.
    pub fn add_ended(&mut self, ended: &BTreeMap<String, u64>) {
        self.ended_by_themselves = ended.clone();
        for why in ended.keys().filter(|why| why.starts_with(UNEXPLAINED)) {
            self.problems.push(format!("a process ended by itself: {why}"));
        }
    }

    /// Takes over the findings in the logs. A panic is a problem.
    pub fn add_findings(&mut self, findings: Findings) {
        (self.kills, self.pauses) = self.kills_and_pauses();
        if findings.panics > 0 {
            self.problem(format!("{} panics, such as {}", findings.panics, findings.panics_shown.join("; ")));
        }
        self.findings = findings;
    }

    fn rows(&self) -> Vec<(String, String)> {
        let mut rows = vec![("database".to_owned(), self.database.to_owned())];
        let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
        row("seed", self.seed.to_string());
        row("broken for", format!("{:.0} s", self.broken_for_s));
        row("healed, finished and proved after", format!("{:.1} s", self.healed_after_s));
        row("kills", self.kills.to_string());
        row("pauses", self.pauses.to_string());
        for (fault, count) in &self.faults {
            row(&format!("  {fault}"), count.to_string());
        }
        row("processes that ended by themselves", self.ended_by_themselves.values().sum::<u64>().to_string());
        for (why, count) in &self.ended_by_themselves {
            row(&format!("  {why}"), count.to_string());
        }
        row("clicks", self.clicks.to_string());
        row("  without an outcome", self.clicks_without_outcome.to_string());
        let again = |again: &Again| format!("{} clicks, {} times", again.clicks, again.calls);
        row("  answer lost, sent again", again(&self.answers_lost));
        row("  rejected, sent again", again(&self.rejected));
        for (outcome, count) in &self.outcomes {
            row(&format!("  {outcome}"), count.to_string());
        }
        row("calls to services, made again", format!("at least {}", self.calls_failed.values().sum::<u64>()));
        for (service, count) in &self.calls_failed {
            row(&format!("  {service}"), count.to_string());
        }
        row("takeovers", self.findings.takeovers.to_string());
        row("  sagas adopted", self.findings.sagas_adopted.to_string());
        row("click to outcome, p50 and p99", format!("{:.0} ms, {:.0} ms", self.latency_p50_ms, self.latency_p99_ms));
        row("longest stall", format!("{:.1} s", self.stall_longest_s));
        for Invariant { title, checked, violations } in &self.audit {
            row(&format!("audit: {title}"), format!("{checked} facts, {violations} violations"));
        }
        rows
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(STYLE).set_header(["chaos", ""]);
        for (name, value) in self.rows() {
            table.add_row([name, value]);
        }
        writeln!(f, "{}\n", table.trim_fmt())?;
        for problem in &self.problems {
            writeln!(f, "! {problem}")?;
        }
        if let Some(folder) = &self.folder {
            writeln!(f, "! logs and databases are kept in {}", folder.display())?;
        }
        if self.holds() {
            write!(f, "Everything holds: every click has its outcome, every saga is finished, the audit is clean.")
        } else {
            write!(f, "NOT everything holds.")
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_broken_invariant_an_unexplained_end_and_a_panic_are_problems() {
        let mut report = Report::default();
        report.add_audit(&json!({"holds": true, "invariants": [{"title": "a", "holds": true, "checked": 3}]}));
        report.add_ended(&BTreeMap::from([("a start while PostgreSQL was away".to_owned(), 2)]));
        report.add_findings(Findings::default());
        assert!(report.holds(), "{report}");

        report.add_audit(&json!({"holds": false, "invariants": [{"title": "b", "holds": false, "violations": ["x"]}]}));
        report.add_ended(&BTreeMap::from([(format!("{UNEXPLAINED}: seats: what?"), 1)]));
        report.add_findings(Findings { panics: 1, ..Findings::default() });
        assert_eq!(report.problems.len(), 4, "{report}");

        let mut silent = Report::default();
        silent.add_audit(&Value::Null);
        assert!(!silent.holds(), "an audit that says nothing proves nothing");
    }

    #[test]
    fn kills_and_pauses_are_counted_over_their_kinds() {
        let faults = [("kill -9: a service", 3), ("kill -9: an orchestrator", 2), ("pause: a service", 1)];
        let faults = faults.map(|(name, count)| (name.to_owned(), count)).into();
        let report = Report { faults, ..Report::default() };
        assert_eq!(report.kills_and_pauses(), (5, 1));
    }
}
