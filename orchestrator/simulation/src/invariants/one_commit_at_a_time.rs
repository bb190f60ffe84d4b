//! One commit at a time: an instance sends no commit while another one has no answer, and none with an append that is
//! empty. Two commits have different numbers.

use super::{Held, Invariant, View, hold};
use crate::fact::Fact;
use crate::names::InstanceNo;

#[derive(Default)]
pub(super) struct OneCommitAtATime {
    under_way: Vec<InstanceNo>,
}

impl Invariant for OneCommitAtATime {
    fn name(&self) -> &'static str {
        "one commit at a time"
    }

    fn see(&mut self, fact: &Fact, _world: &View<'_>) -> Held {
        match fact {
            Fact::CommitSent { instance, empty, is_misnamed } => {
                hold(empty.is_none(), || format!("{instance} appends nothing to the log of {empty:?}"))?;
                hold(!self.under_way.contains(instance), || format!("{instance} sends two commits at the same time"))?;
                self.under_way.push(*instance);
                hold(!is_misnamed, || format!("{instance} has two commits with the same number"))?;
            }
            Fact::CommitEnded { instance } | Fact::Ended { instance } => {
                self.under_way.retain(|other| other != instance)
            }
            _ => {}
        }
        Ok(())
    }
}
