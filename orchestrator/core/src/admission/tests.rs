//! Tests of admission: bounds, the waiting line, the rate, hints and quotas.

use std::collections::BTreeMap;

use super::*;

fn ms(ms: u64) -> Moment {
    Moment::from_millis(ms)
}

/// Any moment will do.
const NOW: Moment = Moment::from_secs(1_000);

fn id(number: usize) -> SagaId {
    SagaId::from_u128(number as u128)
}

fn config(change: impl FnOnce(&mut CoreConfig)) -> CoreConfig {
    let mut config = CoreConfig { in_flight_max: 1_024, ..CoreConfig::default() };
    change(&mut config);
    config
}

fn control(change: impl FnOnce(&mut CoreConfig)) -> AdmissionControl {
    AdmissionControl::new(&config(change), 7)
}

fn submission(number: usize, subject: &str, key: &str) -> Submission<()> {
    let (subject, key) = (subject.to_owned(), key.to_owned());
    Submission { id: id(number), subject, key, fingerprint: "A".to_owned(), request: () }
}

fn enter_as(control: &mut AdmissionControl, number: usize, subject: &str) -> Result<(), Reply> {
    control.enter(&submission(number, subject, &format!("key {number}")), 0, NOW)
}

/// Lets one more in, of a subject of its own.
fn enter(control: &mut AdmissionControl, number: usize) -> Result<(), Reply> {
    enter_as(control, number, &format!("student {number}"))
}

/// Lets one more in, and it waits.
fn wait(control: &mut AdmissionControl, number: usize, now: Moment) {
    let submission = submission(number, &format!("student {number}"), "key");
    assert_eq!(control.enter(&submission, 0, now), Ok(()));
    control.accepted(id(number), now);
}

/// With one slot, so that the rest waits.
fn control_with_one_slot() -> AdmissionControl {
    control(|config| config.in_flight_max = 1)
}

fn ahead(control: &AdmissionControl, number: usize) -> Option<Option<usize>> {
    control.place(id(number), NOW).map(|place| place.ahead)
}

#[test]
fn the_limit_is_as_many_as_are_decided_in_time() {
    let bounds = |open_max, at_work_max, rate| {
        let mut control = control(|config| {
            (config.admission_queue_max, config.in_flight_max) = (open_max, at_work_max);
            (config.admission_wait_max_ms, config.in_flight_time_max_ms) = (1_500, 1_125);
        });
        control.throughput.capacity = Some(rate);
        (control.open_max(), control.at_work_max())
    };
    assert_eq!(bounds(20_000, 1_024, 3_000.0).0, 4_500);
    assert_eq!(bounds(4_000, 1_024, 3_000.0).0, 4_000, "never more than the fixed bound");
    assert_eq!(bounds(20_000, 1_024, 10.0).0, 320, "as many as are at work at a time, and a quarter");
    assert_eq!([10.0, 400.0, 9_000.0].map(|rate| bounds(20_000, 1_024, rate).1), [256, 450, 1_024]);
    assert_eq!(bounds(20_000, 1, 10.0).1, 1);
    assert_eq!(bounds(16, 1_024, 10.0).0, 16);
}

/// Otherwise the rate would not be measured any more, and a bound by a rate that was too low would stay.
#[test]
fn some_saga_may_always_wait() {
    for (wait_max_ms, rate) in [10, 900, 60_000].into_iter().flat_map(|wait| [0.0, 50.0, 1e4].map(|rate| (wait, rate)))
    {
        for at_work_max in [1, 16, 1_024] {
            let mut control = control(|config| {
                (config.admission_queue_max, config.in_flight_max) = (usize::MAX, at_work_max);
                (config.admission_wait_max_ms, config.in_flight_time_max_ms) = (wait_max_ms, wait_max_ms * 3 / 4);
            });
            control.throughput.capacity = Some(rate);
            let (limit, at_work) = (control.open_max(), control.at_work_max());
            assert!(limit > at_work, "{limit} are let in, and {at_work} are at work: {wait_max_ms} ms, {rate}/s");
        }
    }
}

