//! Nothing is acted on before it is durable: a call is made only when the durable log has reached its leg, but for actions
//! that have an undo, which need no more than the admission; and a cancel is confirmed only when the turn is in the log.

use matricula_engine::{Cause, Leg, LegStatus};

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
                let cause = world.witness.saga(*saga).and_then(|seen| seen.state.cause());
                hold(matches!(cause, Some(Cause::Cancelled { .. })), || {
                    format!("the cancel of {saga} is confirmed, and its log has {cause:?}")
                })
            }
            _ => Ok(()),
        }
    }
}
