//! Each notified once: every finished registration has exactly one notification, with its outcome.

use super::{Held, Invariant, View, hold};
use crate::fact::Fact;
use crate::names::SagaNo;
use crate::shapes::Does;

#[derive(Default)]
pub(super) struct EachNotifiedOnce {
    notified: Vec<SagaNo>,
}

impl Invariant for EachNotifiedOnce {
    fn see(&mut self, fact: &Fact, world: &View<'_>) -> Held {
        match fact {
            Fact::Notified { saga, outcome } => {
                hold(!self.notified.contains(saga), || format!("the student of {saga} is notified twice"))?;
                self.notified.push(*saga);
                let stands = world.witness.saga(*saga).map(|seen| seen.state.outcome());
                hold(stands == Some(*outcome), || format!("{saga} is notified {outcome:?}, and is {stands:?}"))
            }
            Fact::Appended { saga, .. } => {
                let finished = world.witness.saga(*saga).is_some_and(|seen| seen.state.phase().is_finished());
                let tells = world.shape.has(Does::Notify);
                hold(!finished || !tells || self.notified.contains(saga) || world.is_decided_manually(*saga), || {
                    format!("{saga} is finished and nobody notified its student")
                })
            }
            _ => Ok(()),
        }
    }
}
