//! Runs one saga with the faults of one case: the engine's `decide` over a log in memory, with the case between the
//! engine and the participants.
//!
//! There are no threads and timers: calls are answered in the order in which they became due, and when no call is in
//! flight, the clock jumps to the next timer.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use matricula_engine::{
    CallAnswer, CallError, Code, DecideError, Decision, Direction, Effect, Input, Jitter, OperatorCommand, Recorded,
    Resolution, SagaState, StepIndex, decide,
};

use crate::case::{Again, Case, Crash, Fault, Moment, OperatorDecision};
use crate::shape::Shape;
use crate::world::{Call, World};

/// No case needs more inputs: one that does is stuck in a loop. Steps that fail until the deadline need the most.
const INPUTS_MAX: usize = 2_000;
/// Every delay is the longest of its policy.
pub(crate) const JITTER: Jitter = Jitter(u32::MAX);

/// The result of one run.
#[derive(Debug)]
pub struct Run<S> {
    /// The case.
    pub case: Case,
    /// Its subject in the world.
    pub subject: S,
    /// The stored log.
    pub log: Vec<Recorded>,
    /// The last state.
    pub state: SagaState,
    /// Promises of the participants that were broken during the run.
    pub broken: Vec<String>,
}

/// Runs one saga to its end.
pub async fn run<W: World>(world: &W, case: Case, subject: W::Subject) -> Run<W::Subject> {
    let shape = world.shape();
    let def = shape.definition();
    let first = Recorded::first(0, def.admit(shape.applies(), 0));
    let state = SagaState::replay(def, [&first]).expect("a shape is a saga that can be admitted");
    let mut driver = Driver {
        world,
        shape,
        case: &case,
        subject: &subject,
        log: Vec::new(),
        durable: 1,
        state: Arc::new(state.clone()),
        now_ms: 0,
        wake_at_ms: None,
        in_flight: VecDeque::new(),
        crash: case.crash,
        late: Vec::new(),
        arrived: Vec::new(),
        answers: HashMap::new(),
        broken: Vec::new(),
    };
    let admitted = Decision { events: vec![first], ahead: Vec::new(), effects: Vec::new(), wake_at_ms: None, state };
    driver.append(admitted).await;
    driver.input(Input::Resume).await;
    driver.run().await;
    driver.deliver_the_rest().await;
    let Driver { log, state, broken, .. } = driver;
    let state = Arc::unwrap_or_clone(state);
    Run { case, subject, log, state, broken }
}

struct Driver<'a, W: World> {
    world: &'a W,
    shape: &'a Shape,
    case: &'a Case,
    subject: &'a W::Subject,
    /// The stored events.
    log: Vec<Recorded>,
    /// How many of the events had effects that waited for them.
    durable: usize,
    /// The state in the memory of the process.
    state: Arc<SagaState>,
    now_ms: i64,
    wake_at_ms: Option<i64>,
    in_flight: VecDeque<Call>,
    /// The crash that is still to come.
    crash: Option<Crash>,
    /// Calls that the network delays.
    late: Vec<Call>,
    /// All calls that reached the world, in order.
    arrived: Vec<Call>,
    /// The barrier row of each step: the first answer of its action, and whether its undo came.
    answers: HashMap<StepIndex, (Option<CallAnswer>, bool)>,
    broken: Vec<String>,
}

/// Whether the process still has its memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Process {
    GoesOn,
    Crashed,
}

