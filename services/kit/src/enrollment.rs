//! Where an enrollment stands, on the official record and on the academic one.

use matricula_proto::common::v1 as wire;

use crate::named::NamedValue;

/// Status of an enrollment, in the words of Edu-API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnrollmentStatus {
    /// Added by a registration that is not committed.
    Pending,
    /// Committed: the student is in the section.
    Enrolled,
    /// Undone before it was committed.
    Cancelled,
    /// Dropped by another registration.
    Dropped,
}

impl NamedValue for EnrollmentStatus {
    const NAMES: &'static [(Self, &'static str)] = &[
        (Self::Pending, "PENDING"),
        (Self::Enrolled, "ENROLLED"),
        (Self::Cancelled, "CANCELLED"),
        (Self::Dropped, "DROPPED"),
    ];
}

impl EnrollmentStatus {
    /// Whether the student is in the section, or about to be.
    pub fn is_in_force(self) -> bool {
        matches!(self, Self::Pending | Self::Enrolled)
    }

    /// The status on the wire.
    pub fn to_wire(self) -> wire::EnrollmentStatus {
        match self {
            Self::Pending => wire::EnrollmentStatus::Pending,
            Self::Enrolled => wire::EnrollmentStatus::Enrolled,
            Self::Cancelled => wire::EnrollmentStatus::Cancelled,
            Self::Dropped => wire::EnrollmentStatus::Dropped,
        }
    }
}
