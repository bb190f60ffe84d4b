//! The report of a rush, for a registrar and for programs. Every number has its unit.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::order::{Order, Overtaken};
use super::play::OUTSTANDING_MAX;
use super::tally::{Latency, Repeats, Tally, Troubled};
use super::waits::Ratios;
use crate::commands::audit;
use crate::output::grouped;

/// Calls that a server processes at once on one connection; further calls wait inside the client.
const CALLS_PER_CONNECTION: u64 = 1_024;

/// The settings of the rush.
#[derive(Debug, Clone, Serialize)]
pub struct Setting {
    /// The bundle.
    pub dir: PathBuf,
    /// How many times as fast as in the file.
    pub speed: f64,
    /// Number of connections to the orchestrators.
    pub connections: usize,
}

/// The whole result.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    #[serde(flatten)]
    setting: Setting,
    clicks_planned: u64,
    clicks: u64,
    clicks_without_outcome: u64,
    errors: BTreeMap<String, u64>,
    registrations: u64,
    outcomes: BTreeMap<&'static str, u64>,
    refusals: BTreeMap<&'static str, u64>,
    repeated_keys: Repeats,
    turned_away: Troubled,
    answers_lost: Troubled,
    latency_since_due_ms: Percentiles,
    latency_since_sent_ms: Percentiles,
    #[serde(flatten)]
    first_answers: Option<FirstAnswersMs>,
    #[serde(flatten)]
    acceptance: Option<Acceptance>,
    first_come_first_served: Order,
    active_s: f64,
    registrations_per_s: f64,
    registrations_in_busiest_s: u64,
    stall_longest_ms: f64,
    generator_lateness_ms: Percentiles,
    clicks_held_back: u64,
    clicks_outstanding_max: u64,
    sagas_unfinished_at_audit: bool,
    audit_holds: bool,
    audit: serde_json::Value,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct FirstAnswersMs {
    first_answer_ms: Percentiles,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_answer_accepted_ms: Option<Percentiles>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_answer_come_back_ms: Option<Percentiles>,
}

/// The measurements of `--acknowledge`: acceptance and the waiting line.
#[derive(Debug, Clone, Copy, Serialize)]
struct Acceptance {
    /// From the time when the click was due to its acknowledgement.
    acceptance_since_due_ms: Percentiles,
    acceptance_to_outcome_ms: Percentiles,
    longest_line: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    given_waits_to_real: Option<GivenWaits>,
    #[serde(skip_serializing_if = "Option::is_none")]
    given_waits_to_real_at_acceptance: Option<GivenWaits>,
}

/// Wait estimates divided by the actual waits.
#[derive(Debug, Clone, Copy, Serialize)]
struct GivenWaits {
    count: u64,
    p10: f64,
    p50: f64,
    p90: f64,
}

impl GivenWaits {
    fn of_any(ratios: &Ratios) -> Option<Self> {
        let [p10, p50, p90] = [10.0, 50.0, 90.0].map(|percent| ratios.percentile(percent));
        (ratios.count > 0).then_some(Self { count: ratios.count, p10, p50, p90 })
    }
}

