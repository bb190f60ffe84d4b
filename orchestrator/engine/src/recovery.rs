//! The sagas that a process finds unfinished: which of them can be driven on, and why the others are left alone.

use crate::definitions::Definitions;
use crate::event::Recorded;
use crate::state::{FoldError, SagaState};

/// An unfinished saga, as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row<Id> {
    /// Id of the saga.
    pub id: Id,
    /// Name of its definition.
    pub definition: String,
    /// Version of its definition.
    pub version: u32,
    /// Its log, or why the log can't be read.
    pub log: Result<Vec<Recorded>, String>,
}

/// Why a saga is left alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaveReason {
    /// This process does not have its definition in this version. Another process may have it.
    #[error("{definition} v{version} is not known here")]
    UnknownDefinition {
        /// Name of its definition.
        definition: String,
        /// Version of its definition.
        version: u32,
    },
    /// Its log can't be read from the store.
    #[error("its log can't be read: {0}")]
    Unreadable(String),
    /// Its log does not fold under its definition.
    #[error("its log does not fold")]
    Fold(#[from] FoldError),
}

impl<Id> Row<Id> {
    /// The state to drive the saga on from, or why this process leaves it alone.
    pub fn resume(self, definitions: &Definitions) -> Result<SagaState, LeaveReason> {
        let Some(definition) = definitions.get(&self.definition, self.version) else {
            return Err(LeaveReason::UnknownDefinition { definition: self.definition, version: self.version });
        };
        Ok(SagaState::replay(definition, &self.log.map_err(LeaveReason::Unreadable)?)?)
    }
}
