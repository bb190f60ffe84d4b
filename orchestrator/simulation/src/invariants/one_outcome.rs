//! At most one outcome: a durable outcome never changes, and no watcher or message has another one.

use matricula_engine::Outcome;

use super::{Held, Invariant, View, hold};
use crate::fact::Fact;
use crate::names::SagaNo;

#[derive(Default)]
pub(super) struct OneOutcome {
    decided: Vec<(SagaNo, Outcome)>,
}

impl Invariant for OneOutcome {
    fn see(&mut self, fact: &Fact, world: &View<'_>) -> Held {
        match fact {
            Fact::Appended { saga, .. } => {
                let outcome = world.witness.saga(*saga).map_or(Outcome::Pending, |seen| seen.state.outcome());
                match self.decided.iter().find(|(decided, _)| decided == saga) {
                    Some((_, before)) => hold(*before == outcome, || format!("{saga} was {before:?}, is {outcome:?}")),
                    None => {
                        if outcome != Outcome::Pending {
                            self.decided.push((*saga, outcome));
                        }
                        Ok(())
                    }
                }
            }
            Fact::OutcomeSent { saga, outcome } => {
                let durable = world.witness.saga(*saga).map(|seen| seen.state.outcome());
                hold(durable == Some(*outcome), || {
                    format!("watchers of {saga} get {outcome:?}, durable is {durable:?}")
                })
            }
            _ => Ok(()),
        }
    }
}
