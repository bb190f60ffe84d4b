//! Drives the sagas of an instance as the real executor does: one input of a saga at a time, effects only when the
//! events that decided them are durable, but for those that may go ahead, and at most one call of a step, in one
//! direction, under way.

use std::rc::Rc;

use matricula_engine::{
    CallAnswer, CallStatus, Direction, Effect, Input, Jitter, OperatorCommand, Outcome, Recorded, Resolution,
    SagaState, StepIndex, decide,
};

use super::behind::{Behind, Waiting};
use super::{Driven, OldInput, Owner};
use crate::broken::Broken;
use crate::clients::{Ask, Asked, Asker, Reply, Request};
use crate::env::Env;
use crate::fact::Fact;
use crate::names::{CallId, SagaNo};
use crate::operators::Order;
use crate::participants::Operation;
use crate::replica::{InstanceInput, applies, origins, reply};
use crate::store::Append;

/// How long events that nothing waits for stay unwritten.
const UNWRITTEN_MAX_MS: i64 = 200;
/// Longest sleep of a saga's timer: a deadline that a clock which was set back makes look far costs no more than this.
const SLEEP_MAX_MS: i64 = 60_000;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Queued,
    Taken,
    GivenBack,
}

pub(super) struct Pending {
    input: Input,
    reply: Option<Asker>,
}

/// A saga that enters an instance.
pub(super) struct Entrant {
    pub saga: SagaNo,
    pub state: SagaState,
}

impl Owner {
    /// Somebody asks.
    pub(crate) fn asked(&mut self, env: &mut Env, Ask { asker, asked }: Ask) {
        match asked {
            Asked::Submit(saga, request) => {
                env.say(|| format!("{} asks {} for {saga}", saga.client(), self.instance));
                let definition = &env.shape.definition;
                let now_ms = self.clock_ms(env);
                let first = Recorded::first(now_ms, definition.admit(applies(&env.shape, &request), now_ms));
                let state = SagaState::replay(definition, [&first]).expect("an admission folds");
                self.write_admission(env, asker, request, Rc::new(vec![first]), Entrant { saga, state });
            }
            Asked::Cancel(saga) => {
                let input = Input::Cancel { by: saga.client().to_string(), reason: String::new() };
                self.command(env, asker, saga, input);
            }
            Asked::Order(order) => {
                let input = ordered(env, &order);
                self.command(env, asker, order.saga, input);
            }
        }
        if !self.is_stopping {
            self.fill_places(env);
        }
    }

    /// A cancel or a command is decided as one more input of its saga.
    fn command(&mut self, env: &mut Env, asker: Asker, saga: SagaNo, input: Input) {
        if self.driven(saga).is_none() {
            return reply(env, asker, Reply::NotHere);
        }
        let was_queued = matches!(input, Input::Cancel { .. }) && self.take_place(saga);
        self.input(env, saga, Pending { input, reply: Some(asker) });
        if was_queued {
            self.input(env, saga, Pending { input: Input::Resume, reply: None });
        }
    }

    pub(super) fn admitted(&mut self, env: &mut Env, entrant: Entrant) {
        self.queued.push_back(entrant.saga);
        self.enter(env, entrant, false);
    }

    pub(super) fn adopted(&mut self, env: &mut Env, entrants: Vec<Entrant>) {
        for entrant in entrants {
            self.queued_adopted.push_back(entrant.saga);
            self.enter(env, entrant, !env.is_broken(Broken::AdoptionIsSilent));
        }
    }

    pub(super) fn may_adopt(&self) -> bool {
        self.queued_adopted.len() < self.at_work_max
    }

    fn enter(&mut self, env: &mut Env, Entrant { saga, state }: Entrant, is_to_be_adopted: bool) {
        tell(env, saga, &state);
        self.sagas.retain(|driven| driven.saga != saga);
        self.sagas.push(Driven {
            saga,
            state,
            calling: Vec::new(),
            timer: None,
            behind: Behind::default(),
            place: Place::Queued,
            is_to_be_adopted,
        });
    }

    fn driven(&mut self, saga: SagaNo) -> Option<&mut Driven> {
        self.sagas.iter_mut().find(|driven| driven.saga == saga)
    }

    pub(super) fn expired(&mut self, env: &mut Env, saga: SagaNo, number: u32) {
        if self.is_stopping {
            return;
        }
        let Some(driven) = self.driven(saga).filter(|driven| driven.timer == Some(number)) else { return };
        driven.timer = None;
        self.input(env, saga, Pending { input: Input::Wake, reply: None });
    }

