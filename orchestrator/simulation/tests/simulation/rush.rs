//! A rush: more registrations than a service can take, at one core, for many seconds.
//!
//! Histories have a handful of sagas, and the core measures how fast sagas are decided only when many are. Here many
//! are. What the core makes of the rate has to turn out true: the bound of the queue, the sagas at work, the promised
//! waits, and when rejected clients come back.

use std::collections::{BTreeMap, HashMap};

use matricula_core::{
    Admitted, AppendOutcome, Change, CommitAnswer, Core, CoreConfig, Input, Moment, Ready, Registered, Reply, SagaId,
    StoreAnswer, StoreRequest, Submission, Workflow,
};
use matricula_engine::{CallAnswer, Definition, Kind, Outcome, RetryPolicy, Step};

/// The service takes three RPCs of twenty calls at a time, each for 150 ms: 400 calls a second. That is far from the rate
/// that the core assumes until it has measured one.
const CALLS: usize = 20;
const RPCS: usize = 3;
const CALL_MS: u64 = 150;
const COMMIT_MS: u64 = 5;
const DECIDED_A_SECOND: usize = 400;
/// Half as many again come, for so long.
const ARRIVE_A_SECOND: u64 = 600;
const ARRIVE_FOR_MS: u64 = 15_000;
/// From then on the rate is known.
const KNOWN_MS: u64 = 6_000;
const DATABASE_MS: i64 = 1_000_000;

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

fn core(admission_wait_max_ms: u64) -> Core<Table> {
    let retry = RetryPolicy::try_new(50, 2_000, 10_000, 30).expect("a policy");
    let (destination, undo) = ("seats", Some("Withdraw"));
    let step = Step { name: "pivot", stage: 1, destination, action: "Pivot", undo, kind: Kind::Pivot, retry };
    let config = CoreConfig {
        admission_wait_max_ms,
        in_flight_time_max_ms: 500,
        subject_per_second_max: 100,
        in_flight_max: 600,
        call_batch_max: CALLS,
        destination_in_flight_max: RPCS,
        ..CoreConfig::default()
    };
    let table = Table(Definition::try_new("rush", 1, 600_000, vec![step]).expect("a sound table"));
    let registered = Registered { asked_at: Moment::ZERO, answered_at: Moment::ZERO, database_now_ms: DATABASE_MS };
    Core::new(table, &config, "me".to_owned(), 7, registered)
}

/// The clients, the store and the service around the core. Time goes on in milliseconds.
struct Rush {
    core: Core<Table>,
    now_ms: u64,
    to_come: BTreeMap<u64, Vec<Input<Table>>>,
    tries: HashMap<u64, u32>,
    /// When sagas were accepted, and the wait that was promised.
    accepted: HashMap<SagaId, (u64, Option<Moment>)>,
    decided: usize,
    /// Promised waits divided by the real ones.
    ratios: Vec<f64>,
    open_most: usize,
    at_work: (usize, usize),
}

fn saga_of(client: u64) -> SagaId {
    SagaId::from_u128(u128::from(client))
}

fn submitted(client: u64) -> Input<Table> {
    let (subject, key, fingerprint) = (format!("student {client}"), String::new(), String::new());
    Input::Submitted {
        submission: Submission { id: saga_of(client), subject, key, fingerprint, request: () },
        caller: client,
    }
}

impl Rush {
    fn new(admission_wait_max_ms: u64) -> Self {
        let mut to_come: BTreeMap<u64, Vec<Input<Table>>> = BTreeMap::new();
        for client in 0..ARRIVE_A_SECOND * ARRIVE_FOR_MS / 1_000 {
            to_come.entry(client * 1_000 / ARRIVE_A_SECOND).or_default().push(submitted(client));
        }
        Self {
            core: core(admission_wait_max_ms),
            now_ms: 0,
            to_come,
            tries: HashMap::new(),
            accepted: HashMap::new(),
            decided: 0,
            ratios: Vec::new(),
            open_most: 0,
            at_work: (usize::MAX, 0),
        }
    }

    fn later(&mut self, in_ms: u64, input: Input<Table>) {
        self.to_come.entry(self.now_ms + in_ms).or_default().push(input);
    }