#[test]
fn a_rejected_submission_takes_nothing() {
    let mut control = control(|config| (config.admission_queue_max, config.subject_open_max) = (2, 1));
    assert_eq!(enter_as(&mut control, 1, "ada"), Ok(()));
    assert!(matches!(enter_as(&mut control, 2, "ada"), Err(Reply::OverQuota { .. })));
    assert_eq!(enter_as(&mut control, 3, "bob"), Ok(()), "the quota of another takes no place");
    assert!(matches!(enter_as(&mut control, 4, "late"), Err(Reply::QueueFull { .. })));
    control.accepted(id(1), NOW);
    control.leave(id(3));
    assert_eq!(enter_as(&mut control, 4, "late"), Ok(()), "its quota was given back, and a place too");
    let known = Reply::Existing { id: id(1), same_request: true };
    let again = submission(5, "ada", "key 1");
    assert_eq!(control.enter(&again, 0, NOW), Err(known), "a second click needs no place");
    assert_eq!(ahead(&control, 1), Some(Some(0)));
    assert_eq!(control.next_turn(NOW), Some(id(1)));
    control.decided(id(1), NOW);
    control.leave(id(4));
    assert_eq!((control.open.len(), control.at_work), (0, 0));
    assert_eq!(ahead(&control, 1), None);
    assert!(control.quota.open.is_empty());
}

/// The allowance is only for submissions that are let in: when there is room again, all of it is there.
#[test]
fn a_submission_that_finds_no_room_costs_no_token() {
    for (queue_max, in_memory) in [(1, 0), (10, 1)] {
        let mut control = control(|config| {
            (config.admission_queue_max, config.sagas_in_memory_max) = (queue_max, 1);
            (config.subject_per_second_max, config.subject_burst_max) = (1, 2);
        });
        assert_eq!(enter(&mut control, 1), Ok(()));
        for number in 10..30 {
            let full = control.enter(&submission(number, "eager", &number.to_string()), in_memory, NOW);
            assert!(matches!(full, Err(Reply::QueueFull { .. })), "{full:?}");
        }
        control.leave(id(1));
        for number in [2, 3] {
            assert_eq!(enter_as(&mut control, number, "eager"), Ok(()), "the burst is whole");
            control.leave(id(number));
        }
    }
}

#[test]
fn a_submission_over_its_quota_takes_no_place() {
    let mut control = control(|config| (config.admission_queue_max, config.subject_open_max) = (2, 1));
    assert_eq!(enter_as(&mut control, 1, "ada"), Ok(()));
    for number in 2..22 {
        let over = enter_as(&mut control, number, "ada");
        assert!(matches!(over, Err(Reply::OverQuota { .. })), "{over:?}");
    }
    assert_eq!(control.open.len(), 1);
    assert_eq!(enter_as(&mut control, 30, "bob"), Ok(()), "there is room for another student");
}

#[test]
fn memory_is_a_bound_of_its_own() {
    let mut control = control(|config| config.sagas_in_memory_max = 5);
    let submission = submission(1, "ada", "k");
    assert!(matches!(control.enter(&submission, 5, NOW), Err(Reply::QueueFull { .. })));
    assert_eq!(control.enter(&submission, 4, NOW), Ok(()));
}

/// Memory is short because a service is away: that says nothing about how fast sagas are decided.
#[test]
fn only_a_rejection_for_a_full_queue_is_saturation() {
    let submission = submission(1, "ada", "k");
    let mut control = control(|config| (config.sagas_in_memory_max, config.admission_queue_max) = (5, 1));
    assert!(control.enter(&submission, 5, NOW).is_err());
    assert_eq!(control.throughput.counting, Counting::Stopped);
    enter(&mut control, 2).expect("there is room for one");
    assert!(control.enter(&submission, 4, NOW).is_err());
    assert_eq!(control.throughput.counting, Counting::Ready);
}

