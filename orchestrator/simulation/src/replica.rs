//! A replica of the orchestrator: a process in which instances run one after the other, and one such instance.
//!
//! An instance is the shipped [`matricula_core::Core`] and a shell around it. The shell does what the core returns: it
//! sends the commit and the questions to the simulated store, the RPCs over the simulated network, and the replies to
//! clients and operators. It decides nothing about a saga. A process has a clock of its own, may be stopped and go on
//! with stale memory, and may crash at any moment.
//!
//! | module | one job |
//! |---|---|
//! | `workflow` | what the sagas do, as the core has to know it |
//! | `account` | what the shell knows of its core, to compare with what operators see |
//! | `bounds` | the bounds of an instance |
//! | `line` | what the shell does for the waiting line |
//! | `submissions` | which submissions the core has let in |
//! | `broken_core` | a core from which a guard is taken out |

use std::rc::Rc;
use std::time::Duration;

use matricula_core::{
    Change, Commit, CommitAnswer, CommitNo, CoreConfig, End, Input, Lane, Moment, Notice, Ready, Registered,
    Reply as CoreReply, Rpc as CoreRpc, RpcNo, SagaId, StoreAnswer as CoreAnswer, StoreRequest as CoreRequest,
    StoredSaga, Submission, Ticket,
};
use matricula_engine::{CallError, Code, Outcome, Row};

use crate::broken::Broken;
use crate::clients::{Ask, Asked, Asker, ClientEvent, Reply, Request};
use crate::draws::{BacklogItem, CrashPoint, Message, Purpose, RpcKey, TransactionKey, TransactionKind};
use crate::env::{Env, Event};
use crate::fact::Fact;
use crate::names::{Attempt, CallId, InstanceNo, PROCESSES_MAX, ProcessNo, SagaNo};
use crate::operators::OperatorEvent;
use crate::participants::{Operation, Rpc, RpcAnswer};
use crate::store::{Admission, Append, Batch, StoreAnswer, StoreRequest, Stored, Transaction};

mod account;
mod bounds;
mod broken_core;
mod line;
mod submissions;
mod workflow;

pub(crate) use account::{KnownCall, KnownDestination, KnownSaga, Looked, ShownSaga};
pub(crate) use bounds::{CALL_TIMEOUT_MS, DESTINATION_IN_FLIGHT_MAX};

pub(crate) use submissions::{Entry, Submitted};
pub(crate) use workflow::may_gather;

use account::Account;
use broken_core::{BrokenCore, Done, is_fence};
use submissions::Submissions;
use workflow::{Caller, Simulated, id_of, number_of, origins};

/// The database's time is read from answers that take at most so long.
pub(crate) const ROUND_TRIP_MAX: Duration = Duration::from_millis(500);
/// How long an instance that is to end waits for what is in flight, at most.
const GRACE_MS: i64 = 6_000;

/// Something for one instance.
#[derive(Debug, Clone)]
pub(crate) enum InstanceInput {
    Stored {
        transaction: Transaction,
        answer: StoreAnswer,
    },
    /// A copy of an answer.
    RpcEnded {
        rpc: u64,
        key: RpcKey,
        copy: u8,
        answer: RpcAnswer,
    },
    RpcTimeout {
        rpc: u64,
        key: RpcKey,
    },
    /// The moment has come at which the core wants to look at what is due.
    Wake,
    /// The core takes in all that has gathered.
    Gathered,
    GraceIsOver,
}

impl InstanceInput {
    fn item(&self) -> BacklogItem {
        match *self {
            Self::Stored { ref transaction, .. } => BacklogItem::Stored(transaction.key),
            Self::RpcEnded { key, copy, .. } => BacklogItem::Answer(key, copy),
            Self::RpcTimeout { key, .. } => BacklogItem::CallTimeout(key),
            Self::Wake => BacklogItem::Wake,
            Self::Gathered => BacklogItem::Gathered,
            Self::GraceIsOver => BacklogItem::GraceIsOver,
        }
    }
}

/// Something for the instance that runs in a process, or for the process.
#[derive(Debug, Clone)]
pub(crate) enum ProcessEvent {
    Start,
    /// Ends at once; starts again, or never.
    Crash {
        starts_after_ms: Option<i64>,
    },
    /// Is asked to end in order, and starts again.
    Stop,
    /// Is stopped for a while, as by SIGSTOP.
    Pause {
        for_ms: i64,
    },
    GoOn,
    /// Its clock is set.
    ClockJump {
        by_ms: i64,
    },
    /// An operator changes how many RPCs to a destination may be in flight.
    Limit {
        destination: u8,
        in_flight_max: usize,
    },
    /// Another instance says that it has ended in order.
    PeerLeft(InstanceNo),
    /// Another instance says, for the nth time, that it has queued sagas in a line that was empty.
    LineBegun(InstanceNo, u32),
    Ask(Ask),
}

/// A place for instances.
pub(crate) struct Process {
    no: ProcessNo,
    clock_ahead_ms: i64,
    replica: Option<Replica>,
    is_paused: bool,
    is_gone: bool,
    starts: u16,
    pauses: u16,
    /// The destination whose limit an operator has changed.
    limited: Option<u8>,
    /// Inputs and events that arrived while it was stopped.
    backlog: Vec<Backlog>,
}

