//! Calls gather: a call that no client waits for leaves after 50 ms, or together with other calls of its RPC.
//!
//! A call after the pivot becomes due at the earliest with the answer of the pivot. So a call that leaves less than 50
//! ms after that answer has not gathered. Then its RPC must have another reason to leave: another call in it, or a
//! queue that was not empty when the call came, because the RPC before had no room.

use matricula_engine::{Direction, Kind};

use super::{Held, Invariant, View, hold};
use crate::fact::Fact;
use crate::names::{CallId, InstanceNo, SagaNo};
use crate::replica::may_gather;

const GATHERS_MS: i64 = 50;

/// An RPC of an instance: its destination and its name.
type Queue = (InstanceNo, &'static str, &'static str);

struct Early {
    of: CallId,
    queue: Queue,
    /// When the pivot was answered.
    since_ms: i64,
}

#[derive(Default)]
pub(super) struct CallsGather {
    pivots: Vec<(InstanceNo, SagaNo, i64)>,
    /// When the last RPC left.
    left: Vec<(Queue, i64)>,
    /// The calls of this moment that have not gathered.
    early: Vec<Early>,
    at_ms: i64,
    /// Instances where a queued call may have been withdrawn, and sagas that reverted their compensation.
    withdrawn: Vec<InstanceNo>,
    /// A probe of a breaker takes one call of a queue that is to leave.
    has_probes: bool,
    turned: Vec<SagaNo>,
}

impl CallsGather {
    fn judge(&mut self) -> Held {
        for Early { of, queue, since_ms } in &self.early {
            // A full batch leaves calls in the queue, which may be the reason.
            let may_be_full = self.early.iter().filter(|early| early.queue == *queue).count() > 1;
            let has_left = self.left.iter().any(|(other, at_ms)| other == queue && at_ms >= since_ms);
            let has_reason = has_left || may_be_full;
            hold(has_reason || self.has_probes || self.withdrawn.contains(&queue.0), || {
                format!("{of} leaves {} {} ms after the pivot", queue.0, self.at_ms - since_ms)
            })?;
        }
        for early in std::mem::take(&mut self.early) {
            self.leaves(early.queue);
        }
        Ok(())
    }

    fn leaves(&mut self, queue: Queue) {
        self.left.retain(|(other, _)| *other != queue);
        self.left.push((queue, self.at_ms));
    }

    fn made(&mut self, instance: InstanceNo, of: CallId, attempt: u32, world: &View<'_>) {
        let step = world.table(of.saga).definition.step(of.step);
        let queue = (instance, step.destination, step.rpc(of.direction).unwrap_or_default());
        if of.direction == Direction::Compensation {
            self.turned.push(of.saga);
        }
        let pivot = self.pivots.iter().find(|(by, saga, _)| (*by, *saga) == (instance, of.saga));
        let is_judged = attempt == 1
            && may_gather(world.shape, step, of.direction, world.request(of.saga))
            && !self.turned.contains(&of.saga);
        match pivot.filter(|(.., since_ms)| is_judged && self.at_ms < since_ms + GATHERS_MS) {
            Some(&(.., since_ms)) => self.early.push(Early { of, queue, since_ms }),
            None => self.leaves(queue),
        }
    }
}

impl Invariant for CallsGather {
    fn see(&mut self, fact: &Fact, world: &View<'_>) -> Held {
        match *fact {
            Fact::CallMade { instance, of, attempt } => {
                if self.at_ms != world.now_ms {
                    self.judge()?;
                    self.at_ms = world.now_ms;
                }
                self.made(instance, of, attempt, world);
            }
            Fact::CallEnded { instance, of }
                if of.direction == Direction::Forward
                    && world.table(of.saga).definition.step(of.step).kind == Kind::Pivot =>
            {
                self.pivots.retain(|(by, saga, _)| (*by, *saga) != (instance, of.saga));
                self.pivots.push((instance, of.saga, world.now_ms));
            }
            Fact::BreakerOpened => self.has_probes = true,
            Fact::Commanded { instance, .. } | Fact::GaveAway { instance } => self.withdrawn.push(instance),
            Fact::Ended { instance } => {
                self.judge()?;
                self.pivots.retain(|(by, ..)| *by != instance);
                self.left.retain(|((by, ..), _)| *by != instance);
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, _world: &View<'_>) -> Held {
        self.judge()
    }
}
