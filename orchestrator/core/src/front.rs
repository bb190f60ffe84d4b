//! The bound that this instance sets on the claims of other instances. Sagas are claimed in the order of their tickets,
//! but a busy instance needs longer for its sagas. Without a bound, a saga of a faster instance would overtake an older
//! one.
//!
//! While a claimed saga is at work here, other instances claim only sagas that were accepted at most [`AHEAD_MAX_MS`]
//! after it. While there is a line, each commit of the log stores that bound. A claim stores it together with its
//! turns, so an instance that claims next has read it.
//!
//! A saga that waits for a service or for another saga does not count.

use std::collections::{BTreeSet, HashMap};

use crate::SagaId;

/// How much later, in milliseconds, a saga may have been accepted that begins while an older one is at work. A student
/// is not overtaken by a student who submitted more than 250 ms later.
pub(crate) const AHEAD_MAX_MS: i64 = 250;
/// The bound of an instance at which no claimed saga is at work.
pub(crate) const NO_BOUND: i64 = i64::MAX;

/// The sagas at work that were claimed in order.
#[derive(Debug, Default)]
pub(crate) struct Front {
    accepted_at_ms: HashMap<SagaId, i64>,
    oldest: BTreeSet<(i64, SagaId)>,
}

impl Front {
    /// Adds a claimed saga with the time of its acceptance.
    pub(crate) fn enter(&mut self, id: SagaId, accepted_at_ms: i64) {
        self.leave(id);
        self.accepted_at_ms.insert(id, accepted_at_ms);
        self.oldest.insert((accepted_at_ms, id));
    }

    /// Removes a saga that is decided, is driven elsewhere, or waits. Does nothing if it is not here.
    pub(crate) fn leave(&mut self, id: SagaId) {
        if let Some(accepted_at_ms) = self.accepted_at_ms.remove(&id) {
            self.oldest.remove(&(accepted_at_ms, id));
        }
    }

    /// Other instances claim no saga that was accepted later than this, by the database's clock in milliseconds.
    pub(crate) fn others_claim_to_ms(&self) -> i64 {
        self.oldest.first().map_or(NO_BOUND, |(accepted_at_ms, _)| accepted_at_ms.saturating_add(AHEAD_MAX_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_at_work_bounds_others() {
        let id = SagaId::from_u128;
        let mut front = Front::default();
        assert_eq!(front.others_claim_to_ms(), NO_BOUND);
        front.enter(id(1), 1_000);
        front.enter(id(2), 900);
        front.enter(id(3), 1_100);
        assert_eq!(front.others_claim_to_ms(), 1_150);
        front.leave(id(2));
        front.leave(id(2));
        assert_eq!(front.others_claim_to_ms(), 1_250);
        front.leave(id(1));
        front.leave(id(3));
        assert_eq!(front.others_claim_to_ms(), NO_BOUND);
    }
}
