//! What operators see of the sagas of this instance: read from memory, and nothing is changed by it.

use std::collections::HashMap;
use std::sync::Arc;

use matricula_engine::{CallWait, Direction, SagaState, Wait};
use matricula_kit::id::SagaId;
use tokio::sync::oneshot;

use super::{Executor, Place, Saga};
use crate::Workload;

/// Sagas that wait for each other, one after the other, are followed this far: a student has few registrations at a time.
const CHAIN_MAX: usize = 16;

/// A question.
pub(crate) enum Look {
    /// Where one saga stands; none when it is not here.
    Saga { saga: SagaId, reply: oneshot::Sender<Option<Seen>> },
    /// How many sagas wait for each service.
    Waiting { reply: oneshot::Sender<HashMap<&'static str, SagasWaiting>> },
}

/// One saga, as it is in memory: its log may be behind.
pub(crate) struct Seen {
    pub state: Arc<SagaState>,
    /// Its turn has not come.
    pub is_queued: bool,
    /// The services that were handed a call of it: they know more of it.
    pub called: Vec<&'static str>,
    /// Its calls that are due, by what is known here.
    pub waits: Vec<CallWait>,
}

/// Sagas that wait for one service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SagasWaiting {
    /// Whose next call is of this service.
    pub direct: usize,
    /// That wait for one of those, or for one that waits for one of those.
    pub behind: usize,
    /// The oldest of those whose next call is of this service.
    pub oldest: Option<SagaId>,
}

impl<W: Workload> Executor<W> {
    pub(super) fn look(&self, look: Look) {
        // The caller may have gone.
        match look {
            Look::Saga { saga, reply } => drop(reply.send(self.sagas.get(&saga).map(|saga| self.seen(saga)))),
            Look::Waiting { reply } => drop(reply.send(self.waiting())),
        }
    }

    fn seen(&self, saga: &Saga<W::Request>) -> Seen {
        let definition = self.workload.definition();
        let is_queued = saga.place == Place::Queued;
        let (mut called, mut waits) = (Vec::new(), Vec::new());
        for (index, direction, progress) in saga.state.trying(definition) {
            let step = definition.step(index);
            let is_called = saga.calling.contains(&(index, direction));
            if is_called {
                called.push(step.destination);
            }
            let wait = match progress.next_attempt_at_ms {
                _ if is_queued => Wait::Turn { ahead: None },
                Some(until_ms) if !is_called => Wait::Pause { until_ms },
                _ => Wait::Record,
            };
            waits.push(CallWait::new(step.name, direction, wait));
        }
        Seen { state: saga.state.clone(), is_queued, called, waits }
    }

    /// A saga that waits for another one is not counted for the service that told it so.
    fn waiting(&self) -> HashMap<&'static str, SagasWaiting> {
        let mut waiting: HashMap<&'static str, SagasWaiting> = HashMap::new();
        for (id, saga) in self.sagas.iter().filter(|(_, saga)| saga.place != Place::Queued) {
            for name in self.services_of(saga) {
                let waiting = waiting.entry(name).or_default();
                waiting.direct += 1;
                if waiting.oldest.as_ref().is_none_or(|oldest| id < oldest) {
                    waiting.oldest = Some(id.clone());
                }
            }
            if let Some(root) = self.root_of(saga) {
                for name in self.services_of(root) {
                    waiting.entry(name).or_default().behind += 1;
                }
            }
        }
        waiting
    }

    /// The services that the next calls of a saga are of, each once.
    fn services_of(&self, saga: &Saga<W::Request>) -> Vec<&'static str> {
        let definition = self.workload.definition();
        let own = saga.state.trying(definition).filter(|(_, _, progress)| progress.waits_for().is_none());
        let mut names: Vec<&'static str> =
            own.map(|(index, _, _): (_, Direction, _)| definition.step(index).destination).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The saga at the end of the chain that a saga waits in; none for one that waits for no other that is here.
    fn root_of(&self, saga: &Saga<W::Request>) -> Option<&Saga<W::Request>> {
        let next = |saga: &Saga<W::Request>| {
            let id = SagaId::try_new(saga.state.waits_for(self.workload.definition())?).ok()?;
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