#[test]
fn the_rate_is_measured_from_the_first_saga_that_waits_to_the_last() {
    let is_saturated = |control: &AdmissionControl| {
        let ThroughputEstimator { counting, ends_at, .. } = control.throughput;
        counting != Counting::Stopped && ends_at.is_none()
    };
    let joins: [fn(&mut AdmissionControl, usize); 2] =
        [|control, number| wait(control, number, NOW), |control, number| control.adopted(id(number), NOW)];
    let leaves: [fn(&mut AdmissionControl, usize); 3] = [
        |control, number| assert_eq!(control.next_turn(NOW), Some(id(number))),
        |control, number| assert!(control.begin_early(id(number), NOW)),
        |control, number| {
            control.leave(id(number));
            // The core asks for turns after each step, and here all slots are taken.
            control.at_work += 2;
            assert_eq!(control.next_turn(NOW), None);
            control.at_work -= 2;
        },
    ];
    for join in joins {
        for leave in leaves {
            let mut control = control(|config| config.in_flight_max = 2);
            assert!(!is_saturated(&control));
            join(&mut control, 1);
            join(&mut control, 2);
            assert!(is_saturated(&control));
            leave(&mut control, 1);
            assert!(is_saturated(&control), "one waits");
            leave(&mut control, 2);
            assert!(!is_saturated(&control), "none waits");
        }
    }
}

/// The place of a saga counts those before it, and its wait the time until they had their turns.
#[test]
fn a_saga_at_work_waits_for_the_rest_of_the_mean_time_of_work() {
    let mut control = control_with_one_slot();
    for number in 0..3 {
        wait(&mut control, number, NOW);
    }
    assert_eq!(control.next_turn(NOW), Some(id(0)));
    control.decided(id(0), NOW + ms(320));
    assert_eq!(control.work(), Some(ms(320)), "the first is the mean");
    assert_eq!(control.next_turn(NOW + ms(320)), Some(id(1)));
    let place = control.place(id(1), NOW + ms(420)).expect("it is at work");
    assert_eq!(place, InLine { ahead: None, expected_wait: Some(ms(220)) });
    control.decided(id(1), NOW + ms(320));
    assert_eq!(control.work(), Some(ms(310)), "of 32 sagas the last counts as one");
    // A saga that began before its turn says nothing about how long the others take.
    assert!(control.begin_early(id(2), NOW));
    control.decided(id(2), NOW + ms(9_000));
    assert_eq!((control.work(), control.at_work), (Some(ms(310)), 0));
}

#[test]
fn adopted_sagas_are_open_pass_every_bound_and_take_no_quota() {
    let mut control = control(|config| {
        (config.admission_queue_max, config.subject_open_max, config.in_flight_max) = (2, 1, 1);
    });
    (0..3).for_each(|number| control.adopted(id(number), NOW));
    assert_eq!((control.open.len(), control.waiting(), control.waiting_adopted()), (3, 3, 3));
    assert!(matches!(enter(&mut control, 9), Err(Reply::QueueFull { .. })));
    assert_eq!(control.next_turn(NOW), Some(id(0)));
    // Adopted twice: it keeps its slot, or its number.
    (0..3).for_each(|number| control.adopted(id(number), NOW));
    assert_eq!((control.open.len(), control.waiting(), control.at_work), (3, 2, 1));
    control.decided(id(0), NOW);
    control.decided(id(0), NOW);
    assert_eq!((control.open.len(), control.at_work), (2, 0));
    for number in [1, 2] {
        assert_eq!(control.next_turn(NOW), Some(id(number)));
        control.decided(id(number), NOW);
    }
    assert_eq!((control.open.len(), control.next_turn(NOW)), (0, None));
}

#[test]
fn a_place_is_how_many_go_first() {
    let mut control = control_with_one_slot();
    (0..5).for_each(|number| wait(&mut control, number, NOW));
    assert_eq!([0, 3, 9].map(|number| ahead(&control, number)), [Some(Some(0)), Some(Some(3)), None]);
    assert_eq!(control.next_turn(NOW), Some(id(0)));
    assert_eq!(control.next_turn(NOW), None, "the slot is taken");
    assert_eq!([0, 1, 3].map(|number| ahead(&control, number)), [Some(None), Some(Some(0)), Some(Some(2))]);
    // Adopted ones go first.
    (10..12).for_each(|number| control.adopted(id(number), NOW));
    assert_eq!([11, 1, 3].map(|number| ahead(&control, number)), [Some(Some(1)), Some(Some(2)), Some(Some(4))]);
    control.decided(id(0), NOW);
    assert_eq!(ahead(&control, 0), None);
    assert_eq!(control.next_turn(NOW), Some(id(10)));
    assert_eq!([11, 3].map(|number| ahead(&control, number)), [Some(Some(0)), Some(Some(3))]);
    assert_eq!([10, 11].map(|number| control.is_waiting(id(number))), [false, true]);
}

