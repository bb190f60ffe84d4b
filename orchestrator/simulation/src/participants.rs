//! The simulated services: each operation passes the barrier, changes a ledger, and is answered over a bad network.
//!
//! | comes in | recorded: nothing | recorded: answered | answered, undone | tombstone |
//! |---|---|---|---|---|
//! | action | decide, record the answer | the recorded answer | the recorded answer | refused |
//! | undo | record a tombstone, done | undo if it was done, record | done | done |
//! | undo of a pivot | record a tombstone, done | refused if it was done | | done |
//!
//! A service's own crash needs no case here: its commits are atomic, so a crash is a lost answer or a lost call.

use std::collections::BTreeMap;
use std::rc::Rc;

use matricula_engine::{CallAnswer, CallError, Code, Definition, Direction, Kind, Outcome, StepIndex};

use crate::broken::Broken;
use crate::draws::{Draw, Message, Purpose, RpcKey};
use crate::env::{Env, Event};
use crate::fact::Fact;
use crate::names::{Attempt, CallId, SagaNo};
use crate::replica::InstanceInput;
use crate::shapes::Does;

mod domain;
mod ledger;

pub(crate) use ledger::{Entry, Ledger, Ledgers};

/// One call to one service, for the operations of several sagas.
#[derive(Debug)]
pub(crate) struct Rpc {
    pub number: u64,
    pub key: RpcKey,
    pub destination: u8,
    pub operations: Vec<Operation>,
}

/// One operation of a call: a step of a saga.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    /// The attempt, which is also the key of its draws.
    pub made: Attempt,
    /// For the notification: the outcome of the saga.
    pub outcome: Outcome,
    /// For each drop: the saga whose add it ends, as the first step has answered.
    pub origins: Vec<SagaNo>,
    /// The effect of the step, and its kind in the definition of its saga.
    pub does: Does,
    pub kind: Kind,
}

/// One answer for each operation, or an error for all of them.
pub(crate) type RpcAnswer = Rc<Result<Vec<CallAnswer>, CallError>>;

/// The barrier row of one (saga, step).
#[derive(Debug, Clone, Default)]
pub(crate) struct Record {
    /// None: the action never came, or could not be decided yet.
    pub answer: Option<CallAnswer>,
    pub undone: bool,
}

pub(crate) struct Participants {
    pub ledgers: Ledgers,
    barrier: BTreeMap<(SagaNo, StepIndex), Record>,
    away_until_ms: Vec<i64>,
}

impl Participants {
    pub(crate) fn new(env: &Env, ledgers: Ledgers) -> Self {
        let away_until_ms = vec![0; env.shape.destinations.len()];
        Self { ledgers, barrier: BTreeMap::new(), away_until_ms }
    }

    /// The barrier row of a step of a saga.
    pub(crate) fn record(&self, saga: SagaNo, step: StepIndex) -> Option<&Record> {
        self.barrier.get(&(saga, step))
    }

    pub(crate) fn away(&mut self, env: &Env, destination: u8, for_ms: i64) {
        self.away_until_ms[usize::from(destination)] = env.now_ms + for_ms;
    }

    pub(crate) fn heal(&mut self) {
        self.away_until_ms.fill(0);
    }

    /// A person brings the entries of a saga in line with its outcome, and makes the services refuse its late calls. A
    /// withdrawn pivot is left alone: the service refuses it by its barrier row.
    pub(crate) fn mend(&mut self, saga: SagaNo, of: &Definition, committed: bool, withdrawn: Option<StepIndex>) {
        for (step, _) in of.indexed().filter(|(step, _)| withdrawn != Some(*step)) {
            self.barrier.entry((saga, step)).or_default().undone = true;
        }
        let Ledgers { record, seats, enrollments, fees, .. } = &mut self.ledgers;
        for ledger in [record, seats, enrollments, fees] {
            if committed { ledger.settle(saga, usize::MAX) } else { ledger.undo(saga) }
        }
    }

    /// A person undoes the effect of a pivot that was resolved as refused but had happened. The service keeps its
    /// barrier row, and refuses each withdrawal of the pivot.
    pub(crate) fn mend_pivot(&mut self, env: &mut Env, saga: SagaNo, pivot: StepIndex) {
        let Ledgers { record, seats, enrollments, fees, .. } = &mut self.ledgers;
        [record, seats, enrollments, fees].into_iter().for_each(|ledger| ledger.undo(saga));
        env.facts.push(Fact::Undone { of: CallId { saga, step: pivot, direction: Direction::Compensation } });
        env.say(|| format!("somebody undoes the pivot of {saga}"));
    }

