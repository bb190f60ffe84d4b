//! Tests of slots.

use super::*;

const START: Moment = Moment::from_secs(10);
const MS: Duration = Duration::from_millis(1);

fn id(number: u128) -> SagaId {
    SagaId::from_u128(number)
}

fn slots(slots_max: usize) -> Slots {
    Slots::new(&CoreConfig { in_flight_max: slots_max, ..CoreConfig::default() })
}

#[test]
fn adopted_sagas_go_first_and_the_oldest_of_them() {
    let mut slots = slots(2);
    [3, 2, 1].into_iter().for_each(|number| slots.adopted(id(number)));
    assert_eq!((slots.waiting(), slots.free(START)), (3, 0), "no other begins while they wait");
    assert_eq!(
        [slots.next_turn(START), slots.next_turn(START), slots.next_turn(START)],
        [Some(id(1)), Some(id(2)), None]
    );
    slots.adopted(id(1));
    assert!(!slots.is_waiting(id(1)) && slots.is_waiting(id(3)));
    slots.decided(id(1), START);
    assert_eq!(slots.next_turn(START), Some(id(3)));
    slots.decided(id(2), START);
    slots.decided(id(2), START);
    assert_eq!(slots.free(START), 1);
}

#[test]
fn a_cancel_needs_no_turn() {
    let mut slots = slots(1);
    slots.begin(id(1), START);
    slots.adopted(id(2));
    slots.adopted(id(3));
    assert_eq!(slots.ahead(id(3)), 1);
    assert!(slots.begin_early(id(2)));
    assert!(!slots.begin_early(id(2)) && !slots.begin_early(id(1)));
    assert_eq!(slots.ahead(id(3)), 0);
    slots.decided(id(1), START + 300 * MS);
    assert_eq!(slots.next_turn(START), None, "it has a slot beyond the limit, and the limit holds");
    slots.decided(id(2), START + 900 * MS);
    assert_eq!(slots.next_turn(START), Some(id(3)));
    assert_eq!(slots.mean_work(), Some(300 * MS), "how long it took says nothing about the others");
}

#[test]
fn a_slot_is_kept_until_the_first_event_is_persisted() {
    let mut slots = slots(2);
    slots.reserve(id(1));
    slots.reserve(id(2));
    assert_eq!((slots.free(START), slots.reserved()), (0, 2));
    slots.begin(id(1), START);
    slots.release(id(2));
    slots.release(id(2));
    assert_eq!((slots.free(START), slots.reserved()), (1, 0));
}

/// Another instance had claimed it, and has ended.
#[test]
fn an_adopted_saga_loses_its_reserved_slot_and_waits() {
    let mut slots = slots(2);
    slots.reserve(id(1));
    slots.adopted(id(1));
    assert_eq!((slots.reserved(), slots.waiting()), (0, 1));
    assert_eq!(slots.next_turn(START), Some(id(1)));
    slots.adopted(id(1));
    assert_eq!(slots.waiting(), 0, "it is at work");
}

/// Acceptances of this latency, one each 100 ms.
fn accept(slots: &mut Slots, from: Moment, latency: Duration, count: u32) -> Moment {
    (0..count).for_each(|number| slots.accepted(latency, from + ADJUST_EVERY * number));
    from + ADJUST_EVERY * count.saturating_sub(1)
}

#[test]
fn slow_acceptance_reduces_the_slots() {
    let mut slots = slots(64);
    let (slow, fast) = (ACCEPTANCE_AIM + MS, ACCEPTANCE_AIM);
    let now = accept(&mut slots, START, slow, 1);
    assert_eq!(slots.free(now), 32);
    for _ in 0..50 {
        slots.accepted(slow, now + MS);
    }
    assert_eq!(slots.free(now), 32, "one batch counts once");
    let now = accept(&mut slots, now + ADJUST_EVERY, slow, 20);
    assert_eq!(slots.free(now), 16, "a quarter is always in use");
    let now = accept(&mut slots, now + ADJUST_EVERY, fast, 4);
    assert_eq!(slots.free(now), 32);
    let now = accept(&mut slots, now + ADJUST_EVERY, fast, 20);
    assert_eq!(slots.free(now), 64);
    let now = accept(&mut slots, now + ADJUST_EVERY, slow, 20);
    assert_eq!(slots.free(now + STALE_AFTER - MS), 16);
    assert_eq!(slots.free(now + STALE_AFTER), 64, "what it was long ago says nothing");
    slots.accepted(slow, now + STALE_AFTER);
    assert_eq!(slots.free(now + STALE_AFTER), 32);
}

#[test]
fn unwritten_submissions_reduce_the_slots() {
    let mut slots = slots(64);
    slots.unwritten(ACCEPTANCE_AIM, START + STALE_AFTER);
    assert_eq!(slots.free(START + STALE_AFTER), 64);
    slots.unwritten(ACCEPTANCE_AIM + MS, START + STALE_AFTER);
    assert_eq!(slots.free(START + STALE_AFTER), 32);
}

#[test]
fn one_slot_is_always_in_use() {
    let mut slots = slots(1);
    let now = accept(&mut slots, START, ACCEPTANCE_AIM * 2, 20);
    assert_eq!(slots.free(now), 1);
}