#[test]
fn a_saga_has_no_place_before_its_admission_is_persisted() {
    let mut control = control_with_one_slot();
    assert_eq!(enter(&mut control, 1), Ok(()));
    assert_eq!((ahead(&control, 1), control.is_waiting(id(1)), control.waiting()), (None, false, 0));
    assert_eq!((control.next_turn(NOW), control.begin_early(id(1), NOW)), (None, false));
    control.accepted(id(1), NOW);
    control.accepted(id(1), NOW);
    assert_eq!((ahead(&control, 1), control.waiting()), (Some(Some(0)), 1));
    control.accepted(id(2), NOW);
    assert_eq!((ahead(&control, 2), control.open.len()), (None, 1), "it was never let in");
}

#[test]
fn a_saga_that_leaves_the_line_early_leaves_nothing_behind() {
    let mut control = control_with_one_slot();
    (0..5).for_each(|number| wait(&mut control, number, NOW));
    assert_eq!(control.next_turn(NOW), Some(id(0)));
    // Cancelled: it takes a slot beyond the limit.
    assert!(control.begin_early(id(3), NOW));
    assert!(!control.begin_early(id(3), NOW) && !control.begin_early(id(0), NOW) && !control.begin_early(id(9), NOW));
    assert_eq!((control.at_work, control.waiting(), ahead(&control, 3)), (2, 3, Some(None)));
    control.decided(id(3), NOW);
    control.leave(id(1));
    control.leave(id(1));
    assert_eq!([1, 2, 3].map(|number| ahead(&control, number)), [None, Some(Some(1)), None]);
    control.decided(id(0), NOW);
    assert_eq!(control.next_turn(NOW), Some(id(2)), "the one that is gone is passed over");
    assert_eq!(ahead(&control, 4), Some(Some(1)));
    control.decided(id(2), NOW);
    assert_eq!(control.next_turn(NOW), Some(id(4)));
    control.leave(id(4));
    assert_eq!((control.open.len(), control.waiting(), control.at_work, control.next_turn(NOW)), (0, 0, 0, None));
    assert!(control.quota.open.is_empty());
    wait(&mut control, 5, NOW);
    assert_eq!((ahead(&control, 5), control.admitted.queue.len()), (Some(Some(0)), 1));
}

/// It was lost to another instance while it waited, and came back.
#[test]
fn a_saga_that_joins_again_has_its_turn_once_and_at_its_new_place() {
    let mut control = control_with_one_slot();
    [1, 2].into_iter().for_each(|number| control.adopted(id(number), NOW));
    control.leave(id(1));
    control.adopted(id(1), NOW);
    assert_eq!(control.waiting(), 2);
    for expected in [2, 1] {
        assert_eq!(control.next_turn(NOW), Some(id(expected)));
        control.decided(id(expected), NOW);
    }
    assert_eq!((control.next_turn(NOW), control.open.len()), (None, 0));
}

/// A decision is counted for the saga that has a slot, and for no other.
#[test]
fn a_saga_that_waits_is_not_decided() {
    let mut control = control_with_one_slot();
    wait(&mut control, 1, NOW);
    control.decided(id(1), NOW);
    assert_eq!((control.waiting(), control.open.len()), (1, 1));
    assert_eq!(control.next_turn(NOW), Some(id(1)));
}