enum Backlog {
    Input(InstanceNo, InstanceInput),
    Event(ProcessEvent),
}

impl Backlog {
    fn item(&self) -> BacklogItem {
        match self {
            Self::Input(_, input) => input.item(),
            Self::Event(ProcessEvent::Ask(ask)) => BacklogItem::Ask(ask.asker),
            Self::Event(ProcessEvent::PeerLeft(instance)) => BacklogItem::PeerLeft(*instance),
            Self::Event(ProcessEvent::LineBegun(instance, number)) => BacklogItem::LineBegun(*instance, *number),
            Self::Event(_) => BacklogItem::Limit,
        }
    }
}

/// Whether an instance goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Goes {
    On,
    /// It was fenced, or has ended in order.
    Out,
}

impl Process {
    pub(crate) fn new(no: ProcessNo, clock_ahead_ms: i64) -> Self {
        Self {
            no,
            clock_ahead_ms,
            replica: None,
            is_paused: false,
            is_gone: false,
            starts: 0,
            pauses: 0,
            limited: None,
            backlog: Vec::new(),
        }
    }

    /// The instance that runs here.
    pub(crate) fn instance(&self) -> Option<InstanceNo> {
        self.replica.as_ref().map(|replica| replica.instance)
    }

    pub(crate) fn handle(&mut self, env: &mut Env, event: ProcessEvent) {
        match event {
            ProcessEvent::Start => self.start(env),
            ProcessEvent::Crash { starts_after_ms } => {
                env.say(|| format!("{} crashes", self.no));
                self.end(env, starts_after_ms);
            }
            ProcessEvent::Stop if self.is_paused => {}
            ProcessEvent::Stop => self.stop(env),
            ProcessEvent::Pause { for_ms } => {
                env.say(|| format!("{} is stopped for {for_ms} ms", self.no));
                self.is_paused = true;
                if let Some(instance) = self.instance() {
                    env.facts.push(Fact::Paused { instance });
                }
                env.schedule(for_ms, Event::Process { process: self.no, event: ProcessEvent::GoOn });
            }
            ProcessEvent::GoOn => self.go_on(env),
            ProcessEvent::ClockJump { by_ms } => {
                env.say(|| format!("the clock of {} jumps by {by_ms} ms", self.no));
                self.clock_ahead_ms += by_ms;
                if let Some(replica) = &mut self.replica {
                    replica.clock_ahead_ms = self.clock_ahead_ms;
                    replica.account.is_clock_set = true;
                }
            }
            ProcessEvent::Limit { .. }
            | ProcessEvent::PeerLeft(_)
            | ProcessEvent::LineBegun(..)
            | ProcessEvent::Ask(_)
                if self.is_paused =>
            {
                self.backlog.push(Backlog::Event(event));
            }
            ProcessEvent::Limit { destination, in_flight_max } => self.limit(env, destination, in_flight_max),
            ProcessEvent::PeerLeft(_) => self.told(env, Input::PeerLeft),
            ProcessEvent::LineBegun(..) => self.told(env, Input::LineBegun),
            ProcessEvent::Ask(ask) => self.asked(env, ask),
        }
    }

    /// Another instance has sent something.
    fn told(&mut self, env: &mut Env, input: Input<Simulated>) {
        if let Some(replica) = &mut self.replica {
            let goes = replica.take(env, input);
            self.ends_if(env, goes);
        }
    }

    fn stop(&mut self, env: &mut Env) {
        let Some(replica) = &mut self.replica else { return };
        env.say(|| format!("{} is asked to end", self.no));
        env.facts.push(Fact::Stopping { instance: replica.instance });
        let goes = replica.stop(env);
        self.ends_if(env, goes);
    }

    fn limit(&mut self, env: &mut Env, destination: u8, in_flight_max: usize) {
        let Some(replica) = &mut self.replica else { return };
        let name = env.shape.destinations[usize::from(destination)];
        self.limited = Some(destination);
        env.say(|| format!("an operator has {} make at most {in_flight_max} calls of {name} at a time", self.no));
        if replica.is_open() {
            replica.account.limit_set(destination, in_flight_max);
        }
        let goes = replica.take(env, Input::LimitSet { destination: name, in_flight_max });
        self.ends_if(env, goes);
    }

    fn asked(&mut self, env: &mut Env, ask: Ask) {
        let goes = match &mut self.replica {
            Some(replica) if replica.is_open() => replica.asked(env, ask),
            _ => {
                reply(env, ask.asker, Reply::Unavailable);
                Goes::On
            }
        };
        self.ends_if(env, goes);
    }

    /// Something for an instance that ran here.
    pub(crate) fn input(&mut self, env: &mut Env, instance: InstanceNo, input: InstanceInput) {
        if self.instance() != Some(instance) {
            return;
        }
        if self.is_paused {
            self.backlog.push(Backlog::Input(instance, input));
            return;
        }
        let Some(replica) = &mut self.replica else { return };
        let goes = replica.handle(env, input);
        self.ends_if(env, goes);
    }

