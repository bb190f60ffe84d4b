//! The core's `Workflow` for the simulated sagas.

use std::rc::Rc;

use matricula_core::Workflow;
use matricula_engine::{Definitions, Direction, Kind, SagaState, Step};

use crate::clients::{Asker, Request};
use crate::names::SagaNo;
use crate::shapes::{Does, Shape, Table};

/// The workflow of one shape, as one release of the orchestrator has it.
pub(super) struct Simulated {
    pub shape: Rc<Shape>,
    pub is_earlier_release: bool,
    /// Calls that no client waits for gather.
    pub gathers: bool,
}

/// The sender of a submission or a command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    pub asker: Asker,
    /// The saga that it is about.
    pub saga: SagaNo,
}

impl Workflow for Simulated {
    type Request = Rc<Request>;
    type Caller = Caller;

    fn definitions(&self) -> &Definitions {
        self.shape.definitions_of(self.is_earlier_release)
    }

    fn applies(&self, request: &Rc<Request>) -> Vec<&'static str> {
        applies(self.shape.table(self.definitions().current()), request).collect()
    }

    fn is_waited_for(&self, step: &Step, request: &Rc<Request>) -> bool {
        !self.gathers || !may_gather(&self.shape, step, Direction::Forward, request)
    }
}

/// Whether no client waits for a call, so that it may gather with other calls.
pub(crate) fn may_gather(shape: &Shape, step: &Step, direction: Direction, request: &Request) -> bool {
    let settles_adds_only = shape.does(step.name) == Some(Does::Settle) && request.drops.is_empty();
    direction == Direction::Forward && (step.kind == Kind::Finalizer || settles_adds_only)
}

/// Names of the steps that apply.
fn applies<'a>(table: &'a Table, request: &'a Request) -> impl Iterator<Item = &'static str> + use<'a> {
    let steps = table.definition.indexed().zip(&table.does);
    let applying = steps.filter(move |((index, step), does)| match does {
        Does::Hold | Does::Assess => !request.adds.is_empty(),
        Does::ReleaseDropped | Does::Refund => !request.drops.is_empty(),
        Does::Plain => step.kind == Kind::Pivot || request.plain >> index.0 & 1 == 1,
        Does::Reserve | Does::Create | Does::Commit | Does::Enroll | Does::Settle | Does::Notify => true,
    });
    applying.map(|((_, step), _)| step.name)
}

/// The output of the first step: for each drop, the saga that added the section.
pub(super) fn origins(table: &Table, state: &SagaState) -> Vec<SagaNo> {
    let Some(reserve) = table.step_that(Does::Reserve) else { return Vec::new() };
    let output = state.steps()[reserve.get()].output.as_deref().unwrap_or_default();
    output.split_whitespace().filter_map(|origin| origin.parse().ok().map(SagaNo)).collect()
}
