//! The enrollments that a plan of rosters looks at.

use std::collections::HashSet;

use anyhow::Context as _;
use matricula_campus::RosterEntry;
use matricula_proto::common::v1::EnrollmentStatus;
use matricula_proto::enrollments::v1::enrollment_service_client::EnrollmentServiceClient;
use matricula_proto::enrollments::v1::{Enrollment, ExportLedgerRequest};
use tonic::Status;
use tonic::transport::Channel;

use crate::clients::{explained, persistently};
use crate::commands::import::state::PATIENCE;

/// What the enrollment service has, in the order of registrations, which is the order of time.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    pub(super) known: Vec<Known>,
}

/// One enrollment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub student: String,
    pub section: String,
    pub course: String,
    pub component: String,
    /// The row of a roster by which an import added it.
    pub row: Option<String>,
    pub standing: Standing,
}

/// How an enrollment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Enrolled,
    /// A registration is under way that adds it or drops it.
    InMotion,
    DroppedByStudent,
    DroppedByImport,
}

impl Standing {
    pub(super) fn is_in_force(self) -> bool {
        matches!(self, Self::Enrolled | Self::InMotion)
    }
}

impl Known {
    /// An enrollment of the ledger; none when it was never in force.
    pub(super) fn of(enrollment: Enrollment) -> Option<Self> {
        let is_marked = !enrollment.dropped_by_registration_id.is_empty();
        let standing = match enrollment.status() {
            EnrollmentStatus::Enrolled if !is_marked => Standing::Enrolled,
            EnrollmentStatus::Enrolled | EnrollmentStatus::Pending => Standing::InMotion,
            EnrollmentStatus::Dropped | EnrollmentStatus::Withdrawn if enrollment.dropped_by_import => {
                Standing::DroppedByImport
            }
            EnrollmentStatus::Dropped | EnrollmentStatus::Withdrawn => Standing::DroppedByStudent,
            EnrollmentStatus::Cancelled | EnrollmentStatus::Waitlisted | EnrollmentStatus::Unspecified => return None,
        };
        let Enrollment { student_id, section_id, course_id, component, roster_row_id, .. } = enrollment;
        let row = (!roster_row_id.is_empty()).then_some(roster_row_id);
        Some(Self { student: student_id, section: section_id, course: course_id, component, row, standing })
    }
}

/// Reads what matters to these rows: enrollments of their students, and what imports have brought.
pub async fn read(enrollments: &Channel, rows: &[RosterEntry]) -> anyhow::Result<Ledger> {
    let students: HashSet<&str> = rows.iter().map(|row| row.student_id.as_str()).collect();
    let client = EnrollmentServiceClient::new(enrollments.clone());
    let read = persistently(PATIENCE, |_| (), async || known(client.clone(), &students).await).await;
    let known = read.map_err(|status| explained(&status)).context("the enrollment service")?;
    Ok(Ledger { known })
}

async fn known(mut client: EnrollmentServiceClient<Channel>, students: &HashSet<&str>) -> Result<Vec<Known>, Status> {
    let mut ledger = client.export_ledger(ExportLedgerRequest {}).await?.into_inner();
    let mut known = Vec::new();
    while let Some(entry) = ledger.message().await? {
        let enrollment = entry.enrollment.and_then(Known::of);
        known.extend(enrollment.filter(|one| one.row.is_some() || students.contains(one.student.as_str())));
    }
    Ok(known)
}