    fn ends_if(&mut self, env: &mut Env, goes: Goes) {
        if goes == Goes::Out
            && let Some(instance) = self.instance()
        {
            let starts_after_ms = Some(i64::from(env.draw(Purpose::Restart(instance)).below(1_000)));
            self.end(env, starts_after_ms);
        }
    }

    /// All faults end: it runs, and no destination is parked.
    pub(crate) fn heal(&mut self, env: &mut Env) {
        if self.is_paused {
            self.go_on(env);
        }
        if self.replica.is_none() && !self.is_gone {
            self.start(env);
        }
        if let Some(destination) = self.limited.take() {
            self.limit(env, destination, DESTINATION_IN_FLIGHT_MAX);
        }
    }

    fn start(&mut self, env: &mut Env) {
        if self.replica.is_some() || self.is_gone {
            return;
        }
        let instance = InstanceNo::of(self.no, self.starts);
        self.starts += 1;
        env.say(|| format!("{} starts as {instance}, its clock {} ms ahead", self.no, self.clock_ahead_ms));
        let mut replica = Replica::new(env, self.no, instance, self.clock_ahead_ms);
        let CoreConfig { in_flight_max: at_work_max, subject_open_max: open_max, .. } = replica.config;
        env.facts.push(Fact::Started { instance, at_work_max, open_max });
        replica.ask_store(env, StoreRequest::Register);
        self.replica = Some(replica);
    }

    fn end(&mut self, env: &mut Env, starts_after_ms: Option<i64>) {
        if let Some(instance) = self.instance() {
            env.facts.push(Fact::Ended { instance });
        }
        self.replica = None;
        self.backlog.clear();
        self.is_paused = false;
        match starts_after_ms {
            Some(in_ms) => env.schedule(in_ms, Event::Process { process: self.no, event: ProcessEvent::Start }),
            None => self.is_gone = true,
        }
    }

    /// All that arrived meanwhile is there at once. It is taken in any order: each item draws its turn.
    fn go_on(&mut self, env: &mut Env) {
        if !std::mem::replace(&mut self.is_paused, false) {
            return;
        }
        env.say(|| format!("{} goes on", self.no));
        if let Some(instance) = self.instance() {
            env.facts.push(Fact::WentOn { instance });
        }
        self.pauses += 1;
        let (process, pause) = (self.no, self.pauses);
        let turn = |item| env.draw(Purpose::Backlog { process, pause, item }).any();
        let mut backlog = std::mem::take(&mut self.backlog);
        backlog.sort_by_cached_key(|came| turn(came.item()));
        for came in backlog {
            match came {
                Backlog::Input(instance, input) => self.input(env, instance, input),
                Backlog::Event(event) => self.handle(env, event),
            }
        }
    }
}

/// How far an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It has no lease yet.
    Registering,
    Runs,
    /// It gives back its lease, and does nothing else.
    Releases,
}

/// One start of an orchestrator: the core and its shell.
struct Replica {
    process: ProcessNo,
    instance: InstanceNo,
    clock_ahead_ms: i64,
    /// The moments of the core are counted from here.
    started_ms: i64,
    config: CoreConfig,
    core: Option<BrokenCore>,
    /// For how long inputs gather before the core takes them in one step, as in a process that is busy.
    gathers_ms: i64,
    gathered: Vec<Input<Simulated>>,
    stage: Stage,
    /// RPCs that have left, and whose end the core was not given.
    in_flight: Vec<(u64, Vec<Attempt>)>,
    /// When the core wants to be woken, and when it will be: a wake-up that was scheduled earlier stays.
    wake_at_ms: Option<i64>,
    wakes_at_ms: Option<i64>,
    /// The lanes of commits that have left, and have no answer.
    under_way: Vec<Lane>,
    /// The last write of each lane and its tries.
    written: [Option<(TransactionKind, u32)>; 2],
    /// How often it has told the others that there is a line.
    lines_begun: u32,
    transactions: Transactions,
    account: Account,
    submissions: Submissions,
    /// Of 1,024 steps: an operator looks after so many.
    looks_of_1024: u32,
    steps: u32,
}

/// How many transactions it has sent, except writes.
#[derive(Default)]
struct Transactions {
    renewals: u32,
    looks: u32,
    choices: u32,
    adoptions: u32,
    flags: u32,
    line_reads: u32,
    row_reads: u32,
}

impl Replica {
    fn new(env: &Env, process: ProcessNo, instance: InstanceNo, clock_ahead_ms: i64) -> Self {
        let config = bounds::config(env, instance);
        let looks_of_1024 = bounds::looks_of_1024(env, instance);
        Self {
            process,
            instance,
            clock_ahead_ms,
            started_ms: env.now_ms,
            account: Account::new(env, config.breaker_failures, looks_of_1024 > 0),
            config,
            core: None,
            gathers_ms: bounds::gathers_ms(env, instance),
            gathered: Vec::new(),
            stage: Stage::Registering,
            in_flight: Vec::new(),
            wake_at_ms: None,
            wakes_at_ms: None,
            under_way: Vec::new(),
            written: [None; 2],
            lines_begun: 0,
            transactions: Transactions::default(),
            submissions: Submissions::default(),
            looks_of_1024,
            steps: 0,
        }
    }

