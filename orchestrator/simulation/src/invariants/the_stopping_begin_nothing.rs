//! The stopping begin nothing: an instance that was asked to end makes no call any more.

use super::{Held, Invariant, View, hold};
use crate::fact::Fact;
use crate::names::InstanceNo;

#[derive(Default)]
pub(super) struct TheStoppingBeginNothing {
    stopping: Vec<InstanceNo>,
}

impl Invariant for TheStoppingBeginNothing {
    fn name(&self) -> &'static str {
        "the stopping begin nothing"
    }

    fn see(&mut self, fact: &Fact, _world: &View<'_>) -> Held {
        match fact {
            Fact::Stopping { instance } => self.stopping.push(*instance),
            Fact::CallMade { instance, of, .. } => {
                return hold(!self.stopping.contains(instance), || format!("{instance} is to end and makes {of}"));
            }
            _ => {}
        }
        Ok(())
    }
}
