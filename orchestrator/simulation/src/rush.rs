//! A rush: more registrations than a service can take, at one core, for seconds.
//!
//! Other histories have a handful of sagas, and the core measures how fast sagas are decided only when many are. Here
//! many are, and all goes well except that clients come in waves, some cancel, and the service stands still at times.
//! An account beside the core says what follows from the decisions so far: which sagas have a slot, which clients are
//! let in, which waits are promised, and when rejected clients should come back. The core has to agree.

use std::collections::{BTreeMap, HashMap};

use matricula_core::{
    Admitted, AppendOutcome, Change, CommitAnswer, Core, CoreConfig, Input, Moment, Ready, Registered, Reply, SagaId,
    StoreAnswer, StoreRequest, Submission, Workflow,
};
use matricula_engine::{CallAnswer, Definition, Input as SagaInput, Kind, Outcome, RetryPolicy, Step};

use self::account::Account;
use crate::broken::Broken;
use crate::draws::{Draw, Purpose, SetUp};
use crate::history::{Report, Violation};
use crate::replica::ample_bounds;
use crate::tally::Tally;

mod account;
mod rate;
#[cfg(test)]
mod tests;

/// One seed of so many is a rush. It takes as long as ten other histories.
const EVERY: u64 = 2_048;
/// The place of a rush among them: soon after the first, so that a short run has one, too.
const PLACE: u64 = 7;
const COMMIT_MS: u64 = 5;
const DATABASE_MS: i64 = 1_000_000;
/// Within so much simulated time each client has its outcome.
const FINISH_WITHIN_MS: u64 = 300_000;

pub(crate) const RATE_IS_FOLLOWED: &str = "the rate is followed";
pub(crate) const HINTS_ARE_SPREAD: &str = "hints are spread";
/// What must hold in a rush.
pub(crate) const INVARIANTS: [&str; 2] = [RATE_IS_FOLLOWED, HINTS_ARE_SPREAD];

pub(crate) fn is_rush(seed: u64) -> bool {
    seed % EVERY == PLACE
}

/// The service, the bounds, and how clients come.
#[derive(Debug, Clone)]
struct Plan {
    /// Calls of an RPC, RPCs at a time, and how long each takes.
    calls: usize,
    rpcs: usize,
    call_ms: u64,
    in_flight_max: usize,
    in_flight_time_max_ms: u64,
    admission_wait_max_ms: u64,
    admission_queue_max: usize,
    /// When each client comes, and which ones cancel how long after that.
    clients_ms: Vec<u64>,
    cancels: Vec<(u64, u64)>,
    /// From when until when the service stands still.
    standstill_ms: (u64, u64),
}

impl Plan {
    fn draw(seed: u64) -> Self {
        let mut draw = Draw::new(seed, &Purpose::SetUp(SetUp::Rush));
        let mut between = |from: u32, to: u32| u64::from(from + draw.below(to - from));
        let (calls, rpcs, call_ms) = (between(2, 12), between(1, 4), between(20, 200));
        let decided_a_second = calls * rpcs * 1_000 / call_ms;
        let (mut clients_ms, mut cancels, mut at_ms) = (Vec::new(), Vec::new(), 0);
        // Waves that come faster than they are decided, and a pause after each.
        for _ in 0..between(1, 4) {
            let every_us = 1_000_000 * 10 / decided_a_second / between(10, 40);
            for place in 0..between(60, 200) {
                clients_ms.push(at_ms + place * every_us / 1_000);
            }
            at_ms = clients_ms.last().map_or(0, |last| last + between(1, 2_000));
        }
        for _ in 0..between(0, 20) {
            cancels.push((between(0, clients_ms.len() as u32), between(1, 1_000)));
        }
        let stands_ms = between(0, 8_000);
        Self {
            calls: calls as usize,
            rpcs: rpcs as usize,
            call_ms,
            in_flight_max: between(8, 60) as usize,
            in_flight_time_max_ms: between(50, 1_000),
            admission_wait_max_ms: between(200, 6_000),
            admission_queue_max: between(20, 150) as usize,
            clients_ms,
            cancels,
            standstill_ms: (stands_ms, stands_ms + between(0, 6_000)),
        }
    }

