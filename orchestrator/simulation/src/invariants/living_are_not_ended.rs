//! Living instances are not declared dead: during an outage of the store that is longer than a lease, no instance can
//! renew. Afterwards an instance that lived before must give the other ones one lease duration to renew.

use super::{Held, Invariant, View, hold};
use crate::fact::Fact;
use crate::names::InstanceNo;
use crate::store::LEASE_TTL_MS;

/// An outage counts if no renewal was answered for longer than a lease, including those in flight when it began.
const OUTAGE_MIN_MS: i64 = LEASE_TTL_MS + 500;

#[derive(Default)]
pub(super) struct LivingAreNotEnded {
    /// The last outage.
    from_ms: i64,
    until_ms: i64,
    /// When each instance began to run, and since when it was not suspended.
    lives: Vec<(InstanceNo, i64, i64)>,
    paused: Vec<InstanceNo>,
}

impl Invariant for LivingAreNotEnded {
    fn see(&mut self, fact: &Fact, world: &View<'_>) -> Held {
        let now_ms = world.now_ms;
        match fact {
            Fact::Started { instance, .. } => self.lives.push((*instance, now_ms, now_ms)),
            Fact::Ended { instance } => {
                self.lives.retain(|(other, ..)| other != instance);
                self.paused.retain(|other| other != instance);
            }
            Fact::Paused { instance } => self.paused.push(*instance),
            Fact::WentOn { instance } => {
                self.paused.retain(|other| other != instance);
                let life = self.lives.iter_mut().find(|(other, ..)| other == instance);
                life.into_iter().for_each(|life| life.2 = now_ms);
            }
            Fact::StoreAway { for_ms } => {
                if now_ms >= self.until_ms {
                    self.from_ms = now_ms;
                }
                self.until_ms = now_ms + for_ms;
            }
            Fact::Healed => self.until_ms = self.until_ms.min(now_ms),
            Fact::Marked { instance, by } if instance != by => {
                let was_long = self.until_ms - self.from_ms > OUTAGE_MIN_MS;
                let is_fresh = now_ms - self.until_ms < LEASE_TTL_MS;
                let life_of = |wanted| self.lives.iter().find(|(other, ..)| *other == wanted);
                let knows_of_it = life_of(*by).is_some_and(|(_, since_ms, _)| *since_ms < self.from_ms - OUTAGE_MIN_MS);
                let could_renew = life_of(*instance).is_some_and(|(_, _, runs_since_ms)| *runs_since_ms < self.from_ms);
                let is_killed = was_long && is_fresh && knows_of_it && could_renew && !self.paused.contains(instance);
                let since_ms = now_ms - self.until_ms;
                return hold(!is_killed, || {
                    format!("{by} declares {instance} dead {since_ms} ms after the store was back, and it lives")
                });
            }
            _ => {}
        }
        Ok(())
    }
}