    pub(super) fn fill_places(&mut self, env: &mut Env) {
        while self.at_work < self.at_work_max {
            let Some(saga) = self.queued_adopted.pop_front().or_else(|| self.queued.pop_front()) else { return };
            if self.take_place(saga) {
                self.input(env, saga, Pending { input: Input::Resume, reply: None });
            }
        }
    }

    fn take_place(&mut self, saga: SagaNo) -> bool {
        let Some(driven) = self.driven(saga).filter(|driven| driven.place == Place::Queued) else { return false };
        driven.place = Place::Taken;
        self.at_work += 1;
        true
    }

    pub(super) fn answered(&mut self, env: &mut Env, of: CallId, attempt: u32, answer: CallAnswer) {
        let answer = match answer {
            CallAnswer::Unknown(error)
                if env.is_broken(Broken::ErrorsAreRefusals) && of.direction == Direction::Forward =>
            {
                CallAnswer::Refused(error.to_string())
            }
            answer => answer,
        };
        let started_at_ms = self.clock_ms(env);
        let input = Input::Answered { step: of.step, direction: of.direction, attempt, started_at_ms, answer };
        self.input(env, of.saga, Pending { input, reply: None });
    }

    fn input(&mut self, env: &mut Env, saga: SagaNo, pending: Pending) {
        let (now_ms, instance) = (self.clock_ms(env), self.instance);
        if self.driven(saga).is_some_and(|driven| std::mem::take(&mut driven.is_to_be_adopted)) {
            let input = Input::Adopt { by: instance.to_string() };
            self.input(env, saga, Pending { input, reply: None });
        }
        let Some(driven) = self.driven(saga) else { return };
        if let Input::Answered { step, direction, .. } = pending.input {
            driven.calling.retain(|of| (of.step, of.direction) != (step, direction));
            env.facts.push(Fact::CallEnded { instance, of: CallId { saga, step, direction } });
        }
        let jitter = jitter(env.core_seed(instance), saga, driven.state.sequence());
        let decision = match decide(&env.shape.definition, &driven.state, pending.input, now_ms, jitter) {
            Ok(decision) => decision,
            Err(error) => {
                env.say(|| format!("{instance}, {saga}: {error}"));
                if let Some(asker) = pending.reply {
                    reply(env, asker, Reply::Refused);
                    self.break_the_pivot(env, saga);
                }
                return;
            }
        };
        if !decision.events.is_empty() {
            env.say(|| {
                let events: Vec<String> = decision.events.iter().map(|event| format!("{:?}", event.event)).collect();
                format!("{instance} decides on {saga}: {}", events.join("; "))
            });
        }
        driven.state = decision.state;
        if env.is_broken(Broken::OutcomesAreToldEarly) {
            tell(env, saga, &driven.state);
        }
        let (mut ahead, mut effects) = (decision.ahead, decision.effects);
        if env.is_broken(Broken::CommitIsAnsweredEarly) {
            ahead.append(&mut effects);
        }
        let nothing_waits = effects.is_empty() && pending.reply.is_none();
        let now = driven.behind.decided(decision.events, effects, pending.reply);
        self.set_timer(env, saga, decision.wake_at_ms);
        self.act(env, saga, ahead);
        if let Some(waiting) = now {
            self.done_waiting(env, saga, waiting);
        } else if nothing_waits && !self.is_stopping {
            // Soon, or with what is decided until then.
            self.wake_me(env, UNWRITTEN_MAX_MS, InstanceInput::Old(OldInput::Unwritten { saga }));
        } else {
            self.write(env, saga);
        }
    }

    /// Hands what a saga has decided to the log writer, unless an append of it is under way.
    pub(super) fn write(&mut self, env: &mut Env, saga: SagaNo) {
        let Some(driven) = self.driven(saga) else { return };
        let finished = driven.state.phase().is_finished();
        if let Some(events) = driven.behind.send(&driven.state) {
            self.write_append(env, Append { saga, events: Rc::new(events), finished });
        }
    }

    fn done_waiting(&mut self, env: &mut Env, saga: SagaNo, waiting: Waiting) {
        for asker in waiting.replies {
            reply(env, asker, Reply::Obeyed { saga });
        }
        self.act(env, saga, waiting.effects);
    }

