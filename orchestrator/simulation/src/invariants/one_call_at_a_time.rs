//! An instance has at most one call in flight for each (saga, step, direction).

use super::{Held, Invariant, View, hold};
use crate::fact::Fact;
use crate::names::{CallId, InstanceNo};

#[derive(Default)]
pub(super) struct OneCallAtATime {
    under_way: Vec<(InstanceNo, CallId)>,
}

impl Invariant for OneCallAtATime {
    fn see(&mut self, fact: &Fact, _world: &View<'_>) -> Held {
        match fact {
            Fact::CallMade { instance, of, .. } => {
                let call = (*instance, *of);
                hold(!self.under_way.contains(&call), || format!("{instance} calls {of} twice at the same time"))?;
                self.under_way.push(call);
            }
            Fact::CallEnded { instance, of } => {
                if let Some(at) = self.under_way.iter().position(|call| *call == (*instance, *of)) {
                    self.under_way.swap_remove(at);
                }
            }
            Fact::Ended { instance } => self.under_way.retain(|(other, _)| other != instance),
            _ => {}
        }
        Ok(())
    }
}
