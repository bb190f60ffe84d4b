//! Free seats in memory: what the seat service's feed has told, for many readers.
//!
//! Promises: of each section the highest version that was told; an answer is one moment of the feed, never half of a
//! snapshot; `live` only while the feed is connected and was heard within [`SILENCE_MAX`]. The memory is bounded by the
//! number of sections and what is kept of each: whoever is slow finds the latest version of what has changed, not a queue.
//! It also knows what it has shown, because nobody else can tell what a student saw: see [`Board::seen`].

use std::collections::{BTreeMap, HashMap};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use matricula_kit::answer::SeenSeats;
use matricula_kit::id::SectionId;
use matricula_kit::time::UnixMs;
use matricula_proto::catalog::v1 as wire;
use matricula_proto::seats::v1::SectionSeats;
use tokio::sync::watch;
use tokio::time::Instant;

use self::shown::Shown;

pub(crate) mod feed;
mod shown;

/// Longest silence of a feed that counts as live: whoever watches is told within a second that it is not. Its heartbeat
/// comes every 250 ms: two may be late.
pub(crate) const SILENCE_MAX: Duration = Duration::from_millis(900);
/// Sections in one message of a watch: well below the bounds of a message, and quick to collect.
const CHANGES_MAX: usize = 1_000;

/// The seats of all sections.
#[derive(Default)]
pub(crate) struct Board {
    state: RwLock<State>,
    changed: watch::Sender<()>,
}

/// A section as the seat service committed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seats {
    capacity: i32,
    taken: i32,
    version: i64,
    changed_at: Option<UnixMs>,
}

/// How far an answer can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Freshness {
    pub as_of: Option<UnixMs>,
    pub live: bool,
}

/// What has changed since a revision.
#[derive(Debug)]
pub(crate) struct Changes {
    pub sections: Vec<wire::Availability>,
    /// Ask for changes since this one next.
    pub revision: u64,
    /// Ask at once: there were too many for one answer.
    pub has_more: bool,
    pub freshness: Freshness,
}

#[derive(Default)]
struct State {
    sections: HashMap<SectionId, Entry>,
    /// Every section once, under the revision of its last change: what has changed since a moment is a range.
    by_revision: BTreeMap<u64, SectionId>,
    revision: u64,
    /// None before the first snapshot.
    as_of: Option<UnixMs>,
    /// When the feed was last heard; none while it is lost.
    heard: Option<Instant>,
}

struct Entry {
    seats: Seats,
    revision: u64,
    /// What was shown before.
    shown: Shown,
}

impl Board {
    /// Takes a whole state, sent at `sent_at`, in the place of what was known.
    pub(crate) fn replace(&self, snapshot: HashMap<SectionId, Seats>, sent_at: Option<UnixMs>) {
        let mut state = self.write();
        let gone: Vec<SectionId> = state.sections.keys().filter(|id| !snapshot.contains_key(*id)).cloned().collect();
        for id in gone {
            state.remove(&id);
        }
        for (id, seats) in snapshot {
            // A database that was restored may be at an earlier version: what it says now is what holds.
            if state.sections.get(&id).is_none_or(|known| known.seats != seats) {
                state.put(id, seats);
            }
        }
        state.hear(sent_at);
        metrics::gauge!("matricula_availability_sections").set(state.sections.len() as f64);
        drop(state);
        self.changed.send_replace(());
    }

    /// Takes changes; none is a heartbeat.
    pub(crate) fn apply(&self, changes: Vec<(SectionId, Seats)>, sent_at: Option<UnixMs>) {
        let mut state = self.write();
        let before = state.revision;
        for (id, seats) in changes {
            if state.sections.get(&id).is_none_or(|known| known.seats.version < seats.version) {
                state.put(id, seats);
            }
        }
        state.hear(sent_at);
        let is_changed = state.revision != before;
        drop(state);
        if is_changed {
            self.changed.send_replace(());
        }
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

    /// What has changed since a revision, of these sections (none: of all); revision 0 is before everything.
    pub(crate) fn since(&self, revision: u64, of: Option<&[SectionId]>) -> Changes {
        let state = self.read();
        let freshness = state.freshness();
        let to_wire = |id: &SectionId, entry: &Entry| entry.seats.to_wire(id.as_str().to_owned());
        if let Some(ids) = of {
            let entries = ids.iter().filter_map(|id| Some((id, state.sections.get(id)?)));
            let sections = entries.filter(|(_, entry)| entry.revision > revision);
            let sections = sections.map(|(id, entry)| to_wire(id, entry)).collect();
            return Changes { sections, revision: state.revision, has_more: false, freshness };
        }
        let mut last = state.revision;
        let mut sections = Vec::new();
        let mut range = state.by_revision.range(revision.saturating_add(1)..);
        for (at, id) in range.by_ref().take(CHANGES_MAX) {
            sections.extend(state.sections.get(id).map(|entry| to_wire(id, entry)));
            last = *at;
        }
        let has_more = range.next().is_some();
        Changes { sections, revision: if has_more { last } else { state.revision }, has_more, freshness }
    }

    /// What a version of a section held that was shown here; `None` for one that was not, or too long ago.
    pub(crate) fn seen(&self, section: &SectionId, version: i64) -> Option<SeenSeats> {
        let state = self.read();
        let entry = state.sections.get(section)?;
        let is_shown_now = entry.seats.version == version;
        let seats = if is_shown_now { entry.seats } else { entry.shown.find(version)? };
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

impl Seats {
    /// A section from the feed.
    pub(crate) fn from_wire(wire: SectionSeats) -> (SectionId, Self) {
        let SectionSeats { section_id, capacity, taken, version, changed_at, closed_at: _ } = wire;
        let changed_at = changed_at.as_ref().and_then(UnixMs::from_wire);
        (SectionId::stored(section_id), Self { capacity, taken, version, changed_at })
    }

    /// The version that it is.
    pub(crate) fn version(&self) -> i64 {
        self.version
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
        }
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
        match self.sections.get_mut(&id) {
            Some(entry) => {
                self.by_revision.remove(&entry.revision);
                entry.shown.succeed(entry.seats, seats);
                (entry.seats, entry.revision) = (seats, revision);
            }
            None => drop(self.sections.insert(id.clone(), Entry { seats, revision, shown: Shown::default() })),
        }
        self.by_revision.insert(revision, id);
    }

    fn remove(&mut self, id: &SectionId) {
        if let Some(entry) = self.sections.remove(id) {
            self.by_revision.remove(&entry.revision);
        }
    }

    fn hear(&mut self, sent_at: Option<UnixMs>) {
        self.heard = Some(Instant::now());
        self.as_of = sent_at.or(self.as_of);
    }

    fn freshness(&self) -> Freshness {
        Freshness { as_of: self.as_of, live: self.heard.is_some_and(|heard| heard.elapsed() < SILENCE_MAX) }
    }
}

#[cfg(test)]
mod tests;
