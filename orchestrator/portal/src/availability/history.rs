//! The history of one section: the latest versions that were shown before the present one, in order.
//!
//! Promises: a version is found as it was shown, or not at all; at most [`VERSIONS_MAX`] are kept, the latest.

use std::collections::VecDeque;

use super::seats::Seats;

/// Earlier versions that are kept of a section. A section of thirty seats has some forty from open to full; one of
/// hundreds is seen minutes before it is full. 256 are 10 kB, and a section that does not change has none.
pub(super) const VERSIONS_MAX: usize = 256;

/// Versions of a section that were shown before the present one.
#[derive(Debug, Default)]
pub(super) struct VersionHistory {
    /// In order of their versions.
    versions: VecDeque<Seats>,
}

impl VersionHistory {
    /// `earlier` was shown until now, and `present` is from now on.
    pub(super) fn succeed(&mut self, earlier: Seats, present: Seats) {
        if present.version <= earlier.version {
            // The database was restored: its versions begin anew, and say nothing of those that were shown.
            self.versions.clear();
            return;
        }
        if self.versions.len() == VERSIONS_MAX {
            self.versions.pop_front();
        }
        self.versions.push_back(earlier);
    }

    pub(super) fn find(&self, version: i64) -> Option<Seats> {
        let at = self.versions.binary_search_by_key(&version, |seats| seats.version).ok()?;
        self.versions.get(at).copied()
    }
}
