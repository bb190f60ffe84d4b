//! A runtime in miniature: it drives a saga by a script, in order, on a clock that jumps from timer to timer.
//!
//! A script is words: `step=answer,answer` answers the attempts of a step's action (`undo:step=` those of its undo), all
//! others are answered with `done`. Answers are `done`, `no`, `never` or the name of a gRPC code; or what an operator does
//! while the call hangs: `retried`, `skipped`, `found-done`, `found-refused`, `abandoned`. `skip:step` leaves a step out;
//! `cancel@step` cancels while that step's action is in flight.

use std::collections::BTreeSet;

use crate::*;

/// No script of these tests needs more inputs; a saga that does is stuck in a loop.
const INPUTS_MAX: usize = 1_000;

pub(super) struct World<'a> {
    pub(super) def: &'a Definition,
    pub(super) state: SagaState,
    pub(super) log: Vec<Recorded>,
    /// How many events must be durable: something was done that waits for them.
    pub(super) durable: usize,
    pub(super) now_ms: i64,
    pub(super) wake_at_ms: Option<i64>,
    pub(super) in_flight: Vec<(StepIndex, Leg, u32)>,
    /// Calls that left but will not be answered.
    hung: Vec<(StepIndex, Leg, u32)>,
    /// Every leg that was ever called.
    pub(super) called: BTreeSet<(StepIndex, Leg)>,
    pub(super) decided: Vec<Outcome>,
    pub(super) finished: usize,
    pub(super) jitter: Jitter,
}

