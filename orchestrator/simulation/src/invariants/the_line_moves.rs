//! The line moves: while sagas of an instance wait for their turn, each of its slots is held by a saga without a
//! durable outcome.
//!
//! The core may leave up to three quarters of the slots empty when it has measured that sagas are decided slowly. It
//! measures twenty decisions at least, and no instance of a history decides so many.

use super::{Held, Invariant, View, hold};
use crate::fact::Fact;
use crate::names::InstanceNo;

#[derive(Default)]
pub(super) struct TheLineMoves {
    slots: Vec<(InstanceNo, usize)>,
}

impl Invariant for TheLineMoves {
    fn name(&self) -> &'static str {
        "the line moves"
    }

    fn see(&mut self, fact: &Fact, _world: &View<'_>) -> Held {
        match *fact {
            Fact::Started { instance, at_work_max } => self.slots.push((instance, at_work_max)),
            Fact::Waiting { instance, waiting, at_work } => {
                let slots = self.slots.iter().find(|(other, _)| *other == instance).map_or(0, |(_, slots)| *slots);
                return hold(at_work >= slots, || {
                    format!("{waiting} sagas wait at {instance}, and {at_work} of {slots} slots are at work")
                });
            }
            _ => {}
        }
        Ok(())
    }
}
