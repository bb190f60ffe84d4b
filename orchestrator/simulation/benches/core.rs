//! What the core costs a registration, without I/O: from its submission until it has left memory, every step of one
//! orchestrator, with a database and services that answer at once. It begins at once, or it is queued and claimed.

use std::collections::VecDeque;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use matricula_core::{
    AdmissionOutcome, AppendOutcome, Commit, CommitAnswer, Core, CoreConfig, Input, LineState, Moment, QueuedSaga,
    Ready, Registered, SagaId, StoreAnswer, StoreRequest, Submission, Ticket, Workflow,
};
use matricula_engine::{CallAnswer, Definitions, Kind, Step};
use matricula_simulation::shapes;

/// The product's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The steps of a registration that adds one section, like most registrations.
const APPLIES: [&str; 6] = ["reserve_courses", "hold_seats", "assess_fees", "enroll", "settle_courses", "notify"];

struct Registrations(Definitions);

impl Workflow for Registrations {
    type Request = std::sync::Arc<str>;
    type Caller = ();

    fn definitions(&self) -> &Definitions {
        &self.0
    }

    fn applies(&self, _: &Self::Request) -> Vec<&'static str> {
        APPLIES.to_vec()
    }

    fn is_waited_for(&self, step: &Step, _: &Self::Request) -> bool {
        step.kind != Kind::Finalizer && step.name != "settle_courses"
    }
}

struct Loop {
    core: Core<Registrations>,
    now: Moment,
    sagas: u128,
    database: Database,
}

/// The line in the database.
#[derive(Default)]
struct Database {
    line: LineState,
    queued: VecDeque<QueuedSaga<std::sync::Arc<str>>>,
}

impl Loop {
    /// So many registrations are at work at a time.
    fn new(in_flight_max: usize) -> Self {
        let table = Registrations(shapes::registration().definitions);
        let registered = Registered { sent_at: Moment::ZERO, answered_at: Moment::ZERO, database_now_ms: 0 };
        let config = CoreConfig { in_flight_max, ..CoreConfig::default() };
        let core = Core::new(table, &config, "bench".to_owned(), 1, registered);
        Self { core, now: Moment::ZERO, sagas: 0, database: Database::default() }
    }

    fn submission(&mut self) -> Input<Registrations> {
        self.sagas += 1;
        let submission = Submission {
            id: SagaId::from_u128(self.sagas),
            subject: format!("S{:08}", self.sagas),
            key: format!("key-{:08}", self.sagas),
            fingerprint: r#"{"adds":["MATH-101-1"],"drops":[]}"#.to_owned(),
            is_by_staff: false,
            request: "request".into(),
        };
        Input::Submitted { submission, caller: () }
    }

    /// Runs so many registrations at a time to their end; returns how many inputs that took.
    fn run(&mut self, count: usize) -> usize {
        let mut inputs: Vec<Input<Registrations>> = (0..count).map(|_| self.submission()).collect();
        let mut taken = 0;
        loop {
            taken += inputs.len();
            self.now += Duration::from_millis(1);
            let ready = self.core.step(self.now, inputs.drain(..));
            if self.database.answer(ready, &mut inputs) {
                continue;
            }
            if self.core.in_memory() == 0 && self.database.queued.is_empty() {
                return taken;
            }
        }
    }
}

impl Database {
    /// Answers all that is to be done; false when there is nothing.
    fn answer(&mut self, ready: Ready<Registrations>, inputs: &mut Vec<Input<Registrations>>) -> bool {
        for commit in ready.commits {
            inputs.push(Input::CommitEnded { number: commit.number, answer: self.write(&commit) });
        }
        for rpc in ready.rpcs {
            let done = |_| CallAnswer::Done(r#"{"added":[],"dropped":[]}"#.to_owned());
            let answers = rpc.calls.iter().map(done).collect();
            inputs.push(Input::RpcEnded { number: rpc.number, answer: Ok(answers) });
        }
        for request in ready.store {
            let answer = match &request {
                StoreRequest::Renew { sent_at } => {
                    StoreAnswer::Renewed { database_now_ms: i64::try_from(sent_at.as_millis()).unwrap_or_default() }
                }
                StoreRequest::Look { .. } => StoreAnswer::Looked,
                StoreRequest::Choose { .. } => StoreAnswer::Chosen(Vec::new()),
                StoreRequest::Adopt { .. } => StoreAnswer::Adopted(Vec::new()),
                StoreRequest::ReadLine { after, limit } => {
                    let behind = self.queued.iter().filter(|saga| saga.ticket > *after);
                    StoreAnswer::Line { state: self.line.clone(), sagas: behind.take(*limit).cloned().collect() }
                }
                StoreRequest::Flag { .. } => continue,
            };
            inputs.push(Input::StoreAnswered { request, answer });
        }
        !inputs.is_empty()
    }

    fn write(&mut self, commit: &Commit<std::sync::Arc<str>>) -> CommitAnswer {
        let has_line = !self.queued.is_empty();
        let mut admissions = Vec::with_capacity(commit.admissions.len());
        for admission in &commit.admissions {
            let ticket = Ticket(self.line.last.0 + 1);
            self.line.last = ticket;
            if admission.first.is_some() && !has_line {
                self.line.served = ticket;
                admissions.push(AdmissionOutcome::Begun { ticket });
            } else {
                let request = Ok(admission.request.clone());
                self.queued.push_back(QueuedSaga { id: admission.id, ticket, accepted_at_ms: 0, request });
                admissions.push(AdmissionOutcome::Queued { ticket });
            }
        }
        let turns = commit.claim.as_ref().map_or(&[][..], |claim| &claim.turns);
        self.queued.drain(..turns.len());
        self.line.served = turns.last().map_or(self.line.served, |turn| turn.ticket);
        CommitAnswer::Written {
            admissions,
            claimed: vec![true; turns.len()],
            appends: vec![AppendOutcome::Appended; commit.appends.len()],
            line: Some(self.line.clone()),
        }
    }
}

fn core(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one registration through step");
    for count in [1, 64, 256, 2_048] {
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(format!("{count} at once"), |bencher| {
            let mut looped = Loop::new(count);
            bencher.iter(|| looped.run(count));
        });
    }
    for count in [256, 2_048] {
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(format!("{count} in line, 64 at work"), |bencher| {
            let mut looped = Loop::new(64);
            bencher.iter(|| looped.run(count));
        });
    }
    group.finish();
}

criterion_group!(benches, core);
criterion_main!(benches);
