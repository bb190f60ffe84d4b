//! Cancels do not wait: an instance that receives a cancel of a queued saga calls no action of it except finalizers,
//! unless the instance has already sent a claim of the saga.

use matricula_engine::{Direction, Kind};

use super::{Held, Invariant, View, hold};
use crate::fact::Fact;
use crate::names::{InstanceNo, SagaNo};

#[derive(Default)]
pub(super) struct CancelsDoNotWait {
    cancelled: Vec<(InstanceNo, SagaNo)>,
    /// Sagas that an instance has claimed in order, or for which it has received another command.
    not_judged: Vec<(InstanceNo, SagaNo)>,
}

impl Invariant for CancelsDoNotWait {
    fn see(&mut self, fact: &Fact, world: &View<'_>) -> Held {
        match fact {
            Fact::CommitSent { instance, turns, .. } => {
                self.not_judged.extend(turns.iter().map(|saga| (*instance, *saga)));
            }
            Fact::Commanded { instance, saga, is_cancel, is_queued } => {
                let it = (*instance, *saga);
                if *is_cancel && *is_queued && !self.not_judged.contains(&it) {
                    self.cancelled.push(it);
                } else {
                    self.not_judged.push(it);
                }
            }
            // Another instance had claimed it earlier, and has ended.
            Fact::Adopted { saga, instance } => self.cancelled.retain(|other| *other != (*instance, *saga)),
            Fact::Declined { instance, saga } => self.cancelled.retain(|other| *other != (*instance, *saga)),
            Fact::CallMade { instance, of, .. } if of.direction == Direction::Forward => {
                let is_told = world.table(of.saga).definition.step(of.step).kind == Kind::Finalizer;
                return hold(is_told || !self.cancelled.contains(&(*instance, of.saga)), || {
                    format!("{instance} makes {of}, which was cancelled before its turn")
                });
            }
            _ => {}
        }
        Ok(())
    }
}
