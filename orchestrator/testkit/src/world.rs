//! The interface of the participants of a test.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use matricula_engine::{CallAnswer, Direction, SagaState, StepIndex};

use crate::case::Case;
use crate::shape::Shape;

/// How often the effect of each step stands: done, and not undone. A step that is missing has none.
pub type Effects = BTreeMap<&'static str, i64>;

/// One call of one step, in one direction.
#[derive(Debug, Clone)]
pub struct Call {
    /// The step.
    pub step: StepIndex,
    /// Its name.
    pub name: &'static str,
    /// Whether the call does the step or undoes it.
    pub direction: Direction,
    /// Counted from 1 in its direction.
    pub attempt: u32,
    /// The saga as it stood when the call became due: the outputs of earlier steps are in it.
    pub state: Arc<SagaState>,
}

/// Participants, and a view of their effects. They work without faults: all faults happen between the driver and them.
#[async_trait]
pub trait World: Send + Sync {
    /// The data of one case alone (a saga's id, a student, sections), so that cases do not affect each other.
    type Subject: Send + Sync;

    /// The saga that they take part in.
    fn shape(&self) -> &Shape;

    /// Makes a subject for each case, with which the steps in [`Case::refuses`] refuse.
    async fn prepare(&self, cases: &[Case]) -> Vec<Self::Subject>;

    /// Delivers a call.
    async fn call(&self, subject: &Self::Subject, call: &Call) -> CallAnswer;

    /// The effects that stand for each of these subjects, when no call is in flight.
    async fn effects(&self, subjects: &[&Self::Subject]) -> Vec<Effects>;
}
