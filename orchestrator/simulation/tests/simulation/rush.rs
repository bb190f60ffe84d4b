//! A rush: more registrations than a service can take, at one core, for many seconds.
//!
//! Histories have only a few sagas, and the core measures the rate of turns only when many wait. Here many wait.
//! Every client is accepted at once, turns follow tickets, the service is never idle, and the wait estimates are right.

use std::collections::{BTreeMap, HashMap, VecDeque};

use matricula_core::{
    AdmissionOutcome, AppendOutcome, Change, Commit, CommitAnswer, Core, CoreConfig, Input, LineState, Moment,
    QueuedSaga, Ready, Registered, Reply, SagaId, StoreAnswer, StoreRequest, Submission, Ticket, Workflow,
};
use matricula_engine::{CallAnswer, Definition, Definitions, Kind, Outcome, RetryPolicy, Step};

/// The service takes three RPCs of twenty calls at a time, each for 150 ms: 400 calls a second.
const CALLS: usize = 20;
const RPCS: usize = 3;
const CALL_MS: u64 = 150;
const COMMIT_MS: u64 = 5;
const DECIDED_A_SECOND: u64 = 400;
/// 1.5 times as many submissions come, for this time.
const ARRIVE_A_SECOND: u64 = 600;
const ARRIVE_FOR_MS: u64 = 15_000;
const CLIENTS: u64 = ARRIVE_A_SECOND * ARRIVE_FOR_MS / 1_000;
/// The time after which the rate is known.
const KNOWN_MS: u64 = 4_000;
const DATABASE_MS: i64 = 1_000_000;

struct Table(Definitions);

impl Workflow for Table {
    type Request = ();
    type Caller = u64;

    fn definitions(&self) -> &Definitions {
        &self.0
    }

    fn applies(&self, (): &()) -> Vec<&'static str> {
        vec!["pivot"]
    }

    fn is_waited_for(&self, _: &Step, (): &()) -> bool {
        true
    }
}

fn core(config: CoreConfig) -> Core<Table> {
    let retry = RetryPolicy::try_new(50, 2_000, 10_000, 30).expect("a policy");
    let (destination, undo) = ("seats", Some("Withdraw"));
    let step = Step { name: "pivot", stage: 1, destination, action: "Pivot", undo, kind: Kind::Pivot, retry };
    let config = CoreConfig {
        subject_per_second_max: 100,
        in_flight_max: 100,
        call_batch_max: CALLS,
        destination_in_flight_max: RPCS,
        ..config
    };
    let table = Table(Definition::try_new("rush", 1, 600_000, vec![step]).expect("a sound table").into());
    let registered = Registered { sent_at: Moment::ZERO, answered_at: Moment::ZERO, database_now_ms: DATABASE_MS };
    Core::new(table, &config, "me".to_owned(), 7, registered)
}

/// The clients, the store and the service around the core. Time goes on in milliseconds.
struct Rush {
    core: Core<Table>,
    now_ms: u64,
    to_come: BTreeMap<u64, Vec<Input<Table>>>,
    /// The line in the store.
    line: LineState,
    queued: VecDeque<QueuedSaga<()>>,
    /// When sagas were accepted, and their wait estimates.
    accepted: HashMap<SagaId, (u64, Option<Moment>)>,
    decided: u64,
    rejected: u64,
    longest: usize,
    /// Wait estimates divided by the real waits.
    ratios: Vec<f64>,
}

fn submitted(client: u64) -> Input<Table> {
    let (subject, key, fingerprint) = (format!("student {client}"), String::new(), String::new());
    let id = SagaId::from_u128(u128::from(client));
    let submission = Submission { id, subject, key, fingerprint, is_by_staff: false, request: () };
    Input::Submitted { submission, caller: client }
}

