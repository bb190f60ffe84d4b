//! What to do with the sagas that a process finds unfinished: a plan, made without touching anything.
//!
//! | here | in the runtime |
//! |---|---|
//! | which sagas can be resumed, in which order | reads the rows, drives the sagas |
//! | which are left alone, and why | flags and shows them |
//!
//! Promises: one saga that can't be read holds up no other.

use crate::definition::Definition;
use crate::event::Recorded;
use crate::state::{FoldError, SagaState};

/// An unfinished saga, as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row<Id> {
    /// Which saga.
    pub id: Id,
    /// Name of its definition.
    pub definition: String,
    /// Version of its definition.
    pub version: u32,
    /// Its log, or why that can't be read.
    pub log: Result<Vec<Recorded>, String>,
}

/// What to do with each saga, in the order of the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan<Id> {
    /// To be driven on.
    pub resume: Vec<(Id, SagaState)>,
    /// To be left alone and shown.
    pub leave: Vec<(Id, LeaveReason)>,
}

/// Why a saga is left alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaveReason {
    /// This process does not know its definition in this version; another may.
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
    /// Its log is not one of its definition.
    #[error("its log does not fold")]
    Fold(#[from] FoldError),
}

/// Sorts sagas into those to resume and those to leave; both keep the order of the rows, so give the oldest first.
pub fn plan<'d, Id>(
    rows: impl IntoIterator<Item = Row<Id>>,
    known: impl IntoIterator<Item = &'d Definition> + Clone,
) -> Plan<Id> {
    let mut plan = Plan { resume: Vec::new(), leave: Vec::new() };
    for row in rows {
        let mut known = known.clone().into_iter();
        let state = match known.find(|def| def.name() == row.definition && def.version() == row.version) {
            None => Err(LeaveReason::UnknownDefinition { definition: row.definition, version: row.version }),
            Some(def) => row
                .log
                .map_err(LeaveReason::Unreadable)
                .and_then(|log| SagaState::replay(def, &log).map_err(LeaveReason::Fold)),
        };
        match state {
            Ok(state) => plan.resume.push((row.id, state)),
            Err(reason) => plan.leave.push((row.id, reason)),
        }
    }
    plan
}
