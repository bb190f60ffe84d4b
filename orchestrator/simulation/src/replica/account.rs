//! The shell's own account of its core, from inputs and outputs. The views of operators are compared with it.

use std::collections::BTreeMap;

use matricula_core::{Change, DestinationStatus, Moment, Notice, Ready, SagaId, SagaView, SagasWaiting};
use matricula_engine::{CallError, Code, Outcome};

use super::bounds::DESTINATION_IN_FLIGHT_MAX;
use super::broken_core::BrokenCore;
use super::workflow::Simulated;
use crate::env::Env;
use crate::names::{Attempt, SagaNo, id_of, number_of};

/// A saga that is in the core's memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KnownSaga {
    pub saga: SagaNo,
    pub is_adopted: bool,
    /// The log had its outcome when it entered. It gives its slot back when the core has looked at it.
    pub had_outcome: bool,
    /// The log has its outcome, and has grown since the saga entered.
    pub is_settled: bool,
    /// It had a command.
    pub is_commanded: bool,
    /// The store has refused an append to its log.
    pub is_refused: bool,
    /// The last event of its log.
    pub sequence: u64,
}

/// A call that has left.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KnownCall {
    pub made: Attempt,
    pub left_ms: i64,
    /// When the first part of its batch left.
    pub first_left_ms: i64,
    /// Its RPC has not ended.
    pub is_under_way: bool,
    /// A service has rejected its batch as invalid. The call ends with the last part of the batch.
    pub is_halved: bool,
}

/// A service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KnownDestination {
    pub in_flight: usize,
    pub in_flight_max: usize,
    pub is_breaker_open: bool,
    pub is_failing: bool,
    /// RPCs in a row that have failed; none when a batch was halved, whose parts count together.
    pub failures: Option<u32>,
    /// The number of failures that opens its breaker.
    pub failures_max: u32,
}

/// The account.
#[derive(Debug, Clone, Default)]
pub(crate) struct Account {
    /// In the order in which they have entered.
    pub sagas: Vec<KnownSaga>,
    pub calls: Vec<KnownCall>,
    pub destinations: Vec<KnownDestination>,
    pub is_stopping: bool,
    /// A commit was sent, and the core has no answer yet.
    pub is_writing: bool,
    /// How far the clock of the process was ahead when the core first read the database's time, and whether it was set.
    pub clock_ahead_ms: Option<i64>,
    pub is_clock_set: bool,
    /// Sagas that came from other instances.
    pub(super) adopted: Vec<SagaNo>,
    /// Sagas that had a command, whether or not they are in this core.
    commanded: Vec<SagaNo>,
    /// Operators look at it now and then. Otherwise the account of its calls is not needed.
    is_watched: bool,
    /// A saga with a command, or one that another instance has adopted, has left memory.
    pub has_left_early: bool,
}

/// The core's view of one saga.
#[derive(Debug)]
pub(crate) struct ShownSaga {
    pub saga: SagaNo,
    pub view: Option<SagaView>,
}

/// The view of an operator, and the shell's account at the same moment.
#[derive(Debug)]
pub(crate) struct Looked {
    /// True time.
    pub now_ms: i64,
    /// The database's time, as the core estimates it.
    pub database_ms: i64,
    pub in_memory: usize,
    /// Adopted sagas that wait for a slot.
    pub adopted_waiting: usize,
    pub sagas: Vec<ShownSaga>,
    pub destinations: Vec<DestinationStatus>,
    pub waiting: BTreeMap<&'static str, SagasWaiting>,
    pub known: Account,
}

impl Account {
    pub(super) fn new(env: &Env, failures_max: u32, is_watched: bool) -> Self {
        let destination = KnownDestination {
            in_flight: 0,
            in_flight_max: DESTINATION_IN_FLIGHT_MAX,
            is_breaker_open: false,
            is_failing: false,
            failures: Some(0),
            failures_max,
        };
        let destinations = vec![destination; env.shape.destinations.len()];
        Self { destinations, is_watched, ..Self::default() }
    }

    pub(super) fn limit_set(&mut self, destination: u8, in_flight_max: usize) {
        self.destinations[usize::from(destination)].in_flight_max = in_flight_max;
    }

    pub(super) fn commanded(&mut self, saga: SagaNo) {
        // A command may be taken in the step in which its saga enters.
        self.commanded.push(saga);
        self.sagas.iter_mut().filter(|known| known.saga == saga).for_each(|known| known.is_commanded = true);
    }

