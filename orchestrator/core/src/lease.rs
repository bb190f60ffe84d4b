//! The database's clock, this instance's lease, and the sagas of instances that have ended.

use crate::Moment;

/// One reading of the database's clock, with the moment of this process at which it was read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClockReading {
    /// The moment of the reading.
    pub now: Moment,
    /// The same by the database's clock, in milliseconds since 1970.
    pub now_ms: i64,
}

impl ClockReading {
    /// Another moment by the database's clock.
    pub(crate) fn ms_at(self, at: Moment) -> i64 {
        let ms = |span: Moment| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        let (ago_ms, ahead_ms) = (ms(self.now.saturating_sub(at)), ms(at.saturating_sub(self.now)));
        self.now_ms.saturating_sub(ago_ms).saturating_add(ahead_ms)
    }
}
