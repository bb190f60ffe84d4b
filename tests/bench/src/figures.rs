//! The figures of one repeat, and the medians of several.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use crate::load::Played;
use crate::snapshot::{Batches, GENERATOR, Snapshot};

/// The figures of one repeat, or the median of each figure over several.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Figures {
    /// From the first click to the last outcome.
    pub seconds: f64,
    /// Registrations with an outcome.
    pub registrations: f64,
    /// The same, a second.
    pub registrations_per_s: f64,
    /// Click to outcome.
    pub p50_ms: f64,
    /// Click to outcome.
    pub p99_ms: f64,
    /// Click to outcome.
    pub p999_ms: f64,
    /// Clicks that repeat the key of an earlier one.
    pub repeated_clicks: f64,
    /// Calls that were rejected or failed, and were sent again.
    pub sent_again: f64,
    /// Clicks of the morning that were left when time was up.
    pub clicks_left: f64,
    /// Registrations by outcome.
    pub outcomes: BTreeMap<String, f64>,
    /// Refused registrations by reason; one may have several.
    pub reasons: BTreeMap<String, f64>,
    /// CPU a registration, by process, in microseconds. It includes the work after the outcome.
    pub cpu_us: BTreeMap<String, f64>,
    /// Commits a second, by writer.
    pub commits_per_s: BTreeMap<String, f64>,
    /// Operations a commit, by writer.
    pub commit_operations: BTreeMap<String, f64>,
    /// Milliseconds a commit, with the statements before it, by writer.
    pub commit_ms: BTreeMap<String, f64>,
    /// RPCs a second to each service.
    pub calls_per_s: BTreeMap<String, f64>,
    /// Operations an RPC to each service.
    pub call_operations: BTreeMap<String, f64>,
    /// Milliseconds an RPC to each service.
    pub call_ms: BTreeMap<String, f64>,
}

type Counts = BTreeMap<String, f64>;

impl Figures {
    /// The figures of one repeat, from the snapshots before and after it.
    pub(crate) fn of(played: &Played, before: &Snapshot, after: &Snapshot) -> Self {
        let seconds = played.took.as_secs_f64();
        let registrations = played.registrations as f64;
        let at = |quantile| played.latency_us.value_at_quantile(quantile) as f64 / 1_000.0;
        let spent = |process: &str, until: Duration| {
            let spent = until.saturating_sub(before.cpu.get(process).copied().unwrap_or_default());
            spent.as_secs_f64() * 1e6 / registrations
        };
        let commits = since(&before.commits, &after.commits);
        let calls = since(&before.calls, &after.calls);
        Self {
            seconds,
            registrations,
            registrations_per_s: registrations / seconds,
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            repeated_clicks: played.repeated as f64,
            sent_again: played.sent_again as f64,
            clicks_left: played.left as f64,
            outcomes: counts(&played.outcomes),
            reasons: counts(&played.reasons),
            cpu_us: after.cpu.iter().map(|(process, until)| (process.clone(), spent(process, *until))).collect(),
            commits_per_s: per(&commits, |batches| batches.count / seconds),
            commit_operations: per(&commits, |batches| batches.operations / batches.count),
            commit_ms: per(&commits, |batches| batches.seconds * 1_000.0 / batches.count),
            calls_per_s: per(&calls, |batches| batches.count / seconds),
            call_operations: per(&calls, |batches| batches.operations / batches.count),
            call_ms: per(&calls, |batches| batches.seconds * 1_000.0 / batches.count),
        }
    }

    /// CPU a registration of all processes except the load generator, in microseconds.
    pub(crate) fn cpu_of_system_us(&self) -> f64 {
        self.cpu_us.iter().filter(|(process, _)| *process != GENERATOR).map(|(_, cpu_us)| cpu_us).sum()
    }

    /// The median of each figure.
    pub fn median(all: &[Self]) -> Self {
        let number = |field: fn(&Self) -> f64| median(all.iter().map(field).collect());
        let counts = |field: fn(&Self) -> &Counts| -> Counts {
            let names: BTreeSet<&String> = all.iter().flat_map(|figures| field(figures).keys()).collect();
            let of = |name: &String| -> Vec<f64> {
                all.iter().map(|figures| field(figures).get(name).copied().unwrap_or_default()).collect()
            };
            names.into_iter().map(|name| (name.clone(), median(of(name)))).collect()
        };
        Self {
            seconds: number(|figures| figures.seconds),
            registrations: number(|figures| figures.registrations),
            registrations_per_s: number(|figures| figures.registrations_per_s),
            p50_ms: number(|figures| figures.p50_ms),
            p99_ms: number(|figures| figures.p99_ms),
            p999_ms: number(|figures| figures.p999_ms),
            repeated_clicks: number(|figures| figures.repeated_clicks),
            sent_again: number(|figures| figures.sent_again),
            clicks_left: number(|figures| figures.clicks_left),
            outcomes: counts(|figures| &figures.outcomes),
            reasons: counts(|figures| &figures.reasons),
            cpu_us: counts(|figures| &figures.cpu_us),
            commits_per_s: counts(|figures| &figures.commits_per_s),
            commit_operations: counts(|figures| &figures.commit_operations),
            commit_ms: counts(|figures| &figures.commit_ms),
            calls_per_s: counts(|figures| &figures.calls_per_s),
            call_operations: counts(|figures| &figures.call_operations),
            call_ms: counts(|figures| &figures.call_ms),
        }
    }
}

/// The middle value, or the mean of the two in the middle; 0 if there is none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => 0.0,
        (length, middle) if length % 2 == 1 => values[middle],
        (_, middle) => f64::midpoint(values[middle - 1], values[middle]),
    }
}

fn counts(counts: &BTreeMap<String, u64>) -> Counts {
    counts.iter().map(|(name, count)| (name.clone(), *count as f64)).collect()
}

fn since(before: &BTreeMap<String, Batches>, after: &BTreeMap<String, Batches>) -> BTreeMap<String, Batches> {
    let between = after.iter().map(|(name, until)| {
        let from = before.get(name).copied().unwrap_or_default();
        let count = until.count - from.count;
        let (operations, seconds) = (until.operations - from.operations, until.seconds - from.seconds);
        (name.clone(), Batches { count, operations, seconds })
    });
    between.filter(|(_, batches)| batches.count > 0.0).collect()
}

fn per(batches: &BTreeMap<String, Batches>, figure: impl Fn(&Batches) -> f64) -> Counts {
    batches.iter().map(|(name, batches)| (name.clone(), figure(batches))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_the_middle() {
        for (values, middle) in [(vec![], 0.0), (vec![3.0, 1.0, 2.0], 2.0), (vec![4.0, 1.0, 2.0, 3.0], 2.5)] {
            assert_eq!(median(values.clone()), middle, "{values:?}");
        }
    }

    #[test]
    fn counts_before_a_repeat_are_left_out() {
        let batches = |count, operations| {
            BTreeMap::from([("seats".to_owned(), Batches { count, operations, seconds: count / 10.0 })])
        };
        let between = since(&batches(10.0, 100.0), &batches(15.0, 400.0));
        assert_eq!(between["seats"], Batches { count: 5.0, operations: 300.0, seconds: 0.5 });
        assert!(since(&batches(10.0, 100.0), &batches(10.0, 100.0)).is_empty());
    }
}
