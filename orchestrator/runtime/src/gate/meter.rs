//! How many registrations are decided a second, measured while there is a press: some wait for their turn, or are turned away.
//! Only then it is what the system can do, and not what it is asked for.
//!
//! Promises: time without a press is not counted, nor is what was decided in it, or so soon after that it was begun in it;
//! the memory is some hundred bytes; every call costs the same.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// One slot of the measurement, and how many of them count: three seconds, so that batches even out and a change of the
/// load is seen soon.
const SLOT: Duration = Duration::from_millis(100);
const SLOTS: usize = 30;
/// A press lasts so long after the last one who waited or was turned away. Who waits for the end of a batch only, again and
/// again, is a press; to count only the moments in which somebody waits would be to count many decisions in no time.
const LAPSE: Duration = Duration::from_millis(50);
/// Below this much time and this many decisions nothing is known: one batch more or less would make all the difference.
const TIME_MIN: Duration = Duration::from_millis(500);
const DECIDED_MIN: u32 = 20;

#[derive(Debug)]
pub(super) struct Meter {
    /// As many decisions tell the rate before all slots are full: those that begin together go through their steps
    /// together, and the first of them say nothing of how fast the rest come.
    decided_soon: u32,
    /// Decisions in each full slot, the oldest first.
    slots: VecDeque<u32>,
    /// Decisions in the slot that is being filled, and how far it is.
    current: u32,
    filled: Duration,
    clock: Clock,
    /// When the press is over; none while somebody waits, and before anybody did.
    lapses_at: Option<Instant>,
    /// The last rate at which something was decided: it outlives the rush, and a standstill.
    capacity: Option<f64>,
}

#[derive(Debug, Default)]
enum Clock {
    /// There is no press.
    #[default]
    Stopped,
    /// There is one, and nothing was decided since.
    Ready,
    /// Something was decided since, by a batch that began before the press, and the rest of it comes now.
    Settles {
        /// The clock starts then.
        until: Instant,
    },
    Runs {
        /// Up to when time is counted.
        until: Instant,
    },
}

impl Meter {
    /// Where so many may be at work at a time.
    pub(super) fn new(at_work_max: usize) -> Self {
        let decided_soon = u32::try_from(at_work_max).unwrap_or(u32::MAX).max(DECIDED_MIN);
        let (current, filled, clock) = (0, Duration::ZERO, Clock::default());
        Self { decided_soon, slots: VecDeque::new(), current, filled, clock, lapses_at: None, capacity: None }
    }

    /// Tells whether somebody waits from now on.
    pub(super) fn set_waiting(&mut self, now: Instant, is_waiting: bool) {
        self.advance(now);
        if is_waiting {
            self.press();
            self.lapses_at = None;
        } else {
            self.lapses_at = self.lapses_at.or(Some(now + LAPSE));
        }
    }

    /// Somebody was turned away, because there are as many as are let in.
    pub(super) fn turned_away(&mut self, now: Instant) {
        self.advance(now);
        // While somebody waits, nothing lapses.
        if self.lapses_at.is_some() || matches!(self.clock, Clock::Stopped) {
            self.press();
            self.lapses_at = Some(now + LAPSE);
        }
    }

    fn press(&mut self) {
        if matches!(self.clock, Clock::Stopped) {
            self.clock = Clock::Ready;
        }
    }

    /// Counts one that is decided.
    pub(super) fn decided(&mut self, now: Instant) {
        self.advance(now);
        match self.clock {
            Clock::Stopped | Clock::Settles { .. } => {}
            Clock::Ready => self.clock = Clock::Settles { until: now + SLOT },
            Clock::Runs { .. } => self.current += 1,
        }
    }

    /// Decisions a second in the last seconds in which somebody waited; `None` while that is not known, and when nothing
    /// is decided any more.
    pub(super) fn rate(&mut self, now: Instant) -> Option<f64> {
        self.advance(now);
        self.measured(self.filled)
    }

    /// The same, as it was when something was last decided: what the system can do when nothing is in its way.
    pub(super) fn capacity(&self) -> Option<f64> {
        self.capacity
    }

    /// Over the full slots, and the one that is filled so far.
    fn measured(&self, filled: Duration) -> Option<f64> {
        let decided = self.slots.iter().sum::<u32>() + self.current;
        let time = SLOT * self.slots.len() as u32 + filled;
        let is_full = self.slots.len() >= SLOTS && decided >= DECIDED_MIN;
        let is_known = is_full || (decided >= self.decided_soon && time >= TIME_MIN);
        is_known.then(|| f64::from(decided) / time.as_secs_f64())
    }

    fn advance(&mut self, now: Instant) {
        match self.lapses_at {
            Some(lapses_at) if lapses_at <= now => {
                self.run_until(lapses_at);
                self.clock = Clock::Stopped;
                // A part of a slot would have a whole batch, or none.
                (self.current, self.filled) = (0, Duration::ZERO);
            }
            _ => self.run_until(now),
        }
    }