impl Acceptance {
    fn of(tally: &Tally) -> Option<Self> {
        let waits = tally.waits.as_ref()?;
        Some(Self {
            acceptance_since_due_ms: (&tally.acceptance).into(),
            acceptance_to_outcome_ms: (&tally.accepted_to_outcome).into(),
            longest_line: waits.longest_line,
            given_waits_to_real: GivenWaits::of_any(&waits.later),
            given_waits_to_real_at_acceptance: GivenWaits::of_any(&waits.at_acceptance),
        })
    }
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Percentiles {
    p50: f64,
    p90: f64,
    p99: f64,
    p99_9: f64,
    max: f64,
}

impl From<&Latency> for Percentiles {
    fn from(latency: &Latency) -> Self {
        Self {
            p50: latency.percentile_ms(50.0),
            p90: latency.percentile_ms(90.0),
            p99: latency.percentile_ms(99.0),
            p99_9: latency.percentile_ms(99.9),
            max: latency.max_ms(),
        }
    }
}

impl Percentiles {
    /// `None` without samples: zeros would look like a measurement.
    fn of_any(latency: &Latency) -> Option<Self> {
        (!latency.is_empty()).then(|| latency.into())
    }
}

impl Report {
    /// Combines the counts and the result of the audit.
    pub fn new(
        setting: Setting,
        tally: &Tally,
        order: Order,
        (unfinished, proof): (bool, &matricula_audit::Report),
    ) -> Self {
        let active_s = tally.active.map_or(0.0, |(first, last)| last.saturating_sub(first).as_secs_f64());
        let registrations = tally.registrations();
        Self {
            setting,
            clicks_planned: tally.planned,
            clicks: tally.clicks,
            clicks_without_outcome: tally.without_outcome(),
            errors: tally.errors.clone(),
            registrations,
            outcomes: tally.outcomes.clone(),
            refusals: tally.refusals.clone(),
            repeated_keys: tally.repeats.clone(),
            turned_away: tally.rejected,
            answers_lost: tally.lost,
            latency_since_due_ms: (&tally.since_due).into(),
            latency_since_sent_ms: (&tally.since_sent).into(),
            first_answers: tally.first_answers.as_ref().map(|of| FirstAnswersMs {
                first_answer_ms: (&of.all).into(),
                first_answer_accepted_ms: Percentiles::of_any(&of.accepted),
                first_answer_come_back_ms: Percentiles::of_any(&of.retry_later),
            }),
            acceptance: Acceptance::of(tally),
            first_come_first_served: order,
            active_s,
            registrations_per_s: if active_s > 0.0 { registrations as f64 / active_s } else { 0.0 },
            registrations_in_busiest_s: tally.decided_per_s.iter().copied().max().unwrap_or_default(),
            stall_longest_ms: tally.stall_longest.as_secs_f64() * 1_000.0,
            generator_lateness_ms: (&tally.lateness).into(),
            clicks_held_back: tally.held_back,
            clicks_outstanding_max: tally.outstanding_max,
            sagas_unfinished_at_audit: unfinished,
            audit_holds: proof.holds(),
            audit: audit::to_json(proof),
        }
    }

    /// Whether every click has its outcome, every repeated key its one answer, and every invariant holds.
    pub fn is_clean(&self) -> bool {
        self.clicks_without_outcome == 0 && self.repeated_keys.different == 0 && self.audit_holds
    }

    /// The result in a sentence.
    pub fn verdict(&self) -> &'static str {
        if self.is_clean() {
            "Clean: every click has its outcome, every repeated key its one answer, and every invariant holds."
        } else {
            "NOT clean: a click has no outcome, a repeated key got a different answer, or an invariant is broken; see above."
        }
    }

