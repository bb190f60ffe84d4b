//! The databases of the services: which student has which section, and through which saga.

use crate::names::{SagaNo, SectionNo, StudentNo};

/// A student's course, seat, enrollment or charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub student: StudentNo,
    pub section: SectionNo,
    /// The saga that added it.
    pub saga: SagaNo,
    /// Not yet official.
    pub pending: bool,
    /// A saga that has marked it to be dropped.
    pub dropping: Option<SagaNo>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    pub entries: Vec<Entry>,
}

impl Ledger {
    /// Adds the sections of a saga.
    pub(crate) fn add(&mut self, student: StudentNo, sections: &[SectionNo], saga: SagaNo, pending: bool) {
        let entry = |section: &SectionNo| Entry { student, section: *section, saga, pending, dropping: None };
        self.entries.extend(sections.iter().map(entry));
    }

    /// Marks the sections of these sagas as to be dropped by another saga.
    pub(crate) fn mark(&mut self, student: StudentNo, sections: &[SectionNo], origins: &[SagaNo], by: SagaNo) {
        for (section, origin) in sections.iter().zip(origins) {
            let is_it = |entry: &&mut Entry| (entry.student, entry.section, entry.saga) == (student, *section, *origin);
            if let Some(entry) = self.entries.iter_mut().find(is_it) {
                entry.dropping = Some(by);
            }
        }
    }

    /// Makes the added sections of a saga official, and ends the marked ones.
    pub(crate) fn settle(&mut self, saga: SagaNo, adds_max: usize) {
        self.entries.retain(|entry| entry.dropping != Some(saga));
        let added = self.entries.iter_mut().filter(|entry| entry.saga == saga && entry.pending);
        added.take(adds_max).for_each(|entry| entry.pending = false);
    }

    /// Removes the added sections of a saga, and its marks.
    pub(crate) fn undo(&mut self, saga: SagaNo) {
        self.entries.retain(|entry| entry.saga != saga);
        self.entries.iter_mut().filter(|entry| entry.dropping == Some(saga)).for_each(|entry| entry.dropping = None);
    }

    /// Ends the sections of these sagas.
    pub(crate) fn end(&mut self, student: StudentNo, sections: &[SectionNo], origins: &[SagaNo]) {
        for (section, origin) in sections.iter().zip(origins) {
            self.entries.retain(|entry| (entry.student, entry.section, entry.saga) != (student, *section, *origin));
        }
    }

    pub(crate) fn of_section(&self, section: SectionNo) -> usize {
        self.entries.iter().filter(|entry| entry.section == section).count()
    }

    pub(crate) fn of_saga(&self, saga: SagaNo) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.saga == saga)
    }
}

/// The databases of all services.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledgers {
    /// The academic record.
    pub record: Ledger,
    pub seats: Ledger,
    pub enrollments: Ledger,
    pub fees: Ledger,
    /// Seats of each section.
    pub capacity: Vec<usize>,
}

impl Ledgers {
    /// Each with its name.
    pub(crate) fn named(&self) -> [(&'static str, &Ledger); 4] {
        [
            ("academic record", &self.record),
            ("seats", &self.seats),
            ("enrollments", &self.enrollments),
            ("fees", &self.fees),
        ]
    }
}