    fn is_open(&self) -> bool {
        self.stage == Stage::Runs
    }

    fn later(&self, env: &mut Env, in_ms: i64, input: InstanceInput) {
        env.schedule(in_ms, Event::Instance { process: self.process, instance: self.instance, input });
    }

    fn may_crash_at(&self, env: &mut Env, point: CrashPoint) {
        may_crash_at(env, self.process, point);
    }

    // Input.

    fn handle(&mut self, env: &mut Env, input: InstanceInput) -> Goes {
        match input {
            InstanceInput::Stored { transaction, answer } => self.stored(env, transaction, answer),
            InstanceInput::RpcEnded { rpc, key, copy, answer } => {
                self.may_crash_at(env, CrashPoint::Answered(key, copy));
                let answer = Rc::try_unwrap(answer).unwrap_or_else(|answer| (*answer).clone());
                self.rpc_ended(env, rpc, answer)
            }
            InstanceInput::RpcTimeout { rpc, .. } => {
                if !self.in_flight.iter().any(|(number, _)| *number == rpc) {
                    return Goes::On;
                }
                self.rpc_ended(env, rpc, Err(CallError::new(Code::DeadlineExceeded, "no answer", None)))
            }
            InstanceInput::Wake => self.woken(env),
            InstanceInput::Gathered => self.step(env),
            InstanceInput::GraceIsOver => {
                self.release(env);
                Goes::On
            }
        }
    }

    fn asked(&mut self, env: &mut Env, Ask { asker, asked }: Ask) -> Goes {
        if let Asked::Submit(saga, request) = asked {
            env.say(|| format!("{} asks {} for {saga}", saga.client(), self.instance));
            let submission = submission(saga, request);
            return self.take(env, Input::Submitted { submission, caller: Caller { asker, saga } });
        }
        self.ordered(env, Ask { asker, asked })
    }

    fn stop(&mut self, env: &mut Env) -> Goes {
        if self.stage == Stage::Registering {
            // If it gets its lease all the same, that lapses.
            return Goes::Out;
        }
        let grace_ms = i64::from(env.draw(Purpose::Grace(self.instance)).below(GRACE_MS as u32));
        self.later(env, grace_ms, InstanceInput::GraceIsOver);
        self.account.is_stopping = true;
        self.take(env, Input::Stopped)
    }

    /// Gives back its lease, unless it does so already.
    fn release(&mut self, env: &mut Env) {
        if self.stage != Stage::Releases {
            self.stage = Stage::Releases;
            self.ask_store(env, StoreRequest::Release);
        }
    }

    fn woken(&mut self, env: &mut Env) -> Goes {
        if self.wakes_at_ms != Some(env.now_ms) && self.wakes_at_ms.is_none_or(|at_ms| at_ms > env.now_ms) {
            return Goes::On;
        }
        self.wakes_at_ms = None;
        match self.wake_at_ms {
            Some(at_ms) if at_ms <= env.now_ms => self.step(env),
            _ => {
                self.schedule_wake(env);
                Goes::On
            }
        }
    }

    fn schedule_wake(&mut self, env: &mut Env) {
        if let Some(at_ms) = self.wake_at_ms
            && self.wakes_at_ms.is_none_or(|scheduled_ms| scheduled_ms > at_ms)
        {
            self.wakes_at_ms = Some(at_ms);
            self.later(env, at_ms - env.now_ms, InstanceInput::Wake);
        }
    }

    fn rpc_ended(
        &mut self,
        env: &mut Env,
        rpc: u64,
        answer: Result<Vec<matricula_engine::CallAnswer>, CallError>,
    ) -> Goes {
        if let Some(place) = self.in_flight.iter().position(|(number, _)| *number == rpc) {
            let instance = self.instance;
            let (_, calls) = self.in_flight.swap_remove(place);
            let error = answer.as_ref().err();
            let is_halved = calls.len() > 1 && error.is_some_and(|error| error.code == Code::InvalidArgument);
            self.account.ended(env, &calls, error);
            env.facts.extend(calls.iter().map(|made| Fact::CallEnded { instance, of: made.of }));
            if is_halved {
                env.facts.extend(calls.into_iter().map(|made| Fact::Halved { instance, made }));
            }
        }
        // A second answer, or one that comes too late, is handed over, too.
        self.take(env, Input::RpcEnded { number: RpcNo(rpc), answer })
    }

