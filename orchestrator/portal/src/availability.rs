//! Free seats in memory, from the feed of the seat service, for many readers.
//!
//! Promises: each section has the highest version that was sent. An answer is one moment of the feed, never half of a
//! snapshot. The cache is `live` only while the feed is connected and its last message is not older than
//! [`SILENCE_MAX`], counted from its publication and from its arrival. A snapshot replaces the state: a section that is
//! not in it is gone, and each watcher gets a message about that. The memory is bounded by the number of sections, the
//! versions of each, and [`GONE_MAX`]: a slow watcher gets the latest version of each changed section, not a queue.
//!
//! The cache also keeps the versions that it has shown, because no other process has them: see
//! [`AvailabilityCache::seen`].

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use matricula_kit::answer::SeenSeats;
use matricula_kit::id::SectionId;
use matricula_kit::time::UnixMs;
use matricula_proto::catalog::v1 as wire;
use matricula_proto::common::v1::Source;
use matricula_proto::seats::v1::SectionSeats;
use tokio::sync::watch;
use tokio::time::Instant;

use self::clock::SourceClock;

mod clock;
pub(crate) mod feed;

/// Longest silence of a feed that counts as live, so that watchers get the change within a second. The heartbeat of the
/// feed comes every 250 ms: two may be late.
pub(crate) const SILENCE_MAX: Duration = Duration::from_millis(900);
/// Sections in one message of a watch: far below the largest message, and quick to collect.
const CHANGES_MAX: usize = 1_000;
/// Sections that are gone and kept for the watchers: less than 2 MB. Beyond it all of them are purged, and a watcher
/// that did not get them yet begins anew.
const GONE_MAX: usize = 10_000;

/// Earlier versions that are kept of a section. A section of thirty seats has some forty versions from open to full; a
/// section of hundreds is seen minutes before it is full. 256 are 10 kB, and a section that does not change has none.
const VERSIONS_MAX: usize = 256;

/// The seats of all sections.
#[derive(Default)]
pub(crate) struct AvailabilityCache {
    state: RwLock<State>,
    changed: watch::Sender<()>,
}

/// How old an answer is, and whether the feed is live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Freshness {
    pub as_of: Option<UnixMs>,
    pub live: bool,
}

/// The position of a watcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// It has all changes up to here.
    revision: u64,
    /// It began here: it never had the sections that were gone before.
    began: u64,
}

/// The changes since a cursor.
#[derive(Debug)]
pub(crate) struct Changes {
    pub sections: Vec<wire::Availability>,
    /// Sections that the seat service does not have, or not any more.
    pub unknown: Vec<String>,
    /// Where the next changes begin. None before the first snapshot: no section is known yet.
    pub cursor: Option<Cursor>,
    /// More changes are there already: they were too many for one answer.
    pub has_more: bool,
    pub freshness: Freshness,
}

#[derive(Default)]
struct State {
    sections: HashMap<SectionId, Entry>,
    /// Every section by the revision of its last change, so that the changes since a revision are a range.
    by_revision: BTreeMap<u64, SectionId>,
    revision: u64,
    /// Sections that were gone at this revision may be missing in the two maps.
    purged: u64,
    /// None before the first snapshot.
    as_of: Option<UnixMs>,
    clock: SourceClock,
    /// The last message of the feed; none while the feed is lost.
    last_message: Option<LastMessage>,
}

struct LastMessage {
    at: Instant,
    /// How old it was when it arrived.
    age: Duration,
}

#[derive(Default)]
struct Entry {
    /// None when the section is gone.
    seats: Option<Seats>,
    revision: u64,
    history: VersionHistory,
}

