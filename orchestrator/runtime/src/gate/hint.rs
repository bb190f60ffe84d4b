//! When those who are turned away should come back: when there will be room, and one after the other as fast as the
//! system takes them.
//!
//! ```text
//! now ─────── those in line are decided ──┬──┬──┬──┬──┬── ... ── HINT_MAX
//!                                         1  2  3  4  5          then anywhere between
//! ```

use std::ops::Range;
use std::time::{Duration, Instant};

/// Where nobody knows how long it takes: everything stands still, or nobody has waited yet. Soon enough to be served as
/// soon as it goes on, and wide enough that not all come at once.
const UNKNOWN: Range<Duration> = Duration::from_millis(500)..Duration::from_millis(2_500);
/// Shortest hint: nobody comes back faster over a network.
pub(super) const HINT_MIN: Duration = Duration::from_millis(100);
/// Longest hint. A rate that was taken for lower than it is must keep nobody away for long, and many who are told to come
/// back in a minute do not: the system would wait for those who have gone.
pub(super) const HINT_MAX: Duration = Duration::from_secs(10);
/// Part of a hint by which it is longer or shorter, so that clients with coarse clocks do not fall into step.
const JITTER: f64 = 0.05;

#[derive(Debug, Default)]
pub(super) struct Hints {
    /// When the next one may come.
    next: Option<Instant>,
}

impl Hints {
    /// The hint for one more that is turned away, when so many are before it and are decided at this rate. `random` is 0
    /// to 1.
    pub(super) fn next(&mut self, now: Instant, open: usize, rate: Option<f64>, random: f64) -> Duration {
        let Some(rate) = rate else { return spread(UNKNOWN, random) };
        let room = Duration::try_from_secs_f64(open as f64 / rate).unwrap_or(HINT_MAX).min(HINT_MAX);
        let turn = self.next.filter(|next| *next > now + room).unwrap_or(now + room);
        let wait = turn - now;
        if wait >= HINT_MAX {
            // More than the system takes in that time are told already.
            return spread(room.min(HINT_MAX / 2)..HINT_MAX, random);
        }
        self.next = Some(turn + Duration::from_secs_f64(1.0 / rate));
        wait.mul_f64(1.0 + (random * 2.0 - 1.0) * JITTER).max(HINT_MIN)
    }
}

/// When all that are open now are decided, within the bounds of a hint.
pub(super) fn all_decided(open: usize, rate: Option<f64>) -> Duration {
    let room = rate.and_then(|rate| Duration::try_from_secs_f64(open as f64 / rate).ok());
    room.unwrap_or(UNKNOWN.end).clamp(HINT_MIN, HINT_MAX)
}

fn spread(range: Range<Duration>, random: f64) -> Duration {
    range.start + (range.end - range.start).mul_f64(random)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hints to so many who are turned away at one moment, with `random` going through all its values.
    fn hints(count: usize, open: usize, rate: Option<f64>) -> Vec<Duration> {
        let (mut hints, now) = (Hints::default(), Instant::now());
        (0..count).map(|number| hints.next(now, open, rate, number as f64 * 0.618_034 % 1.0)).collect()
    }

    fn within(hints: &[Duration], from_s: f64, to_s: f64) -> usize {
        hints.iter().filter(|hint| (from_s..to_s).contains(&hint.as_secs_f64())).count()
    }

    #[test]
    fn they_come_back_when_there_is_room_at_the_rate_that_the_system_takes() {
        let hints = hints(6_000, 1_500, Some(1_000.0));
        assert_eq!(within(&hints, 0.0, 1.4), 0, "nobody before those who wait now are decided");
        for second in 3..7 {
            let come = within(&hints, f64::from(second), f64::from(second) + 1.0);
            assert!((900..=1_100).contains(&come), "{come} come in second {second}");
        }
    }

    #[test]
    fn more_than_can_come_in_time_are_spread() {
        let hints = hints(30_000, 1_500, Some(1_000.0));
        assert_eq!(within(&hints, 0.0, HINT_MAX.as_secs_f64() * (1.0 + JITTER)), hints.len());
        for second in (2..9).step_by(2) {
            let come = within(&hints, f64::from(second), f64::from(second) + 2.0);
            assert!((6_000..=8_000).contains(&come), "{come} come from second {second} on");
        }
    }

    #[test]
    fn what_was_promised_long_ago_holds_nobody_up() {
        let (mut hints, now) = (Hints::default(), Instant::now());
        for _ in 0..5_000 {
            hints.next(now, 100, Some(1_000.0), 0.5);
        }
        assert!(hints.next(now, 100, Some(1_000.0), 0.5) > Duration::from_secs(5));
        let later = now + Duration::from_secs(60);
        assert_eq!(hints.next(later, 200, Some(1_000.0), 0.5), Duration::from_millis(200));
    }

    #[test]
    fn where_nothing_is_known_they_are_spread() {
        let hints = hints(1_000, 20_000, None);
        for part in 0..4 {
            let from_s = 0.5 + 0.5 * f64::from(part);
            assert!((200..=300).contains(&within(&hints, from_s, from_s + 0.5)), "{part}");
        }
        assert!(self::hints(10, 0, Some(1e6)).iter().all(|hint| *hint >= HINT_MIN));
        assert!(self::hints(10, 1_000, Some(1e-9)).iter().all(|hint| *hint <= HINT_MAX));
    }
}
