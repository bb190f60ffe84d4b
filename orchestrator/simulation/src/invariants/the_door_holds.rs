//! The door holds: no saga is accepted while it is closed, and none begins at once while it is paused.

use super::{Held, Invariant, View, hold};
use crate::fact::Fact;
use crate::store::Door;

#[derive(Default)]
pub(super) struct TheDoorHolds {
    door: Door,
}

impl Invariant for TheDoorHolds {
    fn see(&mut self, fact: &Fact, _world: &View<'_>) -> Held {
        match fact {
            Fact::DoorSet { door } => self.door = *door,
            Fact::Admitted { saga, first, .. } => {
                let may_enter = match self.door {
                    Door::Open => true,
                    Door::Paused => first.is_none(),
                    Door::Closed => false,
                };
                return hold(may_enter, || format!("{saga} is accepted, and the door is {:?}", self.door));
            }
            _ => {}
        }
        Ok(())
    }
}