    fn config(&self) -> CoreConfig {
        CoreConfig {
            admission_queue_max: self.admission_queue_max,
            admission_wait_max_ms: self.admission_wait_max_ms,
            in_flight_time_max_ms: self.in_flight_time_max_ms,
            sagas_in_memory_max: usize::MAX,
            call_batch_max: self.calls,
            destination_in_flight_max: self.rpcs,
            ..ample_bounds(self.in_flight_max)
        }
    }
}

struct Table(Definition);

impl Workflow for Table {
    type Request = ();
    type Caller = u64;

    fn definition(&self) -> &Definition {
        &self.0
    }

    fn applies(&self, (): &()) -> Vec<&'static str> {
        vec!["pivot"]
    }

    fn is_waited_for(&self, _: &Step, (): &()) -> bool {
        true
    }
}

fn table() -> Table {
    let retry = RetryPolicy::try_new(50, 2_000, 10_000, 30).expect("a policy");
    let (destination, undo) = ("seats", Some("Withdraw"));
    let step = Step { name: "pivot", stage: 1, destination, action: "Pivot", undo, kind: Kind::Pivot, retry };
    Table(Definition::try_new("rush", 1, 600_000, vec![step]).expect("a sound table"))
}

/// The clients, the store and the service around the core.
struct Rush {
    plan: Plan,
    core: Core<Table>,
    broken: Option<Broken>,
    now_ms: u64,
    to_come: BTreeMap<(u64, u64), Input<Table>>,
    scheduled: u64,
    wake_at_ms: Option<u64>,
    account: Account,
    /// When each saga was accepted, and the wait that was promised.
    accepted: HashMap<SagaId, (u64, Option<Moment>)>,
    /// The saga that was accepted last.
    last: Option<SagaId>,
    last_hint: Option<Moment>,
    tries: u64,
    tally: Tally,
    log: Option<Vec<String>>,
}

fn saga_of(client: u64) -> SagaId {
    SagaId::from_u128(u128::from(client))
}

fn submitted(client: u64) -> Input<Table> {
    let (subject, key, fingerprint) = (format!("student {client}"), String::new(), String::new());
    let submission = Submission { id: saga_of(client), subject, key, fingerprint, request: () };
    Input::Submitted { submission, caller: client }
}

fn cancelled(client: u64) -> Input<Table> {
    let command = SagaInput::Cancel { by: String::new(), reason: String::new() };
    Input::Commanded { saga: saga_of(client), command, caller: client }
}

/// An error of an invariant unless something holds.
fn hold(holds: bool, invariant: &'static str, what: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation { invariant, what: what() }) }
}

impl Rush {
    fn new(plan: Plan, seed: u64, broken: Option<Broken>, logs: bool) -> Self {
        let config = plan.config();
        let mut of_core = config.clone();
        if broken == Some(Broken::SlotsIgnoreTheRate) {
            of_core.in_flight_time_max_ms = u64::MAX / 1_000;
        }
        let registered = Registered { asked_at: Moment::ZERO, answered_at: Moment::ZERO, database_now_ms: DATABASE_MS };
        let mut rush = Self {
            core: Core::new(table(), &of_core, "me".to_owned(), seed, registered),
            account: Account::new(config),
            broken,
            now_ms: 0,
            to_come: BTreeMap::new(),
            scheduled: 0,
            wake_at_ms: Some(0),
            accepted: HashMap::new(),
            last: None,
            last_hint: None,
            tries: 0,
            tally: Tally::default(),
            log: logs.then(Vec::new),
            plan,
        };
        for (client, at_ms) in (0..).zip(rush.plan.clients_ms.clone()) {
            rush.later(at_ms, submitted(client));
        }
        for (client, after_ms) in rush.plan.cancels.clone() {
            rush.later(rush.plan.clients_ms[client as usize] + after_ms, cancelled(client));
        }
        rush
    }

