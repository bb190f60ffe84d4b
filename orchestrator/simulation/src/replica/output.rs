//! Runs the steps of the core and carries out its outputs: commits, calls, requests to the store, replies, wake-ups.
//! The visible results of a step become facts.

use std::rc::Rc;
use std::time::Duration;

use matricula_core::{
    Change, End, Input, Moment, Ready, Reply as CoreReply, Rpc as CoreRpc, StoreAnswer as CoreAnswer,
    StoreRequest as CoreRequest,
};
use matricula_engine::{Input as SagaInput, Outcome};

use super::bounds::CALL_TIMEOUT_MS;
use super::broken_core::{Done, is_fence};
use super::instance::{Replica, Stage};
use super::line;
use super::translate::{described, noted, operation, reply_of};
use super::workflow::{Caller, Simulated};
use super::{Goes, InstanceInput, ROUND_TRIP_MAX, account};
use crate::clients::{Asker, ClientEvent, Reply, Request};
use crate::draws::{CrashPoint, Message, Purpose, RpcKey, TransactionKey};
use crate::env::{Env, Event};
use crate::fact::Fact;
use crate::names::{Attempt, OrderNo, SagaNo, id_of, number_of};
use crate::operators::OperatorEvent;
use crate::participants::{Operation, Rpc};
use crate::store::{SagaCommit, StoreRequest, Transaction};

impl Replica {
    fn moment(&self, env: &Env) -> Moment {
        Duration::from_millis((env.now_ms - self.started_ms) as u64)
    }

