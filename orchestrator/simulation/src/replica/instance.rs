//! One start of an orchestrator: turns its events into inputs of its core.

use std::collections::BTreeMap;
use std::rc::Rc;

use matricula_core::{CommitAnswer, CoreConfig, Input, Lane, Moment, Registered, RpcNo, StoreAnswer as CoreAnswer};
use matricula_engine::{CallError, Code, Definition};

use super::account::Account;
use super::broken_core::BrokenCore;
use super::output::reply;
use super::submissions::Submissions;
use super::translate::submission;
use super::workflow::{Caller, Simulated};
use super::{Goes, InstanceInput, ProcessEvent, bounds};
use crate::broken::Broken;
use crate::clients::{Ask, Asked, Reply, Request};
use crate::draws::{CrashPoint, Message, Purpose, TransactionKind};
use crate::env::{Env, Event};
use crate::fact::Fact;
use crate::names::{Attempt, InstanceNo, ProcessNo, SagaNo, number_of};
use crate::store::{StoreAnswer, StoreRequest, Transaction};

/// The longest time that an instance waits in its shutdown for calls and commits in flight.
const GRACE_MS: i64 = 6_000;

/// The stage of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It has no lease yet.
    Registering,
    Runs,
    /// It releases its lease, and does nothing else.
    Releases,
}

/// One start of an orchestrator: the core and its shell.
pub(super) struct Replica {
    pub process: ProcessNo,
    pub instance: InstanceNo,
    /// It runs the release before this one, which does not have the current definition.
    pub is_earlier_release: bool,
    /// The versions of the definition that its release has.
    pub versions: Rc<[u32]>,
    pub clock_ahead_ms: i64,
    /// The moments of the core are counted from here.
    pub started_ms: i64,
    pub config: CoreConfig,
    pub core: Option<BrokenCore>,
    /// For how long inputs gather before the core takes them in one step, as in a process that is busy.
    pub gathers_ms: i64,
    pub gathered: Vec<Input<Simulated>>,
    pub stage: Stage,
    /// RPCs that have left, and whose end the core was not given.
    pub in_flight: Vec<(u64, u8, Vec<Attempt>)>,
    /// When the core is to be woken, and when the next wake-up is scheduled: an earlier wake-up stays.
    pub wake_at_ms: Option<i64>,
    pub wakes_at_ms: Option<i64>,
    /// The lanes of commits that have left, and have no answer.
    pub under_way: Vec<Lane>,
    /// The last write of each lane and its tries.
    pub written: [Option<(TransactionKind, u32)>; 2],
    /// How often it has reported to other instances that there is a line.
    pub lines_begun: u32,
    /// How many transactions of each kind it has sent, except writes.
    pub sent: BTreeMap<TransactionKind, u32>,
    pub account: Account,
    pub submissions: Submissions,
    /// An operator looks after this many of 1,024 steps.
    pub looks_of_1024: u32,
    pub steps: u32,
}