    fn fmt_outcomes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nOutcomes of {} registrations", grouped(self.registrations))?;
        for (outcome, count) in &self.outcomes {
            writeln!(f, "  {outcome:<28} {:>10}  {:>5.1} %", grouped(*count), percent(*count, self.registrations))?;
        }
        if !self.refusals.is_empty() {
            writeln!(f, "\nRefused registrations by reason (one may have several)")?;
        }
        for (reason, count) in by_count(&self.refusals) {
            writeln!(f, "  {reason:<28} {:>10}  {:>5.1} %", grouped(count), percent(count, self.registrations))?;
        }
        Ok(())
    }

    fn fmt_clicks(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nClicks")?;
        let mut line = |what: &str, count: u64, more: String| writeln!(f, "  {what:<28} {:>10}{more}", grouped(count));
        let times = |troubled: &Troubled| match troubled.clicks {
            0 => String::new(),
            _ => format!("  {} times; {} got an outcome", grouped(troubled.calls), grouped(troubled.decided)),
        };
        line("sent", self.clicks, String::new())?;
        line("without an outcome", self.clicks_without_outcome, String::new())?;
        line("repeated, same answer", self.repeated_keys.same, String::new())?;
        line("repeated, different answer", self.repeated_keys.different, String::new())?;
        line("rejected, sent again", self.turned_away.clicks, times(&self.turned_away))?;
        line("answer lost, sent again", self.answers_lost.clicks, times(&self.answers_lost))?;
        for (error, count) in by_count(&self.errors) {
            writeln!(f, "  ! {} without an outcome: {error}", grouped(count))?;
        }
        for difference in &self.repeated_keys.differences {
            writeln!(f, "  ! {difference}")?;
        }
        Ok(())
    }

    fn fmt_order(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = &self.first_come_first_served;
        writeln!(f, "\nFirst come, first served")?;
        let mut line = |what: &str, count: u64, more: &str| writeln!(f, "  {what:<28} {:>10}{more}", grouped(count));
        line("refused, section full", order.refused_closed_section, "")?;
        let longest = match order.overtaken {
            0 => String::new(),
            _ => format!("  longest: {:.1} ms after the acknowledgement", order.overtaken_longest_ms),
        };
        line("of these overtaken", order.overtaken, &longest)?;
        let excuse = "  an earlier registration of the student was not settled";
        line("overtaken, but excused", order.overtaken_excused, excuse)?;
        line(
            "overtaken by clicks alone",
            order.overtaken_by_clicks,
            "  a click at least 0.2 s later was enrolled in the section",
        )?;
        if order.submitted_before > 0 {
            line("not judged", order.submitted_before, "  submitted before the rush began")?;
        }
        for one in &order.overtaken_examples {
            let Overtaken { student_id, section_id, refused_at_version, by_student_id, granted_at_version, .. } = one;
            let Overtaken { sent_ms, acknowledged_ms, by_sent_ms, .. } = one;
            writeln!(
                f,
                "  ! section {section_id}: {by_student_id}, sent at {by_sent_ms:.1} ms, got a seat (version \
                 {granted_at_version}); {student_id}, sent at {sent_ms:.1} ms and acknowledged at \
                 {acknowledged_ms:.1} ms, got none (version {refused_at_version})"
            )?;
        }
        if !order.acknowledged_is_measured && order.refused_closed_section > 0 {
            writeln!(
                f,
                "  (acknowledgements are taken from the server's submission times; --acknowledge measures them)"
            )?;
        }
        Ok(())
    }

    fn fmt_waits(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(acceptance) = &self.acceptance else { return Ok(()) };
        let longest_s = acceptance.acceptance_to_outcome_ms.max / 1_000.0;
        let line = grouped(u64::try_from(acceptance.longest_line).unwrap_or_default());
        writeln!(f, "\nLongest line: {line}; longest wait from acceptance to outcome: {longest_s:.1} s")?;
        let later = ("sampled each second", acceptance.given_waits_to_real);
        let first = ("at acceptance", acceptance.given_waits_to_real_at_acceptance);
        if later.1.or(first.1).is_some() {
            writeln!(
                f,
                "\n{:<30} {:>9} {:>9} {:>9} {:>9}",
                "Wait estimates / actual waits", "count", "p10", "p50", "p90"
            )?;
        }
        for (what, waits) in [later, first] {
            let Some(GivenWaits { count, p10, p50, p90 }) = waits else { continue };
            writeln!(f, "  {what:<28} {:>9} {p10:>9.2} {p50:>9.2} {p90:>9.2}", grouped(count))?;
        }
        Ok(())
    }

    fn fmt_speed(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{:<30} {:>9} {:>9} {:>9} {:>9} {:>9}", "Milliseconds", "p50", "p90", "p99", "p99.9", "max")?;
        let first_answers = self.first_answers.iter().flat_map(|of| {
            let all = Some(("  click to first answer", &of.first_answer_ms));
            let accepted = of.first_answer_accepted_ms.as_ref().map(|at| ("    accepted", at));
            let retry_later = of.first_answer_come_back_ms.as_ref().map(|at| ("    rejected, retry later", at));
            [all, accepted, retry_later].into_iter().flatten()
        });
        let latencies = [
            ("  click to outcome, since due", &self.latency_since_due_ms),
            ("  click to outcome, since sent", &self.latency_since_sent_ms),
            ("  sent later than due", &self.generator_lateness_ms),
        ];
        let acceptance = self.acceptance.iter().flat_map(|of| {
            let accepted = ("  due to acceptance", &of.acceptance_since_due_ms);
            [accepted, ("  acceptance to outcome", &of.acceptance_to_outcome_ms)]
        });
        for (what, at) in latencies.into_iter().chain(first_answers).chain(acceptance) {
            let Percentiles { p50, p90, p99, p99_9, max } = at;
            writeln!(f, "{what:<30} {p50:>9.1} {p90:>9.1} {p99:>9.1} {p99_9:>9.1} {max:>9.1}")?;
        }
        writeln!(
            f,
            "\n{:.0} registrations/s decided over {:.1} s, {} in the busiest second; at most {} clicks outstanding;\n\
             longest time with outstanding clicks and no outcome: {:.1} s",
            self.registrations_per_s,
            self.active_s,
            grouped(self.registrations_in_busiest_s),
            grouped(self.clicks_outstanding_max),
            self.stall_longest_ms / 1_000.0,
        )
    }

    /// Circumstances that weaken the measurements.
    fn fmt_caveats(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.clicks < self.clicks_planned {
            let (sent, planned) = (grouped(self.clicks), grouped(self.clicks_planned));
            writeln!(f, "! interrupted: {sent} of {planned} clicks were sent")?;
        }
        if self.clicks_held_back > 0 {
            let (held_back, cap) = (grouped(self.clicks_held_back), grouped(OUTSTANDING_MAX as u64));
            writeln!(
                f,
                "! {held_back} clicks were sent late because {cap} were outstanding: the load was not fully open"
            )?;
        }
        let places = self.setting.connections as u64 * CALLS_PER_CONNECTION;
        if self.clicks_outstanding_max > places {
            let places = grouped(places);
            writeln!(
                f,
                "! more than {places} clicks outstanding: calls may have waited in the client; raise --connections"
            )?;
        }
        if self.sagas_unfinished_at_audit {
            writeln!(
                f,
                "! some sagas were unfinished at the audit; list them with `matricula saga list --unfinished`"
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Setting { dir, speed, connections } = &self.setting;
        let dir = dir.display();
        writeln!(f, "Rush of {dir}, {speed} times as fast as the morning, {connections} connections")?;
        self.fmt_outcomes(f)?;
        self.fmt_clicks(f)?;
        self.fmt_order(f)?;
        self.fmt_speed(f)?;
        self.fmt_waits(f)?;
        self.fmt_caveats(f)
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// The most frequent first.
fn by_count<K: Ord + Clone>(counts: &BTreeMap<K, u64>) -> Vec<(K, u64)> {
    let mut sorted: Vec<(K, u64)> = counts.iter().map(|(name, count)| (name.clone(), *count)).collect();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    sorted
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::commands::rush::order;
    use crate::commands::rush::tally::tests::{answered, decided, lost, sent};
    use crate::commands::rush::tally::{AnswerKind, Answered, FirstAnswer};
    use crate::commands::rush::waits::Waits;
    use matricula_proto::registration::v1::{Outcome, Registration};

    fn report(tally: &Tally, connections: usize) -> Report {
        let setting = Setting { dir: PathBuf::from("campus"), speed: 60.0, connections };
        let proof = matricula_audit::audit(&matricula_audit::Ledgers::default());
        let order = order::judge(tally.played.clone(), &[], tally.started_at);
        Report::new(setting, tally, order, (false, &proof))
    }

    #[test]
    fn a_kind_of_first_answer_that_never_came_has_no_figures() {
        let mut tally = Tally::default();
        let click = answered("k", 0, decided("r", Outcome::Enrolled));
        let first_answer = FirstAnswer { at: click.sent + Duration::from_millis(2), kind: AnswerKind::Accepted };
        tally.add(Answered { first_answer: Some(first_answer), ..click });
        let shown = report(&tally, 8).to_string();
        assert!(shown.contains("  accepted") && !shown.contains("rejected, retry later"), "{shown}");
    }

    #[test]
    fn acceptance_and_waits_are_shown() {
        let mut tally = Tally::default();
        let waits = Waits::default();
        for (number, given_s) in [(0, 2), (1, 3)] {
            let click = answered(&format!("k{number}"), 0, decided(&format!("r{number}"), Outcome::Enrolled));
            let acknowledged = click.sent + Duration::from_millis(2);
            let accepted = Registration {
                place_in_line: Some(1_700),
                expected_wait: Duration::from_secs(given_s).try_into().ok(),
                ..Registration::default()
            };
            waits.accepted(number, &accepted, None, acknowledged);
            let ended = acknowledged + Duration::from_secs(2);
            waits.ended(number, true, ended);
            tally.add(Answered { acknowledged: Some(acknowledged), ended, ..click });
        }
        tally.waits = Some(waits.close());
        let report = report(&tally, 8);
        let shown = report.to_string();
        let from = shown.find("Milliseconds").expect("times are shown");
        insta::assert_snapshot!(&shown[from..], @"
        Milliseconds                         p50       p90       p99     p99.9       max
          click to outcome, since due     2004.0    2004.0    2004.0    2004.0    2004.0
          click to outcome, since sent    2002.9    2002.9    2002.9    2002.9    2002.9
          sent later than due                1.0       1.0       1.0       1.0       1.0
          due to acceptance                  3.0       3.0       3.0       3.0       3.0
          acceptance to outcome           2000.9    2000.9    2000.9    2000.9    2000.9

        1 registrations/s decided over 2.0 s, 2 in the busiest second; at most 0 clicks outstanding;
        longest time with outstanding clicks and no outcome: 0.0 s

        Longest line: 1,700; longest wait from acceptance to outcome: 2.0 s

        Wait estimates / actual waits      count       p10       p50       p90
          at acceptance                        2      1.00      1.00      1.50
        ");
        let json = serde_json::to_value(report).expect("JSON");
        assert_eq!(json["longest_line"], 1_700);
        assert_eq!(json["given_waits_to_real_at_acceptance"]["p90"], 1.5);
    }

    #[test]
    fn overtaken_registrations_are_shown() {
        let overtaken = Overtaken {
            student_id: "S1".to_owned(),
            key: "k1".to_owned(),
            section_id: "C001-L1".to_owned(),
            sent_ms: 10.0,
            acknowledged_ms: 12.5,
            refused_at_version: 31,
            by_student_id: "S2".to_owned(),
            by_key: "k2".to_owned(),
            by_sent_ms: 1_012.5,
            granted_at_version: 30,
            overtaken_by_ms: 1_000.0,
        };
        let order = Order {
            acknowledged_is_measured: true,
            refused_closed_section: 9,
            overtaken: 1,
            overtaken_excused: 2,
            overtaken_longest_ms: 1_000.0,
            overtaken_examples: vec![overtaken],
            overtaken_by_clicks: 3,
            submitted_before: 4,
        };
        let report = Report { first_come_first_served: order, ..report(&Tally::default(), 8) }.to_string();
        let (_, order) = report.split_once("\n\nFirst come, first served\n").expect("the order is shown");
        let (order, _) = order.split_once("\n\n").expect("more follows");
        insta::assert_snapshot!(order, @"
          refused, section full                 9
          of these overtaken                    1  longest: 1000.0 ms after the acknowledgement
          overtaken, but excused                2  an earlier registration of the student was not settled
          overtaken by clicks alone             3  a click at least 0.2 s later was enrolled in the section
          not judged                            4  submitted before the rush began
          ! section C001-L1: S2, sent at 1012.5 ms, got a seat (version 30); S1, sent at 10.0 ms and acknowledged at 12.5 ms, got none (version 31)
        ");
    }

    #[test]
    fn a_clean_rush_is_shown() {
        let mut tally = Tally::default();
        for click in 0..1_000_u64 {
            let outcome = if click % 4 == 0 { Outcome::Refused } else { Outcome::Enrolled };
            tally.add(answered(&format!("k{click}"), click, decided(&format!("r{click}"), outcome)));
        }
        tally.add(answered("k1", 1_001, decided("r1", Outcome::Enrolled)));
        tally.close(&sent(1_001));
        let report = report(&tally, 8);
        assert!(report.is_clean());
        insta::assert_snapshot!(report, @"
        Rush of campus, 60 times as fast as the morning, 8 connections

        Outcomes of 1,000 registrations
          ENROLLED                            750   75.0 %
          REFUSED                             250   25.0 %

        Refused registrations by reason (one may have several)
          CLOSED_SECTION                      250   25.0 %
          HOLD                                250   25.0 %

        Clicks
          sent                              1,001
          without an outcome                    0
          repeated, same answer                 1
          repeated, different answer            0
          rejected, sent again                  0
          answer lost, sent again               0

        First come, first served
          refused, section full               250
          of these overtaken                    0
          overtaken, but excused                0  an earlier registration of the student was not settled
          overtaken by clicks alone             0  a click at least 0.2 s later was enrolled in the section
          (acknowledgements are taken from the server's submission times; --acknowledge measures them)

        Milliseconds                         p50       p90       p99     p99.9       max
          click to outcome, since due       11.0      11.0      11.0      11.0      11.0
          click to outcome, since sent      10.0      10.0      10.0      10.0      10.0
          sent later than due                1.0       1.0       1.0       1.0       1.0

        989 registrations/s decided over 1.0 s, 989 in the busiest second; at most 1 clicks outstanding;
        longest time with outstanding clicks and no outcome: 0.0 s
        ");
    }

    #[test]
    fn every_problem_is_shown() {
        let mut tally = Tally::default();
        tally.add(answered("k1", 0, decided("r1", Outcome::Enrolled)));
        tally.add(answered("k1", 10, decided("r2", Outcome::Enrolled)));
        tally.add(answered("k2", 20, lost("given up after 300 s: Unavailable: connection refused")));
        let sent = sent(4);
        sent.held_back();
        tally.close(&sent);
        tally.outstanding_max = 2_000;
        tally.stall_longest = std::time::Duration::from_millis(7_300);
        tally.planned = 5;
        let report = report(&tally, 1);
        assert!(!report.is_clean());
        insta::assert_snapshot!(report, @"
        Rush of campus, 60 times as fast as the morning, 1 connections

        Outcomes of 1 registrations
          ENROLLED                              1  100.0 %

        Clicks
          sent                                  4
          without an outcome                    2
          repeated, same answer                 0
          repeated, different answer            1
          rejected, sent again                  1  2 times; 0 got an outcome
          answer lost, sent again               1  1 times; 0 got an outcome
          ! 1 without an outcome: given up after 300 s: Unavailable: connection refused
          ! student S1, key k1: first r1 ENROLLED, then r2 ENROLLED

        First come, first served
          refused, section full                 0
          of these overtaken                    0
          overtaken, but excused                0  an earlier registration of the student was not settled
          overtaken by clicks alone             0  a click at least 0.2 s later was enrolled in the section

        Milliseconds                         p50       p90       p99     p99.9       max
          click to outcome, since due       11.0      11.0      11.0      11.0      11.0
          click to outcome, since sent      10.0      10.0      10.0      10.0      10.0
          sent later than due                1.0       1.0       1.0       1.0       1.0

        33 registrations/s decided over 0.0 s, 1 in the busiest second; at most 2,000 clicks outstanding;
        longest time with outstanding clicks and no outcome: 7.3 s
        ! interrupted: 4 of 5 clicks were sent
        ! 1 clicks were sent late because 200,000 were outstanding: the load was not fully open
        ! more than 1,024 clicks outstanding: calls may have waited in the client; raise --connections
        ");
    }

    #[test]
    fn programs_get_units_in_the_names() {
        let mut tally = Tally::default();
        tally.add(answered("k1", 0, decided("r1", Outcome::Enrolled)));
        tally.close(&sent(1));
        let json = serde_json::to_value(report(&tally, 1)).expect("JSON");
        let names: Vec<&String> = json.as_object().expect("an object").keys().collect();
        insta::assert_snapshot!(format!("{names:?}"), @r#"["active_s", "answers_lost", "audit", "audit_holds", "clicks", "clicks_held_back", "clicks_outstanding_max", "clicks_planned", "clicks_without_outcome", "connections", "dir", "errors", "first_come_first_served", "generator_lateness_ms", "latency_since_due_ms", "latency_since_sent_ms", "outcomes", "refusals", "registrations", "registrations_in_busiest_s", "registrations_per_s", "repeated_keys", "sagas_unfinished_at_audit", "speed", "stall_longest_ms", "turned_away"]"#);
    }
}
