//! Tests of admission: bounds, hints, and how fast one subject may submit.

use super::*;
use crate::Ticket;
use crate::line::Line;
use crate::ready::LineState;

fn ms(ms: u64) -> Moment {
    Moment::from_millis(ms)
}

/// Any moment.
const NOW: Moment = Moment::from_secs(1_000);

/// A line of this many sagas, at a bound of ten.
fn line(waiting: u64) -> Line<()> {
    let config = CoreConfig { admission_queue_max: 10, ..CoreConfig::default() };
    let mut line = Line::new(&config, NOW);
    line.update(LineState { last: Ticket(waiting), ..LineState::default() }, NOW);
    line
}

fn bounds(change: impl FnOnce(&mut CoreConfig)) -> Bounds {
    let mut config = CoreConfig { subject_per_second_max: 1, subject_burst_max: 2, ..CoreConfig::default() };
    change(&mut config);
    Bounds::new(&config, 7)
}

fn load(line: &Line<()>) -> Load<'_, ()> {
    Load { line, coming: 0, in_memory: 0, unwritten_since: None }
}

#[test]
fn a_submission_that_is_rejected_for_lack_of_room_takes_no_token() {
    let (full, free) = (line(10), line(9));
    let mut bounds = bounds(|config| config.sagas_in_memory_max = 5);
    let since = NOW - Duration::from_secs(1);
    let no_room =
        [load(&full), Load { in_memory: 5, ..load(&free) }, Load { unwritten_since: Some(since), ..load(&free) }];
    for load in no_room {
        for _ in 0..20 {
            let rejected = bounds.check(Some("eager"), &load, NOW);
            assert!(matches!(rejected, Err(Rejection::QueueFull { .. })), "{rejected:?}");
        }
    }
    let is_nearly_stuck = Some(since + ms(1));
    for _ in 0..2 {
        let load = Load { in_memory: 4, unwritten_since: is_nearly_stuck, ..load(&free) };
        assert_eq!(bounds.check(Some("eager"), &load, NOW), Ok(()), "the burst is whole");
    }
    let too_fast = bounds.check(Some("eager"), &load(&free), NOW);
    assert!(matches!(too_fast, Err(Rejection::OverQuota { .. })), "{too_fast:?}");
    assert_eq!(bounds.check(Some("another"), &load(&free), NOW), Ok(()));
    assert_eq!(bounds.check(None, &load(&free), NOW), Ok(()), "staff submit as fast as they like");
}

/// Only the length of the line says how long it takes until there is load.
#[test]
fn a_full_memory_or_a_slow_log_gives_hints_without_a_rate() {
    let mut full = line(9);
    let turns = |served| LineState { served: Ticket(served), last: Ticket(served + 9), ..LineState::default() };
    for tick in 0..100 {
        full.update(turns(tick * 10), NOW + ms(tick * 100));
    }
    let now = NOW + ms(9_900);
    assert!(full.rate(now).is_some_and(|rate| (95.0..105.0).contains(&rate)), "{:?}", full.rate(now));
    let mut bounds = bounds(|config| config.sagas_in_memory_max = 5);
    let hint = |bounds: &mut Bounds, load: &Load<'_, ()>| match bounds.check(Some("ada"), load, now) {
        Err(Rejection::QueueFull { retry_after }) => retry_after,
        other => panic!("{other:?}"),
    };
    let of_memory = hint(&mut bounds, &Load { in_memory: 5, ..load(&full) });
    assert!(of_memory >= ms(500), "{of_memory:?}");
    full.update(LineState { served: Ticket(990), last: Ticket(1_000), ..LineState::default() }, now);
    let of_line = hint(&mut bounds, &load(&full));
    assert!(of_line < ms(150), "{of_line:?}");
}

/// The hints for several clients that are rejected at one moment.
fn hints(count: usize, waiting: u64, rate: Option<f64>) -> Vec<Duration> {
    let mut retries = RetryAfterScheduler::new(7);
    (0..count).map(|_| retries.next(NOW, waiting, rate)).collect()
}

fn within(hints: &[Duration], from_s: f64, to_s: f64) -> usize {
    hints.iter().filter(|hint| (from_s..to_s).contains(&hint.as_secs_f64())).count()
}

