//! A circuit breaker, pure: when calls to a destination may leave. An open one parks them without spending attempts.
//!
//! ```text
//! closed --failures in a row--> open --time--> probing --success--> closed
//!                                 ^                |
//!                                 +----failure-----+   (and the time doubles)
//! ```

use std::time::{Duration, Instant};

/// When a destination may be called.
#[derive(Debug)]
pub(crate) struct Breaker {
    failures_max: u32,
    open_first: Duration,
    open_max: Duration,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant, for_next: Duration },
    Probing { for_next: Duration },
}

/// What may be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permit {
    /// Anything.
    All,
    /// One call, to see whether the destination is back.
    Probe,
    /// Nothing, before this moment.
    NotBefore(Instant),
    /// Nothing, before the probe has ended.
    AfterProbe,
}

impl Breaker {
    pub(crate) fn new(failures_max: u32, open_first: Duration, open_max: Duration) -> Self {
        Self { failures_max, open_first, open_max, state: State::Closed { failures: 0 } }
    }

    pub(crate) fn permit(&self, now: Instant) -> Permit {
        match self.state {
            State::Closed { .. } => Permit::All,
            State::Open { until, .. } if now < until => Permit::NotBefore(until),
            State::Open { .. } => Permit::Probe,
            State::Probing { .. } => Permit::AfterProbe,
        }
    }

    /// A probe has left.
    pub(crate) fn probing(&mut self) {
        if let State::Open { for_next, .. } = self.state {
            self.state = State::Probing { for_next };
        }
    }

    pub(crate) fn succeeded(&mut self) {
        self.state = State::Closed { failures: 0 };
    }

    pub(crate) fn failed(&mut self, now: Instant) {
        self.state = match self.state {
            State::Closed { failures } if failures + 1 < self.failures_max => State::Closed { failures: failures + 1 },
            State::Closed { .. } => self.open(now, self.open_first),
            State::Probing { for_next } => self.open(now, for_next),
            // A call that left before it opened.
            open @ State::Open { .. } => open,
        };
    }

    pub(crate) fn name(&self) -> &'static str {
        match self.state {
            State::Closed { .. } => "closed",
            State::Open { .. } => "open",
            State::Probing { .. } => "probing",
        }
    }

    fn open(&self, now: Instant, for_now: Duration) -> State {
        State::Open { until: now + for_now, for_next: (for_now * 2).min(self.open_max) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn opens_after_failures_in_a_row_and_closes_after_a_probe() {
        let start = Instant::now();
        let mut breaker = Breaker::new(3, 100 * MS, 300 * MS);
        breaker.failed(start);
        breaker.failed(start);
        breaker.succeeded();
        breaker.failed(start);
        breaker.failed(start);
        assert_eq!(breaker.permit(start), Permit::All, "a success in between starts the count again");
        breaker.failed(start);
        assert_eq!(breaker.permit(start), Permit::NotBefore(start + 100 * MS));
        assert_eq!(breaker.permit(start + 100 * MS), Permit::Probe);
        breaker.probing();
        assert_eq!(breaker.permit(start + 100 * MS), Permit::AfterProbe);
        breaker.succeeded();
        assert_eq!(breaker.permit(start + 100 * MS), Permit::All);
    }

    #[test]
    fn waits_longer_after_each_failed_probe() {
        let mut now = Instant::now();
        let mut breaker = Breaker::new(1, 100 * MS, 300 * MS);
        breaker.failed(now);
        for wait in [100, 200, 300, 300] {
            assert_eq!(breaker.permit(now), Permit::NotBefore(now + wait * MS));
            now += wait * MS;
            breaker.probing();
            breaker.failed(now);
        }
    }

    #[test]
    fn a_late_failure_does_not_prolong_it() {
        let start = Instant::now();
        let mut breaker = Breaker::new(1, 100 * MS, 300 * MS);
        breaker.failed(start);
        breaker.failed(start + 50 * MS);
        assert_eq!(breaker.permit(start + 100 * MS), Permit::Probe);
    }
}
