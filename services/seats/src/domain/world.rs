//! The sections and holds of a batch, and how one operation after the other changes them.

use std::collections::BTreeMap;

use matricula_kit::answer::{Answer, NotYet, Reason, Refusal};
use matricula_kit::id::{OverrideId, SagaId, SectionId, StepName, StudentId};
use matricula_kit::participant::Key;
use matricula_kit::time::{TimeZone, UnixMs};

use crate::domain::{Command, Section, Wanted};

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

/// What has to be written of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowState {
    /// Nothing: it is as it was loaded.
    Kept,
    /// It was loaded and has changed.
    Changed,
    /// It was not there.
    New,
}

/// What a batch has loaded and locked, and what its operations made of it.
#[derive(Debug)]
pub struct World {
    sections: BTreeMap<SectionId, (Section, RowState)>,
    holds: BTreeMap<HoldKey, (Hold, RowState)>,
    /// The version of imports in force, when an import is among the commands.
    import_version: Option<i64>,
    imports_applied: usize,
    /// Where students are told moments.
    zone: TimeZone,
}

impl World {
    /// What was loaded: every section that the commands name, every hold that they could meet, and the version of imports
    /// if one is among them.
    pub fn new(sections: Vec<Section>, holds: Vec<Hold>, import_version: Option<i64>, zone: TimeZone) -> Self {
        Self {
            sections: sections.into_iter().map(|section| (section.id.clone(), (section, RowState::Kept))).collect(),
            holds: holds.into_iter().map(|hold| (hold.key.clone(), (hold, RowState::Kept))).collect(),
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
                let held = self.holds.range(first..).take_while(|((saga, _), _)| *saga == holder.saga);
                let held = held.filter(|(_, (hold, _))| hold.step == holder.step);
                let keys: Vec<HoldKey> = held.map(|(key, _)| key.clone()).collect();
                self.release(&keys, &holder.saga, now)
            }
            Command::ReleaseDropped { by, seats } => self.release(seats, by, now),
            Command::SetCapacity { section, capacity } => match self.sections.get_mut(section) {
                None => Answer::Refused(vec![not_found(section)]),
                Some((section, row_state)) => {
                    if section.set_by_staff(*capacity, now) {
                        row_state.change();
                    }
                    Answer::done()
                }
            },
            Command::Import { base_version, capacities } => self.import(*base_version, capacities, now),
        }
    }

    /// The sections, each with what has to be written of it, in the order of their ids.
    pub fn sections(&self) -> impl Iterator<Item = &(Section, RowState)> {
        self.sections.values()
    }

    /// The holds, each with what has to be written of it, in the order of their registrations.
    pub fn holds(&self) -> impl Iterator<Item = &(Hold, RowState)> {
        self.holds.values()
    }

    /// How many imports were applied: each makes a version of its own.
    pub fn imports_applied(&self) -> usize {
        self.imports_applied
    }

    /// The sections that have changed, as they are now.
    pub fn into_changes(self) -> Vec<Section> {
        self.sections
            .into_values()
            .filter(|(_, row_state)| *row_state != RowState::Kept)
            .map(|(section, _)| section)
            .collect()
    }

    fn hold(&mut self, holder: &Key, student: &StudentId, wanted: &[Wanted], now: UnixMs) -> Answer {
        let refusals: Vec<Refusal> = wanted.iter().filter_map(|wanted| self.refusal(holder, wanted)).collect();
        if !refusals.is_empty() {
            return Answer::Refused(refusals);
        }
        for Wanted { section: id, override_id } in wanted {
            let Some((section, row_state)) = self.sections.get_mut(id) else { continue };
            let used = section.admits(override_id.as_ref()).flatten().cloned();
            section.take(now);
            row_state.change();
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
            self.holds.insert(hold.key.clone(), (hold, RowState::New));
        }
        Answer::done()
    }

    fn refusal(&self, holder: &Key, wanted: &Wanted) -> Option<Refusal> {
        let Some((section, _)) = self.sections.get(&wanted.section) else {
            return Some(not_found(&wanted.section));
        };
        if self.holds.contains_key(&(holder.saga.clone(), wanted.section.clone())) {
            let message = format!("This registration has already taken a seat in section {}.", wanted.section);
            return Some(Refusal::section(Reason::AlreadyEnrolled, &wanted.section, message, "Register again."));
        }
        section.admits(wanted.override_id.as_ref()).is_none().then(|| section.closed(&self.zone))
    }

    /// Releases what is still held; the rest was never granted or is released, and giving it back twice is no fault.
    fn release(&mut self, seats: &[HoldKey], by: &SagaId, now: UnixMs) -> Answer {
        for key in seats {
            let Some((hold, hold_fate)) = self.holds.get_mut(key).filter(|(hold, _)| hold.released.is_none()) else {
                continue;
            };
            let Some((section, section_fate)) = self.sections.get_mut(&key.1) else { continue };
            hold.released = Some((now, by.clone()));
            hold_fate.change();
            section.give_back(now);
            section_fate.change();
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
            match self.sections.get_mut(id) {
                None => {
                    let section = Section::new(id.clone(), *capacity, now);
                    self.sections.insert(id.clone(), (section, RowState::New));
                }
                Some((section, row_state)) => {
                    if section.set_by_bundle(*capacity, now) {
                        row_state.change();
                    }
                }
            }
        }
        Answer::done()
    }
}

impl RowState {
    /// The row has changed; one that is new stays new.
    fn change(&mut self) {
        if *self == Self::Kept {
            *self = Self::Changed;
        }
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