#[test]
fn clients_come_back_when_there_is_room_at_the_rate_of_turns() {
    let hints = hints(6_000, 1_500, Some(1_000.0));
    assert_eq!(within(&hints, 0.0, 1.4), 0, "none before those that wait now have had their turns");
    for second in 3..7 {
        let come = within(&hints, f64::from(second), f64::from(second) + 1.0);
        assert!((900..=1_100).contains(&come), "{come} come in second {second}");
    }
}

#[test]
fn hints_beyond_the_longest_are_spread() {
    let hints = hints(30_000, 1_500, Some(1_000.0));
    assert_eq!(within(&hints, 0.0, RETRY_MAX.as_secs_f64() * (1.0 + RETRY_JITTER)), hints.len());
    for second in (2..9).step_by(2) {
        let come = within(&hints, f64::from(second), f64::from(second) + 2.0);
        assert!((6_000..=8_000).contains(&come), "{come} come from second {second} on");
    }
}

#[test]
fn earlier_hints_do_not_delay_later_clients() {
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

fn limiter(per_second: u32, burst: u32) -> RateLimiter {
    RateLimiter::new(per_second, burst)
}

#[test]
fn a_subject_has_a_burst_and_then_a_rate() {
    let mut rate = limiter(10, 30);
    let tries =
        |rate: &mut RateLimiter, count: usize, now| (0..count).filter(|_| rate.take("bot", now).is_ok()).count();
    assert_eq!(tries(&mut rate, 100, NOW), 30);
    assert_eq!(tries(&mut rate, 100, NOW + ms(1_000)), 10);
    let now = NOW + ms(61_000);
    assert_eq!(tries(&mut rate, 100, now), 30, "the burst is whole again");
    let Err(wait) = rate.take("bot", now) else { panic!("it is over its quota") };
    assert!(wait > Duration::ZERO && wait <= ms(100), "{wait:?}");
    assert!(rate.take("bot", now + wait - Duration::from_nanos(1)).is_err());
    assert_eq!(rate.take("bot", now + wait), Ok(()), "the hint is true");
}

/// Right after the start, too: time begins at 0.
#[test]
fn a_burst_at_the_start_is_no_larger() {
    let mut rate = limiter(10, 30);
    let accepted = (0..100).filter(|_| rate.take("bot", Moment::ZERO).is_ok()).count();
    assert_eq!(accepted, 30);
}

#[test]
fn subjects_with_a_whole_burst_are_swept() {
    let (mut rate, mut now) = (limiter(10, 30), NOW);
    for number in 0..200_000 {
        let subject = format!("nobody-{number}");
        rate.take(&subject, now).expect("a new one is let in");
        now += Duration::from_micros(100);
    }
    let kept = rate.arrival_at.len();
    // A thousand are not whole again yet, and as many more may come before the next look.
    assert!(kept <= 3 * SUBJECTS_KEPT, "{kept} are remembered");
}

/// Beyond the bound a new name passes unchecked, and one that is remembered does not.
#[test]
fn no_more_subjects_than_the_bound_are_kept() {
    let mut rate = limiter(1, 1);
    for number in 0..SUBJECTS_MAX + 5 {
        rate.take(&format!("nobody-{number}"), NOW).expect("a new one is let in");
    }
    assert_eq!(rate.arrival_at.len(), SUBJECTS_MAX);
    assert!(rate.take("nobody-7", NOW).is_err());
}

#[test]
fn the_latest_keys_are_answered_from_memory() {
    let mut repeats = Repeats::default();
    let id = SagaId::from_u128;
    repeats.accepted("ada", "k", "A", id(1));
    assert_eq!(repeats.find("ada", "k", "A"), Some((id(1), true)));
    assert_eq!(repeats.find("ada", "k", "B"), Some((id(1), false)));
    assert_eq!(repeats.find("bob", "k", "A"), None);
    repeats.accepted("ada", "k", "A", id(1));
    for number in 0..KEYS_MAX as u128 {
        repeats.accepted("bob", &number.to_string(), "A", id(number));
    }
    assert_eq!(repeats.find("ada", "k", "A"), None, "the oldest is forgotten");
    assert_eq!(repeats.find("bob", "0", "A"), Some((id(0), true)));
    assert_eq!((repeats.known.len(), repeats.order.len()), (KEYS_MAX, KEYS_MAX));
}
