//! Stopping instances begin nothing: an instance in its shutdown makes no new call, and accepts no submission.

use super::{Held, Invariant, View, hold};
use crate::fact::Fact;
use crate::names::InstanceNo;
use crate::replica::Entry;

#[derive(Default)]
pub(super) struct TheStoppingBeginNothing {
    stopping: Vec<InstanceNo>,
}

impl Invariant for TheStoppingBeginNothing {
    fn see(&mut self, fact: &Fact, _world: &View<'_>) -> Held {
        match fact {
            Fact::Stopping { instance } => self.stopping.push(*instance),
            Fact::Submitted { instance, submitted } => {
                let is_let_in = submitted.is_too_late && submitted.entry == Entry::LetIn;
                return hold(!is_let_in, || format!("{instance} is to end and lets {} in", submitted.saga));
            }
            Fact::CallMade { instance, of, .. } => {
                return hold(!self.stopping.contains(instance), || format!("{instance} is to end and makes {of}"));
            }
            _ => {}
        }
        Ok(())
    }
}