    fn stored(&mut self, env: &mut Env, Transaction { key, request }: Transaction, answer: StoreAnswer) -> Goes {
        self.may_crash_at(env, CrashPoint::Stored(key));
        if self.stage == Stage::Releases && !matches!(request, StoreRequest::Release) {
            return Goes::On;
        }
        match (request, answer) {
            (StoreRequest::Register, StoreAnswer::Alive { at_ms }) => self.registered(env, at_ms),
            (StoreRequest::Register, _) => Goes::Out,
            (StoreRequest::Release, answer) => {
                if matches!(answer, StoreAnswer::Done) {
                    self.tell_peers(env);
                }
                Goes::Out
            }
            (StoreRequest::Write(batch), answer) => {
                let lane = batch.number.lane;
                env.facts.push(Fact::CommitEnded { instance: self.instance, lane });
                self.under_way.retain(|other| *other != lane);
                let answer = line::commit_answer(answer);
                let is_over = matches!(answer, CommitAnswer::Written { .. } | CommitAnswer::Refused { .. });
                self.account.is_writing &= !is_over || lane == Lane::Acceptance;
                self.take(env, Input::CommitEnded { number: batch.number, answer })
            }
            (StoreRequest::ReadRow(ask), StoreAnswer::Row(row)) => self.order(env, &ask, row),
            (StoreRequest::ReadRow(ask), _) => {
                reply(env, ask.asker, Reply::Unavailable);
                Goes::On
            }
            (request, answer) => {
                let request = match request {
                    StoreRequest::ReadLine { after, limit } => CoreRequest::ReadLine { after: Ticket(after), limit },
                    StoreRequest::Renew { asked_at } => CoreRequest::Renew { asked_at },
                    StoreRequest::Look { may_mark } => CoreRequest::Look { may_mark },
                    StoreRequest::Choose { limit } => CoreRequest::Choose { limit },
                    StoreRequest::Adopt(sagas) => CoreRequest::Adopt { sagas: sagas.into_iter().map(id_of).collect() },
                    StoreRequest::Flag(sagas) => CoreRequest::Flag { sagas: sagas.into_iter().map(id_of).collect() },
                    StoreRequest::Register
                    | StoreRequest::Release
                    | StoreRequest::ReadRow(_)
                    | StoreRequest::Write(_) => return Goes::On,
                };
                let answer = match (&request, answer) {
                    (CoreRequest::Flag { .. }, StoreAnswer::Done) => CoreAnswer::Flagged,
                    (_, answer) => self.store_answer(env, answer),
                };
                self.take(env, Input::StoreAnswered { request, answer })
            }
        }
    }

    fn registered(&mut self, env: &mut Env, at_ms: i64) -> Goes {
        let workflow = Simulated { shape: env.shape.clone(), gathers: !env.is_broken(Broken::CallsDoNotGather) };
        let seed = env.core_seed(self.instance);
        let database_now_ms = at_ms + self.clock_ahead_ms;
        // The lease is as old as the question, however long the answer has waited in a process that was stopped.
        let name = self.instance.to_string();
        let registered = Registered { asked_at: Moment::ZERO, answered_at: Moment::ZERO, database_now_ms };
        self.core = Some(BrokenCore::new(env.broken, workflow, &self.config, name, seed, registered));
        self.stage = Stage::Runs;
        self.step(env)
    }

    /// The other processes are told that the sagas of this instance are to be adopted.
    fn tell_peers(&self, env: &mut Env) {
        let from = self.instance;
        for process in (0..PROCESSES_MAX as u8).map(ProcessNo).filter(|process| *process != self.process) {
            env.send(Message::PeerLeft(from, process), |_| Event::Process {
                process,
                event: ProcessEvent::PeerLeft(from),
            });
        }
    }

    fn store_answer(&mut self, env: &mut Env, answer: StoreAnswer) -> CoreAnswer<Rc<Request>> {
        match answer {
            StoreAnswer::Alive { at_ms } => CoreAnswer::Renewed { database_now_ms: at_ms + self.clock_ahead_ms },
            StoreAnswer::Fenced => CoreAnswer::Fenced,
            StoreAnswer::Chosen(sagas) => CoreAnswer::Chosen(sagas.into_iter().map(id_of).collect()),
            StoreAnswer::Adopted(stored) => {
                env.say(|| {
                    let sagas: Vec<String> = stored.iter().map(|stored| stored.saga.to_string()).collect();
                    format!("{} has adopted {}", self.instance, sagas.join(", "))
                });
                self.account.adopted.extend(stored.iter().map(|stored| stored.saga));
                CoreAnswer::Adopted(stored.into_iter().map(|stored| read_back(env, stored)).collect())
            }
            StoreAnswer::Line(state, queued) => CoreAnswer::Line {
                state: line::state_of(state),
                sagas: queued.into_iter().map(|queued| line::read(env, queued)).collect(),
            },
            StoreAnswer::Done => CoreAnswer::Looked,
            _ => CoreAnswer::Failed,
        }
    }

    // Output.

    fn moment(&self, env: &Env) -> Moment {
        Duration::from_millis((env.now_ms - self.started_ms) as u64)
    }

    /// Gives the core something that has happened, now or soon.
    fn take(&mut self, env: &mut Env, input: Input<Simulated>) -> Goes {
        if self.stage != Stage::Runs {
            return Goes::On;
        }
        self.gathered.push(input);
        if self.gathers_ms == 0 {
            return self.step(env);
        }
        if self.gathered.len() == 1 {
            self.later(env, self.gathers_ms, InstanceInput::Gathered);
        }
        Goes::On
    }

