//! The plan for the sagas that a process finds unfinished. Making the plan changes nothing.
//!
//! | here | in the runtime |
//! |---|---|
//! | which sagas can be resumed, in which order | reads the rows, drives the sagas |
//! | which sagas are left alone, and why | flags and shows them |
//!
//! Promises: a saga that can't be read holds up no other saga.

use crate::definition::Definition;
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

/// The plan for each saga, in the order of the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan<Id> {
    /// The sagas to drive on.
    pub resume: Vec<(Id, SagaState)>,
    /// The sagas to leave alone and show.
    pub leave: Vec<(Id, LeaveReason)>,
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

/// Sorts sagas into those to resume and those to leave. Both lists keep the order of the rows, so the oldest row comes
/// first.
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