    /// Adds an input for the core's next step, which is now or soon.
    pub(super) fn take(&mut self, env: &mut Env, input: Input<Simulated>) -> Goes {
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

    /// Runs a step of the core with the gathered inputs, and carries out its outputs.
    pub(super) fn step(&mut self, env: &mut Env) -> Goes {
        let now = self.moment(env);
        let Some(core) = self.core.as_mut().filter(|_| self.stage == Stage::Runs) else { return Goes::On };
        let had_line = line::has_line(core, now);
        self.submissions.asked(core, &self.gathered);
        let is_fenced = question_after_fence(&self.gathered).map(|question| self.gathered.push(question)).is_some();
        let tells_time = self.gathered.iter().any(|input| tells_time(input, now));
        self.account.clock_ahead_ms = self.account.clock_ahead_ms.or(tells_time.then_some(self.clock_ahead_ms));
        let Done { ready, replies, sent } = core.step(now, std::mem::take(&mut self.gathered));
        if is_fenced {
            let is_answered = ready.replies.iter().any(|(caller, _)| caller.saga == SagaNo::BEFORE);
            let has_sent = !ready.commits.is_empty() || !ready.rpcs.is_empty();
            env.facts.push(Fact::Fenced { instance: self.instance, is_answered, has_sent });
        }
        if !had_line && line::has_line(core, now) && ready.replies.iter().any(|(_, reply)| line::is_queued(reply)) {
            self.tell_line_begun(env);
        }
        self.accounted(env, &ready);
        for (caller, answer) in replies {
            reply(env, caller.asker, answer);
        }
        for (caller, answer) in ready.replies {
            if matches!(answer, CoreReply::NotHere | CoreReply::Refused(_)) {
                env.facts.push(Fact::Declined { instance: self.instance, saga: caller.saga });
            }
            reply(env, caller.asker, reply_of(caller.saga, answer));
        }
        for (saga, outcome) in sent {
            env.facts.push(Fact::OutcomeSent { saga, outcome });
        }
        let instance = self.instance;
        env.facts.extend(ready.notices.iter().filter_map(|notice| noted(instance, notice, &ready.store)));
        for change in ready.changes {
            self.changed(env, change);
        }
        for commit in ready.commits {
            self.send_commit(env, commit);
        }
        for rpc in ready.rpcs {
            self.send_rpc(env, rpc);
        }
        for request in ready.store {
            let versions = self.versions.clone();
            self.ask_store(env, StoreRequest::Core { request, versions });
        }
        self.wakes(env, ready.wake_at);
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

    /// Schedules the wake-up of the core.
    fn wakes(&mut self, env: &mut Env, wake_at: Option<Moment>) {
        let in_ms = |at: Moment| i64::try_from(at.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX);
        self.wake_at_ms = wake_at.map(|at| self.started_ms.saturating_add(in_ms(at)).max(env.now_ms));
        self.schedule_wake(env);
    }

    /// Updates the account from the outputs of the core.
    fn accounted(&mut self, env: &mut Env, ready: &Ready<Simulated>) {
        self.account.changed(env, ready);
        if ready.end.is_some() {
            // A fenced core does not answer any more.
            return;
        }
        let instance = self.instance;
        for submitted in self.submissions.answered(env, &self.config, &ready.replies) {
            env.facts.push(Fact::Submitted { instance, submitted: Rc::new(submitted) });
        }
    }

    /// The facts about the core after a step: how many sagas are at work while others wait, and now and then the views
    /// of operators.
    fn looked_at(&mut self, env: &mut Env, now: Moment) {
        let (Some(core), instance) = (&self.core, self.instance) else { return };
        let waiting = core.core().adopted_waiting();
        if !self.account.is_stopping {
            let has_room = core.core().in_memory() < self.config.sagas_in_memory_max;
            let at_work = if has_room { self.account.at_work(core) } else { usize::MAX };
            env.facts.push(Fact::Stepped { instance, adopted: waiting, at_work });
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
            env.facts.push(Fact::OutcomeSent { saga: number_of(saga), outcome });
        }
    }

    fn send_commit(&mut self, env: &mut Env, commit: SagaCommit) {
        env.say(|| described(self.instance, &commit));
        self.account.is_writing = true;
        let empty = commit.appends.iter().find(|append| append.events.is_empty());
        let empty = empty.map(|append| number_of(append.saga));
        let in_order = commit.claim.iter().flat_map(|claim| &claim.turns).filter(|turn| !turn.is_out_of_order);
        let turns = in_order.map(|turn| number_of(turn.saga)).collect();
        let number = commit.number;
        let request = StoreRequest::Write { commit, subject_open_max: self.config.subject_open_max };
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
        let made = || operations.iter().map(|operation| operation.made);
        for Attempt { of, number: attempt } in made() {
            env.facts.push(Fact::CallMade { instance: self.instance, of, attempt });
        }
        let number = rpc.number.0;
        let destination = env.shape.place(rpc.destination) as u8;
        self.account.sent(env, destination, made());
        self.in_flight.push((number, destination, made().collect()));
        let first = made().min().expect("an RPC has a call");
        let key = RpcKey { instance: self.instance, first };
        let rpc = Rc::new(Rpc { number, key, destination, operations });
        let jitter_ms = i64::from(env.draw(Purpose::CallTimeout(key)).below(50));
        self.later(env, CALL_TIMEOUT_MS + jitter_ms, InstanceInput::RpcTimeout { rpc: number, key });
        env.send(Message::Call(key), |copy| Event::Rpc { rpc: rpc.clone(), copy });
        self.may_crash_at(env, CrashPoint::Called(key));
    }

    /// Sends any transaction except a write.
    pub(super) fn ask_store(&mut self, env: &mut Env, request: StoreRequest) {
        let number = self.sent.entry(request.kind()).or_default();
        *number += 1;
        let number = *number;
        self.send_transaction(env, request, number);
    }

    fn send_transaction(&self, env: &mut Env, request: StoreRequest, number: u32) {
        let key = TransactionKey { instance: self.instance, kind: request.kind(), number };
        let in_ms = i64::from(env.draw(Purpose::StoreReached(key)).below(env.weather.store_ms));
        env.schedule(in_ms, Event::Store(Transaction { key, request }));
    }
}

/// Whether it is an answer with the database's time that has not taken long.
fn tells_time(input: &Input<Simulated>, now: Moment) -> bool {
    let Input::StoreAnswered { request: CoreRequest::Renew { sent_at }, answer } = input else { return false };
    matches!(answer, CoreAnswer::Renewed { .. }) && now - *sent_at <= ROUND_TRIP_MAX
}

/// A submission right after an answer that fences the core, if the step has such an answer. It makes sure that an input
/// follows in the same step. A fenced core does not answer it.
fn question_after_fence(inputs: &[Input<Simulated>]) -> Option<Input<Simulated>> {
    inputs.iter().any(is_fence).then(|| Input::Commanded {
        saga: id_of(SagaNo::BEFORE),
        command: SagaInput::Cancel { by: String::new(), reason: String::new() },
        caller: Caller { asker: Asker::Operator { order: OrderNo(u16::MAX), copy: 0 }, saga: SagaNo::BEFORE },
    })
}

pub(super) fn reply(env: &mut Env, asker: Asker, reply: Reply) {
    env.send(Message::Reply(asker), |copy| match asker {
        Asker::Submitter { client, .. } | Asker::Canceller { client, .. } => {
            Event::Client { client, event: ClientEvent::Replied { to: asker, copy, reply: reply.clone() } }
        }
        Asker::Operator { order, .. } => Event::Operator(OperatorEvent::Replied { order, reply: reply.clone() }),
    });
}
