//! The seats of one section in one version: from the feed, and to the clients of the catalogue.

use matricula_kit::id::SectionId;
use matricula_kit::time::UnixMs;
use matricula_proto::catalog::v1 as wire;
use matricula_proto::common::v1::Source;
use matricula_proto::seats::v1::SectionSeats;

/// A section as the seat service committed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seats {
    pub(super) capacity: i32,
    pub(super) taken: i32,
    pub(super) version: i64,
    pub(super) changed_at: Option<UnixMs>,
    pub(super) capacity_source: Source,
}

impl Seats {
    /// A section from the feed.
    pub(crate) fn from_wire(wire: SectionSeats) -> (SectionId, Self) {
        let seats = Self {
            capacity: wire.capacity,
            taken: wire.taken,
            version: wire.version,
            changed_at: wire.changed_at.as_ref().and_then(UnixMs::from_wire),
            capacity_source: wire.capacity_source(),
        };
        (SectionId::stored(wire.section_id), seats)
    }

    /// The version that it is.
    pub(crate) fn version(&self) -> i64 {
        self.version
    }

    pub(super) fn free(&self) -> i32 {
        // A capacity may be set below what is taken.
        self.capacity.saturating_sub(self.taken).max(0)
    }

    pub(super) fn to_wire(self, section_id: String) -> wire::Availability {
        wire::Availability {
            section_id,
            capacity: self.capacity,
            free: self.free(),
            version: self.version,
            changed_at: self.changed_at.map(UnixMs::to_wire),
            capacity_source: self.capacity_source.into(),
        }
    }
}