impl<W: World> Driver<'_, W> {
    async fn run(&mut self) {
        for _ in 0..INPUTS_MAX {
            if let Some(call) = self.in_flight.pop_front() {
                self.answer(call).await;
            } else if let Some(command) = self.operator_command() {
                let (by, reason) = ("grace".to_owned(), "looked at it".to_owned());
                self.input(Input::Operator { command, by, reason, command_id: None }).await;
            } else if let Some(at_ms) = self.wake_at_ms {
                self.now_ms = self.now_ms.max(at_ms);
                self.input(Input::Wake).await;
            } else {
                return;
            }
        }
        self.broken.push(format!("still not ended after {INPUTS_MAX} inputs"));
    }

    async fn answer(&mut self, call: Call) {
        let started_at_ms = self.now_ms;
        let answer = self.deliver(&call).await;
        let is_cancelled = self.case.cancel.is_some_and(|cancel| cancel.step == Some(call.step));
        if is_cancelled && call.direction == Direction::Forward && self.state.cause().is_none() {
            let cancel = Input::Cancel { by: "ada".to_owned(), reason: "changed my mind".to_owned() };
            if self.input(cancel).await == Process::Crashed {
                return;
            }
        }
        let Call { step, direction, attempt, .. } = call;
        self.input(Input::Answered { step, direction, attempt, started_at_ms, answer }).await;
    }

    /// The command that the operator of the case gives now.
    fn operator_command(&self) -> Option<OperatorCommand> {
        let (step, direction, decision) = self.case.decided?;
        if !self.state.steps()[step.get()].call(direction).needs_attention {
            return None;
        }
        let step = self.shape.definition().step(step).name.to_owned();
        Some(match decision {
            OperatorDecision::Retried => OperatorCommand::Retry { step: Some(step) },
            OperatorDecision::Skipped => OperatorCommand::Skip { step },
            OperatorDecision::ResolvedAsDone => OperatorCommand::Resolve { step, answer: Resolution::Done },
            OperatorDecision::ResolvedAsRefused => OperatorCommand::Resolve {
                step,
                answer: Resolution::Refused { refusal: "it had not happened".to_owned() },
            },
            OperatorDecision::Abandoned => OperatorCommand::Abandon,
        })
    }

    /// Decides, appends, acts.
    async fn input(&mut self, input: Input) -> Process {
        match decide(self.shape.definition(), &self.state, input, self.now_ms, JITTER) {
            Ok(decision) => self.append(decision).await,
            // A second answer of a call that was made twice.
            Err(DecideError::Stale { .. }) => Process::GoesOn,
            Err(DecideError::TooLateToCancel { .. }) if self.case.cancel.is_some_and(|cancel| cancel.is_late) => {
                Process::GoesOn
            }
            Err(error) => {
                self.broken.push(format!("the engine refused: {error}"));
                Process::GoesOn
            }
        }
    }

    async fn append(&mut self, decision: Decision) -> Process {
        let Decision { events, mut ahead, mut effects, wake_at_ms, state } = decision;
        let is_waited_for = !effects.is_empty();
        ahead.append(&mut effects);
        let stored = self.log.len() + events.len();
        match self.crash.filter(|crash| (self.log.len() + 1..=stored).contains(&crash.after_event)) {
            None => {
                self.log.extend(events);
                if is_waited_for {
                    self.durable = self.log.len();
                }
                self.state = Arc::new(state);
                self.act(ahead, wake_at_ms);
                Process::GoesOn
            }
            Some(crash) => {
                self.crash = None;
                let is_whole = crash.after_event == stored;
                self.log.extend(events.into_iter().take(crash.after_event - self.log.len()));
                // Effects follow only events that are stored, all of them.
                if is_whole && crash.moment != Moment::AppendReported {
                    self.state = Arc::new(state);
                    self.act(ahead, wake_at_ms);
                    if is_waited_for {
                        self.durable = self.log.len();
                    }
                }
                self.crash_at(crash.moment).await;
                Process::Crashed
            }
        }
    }

    fn act(&mut self, effects: Vec<Effect>, wake_at_ms: Option<i64>) {
        self.wake_at_ms = wake_at_ms;
        for effect in effects {
            match effect {
                Effect::Call { step, direction, attempt } => {
                    if !self.in_flight.iter().any(|call| (call.step, call.direction) == (step, direction)) {
                        let name = self.shape.definition().step(step).name;
                        self.in_flight.push_back(Call { step, name, direction, attempt, state: self.state.clone() });
                    }
                }
                // A saga whose admission was just stored is resumed too, so a resume may come twice.
                Effect::Decided(_) | Effect::Finished => {}
            }
        }
    }

    /// The memory is lost. The stored log is read, and the saga is resumed.
    async fn crash_at(&mut self, moment: Moment) {
        let in_flight = std::mem::take(&mut self.in_flight);
        let take_effect = match moment {
            Moment::BeforeCalls | Moment::AppendReported => 0,
            Moment::BeforeAppend => 1,
            Moment::BeforeAnswers | Moment::LogBehind => in_flight.len(),
        };
        for call in in_flight.iter().take(take_effect) {
            self.deliver(call).await;
        }
        self.wake_at_ms = None;
        if moment == Moment::LogBehind {
            self.log.truncate(self.durable);
        }
        match SagaState::replay(self.shape.definition(), &self.log) {
            Ok(state) => self.state = Arc::new(state),
            Err(error) => return self.broken.push(format!("the stored log does not fold: {error}")),
        }
        Box::pin(self.input(Input::Adopt { by: "another".to_owned() })).await;
        if self.case.cancel.is_some_and(|cancel| cancel.step.is_none()) {
            let cancel = Input::Cancel { by: "ada".to_owned(), reason: "changed my mind".to_owned() };
            Box::pin(self.input(cancel)).await;
        }
        if moment == Moment::AppendReported {
            // These calls stay in flight beside those of the resumed saga, whose answers come second.
            self.in_flight = in_flight.into_iter().chain(std::mem::take(&mut self.in_flight)).collect();
        }
    }

    /// Sends a call through the network of the case; returns the answer that the caller receives.
    async fn deliver(&mut self, call: &Call) -> CallAnswer {
        let unknown = |code| CallAnswer::Unknown(CallError::new(code, "made up by the case", None));
        match self.case.fault(call.step, call.direction, call.attempt) {
            Some(Fault::Failing { code, .. }) => unknown(code),
            Some(Fault::Misread) => CallAnswer::Refused("made up by the case".to_owned()),
            Some(Fault::Late) => {
                self.late.push(call.clone());
                unknown(Code::DeadlineExceeded)
            }
            Some(Fault::AnswerLost { .. }) => {
                self.arrive(call).await;
                unknown(Code::Unavailable)
            }
            Some(Fault::Repeated { times }) => {
                for _ in 1..times {
                    self.arrive(call).await;
                }
                self.arrive(call).await
            }
            Some(Fault::Refused) | None => self.arrive(call).await,
        }
    }

    async fn arrive(&mut self, call: &Call) -> CallAnswer {
        let answer = self.world.call(self.subject, call).await;
        self.arrived.push(call.clone());
        if let Some(broken) = self.note(call, &answer) {
            self.broken.push(format!("{}: {broken}", self.shape.title(call.step, call.direction)));
        }
        answer
    }

    /// Records an answer, and reports how it breaks a promise of the participants.
    fn note(&mut self, call: &Call, answer: &CallAnswer) -> Option<String> {
        let is_pivot = call.step == self.shape.definition().pivot();
        let (first, undone) = self.answers.entry(call.step).or_default();
        match (call.direction, answer, first) {
            (_, CallAnswer::Unknown(error), _) => Some(format!("arrived and was not answered: {error}")),
            (Direction::Compensation, CallAnswer::Refused(_), Some(CallAnswer::Done(_))) if is_pivot => None,
            (Direction::Compensation, CallAnswer::Refused(why), _) => Some(format!("an undo was refused: {why}")),
            (Direction::Compensation, CallAnswer::Done(_), Some(CallAnswer::Done(_))) if is_pivot => {
                Some("had happened, and was said to happen never".to_owned())
            }
            (Direction::Compensation, CallAnswer::Done(_), _) => {
                *undone = true;
                None
            }
            (Direction::Forward, answer, Some(first)) if answer != first => {
                Some(format!("answered {first:?} at first, and {answer:?} later"))
            }
            (Direction::Forward, _, Some(_)) => None,
            (Direction::Forward, CallAnswer::Done(_), None) if *undone => {
                Some("came after its undo, and was done".to_owned())
            }
            (Direction::Forward, answer, first @ None) => {
                *first = Some(answer.clone());
                None
            }
        }
    }

    /// Delivers the delayed calls, and the repeats of the case.
    async fn deliver_the_rest(&mut self) {
        for call in std::mem::take(&mut self.late) {
            self.arrive(&call).await;
        }
        let mut again = self.arrived.clone();
        match self.case.again {
            None => return,
            Some(Again::InOrder) => {}
            Some(Again::Reversed) => again.reverse(),
        }
        for call in again {
            self.arrive(&call).await;
        }
    }
}
