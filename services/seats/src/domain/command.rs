//! What an operation can ask of the seats.

use std::sync::{Arc, OnceLock};

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
    /// Staff: creates sections or sets their capacity.
    Import {
        /// Each section with its capacity; no section twice.
        capacities: Vec<(SectionId, i32)>,
        /// Told after the commit what was done.
        receipt: ImportReceipt,
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

/// What an import did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ImportCount {
    /// Sections that were new.
    pub created: i32,
    /// Sections whose capacity was another one.
    pub changed: i32,
}

/// Where the caller of an import finds its count. Answers of operations speak of registrations only.
pub type ImportReceipt = Arc<OnceLock<ImportCount>>;
