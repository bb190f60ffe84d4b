//! Halves are sent: if a service rejects a batch as invalid, each call in it is sent again in a smaller batch, as the
//! same attempt, before its next attempt.

use super::{Held, Invariant, View, hold};
use crate::fact::Fact;
use crate::names::{Attempt, InstanceNo, SagaNo};

#[derive(Default)]
pub(super) struct HalvesAreSent {
    /// Calls that are to be sent again.
    halved: Vec<(InstanceNo, Attempt)>,
    /// A command may withdraw a call, and after an operator's retry attempts count from 1 again.
    commanded: Vec<(InstanceNo, SagaNo)>,
}

impl Invariant for HalvesAreSent {
    fn see(&mut self, fact: &Fact, _world: &View<'_>) -> Held {
        match *fact {
            Fact::Halved { instance, made } => self.halved.push((instance, made)),
            Fact::Commanded { instance, saga, .. } => self.commanded.push((instance, saga)),
            Fact::CallMade { instance, of, attempt } => {
                let is_it = |(by, made): &(InstanceNo, Attempt)| (*by, made.of) == (instance, of);
                let Some(place) = self.halved.iter().position(is_it) else { return Ok(()) };
                let (_, made) = self.halved.swap_remove(place);
                return hold(made.number == attempt || self.commanded.contains(&(instance, of.saga)), || {
                    format!("{instance} makes attempt {attempt} of {of}, and its attempt {} was halved", made.number)
                });
            }
            Fact::Ended { instance } => self.halved.retain(|(by, _)| *by != instance),
            _ => {}
        }
        Ok(())
    }
}
