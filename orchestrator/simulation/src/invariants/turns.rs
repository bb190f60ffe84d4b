//! Turns: an instance never has more sagas at work than slots and room for parked sagas. A saga is at work from its
//! first call to its outcome. A saga with a command needs no turn.

use super::{Held, Invariant, View, hold};
use crate::fact::Fact;
use crate::names::{InstanceNo, SagaNo};

#[derive(Default)]
pub(super) struct Turns {
    at_work: Vec<(InstanceNo, SagaNo)>,
    without_turn: Vec<(InstanceNo, SagaNo)>,
}

impl Invariant for Turns {
    fn see(&mut self, fact: &Fact, world: &View<'_>) -> Held {
        match *fact {
            Fact::Ended { instance } => {
                self.at_work.retain(|(other, _)| *other != instance);
                self.without_turn.retain(|(other, _)| *other != instance);
            }
            Fact::Commanded { instance, saga, .. } => {
                self.at_work.retain(|at_work| *at_work != (instance, saga));
                self.without_turn.push((instance, saga));
            }
            Fact::Appended { saga, .. } if world.is_decided(saga) => self.at_work.retain(|(_, other)| *other != saga),
            Fact::Adopted { saga, instance } => {
                self.at_work.retain(|(by, other)| *other != saga || *by == instance);
            }
            Fact::CallMade { instance, of, .. } => {
                let at_work = (instance, of.saga);
                if world.is_decided(of.saga) || self.at_work.contains(&at_work) || self.without_turn.contains(&at_work)
                {
                    return Ok(());
                }
                self.at_work.push(at_work);
                let count = self.at_work.iter().filter(|(other, _)| *other == instance).count();
                let life = world.witness.life(instance);
                let slots = life.at_work_max + life.parked_max;
                return hold(count <= slots, || format!("{instance} has {count} sagas at work and {slots} slots"));
            }
            _ => {}
        }
        Ok(())
    }
}
