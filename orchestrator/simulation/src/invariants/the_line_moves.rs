//! The line moves: after the end of the faults, no saga waits long for its turn while a living instance has a free
//! slot.

use super::{Held, Invariant, View, hold};
use crate::fact::Fact;
use crate::names::{InstanceNo, SagaNo};

/// A transaction that was in flight when the faults ended may time out after 10 s, and is then tried again.
const MOVES_WITHIN_MS: i64 = 15_000;

#[derive(Default)]
pub(super) struct TheLineMoves {
    /// Instances with a free slot, and since when.
    free: Vec<(InstanceNo, i64)>,
    /// Instances with a free slot where adopted sagas wait, and since when.
    adopted: Vec<(InstanceNo, i64)>,
    healed_ms: Option<i64>,
    /// Sagas in line, and since when.
    queued: Vec<(SagaNo, i64)>,
}

impl TheLineMoves {
    fn is_not_free(&mut self, instance: InstanceNo) {
        self.free.retain(|(other, _)| *other != instance);
        self.adopted.retain(|(other, _)| *other != instance);
    }

    fn waits(&mut self, instance: InstanceNo, adopted: usize, at_work: usize, world: &View<'_>) -> Held {
        let (slots, now_ms) = (world.witness.life(instance).at_work_max, world.now_ms);
        if at_work >= slots {
            self.is_not_free(instance);
            return Ok(());
        }
        let adopted_ms = self.adopted.iter().find(|(other, _)| *other == instance).map(|(_, since_ms)| *since_ms);
        match adopted_ms {
            None if adopted > 0 => self.adopted.push((instance, now_ms)),
            Some(_) if adopted == 0 => self.adopted.retain(|(other, _)| *other != instance),
            _ => {}
        }
        let known = self.free.iter().find(|(other, _)| *other == instance);
        let Some(since_ms) = known.map(|(_, since_ms)| *since_ms) else {
            self.free.push((instance, now_ms));
            return Ok(());
        };
        let Some(healed_ms) = self.healed_ms else { return Ok(()) };
        let queued = self.queued.first().map(|(_, since_ms)| *since_ms);
        let waits_since = queued.into_iter().chain(adopted_ms.filter(|_| adopted > 0)).min();
        let waited_ms = waits_since.map_or(0, |waits_since| now_ms - waits_since.max(since_ms).max(healed_ms));
        hold(waited_ms <= MOVES_WITHIN_MS, || {
            format!("{adopted} adopted sagas and {:?} wait, with {at_work} of {slots} slots at work", self.queued)
        })
    }
}

impl Invariant for TheLineMoves {
    fn see(&mut self, fact: &Fact, world: &View<'_>) -> Held {
        match *fact {
            Fact::Healed => self.healed_ms = Some(world.now_ms),
            Fact::Admitted { saga, first: None, .. } => self.queued.push((saga, world.now_ms)),
            Fact::Claimed { saga, .. } => self.queued.retain(|(other, _)| *other != saga),
            Fact::Ended { instance } | Fact::Stopping { instance } => self.is_not_free(instance),
            Fact::Stepped { instance, adopted, at_work } => return self.waits(instance, adopted, at_work, world),
            _ => {}
        }
        Ok(())
    }
}
