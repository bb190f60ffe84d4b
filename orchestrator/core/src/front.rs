//! How far ahead of one another instances may claim: turns follow tickets, but each instance makes calls of its own, and
//! the turns of a busy one may take longer.
//!
//! While a saga out of the line is at work here, other instances claim only what was accepted at most [`AHEAD_MAX_MS`]
//! after it. Each commit of the log notes that bound while there is a line, and a claim notes it together with its
//! turns, so an instance that claims next has read it.
//!
//! A saga that waits for a service or for another saga holds nobody back.

use std::collections::{BTreeSet, HashMap};

use crate::SagaId;

/// So much later, in milliseconds, may something be accepted that has its turn beside an older saga: nobody is overtaken
/// by somebody who clicked more than 250 ms later.
pub(crate) const AHEAD_MAX_MS: i64 = 250;
/// The bound of an instance at which no saga out of the line is at work.
pub(crate) const NO_BOUND: i64 = i64::MAX;

/// The sagas at work that have come out of the line by their turn.
#[derive(Debug, Default)]
pub(crate) struct Front {
    accepted_at_ms: HashMap<SagaId, i64>,
    oldest: BTreeSet<(i64, SagaId)>,
}

impl Front {
    /// A saga is claimed that was accepted then.
    pub(crate) fn enter(&mut self, id: SagaId, accepted_at_ms: i64) {
        self.leave(id);
        self.accepted_at_ms.insert(id, accepted_at_ms);
        self.oldest.insert((accepted_at_ms, id));
    }

    /// It is decided, is driven elsewhere, or waits. More than once does no harm.
    pub(crate) fn leave(&mut self, id: SagaId) {
        if let Some(accepted_at_ms) = self.accepted_at_ms.remove(&id) {
            self.oldest.remove(&(accepted_at_ms, id));
        }
    }

    /// Other instances claim nothing that was accepted later than this, by the database's clock in milliseconds.
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
