//! Worlds without a guard of the orchestrator, which is removed from outside. A matrix over such a world must fail;
//! otherwise the matrix proves nothing.

use async_trait::async_trait;
use matricula_engine::{CallAnswer, CallStatus, Direction};

use crate::case::Case;
use crate::shape::Shape;
use crate::world::{Call, Effects, World};

/// An orchestrator that undoes only answered steps: the undo of a step without a recorded answer never arrives, and
/// counts as done.
pub struct UndoesOnlyAnswered<W>(pub W);

#[async_trait]
impl<W: World> World for UndoesOnlyAnswered<W> {
    type Subject = W::Subject;

    fn shape(&self) -> &Shape {
        self.0.shape()
    }

    async fn prepare(&self, cases: &[Case]) -> Vec<W::Subject> {
        self.0.prepare(cases).await
    }

    async fn call(&self, subject: &W::Subject, call: &Call) -> CallAnswer {
        let is_unanswered = call.state.steps()[call.step.get()].action.status == CallStatus::Trying;
        if call.direction == Direction::Compensation && is_unanswered {
            return CallAnswer::Done(String::new());
        }
        self.0.call(subject, call).await
    }

    async fn effects(&self, subjects: &[&W::Subject]) -> Vec<Effects> {
        self.0.effects(subjects).await
    }
}
