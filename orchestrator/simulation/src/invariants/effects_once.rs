//! Effects happen exactly once: no step is done twice or undone twice, and no step is undone that was not done.

use super::{Held, View, hold};
use crate::fact::Fact;

pub(super) fn see(fact: &Fact, world: &View<'_>) -> Held {
    let (Fact::Done { of } | Fact::Undone { of }) = fact else { return Ok(()) };
    let effects = world.witness.effects(of.saga, of.step);
    hold(effects.done <= 1 && effects.undone <= effects.done, || {
        format!("{of}: done {} times, undone {} times", effects.done, effects.undone)
    })
}
