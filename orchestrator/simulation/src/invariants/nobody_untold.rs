//! Nobody uninformed: every finished registration has exactly one notification, with its outcome.

use super::{Held, Invariant, View, hold};
use crate::fact::Fact;
use crate::names::SagaNo;
use crate::shapes::Does;

#[derive(Default)]
pub(super) struct NobodyUntold {
    told: Vec<SagaNo>,
}

impl Invariant for NobodyUntold {
    fn name(&self) -> &'static str {
        "nobody untold"
    }

    fn see(&mut self, fact: &Fact, world: &View<'_>) -> Held {
        match fact {
            Fact::Notified { saga, outcome } => {
                hold(!self.told.contains(saga), || format!("the student of {saga} is told twice"))?;
                self.told.push(*saga);
                let stands = world.witness.saga(*saga).map(|seen| seen.state.outcome());
                hold(stands == Some(*outcome), || format!("{saga} is told {outcome:?}, and is {stands:?}"))
            }
            Fact::Appended { saga, .. } => {
                let finished = world.witness.saga(*saga).is_some_and(|seen| seen.state.phase().is_finished());
                let tells = world.shape.has(Does::Notify);
                hold(!finished || !tells || self.told.contains(saga) || world.is_decided_manually(*saga), || {
                    format!("{saga} is finished and nobody told its student")
                })
            }
            _ => Ok(()),
        }
    }
}
