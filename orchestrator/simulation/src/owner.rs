//! An orchestrator: a place where instances of it run one after the other, and one such instance.
//!
//! An instance follows the rules of the real runtime (executor, log writer, lease, destinations); only the waiting is the
//! queue's. A process has a clock of its own, may be stopped and go on with stale memory, and may crash at any moment.

use std::collections::VecDeque;

use matricula_engine::{CallAnswer, SagaState};

use crate::clients::{Ask, Asker, ClientEvent, Reply};
use crate::draws::{BacklogItem, CrashPoint, Message, Purpose, RpcKey, TransactionKey};
use crate::env::{Env, Event};
use crate::fact::Fact;
use crate::names::{Attempt, CLIENTS_MAX, CallId, InstanceNo, ProcessNo, SagaNo};
use crate::operators::OperatorEvent;
use crate::participants::RpcAnswer;
use crate::shapes::Does;
use crate::store::{StoreAnswer, StoreRequest, Transaction};

mod behind;
mod destination;
mod executor;
mod lease;
mod writer;

/// Time between two signs of life, and between two looks for sagas without an owner.
const HEARTBEAT_MS: i64 = crate::store::LEASE_TTL_MS / 3;
/// How long an instance that is to end waits for what is in flight.
const GRACE_MS: i64 = 6_000;

/// Something for one instance.
#[derive(Debug, Clone)]
pub(crate) enum OwnerInput {
    Stored {
        transaction: Transaction,
        answer: StoreAnswer,
    },
    /// A copy of an answer.
    RpcEnded {
        rpc: u32,
        key: RpcKey,
        copy: u8,
        answer: RpcAnswer,
    },
    RpcTimeout {
        rpc: u32,
        key: RpcKey,
    },
    Timer {
        saga: SagaNo,
        number: u32,
    },
    /// Time to write what nothing waits for.
    Unwritten {
        saga: SagaNo,
    },
    Heartbeat,
    Look,
    WriteAgain,
    GraceIsOver,
    /// Only of a broken owner: an answer that nobody gave.
    Pretended {
        of: CallId,
        attempt: u32,
    },
}

impl OwnerInput {
    fn item(&self) -> BacklogItem {
        match *self {
            Self::Stored { ref transaction, .. } => BacklogItem::Stored(transaction.key),
            Self::RpcEnded { key, copy, .. } => BacklogItem::Answer(key, copy),
            Self::RpcTimeout { key, .. } => BacklogItem::CallTimeout(key),
            Self::Timer { saga, .. } => BacklogItem::Timer(saga),
            Self::Unwritten { saga } => BacklogItem::Unwritten(saga),
            Self::Heartbeat => BacklogItem::Heartbeat,
            Self::Look => BacklogItem::Look,
            Self::WriteAgain => BacklogItem::WriteAgain,
            Self::GraceIsOver => BacklogItem::GraceIsOver,
            Self::Pretended { of, attempt } => BacklogItem::Pretended(Attempt { of, number: attempt }),
        }
    }
}

/// Something for whatever runs in a process.
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
    Ask(Ask),
}

/// A place for instances.
pub(crate) struct Process {
    no: ProcessNo,
    clock_ahead_ms: i64,
    owner: Option<Owner>,
    is_paused: bool,
    is_gone: bool,
    starts: u16,
    pauses: u16,
    /// What came while it was stopped.
    backlog: Vec<Backlog>,
}

enum Backlog {
    Input(InstanceNo, OwnerInput),
    Ask(Ask),
}

impl Backlog {
    fn item(&self) -> BacklogItem {
        match self {
            Self::Input(_, input) => input.item(),
            Self::Ask(ask) => BacklogItem::Ask(ask.asker),
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
            owner: None,
            is_paused: false,
            is_gone: false,
            starts: 0,
            pauses: 0,
            backlog: Vec::new(),
        }
    }

