//! A read-only view of the sagas in memory for operators. It is complete because the core also has the queues of the
//! services.

use std::collections::BTreeMap;
use std::sync::Arc;

use matricula_engine::{CallWait, Direction, SagaState, Wait};

use crate::core::{Core, Saga};
use crate::{Moment, SagaId, Workflow};

/// A chain of sagas that wait for each other is followed this far: a student has few registrations at a time.
const CHAIN_MAX: usize = 16;

/// One saga as it is in memory, possibly ahead of its stored log.
#[derive(Debug, Clone)]
pub struct SagaView {
    /// Its state.
    pub state: Arc<SagaState>,
    /// For each call that is due or in flight: what it waits for.
    pub waits: Vec<CallWait>,
}

/// Sagas that wait for one service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SagasWaiting {
    /// Sagas whose next call goes to this service.
    pub direct: usize,
    /// Sagas that wait for one of the direct ones, at any distance.
    pub indirect: usize,
    /// The oldest of the direct ones.
    pub oldest: Option<SagaId>,
}

impl<W: Workflow> Core<W> {
    /// The state of one saga and what its calls wait for; none when the saga is not in this instance's memory.
    pub fn look(&self, now: Moment, id: SagaId) -> Option<SagaView> {
        let saga = self.sagas.get(&id)?;
        let is_waiting = self.slots.is_waiting(id);
        let definition = self.workflow.definitions().of(&saga.state);
        let called = self.destinations.waits_of(id, self.lease.clock(now));
        let statuses = self.destinations(now);
        let mut waits = Vec::new();
        for (index, direction, progress) in saga.state.trying(definition) {
            let step = definition.step(index);
            let is_called = saga.calling.contains(&(index, direction));
            let in_service = called.iter().find(|wait| wait.step == step.name && wait.direction == direction);
            if let Some(wait) = in_service.filter(|_| is_called) {
                waits.push(wait.clone());
                continue;
            }
            let wait = match progress.next_attempt_at_ms {
                _ if is_waiting => Wait::Turn { ahead: Some(self.slots.ahead(id)) },
                Some(until_ms) if !is_called => Wait::Pause { until_ms },
                _ => Wait::Record,
            };
            let mut wait = CallWait::new(step.name, direction, wait);
            if let Some(status) = statuses.iter().find(|status| status.name == step.destination) {
                wait.failing_since_ms = status.failing_since_ms;
                wait.last_error.clone_from(&status.last_error);
            }
            waits.push(wait);
        }
        Some(SagaView { state: saga.state.clone(), waits })
    }

    /// How many sagas wait for each service. A saga that waits for another saga counts for the services of that saga,
    /// not for the service that has reported the wait.
    pub fn waiting(&self) -> BTreeMap<&'static str, SagasWaiting> {
        let mut waiting: BTreeMap<&'static str, SagasWaiting> = BTreeMap::new();
        for (id, saga) in self.sagas.iter().filter(|(id, _)| !self.slots.is_waiting(**id)) {
            for name in self.services_of(saga) {
                let waiting = waiting.entry(name).or_default();
                waiting.direct += 1;
                waiting.oldest = Some(waiting.oldest.map_or(*id, |oldest| oldest.min(*id)));
            }
            if let Some(root) = self.root_of(saga) {
                for name in self.services_of(root) {
                    waiting.entry(name).or_default().indirect += 1;
                }
            }
        }
        waiting
    }

    /// The services of the next calls of a saga, each once.
    fn services_of(&self, saga: &Saga<W>) -> Vec<&'static str> {
        let definition = self.workflow.definitions().of(&saga.state);
        let own = saga.state.trying(definition).filter(|(_, _, progress)| progress.waits_for().is_none());
        let name = |(index, _, _): (_, Direction, _)| definition.step(index).destination;
        let mut names: Vec<&'static str> = own.map(name).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The saga at the end of the chain of waits that begins with `saga`; none if it waits for no saga in memory.
    fn root_of(&self, saga: &Saga<W>) -> Option<&Saga<W>> {
        let next = |saga: &Saga<W>| {
            let id: SagaId = saga.state.waits_for(self.workflow.definitions().of(&saga.state))?.parse().ok()?;
            self.sagas.get(&id)
        };
        let mut root = next(saga)?;
        for _ in 0..CHAIN_MAX {
            match next(root) {
                Some(further) => root = further,
                None => return Some(root),
            }
        }
        None
    }
}