impl Replica {
    pub(super) fn new(env: &Env, process: ProcessNo, instance: InstanceNo, clock_ahead_ms: i64) -> Self {
        let config = bounds::config(env, instance);
        let is_earlier_release = env.is_earlier_release(instance);
        let definitions = env.shape.definitions_of(is_earlier_release);
        let looks_of_1024 = bounds::looks_of_1024(env, instance);
        Self {
            process,
            instance,
            is_earlier_release,
            versions: definitions.all().map(Definition::version).collect(),
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
            sent: BTreeMap::new(),
            submissions: Submissions::default(),
            looks_of_1024,
            steps: 0,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.stage == Stage::Runs
    }

    pub(super) fn later(&self, env: &mut Env, in_ms: i64, input: InstanceInput) {
        env.schedule(in_ms, Event::Instance { process: self.process, instance: self.instance, input });
    }

    pub(super) fn may_crash_at(&self, env: &mut Env, point: CrashPoint) {
        may_crash_at(env, self.process, point);
    }

    // Input.

    pub(super) fn handle(&mut self, env: &mut Env, input: InstanceInput) -> Goes {
        match input {
            InstanceInput::Stored { transaction, answer } => self.stored(env, transaction, *answer),
            InstanceInput::RpcEnded { rpc, key, copy, answer } => {
                self.may_crash_at(env, CrashPoint::Answered(key, copy));
                let answer = Rc::try_unwrap(answer).unwrap_or_else(|answer| (*answer).clone());
                self.rpc_ended(env, rpc, answer)
            }
            InstanceInput::RpcTimeout { rpc, .. } => {
                if !self.in_flight.iter().any(|(number, ..)| *number == rpc) {
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

    pub(super) fn asked(&mut self, env: &mut Env, Ask { asker, asked }: Ask) -> Goes {
        if let Asked::Submit(saga, request) = asked {
            env.say(|| format!("{} asks {} for {saga}", saga.client(), self.instance));
            let submission = submission(saga, request);
            return self.take(env, Input::Submitted { submission, caller: Caller { asker, saga } });
        }
        self.ordered(env, Ask { asker, asked })
    }

    pub(super) fn stop(&mut self, env: &mut Env) -> Goes {
        if self.stage == Stage::Registering {
            // If the registration still arrives, its lease lapses.
            return Goes::Out;
        }
        let grace_ms = i64::from(env.draw(Purpose::Grace(self.instance)).below(GRACE_MS as u32));
        self.later(env, grace_ms, InstanceInput::GraceIsOver);
        self.account.is_stopping = true;
        self.take(env, Input::Stopped)
    }

    /// Releases its lease, unless the release is already in flight.
    pub(super) fn release(&mut self, env: &mut Env) {
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

    pub(super) fn schedule_wake(&mut self, env: &mut Env) {
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
        if let Some(place) = self.in_flight.iter().position(|(number, ..)| *number == rpc) {
            let instance = self.instance;
            let (_, destination, calls) = self.in_flight.swap_remove(place);
            let error = answer.as_ref().err();
            let is_halved = calls.len() > 1 && error.is_some_and(|error| error.code == Code::InvalidArgument);
            self.account.ended(destination, &calls, error);
            env.facts.extend(calls.iter().map(|made| Fact::CallEnded { instance, of: made.of }));
            if is_halved {
                env.facts.extend(calls.into_iter().map(|made| Fact::Halved { instance, made }));
            }
        }
        // The core also gets duplicate and late answers.
        self.take(env, Input::RpcEnded { number: RpcNo(rpc), answer })
    }

    fn stored(&mut self, env: &mut Env, Transaction { key, request }: Transaction, answer: StoreAnswer) -> Goes {
        self.may_crash_at(env, CrashPoint::Stored(key));
        if self.stage == Stage::Releases && !matches!(request, StoreRequest::Release) {
            return Goes::On;
        }
        match (request, answer) {
            (StoreRequest::Register, StoreAnswer::Core(CoreAnswer::Renewed { database_now_ms })) => {
                self.registered(env, database_now_ms)
            }
            (StoreRequest::Register, _) => Goes::Out,
            (StoreRequest::Release, answer) => {
                if matches!(answer, StoreAnswer::Released) {
                    // The others can adopt its sagas.
                    let from = self.instance;
                    self.tell_others(env, |to| Message::PeerLeft(from, to), || ProcessEvent::PeerLeft(from));
                }
                Goes::Out
            }
            (StoreRequest::Write { commit, .. }, answer) => {
                let number = commit.number;
                env.facts.push(Fact::CommitEnded { instance: self.instance, lane: number.lane });
                self.under_way.retain(|other| *other != number.lane);
                let answer = if let StoreAnswer::Commit(answer) = answer { answer } else { CommitAnswer::Failed };
                let is_over = matches!(answer, CommitAnswer::Written { .. } | CommitAnswer::Refused { .. });
                self.account.is_writing &= !is_over || number.lane == Lane::Acceptance;
                self.take(env, Input::CommitEnded { number, answer })
            }
            (StoreRequest::ReadRow(ask), StoreAnswer::Row(row)) => self.order(env, &ask, row),
            (StoreRequest::ReadRow(ask), _) => {
                reply(env, ask.asker, Reply::Unavailable);
                Goes::On
            }
            (StoreRequest::Core { request, .. }, answer) => {
                let answer = if let StoreAnswer::Core(answer) = answer { answer } else { CoreAnswer::Failed };
                let answer = self.answer_here(env, answer);
                self.take(env, Input::StoreAnswered { request, answer })
            }
        }
    }

    fn registered(&mut self, env: &mut Env, true_ms: i64) -> Goes {
        let (shape, gathers) = (env.shape.clone(), !env.is_broken(Broken::CallsDoNotGather));
        let workflow = Simulated { shape, is_earlier_release: self.is_earlier_release, gathers };
        let seed = env.core_seed(self.instance);
        let database_now_ms = true_ms + self.clock_ahead_ms;
        // The lease counts from when the request was sent, because the answer may have waited in a suspended process.
        let name = self.instance.to_string();
        let registered = Registered { sent_at: Moment::ZERO, answered_at: Moment::ZERO, database_now_ms };
        self.core = Some(BrokenCore::new(env.broken, workflow, &self.config, name, seed, registered));
        self.stage = Stage::Runs;
        self.step(env)
    }

    /// An answer as this process sees it.
    fn answer_here(&mut self, env: &mut Env, answer: CoreAnswer<Rc<Request>>) -> CoreAnswer<Rc<Request>> {
        match answer {
            CoreAnswer::Renewed { database_now_ms: true_ms } => {
                CoreAnswer::Renewed { database_now_ms: true_ms + self.clock_ahead_ms }
            }
            CoreAnswer::Adopted(stored) => {
                let sagas: Vec<SagaNo> = stored.iter().map(|stored| number_of(stored.row.id)).collect();
                env.say(|| {
                    let sagas: Vec<String> = sagas.iter().map(SagaNo::to_string).collect();
                    format!("{} has adopted {}", self.instance, sagas.join(", "))
                });
                self.account.adopted.extend(sagas);
                CoreAnswer::Adopted(stored)
            }
            answer => answer,
        }
    }
}

/// Crashes the process here, if the draw says so.
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
