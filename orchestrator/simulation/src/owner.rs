//! An orchestrator: a place where instances of it run one after the other, and one such instance.
//!
//! An instance follows the rules of the real runtime (executor, log writer, lease, destinations); only the waiting is the
//! queue's. A process has a clock of its own, may be stopped and go on with stale memory, and may crash at any moment.

use std::collections::VecDeque;

use matricula_engine::{CallAnswer, SagaState};

use crate::draws::{BacklogItem, CrashPoint, Purpose, TransactionKey};
use crate::env::{Env, Event};
use crate::names::{Attempt, CallId, InstanceNo, ProcessNo, SagaNo};
use crate::replica::{GRACE_MS, Goes, InstanceInput, counted, in_flight_max};
use crate::store::{StoreAnswer, StoreRequest, Transaction};

mod behind;
mod destination;
mod executor;
mod lease;
mod writer;

/// Time between two signs of life, and between two looks for sagas without an owner.
const HEARTBEAT_MS: i64 = crate::store::LEASE_TTL_MS / 3;

/// Something for one old owner.
#[derive(Debug, Clone)]
pub(crate) enum OldInput {
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
    /// Only of a broken owner: an answer that nobody gave.
    Pretended {
        of: CallId,
        attempt: u32,
    },
}

impl OldInput {
    pub(crate) fn item(&self) -> BacklogItem {
        match *self {
            Self::Timer { saga, .. } => BacklogItem::Timer(saga),
            Self::Unwritten { saga } => BacklogItem::Unwritten(saga),
            Self::Heartbeat => BacklogItem::Heartbeat,
            Self::Look => BacklogItem::Look,
            Self::WriteAgain => BacklogItem::WriteAgain,
            Self::Pretended { of, attempt } => BacklogItem::Pretended(Attempt { of, number: attempt }),
        }
    }
}

/// One start of an orchestrator.
pub(crate) struct Owner {
    process: ProcessNo,
    pub instance: InstanceNo,
    pub clock_ahead_ms: i64,
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
    rpcs: u64,
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
    pub(crate) fn new(env: &Env, process: ProcessNo, instance: InstanceNo, clock_ahead_ms: i64) -> Self {
        let at_work_max = in_flight_max(env, instance);
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

    pub(crate) fn is_open(&self) -> bool {
        self.is_registered && !self.is_stopping
    }

    fn wake_me(&self, env: &mut Env, in_ms: i64, input: InstanceInput) {
        env.schedule(in_ms, Event::Instance { process: self.process, instance: self.instance, input });
    }

    /// Sends any transaction except a write.
    pub(crate) fn ask_store(&mut self, env: &mut Env, request: StoreRequest) {
        let Transactions { renewals, looks, choices, adoptions } = &mut self.transactions;
        let number = match request {
            StoreRequest::Renew { .. } => counted(renewals),
            StoreRequest::Look { .. } => counted(looks),
            StoreRequest::Choose { .. } => counted(choices),
            StoreRequest::Adopt(_) => counted(adoptions),
            StoreRequest::Register | StoreRequest::Release | StoreRequest::Flag | StoreRequest::Write(_) => 1,
        };
        self.send_transaction(env, request, number);
    }

    fn send_transaction(&self, env: &mut Env, request: StoreRequest, number: u32) {
        let key = TransactionKey { instance: self.instance, kind: request.kind(), number };
        let in_ms = i64::from(env.draw(Purpose::StoreReached(key)).below(env.weather.store_ms));
        env.schedule(in_ms, Event::Store(Transaction { key, request }));
    }

    fn may_crash_at(&self, env: &mut Env, point: CrashPoint) {
        crate::replica::may_crash_at(env, self.process, point);
    }

    pub(crate) fn handle(&mut self, env: &mut Env, input: InstanceInput) -> Goes {
        match input {
            InstanceInput::Stored { transaction, answer } => {
                self.may_crash_at(env, CrashPoint::Stored(transaction.key));
                if matches!(answer, StoreAnswer::Fenced) {
                    env.say(|| format!("{} is fenced and ends", self.instance));
                    return Goes::Out;
                }
                if self.stored(env, transaction.request, answer) == Goes::Out {
                    return Goes::Out;
                }
            }
            InstanceInput::RpcEnded { rpc, key, copy, answer } => {
                self.may_crash_at(env, CrashPoint::Answered(key, copy));
                self.rpc_ended(env, rpc, Some(&answer));
            }
            InstanceInput::RpcTimeout { rpc, .. } => self.rpc_ended(env, rpc, None),
            InstanceInput::Old(OldInput::Timer { saga, number }) => self.expired(env, saga, number),
            InstanceInput::Old(OldInput::Unwritten { saga }) => self.write(env, saga),
            InstanceInput::Old(OldInput::Heartbeat) => self.renew(env),
            InstanceInput::Old(OldInput::Look) => self.look(env),
            InstanceInput::Wake => {}
            InstanceInput::Old(OldInput::WriteAgain) => self.write_again(env),
            InstanceInput::GraceIsOver => self.ask_store(env, StoreRequest::Release),
            InstanceInput::Old(OldInput::Pretended { of, attempt }) => {
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
                self.wake_me(env, HEARTBEAT_MS, InstanceInput::Old(OldInput::Heartbeat));
                self.wake_me(env, 0, InstanceInput::Old(OldInput::Look));
            }
            (StoreRequest::Release, _) => return Goes::Out,
            (StoreRequest::Renew { .. }, _) => {}
            (StoreRequest::Write(batch), answer) => self.write_ended(env, &batch, answer),
            (asked, answer) => self.looked(env, &asked, answer),
        }
        Goes::On
    }

    pub(crate) fn stop(&mut self, env: &mut Env) {
        self.is_stopping = true;
        for destination in &mut self.destinations {
            destination.clear();
        }
        let grace_ms = i64::from(env.draw(Purpose::Grace(self.instance)).below(GRACE_MS as u32));
        self.wake_me(env, grace_ms, InstanceInput::GraceIsOver);
    }
}
