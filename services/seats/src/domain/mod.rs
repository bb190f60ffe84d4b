//! The rules of seats, over values: who may have a seat, what a release gives back, what a change of capacity means.
//!
//! An operation is a [`Command`]. A batch loads the sections and holds that its commands could meet into a [`World`],
//! which decides one command after the other.
//!
//! | invariant | held by |
//! |---|---|
//! | a section's `taken` is the number of its holds that are not released | [`World::decide`] changes both together |
//! | a grant finds a free seat, or names the override that let it in | [`Section::admits`] |
//! | `closed_at` is set exactly while no seat is free | [`Section::touch`] |
//! | a capacity of staff stays until the bundle says another number | [`Section::set_by_staff`] |
//! | `version` grows by one with every operation that changes the section, also within one batch | [`Section::touch`] |

use matricula_kit::answer::{Answer, NotYet, Reason, Refusal};
use matricula_kit::id::{OverrideId, SagaId, SectionId, StepName, StudentId};
use matricula_kit::participant::{Key, LoadedRows};
use matricula_kit::source::Source;
use matricula_kit::time::{TimeZone, UnixMs, shown};
use serde::{Deserialize, Serialize};

/// The command of an operation.
#[derive(Debug, Clone)]
pub enum Command {
    /// A seat in each section, all or none.
    Hold {
        /// The step that will hold them.
        holder: Key,
        /// For whom.
        student: StudentId,
        /// Where; no section twice.
        wanted: Vec<Wanted>,
    },
    /// Gives back what a step holds: the undo of [`Command::Hold`].
    ReleaseStep(Key),
    /// Gives back seats of earlier registrations.
    ReleaseDropped {
        /// The registration that drops them.
        by: SagaId,
        /// The seats.
        seats: Vec<HoldKey>,
    },
    /// Staff: sets the capacity of a section that exists.
    SetCapacity {
        /// The section.
        section: SectionId,
        /// The new capacity.
        capacity: i32,
    },
    /// Staff: creates sections, or sets their capacity to what a bundle says.
    Import {
        /// The version of imports that the plan was made of.
        base_version: i64,
        /// Each section with its capacity; no section twice.
        capacities: Vec<(SectionId, i32)>,
    },
}

/// A seat that a registration wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The section.
    pub section: SectionId,
    /// What lets the student in when it is full.
    pub override_id: Option<OverrideId>,
}

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
    /// The capacity in the last bundle that named the section; `None` when that is not known. The feed does not have
    /// it.
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

    /// Staff set the capacity; whether that changed anything. The section keeps the number of the bundle, so that the
    /// next import leaves the number of staff. Where the former is not known, the capacity until now counts as it.
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

/// A seat by its registration and section: a registration takes at most one in a section, ever.
pub type HoldKey = (SagaId, SectionId);

/// One grant of one seat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The registration that took it, and the section.
    pub key: HoldKey,
    /// The step that took it.
    pub step: StepName,
    /// For whom.
    pub student: StudentId,
    /// When.
    pub granted_at: UnixMs,
    /// When it was given back, and by which registration; `None` while it is taken.
    pub released: Option<(UnixMs, SagaId)>,
    /// Seats taken just after the grant.
    pub taken_after: i32,
    /// The capacity at that moment.
    pub capacity_at_grant: i32,
    /// The version of the section that the grant made; 0 when an earlier version of this service has stored the hold.
    pub section_version: i64,
    /// What let the student into a full section.
    pub override_id: Option<OverrideId>,
}

/// What a batch has loaded and locked, and what its operations made of it.
#[derive(Debug)]
pub struct World {
    /// The sections, in the order of their ids.
    pub sections: LoadedRows<SectionId, Section>,
    /// The holds, in the order of their registrations.
    pub holds: LoadedRows<HoldKey, Hold>,
    /// The version of imports in force, when an import is among the commands.
    import_version: Option<i64>,
    /// How many imports were applied: each makes a version of its own.
    pub imports_applied: usize,
    /// The time zone of the moments in answers.
    zone: TimeZone,
}

impl World {
    /// What was loaded: every section that the commands name, every hold that they could meet, and the version of
    /// imports if one is among them.
    pub fn new(sections: Vec<Section>, holds: Vec<Hold>, import_version: Option<i64>, zone: TimeZone) -> Self {
        Self {
            sections: sections.into_iter().map(|section| (section.id.clone(), section)).collect(),
            holds: holds.into_iter().map(|hold| (hold.key.clone(), hold)).collect(),
            import_version,
            imports_applied: 0,
            zone,
        }
    }