    fn later(&mut self, in_ms: u64, input: Input<Table>) {
        self.scheduled += 1;
        self.to_come.insert((self.now_ms + in_ms, self.scheduled), input);
    }

    fn say(&mut self, line: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.push(format!("{:>6}.{:03}  {}", self.now_ms / 1_000, self.now_ms % 1_000, line()));
        }
    }

    fn now(&self) -> Moment {
        Moment::from_millis(self.now_ms)
    }

    /// Runs until each client has its outcome.
    fn live(&mut self) -> Result<(), Violation> {
        while self.tally.sagas < self.plan.clients_ms.len() as u64 {
            self.happen()?;
            hold(self.now_ms < FINISH_WITHIN_MS, RATE_IS_FOLLOWED, || {
                format!("{} of {} clients have their outcome", self.tally.sagas, self.plan.clients_ms.len())
            })?;
        }
        Ok(())
    }

    /// The core takes one input, or looks at what is due.
    fn happen(&mut self) -> Result<(), Violation> {
        self.tally.events += 1;
        let next = self.to_come.first_key_value().map(|((at_ms, _), _)| *at_ms);
        let wakes_first = self.wake_at_ms.is_some_and(|at_ms| next.is_none_or(|next_ms| at_ms < next_ms));
        self.now_ms = if wakes_first { self.wake_at_ms } else { next }.unwrap_or(FINISH_WITHIN_MS).max(self.now_ms);
        let input = if wakes_first { None } else { self.to_come.pop_first().map(|(_, input)| input) };
        let hint = match &input {
            Some(Input::Submitted { .. }) => Some(self.account.submitted(self.now())),
            Some(Input::Commanded { saga, .. }) => {
                self.account.cancelled(*saga, self.now());
                None
            }
            _ => None,
        };
        let now = self.now();
        let ready = self.core.step(now, input);
        self.wake_at_ms = ready.wake_at.map(|at| at.as_nanos().div_ceil(1_000_000) as u64);
        self.obey(ready, hint)?;
        self.account.fill_slots(now);
        self.check()
    }

    /// The core has taken a step. `hint`: of a client that has come, the range of the hint that it should get, if any.
    fn obey(
        &mut self,
        ready: Ready<Table>,
        hint: Option<Option<std::ops::RangeInclusive<Moment>>>,
    ) -> Result<(), Violation> {
        let mut is_rejected = false;
        for (client, reply) in ready.replies {
            match reply {
                Reply::Accepted(saga) => self.accept(*saga),
                Reply::QueueFull { retry_after } => {
                    is_rejected = true;
                    self.rejected(client, retry_after, hint.clone().flatten())?;
                }
                _ => {}
            }
        }
        if let Some(hint) = hint {
            self.tries += 1;
            hold(is_rejected == hint.is_some(), RATE_IS_FOLLOWED, || {
                let (open, open_max) = (self.account.open(), self.account.open_max());
                format!("a client is rejected: {is_rejected}, with {open} open of {open_max}")
            })?;
        }
        for change in ready.changes {
            if let Change::Advanced { saga, state, .. } = change
                && state.outcome() != Outcome::Pending
            {
                self.decided(saga);
            }
        }
        if let Some(commit) = ready.commit {
            let admissions = vec![Admitted::New; commit.admissions.len()];
            let appends = vec![AppendOutcome::Appended; commit.appends.len()];
            let answer = CommitAnswer::Written { admissions, appends };
            self.later(COMMIT_MS, Input::CommitEnded { number: commit.number, answer });
        }
        for rpc in ready.rpcs {
            self.tally.calls += 1;
            let answer = Ok(rpc.calls.iter().map(|_| CallAnswer::Done(String::new())).collect());
            let (from_ms, until_ms) = self.plan.standstill_ms;
            let stands_ms = if (from_ms..until_ms).contains(&self.now_ms) { until_ms - self.now_ms } else { 0 };
            self.later(stands_ms + self.plan.call_ms, Input::RpcEnded { number: rpc.number, answer });
        }
        for request in ready.store {
            let answer = match request {
                StoreRequest::Renew { .. } => {
                    StoreAnswer::Renewed { database_now_ms: DATABASE_MS + self.now_ms as i64 }
                }
                StoreRequest::Look { .. } => StoreAnswer::Looked,
                _ => StoreAnswer::Chosen(Vec::new()),
            };
            self.later(1, Input::StoreAnswered { request, answer });
        }
        Ok(())
    }

    fn accept(&mut self, saga: SagaId) {
        self.say(|| format!("{saga} is accepted"));
        self.account.accepted(saga, self.now());
        let promised = self.core.place(self.now(), saga).and_then(|place| place.expected_wait);
        self.accepted.insert(saga, (self.now_ms, promised));
        self.last = Some(saga);
    }

    fn rejected(
        &mut self,
        client: u64,
        hint: Moment,
        expected: Option<std::ops::RangeInclusive<Moment>>,
    ) -> Result<(), Violation> {
        let hint = if self.broken == Some(Broken::HintsAreAllTheSame) { Moment::from_secs(1) } else { hint };
        self.say(|| format!("client {client} is rejected for {hint:?}; expected: {expected:?}"));
        self.tally.rejected += 1;
        self.later((hint.as_millis() as u64).max(1), submitted(client));
        let last = self.last_hint.replace(hint);
        let Some(expected) = expected else { return Ok(()) };
        // Where nothing keeps clients away any more, each gets the shortest hint.
        hold(last != Some(hint) || hint == *expected.start(), HINTS_ARE_SPREAD, || {
            format!("a hint of {hint:?} twice")
        })?;
        hold(expected.contains(&hint), RATE_IS_FOLLOWED, || format!("a hint of {hint:?}, not in {expected:?}"))
    }

    fn decided(&mut self, saga: SagaId) {
        if self.accepted.remove(&saga).is_some() {
            self.say(|| format!("{saga} is decided"));
            self.account.decided(saga, self.now());
            self.tally.sagas += 1;
        }
    }

    fn check(&self) -> Result<(), Violation> {
        let account = &self.account;
        hold(self.core.queued() == account.waiting.len(), RATE_IS_FOLLOWED, || {
            let (queued, waiting, slots) = (self.core.queued(), account.waiting.len(), account.slots());
            format!("{queued} sagas wait, not {waiting}: {} are at work in {slots} slots", account.at_work.len())
        })?;
        let now = self.now();
        let Some((saga, place)) = self.last.and_then(|saga| Some((saga, self.core.place(now, saga)?))) else {
            return Ok(());
        };
        let expected = match (place.ahead, account.at_work.get(&saga)) {
            (Some(ahead), None) => account.wait(ahead, now),
            (None, Some((since, _))) => account.rest(*since, now),
            other => return hold(false, RATE_IS_FOLLOWED, || format!("{saga} is at {other:?}")),
        };
        let is_near = match (expected, place.expected_wait) {
            (Some(one), Some(other)) => one.abs_diff(other) < Moment::from_micros(1),
            (one, other) => one == other,
        };
        hold(is_near, RATE_IS_FOLLOWED, || format!("a promised wait of {:?}, not {expected:?}", place.expected_wait))
    }
}

/// Runs the rush of a seed.
pub(crate) fn run(seed: u64, broken: Option<Broken>, only: Option<&'static str>, logs: bool) -> Report {
    let plan = Plan::draw(seed);
    let mut rush = Rush::new(plan, seed, broken, logs);
    rush.say(|| format!("seed {seed}: a rush"));
    let plan = rush.plan.clone();
    rush.say(|| format!("{plan:?}"));
    let violation = rush.live().err();
    if let Some(Violation { invariant, what }) = &violation {
        rush.say(|| format!("VIOLATION of {invariant:?}: {what}"));
    }
    let violation = violation.filter(|violation| only.is_none_or(|only| only == violation.invariant));
    Report { seed, shape: "rush", tally: rush.tally, violation, log: rush.log.unwrap_or_default() }
}
