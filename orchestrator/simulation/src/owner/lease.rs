//! Keeps an instance alive in the store, and takes over the sagas of those that are not.

use std::mem;

use matricula_engine::{Row, plan};

use super::executor::Entrant;
use super::{HEARTBEAT_MS, OldInput, Owner};
use crate::broken::Broken;
use crate::env::Env;
use crate::names::SagaNo;
use crate::replica::InstanceInput;
use crate::store::{StoreAnswer, StoreRequest, Stored};

#[derive(Default)]
pub(super) struct Adoption {
    /// Chosen and not handed over yet. It outlives an error: what the store may have given to this instance is asked
    /// for again, because nobody else would.
    chosen: Vec<SagaNo>,
    /// A chunk that waits until the executor has room.
    handing_over: Vec<Entrant>,
}

impl Owner {
    pub(super) fn renew(&mut self, env: &mut Env) {
        // The next does not wait for this one's answer: a renewal that hangs must not use up the time of the next.
        self.ask_store(env, StoreRequest::Renew { asked_at: Default::default() });
        self.wake_me(env, HEARTBEAT_MS, InstanceInput::Old(OldInput::Heartbeat));
    }

    /// Time to look for instances that have ended.
    pub(super) fn look(&mut self, env: &mut Env) {
        if !self.is_stopping {
            self.ask_store(env, StoreRequest::Look { may_mark: true });
        }
    }

    pub(super) fn looked(&mut self, env: &mut Env, asked: &StoreRequest, answer: StoreAnswer) {
        match answer {
            StoreAnswer::Failed => {
                if env.is_broken(Broken::ChosenAreForgotten) {
                    self.adoption.chosen.clear();
                }
                return self.wake_me(env, HEARTBEAT_MS, InstanceInput::Old(OldInput::Look));
            }
            StoreAnswer::Chosen(sagas) => {
                if sagas.is_empty() {
                    return self.wake_me(env, HEARTBEAT_MS, InstanceInput::Old(OldInput::Look));
                }
                self.adoption.chosen = sagas;
            }
            StoreAnswer::Adopted(stored) => {
                self.adoption.chosen.clear();
                env.say(|| {
                    let sagas: Vec<String> = stored.iter().map(|stored| stored.saga.to_string()).collect();
                    format!("{} has adopted {}", self.instance, sagas.join(", "))
                });
                let entrants = read_back(env, stored);
                if !env.is_broken(Broken::AdoptedAreForgotten) {
                    self.adoption.handing_over = entrants;
                }
                if !self.adoption.handing_over.is_empty() {
                    return self.hand_over(env);
                }
            }
            _ => debug_assert!(matches!(asked, StoreRequest::Look { .. })),
        }
        self.next_chunk(env);
    }

    /// A chunk is handed over before the next is taken.
    pub(super) fn hand_over(&mut self, env: &mut Env) {
        if self.adoption.handing_over.is_empty() || !self.may_adopt() || self.is_stopping {
            return;
        }
        let entrants = mem::take(&mut self.adoption.handing_over);
        self.adopted(env, entrants);
        self.next_chunk(env);
        self.fill_places(env);
    }

    fn next_chunk(&mut self, env: &mut Env) {
        if self.is_stopping {
            return;
        }
        let request = match self.adoption.chosen.as_slice() {
            [] => StoreRequest::Choose { limit: crate::store::ADOPTION_CHUNK },
            chosen => StoreRequest::Adopt(chosen.to_vec()),
        };
        self.ask_store(env, request);
    }
}

/// Sorts out what can be driven on, by the engine's own plan.
fn read_back(env: &Env, stored: Vec<Stored>) -> Vec<Entrant> {
    let definition = &env.shape.definition;
    let rows = stored.into_iter().map(|stored| Row {
        id: stored.saga,
        definition: definition.name().to_owned(),
        version: definition.version(),
        log: Ok(stored.log.iter().flat_map(|events| events.iter().cloned()).collect()),
    });
    let resume = plan(rows, [definition]).resume;
    resume.into_iter().map(|(saga, state)| Entrant { saga, state }).collect()
}