impl AvailabilityCache {
    /// Replaces the state by a snapshot. It is complete up to `sent_at`, and its first part arrived at `received`.
    pub(crate) fn replace(&self, snapshot: HashMap<SectionId, Seats>, sent_at: Option<UnixMs>, received: Instant) {
        let mut state = self.write();
        // Another connection, perhaps to another process.
        state.clock = SourceClock::default();
        metrics::gauge!("matricula_availability_sections").set(snapshot.len() as f64);
        let is_gone = |(id, entry): &(&SectionId, &Entry)| entry.seats.is_some() && !snapshot.contains_key(*id);
        let gone: Vec<SectionId> = state.sections.iter().filter(is_gone).map(|(id, _)| id.clone()).collect();
        for id in gone {
            state.set(id, None);
        }
        for (id, seats) in snapshot {
            // A database that was restored may be at an earlier version. That version is the right one now.
            if state.seats(id.as_str()) != Some(seats) {
                state.set(id, Some(seats));
            }
        }
        state.purge();
        state.receive(sent_at, received);
        drop(state);
        self.changed.send_replace(());
    }

    /// Takes changes that arrive now; a message without changes is a heartbeat. With them, everything that was
    /// committed before `sent_at` is known.
    pub(crate) fn apply(&self, changes: Vec<(SectionId, Seats)>, sent_at: Option<UnixMs>) -> Freshness {
        let mut state = self.write();
        let before = (state.revision, state.freshness().live);
        for (id, seats) in changes {
            if state.seats(id.as_str()).is_none_or(|known| known.version < seats.version) {
                state.set(id, Some(seats));
            }
        }
        state.receive(sent_at, Instant::now());
        let freshness = state.freshness();
        let is_changed = (state.revision, freshness.live) != before;
        drop(state);
        if is_changed {
            self.changed.send_replace(());
        }
        freshness
    }

    /// The feed is lost: from now on changes are missing here.
    pub(crate) fn lose(&self) {
        self.write().last_message = None;
        self.changed.send_replace(());
    }

    /// The sections of these ids, the ids that are unknown, and the freshness of both.
    pub(crate) fn get(&self, ids: Vec<String>) -> (Vec<wire::Availability>, Vec<String>, Freshness) {
        let mut found = Vec::with_capacity(ids.len());
        let mut unknown = Vec::new();
        let state = self.read();
        for id in ids {
            match state.seats(&id) {
                Some(seats) => found.push(seats.to_wire(id)),
                None => unknown.push(id),
            }
        }
        (found, unknown, state.freshness())
    }

    /// The changes of these sections (none: of all) since a cursor; without a cursor, the state. None when the sections
    /// that are gone since were purged: the watcher has to begin anew.
    pub(crate) fn since(&self, cursor: Option<Cursor>, of: Option<&[SectionId]>) -> Option<Changes> {
        let state = self.read();
        let freshness = state.freshness();
        let now = state.as_of.map(|_| state.revision);
        let is_new = cursor.is_none() && now.is_some();
        let (revision, began) = cursor.map_or((0, state.revision), |cursor| (cursor.revision, cursor.began));
        if state.purged > began.max(revision) {
            return None;
        }
        let cursor = |revision| Some(Cursor { revision, began });
        let (mut sections, mut unknown) = (Vec::new(), Vec::new());
        if let Some(ids) = of {
            for id in ids {
                let entry = state.sections.get(id);
                let has_changed = entry.is_some_and(|entry| entry.revision > revision);
                match entry.and_then(|entry| entry.seats) {
                    Some(seats) if has_changed => sections.push(seats.to_wire(id.to_string())),
                    None if has_changed || is_new => unknown.push(id.to_string()),
                    _ => {}
                }
            }
            return Some(Changes { sections, unknown, cursor: now.and_then(cursor), has_more: false, freshness });
        }
        let mut last = state.revision;
        let mut range = state.by_revision.range(revision.saturating_add(1)..);
        for (at, id) in range.by_ref().take(CHANGES_MAX) {
            match state.seats(id.as_str()) {
                Some(seats) => sections.push(seats.to_wire(id.to_string())),
                None if *at > began => unknown.push(id.to_string()),
                None => {}
            }
            last = *at;
        }
        let has_more = range.next().is_some();
        let reached = if has_more { Some(last) } else { now };
        Some(Changes { sections, unknown, cursor: reached.and_then(cursor), has_more, freshness })
    }

