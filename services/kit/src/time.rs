//! Timestamps as milliseconds since the Unix epoch. The only place that reads the wall clock.

use std::fmt;

pub use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// A timestamp in milliseconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMs(pub i64);

/// The wall clock.
#[allow(clippy::disallowed_methods, reason = "this is the one place that may read it")]
pub fn now() -> UnixMs {
    UnixMs(jiff::Timestamp::now().as_millisecond())
}

impl UnixMs {
    /// The timestamp `ms` milliseconds later.
    pub fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// The wire form.
    pub fn to_wire(self) -> prost_types::Timestamp {
        let nanos = self.0.rem_euclid(1000) * 1_000_000;
        // `rem_euclid(1000)` keeps it below 10^9.
        prost_types::Timestamp { seconds: self.0.div_euclid(1000), nanos: nanos as i32 }
    }

    /// Reads the wire form, to the millisecond; `None` if it is outside of the years 1 to 9999.
    pub fn from_wire(wire: &prost_types::Timestamp) -> Option<Self> {
        let moment = jiff::Timestamp::new(wire.seconds, wire.nanos).ok()?;
        Some(Self(moment.as_millisecond()))
    }
}

/// A timestamp for people on a campus, to the second, with the zone: `2028-08-24 09:00:03 EDT`.
pub fn shown(at: UnixMs, zone: &TimeZone) -> String {
    let shown = jiff::Timestamp::from_millisecond(at.0).map(|at| at.to_zoned(zone.clone()));
    shown.map_or_else(|_| at.to_string(), |at| at.strftime("%Y-%m-%d %H:%M:%S %Z").to_string())
}

/// The zone with an IANA name; every binary contains a copy of the database.
pub fn zone(name: &str) -> Result<TimeZone, String> {
    let unknown =
        |_| format!("{name:?} is not a time zone; use a name of the IANA database, such as America/New_York or UTC");
    TimeZone::get(name).map_err(unknown)
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
    fn timestamps_are_shown_in_the_zone_of_the_campus() {
        let shown = |ms, name| shown(UnixMs(ms), &zone(name).expect("a zone"));
        assert_eq!(shown(1_787_000_000_123, "America/Los_Angeles"), "2026-08-17 13:53:20 PDT");
        assert_eq!(shown(1_787_000_000_123, "Asia/Tokyo"), "2026-08-18 05:53:20 JST");
        assert_eq!(shown(1_787_000_000_123, "UTC"), "2026-08-17 20:53:20 UTC");
        assert!(zone("America/Nowhere").expect_err("no zone").contains("IANA"));
    }

    #[test]
    fn wire_round_trip() {
        for ms in [0, 1, 999, 1_000, -1, 1_787_000_000_123] {
            assert_eq!(UnixMs::from_wire(&UnixMs(ms).to_wire()), Some(UnixMs(ms)));
        }
        assert_eq!(UnixMs(1_787_000_000_123).to_string(), "2026-08-17T20:53:20.123Z");
    }
}
