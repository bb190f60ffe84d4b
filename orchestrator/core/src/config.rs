//! Bounds of the core. The reasons for the default numbers are in the settings of the runtime.

/// Bounds of one orchestrator.
#[derive(Debug, Clone)]
pub struct CoreConfig {
    /// Accepted registrations whose outcome is open, at most.
    pub admission_queue_max: usize,
    /// Longest time that an accepted registration should wait for its outcome, in milliseconds.
    pub admission_wait_max_ms: u64,
    /// Time in which the sagas at work should be decided, in milliseconds.
    pub in_flight_time_max_ms: u64,
    /// Registrations without an outcome of one student, at most.
    pub subject_open_max: usize,
    /// Submissions a second of one student, at most.
    pub subject_per_second_max: u32,
    /// Submissions of one student at once, after a quiet time.
    pub subject_burst_max: u32,
    /// Sagas in memory, at most.
    pub sagas_in_memory_max: usize,
    /// Sagas at work at the same time, at most.
    pub in_flight_max: usize,
    /// Calls that one RPC carries, at most.
    pub call_batch_max: usize,
    /// RPCs to one destination at the same time, at most.
    pub destination_in_flight_max: usize,
    /// RPCs in a row that must fail before a breaker opens.
    pub breaker_failures: u32,
    /// Time until an open breaker lets a probe through, in milliseconds; it doubles up to `breaker_open_max_ms`.
    pub breaker_open_ms: u64,
    /// Longest time between probes, in milliseconds.
    pub breaker_open_max_ms: u64,
    /// Time after which a call is given up, in milliseconds. The shell gives it up; the core shows it.
    pub call_timeout_ms: u64,
    /// How long a service may answer no call until it counts as failing though its calls only hang, in milliseconds.
    pub destination_attention_after_ms: u64,
    /// How long an instance counts as living after its last renewal, in milliseconds; a third of it is the heartbeat.
    pub lease_ttl_ms: u64,
    /// Sagas adopted in one transaction, at most.
    pub adoption_chunk: usize,
}

/// The bounds of a machine with two processors, where nothing is set.
impl Default for CoreConfig {
    fn default() -> Self {
        Self {
            admission_queue_max: 200_000,
            admission_wait_max_ms: 120_000,
            in_flight_time_max_ms: 675,
            subject_open_max: 100,
            subject_per_second_max: 20,
            subject_burst_max: 100,
            sagas_in_memory_max: 200_000,
            in_flight_max: 256,
            call_batch_max: 500,
            destination_in_flight_max: 3,
            breaker_failures: 5,
            breaker_open_ms: 250,
            breaker_open_max_ms: 5_000,
            call_timeout_ms: 5_000,
            destination_attention_after_ms: 15_000,
            lease_ttl_ms: 6_000,
            adoption_chunk: 500,
        }
    }
}