    /// Gives the core all that has happened, and does what it returns.
    fn step(&mut self, env: &mut Env) -> Goes {
        let now = self.moment(env);
        let Some(core) = self.core.as_mut().filter(|_| self.stage == Stage::Runs) else { return Goes::On };
        let had_line = line::has_line(core, now);
        self.submissions.asked(core, &self.gathered);
        let after_fence = after_fence(&self.gathered);
        let tells_time = self.gathered.iter().any(|input| tells_time(input, now));
        self.account.clock_ahead_ms = self.account.clock_ahead_ms.or(tells_time.then_some(self.clock_ahead_ms));
        let Done { ready, replies, told } = core.step(now, std::mem::take(&mut self.gathered));
        if let Some(askers) = after_fence {
            let answered = ready.replies.iter().find(|(caller, _)| askers.contains(&caller.asker));
            env.facts.push(Fact::Fenced {
                instance: self.instance,
                answered: answered.map(|(caller, _)| caller.saga),
                has_sent: !ready.commits.is_empty() || !ready.rpcs.is_empty(),
            });
        }
        if !had_line && line::has_line(core, now) && ready.replies.iter().any(|(_, reply)| line::is_queued(reply)) {
            self.tell_line_begun(env);
        }
        self.accounted(env, &ready);
        for (caller, answer) in replies {
            reply(env, caller.asker, answer);
        }
        for (caller, answer) in ready.replies {
            if answer == CoreReply::NotHere {
                env.facts.push(Fact::NotHere { instance: self.instance, saga: caller.saga });
            }
            reply(env, caller.asker, reply_of(caller.saga, answer));
        }
        for (saga, outcome) in told {
            env.facts.push(Fact::Told { saga, outcome });
        }
        let instance = self.instance;
        env.facts.extend(ready.notices.iter().filter_map(|notice| noted(instance, notice, &ready.store)));
        for change in ready.changes {
            self.changed(env, change);
        }
        for commit in ready.commits {
            self.send_commit(env, &commit);
        }
        for rpc in ready.rpcs {
            self.send_rpc(env, rpc);
        }
        for request in ready.store {
            self.ask_store(
                env,
                match request {
                    CoreRequest::Renew { asked_at } => StoreRequest::Renew { asked_at },
                    CoreRequest::Look { may_mark } => StoreRequest::Look { may_mark },
                    CoreRequest::Choose { limit } => StoreRequest::Choose { limit },
                    CoreRequest::Adopt { sagas } => StoreRequest::Adopt(sagas.into_iter().map(number_of).collect()),
                    CoreRequest::Flag { sagas } => StoreRequest::Flag(sagas.into_iter().map(number_of).collect()),
                    CoreRequest::ReadLine { after, limit } => StoreRequest::ReadLine { after: after.0, limit },
                },
            );
        }
        let in_ms = |at: Moment| i64::try_from(at.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX);
        self.wake_at_ms = ready.wake_at.map(|at| self.started_ms.saturating_add(in_ms(at)).max(env.now_ms));
        self.schedule_wake(env);
        if ready.end.is_none() {
            self.looked_at(env, now);
        }
        match ready.end {
            Some(End::Fenced) => {
                env.say(|| format!("{} is fenced and ends", self.instance));
                Goes::Out
            }
            Some(End::InOrder) => {
                let (instance, calls) = (self.instance, self.in_flight.len());
                let has_commit = !self.under_way.is_empty();
                env.facts.push(Fact::EndsInOrder { instance, calls, has_commit });
                self.release(env);
                Goes::On
            }
            None => Goes::On,
        }
    }

    /// Keeps its own account of what the core has returned.
    fn accounted(&mut self, env: &mut Env, ready: &Ready<Simulated>) {
        self.account.changed(env, ready);
        if ready.end.is_some() {
            // A core that was fenced answers nothing any more.
            return;
        }
        let instance = self.instance;
        for submitted in self.submissions.answered(env, &self.config, &ready.replies) {
            env.facts.push(Fact::Submitted { instance, submitted: Rc::new(submitted) });
        }
    }

    /// What can be seen of the core after a step: how many are at work while others wait, and now and then all that
    /// operators see.
    fn looked_at(&mut self, env: &mut Env, now: Moment) {
        let (Some(core), instance) = (&self.core, self.instance) else { return };
        let waiting = core.core().adopted_waiting();
        if (waiting > 0 || line::has_line(core, now)) && !self.account.is_stopping {
            let has_room = core.core().in_memory() < self.config.sagas_in_memory_max;
            let at_work = if has_room { self.account.at_work(core) } else { usize::MAX };
            env.facts.push(Fact::Waiting { instance, adopted: waiting, at_work });
        } else {
            env.facts.push(Fact::NoneWaits { instance });
        }
        self.steps += 1;
        let looked_at = Purpose::LookedAt { instance, step: self.steps };
        if self.looks_of_1024 > 0 && env.draw(looked_at).chance(self.looks_of_1024) {
            let looked = Rc::new(account::look(env, core, now, &self.account));
            env.facts.push(Fact::Looked { instance, looked });
        }
    }

