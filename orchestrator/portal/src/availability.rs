//! Free seats in memory, as the feed of the seat service sends them, for many readers.
//!
//! Promises: of each section the highest version that was sent; an answer is one moment of the feed, never half of a
//! snapshot; `live` only while the feed is connected and its last message is not older than [`SILENCE_MAX`], whether it
//! was published long ago or arrived long ago. A snapshot replaces what was known: a section that it does not have is
//! gone, and each watcher is told so. The memory is bounded by the number of sections, what is kept of each, and
//! [`GONE_MAX`]: a slow watcher finds the latest version of what has changed, not a queue.
//! It also knows what it has shown, because no other process knows what a student saw: see [`AvailabilityCache::seen`].

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

/// Longest silence of a feed that counts as live: whoever watches is told within a second that it is not. Its heartbeat
/// comes every 250 ms: two may be late.
pub(crate) const SILENCE_MAX: Duration = Duration::from_millis(900);
/// Sections in one message of a watch: well below the bounds of a message, and quick to collect.
const CHANGES_MAX: usize = 1_000;
/// Sections that are gone and remembered, so that watchers can be told: less than 2 MB. Beyond it all of them are
/// forgotten, and a watcher that was not told yet begins anew.
const GONE_MAX: usize = 10_000;

/// Earlier versions that are kept of a section. A section of thirty seats has some forty from open to full; one of
/// hundreds is seen minutes before it is full. 256 are 10 kB, and a section that does not change has none.
const VERSIONS_MAX: usize = 256;

/// The seats of all sections.
#[derive(Default)]
pub(crate) struct AvailabilityCache {
    state: RwLock<State>,
    changed: watch::Sender<()>,
}

/// How far an answer can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Freshness {
    pub as_of: Option<UnixMs>,
    pub live: bool,
}

/// How far a watcher is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// It has what has changed up to here.
    revision: u64,
    /// It began here: what was gone before is none of its concern.
    began: u64,
}

/// What has changed since a watcher asked last.
#[derive(Debug)]
pub(crate) struct Changes {
    pub sections: Vec<wire::Availability>,
    /// Sections that the seat service does not have, or not any more.
    pub unknown: Vec<String>,
    /// Ask from here next. None before the first snapshot: nothing is known of any section.
    pub cursor: Option<Cursor>,
    /// Ask at once: there were too many for one answer.
    pub has_more: bool,
    pub freshness: Freshness,
}

#[derive(Default)]
struct State {
    sections: HashMap<SectionId, Entry>,
    /// Every section once, under the revision of its last change: what has changed since a moment is a range.
    /// Those that are gone are in it too.
    by_revision: BTreeMap<u64, SectionId>,
    revision: u64,
    /// Sections that are gone, with the revision at which they went.
    gone: HashMap<SectionId, u64>,
    /// What was gone up to this revision may be forgotten.
    forgotten: u64,
    /// None before the first snapshot.
    as_of: Option<UnixMs>,
    clock: SourceClock,
    /// None while the feed is lost.
    heard: Option<Heard>,
}

/// The last message of the feed.
struct Heard {
    at: Instant,
    /// How old it was when it arrived.
    age: Duration,
}

struct Entry {
    seats: Seats,
    revision: u64,
    /// What was shown before.
    history: VersionHistory,
}

impl AvailabilityCache {
    /// Takes a whole state in the place of what was known. It is complete up to `sent_at`, and its first part arrived
    /// at `received`.
    pub(crate) fn replace(&self, snapshot: HashMap<SectionId, Seats>, sent_at: Option<UnixMs>, received: Instant) {
        let mut state = self.write();
        // Another connection, perhaps to another process.
        state.clock = SourceClock::default();
        let gone: Vec<SectionId> = state.sections.keys().filter(|id| !snapshot.contains_key(*id)).cloned().collect();
        for id in gone {
            state.remove(id);
        }
        for (id, seats) in snapshot {
            // A database that was restored may be at an earlier version: what it says now is what holds.
            if state.sections.get(&id).is_none_or(|known| known.seats != seats) {
                state.put(id, seats);
            }
        }
        state.hear(sent_at, received);
        metrics::gauge!("matricula_availability_sections").set(state.sections.len() as f64);
        drop(state);
        self.changed.send_replace(());
    }

    /// Takes changes that arrive now; none is a heartbeat. All that was committed before `sent_at` is known then.
    pub(crate) fn apply(&self, changes: Vec<(SectionId, Seats)>, sent_at: Option<UnixMs>) -> Freshness {
        let mut state = self.write();
        let before = (state.revision, state.freshness().live);
        for (id, seats) in changes {
            if state.sections.get(&id).is_none_or(|known| known.seats.version < seats.version) {
                state.put(id, seats);
            }
        }
        state.hear(sent_at, Instant::now());
        let freshness = state.freshness();
        let is_changed = (state.revision, freshness.live) != before;
        drop(state);
        if is_changed {
            self.changed.send_replace(());
        }
        freshness
    }

    /// The feed is lost: from now on seats may go unseen.
    pub(crate) fn lose(&self) {
        self.write().heard = None;
        self.changed.send_replace(());
    }