/// A line that is worked off by so many slots, each taking so long: every wait that was promised turns out true.
#[test]
fn the_expected_wait_turns_out_true_within_a_fifth() {
    let (slots, arrivals_s) = (50, 400);
    let mut control = control(|config| (config.in_flight_max, config.in_flight_time_max_ms) = (slots, 600_000));
    // 250 a second are decided, 400 a second arrive: the line grows all the time.
    let takes = |number: usize| ms(150 + 100 * (number as u64 % 2));
    let mut at_work: Vec<(Moment, usize)> = Vec::new();
    let mut promised: BTreeMap<usize, (Moment, InLine)> = BTreeMap::new();
    let (mut arrived, mut kept) = (0, 0);
    for at in 1..15_000 {
        let now = NOW + ms(at);
        while arrived < at as usize * arrivals_s / 1_000 {
            let waiting = control.waiting();
            wait(&mut control, arrived, now);
            let place = control.place(id(arrived), now).expect("it waits");
            assert_eq!(place.ahead, Some(waiting));
            promised.insert(arrived, (now, place));
            arrived += 1;
        }
        for (_, number) in at_work.extract_if(.., |(ends, _)| *ends <= now).collect::<Vec<_>>() {
            control.decided(id(number), now);
            let (since, place) = promised.remove(&number).expect("it was promised");
            let Some(expected) = place.expected_wait.filter(|_| since > NOW + ms(3_000)) else { continue };
            let ratio = expected.as_secs_f64() / (now - since).as_secs_f64();
            assert!((0.8..1.2).contains(&ratio), "{number}: {expected:?}, not {:?}", now - since);
            kept += 1;
        }
        while let Some(id) = control.next_turn(now) {
            let number = id.as_u128() as usize;
            at_work.push((now + takes(number), number));
        }
        assert_eq!(at_work.len(), control.at_work);
    }
    assert!(kept > 1_500, "only {kept} promises were looked at");
}

/// `batch` decisions at a time, every so often, for so long.
fn run(estimator: &mut ThroughputEstimator, from: Moment, batch: u32, every: Duration, lasts: Duration) -> Moment {
    let mut now = from;
    while now < from + lasts {
        now += every;
        (0..batch).for_each(|_| estimator.decided(now));
    }
    now
}

#[track_caller]
fn assert_near(rate: Option<f64>, expected: f64) {
    let rate = rate.expect("it is known");
    assert!((rate / expected - 1.0).abs() < 0.1, "{rate} is not {expected}");
}

#[test]
fn the_rate_is_of_decisions_while_sagas_wait() {
    let (mut estimator, start) = (ThroughputEstimator::new(1), NOW);
    // Nothing waits: as many are decided as are submitted.
    let now = run(&mut estimator, start, 1, ms(10), ms(5_000));
    assert_eq!((estimator.rate(now), estimator.capacity), (None, None));
    estimator.set_waiting(now, true);
    // Sagas that began before take a while, and are no measure.
    let now = run(&mut estimator, now + ms(400), 100, ms(50), ms(300));
    assert_eq!(estimator.rate(now), None, "too short to be told");
    let now = run(&mut estimator, now, 100, ms(50), ms(2_000));
    assert_near(estimator.rate(now), 2_000.0);
    // An hour in which nothing waits changes nothing.
    estimator.set_waiting(now, false);
    let now = now + ms(3_600_000);
    estimator.decided(now);
    assert_near(estimator.rate(now), 2_000.0);
    estimator.set_waiting(now, true);
    let now = run(&mut estimator, now, 100, ms(50), ms(1_000));
    assert_near(estimator.rate(now), 2_000.0);
}

/// A thousand that began together take their steps together, and few of them are decided before the rest.
#[test]
fn the_first_of_those_that_began_together_are_no_measure() {
    let (mut estimator, start) = (ThroughputEstimator::new(1_000), NOW);
    estimator.set_waiting(start, true);
    let now = run(&mut estimator, start, 5, ms(50), ms(2_000));
    assert_eq!(estimator.rate(now), None);
    let now = run(&mut estimator, now, 50, ms(50), ms(1_000));
    assert_near(estimator.rate(now), 1_200.0 / 3.0);
    // A rate that is low all the time is known when all buckets are full.
    let (mut estimator, start) = (ThroughputEstimator::new(1_000), NOW);
    estimator.set_waiting(start, true);
    let now = run(&mut estimator, start, 1, ms(50), ms(5_200));
    assert_near(estimator.rate(now), 20.0);
}

/// Eight are decided each 10 ms, and some saga waits from before the first of two batches to after the second.
#[test]
fn waits_that_end_with_a_batch_count_with_the_time_between_them() {
    let (mut estimator, mut now) = (ThroughputEstimator::new(16), NOW);
    for _ in 0..100 {
        estimator.set_waiting(now, true);
        now = run(&mut estimator, now, 8, ms(10), ms(20));
        estimator.set_waiting(now, false);
        now = run(&mut estimator, now, 8, ms(10), ms(20));
    }
    assert_near(estimator.rate(now), 800.0);
    assert_near(estimator.capacity, 800.0);
}

