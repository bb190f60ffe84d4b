//! Acts on the effects of decisions: calls, timers, places given back, sagas that leave memory.

use std::time::Duration;

use matricula_engine::{CallStatus, Direction, Effect, StepIndex};
use matricula_kit::id::SagaId;
use matricula_kit::telemetry::spans;

use super::{Executor, Place};
use crate::destination::{Told, Waiting};
use crate::store::Summary;
use crate::{Call, Workload};

/// Longest sleep of a saga's timer: a deadline that a clock which was set back makes look far costs no more than this. A
/// wake too many does no harm.
const SLEEP_MAX: Duration = Duration::from_secs(60);

impl<W: Workload> Executor<W> {
    pub(super) fn act(&mut self, id: &SagaId, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Call { step, direction, attempt } => self.call(id, step, direction, attempt),
                Effect::Decided(_) => self.decided(id),
                Effect::Finished => {
                    metrics::counter!("matricula_sagas_finished_total").increment(1);
                    self.forget(id);
                }
            }
        }
    }

    fn call(&mut self, id: &SagaId, step: StepIndex, direction: Direction, attempt: u32) {
        let Some(saga) = self.sagas.get_mut(id) else { return };
        // A call that waited for the log may have been made by a later decision, and be over by now.
        let progress = saga.state.steps()[step.get()].call(direction);
        let is_due = progress.status == CallStatus::Trying && progress.attempts + 1 == attempt;
        if !is_due || saga.calling.contains(&(step, direction)) {
            return;
        }
        let line = self.workload.definition().step(step);
        let (Some(rpc), Some(destination)) = (line.rpc(direction), self.outbox.destinations.get(line.destination))
        else {
            return;
        };
        saga.calling.push((step, direction));
        let call = Call {
            saga: id.clone(),
            step,
            step_name: line.name,
            direction,
            attempt,
            request: saga.request.clone(),
            state: saga.state.clone(),
            trace: saga.trace.clone(),
            owner_alive_at: self.outbox.clock.alive_at(),
        };
        let may_gather = direction == Direction::Forward && !self.workload.is_waited_for(line, &saga.request);
        let _ = destination.send(Told::Call(Waiting { rpc, call, may_gather }));
    }

    /// Takes back the calls of what an operator has decided: one that waits for its service would be made when that is back,
    /// and do a second time, or after all, what somebody has done by hand.
    pub(super) fn withdraw(&mut self, id: &SagaId) {
        let Some(saga) = self.sagas.get_mut(id) else { return };
        let state = saga.state.clone();
        let is_decided = |(step, direction): (StepIndex, Direction)| {
            state.phase().is_finished() || state.steps()[step.get()].call(direction).status != CallStatus::Trying
        };
        for (step, direction) in saga.calling.extract_if(.., |calling| is_decided(*calling)) {
            let line = self.workload.definition().step(step);
            if let (Some(rpc), Some(destination)) =
                (line.rpc(direction), self.outbox.destinations.get(line.destination))
            {
                let _ = destination.send(Told::Withdrawn { rpc, saga: id.clone(), step });
            }
        }
    }

    /// Tells operators and other instances of what lists show otherwise now.
    pub(super) fn tell_of_change(&self, id: &SagaId, before: Summary, after: Summary) {
        if before.outcome != after.outcome {
            metrics::counter!("matricula_sagas_decided_total", "outcome" => after.outcome).increment(1);
            if let Some(saga) = self.sagas.get(id) {
                spans::decided(&saga.span, after.outcome);
            }
        }
        if before != after {
            // Nobody may be listening.
            let _ = self.outbox.moved.send(id.clone());
        }
    }

    fn decided(&mut self, id: &SagaId) {
        let Some(saga) = self.sagas.get_mut(id) else { return };
        if saga.place == Place::Taken {
            saga.place = Place::GivenBack;
            self.at_work -= 1;
            self.outbox.gate.decided(id);
        }
    }

    pub(super) fn set_timer(&mut self, id: &SagaId, wake_at_ms: Option<i64>) {
        let Some(saga) = self.sagas.get_mut(id) else { return };
        match (wake_at_ms, saga.timer.take()) {
            (None, None) => {}
            (None, Some(timer)) => drop(self.timers.try_remove(&timer)),
            (Some(at_ms), timer) => {
                let wait_ms = u64::try_from(at_ms.saturating_sub(self.outbox.clock.now().0)).unwrap_or(0);
                let wait = Duration::from_millis(wait_ms).min(SLEEP_MAX);
                saga.timer = Some(match timer {
                    Some(timer) => {
                        self.timers.reset(&timer, wait);
                        timer
                    }
                    None => self.timers.insert(id.clone(), wait),
                });
            }
        }
    }

    pub(super) fn forget(&mut self, id: &SagaId) {
        let Some(saga) = self.sagas.remove(id) else { return };
        if let Some(timer) = saga.timer {
            self.timers.try_remove(&timer);
        }
        if saga.place == Place::Taken {
            self.at_work -= 1;
        }
        if saga.place != Place::GivenBack {
            self.outbox.gate.forgot(id);
        }
    }
}
