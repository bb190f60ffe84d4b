//! The witness: an independent account of the durable state and of the effects, folded from the facts. The invariants
//! compare with it, and never with the memory of an instance.

use std::collections::BTreeMap;

use matricula_engine::{CallStatus, Direction, Event, Intervention, Outcome, Phase, Recorded, SagaState, StepIndex};

use crate::fact::Fact;
use crate::names::{InstanceNo, SagaNo};
use crate::shapes::Shape;

/// A saga as its durable log has it.
pub(crate) struct Seen {
    pub state: SagaState,
    pub owner: InstanceNo,
    pub ticket: u64,
    /// It waits in line. Its state is the one of a saga that has begun and has all steps.
    pub is_queued: bool,
    /// Another instance than its first has driven it.
    pub is_adopted: bool,
    /// What operators decided, in order.
    pub interventions: Vec<Intervention>,
}

impl Seen {
    /// Whether an operator decided something about it manually, so that a person has to repair its entries. A retry
    /// decides nothing.
    pub(crate) fn is_decided_manually(&self) -> bool {
        self.interventions.iter().any(|intervention| !matches!(intervention, Intervention::Retry { .. }))
    }

    /// The pivot, if an operator has resolved it as refused and its service has not confirmed that it never happens.
    /// All other steps are undone then.
    pub(crate) fn owes_withdrawal(&self, shape: &Shape) -> Option<StepIndex> {
        let pivot = shape.definitions.of(&self.state).pivot();
        let undo = &self.state.steps()[pivot.get()].undo;
        let is_decided = self.state.phase() == Phase::Compensating && self.state.outcome() != Outcome::Pending;
        (is_decided && undo.status == CallStatus::Trying).then_some(pivot)
    }
}

/// An instance.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Life {
    pub runs: bool,
    pub marked: bool,
    pub at_work_max: usize,
    pub parked_max: usize,
    /// Its quota: sagas of one student without an outcome.
    pub open_max: usize,
}

/// How often the services did a step and undid it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Effects {
    pub done: u32,
    pub undone: u32,
}

#[derive(Default)]
pub(crate) struct Witness {
    lives: BTreeMap<InstanceNo, Life>,
    /// The first log that did not fold, and why.
    pub unfoldable: Option<String>,
    sagas: BTreeMap<SagaNo, Seen>,
    effects: BTreeMap<(SagaNo, StepIndex), Effects>,
    unfinished: usize,
}

impl Witness {
    /// The durable state of a saga.
    pub(crate) fn saga(&self, saga: SagaNo) -> Option<&Seen> {
        self.sagas.get(&saga)
    }

    /// All that are durable.
    pub(crate) fn sagas(&self) -> impl Iterator<Item = (SagaNo, &Seen)> {
        self.sagas.iter().map(|(saga, seen)| (*saga, seen))
    }

    pub(crate) fn effects(&self, saga: SagaNo, step: StepIndex) -> Effects {
        self.effects.get(&(saga, step)).copied().unwrap_or_default()
    }

    /// Durable sagas that are not finished.
    pub(crate) fn unfinished(&self) -> usize {
        self.unfinished
    }

    pub(crate) fn life(&self, instance: InstanceNo) -> Life {
        self.lives.get(&instance).copied().unwrap_or_default()
    }

    /// A saga is admitted, or leaves the line.
    fn enters(&mut self, shape: &Shape, saga: SagaNo, owner: InstanceNo, ticket: u64, first: Option<&[Recorded]>) {
        let current = shape.definitions.current();
        let applies: Vec<_> = current.steps().iter().map(|step| step.name).collect();
        let not_begun = [Recorded::first(0, current.admit(applies, 0))];
        match shape.definitions.replay(first.unwrap_or(&not_begun)) {
            Ok(state) => {
                let (is_queued, is_adopted, interventions) = (first.is_none(), false, Vec::new());
                self.sagas.insert(saga, Seen { state, owner, ticket, is_queued, is_adopted, interventions });
            }
            Err(error) => self.unfoldable = Some(format!("{saga}: {error}")),
        }
    }

    pub(crate) fn learn(&mut self, shape: &Shape, fact: &Fact) {
        match fact {
            Fact::Started { instance, at_work_max, parked_max, open_max } => {
                let (at_work_max, parked_max, open_max) = (*at_work_max, *parked_max, *open_max);
                let life = Life { runs: true, marked: false, at_work_max, parked_max, open_max };
                self.lives.insert(*instance, life);
            }
            Fact::Ended { instance } => self.lives.entry(*instance).or_default().runs = false,
            Fact::Marked { instance, .. } => self.lives.entry(*instance).or_default().marked = true,
            Fact::Admitted { saga, instance, ticket, first } => {
                let is_new = self.saga(*saga).is_none();
                let owner = first.as_ref().map_or(InstanceNo::NOBODY, |_| *instance);
                self.enters(shape, *saga, owner, *ticket, first.as_ref().map(|first| &***first));
                self.unfinished += usize::from(is_new);
            }
            Fact::Claimed { saga, instance, ticket, first, .. } => {
                self.enters(shape, *saga, *instance, *ticket, Some(first));
            }
            Fact::Appended { saga, events, .. } => {
                let Some(seen) = self.sagas.get_mut(saga) else {
                    self.unfoldable = Some(format!("{saga} grows before it is admitted"));
                    return;
                };
                let definition = shape.definitions.of(&seen.state);
                for event in &**events {
                    if let Err(error) = seen.state.apply(definition, event) {
                        self.unfoldable = Some(format!("{saga}: {error}"));
                        return;
                    }
                    if let Event::Intervened { intervention, .. } = &event.event {
                        seen.interventions.push(intervention.clone());
                    }
                }
                if seen.state.phase().is_finished() {
                    self.unfinished -= 1;
                }
            }
            Fact::Adopted { saga, instance } => {
                if let Some(seen) = self.sagas.get_mut(saga) {
                    (seen.owner, seen.is_adopted) = (*instance, true);
                }
            }
            Fact::Done { of } | Fact::Undone { of } => {
                let effects = self.effects.entry((of.saga, of.step)).or_default();
                match of.direction {
                    Direction::Forward => effects.done += 1,
                    Direction::Compensation => effects.undone += 1,
                }
            }
            _ => {}
        }
    }
}
