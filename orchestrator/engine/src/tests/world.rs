//! A runtime in miniature: it drives a saga by a script, in order, on a clock that jumps from timer to timer.
//!
//! A script is a text of words:
//!
//! | word | meaning |
//! |---|---|
//! | `step=answer,answer` | the answers of the attempts of a step's action |
//! | `undo:step=answer,answer` | the answers of the attempts of its compensation |
//! | `skip:step` | the step does not apply |
//! | `cancel@step` | a cancel comes while the action of the step is in flight |
//!
//! An answer is `done`, `no`, `never` or the name of a gRPC code. It may also be the command that an operator gives
//! while the call hangs: `retried`, `skipped`, `found-done`, `found-refused`, `abandoned`. All other attempts are
//! answered with `done`.

use std::collections::BTreeSet;

use crate::*;

/// Most inputs of a script. A saga that needs more is stuck in a loop.
const INPUTS_MAX: usize = 1_000;

pub(super) struct World<'a> {
    pub(super) def: &'a Definition,
    pub(super) state: SagaState,
    pub(super) log: Vec<Recorded>,
    /// The number of events that must be durable, because an effect that waits for them was run.
    pub(super) durable: usize,
    pub(super) now_ms: i64,
    pub(super) wake_at_ms: Option<i64>,
    pub(super) in_flight: Vec<(StepIndex, Direction, u32)>,
    /// Calls that left but will not be answered.
    hung: Vec<(StepIndex, Direction, u32)>,
    /// Every call that was ever made.
    pub(super) called: BTreeSet<(StepIndex, Direction)>,
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

    /// A saga that was read back, without calls in flight.
    pub(super) fn replay(def: &'a Definition, log: Vec<Recorded>) -> Self {
        let state = SagaState::replay(def, &log).unwrap();
        Self {
            def,
            now_ms: log.last().unwrap().at_ms,
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
                Effect::Call { step, direction, attempt } => {
                    let mut under_way = self.in_flight.iter().chain(&self.hung);
                    if !under_way.any(|(other, other_direction, _)| (*other, *other_direction) == (step, direction)) {
                        self.called.insert((step, direction));
                        self.in_flight.push((step, direction, attempt));
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
        let (step, direction, attempt) = self.in_flight.remove(place);
        match self.input(Input::Answered { step, direction, attempt, started_at_ms: self.now_ms, answer }) {
            Ok(()) | Err(DecideError::Stale { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// Another instance adopts the saga.
    pub(super) fn adopt(&mut self) {
        self.input(Input::Adopt { by: "another".to_owned() }).unwrap();
    }

    /// An operator gives a command.
    pub(super) fn intervene(&mut self, command: OperatorCommand) -> Result<(), DecideError> {
        self.input(Input::Operator { command, by: "ada".to_owned(), reason: "seen to it".to_owned(), command_id: None })
    }

    /// Runs by the script until nothing can happen any more.
    pub(super) fn run(mut self, script: &Script) -> Self {
        for _ in 0..INPUTS_MAX {
            if let Some(&(step, direction, attempt)) = self.in_flight.first() {
                let name = self.def.step(step).name;
                if direction == Direction::Forward
                    && script.cancel_at.as_deref() == Some(name)
                    && self.state.cause().is_none()
                {
                    let cancel = Input::Cancel { by: "ada".to_owned(), reason: "changed my mind".to_owned() };
                    // Too late is an answer too; the saga goes on.
                    let _ = self.input(cancel);
                }
                if let Some(command) = script.command(name, direction, attempt) {
                    let call = self.in_flight.remove(0);
                    self.hung.push(call);
                    self.intervene(command).unwrap();
                    continue;
                }
                match script.answer(name, direction, attempt) {
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

    /// The events in one line: `; ` between events, `undo` before those of compensations, the answer unless it was
    /// `done`.
    pub(super) fn history(&self) -> String {
        let words: Vec<_> = self.log.iter().skip(1).map(|recorded| in_short(&recorded.event)).collect();
        let end = (self.state.phase().as_str(), self.state.outcome().as_str());
        format!("{} => {}, {}", words.join("; "), end.0, end.1)
    }
}

fn in_short(event: &Event) -> String {
    let title = |step: &str, direction: &Direction| {
        if *direction == Direction::Compensation { format!("undo {step}") } else { step.to_owned() }
    };
    match event {
        Event::Admitted { .. } => String::from("admitted"),
        Event::Adopted { .. } => String::from("adopted"),
        Event::Succeeded { step, direction, .. } => title(step, direction),
        Event::Refused { step, .. } => format!("{step} no"),
        Event::Failed { step, direction, error, needs_attention, .. } => {
            format!("{} {}{}", title(step, direction), error.code, if *needs_attention { "!" } else { "" })
        }
        Event::CompensationStarted { cause } => format!("turned: {cause}"),
        Event::CompensationReverted { .. } => String::from("turned back"),
        Event::Intervened { intervention, .. } => match intervention {
            Intervention::Retry { step } => format!("retry {}", step.as_deref().unwrap_or("all")),
            Intervention::Skip { step, direction } => format!("{} skipped", title(step, direction)),
            Intervention::Resolve { step, direction, answer: Resolution::Done } => {
                format!("{} found done", title(step, direction))
            }
            Intervention::Resolve { step, direction, .. } => format!("{} found refused", title(step, direction)),
            Intervention::Abandon => String::from("abandoned"),
        },
        Event::Finished => String::from("finished"),
    }
}

#[derive(Default)]
pub(super) struct Script {
    answers: Vec<(String, Direction, Vec<String>)>,
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
                let (step, direction) = match step.strip_prefix("undo:") {
                    Some(step) => (step, Direction::Compensation),
                    None => (step, Direction::Forward),
                };
                script.answers.push((step.to_owned(), direction, answers.split(',').map(str::to_owned).collect()));
            }
        }
        script
    }

    pub(super) fn applies<'d>(&self, def: &'d Definition) -> impl Iterator<Item = &'d str> {
        def.steps().iter().map(|step| step.name).filter(|name| !self.skips.iter().any(|skip| skip == name))
    }

    fn word(&self, step: &str, direction: Direction, attempt: u32) -> &str {
        let of_direction = self.answers.iter().find(|(name, of, _)| name == step && *of == direction);
        of_direction.and_then(|(_, _, answers)| answers.get(attempt as usize - 1)).map_or("done", String::as_str)
    }

    fn command(&self, step: &str, direction: Direction, attempt: u32) -> Option<OperatorCommand> {
        let name = step.to_owned();
        Some(match self.word(step, direction, attempt) {
            "retried" => OperatorCommand::Retry { step: None },
            "skipped" => OperatorCommand::Skip { step: name },
            "found-done" => OperatorCommand::Resolve { step: name, answer: Resolution::Done },
            "found-refused" => {
                OperatorCommand::Resolve { step: name, answer: Resolution::Refused { refusal: "found so".to_owned() } }
            }
            "abandoned" => OperatorCommand::Abandon,
            _ => return None,
        })
    }

    /// The answer of an attempt; `None` when it never comes.
    fn answer(&self, step: &str, direction: Direction, attempt: u32) -> Option<CallAnswer> {
        match self.word(step, direction, attempt) {
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