    fn run_until(&mut self, now: Instant) {
        if let Clock::Settles { until } = self.clock
            && until <= now
        {
            self.clock = Clock::Runs { until };
        }
        let Clock::Runs { until } = &mut self.clock else { return };
        self.filled += now.saturating_duration_since(*until);
        *until = now.max(*until);
        // Slots beyond those that count push each other out: a long standstill costs no more than a short one.
        self.filled = self.filled.min(SLOT * (SLOTS as u32 + 1));
        while self.filled >= SLOT {
            self.filled -= SLOT;
            self.slots.push_back(self.current);
            if self.slots.len() > SLOTS {
                self.slots.pop_front();
            }
            let has_decided = std::mem::take(&mut self.current) > 0;
            if has_decided {
                self.capacity = self.measured(Duration::ZERO).or(self.capacity);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// `batch` decisions at a time, every so often, for so long.
    fn run(meter: &mut Meter, from: Instant, batch: u32, every: Duration, lasts: Duration) -> Instant {
        let mut now = from;
        while now < from + lasts {
            now += every;
            (0..batch).for_each(|_| meter.decided(now));
        }
        now
    }

    #[track_caller]
    fn assert_near(rate: Option<f64>, expected: f64) {
        let rate = rate.expect("it is known");
        assert!((rate / expected - 1.0).abs() < 0.1, "{rate} is not {expected}");
    }

    #[test]
    fn it_measures_what_is_decided_while_somebody_waits() {
        let (mut meter, start) = (Meter::new(1), Instant::now());
        // Nobody waits: what is decided is what was asked for.
        let now = run(&mut meter, start, 1, ms(10), ms(5_000));
        assert_eq!((meter.rate(now), meter.capacity()), (None, None));
        meter.set_waiting(now, true);
        // What was begun before takes a while, and is no measure.
        let now = run(&mut meter, now + ms(400), 100, ms(50), ms(300));
        assert_eq!(meter.rate(now), None, "too short to be told");
        let now = run(&mut meter, now, 100, ms(50), ms(2_000));
        assert_near(meter.rate(now), 2_000.0);
        // An hour in which nobody waits changes nothing.
        meter.set_waiting(now, false);
        let now = now + ms(3_600_000);
        meter.decided(now);
        assert_near(meter.rate(now), 2_000.0);
        meter.set_waiting(now, true);
        let now = run(&mut meter, now, 100, ms(50), ms(1_000));
        assert_near(meter.rate(now), 2_000.0);
    }

    /// A thousand that began together take their steps together, and few of them are decided before the rest.
    #[test]
    fn the_first_of_those_that_began_together_are_no_measure() {
        let (mut meter, start) = (Meter::new(1_000), Instant::now());
        meter.set_waiting(start, true);
        let now = run(&mut meter, start, 5, ms(50), ms(2_000));
        assert_eq!(meter.rate(now), None);
        let now = run(&mut meter, now, 50, ms(50), ms(1_000));
        assert_near(meter.rate(now), 1_200.0 / 3.0);
        // What is slow all the time is known when all slots are full.
        let (mut meter, start) = (Meter::new(1_000), Instant::now());
        meter.set_waiting(start, true);
        let now = run(&mut meter, start, 1, ms(50), ms(5_200));
        assert_near(meter.rate(now), 20.0);
    }

    /// Eight are decided each 10 ms, and somebody waits from before the first of two batches to after the second.
    #[test]
    fn waits_that_end_with_a_batch_count_with_the_time_between_them() {
        let (mut meter, mut now) = (Meter::new(16), Instant::now());
        for _ in 0..100 {
            meter.set_waiting(now, true);
            now = run(&mut meter, now, 8, ms(10), ms(20));
            meter.set_waiting(now, false);
            now = run(&mut meter, now, 8, ms(10), ms(20));
        }
        assert_near(meter.rate(now), 800.0);
        assert_near(meter.capacity(), 800.0);
    }

    #[test]
    fn a_wait_now_and_then_is_no_press() {
        let (mut meter, mut now) = (Meter::new(16), Instant::now());
        for _ in 0..100 {
            meter.set_waiting(now, true);
            now = run(&mut meter, now, 8, ms(10), ms(40));
            meter.set_waiting(now, false);
            now = run(&mut meter, now, 1, ms(10), ms(500));
        }
        assert_eq!((meter.rate(now), meter.capacity()), (None, None));
    }

    /// A bound that is too low keeps everybody from waiting: it must not stay because of that.
    #[test]
    fn who_is_turned_away_is_a_press() {
        let (mut meter, mut now) = (Meter::new(16), Instant::now());
        for _ in 0..100 {
            meter.turned_away(now);
            now = run(&mut meter, now, 8, ms(10), ms(20));
        }
        assert_near(meter.rate(now), 800.0);
        // The last of them is an hour ago.
        now = run(&mut meter, now + ms(3_600_000), 1, ms(10), ms(5_000));
        assert_near(meter.rate(now), 800.0);
        // One who waits is a press, however long ago the last was turned away.
        meter.turned_away(now);
        meter.set_waiting(now, true);
        let now = run(&mut meter, now, 4, ms(10), ms(4_000));
        assert_near(meter.rate(now), 400.0);
    }

    #[test]
    fn it_follows_a_change_within_seconds() {
        let (mut meter, start) = (Meter::new(1), Instant::now());
        meter.set_waiting(start, true);
        let now = run(&mut meter, start, 10, ms(10), ms(6_000));
        assert_near(meter.rate(now), 1_000.0);
        let now = run(&mut meter, now, 10, ms(40), ms(5_500));
        assert_near(meter.rate(now), 250.0);
        assert_near(meter.capacity(), 250.0);
    }

    #[test]
    fn a_standstill_has_no_rate_and_keeps_the_capacity() {
        let (mut meter, start) = (Meter::new(1), Instant::now());
        meter.set_waiting(start, true);
        let now = run(&mut meter, start, 10, ms(10), ms(6_000));
        // Half of the time that counts is a standstill.
        assert_near(meter.rate(now + ms(1_500)), 500.0);
        assert_eq!(meter.rate(now + ms(3_600_000)), None);
        assert_near(meter.capacity(), 1_000.0);
        assert!(meter.slots.len() <= SLOTS && meter.filled < SLOT);
    }
}
