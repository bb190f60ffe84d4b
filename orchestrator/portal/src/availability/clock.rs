//! The age of a message of the feed, whose moment is by the seat service's clock. That clock may be wrong.
//!
//! The quickest message of a connection gives the difference between the two clocks. Every other message was longer on
//! its way by as much as it arrived later than its moment and that difference suggest.

use std::time::Duration;

use matricula_kit::time::UnixMs;
use tokio::time::Instant;

/// The clock of the process at the other end of a connection.
#[derive(Debug, Default)]
pub(super) struct SourceClock {
    /// The moment and the arrival of the message that was the shortest time on its way.
    quickest: Option<(UnixMs, Instant)>,
}

impl SourceClock {
    /// How much older a message of this moment is at its arrival than the quickest message was.
    pub(super) fn age(&mut self, moment: UnixMs, received: Instant) -> Duration {
        let age_ms = self.quickest.map_or(0, |(quickest, at)| {
            let later = i64::try_from(received.saturating_duration_since(at).as_millis()).unwrap_or(i64::MAX);
            later.saturating_sub(moment.0.saturating_sub(quickest.0))
        });
        if age_ms <= 0 {
            self.quickest = Some((moment, received));
        }
        Duration::from_millis(u64::try_from(age_ms).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ages of messages of these moments that arrive after these times, in milliseconds.
    #[track_caller]
    fn check(messages: &[(i64, u64, u64)]) {
        let (mut clock, start) = (SourceClock::default(), Instant::now());
        for (moment, after_ms, expect) in messages {
            let age = clock.age(UnixMs(*moment), start + Duration::from_millis(*after_ms));
            assert_eq!(age.as_millis(), u128::from(*expect), "of {moment} after {after_ms} ms: {messages:?}");
        }
    }

    #[test]
    fn a_slow_message_is_old_even_if_the_other_clock_is_wrong() {
        for off in [0, 3_600_000, -3_600_000, 1_787_000_000_000] {
            // In time, late by 2 s, the backlog that follows it, and in time again.
            check(&[(off, 0, 0), (off + 250, 250, 0), (off + 500, 2_500, 2_000), (off + 750, 2_500, 1_750)]);
            check(&[(off, 0, 0), (off + 1_000, 3_000, 2_000), (off + 3_000, 3_010, 10), (off + 4_000, 4_000, 0)]);
            // The first message was slow, and a quicker one shows that.
            check(&[(off, 700, 0), (off + 800, 800, 0), (off + 900, 1_600, 700)]);
        }
        // The other clock is set. Ahead: this is not seen. Back: messages look old until there is a new connection.
        check(&[(0, 0, 0), (3_600_250, 250, 0), (3_600_500, 500, 0)]);
        check(&[(5_000, 0, 0), (3_250, 250, 2_000), (3_500, 500, 2_000)]);
        check(&[(i64::MIN, 0, 0), (i64::MAX, 1, 0), (i64::MIN, 2, i64::MAX as u64)]);
    }
}
