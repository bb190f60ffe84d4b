//! A case: the faults of one saga, in words and for the driver, and the outcome that it must have.

use std::fmt;

use matricula_engine::{Code, Direction, Kind, Outcome, StepIndex};

use crate::shape::Shape;

/// Name of the case without any fault.
const CALM: &str = "nothing goes wrong";

/// The fault of the calls of one direction of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The participant refuses.
    Refused,
    /// The caller receives a refusal from a call that may not refuse. The call has not arrived.
    Misread,
    /// The call does not arrive, and the caller receives this code.
    Failing {
        /// The code.
        code: Code,
        /// How many attempts fail; the next one succeeds.
        attempts: u32,
    },
    /// The call takes effect, and the caller receives an error.
    AnswerLost {
        /// How many attempts end so.
        attempts: u32,
    },
    /// The network delivers the call several times.
    Repeated {
        /// Deliveries of each attempt.
        times: u32,
    },
    /// The first attempt takes so long that the caller receives `DEADLINE_EXCEEDED`. It arrives after the end of the
    /// saga.
    Late,
}

impl Fault {
    /// Whether the fault applies to an attempt.
    fn hits(self, attempt: u32) -> bool {
        match self {
            Self::Refused | Self::Repeated { .. } => true,
            Self::Failing { attempts, .. } | Self::AnswerLost { attempts } => attempt <= attempts,
            Self::Misread | Self::Late => attempt == 1,
        }
    }

    /// Whether an attempt with this fault does not arrive while the saga goes on.
    fn keeps_it_away(self) -> bool {
        matches!(self, Self::Failing { .. } | Self::Late)
    }

    fn is_for_ever(self) -> bool {
        matches!(self, Self::Failing { attempts: u32::MAX, .. } | Self::AnswerLost { attempts: u32::MAX })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("refused"),
            Self::Misread => f.write_str("heard as refused, which it may not be"),
            Self::Failing { code, attempts: 1 } => write!(f, "failing with {code}"),
            Self::Failing { code, attempts: u32::MAX } => write!(f, "failing with {code} for ever"),
            Self::Failing { code, attempts } => write!(f, "failing with {code} {attempts} times"),
            Self::AnswerLost { attempts: 1 } => f.write_str("done, its answer lost"),
            Self::AnswerLost { attempts: u32::MAX } => f.write_str("done, its answer lost for ever"),
            Self::AnswerLost { attempts } => write!(f, "done, its answer lost {attempts} times"),
            Self::Repeated { times } => write!(f, "delivered {times} times"),
            Self::Late => f.write_str("delivered after the end"),
        }
    }
}

/// A crash of the process that drives the saga, or an error that the process takes for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crash {
    /// How many events are stored. A decision of several events may be cut.
    pub after_event: usize,
    /// Which of their effects have happened.
    pub moment: Moment,
}

/// How much has happened after the last stored event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Nothing: the calls that are due have not left.
    BeforeCalls,
    /// All calls that are due have taken effect, and none is answered.
    BeforeAnswers,
    /// The first of the calls that are due was answered, and the answer is not stored.
    BeforeAppend,
    /// All calls that are due have taken effect. Events that nothing waited for were never stored.
    LogBehind,
    /// No crash: the commit of the event succeeded and reported an error. The log is read again, while earlier calls
    /// are still in flight.
    AppendReported,
}

impl Moment {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::BeforeCalls, Self::BeforeAnswers, Self::BeforeAppend, Self::LogBehind, Self::AppendReported];
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BeforeCalls => "before the calls that follow",
            Self::BeforeAnswers => "after the effects that follow, before their answers",
            Self::BeforeAppend => "after the next answer, before it is stored",
            Self::LogBehind => "after the effects that follow, what nothing waited for not stored",
            Self::AppendReported => "stored, but reported as failed",
        })
    }
}

/// The decision of an operator about a call that needs attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperatorDecision {
    /// It is called at once.
    Retried,
    /// It counts as over.
    Skipped,
    /// It counts as done.
    ResolvedAsDone,
    /// It counts as refused: for a pivot.
    ResolvedAsRefused,
    /// The saga is abandoned.
    Abandoned,
}

impl fmt::Display for OperatorDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Retried => "retried by an operator",
            Self::Skipped => "skipped by an operator",
            Self::ResolvedAsDone => "resolved by an operator as done",
            Self::ResolvedAsRefused => "resolved by an operator as refused",
            Self::Abandoned => "abandoned by an operator",
        })
    }
}

/// A client cancels the saga.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cancel {
    /// At this step; none: at the instance that adopts the saga.
    pub step: Option<StepIndex>,
    /// The pivot may have been called, so the cancel is too late. The saga may have to find this out from the service.
    pub is_late: bool,
}

/// After the end of the saga, the network delivers all calls once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// In the order of the first time.
    InOrder,
    /// The last first: undos before actions.
    Reversed,
}