    fn changed(&self, env: &mut Env, change: Change<Rc<Request>>) {
        let (saga, state) = match change {
            Change::Entered { saga, state, .. } | Change::Advanced { saga, state, .. } => (saga, state),
            Change::HandedOver { saga } => {
                let saga = number_of(saga);
                env.facts.push(Fact::GaveAway { instance: self.instance });
                return env.say(|| format!("{} does not drive {saga} any more", self.instance));
            }
        };
        let outcome = state.outcome();
        if outcome != Outcome::Pending {
            env.facts.push(Fact::Told { saga: number_of(saga), outcome });
        }
    }

    fn send_commit(&mut self, env: &mut Env, commit: &Commit<Rc<Request>>) {
        let empty = commit.appends.iter().find(|append| append.events.is_empty());
        let empty = empty.map(|append| number_of(append.saga));
        env.say(|| described(self.instance, commit));
        self.account.is_writing = true;
        let admissions = commit.admissions.iter().map(|admission| Admission {
            saga: number_of(admission.id),
            request: admission.request.clone(),
            first: admission.first.as_ref().map(|first| Rc::new(vec![first.clone()])),
        });
        let appends = commit.appends.iter().map(|append| Append {
            saga: number_of(append.saga),
            events: Rc::new(append.events.clone()),
            has_outcome: append.summary.outcome != Outcome::Pending.as_str(),
            finished: append.summary.finished,
        });
        let (admissions, appends) = (admissions.collect(), appends.collect());
        let (number, claim) = (commit.number, commit.claim.as_ref().map(line::claim));
        let in_order = claim.iter().flat_map(|claim| &claim.turns).filter(|turn| !turn.is_out_of_order);
        let turns = in_order.map(|turn| turn.saga).collect();
        let subject_open_max = self.config.subject_open_max;
        let request = StoreRequest::Write(Rc::new(Batch { number, admissions, claim, appends, subject_open_max }));
        let kind = request.kind();
        env.facts.push(Fact::CommitSent { instance: self.instance, number, kind, empty, turns });
        self.under_way.push(number.lane);
        let written = &mut self.written[number.lane as usize];
        let tries = written.filter(|(before, _)| *before == kind).map_or(1, |(_, tries)| tries + 1);
        *written = Some((kind, tries));
        self.send_transaction(env, request, tries);
    }

    fn send_rpc(&mut self, env: &mut Env, rpc: CoreRpc<Rc<Request>>) {
        let operations: Vec<Operation> = rpc.calls.iter().map(|call| operation(env, call)).collect();
        for operation in &operations {
            let (of, attempt) = (operation.of, operation.attempt);
            env.facts.push(Fact::CallMade { instance: self.instance, of, attempt });
        }
        let number = rpc.number.0;
        let destination = env.shape.destination_of[operations[0].of.step.get()];
        self.account.sent(env, destination, operations.iter().map(Operation::key));
        self.in_flight.push((number, operations.iter().map(Operation::key).collect()));
        let first = operations.iter().map(Operation::key).min().expect("an RPC has a call");
        let key = RpcKey { instance: self.instance, first };
        let rpc = Rc::new(Rpc { number, key, destination, operations });
        let jitter_ms = i64::from(env.draw(Purpose::CallTimeout(key)).below(50));
        self.later(env, CALL_TIMEOUT_MS + jitter_ms, InstanceInput::RpcTimeout { rpc: number, key });
        env.send(Message::Call(key), |copy| Event::Rpc { rpc: rpc.clone(), copy });
        self.may_crash_at(env, CrashPoint::Called(key));
    }

    /// Sends any transaction except a write.
    fn ask_store(&mut self, env: &mut Env, request: StoreRequest) {
        let Transactions { renewals, looks, choices, adoptions, flags, line_reads, row_reads } = &mut self.transactions;
        let number = match request {
            StoreRequest::Renew { .. } => counted(renewals),
            StoreRequest::Look { .. } => counted(looks),
            StoreRequest::Choose { .. } => counted(choices),
            StoreRequest::Adopt(_) => counted(adoptions),
            StoreRequest::Flag(_) => counted(flags),
            StoreRequest::ReadLine { .. } => counted(line_reads),
            StoreRequest::ReadRow(_) => counted(row_reads),
            StoreRequest::Register | StoreRequest::Release | StoreRequest::Write(_) => 1,
        };
        self.send_transaction(env, request, number);
    }

    fn send_transaction(&self, env: &mut Env, request: StoreRequest, number: u32) {
        let key = TransactionKey { instance: self.instance, kind: request.kind(), number };
        let in_ms = i64::from(env.draw(Purpose::StoreReached(key)).below(env.weather.store_ms));
        env.schedule(in_ms, Event::Store(Transaction { key, request }));
    }
}

fn counted(count: &mut u32) -> u32 {
    *count += 1;
    *count
}

/// Whose questions come after an answer that fences the core; none when there is no such answer.
fn after_fence(inputs: &[Input<Simulated>]) -> Option<Vec<Asker>> {
    let fence = inputs.iter().position(is_fence)?;
    let askers = inputs[fence..].iter().filter_map(|input| match input {
        Input::Submitted { caller, .. } | Input::Commanded { caller, .. } | Input::CommandedInLine { caller, .. } => {
            Some(caller.asker)
        }
        _ => None,
    });
    Some(askers.collect())
}

