//! Participants in one process, as the barrier contract wants them: the same call again gets the recorded answer, an
//! undo leaves a tombstone, an effect happens once. What they did is counted, and their faults are scripted.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use matricula_engine::{
    CallAnswer, CallError, Code, Definition, Definitions, Direction, Kind, Outcome, Recorded, RetryPolicy, SagaState,
    Step,
};
use matricula_runtime::{Call, SagaId, Workload};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// The longest time that a test waits for a fact, even on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The request of a saga of these tests.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Order {
    /// Steps whose action is refused.
    pub refuse: Vec<String>,
    /// Steps that do not apply.
    pub skip: Vec<String>,
}

/// The fault of one RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// An error, and nothing was done.
    Before(Code),
    /// The same, and the service asks for a delay of this many milliseconds.
    Later(i64),
    /// Everything was done, and the answer is lost.
    After(Code),
    /// Everything was done, and one answer is missing.
    OneShort,
    /// A fault of the client's own code.
    Panic,
    /// No answer ever comes.
    Hang,
}

/// All participants.
pub struct World {
    definitions: Definitions,
    inner: Mutex<Inner>,
    changes: watch::Sender<()>,
}

#[derive(Default)]
pub struct Inner {
    answers: HashMap<(SagaId, &'static str, Direction), CallAnswer>,
    /// The effects of each saga, in order: the name of the step, with a `-` if it was undone.
    done: HashMap<SagaId, Vec<String>>,
    /// Each RPC that came: its name, and how many operations it carried.
    pub rpcs: Vec<(&'static str, usize)>,
    pub in_flight: BTreeMap<&'static str, usize>,
    pub in_flight_most: BTreeMap<&'static str, usize>,
    /// Sagas whose first step was called and whose pivot was not answered, and the most of them at a time.
    pub at_work: HashSet<SagaId>,
    pub at_work_most: usize,
    held: HashSet<&'static str>,
    down: HashSet<&'static str>,
    /// Sagas whose first step waits until another one has settled.
    pub behind: HashMap<SagaId, SagaId>,
    /// Sagas whose operations are invalid; every batch with one of them is rejected.
    pub invalid: HashSet<SagaId>,
    scripted: HashMap<&'static str, VecDeque<Fault>>,
    storm: Option<(SmallRng, f64)>,
}

pub fn definition() -> Definition {
    table(None)
}

/// The compensation of the pivot, if it has one.
fn table(withdraw: Option<&'static str>) -> Definition {
    let retry = RetryPolicy::try_new(1, 20, 50, 5).unwrap();
    use Kind::{Compensatable, Finalizer, Pivot, Retriable};
    let step =
        |stage, name, destination, action, undo, kind| Step { name, stage, destination, action, undo, kind, retry };
    let steps = vec![
        step(1, "reserve", "alpha", "Reserve", Some("Unreserve"), Compensatable),
        step(2, "hold", "beta", "Hold", Some("Release"), Compensatable),
        step(3, "enroll", "alpha", "Enroll", Some("Unenroll"), Compensatable),
        step(3, "charge", "gamma", "Charge", Some("Void"), Compensatable),
        step(4, "commit", "alpha", "Commit", withdraw, Pivot),
        step(5, "settle", "beta", "Settle", None, Retriable),
        step(5, "bill", "gamma", "Bill", None, Retriable),
        step(5, "notify", "delta", "Notify", None, Finalizer),
    ];
    Definition::try_new("order", 1, 600_000, steps).unwrap()
}

impl World {
    pub fn new() -> Arc<Self> {
        Self::of(definition())
    }

    /// A world whose pivot has a compensation, and goes ahead of the log.
    pub fn asked() -> Arc<Self> {
        Self::of(table(Some("Withdraw")))
    }

    fn of(definition: Definition) -> Arc<Self> {
        Arc::new(Self { definitions: definition.into(), inner: Mutex::default(), changes: watch::Sender::new(()) })
    }

    pub fn now(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Lets calls of an RPC wait until it is released.
    pub fn hold(&self, rpc: &'static str) {
        self.now().held.insert(rpc);
    }

    pub fn release(&self, rpc: &'static str) {
        self.change(|inner| inner.held.remove(rpc));
    }

    /// Lets every RPC of a service fail until it is up again.
    pub fn down(&self, destination: &'static str) {
        self.now().down.insert(destination);
    }

    pub fn up(&self, destination: &'static str) {
        self.change(|inner| inner.down.remove(destination));
    }

    /// The next RPCs of this name fail like this.
    pub fn script(&self, rpc: &'static str, faults: impl IntoIterator<Item = Fault>) {
        self.now().scripted.entry(rpc).or_default().extend(faults);
    }

    /// Every RPC fails with this probability, in some way.
    pub fn storm(&self, seed: u64, probability: f64) {
        self.now().storm = Some((SmallRng::seed_from_u64(seed), probability));
    }

    pub fn calm(&self) {
        self.now().storm = None;
    }

    /// Waits until a condition holds.
    #[track_caller]
    pub fn until(&self, fact: impl Fn(&Inner) -> bool) -> impl Future<Output = ()> {
        let mut changes = self.changes.subscribe();
        let place = std::panic::Location::caller();
        async move {
            let waiting = async {
                while !fact(&self.now()) {
                    changes.changed().await.expect("the world is there");
                }
            };
            assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "never so: {place}");
        }
    }

    /// The effects of a saga.
    pub fn done(&self, saga: SagaId) -> Vec<String> {
        self.now().done.get(&saga).cloned().unwrap_or_default()
    }

    /// RPCs of a service that are in flight.
    pub fn in_flight(&self, destination: &str) -> usize {
        self.now().in_flight.get(destination).copied().unwrap_or(0)
    }

    /// How many RPCs of a name came.
    pub fn rpcs(&self, name: &str) -> Vec<usize> {
        self.now().rpcs.iter().filter(|(rpc, _)| *rpc == name).map(|(_, operations)| *operations).collect()
    }

    /// Checks that the effects of a finished saga agree with its outcome, each once.
    #[track_caller]
    pub fn audit(&self, saga: SagaId, outcome: Outcome) {
        let done = self.done(saga);
        for step in self.definitions.current().steps() {
            let count = |name: &str| done.iter().filter(|effect| *effect == name).count();
            let (effects, undone) = (count(step.name), count(&format!("-{}", step.name)));
            let committed = outcome == Outcome::Committed;
            let right = match step.kind {
                Kind::Compensatable if committed => effects == 1 && undone == 0,
                Kind::Compensatable => effects == undone && effects <= 1,
                Kind::Pivot | Kind::Retriable => effects == usize::from(committed),
                Kind::Finalizer => effects == 1,
            };
            assert!(right, "{saga} {outcome:?}, {}: {done:?}", step.name);
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let outcome = change(&mut self.now());
        self.changes.send_replace(());
        outcome
    }

    fn answer(inner: &mut Inner, call: &Call<Order>) -> CallAnswer {
        let key = (call.saga, call.step_name, call.direction);
        if let Some(answer) = inner.answers.get(&key) {
            return answer.clone();
        }
        if let Some(other) = inner.behind.get(&call.saga).filter(|_| call.step_name == "reserve") {
            let is_settled = inner.done.get(other).is_some_and(|done| done.iter().any(|step| step == "settle"));
            if !is_settled && call.direction == Direction::Forward {
                let waits = CallError::new(Code::Aborted, "an earlier one is pending", None);
                return CallAnswer::Unknown(CallError { waits_for: Some(other.to_string()), ..waits });
            }
        }
        let of = |direction| inner.answers.get(&(call.saga, call.step_name, direction)).cloned();
        let answer = match call.direction {
            // Nothing takes the pivot back.
            Direction::Compensation
                if call.step_name == "commit" && matches!(of(Direction::Forward), Some(CallAnswer::Done(_))) =>
            {
                return CallAnswer::Refused("it has happened".to_owned());
            }
            Direction::Forward if of(Direction::Compensation).is_some() => {
                CallAnswer::Refused("undone before it came".to_owned())
            }
            Direction::Forward if call.request.refuse.iter().any(|step| step == call.step_name) => {
                CallAnswer::Refused(format!("{} says no", call.step_name))
            }
            direction => {
                let effect = match (direction, of(Direction::Forward)) {
                    (Direction::Forward, _) => Some(call.step_name.to_owned()),
                    (Direction::Compensation, Some(CallAnswer::Done(_))) => Some(format!("-{}", call.step_name)),
                    (Direction::Compensation, _) => None,
                };
                inner.done.entry(call.saga).or_default().extend(effect);
                CallAnswer::Done(format!("{} done", call.step_name))
            }
        };
        inner.answers.insert(key, answer.clone());
        if call.step_name == "commit" {
            inner.at_work.remove(&call.saga);
        }
        answer
    }
}

impl Inner {
    fn arrive(&mut self, destination: &'static str, rpc: &'static str, calls: &[Call<Order>]) -> Option<Fault> {
        self.rpcs.push((rpc, calls.len()));
        let in_flight = self.in_flight.entry(destination).or_default();
        *in_flight += 1;
        let most = self.in_flight_most.entry(destination).or_default();
        *most = (*most).max(*in_flight);
        if rpc == "Reserve" {
            self.at_work.extend(calls.iter().map(|call| call.saga));
            self.at_work_most = self.at_work_most.max(self.at_work.len());
        }
        if self.down.contains(destination) {
            return Some(Fault::Before(Code::Unavailable));
        }
        if calls.iter().any(|call| self.invalid.contains(&call.saga)) {
            return Some(Fault::Before(Code::InvalidArgument));
        }
        if let Some(fault) = self.scripted.get_mut(rpc).and_then(VecDeque::pop_front) {
            return Some(fault);
        }
        let (random, probability) = self.storm.as_mut()?;
        let faults = [Fault::Before(Code::Unavailable), Fault::After(Code::DeadlineExceeded), Fault::OneShort];
        random.random_bool(*probability).then(|| faults[random.random_range(0..faults.len())])
    }
}

/// An RPC in flight, until its end or until its client times out.
struct InFlight<'a> {
    world: &'a World,
    destination: &'static str,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.world.change(|inner| *inner.in_flight.entry(self.destination).or_default() -= 1);
    }
}

#[async_trait]
impl Workload for World {
    type Request = Order;