    /// The sections of these ids, those that are unknown, and the freshness of both.
    pub(crate) fn get(&self, ids: Vec<String>) -> (Vec<wire::Availability>, Vec<String>, Freshness) {
        let mut found = Vec::with_capacity(ids.len());
        let mut unknown = Vec::new();
        let state = self.read();
        for id in ids {
            match state.sections.get(id.as_str()) {
                Some(entry) => found.push(entry.seats.to_wire(id)),
                None => unknown.push(id),
            }
        }
        (found, unknown, state.freshness())
    }

    /// What has changed since a cursor, of these sections (none: of all); without a cursor, the state. None when it is
    /// not known any more which sections are gone since: the watcher has to begin anew.
    pub(crate) fn since(&self, cursor: Option<Cursor>, of: Option<&[SectionId]>) -> Option<Changes> {
        let state = self.read();
        let freshness = state.freshness();
        let now = state.as_of.map(|_| state.revision);
        let is_new = cursor.is_none() && now.is_some();
        let (revision, began) = cursor.map_or((0, state.revision), |cursor| (cursor.revision, cursor.began));
        if state.forgotten > began.max(revision) {
            return None;
        }
        let cursor = |revision| Some(Cursor { revision, began });
        let (mut sections, mut unknown) = (Vec::new(), Vec::new());
        if let Some(ids) = of {
            for id in ids {
                match state.sections.get(id) {
                    Some(entry) if entry.revision > revision => sections.push(entry.seats.to_wire(id.to_string())),
                    Some(_) => {}
                    None if is_new => unknown.push(id.as_str().to_owned()),
                    None if state.gone.get(id).is_some_and(|at| *at > revision) => unknown.push(id.as_str().to_owned()),
                    None => {}
                }
            }
            return Some(Changes { sections, unknown, cursor: now.and_then(cursor), has_more: false, freshness });
        }
        let mut last = state.revision;
        let mut range = state.by_revision.range(revision.saturating_add(1)..);
        for (at, id) in range.by_ref().take(CHANGES_MAX) {
            match state.sections.get(id) {
                Some(entry) => sections.push(entry.seats.to_wire(id.to_string())),
                None if *at > began => unknown.push(id.as_str().to_owned()),
                None => {}
            }
            last = *at;
        }
        let has_more = range.next().is_some();
        let reached = if has_more { Some(last) } else { now };
        Some(Changes { sections, unknown, cursor: reached.and_then(cursor), has_more, freshness })
    }

    /// What a version of a section held that was shown here; `None` for one that was not, or too long ago.
    pub(crate) fn seen(&self, section: &SectionId, version: i64) -> Option<SeenSeats> {
        let state = self.read();
        let entry = state.sections.get(section)?;
        let is_shown_now = entry.seats.version == version;
        let seats = if is_shown_now { entry.seats } else { entry.history.find(version)? };
        Some(SeenSeats { free: seats.free(), capacity: seats.capacity, changed_at: seats.changed_at? })
    }

    /// Tells of every change from now on, also of a feed that is lost or back.
    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    // What the lock holds is whole after each statement: a panic of one reader must not end all others.
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
    fn put(&mut self, id: SectionId, seats: Seats) {
        self.revision += 1;
        let revision = self.revision;
        if let Some(gone) = self.gone.remove(&id) {
            self.by_revision.remove(&gone);
        }
        match self.sections.get_mut(&id) {
            Some(entry) => {
                self.by_revision.remove(&entry.revision);
                entry.history.succeed(entry.seats, seats);
                (entry.seats, entry.revision) = (seats, revision);
            }
            None => {
                drop(self.sections.insert(id.clone(), Entry { seats, revision, history: VersionHistory::default() }))
            }
        }
        self.by_revision.insert(revision, id);
    }

    fn remove(&mut self, id: SectionId) {
        let Some(entry) = self.sections.remove(&id) else { return };
        self.revision += 1;
        self.by_revision.remove(&entry.revision);
        self.by_revision.insert(self.revision, id.clone());
        self.gone.insert(id, self.revision);
        if self.gone.len() > GONE_MAX {
            self.forgotten = self.revision;
            for (_, revision) in self.gone.drain() {
                self.by_revision.remove(&revision);
            }
        }
    }

    fn hear(&mut self, sent_at: Option<UnixMs>, received: Instant) {
        let age = sent_at.map_or(Duration::ZERO, |sent_at| self.clock.age(sent_at, received));
        self.heard = Some(Heard { at: received, age });
        self.as_of = sent_at.or(self.as_of);
    }

    fn freshness(&self) -> Freshness {
        let is_fresh = |heard: &Heard| heard.at.elapsed().saturating_add(heard.age) < SILENCE_MAX;
        Freshness { as_of: self.as_of, live: self.heard.as_ref().is_some_and(is_fresh) }
    }
}

/// A section as the seat service committed it.
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

/// Versions of a section that were shown before the present one. A version is found as it was shown, or not at all.
#[derive(Debug, Default)]
struct VersionHistory {
    /// In order of their versions.
    versions: VecDeque<Seats>,
}

impl VersionHistory {
    /// `earlier` was shown until now, and `present` is from now on.
    fn succeed(&mut self, earlier: Seats, present: Seats) {
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

    fn find(&self, version: i64) -> Option<Seats> {
        let at = self.versions.binary_search_by_key(&version, |seats| seats.version).ok()?;
        self.versions.get(at).copied()
    }
}

#[cfg(test)]
mod tests;