    /// The instance that runs here.
    pub(crate) fn instance(&self) -> Option<InstanceNo> {
        self.owner.as_ref().map(|owner| owner.instance)
    }

    pub(crate) fn handle(&mut self, env: &mut Env, event: ProcessEvent) {
        match event {
            ProcessEvent::Start => self.start(env),
            ProcessEvent::Crash { starts_after_ms } => {
                env.say(|| format!("{} crashes", self.no));
                self.end(env, starts_after_ms);
            }
            ProcessEvent::Stop => {
                if let Some(owner) = self.owner.as_mut().filter(|_| !self.is_paused) {
                    env.say(|| format!("{} is asked to end", self.no));
                    owner.stop(env);
                }
            }
            ProcessEvent::Pause { for_ms } => {
                env.say(|| format!("{} is stopped for {for_ms} ms", self.no));
                self.is_paused = true;
                env.schedule(for_ms, Event::Process { process: self.no, event: ProcessEvent::GoOn });
            }
            ProcessEvent::GoOn => self.go_on(env),
            ProcessEvent::ClockJump { by_ms } => {
                env.say(|| format!("the clock of {} jumps by {by_ms} ms", self.no));
                self.clock_ahead_ms += by_ms;
                if let Some(owner) = &mut self.owner {
                    owner.clock_ahead_ms = self.clock_ahead_ms;
                }
            }
            ProcessEvent::Ask(ask) => {
                if self.is_paused {
                    self.backlog.push(Backlog::Ask(ask));
                } else if let Some(owner) = self.owner.as_mut().filter(|owner| owner.is_open()) {
                    owner.asked(env, ask);
                } else {
                    reply(env, ask.asker, Reply::Unavailable);
                }
            }
        }
    }

    /// Something for an instance that ran here.
    pub(crate) fn input(&mut self, env: &mut Env, instance: InstanceNo, input: OwnerInput) {
        if self.instance() != Some(instance) {
            return;
        }
        if self.is_paused {
            self.backlog.push(Backlog::Input(instance, input));
            return;
        }
        let Some(owner) = &mut self.owner else { return };
        if owner.handle(env, input) == Goes::Out {
            let starts_after_ms = Some(i64::from(env.draw(Purpose::Restart(instance)).below(1_000)));
            self.end(env, starts_after_ms);
        }
    }

    /// All faults end: it runs.
    pub(crate) fn heal(&mut self, env: &mut Env) {
        if self.is_paused {
            self.go_on(env);
        }
        if self.owner.is_none() && !self.is_gone {
            self.start(env);
        }
    }

    fn start(&mut self, env: &mut Env) {
        if self.owner.is_some() || self.is_gone {
            return;
        }
        let instance = InstanceNo::of(self.no, self.starts);
        self.starts += 1;
        env.say(|| format!("{} starts as {instance}, its clock {} ms ahead", self.no, self.clock_ahead_ms));
        env.facts.push(Fact::Started { instance });
        let mut owner = Owner::new(env, self.no, instance, self.clock_ahead_ms);
        owner.ask_store(env, StoreRequest::Register);
        self.owner = Some(owner);
    }

    fn end(&mut self, env: &mut Env, starts_after_ms: Option<i64>) {
        if let Some(owner) = self.owner.take() {
            env.facts.push(Fact::Ended { instance: owner.instance });
        }
        self.backlog.clear();
        self.is_paused = false;
        match starts_after_ms {
            Some(in_ms) => env.schedule(in_ms, Event::Process { process: self.no, event: ProcessEvent::Start }),
            None => self.is_gone = true,
        }
    }

