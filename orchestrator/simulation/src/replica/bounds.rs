//! The bounds of one replica: drawn, and sometimes so tight that clients are rejected.

use matricula_core::CoreConfig;

use crate::draws::Purpose;
use crate::env::Env;
use crate::names::{CLIENTS_MAX, InstanceNo};
use crate::shapes::Does;
use crate::store::{ADOPTION_CHUNK, LEASE_TTL_MS};

/// RPCs to one destination at the same time: two, so that waiting calls gather into batches.
pub(crate) const DESTINATION_IN_FLIGHT_MAX: usize = 2;
/// Timeout of a call, whose result is then unknown.
pub(crate) const CALL_TIMEOUT_MS: i64 = 5_000;
/// More than any history has.
const PLENTY: usize = 1_000;

/// The most sagas at work at an instance.
///
/// A saga that is answered "not yet" keeps its slot until its deadline, and the saga that it waits for may need a slot.
/// So only sagas that never wait for each other may have fewer slots than there are sagas.
pub(crate) fn in_flight_max(env: &Env, instance: InstanceNo) -> usize {
    let below = u32::from(CLIENTS_MAX);
    let mut draw = env.draw(Purpose::Places(instance));
    // Half of them are so small that sagas wait for each other's slots.
    let more = if draw.chance(512) { draw.below(2) } else { draw.below(below) };
    (places_min(env) + more) as usize
}

fn places_min(env: &Env) -> u32 {
    if env.shape.has(Does::Reserve) { u32::from(CLIENTS_MAX) } else { 1 }
}

/// Bounds without effect, except the number of sagas at work.
fn ample_bounds(in_flight_max: usize) -> CoreConfig {
    CoreConfig {
        admission_queue_max: PLENTY,
        admission_wait_max_ms: 120_000,
        subject_open_max: PLENTY,
        subject_per_second_max: 1_000,
        subject_burst_max: 1_000,
        sagas_in_memory_max: PLENTY,
        in_flight_max,
        parked_max: 0,
        call_batch_max: PLENTY,
        destination_in_flight_max: DESTINATION_IN_FLIGHT_MAX,
        breaker_failures: u32::MAX,
        breaker_open_ms: 100,
        breaker_open_max_ms: 2_000,
        call_timeout_ms: CALL_TIMEOUT_MS as u64,
        destination_attention_after_ms: 15_000,
        lease_ttl_ms: LEASE_TTL_MS,
        adoption_chunk: ADOPTION_CHUNK,
    }
}

/// For how long inputs gather before a step: half of the instances take each by itself.
pub(super) fn gathers_ms(env: &Env, instance: InstanceNo) -> i64 {
    let mut draw = env.draw(Purpose::Gathers(instance));
    if draw.chance(512) { 0 } else { 1 + i64::from(draw.below(30)) }
}

/// After how many of 1,024 steps an operator looks at an instance; 0 for three of four instances.
pub(super) fn looks_of_1024(env: &Env, instance: InstanceNo) -> u32 {
    if env.draw(Purpose::Looks(instance)).chance(256) { 48 } else { 0 }
}

/// The bounds of an instance.
pub(super) fn config(env: &Env, instance: InstanceNo) -> CoreConfig {
    let mut draw = env.draw(Purpose::Bounds(instance));
    let mut some = |of_1024, from: u32, below: u32, otherwise: usize| {
        if draw.chance(of_1024) { (from + draw.below(below)) as usize } else { otherwise }
    };
    CoreConfig {
        admission_queue_max: some(200, 1, 5, PLENTY),
        subject_open_max: some(200, 1, 3, PLENTY),
        subject_per_second_max: some(200, 1, 2, 1_000) as u32,
        subject_burst_max: some(512, 1, 2, 1_000) as u32,
        sagas_in_memory_max: some(200, places_min(env), 4, PLENTY),
        call_batch_max: some(768, 2, 4, PLENTY),
        breaker_failures: some(768, 1, 4, 1_000) as u32,
        breaker_open_ms: some(512, 20, 400, 100) as u64,
        breaker_open_max_ms: some(512, 500, 4_500, 2_000) as u64,
        destination_attention_after_ms: some(512, 200, 6_000, 15_000) as u64,
        parked_max: some(512, 1, 3, 0),
        ..ample_bounds(in_flight_max(env, instance))
    }
}
