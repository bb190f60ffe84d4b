//! What the participants of a test must offer to the matrix.

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
    /// Which direction.
    pub direction: Direction,
    /// Counted from 1 in its direction.
    pub attempt: u32,
    /// The saga as it stood when the call became due: the outputs of earlier steps are in it.
    pub state: Arc<SagaState>,
}

/// Participants, and what can be seen of them. They work well: what goes wrong, goes wrong on the way to them.
#[async_trait]
pub trait World: Send + Sync {
    /// What belongs to one case alone (a saga's id, a student, sections), so that cases don't meet.
    type Subject: Send + Sync;

    /// The saga that they take part in.
    fn shape(&self) -> &Shape;

    /// Makes a subject for each case, such that the steps that the case has refused ([`Case::refuses`]) will refuse.
    async fn prepare(&self, cases: &[Case]) -> Vec<Self::Subject>;

    /// Makes a call arrive.
    async fn call(&self, subject: &Self::Subject, call: &Call) -> CallAnswer;

    /// What stands of each of these, when nothing is under way any more.
    async fn effects(&self, subjects: &[&Self::Subject]) -> Vec<Effects>;
}