    /// What came meanwhile is there at once, and is taken in any order: each has a turn of its own.
    fn go_on(&mut self, env: &mut Env) {
        if !std::mem::replace(&mut self.is_paused, false) {
            return;
        }
        env.say(|| format!("{} goes on", self.no));
        self.pauses += 1;
        let (process, pause) = (self.no, self.pauses);
        let turn = |item| env.draw(Purpose::Backlog { process, pause, item }).any();
        let mut backlog = std::mem::take(&mut self.backlog);
        backlog.sort_by_cached_key(|came| turn(came.item()));
        for came in backlog {
            match came {
                Backlog::Input(instance, input) => self.input(env, instance, input),
                Backlog::Ask(ask) => self.handle(env, ProcessEvent::Ask(ask)),
            }
        }
    }
}

/// One start of an orchestrator.
struct Owner {
    process: ProcessNo,
    instance: InstanceNo,
    clock_ahead_ms: i64,
    is_registered: bool,
    is_stopping: bool,
    sagas: Vec<Driven>,
    queued: VecDeque<SagaNo>,
    queued_adopted: VecDeque<SagaNo>,
    at_work: usize,
    at_work_max: usize,
    timers: u32,
    writer: writer::Writer,
    adoption: lease::Adoption,
    destinations: Vec<destination::Destination>,
    rpcs: u32,
    /// How many transactions it has sent, except writes.
    transactions: Transactions,
}

#[derive(Default)]
struct Transactions {
    renewals: u32,
    looks: u32,
    choices: u32,
    adoptions: u32,
}

/// A saga in the memory of an instance.
struct Driven {
    saga: SagaNo,
    state: SagaState,
    /// Calls that are under way.
    calling: Vec<CallId>,
    /// The timer that counts.
    timer: Option<u32>,
    behind: behind::Behind,
    place: executor::Place,
    /// It comes from another instance, and nothing was decided about it here.
    is_to_be_adopted: bool,
}

impl Owner {
    fn new(env: &Env, process: ProcessNo, instance: InstanceNo, clock_ahead_ms: i64) -> Self {
        // A saga that is told "not yet" keeps its place until its deadline, and what it waits for may need one: only
        // sagas that never wait for each other may have fewer places than there are sagas.
        let clients_max = u32::from(CLIENTS_MAX);
        let places_min = if env.shape.step_that(Does::Reserve).is_some() { clients_max } else { 1 };
        let at_work_max = (places_min + env.draw(Purpose::Places(instance)).below(clients_max)) as usize;
        let destinations = env.shape.destinations.iter().map(|_| destination::Destination::default()).collect();
        Self {
            process,
            instance,
            clock_ahead_ms,
            is_registered: false,
            is_stopping: false,
            sagas: Vec::new(),
            queued: VecDeque::new(),
            queued_adopted: VecDeque::new(),
            at_work: 0,
            at_work_max,
            timers: 0,
            writer: writer::Writer::default(),
            adoption: lease::Adoption::default(),
            destinations,
            rpcs: 0,
            transactions: Transactions::default(),
        }
    }

    /// Its own wall clock.
    fn clock_ms(&self, env: &Env) -> i64 {
        env.now_ms + self.clock_ahead_ms
    }

    fn is_open(&self) -> bool {
        self.is_registered && !self.is_stopping
    }

    fn wake_me(&self, env: &mut Env, in_ms: i64, input: OwnerInput) {
        env.schedule(in_ms, Event::Owner { process: self.process, instance: self.instance, input });
    }

    /// Sends any transaction except a write.
    fn ask_store(&mut self, env: &mut Env, request: StoreRequest) {
        let Transactions { renewals, looks, choices, adoptions } = &mut self.transactions;
        let number = match request {
            StoreRequest::Renew => counted(renewals),
            StoreRequest::MarkLapsed => counted(looks),
            StoreRequest::Choose => counted(choices),
            StoreRequest::Adopt(_) => counted(adoptions),
            StoreRequest::Register | StoreRequest::Release | StoreRequest::Write(_) => 1,
        };
        self.send_transaction(env, request, number);
    }