impl Rush {
    fn new(config: CoreConfig) -> Self {
        let mut to_come: BTreeMap<u64, Vec<Input<Table>>> = BTreeMap::new();
        for client in 0..CLIENTS {
            to_come.entry(client * 1_000 / ARRIVE_A_SECOND).or_default().push(submitted(client));
        }
        Self {
            core: core(config),
            now_ms: 0,
            to_come,
            line: LineState::default(),
            queued: VecDeque::new(),
            accepted: HashMap::new(),
            decided: 0,
            rejected: 0,
            longest: 0,
            ratios: Vec::new(),
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
        self.longest = self.longest.max(self.queued.len());
    }

    fn obey(&mut self, ready: Ready<Table>) {
        let view = self.core.line(Moment::from_millis(self.now_ms));
        for (client, reply) in ready.replies {
            match reply {
                Reply::Accepted(accepted) => {
                    let told = view.expected_wait(accepted.ticket).filter(|_| accepted.is_queued);
                    self.accepted.insert(accepted.id, (self.now_ms, told));
                }
                Reply::QueueFull { retry_after } => {
                    self.rejected += 1;
                    self.later((retry_after.as_millis() as u64).max(1), submitted(client));
                }
                other => panic!("{client}: {other:?}"),
            }
        }
        for change in ready.changes {
            if let Change::Advanced { saga, state, .. } = change
                && state.outcome() != Outcome::Pending
                && let Some((since_ms, told)) = self.accepted.remove(&saga)
            {
                self.decided += 1;
                let took_s = (self.now_ms - since_ms) as f64 / 1_000.0;
                self.ratios.extend(told.filter(|_| since_ms > KNOWN_MS).map(|wait| wait.as_secs_f64() / took_s));
            }
        }
        for commit in ready.commits {
            let answer = self.write(&commit);
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
                StoreRequest::ReadLine { after, limit } => {
                    let behind = self.queued.iter().filter(|saga| saga.ticket > after);
                    StoreAnswer::Line { state: self.line.clone(), sagas: behind.take(limit).cloned().collect() }
                }
                _ => StoreAnswer::Chosen(Vec::new()),
            };
            self.later(1, Input::StoreAnswered { request, answer });
        }
    }

    fn write(&mut self, commit: &Commit<()>) -> CommitAnswer {
        let has_line = !self.queued.is_empty();
        let mut admissions = Vec::new();
        for admission in &commit.admissions {
            let ticket = Ticket(self.line.last.0 + 1);
            self.line.last = ticket;
            if admission.first.is_some() && !has_line {
                self.line.served = ticket;
                admissions.push(AdmissionOutcome::Begun { ticket });
            } else {
                self.queued.push_back(QueuedSaga { id: admission.id, ticket, accepted_at_ms: 0, request: Ok(()) });
                admissions.push(AdmissionOutcome::Queued { ticket });
            }
        }
        let turns = commit.claim.as_ref().map_or(&[][..], |claim| &claim.turns);
        for turn in turns {
            let next = self.queued.pop_front().map(|saga| saga.ticket);
            assert_eq!(next, Some(turn.ticket), "turns follow tickets");
            self.line.served = turn.ticket;
        }
        CommitAnswer::Written {
            admissions,
            claimed: vec![true; turns.len()],
            appends: vec![AppendOutcome::Appended; commit.appends.len()],
            line: Some(self.line.clone()),
        }
    }

    /// Runs until each client has its outcome.
    fn run(&mut self) {
        while self.decided < CLIENTS && self.now_ms < 60_000 {
            self.tick();
        }
        let Self { decided, rejected, longest, ratios, now_ms, .. } = self;
        let near = ratios.iter().filter(|ratio| (0.8..1.2).contains(*ratio)).count();
        println!(
            "{decided} decided after {now_ms} ms, {rejected} rejected, {longest} in line; {near} of {} waits are near",
            ratios.len()
        );
        assert_eq!(*decided, CLIENTS, "each client is let in sooner or later");
        // The service is never idle.
        let in_ms = CLIENTS * 1_000 / DECIDED_A_SECOND;
        assert!((in_ms..in_ms + 3_000).contains(now_ms), "{now_ms} ms, not {in_ms}");
        assert!(ratios.len() > 3_000 && near * 10 > ratios.len() * 9, "{near} of {} waits are near", ratios.len());
    }
}

#[test]
fn a_rush_within_the_bound_is_accepted_and_its_wait_estimates_are_right() {
    let mut rush = Rush::new(CoreConfig::default());
    rush.run();
    assert_eq!(rush.rejected, 0);
    assert!(rush.longest > 2_500, "{} in line", rush.longest);
}

#[test]
fn a_rush_beyond_the_bound_is_accepted_at_the_rate_of_turns() {
    let mut rush = Rush::new(CoreConfig { admission_wait_max_ms: 4_000, ..CoreConfig::default() });
    rush.run();
    // Few clients come back too early. The line has as many sagas as have their turns in 4 s.
    assert!((1..CLIENTS / 2).contains(&rush.rejected), "{} rejected", rush.rejected);
    assert!((1_280..=1_920).contains(&rush.longest), "{} in line", rush.longest);
}
