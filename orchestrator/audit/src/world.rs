//! The ledgers with the lookups that several invariants need.

use std::collections::{HashMap, HashSet};

use matricula_proto::common::v1::EnrollmentStatus;
use matricula_proto::ops::v1::{ExportLedgerResponse, SagaPhase};
use matricula_proto::registration::v1::Registration;

use crate::ledgers::Ledgers;

/// A student and a section, by their ids.
pub type StudentSection<'a> = (&'a str, &'a str);

/// The ledgers, indexed.
pub struct World<'a> {
    /// The exported entries.
    pub ledgers: &'a Ledgers,
    /// All registrations of the last reading, by id.
    registrations: HashMap<&'a str, Known<'a>>,
    /// The sections that registrations in motion add or drop, with their students.
    in_motion: HashSet<StudentSection<'a>>,
    /// The status of each enrollment, by (registration that added it, section).
    added: HashMap<(&'a str, &'a str), EnrollmentStatus>,
    /// The ended enrollments, by (registration that dropped it, section).
    dropped: HashSet<(&'a str, &'a str)>,
}

/// A registration of the last reading.
struct Known<'a> {
    registration: &'a Registration,
    /// It was finished at the first reading, without a manual decision.
    is_settled: bool,
    /// It waited for the retry of a call, or for another instance.
    was_delayed: bool,
}

impl<'a> World<'a> {
    /// Indexes the ledgers.
    pub fn of(ledgers: &'a Ledgers) -> Self {
        let before = entries(&ledgers.registrations_before);
        let settled: HashSet<&str> = before
            .filter(|(_, entry)| is_finished(entry) && !is_manual(entry))
            .map(|(r, _)| r.registration_id.as_str())
            .collect();
        let registrations: HashMap<&str, Known<'_>> = entries(&ledgers.registrations_after)
            .map(|(registration, entry)| {
                let id = registration.registration_id.as_str();
                (id, Known { registration, is_settled: settled.contains(id), was_delayed: entry.was_delayed })
            })
            .collect();
        let in_motion = registrations
            .values()
            .filter(|known| !known.is_settled)
            .flat_map(|Known { registration, .. }| {
                let sections = registration.adds.iter().chain(&registration.drops);
                sections.map(|section| (registration.student_id.as_str(), section.as_str()))
            })
            .collect();
        let enrollments = &ledgers.enrollments;
        let added =
            enrollments.iter().map(|e| ((e.registration_id.as_str(), e.section_id.as_str()), e.status())).collect();
        let dropped = enrollments
            .iter()
            .filter(|e| has_left(e.status()))
            .map(|e| (e.dropped_by_registration_id.as_str(), e.section_id.as_str()))
            .collect();
        Self { ledgers, registrations, in_motion, added, dropped }
    }

    /// A registration as of the last reading.
    pub fn registration(&self, registration_id: &str) -> Option<&'a Registration> {
        self.registrations.get(registration_id).map(|known| known.registration)
    }

    /// All registrations, as of the last reading.
    pub fn all(&self) -> impl Iterator<Item = &'a Registration> {
        self.registrations.values().map(|known| known.registration)
    }

    /// Whether a registration waited for the retry of a call, or for another instance.
    pub fn was_delayed(&self, registration_id: &str) -> bool {
        self.registrations.get(registration_id).is_some_and(|known| known.was_delayed)
    }

    /// A registration that was finished at the first reading, without a manual decision.
    pub fn settled(&self, registration_id: &str) -> Option<&'a Registration> {
        self.registrations.get(registration_id).filter(|known| known.is_settled).map(|known| known.registration)
    }

    /// All registrations that were finished at the first reading, without a manual decision.
    pub fn all_settled(&self) -> impl Iterator<Item = &'a Registration> {
        self.registrations.values().filter(|known| known.is_settled).map(|known| known.registration)
    }

    /// Whether a registration in motion adds or drops the section for the student: then the entries in the services may
    /// be half done. A manually decided registration stays in motion for ever.
    pub fn is_in_motion(&self, section: StudentSection<'_>) -> bool {
        self.in_motion.contains(&section)
    }

    /// Whether the registration's add of the section was committed, even if the section was dropped since.
    pub fn has_added(&self, registration_id: &str, section_id: &str) -> bool {
        let status = self.added.get(&(registration_id, section_id));
        status.is_some_and(|status| *status == EnrollmentStatus::Enrolled || has_left(*status))
    }

    /// Whether the registration's drop of the section was committed.
    pub fn has_dropped(&self, registration_id: &str, section_id: &str) -> bool {
        self.dropped.contains(&(registration_id, section_id))
    }
}

/// Whether an enrollment was in force, and is not any more.
pub fn has_left(status: EnrollmentStatus) -> bool {
    matches!(status, EnrollmentStatus::Dropped | EnrollmentStatus::Withdrawn)
}

/// Whether a saga has nothing left to do.
pub fn is_finished(entry: &ExportLedgerResponse) -> bool {
    matches!(entry.phase(), SagaPhase::Completed | SagaPhase::Compensated | SagaPhase::Abandoned)
}

/// Whether an operator skipped or resolved a step of a saga, or abandoned it.
pub fn is_manual(entry: &ExportLedgerResponse) -> bool {
    entry.decided_by_hand || entry.phase() == SagaPhase::Abandoned
}

/// Each entry of a ledger of registrations with its registration. An entry without one is skipped.
pub fn entries(ledger: &[ExportLedgerResponse]) -> impl Iterator<Item = (&Registration, &ExportLedgerResponse)> {
    ledger.iter().filter_map(|entry| Some((entry.registration.as_ref()?, entry)))
}
