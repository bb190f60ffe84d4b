//! Nothing is acted on before it is durable: a call is made only when the durable log has reached its leg, but for actions
//! that have an undo, which need no more than the admission; and a cancel is confirmed only when the turn is in the log.

use matricula_engine::{Cause, Leg, LegStatus, SagaState};

use super::{Held, Invariant, View, hold};
use crate::fact::Fact;

pub(super) struct DurableFirst;

impl Invariant for DurableFirst {
    fn name(&self) -> &'static str {
        "durable first"
    }

    fn see(&mut self, fact: &Fact, world: &View<'_>) -> Held {
        match fact {
            Fact::CallMade { of, attempt, .. } => {
                let goes_ahead = of.leg == Leg::Action && world.shape.definition.step(of.step).undo.is_some();
                let leg = world.witness.saga(of.saga).map(|seen| seen.state.steps()[of.step.get()].leg(of.leg));
                let reached = leg.is_some_and(|leg| {
                    goes_ahead || leg.status != LegStatus::NotStarted && *attempt <= leg.attempts + 1
                });
                hold(reached, || format!("{of} is called (attempt {attempt}) before that is durable"))
            }
            Fact::CancelConfirmed { saga } => {
                let state = world.witness.saga(*saga).map(|seen| &seen.state);
                let cause = state.and_then(SagaState::cause);
                // Whoever waits hears of it later: meanwhile the pivot may have turned out to have happened.
                let is_turned_back = state.is_some_and(|state| state.is_turned_back(&world.shape.definition));
                hold(matches!(cause, Some(Cause::Cancelled { .. })) || is_turned_back, || {
                    format!("the cancel of {saga} is confirmed, and its log has {cause:?}")
                })
            }
            _ => Ok(()),
        }
    }
}