    fn definitions(&self) -> &Definitions {
        &self.definitions
    }

    fn applies(&self, order: &Order) -> Vec<&'static str> {
        let steps = self.definitions.current().steps().iter().map(|step| step.name);
        steps.filter(|name| !order.skip.iter().any(|skip| skip == name)).collect()
    }

    async fn call(
        &self,
        destination: &'static str,
        rpc: &'static str,
        calls: &[Call<Order>],
    ) -> Result<Vec<CallAnswer>, CallError> {
        let fault = self.change(|inner| inner.arrive(destination, rpc, calls));
        let _in_flight = InFlight { world: self, destination };
        self.until(|inner| !inner.held.contains(rpc)).await;
        match fault {
            Some(Fault::Before(code)) => return Err(CallError::new(code, "scripted", None)),
            Some(Fault::Later(ms)) => return Err(CallError::new(Code::Unavailable, "scripted", Some(ms))),
            Some(Fault::Panic) => panic!("scripted"),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::After(_) | Fault::OneShort) | None => {}
        }
        let mut answers: Vec<CallAnswer> =
            self.change(|inner| calls.iter().map(|call| Self::answer(inner, call)).collect());
        match fault {
            Some(Fault::After(code)) => Err(CallError::new(code, "scripted", None)),
            Some(Fault::OneShort) => {
                answers.pop();
                Ok(answers)
            }
            _ => Ok(answers),
        }
    }

    async fn forget(&self, _: &'static str, _: &[SagaId]) -> Result<(), CallError> {
        Ok(())
    }

    fn receipt(&self, _: &Order, state: &SagaState, _: &[Recorded]) -> Result<String, String> {
        Ok(format!("\"{}\"", state.outcome().as_str()))
    }
}