    /// The core has taken a step.
    pub(super) fn changed(&mut self, env: &Env, ready: &Ready<Simulated>) {
        for change in &ready.changes {
            match change {
                Change::Entered { saga, state, .. } => {
                    let saga = number_of(*saga);
                    self.calls.retain(|call| call.made.of.saga != saga);
                    let had_outcome = state.outcome() != Outcome::Pending;
                    self.sagas.push(KnownSaga {
                        saga,
                        is_adopted: self.adopted.contains(&saga),
                        had_outcome,
                        is_settled: false,
                        is_commanded: self.commanded.contains(&saga),
                        is_refused: false,
                        sequence: state.sequence(),
                    });
                }
                Change::Advanced { saga, state, .. } => {
                    let saga = number_of(*saga);
                    let is_settled = state.outcome() != Outcome::Pending;
                    for known in self.sagas.iter_mut().filter(|known| known.saga == saga) {
                        (known.is_settled, known.sequence) = (is_settled, state.sequence());
                    }
                }
                Change::HandedOver { saga } => self.left(*saga),
            }
        }
        self.noticed(env, &ready.notices);
    }

    fn left(&mut self, saga: SagaId) {
        let saga = number_of(saga);
        let left = self.sagas.iter().find(|known| known.saga == saga);
        self.has_left_early |= left.is_some_and(|known| known.is_commanded || !known.is_settled);
        self.sagas.retain(|known| known.saga != saga);
    }

    fn noticed(&mut self, env: &Env, notices: &[Notice]) {
        for notice in notices {
            let (name, is_breaker_open) = match notice {
                Notice::Finished { saga } => {
                    self.left(*saga);
                    continue;
                }
                Notice::AppendRefused { saga, .. } => {
                    let saga = number_of(*saga);
                    let refused = self.sagas.iter_mut().filter(|known| known.saga == saga);
                    refused.for_each(|known| known.is_refused = true);
                    continue;
                }
                Notice::BreakerOpened { destination, .. } => (destination, Some(true)),
                Notice::BreakerClosed { destination } => (destination, Some(false)),
                Notice::DestinationChanged { destination } => (destination, None),
                _ => continue,
            };
            let known = &mut self.destinations[env.shape.place(name)];
            match is_breaker_open {
                Some(is_open) => known.is_breaker_open = is_open,
                None => known.is_failing = !known.is_failing,
            }
        }
    }

    pub(super) fn sent(&mut self, env: &Env, destination: u8, calls: impl Iterator<Item = Attempt>) {
        if !self.is_watched {
            return;
        }
        self.destinations[usize::from(destination)].in_flight += 1;
        for made in calls {
            if let Some(call) = self.calls.iter_mut().find(|call| call.made == made) {
                // After a retry by an operator attempts are counted from 1 again.
                if !call.is_halved {
                    call.first_left_ms = env.now_ms;
                }
                (call.is_under_way, call.left_ms) = (true, env.now_ms);
                continue;
            }
            self.calls.retain(|call| call.made.of != made.of);
            let (left_ms, first_left_ms) = (env.now_ms, env.now_ms);
            self.calls.push(KnownCall { made, left_ms, first_left_ms, is_under_way: true, is_halved: false });
        }
    }

    pub(super) fn ended(&mut self, destination: u8, calls: &[Attempt], error: Option<&CallError>) {
        if !self.is_watched {
            return;
        }
        let is_halved = calls.len() > 1 && error.is_some_and(|error| error.code == Code::InvalidArgument);
        if let Some(call) = calls.first() {
            let known = &mut self.destinations[usize::from(destination)];
            known.in_flight -= 1;
            known.failures = match error {
                Some(error) if error.code == Code::InvalidArgument => None,
                Some(_) => known.failures.map(|failures| failures + 1),
                None => Some(0),
            };
            // A later part of a halved batch says nothing by itself.
            if self.calls.iter().any(|known| known.made.of == call.of && known.is_halved) {
                known.failures = None;
            }
        }
        for call in self.calls.iter_mut().filter(|call| calls.iter().any(|ended| ended.of == call.made.of)) {
            call.is_under_way = false;
            call.is_halved |= is_halved;
        }
    }

    /// Sagas that have their turn, and whose outcome is not in the log. A command may have decided a saga whose outcome
    /// was in the log before: it counts.
    pub(super) fn at_work(&self, core: &BrokenCore) -> usize {
        let is_open = |known: &&KnownSaga| known.had_outcome || known.is_commanded || !known.is_settled;
        self.sagas.iter().filter(is_open).count().saturating_sub(core.core().adopted_waiting())
    }
}

/// The views of the core now.
pub(super) fn look(env: &Env, core: &BrokenCore, now: Moment, known: &Account) -> Looked {
    let shown = |known: &KnownSaga| ShownSaga { saga: known.saga, view: core.look(now, id_of(known.saga)) };
    let sagas = known.sagas.iter().map(shown).collect();
    Looked {
        now_ms: env.now_ms,
        database_ms: core.core().now_ms(now),
        in_memory: core.core().in_memory(),
        adopted_waiting: core.core().adopted_waiting(),
        sagas,
        destinations: core.core().destinations(now),
        waiting: core.core().waiting(),
        known: known.clone(),
    }
}
