//! A process, in which instances run one after the other. It is suspended, crashes and starts again, and has a clock.

use matricula_core::{CoreConfig, Input};

use super::bounds::DESTINATION_IN_FLIGHT_MAX;
use super::instance::Replica;
use super::output::reply;
use super::workflow::Simulated;
use super::{Goes, InstanceInput, ProcessEvent};
use crate::clients::{Ask, Reply};
use crate::draws::{BacklogItem, Purpose};
use crate::env::{Env, Event};
use crate::fact::Fact;
use crate::names::{InstanceNo, ProcessNo};
use crate::store::StoreRequest;

/// A place for instances.
#[derive(Default)]
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

impl Process {
    pub(crate) fn new(no: ProcessNo, clock_ahead_ms: i64) -> Self {
        Self { no, clock_ahead_ms, ..Self::default() }
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
            ProcessEvent::PeerLeft(_) => self.received(env, Input::PeerLeft),
            ProcessEvent::LineBegun(..) => self.received(env, Input::LineBegun),
            ProcessEvent::Ask(ask) => self.asked(env, ask),
        }
    }

    /// Another instance has sent something.
    fn received(&mut self, env: &mut Env, input: Input<Simulated>) {
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

    /// An event for an instance that ran here.
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

    /// Replaces the last instance of the earlier release: some instance must have the definition of every saga.
    pub(crate) fn upgrade(&mut self, env: &mut Env) {
        if self.replica.as_ref().is_some_and(|replica| replica.is_earlier_release) {
            env.say(|| format!("{} is upgraded", self.no));
            self.end(env, Some(0));
        }
    }

    fn start(&mut self, env: &mut Env) {
        if self.replica.is_some() || self.is_gone {
            return;
        }
        let instance = InstanceNo::of(self.no, self.starts);
        self.starts += 1;
        let mut replica = Replica::new(env, self.no, instance, self.clock_ahead_ms);
        let release = if replica.is_earlier_release { " of the earlier release" } else { "" };
        env.say(|| format!("{} starts as {instance}{release}, its clock {} ms ahead", self.no, self.clock_ahead_ms));
        let CoreConfig { in_flight_max: at_work_max, parked_max, subject_open_max: open_max, .. } = replica.config;
        env.facts.push(Fact::Started { instance, at_work_max, parked_max, open_max });
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

    /// Everything that arrived during the suspension is there at once. It is processed in a drawn order.
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