    /// The seats of a version that was shown here; `None` for a version that was not, or too long ago.
    pub(crate) fn seen(&self, section: &SectionId, version: i64) -> Option<SeenSeats> {
        let state = self.read();
        let entry = state.sections.get(section)?;
        let shown_now = entry.seats.filter(|seats| seats.version == version);
        let seats = shown_now.or_else(|| entry.history.find(version))?;
        Some(SeenSeats { free: seats.free(), capacity: seats.capacity, changed_at: seats.changed_at? })
    }

    /// Notifies of every change from now on, also when the feed is lost or back.
    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    // The state is consistent after each statement, so a panic of one reader need not end the others.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Freshness {
    pub(crate) fn to_wire(self) -> wire::Freshness {
        wire::Freshness { as_of: self.as_of.map(UnixMs::to_wire), live: self.live }
    }
}

impl State {
    /// The seats of a section that is there.
    fn seats(&self, id: &str) -> Option<Seats> {
        self.sections.get(id)?.seats
    }

    /// Changes a section; without seats it is gone.
    fn set(&mut self, id: SectionId, seats: Option<Seats>) {
        self.revision += 1;
        let entry = self.sections.entry(id.clone()).or_default();
        self.by_revision.remove(&entry.revision);
        match (entry.seats, seats) {
            (Some(earlier), Some(present)) => entry.history.succeed(earlier, present),
            _ => entry.history = VersionHistory::default(),
        }
        (entry.seats, entry.revision) = (seats, self.revision);
        self.by_revision.insert(self.revision, id);
    }

    /// Purges the sections that are gone, if they are too many.
    fn purge(&mut self) {
        let Self { sections, by_revision, .. } = self;
        if sections.values().filter(|entry| entry.seats.is_none()).count() > GONE_MAX {
            sections.retain(|_, entry| entry.seats.is_some());
            by_revision.retain(|_, id| sections.contains_key(id));
            self.purged = self.revision;
        }
    }

    fn receive(&mut self, sent_at: Option<UnixMs>, received: Instant) {
        let age = sent_at.map_or(Duration::ZERO, |sent_at| self.clock.age(sent_at, received));
        self.last_message = Some(LastMessage { at: received, age });
        self.as_of = sent_at.or(self.as_of);
    }

    fn freshness(&self) -> Freshness {
        let is_fresh = |last: &LastMessage| last.at.elapsed().saturating_add(last.age) < SILENCE_MAX;
        Freshness { as_of: self.as_of, live: self.last_message.as_ref().is_some_and(is_fresh) }
    }
}

/// A version of a section, as the seat service committed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seats {
    capacity: i32,
    taken: i32,
    version: i64,
    changed_at: Option<UnixMs>,
    capacity_source: Source,
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

    fn free(&self) -> i32 {
        // A capacity may be set below what is taken.
        self.capacity.saturating_sub(self.taken).max(0)
    }

    fn to_wire(self, section_id: String) -> wire::Availability {
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

/// The versions of a section that were shown before the present one, each as it was shown.
#[derive(Debug, Default)]
struct VersionHistory {
    /// In order of their versions.
    versions: VecDeque<Seats>,
}

impl VersionHistory {
    /// `earlier` was shown until now, and `present` is from now on.
    fn succeed(&mut self, earlier: Seats, present: Seats) {
        if present.version <= earlier.version {
            // The database was restored: its versions begin anew, and mean others than those that were shown.
            self.versions.clear();
            return;
        }
        if self.versions.len() == VERSIONS_MAX {
            self.versions.pop_front();
        }
        self.versions.push_back(earlier);
    }

    fn find(&self, version: i64) -> Option<Seats> {
        let at = self.versions.binary_search_by_key(&version, |seats| seats.version).ok()?;
        self.versions.get(at).copied()
    }
}

#[cfg(test)]
mod tests;