impl<'a> World<'a> {
    /// A saga that was just admitted.
    pub(super) fn admit<'n>(def: &'a Definition, applies: impl IntoIterator<Item = &'n str>) -> Self {
        let mut world = Self::replay(def, vec![Recorded::first(0, def.admit(applies, 0))]);
        world.input(Input::Resume).unwrap();
        world
    }

    /// A saga that was read back; nothing is in flight.
    pub(super) fn replay(def: &'a Definition, log: Vec<Recorded>) -> Self {
        let state = SagaState::replay(def, &log).unwrap();
        Self {
            def,
            now_ms: state.updated_at_ms(),
            state,
            durable: log.len(),
            log,
            wake_at_ms: None,
            in_flight: Vec::new(),
            hung: Vec::new(),
            called: BTreeSet::new(),
            decided: Vec::new(),
            finished: 0,
            jitter: Jitter(u32::MAX),
        }
    }

    /// Decides, appends, acts.
    pub(super) fn input(&mut self, input: Input) -> Result<(), DecideError> {
        let decision = decide(self.def, &self.state, input, self.now_ms, self.jitter)?;
        self.log.extend(decision.events);
        self.state = decision.state;
        self.wake_at_ms = decision.wake_at_ms;
        if !decision.effects.is_empty() {
            self.durable = self.log.len();
        }
        for effect in decision.ahead.into_iter().chain(decision.effects) {
            match effect {
                Effect::Call { step, leg, attempt } => {
                    let mut under_way = self.in_flight.iter().chain(&self.hung);
                    if !under_way.any(|(other, other_leg, _)| (*other, *other_leg) == (step, leg)) {
                        self.called.insert((step, leg));
                        self.in_flight.push((step, leg, attempt));
                    }
                }
                Effect::Decided(outcome) => self.decided.push(outcome),
                Effect::Finished => self.finished += 1,
            }
        }
        Ok(())
    }

    /// Answers the call at a place of those in flight. A stale answer changes nothing, as in a runtime.
    pub(super) fn answer(&mut self, place: usize, answer: CallAnswer) {
        let (step, leg, attempt) = self.in_flight.remove(place);
        match self.input(Input::Answered { step, leg, attempt, started_at_ms: self.now_ms, answer }) {
            Ok(()) | Err(DecideError::Stale { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// Somebody else drives it on.
    pub(super) fn adopt(&mut self) {
        self.input(Input::Adopt { by: "another".to_owned() }).unwrap();
    }

    /// An operator decides something.
    pub(super) fn steer(&mut self, verb: Verb) -> Result<(), DecideError> {
        self.input(Input::Steer { verb, by: "ada".to_owned(), reason: "seen to it".to_owned(), command: None })
    }

    /// Runs by the script until nothing can happen any more.
    pub(super) fn run(mut self, script: &Script) -> Self {
        for _ in 0..INPUTS_MAX {
            if let Some(&(step, leg, attempt)) = self.in_flight.first() {
                let name = self.def.step(step).name;
                if leg == Leg::Action && script.cancel_at.as_deref() == Some(name) && self.state.cause().is_none() {
                    let cancel = Input::Cancel { by: "ada".to_owned(), reason: "changed my mind".to_owned() };
                    // Too late is an answer too; the saga goes on.
                    let _ = self.input(cancel);
                }
                if let Some(verb) = script.verb(name, leg, attempt) {
                    let call = self.in_flight.remove(0);
                    self.hung.push(call);
                    self.steer(verb).unwrap();
                    continue;
                }
                match script.answer(name, leg, attempt) {
                    None => {
                        let call = self.in_flight.remove(0);
                        self.hung.push(call);
                    }
                    Some(answer) => self.answer(0, answer),
                }
            } else if let Some(at_ms) = self.wake_at_ms {
                self.now_ms = self.now_ms.max(at_ms);
                self.input(Input::Wake).unwrap();
            } else {
                return self;
            }
        }
        panic!("still running after {INPUTS_MAX} inputs:\n{}", self.history());
    }

    /// What happened, in a line: `; ` between events, `undo` before those of undos, the answer unless it was `done`.
    pub(super) fn history(&self) -> String {
        let words: Vec<_> = self.log.iter().skip(1).map(|recorded| in_short(&recorded.event)).collect();
        let end = (self.state.phase().as_str(), self.state.outcome().as_str());
        format!("{} => {}, {}", words.join("; "), end.0, end.1)
    }
}

fn in_short(event: &Event) -> String {
    let title = |step: &str, leg: &Leg| if *leg == Leg::Undo { format!("undo {step}") } else { step.to_owned() };
    match event {
        Event::Admitted { .. } => String::from("admitted"),
        Event::Adopted { .. } => String::from("adopted"),
        Event::Succeeded { step, leg, .. } => title(step, leg),
        Event::Refused { step, .. } => format!("{step} no"),
        Event::Failed { step, leg, error, needs_attention, .. } => {
            format!("{} {}{}", title(step, leg), error.code, if *needs_attention { "!" } else { "" })
        }
        Event::Turned { cause } => format!("turned: {cause}"),
        Event::TurnedBack { .. } => String::from("turned back"),
        Event::Intervened { intervention, .. } => match intervention {
            Intervention::Retry { step } => format!("retry {}", step.as_deref().unwrap_or("all")),
            Intervention::Skip { step, leg } => format!("{} skipped", title(step, leg)),
            Intervention::Resolve { step, leg, answer: Resolution::Done } => format!("{} found done", title(step, leg)),
            Intervention::Resolve { step, leg, .. } => format!("{} found refused", title(step, leg)),
            Intervention::Abandon => String::from("abandoned"),
        },
        Event::Finished => String::from("finished"),
    }
}

#[derive(Default)]
pub(super) struct Script {
    answers: Vec<(String, Leg, Vec<String>)>,
    skips: Vec<String>,
    cancel_at: Option<String>,
}

impl Script {
    pub(super) fn parse(text: &str) -> Self {
        let mut script = Self::default();
        for word in text.split_whitespace() {
            if let Some(step) = word.strip_prefix("skip:") {
                script.skips.push(step.to_owned());
            } else if let Some(step) = word.strip_prefix("cancel@") {
                script.cancel_at = Some(step.to_owned());
            } else {
                let (step, answers) = word.split_once('=').expect("a word of a script");
                let (step, leg) = match step.strip_prefix("undo:") {
                    Some(step) => (step, Leg::Undo),
                    None => (step, Leg::Action),
                };
                script.answers.push((step.to_owned(), leg, answers.split(',').map(str::to_owned).collect()));
            }
        }
        script
    }

    pub(super) fn applies<'d>(&self, def: &'d Definition) -> impl Iterator<Item = &'d str> {
        def.steps().iter().map(|step| step.name).filter(|name| !self.skips.iter().any(|skip| skip == name))
    }

    fn word(&self, step: &str, leg: Leg, attempt: u32) -> &str {
        let of_leg = self.answers.iter().find(|(name, of, _)| name == step && *of == leg);
        of_leg.and_then(|(_, _, answers)| answers.get(attempt as usize - 1)).map_or("done", String::as_str)
    }

    fn verb(&self, step: &str, leg: Leg, attempt: u32) -> Option<Verb> {
        let name = step.to_owned();
        Some(match self.word(step, leg, attempt) {
            "retried" => Verb::Retry { step: None },
            "skipped" => Verb::Skip { step: name },
            "found-done" => Verb::Resolve { step: name, answer: Resolution::Done },
            "found-refused" => {
                Verb::Resolve { step: name, answer: Resolution::Refused { refusal: "found so".to_owned() } }
            }
            "abandoned" => Verb::Abandon,
            _ => return None,
        })
    }

    /// None: it never comes.
    fn answer(&self, step: &str, leg: Leg, attempt: u32) -> Option<CallAnswer> {
        match self.word(step, leg, attempt) {
            "done" => Some(CallAnswer::Done(format!("{step} done"))),
            "no" => Some(CallAnswer::Refused(format!("{step} says no"))),
            "never" => None,
            name => {
                let code = Code::ALL.into_iter().find(|code| code.as_str() == name).expect("a code");
                Some(CallAnswer::Unknown(CallError::new(code, "lost", None)))
            }
        }
    }
}

/// Runs a script over the sample saga.
pub(super) fn run<'a>(def: &'a Definition, script: &str) -> World<'a> {
    let script = Script::parse(script);
    World::admit(def, script.applies(def)).run(&script)
}
