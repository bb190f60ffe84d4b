//! What the tests of the core share.

use crate::CoreConfig;

/// Small bounds.
pub(crate) fn config() -> CoreConfig {
    CoreConfig {
        admission_queue_max: 1_000,
        admission_wait_max_ms: 120_000,
        in_flight_time_max_ms: 675,
        subject_open_max: 100,
        subject_per_second_max: 20,
        subject_burst_max: 100,
        sagas_in_memory_max: 1_000,
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
