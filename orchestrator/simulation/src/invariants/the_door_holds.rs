//! The door holds: no saga is accepted while it is closed, and none begins at once while it is paused.

use matricula_core::DoorState;

use super::{Held, Invariant, View, hold};
use crate::fact::Fact;

#[derive(Default)]
pub(super) struct TheDoorHolds {
    door: DoorState,
}

impl Invariant for TheDoorHolds {
    fn see(&mut self, fact: &Fact, _world: &View<'_>) -> Held {
        match fact {
            Fact::DoorSet { door } => self.door = *door,
            Fact::Admitted { saga, first, .. } => {
                let may_enter = match self.door {
                    DoorState::Open => true,
                    DoorState::Paused => first.is_none(),
                    DoorState::Closed => false,
                };
                return hold(may_enter, || format!("{saga} is accepted, and the door is {:?}", self.door));
            }
            _ => {}
        }
        Ok(())
    }
}