    fn tick(&mut self) {
        self.now_ms += 1;
        let due = self.to_come.split_off(&self.now_ms);
        let inputs: Vec<_> = std::mem::replace(&mut self.to_come, due).into_values().flatten().collect();
        let ready = self.core.step(Moment::from_millis(self.now_ms), inputs);
        self.obey(ready);
        let (queued, open) = (self.core.queued(), self.accepted.len());
        if self.now_ms > KNOWN_MS {
            self.open_most = self.open_most.max(open);
        }
        if self.now_ms > KNOWN_MS && queued > 0 {
            self.at_work = (self.at_work.0.min(open - queued), self.at_work.1.max(open - queued));
        }
    }

    fn obey(&mut self, ready: Ready<Table>) {
        for (client, reply) in ready.replies {
            *self.tries.entry(client).or_default() += 1;
            match reply {
                Reply::Accepted(saga) => {
                    let place = self.core.place(Moment::from_millis(self.now_ms), *saga).expect("it is open");
                    self.accepted.insert(*saga, (self.now_ms, place.expected_wait));
                }
                Reply::QueueFull { retry_after } => {
                    self.later((retry_after.as_millis() as u64).max(1), submitted(client));
                }
                other => panic!("{client}: {other:?}"),
            }
        }
        for change in ready.changes {
            if let Change::Advanced { saga, state, .. } = change
                && state.outcome() != Outcome::Pending
                && let Some((since_ms, promised)) = self.accepted.remove(&saga)
            {
                self.decided += 1;
                let took_s = (self.now_ms - since_ms) as f64 / 1_000.0;
                self.ratios.extend(promised.filter(|_| since_ms > KNOWN_MS).map(|wait| wait.as_secs_f64() / took_s));
            }
        }
        if let Some(commit) = ready.commit {
            let admissions = vec![Admitted::New; commit.admissions.len()];
            let appends = vec![AppendOutcome::Appended; commit.appends.len()];
            let answer = CommitAnswer::Written { admissions, appends };
            self.later(COMMIT_MS, Input::CommitEnded { number: commit.number, answer });
        }
        for rpc in ready.rpcs {
            let answer = Ok(rpc.calls.iter().map(|_| CallAnswer::Done(String::new())).collect());
            self.later(CALL_MS, Input::RpcEnded { number: rpc.number, answer });
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
    }
}

/// Runs until each client has its outcome; returns the mean number of tries.
fn run(rush: &mut Rush) -> f64 {
    let clients = (ARRIVE_A_SECOND * ARRIVE_FOR_MS / 1_000) as usize;
    while rush.decided < clients && rush.now_ms < 60_000 {
        rush.tick();
    }
    let Rush { decided, ratios, open_most, at_work, tries, now_ms, .. } = rush;
    let tries_mean = f64::from(tries.values().sum::<u32>()) / clients as f64;
    let near = ratios.iter().filter(|ratio| (0.8..1.25).contains(*ratio)).count();
    println!(
        "{decided} decided after {now_ms} ms; open: {open_most}, at work: {at_work:?}, tries: {tries_mean:.2}; \
         {near} of {} waits are near",
        ratios.len()
    );
    assert_eq!(*decided, clients, "each client that comes back when told is let in sooner or later");
    // The service is never idle.
    let in_ms = clients * 1_000 / DECIDED_A_SECOND;
    assert!((in_ms as u64..in_ms as u64 + 3_000).contains(now_ms), "{now_ms} ms, not {in_ms}");
    // As many are at work as are decided in half a second.
    assert!(within(at_work.0, DECIDED_A_SECOND / 2) && within(at_work.1, DECIDED_A_SECOND / 2), "at work: {at_work:?}");
    assert!(ratios.len() > 3_000 && near * 10 > ratios.len() * 9, "{near} of {} waits are near", ratios.len());
    tries_mean
}

fn within(count: usize, expected: usize) -> bool {
    (expected * 4 / 5..expected * 6 / 5).contains(&count)
}

#[test]
fn a_rush_beyond_the_bound_is_let_in_as_fast_as_sagas_are_decided() {
    let mut rush = Rush::new(4_000);
    let tries_mean = run(&mut rush);
    // Hardly any client comes back in vain. As many are open as are decided in 4 s.
    assert!((1.0..1.5).contains(&tries_mean), "{tries_mean} tries a client");
    assert!(within(rush.open_most, DECIDED_A_SECOND * 4), "{} open", rush.open_most);
}

#[test]
fn a_rush_within_the_bound_waits_as_long_as_promised() {
    let mut rush = Rush::new(120_000);
    let tries_mean = run(&mut rush);
    assert!((tries_mean - 1.0).abs() < f64::EPSILON, "{tries_mean} tries a client");
    assert!(rush.open_most > DECIDED_A_SECOND * 4, "{} open", rush.open_most);
}