    /// A copy of a call arrives.
    pub(crate) fn call(&mut self, env: &mut Env, rpc: &Rpc, copy: u8) {
        let mut draw = env.draw(Purpose::Service(rpc.key, copy));
        let instance = rpc.key.instance;
        if env.now_ms < self.away_until_ms[usize::from(rpc.destination)] {
            // Refused at once, or never answered.
            if draw.chance(512) {
                answer(env, rpc, copy, Err(CallError::new(Code::Unavailable, "", None)));
            }
            return;
        }
        if draw.chance(env.weather.error_before) {
            let error = any_error(&mut draw);
            env.say(|| format!("  {} of {instance}: {error}, nothing done", named(rpc)));
            return answer(env, rpc, copy, Err(error));
        }
        let answers = rpc.operations.iter().map(|operation| self.operate(env, operation, copy)).collect();
        if draw.chance(env.weather.error_after) {
            let error = any_error(&mut draw);
            env.say(|| format!("  {} of {instance}: done, and answered with {error}", named(rpc)));
            return answer(env, rpc, copy, Err(error));
        }
        answer(env, rpc, copy, Ok(answers));
    }

    fn operate(&mut self, env: &mut Env, operation: &Operation, copy: u8) -> CallAnswer {
        let Attempt { of, number } = operation.made;
        let answer = match of.direction {
            Direction::Forward => self.act(env, operation, copy),
            Direction::Compensation => self.undo(env, operation),
        };
        env.say(|| format!("  {of}, attempt {number}: {answer:?}"));
        answer
    }

    fn act(&mut self, env: &mut Env, operation: &Operation, copy: u8) -> CallAnswer {
        let (CallId { saga, step, .. }, does) = (operation.made.of, operation.does);
        let forgets = env.is_broken(Broken::BarrierForgetsAnswers)
            || env.is_broken(Broken::NotificationsHaveNoBarrier) && does == Does::Notify;
        let record = self.barrier.entry((saga, step)).or_default();
        match &record.answer {
            Some(CallAnswer::Refused(_)) if env.is_broken(Broken::BarrierForgetsRefusals) => {}
            Some(answer) if !forgets => return answer.clone(),
            None if record.undone => return CallAnswer::Refused("undone before it came".to_owned()),
            _ => {}
        }
        let may_refuse = operation.kind.may_refuse();
        let mut draw = env.draw(Purpose::Operation(operation.made, copy));
        let decided = if draw.chance(env.weather.not_yet) {
            None
        } else if may_refuse && draw.chance(env.weather.refused) {
            Some(CallAnswer::Refused("by the rules".to_owned()))
        } else {
            domain::decide(&mut self.ledgers, env, operation)
        };
        let Some(answer) = decided else {
            let answer = CallAnswer::Unknown(CallError::new(Code::Aborted, "not yet", Some(100)));
            if env.is_broken(Broken::BarrierRecordsNotYet) {
                record.answer = Some(answer.clone());
            }
            return answer;
        };
        if matches!(answer, CallAnswer::Done(_)) {
            env.facts.push(Fact::Done { of: operation.made.of });
            if does == Does::Notify {
                env.facts.push(Fact::Notified { saga, outcome: operation.outcome });
            }
        }
        record.answer = Some(answer.clone());
        answer
    }

    fn undo(&mut self, env: &mut Env, operation: &Operation) -> CallAnswer {
        let of = operation.made.of;
        let record = self.barrier.entry((of.saga, of.step)).or_default();
        let was_done = matches!(record.answer, Some(CallAnswer::Done(_))) && !record.undone;
        let is_pivot = operation.kind == Kind::Pivot;
        if is_pivot && env.is_broken(Broken::PivotIsNotLookedAt) {
            return CallAnswer::Done(String::new());
        }
        if is_pivot && was_done {
            return CallAnswer::Refused("it has happened".to_owned());
        }
        if was_done {
            domain::undo(&mut self.ledgers, of.saga, operation.does);
            env.facts.push(Fact::Undone { of });
        }
        if record.answer.is_some() || !env.is_broken(Broken::BarrierForgetsTombstones) {
            record.undone = true;
        }
        CallAnswer::Done(String::new())
    }
}

/// Answers a copy of a call. There may be two copies of each answer, so four in all.
fn answer(env: &mut Env, rpc: &Rpc, copy: u8, answer: Result<Vec<CallAnswer>, CallError>) {
    let (number, key, answer) = (rpc.number, rpc.key, Rc::new(answer));
    env.send(Message::Answer(key, copy), |of_answer| {
        let input = InstanceInput::RpcEnded { rpc: number, key, copy: 2 * copy + of_answer, answer: answer.clone() };
        Event::Instance { process: key.instance.process(), instance: key.instance, input }
    });
}

/// Any of gRPC's codes; a few with a wish to be left alone.
fn any_error(draw: &mut Draw) -> CallError {
    let code = Code::ALL[draw.below(Code::ALL.len() as u32) as usize];
    let retry_after_ms = match draw.below(32) {
        0 => Some(i64::from(draw.below(90_000))),
        1..4 => Some(i64::from(draw.below(1_000))),
        _ => None,
    };
    CallError::new(code, "", retry_after_ms)
}

fn named(rpc: &Rpc) -> String {
    rpc.operations.iter().map(|operation| operation.made.of.to_string()).collect::<Vec<_>>().join(", ")
}
