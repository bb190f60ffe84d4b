//! Bounds of an orchestrator, each with the reason for its number.

use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

/// The default of `in_flight_max`: sagas at work for each processor of this machine, with a lower and an upper bound.
/// On two processors, four times as many decide at most 10 % more a second. Commits of the log then take longer: the
/// first answer of a rush comes after 0.2 s (p99) instead of 0.07 (ADR 0009).
const IN_FLIGHT_OF_PROCESSOR: usize = 128;
const IN_FLIGHT_LEAST: usize = 256;
const IN_FLIGHT_MOST: usize = 1_024;

/// Bounds of an orchestrator: the settings of its runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CoreConfig {
    /// Registrations that wait in line. When it is reached, submissions are rejected with a time to come back. 200,000
    /// are more than twice what 16,000 students submit in their busiest minute.
    pub admission_queue_max: usize,
    /// Longest time that an accepted registration should wait for its turn, in milliseconds, at the last known rate of
    /// turns. A rejected student comes back later and may be overtaken, so the bound is far above what a rush needs: in
    /// 120 s two processors decide what 16,000 students submit in a minute.
    pub admission_wait_max_ms: u64,
    /// Registrations without an outcome that one student may have at a time, at all instances: one cart.
    pub subject_open_max: usize,
    /// Submissions of one student a second. No person clicks 20 times a second, and a program gains nothing by
    /// submitting faster.
    pub subject_per_second_max: u32,
    /// Submissions of one student that may come at once after a quiet time. 100 are five full carts.
    pub subject_burst_max: u32,
    /// Unfinished sagas, including those whose outcome is decided. A service that only the steps after the outcome need
    /// may be away for hours. At this bound submissions are rejected, before memory runs out: 200,000 are about 1 GB.
    pub sagas_in_memory_max: usize,
    /// Sagas at work at the same time; the rest wait in order of arrival. The default is 128 for each processor, from
    /// 256 to 1,024. More make each saga slower. They decide more a second only where a service is slow and takes large
    /// batches.
    pub in_flight_max: usize,
    /// Sagas that wait for a service that is away and hold no slot, so that registrations which don't need the service
    /// go on. At this bound sagas keep their slots. 10,000 arrive in a few seconds of a rush.
    pub parked_max: usize,
    /// Calls that one RPC carries at most; the participants' bound is 1,000.
    pub call_batch_max: usize,
    /// RPCs to one destination at the same time. Few, so that calls gather into large batches meanwhile.
    pub destination_in_flight_max: usize,
    /// Timeout of a call in milliseconds. The result of a call that timed out is unknown.
    pub call_timeout_ms: u64,
    /// RPCs in a row that must fail before a destination's breaker opens.
    pub breaker_failures: u32,
    /// Time until an open breaker lets a probe through, in milliseconds; doubles up to `breaker_open_max_ms`.
    pub breaker_open_ms: u64,
    /// Longest time between probes, in milliseconds.
    pub breaker_open_max_ms: u64,
    /// Time without a successful call after which a service needs attention, in milliseconds. It starts with the first
    /// call that failed or has no answer. A restart takes a few seconds, and no person has to look at it.
    pub destination_attention_after_ms: u64,
    /// Duration of a lease in milliseconds; an instance renews it after a third of that. When a lease has lapsed,
    /// another instance adopts the sagas, well within the 10 s that a takeover may take.
    pub lease_ttl_ms: i64,
    /// Sagas adopted in one transaction.
    pub adoption_chunk: usize,
}

impl Default for CoreConfig {
    fn default() -> Self {
        Self::for_processors(1)
    }
}

impl CoreConfig {
    /// The default bounds on a machine with this many processors.
    pub fn for_processors(processors: usize) -> Self {
        let in_flight_max = processors.saturating_mul(IN_FLIGHT_OF_PROCESSOR);
        Self {
            admission_queue_max: 200_000,
            admission_wait_max_ms: 900_000,
            subject_open_max: 20,
            subject_per_second_max: 20,
            subject_burst_max: 100,
            sagas_in_memory_max: 200_000,
            in_flight_max: in_flight_max.clamp(IN_FLIGHT_LEAST, IN_FLIGHT_MOST),
            parked_max: 10_000,
            call_batch_max: 500,
            destination_in_flight_max: 3,
            call_timeout_ms: 5_000,
            breaker_failures: 5,
            breaker_open_ms: 250,
            breaker_open_max_ms: 5_000,
            destination_attention_after_ms: 15_000,
            lease_ttl_ms: 6_000,
            adoption_chunk: 500,
        }
    }

    /// The settings that are out of bounds, as (setting, problem).
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        within(&mut problems, "admission_queue_max", self.admission_queue_max, 1..=1_000_000);
        within(&mut problems, "admission_wait_max_ms", self.admission_wait_max_ms, 10..=3_600_000);
        within(&mut problems, "subject_open_max", self.subject_open_max, 1..=1_000_000);
        within(&mut problems, "subject_per_second_max", self.subject_per_second_max, 1..=1_000_000);
        within(&mut problems, "subject_burst_max", self.subject_burst_max, 1..=1_000_000);
        within(&mut problems, "sagas_in_memory_max", self.sagas_in_memory_max, 1..=10_000_000);
        within(&mut problems, "in_flight_max", self.in_flight_max, 1..=100_000);
        within(&mut problems, "parked_max", self.parked_max, 0..=1_000_000);
        within(&mut problems, "call_batch_max", self.call_batch_max, 1..=1_000);
        within(&mut problems, "destination_in_flight_max", self.destination_in_flight_max, 1..=1_000);
        within(&mut problems, "call_timeout_ms", self.call_timeout_ms, 10..=60_000);
        within(&mut problems, "breaker_failures", self.breaker_failures, 1..=1_000);
        within(&mut problems, "breaker_open_ms", self.breaker_open_ms, 1..=60_000);
        if !(self.breaker_open_ms..=600_000).contains(&self.breaker_open_max_ms) {
            problems.push(("breaker_open_max_ms", "must be breaker_open_ms to 600000".to_owned()));
        }
        within(&mut problems, "destination_attention_after_ms", self.destination_attention_after_ms, 100..=3_600_000);
        within(&mut problems, "lease_ttl_ms", self.lease_ttl_ms, 500..=60_000);
        within(&mut problems, "adoption_chunk", self.adoption_chunk, 1..=10_000);
        problems
    }
}

/// Adds a problem if the setting is out of its bounds.
fn within<T: PartialOrd + fmt::Display>(
    problems: &mut Vec<(&'static str, String)>,
    setting: &'static str,
    value: T,
    bounds: RangeInclusive<T>,
) {
    if !bounds.contains(&value) {
        problems.push((setting, format!("must be {} to {}", bounds.start(), bounds.end())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_processors_have_few_sagas_at_work() {
        let in_flight_of = |processors| CoreConfig::for_processors(processors).in_flight_max;
        assert_eq!([1, 2, 3, 8, 9, usize::MAX].map(in_flight_of), [256, 256, 384, 1_024, 1_024, 1_024]);
        assert_eq!(CoreConfig::default().problems(), []);
    }
}
