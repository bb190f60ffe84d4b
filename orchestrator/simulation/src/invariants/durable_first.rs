//! No effect runs before its events are durable. A call is made only when the durable log has reached it. Actions with
//! an undo need only the admission. A cancel is confirmed only when the start of the compensation is in the log.

use matricula_engine::{CallStatus, Cause, Direction, SagaState};

use super::{Held, View, hold};
use crate::fact::Fact;

pub(super) fn see(fact: &Fact, world: &View<'_>) -> Held {
    match fact {
        Fact::CallMade { of, attempt, .. } => {
            let goes_ahead =
                of.direction == Direction::Forward && world.table(of.saga).definition.step(of.step).undo.is_some();
            let call = world.witness.saga(of.saga).map(|seen| seen.state.steps()[of.step.get()].call(of.direction));
            let reached = call.is_some_and(|call| {
                goes_ahead || call.status != CallStatus::NotStarted && *attempt <= call.attempts + 1
            });
            hold(reached, || format!("{of} is called (attempt {attempt}) before that is durable"))
        }
        Fact::CancelConfirmed { saga } => {
            let state = world.witness.saga(*saga).map(|seen| &seen.state);
            let cause = state.and_then(SagaState::cause);
            // The confirmation may come later: meanwhile the saga may have found that the pivot had happened.
            let is_compensation_reverted =
                state.is_some_and(|state| state.is_compensation_reverted(world.shape.definitions.of(state)));
            hold(matches!(cause, Some(Cause::Cancelled { .. })) || is_compensation_reverted, || {
                format!("the cancel of {saga} is confirmed, and its log has {cause:?}")
            })
        }
        _ => Ok(()),
    }
}