/// The faults of one saga.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The faults in words; unique in a matrix.
    pub name: String,
    pub(crate) faults: Vec<(StepIndex, Direction, Fault)>,
    pub(crate) cancel: Option<Cancel>,
    pub(crate) crash: Option<Crash>,
    pub(crate) again: Option<Again>,
    pub(crate) decided: Option<(StepIndex, Direction, OperatorDecision)>,
}

impl Case {
    /// The case without a fault.
    pub fn calm() -> Self {
        Self { name: CALM.to_owned(), faults: Vec::new(), cancel: None, crash: None, again: None, decided: None }
    }

    /// With a fault of one direction of a step.
    #[must_use]
    pub fn with(mut self, shape: &Shape, step: StepIndex, direction: Direction, fault: Fault) -> Self {
        self.faults.push((step, direction, fault));
        self.and(&format!("{} {fault}", shape.title(step, direction)))
    }

    /// A client cancels when the first attempt of this step's action has taken effect, before its answer arrives. From
    /// the pivot on this is too late, unless the pivot can be withdrawn and has not arrived.
    #[must_use]
    pub fn cancelled_at(mut self, shape: &Shape, step: StepIndex) -> Self {
        let has_arrived = !self.fault(step, Direction::Forward, 1).is_some_and(Fault::keeps_it_away);
        let is_late = match shape.definition().step(step).kind {
            Kind::Compensatable => false,
            Kind::Pivot => has_arrived || !shape.definition().is_pivot_withdrawable(),
            Kind::Retriable | Kind::Finalizer => true,
        };
        self.cancel = Some(Cancel { step: Some(step), is_late });
        let title = shape.title(step, Direction::Forward);
        self.and(&if is_late { format!("cancelled too late, at {title}") } else { format!("cancelled at {title}") })
    }

    /// With an operator who decides about a call once it needs attention.
    #[must_use]
    pub fn decided_by_operator(mut self, step: StepIndex, direction: Direction, decision: OperatorDecision) -> Self {
        self.decided = Some((step, direction, decision));
        self.and(&decision.to_string())
    }

    /// With a crash; `event` says in words after which.
    #[must_use]
    pub fn with_crash(mut self, crash: Crash, event: &str) -> Self {
        self.crash = Some(crash);
        self.and(&format!("crash after event {} ({event}), {}", crash.after_event, crash.moment))
    }

    /// With a crash of a process whose log is incomplete, and a cancel at the instance that adopts the saga. `is_late`:
    /// the pivot had been called before the crash.
    #[must_use]
    pub fn cancelled_behind(self, after_event: usize, event: &str, is_late: bool) -> Self {
        let mut case = self.with_crash(Crash { after_event, moment: Moment::LogBehind }, event);
        case.cancel = Some(Cancel { step: None, is_late });
        case.and(if is_late { "cancelled too late, once adopted" } else { "cancelled once adopted" })
    }

    /// With all calls delivered once more after the end.
    #[must_use]
    pub fn with_again(mut self, again: Again) -> Self {
        self.again = Some(again);
        self.and(match again {
            Again::InOrder => "everything once more after the end",
            Again::Reversed => "everything once more after the end, the last first",
        })
    }

    /// The steps that must refuse.
    pub fn refuses(&self) -> impl Iterator<Item = StepIndex> {
        self.faults.iter().filter(|(.., fault)| *fault == Fault::Refused).map(|(step, ..)| *step)
    }

    /// The decision of the operator, if there is one.
    pub(crate) fn operator_decision(&self) -> Option<OperatorDecision> {
        self.decided.map(|(.., decision)| decision)
    }

    /// The outcome that it must have. Only three things start a compensation: a refusal (which an operator may find
    /// out), a cancel, or the deadline.
    pub fn outcome(&self) -> Outcome {
        let is_left_alone = self.decided.is_none();
        let for_ever =
            self.faults.iter().any(|(_, direction, fault)| *direction == Direction::Forward && fault.is_for_ever());
        if self.cancel.is_some_and(|cancel| !cancel.is_late) {
            Outcome::Cancelled
        } else if self.refuses().next().is_some()
            || self.operator_decision() == Some(OperatorDecision::ResolvedAsRefused)
        {
            Outcome::Refused
        } else if for_ever && is_left_alone {
            Outcome::TimedOut
        } else {
            Outcome::Committed
        }
    }

    /// The fault that applies to an attempt.
    pub(crate) fn fault(&self, step: StepIndex, direction: Direction, attempt: u32) -> Option<Fault> {
        let of_direction = self.faults.iter().filter(|(of, on, _)| (*of, *on) == (step, direction));
        of_direction.map(|(.., fault)| *fault).find(|fault| fault.hits(attempt))
    }

    fn and(mut self, what: &str) -> Self {
        self.name = if self.name == CALM { what.to_owned() } else { format!("{}; {what}", self.name) };
        self
    }
}
