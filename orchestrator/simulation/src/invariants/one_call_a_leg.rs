//! At most one call of a leg of a saga is under way from one instance.

use super::{Held, Invariant, View, hold};
use crate::fact::Fact;
use crate::names::{InstanceNo, LegOf};

#[derive(Default)]
pub(super) struct OneCallALeg {
    under_way: Vec<(InstanceNo, LegOf)>,
}

impl Invariant for OneCallALeg {
    fn name(&self) -> &'static str {
        "one call a leg"
    }

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
