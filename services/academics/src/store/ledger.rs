//! The ledger for audits: every recorded course and every override.

use matricula_kit::pages::{KeyColumn, PagedTable};

use super::records::recorded_course;
use super::students::override_of;
use crate::domain::student::{Override, RecordedCourse};

/// Every course of a record, in the order of registrations.
pub const COURSES: PagedTable<RecordedCourse> = PagedTable {
    sql: "SELECT registration_id, section_id, student_id, course_id, term_id, credits_hundredths, status, \
          dropped_by_registration_id FROM course_record WHERE (registration_id, section_id) > ($1, $2) \
          ORDER BY registration_id, section_id LIMIT $3",
    key: &[KeyColumn::Id("registration_id"), KeyColumn::Text("section_id")],
    row: recorded_course,
};
/// Every override, in the order of their ids.
pub const OVERRIDES: PagedTable<Override> = PagedTable {
    sql: "SELECT override_id, student_id, section_id, reason, granted_by, justification, granted_at, valid_until, source \
          FROM override_grant WHERE override_id > $1 ORDER BY override_id LIMIT $2",
    key: &[KeyColumn::Text("override_id")],
    row: override_of,
};
