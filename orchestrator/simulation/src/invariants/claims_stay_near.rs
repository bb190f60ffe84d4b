//! Claims stay near: a claimed saga was accepted at most 250 ms after every saga that another instance has claimed and
//! has at work, as long as that instance keeps its bound up to date. Each claim stores the bound of its instance.

use super::{Held, View, hold};
use crate::fact::Fact;

/// How much later, in milliseconds, a saga may have been accepted that has its turn at the same time.
const AHEAD_MAX_MS: i64 = 250;

pub(super) fn see(fact: &Fact, _world: &View<'_>) -> Held {
    let Fact::Claimed { saga, instance, front, is_out_of_order: false, .. } = fact else { return Ok(()) };
    let ahead_ms = front.ahead_ms;
    hold(ahead_ms <= 0, || format!("{instance} claims {saga} {ahead_ms} ms ahead of what another has at work"))?;
    let is_noted = front.others_ahead_ms.is_some_and(|ahead_ms| ahead_ms <= AHEAD_MAX_MS);
    hold(is_noted, || format!("{instance} has {saga} at work and lets others claim what comes much later"))
}
