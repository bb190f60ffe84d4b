//! The definitions that a process can drive: one that new sagas begin with, and the others that stored sagas have. New
//! sagas begin with the newest, or with an earlier one while older processes run beside this one.
//!
//! Promises: a log is folded with the definition that it was written with, by name and version. A definition that is
//! not in the set is an error that names it.

use crate::definition::{Definition, StepIndex};
use crate::event::Recorded;
use crate::state::{FoldError, SagaState};

/// A set has no definition of a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("version {version} is not in the set")]
pub struct NotDefined {
    /// The version.
    pub version: u32,
}

/// A set of definitions, each with a name and version of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definitions {
    current: Definition,
    earlier: Vec<Definition>,
}

/// A set has two definitions of one name and version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} v{version} is in the set twice")]
pub struct DefinedTwice {
    /// Name of the definition.
    pub name: &'static str,
    /// Version of the definition.
    pub version: u32,
}

impl Definitions {
    /// A set of one. New sagas begin with it.
    pub fn new(current: Definition) -> Self {
        Self { current, earlier: Vec::new() }
    }

    /// The same set with an earlier definition. No new saga begins with it, unless [`Self::beginning_with`] says so.
    pub fn with_earlier(mut self, earlier: Definition) -> Result<Self, DefinedTwice> {
        let (name, version) = (earlier.name(), earlier.version());
        if self.get(name, version).is_some() {
            return Err(DefinedTwice { name, version });
        }
        self.earlier.push(earlier);
        Ok(self)
    }

    /// The same set. New sagas begin with the definition of this version.
    pub fn beginning_with(mut self, version: u32) -> Result<Self, NotDefined> {
        if self.current.version() != version {
            let is_it = |earlier: &Definition| earlier.name() == self.current.name() && earlier.version() == version;
            let at = self.earlier.iter().position(is_it).ok_or(NotDefined { version })?;
            std::mem::swap(&mut self.current, &mut self.earlier[at]);
        }
        Ok(self)
    }

    /// The definition that new sagas begin with.
    pub fn current(&self) -> &Definition {
        &self.current
    }

    /// All of them, the current one first.
    pub fn all(&self) -> impl Iterator<Item = &Definition> {
        std::iter::once(&self.current).chain(&self.earlier)
    }

    /// The definition of this name and version, if it is in the set.
    pub fn get(&self, name: &str, version: u32) -> Option<&Definition> {
        self.all().find(|definition| definition.name() == name && definition.version() == version)
    }

    /// The definition that a state was folded with. Panics for a state of a definition that is not in the set.
    pub fn of(&self, state: &SagaState) -> &Definition {
        let (name, version) = state.definition();
        self.get(name, version).unwrap_or_else(|| panic!("a state of {name} v{version}, which is not in the set"))
    }

    /// The state after a whole log, folded with the definition that its first event names.
    pub fn replay<'a>(&self, log: impl IntoIterator<Item = &'a Recorded>) -> Result<SagaState, FoldError> {
        let mut log = log.into_iter().peekable();
        // The fold says what is wrong with a log that begins otherwise.
        let definition = match log.peek().and_then(|first| first.event.definition()) {
            Some((name, version)) => self
                .get(name, version)
                .ok_or_else(|| FoldError::OtherDefinition { definition: name.to_owned(), version })?,
            None => &self.current,
        };
        SagaState::replay(definition, log)
    }

    /// The services that the steps of all definitions call, each once, in the order of the tables.
    pub fn destinations(&self) -> Vec<&'static str> {
        let mut names = Vec::new();
        for step in self.all().flat_map(Definition::steps) {
            if !names.contains(&step.destination) {
                names.push(step.destination);
            }
        }
        names
    }

    /// The service that a step of a saga calls. Panics like [`Definitions::of`].
    pub fn destination(&self, state: &SagaState, step: StepIndex) -> &'static str {
        self.of(state).step(step).destination
    }
}

impl From<Definition> for Definitions {
    fn from(definition: Definition) -> Self {
        Self::new(definition)
    }
}
