//! One section's seats.

use matricula_kit::answer::{Reason, Refusal};
use matricula_kit::id::{OverrideId, SectionId};
use matricula_kit::source::Source;
use matricula_kit::time::{TimeZone, UnixMs, shown};
use serde::{Deserialize, Serialize};

/// The seats of a section, as one version of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    /// The section.
    pub id: SectionId,
    /// Seats that may be taken; 0 is a frozen section.
    pub capacity: i32,
    /// Seats that are taken; more than the capacity after it was lowered, or by overrides.
    pub taken: i32,
    /// Grows by one with every operation that changes the section.
    pub version: i64,
    /// When `version` was made.
    pub changed_at: UnixMs,
    /// When the last free seat went; `None` while seats are free.
    pub closed_at: Option<UnixMs>,
    /// When the capacity was set to what it is; `None` when an earlier version of this service has set it.
    #[serde(default)]
    pub capacity_set_at: Option<UnixMs>,
    /// The source of the capacity; `None` when an earlier version of this service has stored it.
    #[serde(default)]
    pub capacity_source: Option<Source>,
    /// The capacity in the last bundle that named the section; `None` when that is not known. The feed does not have it.
    #[serde(skip)]
    pub bundle_capacity: Option<i32>,
}

impl Section {
    /// A new section of a bundle, without any seat taken.
    pub fn new(id: SectionId, capacity: i32, now: UnixMs) -> Self {
        let mut section = Self {
            id,
            capacity,
            taken: 0,
            version: 0,
            changed_at: now,
            closed_at: None,
            capacity_set_at: Some(now),
            capacity_source: Some(Source::Bundle),
            bundle_capacity: Some(capacity),
        };
        section.touch(now);
        section
    }

    /// Seats that are free.
    pub fn free(&self) -> i32 {
        (self.capacity - self.taken).max(0)
    }

    /// Whether one more student gets in, and by which override if no seat is free. `None`: the section is closed.
    pub fn admits<'a>(&self, override_id: Option<&'a OverrideId>) -> Option<Option<&'a OverrideId>> {
        if self.free() > 0 { Some(None) } else { override_id.map(Some) }
    }

    /// Takes a seat.
    pub fn take(&mut self, now: UnixMs) {
        self.taken += 1;
        self.touch(now);
    }

    /// Gives a seat back.
    pub fn give_back(&mut self, now: UnixMs) {
        self.taken -= 1;
        self.touch(now);
    }

    /// Staff set the capacity; whether that changed anything. The section keeps the number of the bundle, so that the next
    /// import leaves the number of staff. Where the former is not known, the capacity until now counts as it.
    pub fn set_by_staff(&mut self, capacity: i32, now: UnixMs) -> bool {
        let bundle = self.bundle_capacity.unwrap_or(self.capacity);
        self.set_capacity(capacity, Source::Staff, bundle, now)
    }

    /// A bundle sets the capacity; whether that changed anything. It replaces what staff have set.
    pub fn set_by_bundle(&mut self, capacity: i32, now: UnixMs) -> bool {
        self.set_capacity(capacity, Source::Bundle, capacity, now)
    }

    fn set_capacity(&mut self, capacity: i32, source: Source, bundle: i32, now: UnixMs) -> bool {
        let is_other = self.capacity != capacity;
        let changes = is_other || self.capacity_source != Some(source) || self.bundle_capacity != Some(bundle);
        if changes {
            (self.capacity, self.capacity_source, self.bundle_capacity) = (capacity, Some(source), Some(bundle));
            if is_other {
                self.capacity_set_at = Some(now);
            }
            self.touch(now);
        }
        changes
    }

    /// Why nobody gets in without an override, with moments as they are in the campus's time zone.
    pub fn closed(&self, zone: &TimeZone) -> Refusal {
        let Self { id, capacity, taken, .. } = self;
        let full = match self.capacity {
            0 => format!("Section {id} gives out no seats at present."),
            1 if *taken == 1 => format!("Section {id} is full: its one seat is taken."),
            _ if taken == capacity => format!("Section {id} is full: all {capacity} seats are taken."),
            _ => format!("Section {id} is full: {taken} seats are taken, of {capacity}."),
        };
        let message = match (self.closed_at, self.capacity_set_at) {
            (Some(closed), set) if *capacity > 0 && set != Some(closed) => {
                format!("{full} The last seat went at {}.", shown(closed, zone))
            }
            (_, Some(set)) => format!("{full} Its capacity was set to {capacity} at {}.", shown(set, zone)),
            _ => full,
        };
        let next_step = "Choose another section of the course, or try again when a seat is free.";
        Refusal {
            section_version: Some(self.version),
            closed_at: self.closed_at,
            capacity: Some(self.capacity),
            capacity_set_at: self.capacity_set_at,
            ..Refusal::section(Reason::ClosedSection, id, message, next_step)
        }
    }

    /// A new version, with `closed_at` as the seats now say.
    fn touch(&mut self, now: UnixMs) {
        self.version += 1;
        self.changed_at = now;
        self.closed_at = if self.free() > 0 { None } else { self.closed_at.or(Some(now)) };
    }
}
