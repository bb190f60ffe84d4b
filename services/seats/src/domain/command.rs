//! What an operation can ask of the seats.

use matricula_kit::id::{OverrideId, SagaId, SectionId, StudentId};
use matricula_kit::participant::Key;

use crate::domain::HoldKey;

/// What an operation asks for.
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

/// A seat that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The section.
    pub section: SectionId,
    /// What lets the student in when it is full.
    pub override_id: Option<OverrideId>,
}