#[test]
fn a_wait_now_and_then_is_no_saturation() {
    let (mut estimator, mut now) = (ThroughputEstimator::new(16), NOW);
    for _ in 0..100 {
        estimator.set_waiting(now, true);
        now = run(&mut estimator, now, 8, ms(10), ms(40));
        estimator.set_waiting(now, false);
        now = run(&mut estimator, now, 1, ms(10), ms(500));
    }
    assert_eq!((estimator.rate(now), estimator.capacity), (None, None));
}

/// With a bound that is too low no saga ever waits: the bound must not stay because of that.
#[test]
fn a_rejection_is_saturation() {
    let (mut estimator, mut now) = (ThroughputEstimator::new(16), NOW);
    for _ in 0..100 {
        estimator.rejected(now);
        now = run(&mut estimator, now, 8, ms(10), ms(20));
    }
    assert_near(estimator.rate(now), 800.0);
    // The last of them is an hour ago.
    now = run(&mut estimator, now + ms(3_600_000), 1, ms(10), ms(5_000));
    assert_near(estimator.rate(now), 800.0);
    // A saga that waits is saturation, however long ago the last rejection was.
    estimator.rejected(now);
    estimator.set_waiting(now, true);
    let now = run(&mut estimator, now, 4, ms(10), ms(4_000));
    assert_near(estimator.rate(now), 400.0);
}

#[test]
fn the_rate_follows_a_change_within_seconds() {
    let (mut estimator, start) = (ThroughputEstimator::new(1), NOW);
    estimator.set_waiting(start, true);
    let now = run(&mut estimator, start, 10, ms(10), ms(6_000));
    assert_near(estimator.rate(now), 1_000.0);
    let now = run(&mut estimator, now, 10, ms(40), ms(5_500));
    assert_near(estimator.rate(now), 250.0);
    assert_near(estimator.capacity, 250.0);
}

#[test]
fn a_standstill_has_no_rate_and_keeps_the_capacity() {
    let (mut estimator, start) = (ThroughputEstimator::new(1), NOW);
    estimator.set_waiting(start, true);
    let now = run(&mut estimator, start, 10, ms(10), ms(6_000));
    // Half of the time that counts is a standstill.
    assert_near(estimator.rate(now + ms(1_500)), 500.0);
    let much_later = now + ms(3_600_000);
    estimator.advance(much_later);
    assert_eq!(estimator.rate(much_later), None);
    assert_near(estimator.capacity, 1_000.0);
    assert!(estimator.filled < BUCKET);
}

/// Hints to so many clients that are rejected at one moment.
fn hints(count: usize, open: usize, rate: Option<f64>) -> Vec<Duration> {
    let mut retries = RetryAfterScheduler::new(7);
    (0..count).map(|_| retries.next(NOW, open, rate)).collect()
}

fn within(hints: &[Duration], from_s: f64, to_s: f64) -> usize {
    hints.iter().filter(|hint| (from_s..to_s).contains(&hint.as_secs_f64())).count()
}

#[test]
fn clients_come_back_when_there_is_room_at_the_rate_of_decisions() {
    let hints = hints(6_000, 1_500, Some(1_000.0));
    assert_eq!(within(&hints, 0.0, 1.4), 0, "none before those that are open now are decided");
    for second in 3..7 {
        let come = within(&hints, f64::from(second), f64::from(second) + 1.0);
        assert!((900..=1_100).contains(&come), "{come} come in second {second}");
    }
}

#[test]
fn more_than_can_come_in_time_are_spread() {
    let hints = hints(30_000, 1_500, Some(1_000.0));
    assert_eq!(within(&hints, 0.0, RETRY_MAX.as_secs_f64() * (1.0 + RETRY_JITTER)), hints.len());
    for second in (2..9).step_by(2) {
        let come = within(&hints, f64::from(second), f64::from(second) + 2.0);
        assert!((6_000..=8_000).contains(&come), "{come} come from second {second} on");
    }
}

#[test]
fn hints_of_long_ago_hold_no_client_up() {
    let mut retries = RetryAfterScheduler::new(7);
    for _ in 0..5_000 {
        retries.next(NOW, 100, Some(1_000.0));
    }
    assert!(retries.next(NOW, 100, Some(1_000.0)) > Duration::from_secs(5) - ms(300));
    let hint = retries.next(NOW + ms(60_000), 200, Some(1_000.0));
    assert!((ms(190)..=ms(210)).contains(&hint), "{hint:?}");
}