    /// Decides one command and changes the world accordingly. What is refused changes nothing.
    pub fn decide(&mut self, command: &Command, now: UnixMs) -> Answer {
        match command {
            Command::Hold { holder, student, wanted } => self.hold(holder, student, wanted, now),
            Command::ReleaseStep(holder) => {
                let first = (holder.saga.clone(), SectionId::stored(String::new()));
                let held = self.holds.starting_at(first).take_while(|((saga, _), _)| *saga == holder.saga);
                let held = held.filter(|(_, hold)| hold.step == holder.step);
                let keys: Vec<HoldKey> = held.map(|(key, _)| key.clone()).collect();
                self.release(&keys, &holder.saga, now)
            }
            Command::ReleaseDropped { by, seats } => self.release(seats, by, now),
            Command::SetCapacity { section, capacity } => {
                match self.sections.change_if(section, |section| section.set_by_staff(*capacity, now)) {
                    None => Answer::Refused(vec![not_found(section)]),
                    Some(()) => Answer::done(),
                }
            }
            Command::Import { base_version, capacities } => self.import(*base_version, capacities, now),
        }
    }

    fn hold(&mut self, holder: &Key, student: &StudentId, wanted: &[Wanted], now: UnixMs) -> Answer {
        let refusals: Vec<Refusal> = wanted.iter().filter_map(|wanted| self.refusal(holder, wanted)).collect();
        if !refusals.is_empty() {
            return Answer::Refused(refusals);
        }
        for Wanted { section: id, override_id } in wanted {
            let Some(section) = self.sections.change(id) else { continue };
            let used = section.admits(override_id.as_ref()).flatten().cloned();
            section.take(now);
            let hold = Hold {
                key: (holder.saga.clone(), id.clone()),
                step: holder.step.clone(),
                student: student.clone(),
                granted_at: now,
                released: None,
                taken_after: section.taken,
                capacity_at_grant: section.capacity,
                section_version: section.version,
                override_id: used,
            };
            self.holds.insert(hold.key.clone(), hold);
        }
        Answer::done()
    }

    fn refusal(&self, holder: &Key, wanted: &Wanted) -> Option<Refusal> {
        let Some(section) = self.sections.get(&wanted.section) else {
            return Some(not_found(&wanted.section));
        };
        if self.holds.get(&(holder.saga.clone(), wanted.section.clone())).is_some() {
            let message = format!("This registration has already taken a seat in section {}.", wanted.section);
            return Some(Refusal::section(Reason::AlreadyEnrolled, &wanted.section, message, "Register again."));
        }
        section.admits(wanted.override_id.as_ref()).is_none().then(|| section.closed(&self.zone))
    }

    /// Releases what is still held; the rest was never granted or is released, and giving it back twice is no fault.
    fn release(&mut self, seats: &[HoldKey], by: &SagaId, now: UnixMs) -> Answer {
        for key in seats {
            if self.holds.get(key).is_none_or(|hold| hold.released.is_some()) {
                continue;
            }
            let Some(section) = self.sections.change(&key.1) else { continue };
            let Some(hold) = self.holds.change(key) else { continue };
            hold.released = Some((now, by.clone()));
            section.give_back(now);
        }
        Answer::done()
    }

    fn import(&mut self, base_version: i64, capacities: &[(SectionId, i32)], now: UnixMs) -> Answer {
        if self.import_version != Some(base_version) {
            return Answer::NotYet(outdated());
        }
        self.import_version = Some(base_version + 1);
        self.imports_applied += 1;
        for (id, capacity) in capacities {
            if self.sections.change_if(id, |section| section.set_by_bundle(*capacity, now)).is_none() {
                self.sections.insert(id.clone(), Section::new(id.clone(), *capacity, now));
            }
        }
        Answer::done()
    }
}

fn not_found(section: &SectionId) -> Refusal {
    let message = format!("There is no section {section}.");
    Refusal::section(Reason::SectionNotFound, section, message, "Check the section's number.")
}

/// Another import was applied since the plan was made. The same plan is never right again.
fn outdated() -> NotYet {
    NotYet {
        reason: "PLAN_OUTDATED".to_owned(),
        message: "another import was applied since the plan was made".to_owned(),
        retry_after_ms: 0,
        waits_for: None,
    }
}

#[cfg(test)]
mod tests;