    /// The append of a saga has ended.
    pub(super) fn appended(&mut self, env: &mut Env, saga: SagaNo, stands: bool) {
        let Some(driven) = self.driven(saga) else { return };
        if !stands {
            env.say(|| format!("{saga} has another owner now"));
            return self.forget(saga);
        }
        let Some((state, waiting)) = driven.behind.appended() else { return };
        tell(env, saga, &state);
        self.done_waiting(env, saga, waiting);
        self.write(env, saga);
    }

    fn act(&mut self, env: &mut Env, saga: SagaNo, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Call { step, direction, attempt } => self.call(env, CallId { saga, step, direction }, attempt),
                Effect::Decided(_) => {
                    let Some(driven) = self.driven(saga).filter(|driven| driven.place == Place::Taken) else {
                        continue;
                    };
                    driven.place = Place::GivenBack;
                    self.at_work -= 1;
                }
                Effect::Finished => self.forget(saga),
            }
        }
    }

    fn call(&mut self, env: &mut Env, of: CallId, attempt: u32) {
        if self.is_stopping {
            return;
        }
        let calls_twice = env.is_broken(Broken::CallsAreMadeTwice);
        let Some(driven) = self.driven(of.saga) else { return };
        let progress = driven.state.steps()[of.step.get()].call(of.direction);
        let is_due = progress.status == CallStatus::Trying && progress.attempts + 1 == attempt;
        if !is_due || driven.calling.contains(&of) && !calls_twice {
            return;
        }
        driven.calling.push(of);
        let action = driven.state.steps()[of.step.get()].action.status;
        let operation =
            Operation { of, attempt, outcome: driven.state.outcome(), origins: origins(&env.shape, &driven.state) };
        env.facts.push(Fact::CallMade { instance: self.instance, of, attempt });
        let unanswered = of.direction == Direction::Compensation && action == CallStatus::Trying;
        if unanswered && env.is_broken(Broken::UnansweredStepsAreLeft) {
            return self.wake_me(env, 1, InstanceInput::Old(OldInput::Pretended { of, attempt }));
        }
        self.enqueue(env, operation);
    }

    /// A broken owner undoes the first step of a saga that can't be cancelled any more.
    fn break_the_pivot(&mut self, env: &mut Env, saga: SagaNo) {
        if env.is_broken(Broken::CompensatesAfterThePivot) {
            let of = CallId { saga, step: StepIndex(0), direction: Direction::Compensation };
            self.enqueue(env, Operation { of, attempt: 1, outcome: Outcome::Pending, origins: Vec::new() });
        }
    }

    fn set_timer(&mut self, env: &mut Env, saga: SagaNo, wake_at_ms: Option<i64>) {
        self.timers += 1;
        let (number, now_ms) = (self.timers, self.clock_ms(env));
        let Some(driven) = self.driven(saga) else { return };
        driven.timer = wake_at_ms.map(|_| number);
        if let Some(at_ms) = wake_at_ms.filter(|_| !env.is_broken(Broken::WakeUpsAreLost)) {
            let wait_ms = at_ms.saturating_sub(now_ms).clamp(0, SLEEP_MAX_MS);
            self.wake_me(env, wait_ms, InstanceInput::Old(OldInput::Timer { saga, number }));
        }
    }

    pub(super) fn forget(&mut self, saga: SagaNo) {
        let Some(at) = self.sagas.iter().position(|driven| driven.saga == saga) else { return };
        if self.sagas.swap_remove(at).place == Place::Taken {
            self.at_work -= 1;
        }
    }
}

/// What the engine gets of an order. A broken owner writes a skip down as done.
fn ordered(env: &Env, order: &Order) -> Input {
    match order.input() {
        Input::Operator { command: OperatorCommand::Skip { step }, by, reason, command_id }
            if env.is_broken(Broken::SkipsAreHidden) =>
        {
            Input::Operator {
                command: OperatorCommand::Resolve { step, answer: Resolution::Done },
                by,
                reason,
                command_id,
            }
        }
        input => input,
    }
}

/// Whoever watches the saga hears of it.
fn tell(env: &mut Env, saga: SagaNo, state: &SagaState) {
    let outcome = state.outcome();
    if outcome != Outcome::Pending {
        env.facts.push(Fact::Told { saga, outcome });
    }
}

/// The jitter of a decision, by the formula of the core.
fn jitter(seed: u64, saga: SagaNo, sequence: u64) -> Jitter {
    let mixed = [u64::from(saga.0), sequence].into_iter().fold(seed, |state, word| {
        let mut z = (state ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    });
    Jitter((mixed >> 32) as u32)
}
