//! Moments as milliseconds since the Unix epoch. The one place that reads the wall clock.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A moment in milliseconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMs(pub i64);

/// The wall clock.
#[allow(clippy::disallowed_methods, reason = "this is the one place that may read it")]
pub fn now() -> UnixMs {
    UnixMs(jiff::Timestamp::now().as_millisecond())
}

impl UnixMs {
    /// The moment `ms` milliseconds later.
    pub fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// The moment on the wire.
    pub fn to_wire(self) -> prost_types::Timestamp {
        let nanos = self.0.rem_euclid(1000) * 1_000_000;
        // `rem_euclid(1000)` keeps it below 10^9.
        prost_types::Timestamp { seconds: self.0.div_euclid(1000), nanos: nanos as i32 }
    }

    /// The moment from the wire, to the millisecond; `None` when out of the years 1 to 9999.
    pub fn from_wire(wire: &prost_types::Timestamp) -> Option<Self> {
        let moment = jiff::Timestamp::new(wire.seconds, wire.nanos).ok()?;
        Some(Self(moment.as_millisecond()))
    }
}

impl fmt::Display for UnixMs {
    /// RFC 3339 in UTC, to the millisecond.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(moment) => write!(f, "{moment:.3}"),
            Err(_) => write!(f, "{} ms", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_round_trip() {
        for ms in [0, 1, 999, 1_000, -1, 1_787_000_000_123] {
            assert_eq!(UnixMs::from_wire(&UnixMs(ms).to_wire()), Some(UnixMs(ms)));
        }
        assert_eq!(UnixMs(1_787_000_000_123).to_string(), "2026-08-17T20:53:20.123Z");
    }
}
