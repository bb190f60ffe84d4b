//! The input of the cases: a definition, and which of its steps apply.

use matricula_engine::{Definition, Direction, Kind, Step, StepIndex};

/// A definition with the steps that apply in the sagas of a matrix.
#[derive(Debug, Clone)]
pub struct Shape {
    definition: Definition,
    applies: Vec<StepIndex>,
}

impl Shape {
    /// Takes the names of the steps that apply.
    ///
    /// # Panics
    /// When the definition has no step of a name, which is a fault of the test.
    pub fn new<'a>(definition: Definition, applies: impl IntoIterator<Item = &'a str>) -> Self {
        let index = |name: &str| definition.index(name).unwrap_or_else(|| panic!("there is no step {name}"));
        let mut applies: Vec<StepIndex> = applies.into_iter().map(index).collect();
        applies.sort_unstable();
        Self { definition, applies }
    }

    /// Every step applies.
    pub fn whole(definition: Definition) -> Self {
        let applies = definition.indexed().map(|(index, _)| index).collect();
        Self { definition, applies }
    }

    /// The table of steps.
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// Names of the steps that apply.
    pub fn applies(&self) -> impl Iterator<Item = &'static str> {
        self.steps().map(|(_, step)| step.name)
    }

    /// The steps that apply, in order of stages.
    pub(crate) fn steps(&self) -> impl Iterator<Item = (StepIndex, &Step)> {
        self.applies.iter().map(|index| (*index, self.definition.step(*index)))
    }

    pub(crate) fn has(&self, index: StepIndex) -> bool {
        self.applies.contains(&index)
    }

    /// The steps with a compensation.
    pub(crate) fn compensatable(&self) -> impl Iterator<Item = StepIndex> {
        self.steps().filter(|(_, step)| step.kind == Kind::Compensatable).map(|(index, _)| index)
    }

    /// One direction of a step in words.
    pub(crate) fn title(&self, step: StepIndex, direction: Direction) -> String {
        let name = self.definition.step(step).name;
        match direction {
            Direction::Forward => name.to_owned(),
            Direction::Compensation => format!("undo of {name}"),
        }
    }
}
