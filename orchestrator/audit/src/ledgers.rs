//! The input of an audit: the ledgers of all services, gathered from their streams.

use matricula_proto::{academics, enrollments, fees, notifications, ops, seats};

/// All entries that the services exported.
#[derive(Debug, Clone, Default)]
pub struct Ledgers {
    /// Registrations, read before any other ledger.
    pub registrations_before: Vec<ops::v1::ExportLedgerResponse>,
    /// Registrations, read after every other ledger.
    pub registrations_after: Vec<ops::v1::ExportLedgerResponse>,
    /// Sections as seats has them.
    pub sections: Vec<seats::v1::SectionSeats>,
    /// Every grant of a seat.
    pub holds: Vec<seats::v1::SeatHold>,
    /// Every enrollment.
    pub enrollments: Vec<enrollments::v1::Enrollment>,
    /// Every course of a registration on an academic record.
    pub courses: Vec<academics::v1::RecordedCourse>,
    /// Every override granted by staff.
    pub overrides: Vec<academics::v1::Override>,
    /// Every posting.
    pub postings: Vec<fees::v1::Posting>,
    /// Every stored balance.
    pub accounts: Vec<fees::v1::AccountBalance>,
    /// Every message to a student.
    pub notifications: Vec<notifications::v1::Notification>,
}

impl Ledgers {
    /// Adds an entry of seats.
    pub fn add_seats(&mut self, response: seats::v1::ExportLedgerResponse) {
        use seats::v1::export_ledger_response::Entry;
        match response.entry {
            Some(Entry::Section(section)) => self.sections.push(section),
            Some(Entry::Hold(hold)) => self.holds.push(hold),
            None => {}
        }
    }

    /// Adds an entry of enrollments.
    pub fn add_enrollments(&mut self, response: enrollments::v1::ExportLedgerResponse) {
        self.enrollments.extend(response.enrollment);
    }

    /// Adds an entry of academics.
    pub fn add_academics(&mut self, response: academics::v1::ExportLedgerResponse) {
        use academics::v1::export_ledger_response::Entry;
        match response.entry {
            Some(Entry::Course(course)) => self.courses.push(course),
            Some(Entry::Override(granted)) => self.overrides.push(granted),
            None => {}
        }
    }

    /// Adds an entry of fees.
    pub fn add_fees(&mut self, response: fees::v1::ExportLedgerResponse) {
        use fees::v1::export_ledger_response::Entry;
        match response.entry {
            Some(Entry::Posting(posting)) => self.postings.push(posting),
            Some(Entry::Account(account)) => self.accounts.push(account),
            None => {}
        }
    }

    /// Adds an entry of notifications.
    pub fn add_notifications(&mut self, response: notifications::v1::ExportLedgerResponse) {
        self.notifications.extend(response.notification);
    }
}
