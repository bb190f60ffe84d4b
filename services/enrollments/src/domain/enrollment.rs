//! One enrollment.

use std::str::FromStr;

use matricula_kit::id::{CourseId, RosterRowId, SagaId, SectionId, StudentId};
use matricula_kit::time::UnixMs;

/// The registration that added it, and the section.
pub type EnrollmentKey = (SagaId, SectionId);

/// A student's enrollment in a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrollment {
    /// What it is known by.
    pub key: EnrollmentKey,
    /// Who.
    pub student: StudentId,
    /// The section's course.
    pub course: CourseId,
    /// The part of the course that the section is; empty when it has one part.
    pub component: String,
    /// How far it is.
    pub status: EnrollmentStatus,
    /// The registration that dropped it, or has marked it to be dropped.
    pub dropped_by: Option<SagaId>,
    /// That registration is an import's.
    pub dropped_by_import: bool,
    /// The row of a roster by which an import added it; `None` when a student registered.
    pub roster_row: Option<RosterRowId>,
    /// When it was added.
    pub created_at: UnixMs,
    /// When it changed last.
    pub changed_at: UnixMs,
}

/// Status of an enrollment, in the words of Edu-API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnrollmentStatus {
    /// Added, not committed.
    Pending,
    /// Committed.
    Enrolled,
    /// Undone before it was committed.
    Cancelled,
    /// Dropped by another registration.
    Dropped,
}

/// A status that is stored and has no meaning.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown enrollment status {0:?}")]
pub struct UnknownStatus(String);

impl Enrollment {
    /// Whether the student is in the section, or about to be.
    pub fn is_in_force(&self) -> bool {
        matches!(self.status, EnrollmentStatus::Pending | EnrollmentStatus::Enrolled)
    }

    /// Whether it takes its place under the unique indexes: what is marked leaves it to what is swapped in.
    pub fn takes_place(&self) -> bool {
        self.is_in_force() && self.dropped_by.is_none()
    }
}

impl EnrollmentStatus {
    const ALL: [Self; 4] = [Self::Pending, Self::Enrolled, Self::Cancelled, Self::Dropped];

    /// The public name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Enrolled => "ENROLLED",
            Self::Cancelled => "CANCELLED",
            Self::Dropped => "DROPPED",
        }
    }
}

impl FromStr for EnrollmentStatus {
    type Err = UnknownStatus;

    fn from_str(name: &str) -> Result<Self, UnknownStatus> {
        Self::ALL.into_iter().find(|status| status.name() == name).ok_or_else(|| UnknownStatus(name.to_owned()))
    }
}
