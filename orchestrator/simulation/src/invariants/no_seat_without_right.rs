//! No seat without right: a seat is given only when one is free, and in the end the seats taken are those of the
//! enrollments in force.

use super::{Held, Invariant, View, hold};
use crate::fact::Fact;
use crate::participants::{Entry, Ledger};
use crate::shapes::Does;

pub(super) struct NoSeatWithoutRight;

impl Invariant for NoSeatWithoutRight {
    fn see(&mut self, fact: &Fact, world: &View<'_>) -> Held {
        let Fact::SeatGiven { saga, section, taken_before, capacity } = fact else { return Ok(()) };
        hold(taken_before < capacity, || format!("{saga} gets seat {} of {capacity} in {section}", taken_before + 1))?;
        // A seat that is given after the end of its saga would never be released.
        let seen = world.witness.saga(*saga);
        hold(seen.is_some_and(|seen| !seen.state.phase().is_finished() || seen.is_decided_manually()), || {
            format!("{saga} gets a seat in {section} when nobody drives it")
        })
    }

    fn end(&mut self, world: &View<'_>) -> Held {
        if !world.shape.has(Does::Hold) || world.shape.current().official().is_none() {
            return Ok(());
        }
        let ledgers = &world.participants.ledgers;
        let is_judged = |entry: &&Entry| !world.is_left_manually(entry.student, entry.section);
        for seat in ledgers.seats.entries.iter().filter(is_judged) {
            let mut of_saga = ledgers.enrollments.of_saga(seat.saga);
            let enrolled = of_saga.any(|entry| (entry.student, entry.section) == (seat.student, seat.section));
            hold(enrolled, || format!("{} has a seat in {} and no enrollment", seat.student, seat.section))?;
        }
        let count = |ledger: &Ledger| ledger.entries.iter().filter(is_judged).count();
        hold(count(&ledgers.seats) == count(&ledgers.enrollments), || "there are enrollments without a seat".to_owned())
    }
}
