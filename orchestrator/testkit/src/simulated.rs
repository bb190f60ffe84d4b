//! Participants in memory that keep the contract: for every (saga, step) at most one effect, the recorded answer to a
//! repeat, and a tombstone for an undo whose action never came.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use matricula_engine::{CallAnswer, Direction};

use crate::case::Case;
use crate::shape::Shape;
use crate::world::{Call, Effects, World};

/// All participants of a saga, for any number of sagas.
pub struct Simulated {
    shape: Shape,
    subjects: AtomicU64,
    barriers: Mutex<HashMap<(u64, &'static str), Record>>,
    effects: Mutex<HashMap<u64, Effects>>,
}

/// A saga.
#[derive(Debug)]
pub struct Subject {
    id: u64,
    refusing: Vec<&'static str>,
}

/// The barrier row of a (saga, step).
#[derive(Debug, Clone, Default)]
struct Record {
    answer: Option<CallAnswer>,
    undone: bool,
}

impl Simulated {
    /// Participants without any saga.
    pub fn new(shape: Shape) -> Self {
        Self { shape, subjects: AtomicU64::new(1), barriers: Mutex::default(), effects: Mutex::default() }
    }

    /// Deletes the barrier rows of a saga. Its effects stay.
    pub fn forget(&self, subject: &Subject) {
        lock(&self.barriers).retain(|(saga, _), _| *saga != subject.id);
    }

    fn change(&self, subject: &Subject, step: &'static str, by: i64) {
        *lock(&self.effects).entry(subject.id).or_default().entry(step).or_default() += by;
    }

    fn answer(&self, subject: &Subject, call: &Call) -> CallAnswer {
        let mut barriers = lock(&self.barriers);
        let record = barriers.entry((subject.id, call.name)).or_default();
        match (call.direction, &record.answer) {
            (Direction::Forward, Some(answer)) => answer.clone(),
            (Direction::Forward, None) if record.undone => CallAnswer::Refused(format!("{} was undone", call.name)),
            (Direction::Forward, None) => {
                let answer = if subject.refusing.contains(&call.name) {
                    CallAnswer::Refused(format!("{} says no", call.name))
                } else {
                    self.change(subject, call.name, 1);
                    CallAnswer::Done(format!("{} is done", call.name))
                };
                record.answer.insert(answer).clone()
            }
            (Direction::Compensation, Some(CallAnswer::Done(_)))
                if call.step == self.shape.definition().pivot() && !record.undone =>
            {
                CallAnswer::Refused(format!("{} has happened", call.name))
            }
            (Direction::Compensation, answer) => {
                if matches!(answer, Some(CallAnswer::Done(_))) && !record.undone {
                    self.change(subject, call.name, -1);
                }
                record.undone = true;
                CallAnswer::Done(String::new())
            }
        }
    }
}

#[async_trait]
impl World for Simulated {
    type Subject = Subject;

    fn shape(&self) -> &Shape {
        &self.shape
    }

    async fn prepare(&self, cases: &[Case]) -> Vec<Subject> {
        let refusing = |case: &Case| case.refuses().map(|step| self.shape.definition().step(step).name).collect();
        let next = || self.subjects.fetch_add(1, Ordering::Relaxed);
        cases.iter().map(|case| Subject { id: next(), refusing: refusing(case) }).collect()
    }

    async fn call(&self, subject: &Subject, call: &Call) -> CallAnswer {
        self.answer(subject, call)
    }

    async fn effects(&self, subjects: &[&Subject]) -> Vec<Effects> {
        let effects = lock(&self.effects);
        subjects.iter().map(|subject| effects.get(&subject.id).cloned().unwrap_or_default()).collect()
    }
}

/// The state stays visible after a test that failed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