/// Whether it is an answer with the database's time that has not taken long.
fn tells_time(input: &Input<Simulated>, now: Moment) -> bool {
    matches!(input, Input::StoreAnswered { request: CoreRequest::Renew { asked_at }, answer: CoreAnswer::Renewed { .. } }
        if now - *asked_at <= ROUND_TRIP_MAX)
}

/// A process crashes here, if the weather says so.
fn may_crash_at(env: &mut Env, process: ProcessNo, point: CrashPoint) {
    if env.weather.crash_at_point == 0 {
        return;
    }
    let mut draw = env.draw(Purpose::Crash(point));
    if draw.chance(env.weather.crash_at_point) {
        let starts_after_ms = Some(i64::from(draw.below(4_000)));
        env.schedule(0, Event::Process { process, event: ProcessEvent::Crash { starts_after_ms } });
    }
}

fn reply(env: &mut Env, asker: Asker, reply: Reply) {
    env.send(Message::Reply(asker), |copy| match asker {
        Asker::Submitter { client, .. } | Asker::Canceller { client, .. } => {
            Event::Client { client, event: ClientEvent::Replied { to: asker, copy, reply: reply.clone() } }
        }
        Asker::Operator { order, .. } => Event::Operator(OperatorEvent::Replied { order, reply: reply.clone() }),
    });
}

/// The notices of the core that are counted.
fn noted(instance: InstanceNo, notice: &Notice, store: &[CoreRequest]) -> Option<Fact> {
    match notice {
        Notice::AppendRefused { saga, .. } => {
            let is_shown =
                |request: &CoreRequest| matches!(request, CoreRequest::Flag { sagas } if sagas.contains(saga));
            let is_shown = store.iter().any(is_shown);
            Some(Fact::RowRefused { instance, saga: number_of(*saga), is_shown })
        }
        Notice::AdmissionRefused { saga, .. } => {
            Some(Fact::RowRefused { instance, saga: number_of(*saga), is_shown: true })
        }
        Notice::BreakerOpened { .. } => Some(Fact::BreakerOpened),
        _ => None,
    }
}

fn submission(saga: SagaNo, request: Rc<Request>) -> Submission<Rc<Request>> {
    Submission {
        id: id_of(saga),
        subject: request.student.to_string(),
        key: request.key.to_string(),
        fingerprint: format!("{:?} {:?} {}", request.adds, request.drops, request.plain),
        request,
    }
}

fn reply_of(saga: SagaNo, reply: CoreReply) -> Reply {
    match reply {
        CoreReply::Accepted(accepted) => Reply::Accepted { saga: number_of(accepted.id) },
        CoreReply::Existing { id, .. } => Reply::Accepted { saga: number_of(id) },
        CoreReply::QueueFull { .. }
        | CoreReply::OverQuota { .. }
        | CoreReply::Closed { .. }
        | CoreReply::Unstorable(_)
        | CoreReply::ShuttingDown => Reply::Unavailable,
        CoreReply::Done(_) => Reply::Obeyed { saga },
        CoreReply::Refused(_) => Reply::Refused,
        CoreReply::NotHere => Reply::NotHere,
    }
}

fn read_back(env: &Env, stored: Stored) -> StoredSaga<Rc<Request>> {
    let definition = &env.shape.definition;
    let id: SagaId = id_of(stored.saga);
    let row = Row {
        id,
        definition: definition.name().to_owned(),
        version: definition.version(),
        log: Ok(stored.log.iter().flat_map(|events| events.iter().cloned()).collect()),
    };
    StoredSaga { row, request: Ok(env.request(stored.saga).clone()) }
}

fn operation(env: &Env, call: &matricula_core::Call<Rc<Request>>) -> Operation {
    let of = CallId { saga: number_of(call.saga), step: call.step, direction: call.direction };
    Operation { of, attempt: call.attempt, outcome: call.state.outcome(), origins: origins(&env.shape, &call.state) }
}

fn described(instance: InstanceNo, commit: &Commit<Rc<Request>>) -> String {
    let admissions = commit.admissions.iter().map(|admission| {
        let verb = if admission.first.is_some() { "admits" } else { "queues" };
        format!("{verb} {}", number_of(admission.id))
    });
    let claim = commit.claim.iter().map(|claim| {
        let turns = claim.turns.iter().map(|turn| format!("{} ({})", number_of(turn.saga), turn.ticket.0));
        format!("claims {} after {}", turns.collect::<Vec<_>>().join(", "), claim.after.0)
    });
    let appends = commit.appends.iter().map(|append| {
        let events: Vec<String> = append.events.iter().map(|event| format!("{:?}", event.event)).collect();
        format!("{}: {}", number_of(append.saga), events.join("; "))
    });
    let rows: Vec<String> = admissions.chain(claim).chain(appends).collect();
    let CommitNo { lane, number } = commit.number;
    format!("{instance} writes ({lane:?} {number}): {}", rows.join(" | "))
}