    fn send_transaction(&self, env: &mut Env, request: StoreRequest, number: u32) {
        let key = TransactionKey { instance: self.instance, kind: request.kind(), number };
        let in_ms = i64::from(env.draw(Purpose::StoreReached(key)).below(env.weather.store_ms));
        env.schedule(in_ms, Event::Store(Transaction { key, request }));
    }

    fn may_crash_at(&self, env: &mut Env, point: CrashPoint) {
        if env.weather.crash_at_point == 0 {
            return;
        }
        let mut draw = env.draw(Purpose::Crash(point));
        if draw.chance(env.weather.crash_at_point) {
            let starts_after_ms = Some(i64::from(draw.below(4_000)));
            env.schedule(0, Event::Process { process: self.process, event: ProcessEvent::Crash { starts_after_ms } });
        }
    }

    fn handle(&mut self, env: &mut Env, input: OwnerInput) -> Goes {
        match input {
            OwnerInput::Stored { transaction, answer } => {
                self.may_crash_at(env, CrashPoint::Stored(transaction.key));
                if matches!(answer, StoreAnswer::Fenced) {
                    env.say(|| format!("{} is fenced and ends", self.instance));
                    return Goes::Out;
                }
                if self.stored(env, transaction.request, answer) == Goes::Out {
                    return Goes::Out;
                }
            }
            OwnerInput::RpcEnded { rpc, key, copy, answer } => {
                self.may_crash_at(env, CrashPoint::Answered(key, copy));
                self.rpc_ended(env, rpc, Some(&answer));
            }
            OwnerInput::RpcTimeout { rpc, .. } => self.rpc_ended(env, rpc, None),
            OwnerInput::Timer { saga, number } => self.expired(env, saga, number),
            OwnerInput::Unwritten { saga } => self.write(env, saga),
            OwnerInput::Heartbeat => self.renew(env),
            OwnerInput::Look => self.look(env),
            OwnerInput::WriteAgain => self.write_again(env),
            OwnerInput::GraceIsOver => self.ask_store(env, StoreRequest::Release),
            OwnerInput::Pretended { of, attempt } => {
                self.answered(env, of, attempt, CallAnswer::Done(String::new()));
            }
        }
        if !self.is_stopping {
            self.fill_places(env);
            self.hand_over(env);
        }
        Goes::On
    }

    fn stored(&mut self, env: &mut Env, asked: StoreRequest, answer: StoreAnswer) -> Goes {
        match (asked, answer) {
            (StoreRequest::Register, StoreAnswer::Failed) => return Goes::Out,
            (StoreRequest::Register, _) => {
                self.is_registered = true;
                self.wake_me(env, HEARTBEAT_MS, OwnerInput::Heartbeat);
                self.wake_me(env, 0, OwnerInput::Look);
            }
            (StoreRequest::Release, _) => return Goes::Out,
            (StoreRequest::Renew, _) => {}
            (StoreRequest::Write(batch), answer) => self.write_ended(env, &batch, answer),
            (asked, answer) => self.looked(env, &asked, answer),
        }
        Goes::On
    }

    fn stop(&mut self, env: &mut Env) {
        self.is_stopping = true;
        for destination in &mut self.destinations {
            destination.clear();
        }
        let grace_ms = i64::from(env.draw(Purpose::Grace(self.instance)).below(GRACE_MS as u32));
        self.wake_me(env, grace_ms, OwnerInput::GraceIsOver);
    }
}

fn counted(count: &mut u32) -> u32 {
    *count += 1;
    *count
}

fn reply(env: &mut Env, asker: Asker, reply: Reply) {
    env.send(Message::Reply(asker), |copy| match asker {
        Asker::Submitter { client, .. } | Asker::Canceller { client, .. } => {
            Event::Client { client, event: ClientEvent::Replied { to: asker, copy, reply: reply.clone() } }
        }
        Asker::Operator { order, .. } => Event::Operator(OperatorEvent::Replied { order, reply: reply.clone() }),
    });
}
