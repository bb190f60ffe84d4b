//! Bounds of an orchestrator, each with the reason for its number.

use serde::{Deserialize, Serialize};

/// Sagas at work for each processor of this machine, and how many there are at least and at most, where the setting
/// does not say otherwise. On two processors four times as many decide at most a tenth more a second, and commits of
/// the log take longer, so that the first answer of a rush comes after 0.2 s (p99) instead of 0.07 (ADR 0009).
const IN_FLIGHT_OF_PROCESSOR: usize = 128;
const IN_FLIGHT_LEAST: usize = 256;
const IN_FLIGHT_MOST: usize = 1_024;

/// Bounds of an orchestrator: the settings of its runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CoreConfig {
    /// Registrations that wait in line. Beyond it submissions are rejected with a time to come back. 200,000 are more
    /// than twice what 16,000 students click in their busiest minute.
    pub admission_queue_max: usize,
    /// Longest time that an accepted registration should wait for its turn, in milliseconds, at the rate at which turns
    /// came last. A rejected student comes back later and may be overtaken, so the bound is far above what a rush needs:
    /// in 120 s two cores decide what 16,000 students click in a minute.
    pub admission_wait_max_ms: u64,
    /// Registrations without an outcome that one student may have at a time, at all instances: one cart.
    pub subject_open_max: usize,
    /// Submissions a second of one student that are looked at, and how many may come at once after a quiet time. Nobody
    /// clicks 20 times a second, and a burst is five full carts; a program that does more gets no further by it.
    pub subject_per_second_max: u32,
    /// The same, at once.
    pub subject_burst_max: u32,
    /// Sagas that are not finished, those whose outcome is decided too. A service that only the tail needs may be away
    /// for hours; beyond this bound submissions are told to come back, before memory runs out: 200,000 are about 1 GB.
    pub sagas_in_memory_max: usize,
    /// Sagas at work at the same time; others wait in order of arrival. 128 for each processor, 256 to 1,024, where
    /// nothing is set; more make each slower, and more of them a second only where a service is slow and takes many at
    /// a time.
    pub in_flight_max: usize,
    /// Sagas that wait for a service that is away and hold no place among those at work, so that registrations which don't
    /// need the service go on. Beyond it they keep their places. 10,000 are what a rush brings in some seconds.
    pub parked_max: usize,
    /// Calls that one RPC carries at most; the participants' bound is 1,000.
    pub call_batch_max: usize,
    /// RPCs to one destination at the same time. Few, so that what waits meanwhile goes in one batch.
    pub destination_in_flight_max: usize,
    /// Time after which a call is given up and its end is unknown, in milliseconds.
    pub call_timeout_ms: u64,
    /// RPCs in a row that must fail before a destination's breaker opens.
    pub breaker_failures: u32,
    /// Time until an open breaker lets a probe through, in milliseconds; doubles up to `breaker_open_max_ms`.
    pub breaker_open_ms: u64,
    /// Longest time between probes, in milliseconds.
    pub breaker_open_max_ms: u64,
    /// How long a service may answer no call until it needs attention, in milliseconds: from the first call that failed
    /// or has no answer, without a success since. A restart takes a few seconds, and is nothing that a person must look
    /// at.
    pub destination_attention_after_ms: u64,
    /// How long an instance counts as living after its last sign, in milliseconds; a third of it is the heartbeat.
    /// Another adopts its sagas after that, well within the 10 s that a takeover may take.
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
    /// The default bounds on a machine with so many processors.
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

    /// What is out of bounds, as (setting, problem).
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut check = |good: bool, setting, bound: &str| {
            if !good {
                problems.push((setting, format!("must be {bound}")));
            }
        };
        check((1..=1_000_000).contains(&self.admission_queue_max), "admission_queue_max", "1 to 1000000");
        check((10..=3_600_000).contains(&self.admission_wait_max_ms), "admission_wait_max_ms", "10 to 3600000");
        check((1..=1_000_000).contains(&self.subject_open_max), "subject_open_max", "1 to 1000000");
        check((1..=1_000_000).contains(&self.subject_per_second_max), "subject_per_second_max", "1 to 1000000");
        check((1..=1_000_000).contains(&self.subject_burst_max), "subject_burst_max", "1 to 1000000");
        check((1..=10_000_000).contains(&self.sagas_in_memory_max), "sagas_in_memory_max", "1 to 10000000");
        check((1..=100_000).contains(&self.in_flight_max), "in_flight_max", "1 to 100000");
        check(self.parked_max <= 1_000_000, "parked_max", "0 to 1000000");
        check((1..=1_000).contains(&self.call_batch_max), "call_batch_max", "1 to 1000");
        check((1..=1_000).contains(&self.destination_in_flight_max), "destination_in_flight_max", "1 to 1000");
        check((10..=60_000).contains(&self.call_timeout_ms), "call_timeout_ms", "10 to 60000");
        check((1..=1_000).contains(&self.breaker_failures), "breaker_failures", "1 to 1000");
        check((1..=60_000).contains(&self.breaker_open_ms), "breaker_open_ms", "1 to 60000");
        check(
            self.breaker_open_max_ms >= self.breaker_open_ms && self.breaker_open_max_ms <= 600_000,
            "breaker_open_max_ms",
            "breaker_open_ms to 600000",
        );
        check(
            (100..=3_600_000).contains(&self.destination_attention_after_ms),
            "destination_attention_after_ms",
            "100 to 3600000",
        );
        check((500..=60_000).contains(&self.lease_ttl_ms), "lease_ttl_ms", "500 to 60000");
        check((1..=10_000).contains(&self.adoption_chunk), "adoption_chunk", "1 to 10000");
        problems
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