#[test]
fn without_a_rate_hints_are_spread() {
    let hints = hints(1_000, 20_000, None);
    for part in 0..4 {
        let from_s = 0.5 + 0.5 * f64::from(part);
        assert!((200..=300).contains(&within(&hints, from_s, from_s + 0.5)), "{part}");
    }
    assert!(self::hints(10, 0, Some(1e6)).iter().all(|hint| *hint >= RETRY_MIN));
    assert!(self::hints(10, 1_000, Some(1e-9)).iter().all(|hint| *hint <= RETRY_MAX));
    assert!(self::hints(10, 0, Some(1e-300)).iter().all(|hint| *hint <= RETRY_MAX));
}

#[test]
fn the_same_seed_gives_the_same_hints() {
    let hints = |seed| {
        let mut retries = RetryAfterScheduler::new(seed);
        std::iter::repeat_with(|| retries.next(NOW, 10, None)).take(20).collect::<Vec<_>>()
    };
    assert_eq!(hints(1), hints(1));
    assert_ne!(hints(1), hints(2));
}

fn quota(open: usize, per_second: u32, burst: u32) -> Quota {
    Quota::new(&config(|config| {
        config.subject_open_max = open;
        (config.subject_per_second_max, config.subject_burst_max) = (per_second, burst);
    }))
}

/// A subject submits a key that is like no other.
fn submit(quota: &mut Quota, number: usize, subject: &str, now: Moment) -> Result<(), Option<Duration>> {
    quota.enter(&submission(number, subject, &format!("key {number}")), now).map(drop)
}

#[test]
fn a_second_click_is_known_from_when_the_first_is_persisted_until_it_is_decided() {
    let mut quota = quota(10, 1_000, 1_000);
    quota.enter(&submission(1, "ada", "k"), NOW).expect("there is room");
    let again = submission(2, "ada", "k");
    assert_eq!(quota.known(&again), None, "it may never be persisted");
    quota.accepted("ada", id(1));
    assert_eq!(quota.known(&again), Some((id(1), true)));
    let other = Submission { fingerprint: "B".to_owned(), ..submission(2, "ada", "k") };
    assert_eq!(quota.known(&other), Some((id(1), false)));
    assert_eq!(quota.known(&submission(2, "ada", "l")), None);
    assert_eq!(quota.known(&submission(2, "bob", "k")), None, "a key is of its subject");
    quota.leave("ada", id(1));
    assert_eq!(quota.known(&again), None);
    quota.accepted("ada", id(1));
    assert!(quota.open.is_empty());
}

#[test]
fn so_many_may_be_open_and_each_comes_back_once() {
    let mut quota = quota(2, 1_000, 1_000);
    assert_eq!([0, 1, 2].map(|number| submit(&mut quota, number, "ada", NOW)), [Ok(()), Ok(()), Err(None)]);
    assert_eq!(submit(&mut quota, 9, "bob", NOW), Ok(()), "another subject is not held up");
    [0, 0, 2].into_iter().for_each(|number| quota.leave("ada", id(number)));
    assert_eq!([3, 4].map(|number| submit(&mut quota, number, "ada", NOW)), [Ok(()), Err(None)]);
    [1, 3].into_iter().for_each(|number| quota.leave("ada", id(number)));
    quota.leave("bob", id(9));
    assert!(quota.open.is_empty(), "nothing is left behind");
}

#[test]
fn a_double_click_costs_neither_a_place_nor_a_token() {
    let mut quota = quota(2, 1, 2);
    quota.enter(&submission(1, "ada", "k"), NOW).expect("there is room");
    // It is not persisted yet, so it can't be the answer: the database will find that it exists.
    quota.enter(&submission(2, "ada", "k"), NOW).expect("a repeat takes no place");
    quota.enter(&submission(3, "ada", "l"), NOW).expect("a repeat took no token");
    assert_eq!(quota.enter(&submission(4, "ada", "m"), NOW), Err(None));
    // A program that clicks all the time has no more for nothing than a person.
    let repeats = (5..50).filter(|number| quota.enter(&submission(*number, "ada", "k"), NOW).is_ok()).count();
    assert_eq!(repeats, REPEATS_MAX - 1);
    // A repeat is persisted before the first: both have one place.
    quota.accepted("ada", id(2));
    assert_eq!(quota.enter(&submission(4, "ada", "m"), NOW), Err(None));
    // The first is withdrawn, and the repeat keeps its place.
    quota.leave("ada", id(1));
    assert_eq!(quota.known(&submission(4, "ada", "k")), Some((id(2), true)));
    assert_eq!(quota.enter(&submission(4, "ada", "m"), NOW), Err(None));
}

/// The first was refused by the database, and its repeat is still on its way there.
#[test]
fn a_repeat_keeps_the_place_of_the_first() {
    let mut quota = quota(2, 1_000, 1_000);
    for (number, key) in [(1, "k"), (2, "k"), (3, "l")] {
        quota.enter(&submission(number, "ada", key), NOW).expect("there is room");
    }
    quota.leave("ada", id(1));
    assert_eq!(quota.enter(&submission(4, "ada", "m"), NOW), Err(None));
    quota.leave("ada", id(2));
    quota.enter(&submission(5, "ada", "m"), NOW).expect("a place is free");
}

#[test]
fn a_submission_that_is_one_too_many_costs_no_token() {
    let mut quota = quota(1, 1, 2);
    assert_eq!(submit(&mut quota, 0, "ada", NOW), Ok(()));
    for number in 1..20 {
        assert_eq!(submit(&mut quota, number, "ada", NOW), Err(None));
    }
    quota.leave("ada", id(0));
    assert_eq!(submit(&mut quota, 20, "ada", NOW), Ok(()), "the second token is there");
}

#[test]
fn so_many_a_second_after_a_burst() {
    let mut quota = quota(1_000, 10, 30);
    let mut numbers = 0..;
    let mut tries = |quota: &mut Quota, count: usize, now| {
        let results = numbers.by_ref().take(count).map(|number| submit(quota, number, "bot", now));
        results.filter(Result::is_ok).count()
    };
    assert_eq!(tries(&mut quota, 100, NOW), 30);
    assert_eq!(tries(&mut quota, 100, NOW + ms(1_000)), 10);
    let now = NOW + ms(61_000);
    assert_eq!(tries(&mut quota, 100, now), 30, "the burst is whole again");
    let Err(Some(wait)) = submit(&mut quota, 9_000, "bot", now) else { panic!("it is over its quota") };
    assert!(wait > Duration::ZERO && wait <= ms(100), "{wait:?}");
    assert!(submit(&mut quota, 9_000, "bot", now + wait - Duration::from_nanos(1)).is_err());
    assert_eq!(submit(&mut quota, 9_000, "bot", now + wait), Ok(()), "the hint is true");
}

/// Right after the start, too: time begins at 0.
#[test]
fn a_burst_at_the_start_is_no_larger() {
    let mut quota = quota(1_000, 10, 30);
    let accepted = (0..100).filter(|number| submit(&mut quota, *number, "bot", Moment::ZERO).is_ok()).count();
    assert_eq!(accepted, 30);
}

#[test]
fn made_up_names_cost_no_memory() {
    let (mut quota, mut now) = (quota(10, 10, 30), NOW);
    for number in 0..200_000 {
        let subject = format!("nobody-{number}");
        submit(&mut quota, number, &subject, now).expect("a new one is let in");
        quota.leave(&subject, id(number));
        now += Duration::from_micros(100);
    }
    let kept = quota.rate.paid_at.len();
    // A thousand are not whole again yet, and as many more may come before the next look.
    assert!(kept <= 3 * SUBJECTS_KEPT, "{kept} are remembered");
    assert!(quota.open.is_empty());
}

/// Beyond the bound a new name passes unchecked, and one that is remembered does not.
#[test]
fn no_more_names_than_the_bound_are_remembered() {
    let mut quota = quota(10, 1, 1);
    for number in 0..SUBJECTS_MAX + 5 {
        submit(&mut quota, number, &format!("nobody-{number}"), NOW).expect("a new one is let in");
    }
    assert_eq!(quota.rate.paid_at.len(), SUBJECTS_MAX);
    assert!(matches!(submit(&mut quota, 900_000, "nobody-7", NOW), Err(Some(_))));
}
