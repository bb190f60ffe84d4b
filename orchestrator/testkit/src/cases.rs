//! Makes the cases of a shape: the faults that every saga must survive, one by one, in pairs, and with a crash at every
//! boundary of the log.

use std::collections::BTreeSet;

use futures::FutureExt as _;
use matricula_engine::{Code, Direction, Event, Kind, Outcome, Recorded, StepIndex, Verdict, delay_ms};

use crate::case::{Again, Case, Crash, Fault, Moment, OperatorDecision};
use crate::driver::{JITTER, run};
use crate::shape::Shape;
use crate::simulated::Simulated;
use crate::world::World as _;

const LOST: Fault = Fault::AnswerLost { attempts: 1 };
const FAILING: Fault = Fault::Failing { code: Code::Unavailable, attempts: 1 };
const LOST_FOR_EVER: Fault = Fault::AnswerLost { attempts: u32::MAX };
const FAILING_FOR_EVER: Fault = Fault::Failing { code: Code::Unavailable, attempts: u32::MAX };

/// Every case except those with a crash.
pub fn without_crash(shape: &Shape) -> Vec<Case> {
    let families = [basic, failures, lost_answers, repeats, late, withdrawn, pairs, everything_again, codes, operators];
    families.into_iter().flat_map(|family| family(shape)).collect()
}

/// No fault, each refusal, a cancel at each step, and each refusal of a call that may not refuse.
pub fn basic(shape: &Shape) -> Vec<Case> {
    let refused = actions(shape).filter(|step| may_refuse(shape, *step));
    let refused = refused.map(|step| Case::calm().with(shape, step, Direction::Forward, Fault::Refused));
    let cancelled = actions(shape).map(|step| Case::calm().cancelled_at(shape, step));
    let misread = actions(shape).filter(|step| !may_refuse(shape, *step));
    let misread = misread.map(|step| Case::calm().with(shape, step, Direction::Forward, Fault::Misread));
    [Case::calm()]
        .into_iter()
        .chain(refused)
        .chain(cancelled)
        .chain(misread)
        .chain(of_undos(shape, Fault::Misread))
        .collect()
}

/// Each call fails until it needs attention, then succeeds. Each action that can be undone fails for ever. The pivot
/// fails, or its answers are lost, until long after the deadline: this starts a compensation only if the pivot can be
/// withdrawn, and the withdrawal succeeds only if the pivot never arrived.
pub fn failures(shape: &Shape) -> Vec<Case> {
    let pivot = actions(shape).filter(|step| shape.definition().step(*step).kind == Kind::Pivot);
    let late_pivot = pivot.flat_map(|step| {
        let attempts = attempts_past_deadline(shape, step);
        let failing = Fault::Failing { code: Code::Unavailable, attempts };
        let failing = if shape.definition().is_pivot_withdrawable() { FAILING_FOR_EVER } else { failing };
        let faults = [failing, Fault::AnswerLost { attempts }];
        faults.map(|fault| Case::calm().with(shape, step, Direction::Forward, fault))
    });
    let failing = of_each(shape, |step| until_attention(shape, step));
    failing.chain(of_compensatable(shape, FAILING_FOR_EVER)).chain(late_pivot).collect()
}

/// Each call takes effect while its caller receives an error, once. The same for each action that can be undone, for
/// ever.
pub fn lost_answers(shape: &Shape) -> Vec<Case> {
    of_each(shape, |_| LOST).chain(of_compensatable(shape, LOST_FOR_EVER)).collect()
}

/// Each call is delivered three times.
pub fn repeats(shape: &Shape) -> Vec<Case> {
    of_each(shape, |_| Fault::Repeated { times: 3 }).collect()
}

/// The first attempt of each call arrives after the end of the saga: after a second attempt, or, if the action was
/// cancelled meanwhile, after its undo.
pub fn late(shape: &Shape) -> Vec<Case> {
    of_each(shape, |_| Fault::Late).chain(cancelled_while_late(shape)).collect()
}

/// A cancel while a withdrawable pivot is called and not answered. The cancel is in time if the pivot arrives after the
/// end or never, and too late if it has arrived. The withdrawal succeeds, is repeated, fails, loses its answer, or
/// arrives again after the end.
pub fn withdrawn(shape: &Shape) -> Vec<Case> {
    let pivot = shape.definition().pivot();
    if !shape.definition().is_pivot_withdrawable() {
        return Vec::new();
    }
    let calls = [Some(Fault::Late), Some(FAILING_FOR_EVER), None];
    let withdrawals = [FAILING, LOST, Fault::Repeated { times: 3 }, Fault::Late, until_attention(shape, pivot)];
    let mut cases = Vec::new();
    for call in calls {
        let called = call.map_or_else(Case::calm, |fault| Case::calm().with(shape, pivot, Direction::Forward, fault));
        let cancelled = called.cancelled_at(shape, pivot);
        let failing = withdrawals.map(|fault| cancelled.clone().with(shape, pivot, Direction::Compensation, fault));
        // Without any fault it is one of the basic cases.
        cases.extend(call.is_some().then_some(cancelled).into_iter().chain(failing));
    }
    cases
}

/// For each pair of steps of one stage: each of the two is refused, fails or loses its answer. The same for their
/// undos.
pub fn pairs(shape: &Shape) -> Vec<Case> {
    let mut cases = Vec::new();
    for direction in [Direction::Forward, Direction::Compensation] {
        let of_direction: Vec<StepIndex> =
            directions(shape).filter(|(_, of)| *of == direction).map(|(step, _)| step).collect();
        for (place, &first) in of_direction.iter().enumerate() {
            let stage = |step: StepIndex| shape.definition().step(step).stage;
            for &second in of_direction[place + 1..].iter().filter(|step| stage(**step) == stage(first)) {
                for (one, other) in faults(shape, first, direction)
                    .flat_map(|one| faults(shape, second, direction).map(move |other| (one, other)))
                {
                    cases.push(
                        case_for(shape, direction)
                            .with(shape, first, direction, one)
                            .with(shape, second, direction, other),
                    );
                }
            }
        }
    }
    cases
}

/// All calls are delivered once more after the end, in order or reversed.
pub fn everything_again(shape: &Shape) -> Vec<Case> {
    let bases = basic(shape).into_iter().chain(cancelled_while_late(shape));
    bases.flat_map(|base| [Again::InOrder, Again::Reversed].map(|again| base.clone().with_again(again))).collect()
}

/// Each of gRPC's codes, once on each call.
pub fn codes(shape: &Shape) -> Vec<Case> {
    let failing = |code| Fault::Failing { code, attempts: 1 };
    directions(shape)
        .flat_map(|(step, direction)| {
            Code::ALL.map(|code| case_for(shape, direction).with(shape, step, direction, failing(code)))
        })
        .collect()
}

/// An operator's allowed commands about each call that needs attention: all of them after the pivot and for undos, and
/// only a resolve for the pivot.
pub fn operators(shape: &Shape) -> Vec<Case> {
    use OperatorDecision::{Abandoned, ResolvedAsDone, ResolvedAsRefused, Retried, Skipped};
    let mut cases = Vec::new();
    for (step, direction) in directions(shape) {
        let failing = until_attention(shape, step);
        let decided: &[(Fault, OperatorDecision)] = match (direction, shape.definition().step(step).kind) {
            (Direction::Forward, Kind::Compensatable) => &[(failing, Retried)],
            (Direction::Forward, Kind::Pivot) => {
                &[(failing, Retried), (FAILING_FOR_EVER, ResolvedAsRefused), (LOST_FOR_EVER, ResolvedAsDone)]
            }
            _ => &[
                (failing, Retried),
                (FAILING_FOR_EVER, Skipped),
                (LOST_FOR_EVER, Skipped),
                (FAILING_FOR_EVER, ResolvedAsDone),
                (LOST_FOR_EVER, ResolvedAsDone),
                (FAILING_FOR_EVER, Abandoned),
                (LOST_FOR_EVER, Abandoned),
            ],
        };
        let base = case_for(shape, direction);
        let case = |(fault, decision): &(Fault, OperatorDecision)| {
            base.clone().with(shape, step, direction, *fault).decided_by_operator(step, direction, *decision)
        };
        cases.extend(decided.iter().map(case));
    }
    cases
}

/// A process with an incomplete log dies after each event up to that of the pivot, and a client cancels the saga at the
/// instance that adopts it. This is too late if the pivot had been called. The withdrawal, which finds this out, may be
/// repeated, fail or lose its answer.
pub fn cancelled_behind(shape: &Shape) -> Vec<Case> {
    let pivot = shape.definition().pivot();
    let name = shape.definition().step(pivot).name;
    let log = simulate(shape, &Case::calm());
    let is_its_answer = |recorded: &Recorded| recorded.event.attempt().is_some_and(|attempt| attempt.step == name);
    let Some(answered) = log.iter().position(is_its_answer) else { return Vec::new() };
    let behind =
        |case: Case, known: usize| case.cancelled_behind(known, &title(&log[known - 1].event), known == answered);
    let plain = (1..=answered).map(|known| behind(Case::calm(), known));
    let faults = [FAILING, LOST, Fault::Repeated { times: 3 }, Fault::Late, until_attention(shape, pivot)];
    let asked = faults.into_iter().filter(|_| shape.definition().step(pivot).undo.is_some());
    let asked = asked.flat_map(|fault| {
        let case = Case::calm().with(shape, pivot, Direction::Compensation, fault);
        BTreeSet::from([1, answered]).into_iter().map(move |known| (case.clone(), known))
    });
    plain.chain(asked.map(|(case, known)| behind(case, known))).collect()
}

/// The cases that are combined with crashes. Cases that repeat an ending or wait for a deadline are left out, because
/// their logs only extend those of other cases.
pub fn for_crashes(shape: &Shape) -> Vec<Case> {
    let families = [basic, lost_answers, late, withdrawn, pairs];
    let cases = families.into_iter().flat_map(|family| family(shape));
    cases.filter(|case| case.outcome() != Outcome::TimedOut).collect()
}

/// Each of these cases with a crash after each event of its log, at each moment.
pub fn crashes(shape: &Shape, of: impl IntoIterator<Item = Case>) -> Vec<Case> {
    let mut cases = Vec::new();
    for base in of {
        for (place, recorded) in simulate(shape, &base).iter().enumerate() {
            let title = title(&recorded.event);
            let crash = |moment| base.clone().with_crash(Crash { after_event: place + 1, moment }, &title);
            cases.extend(Moment::ALL.map(crash));
        }
    }
    cases
}

/// The log of a case with simulated participants.
fn simulate(shape: &Shape, case: &Case) -> Vec<Recorded> {
    let world = Simulated::new(shape.clone());
    let running = async {
        let subject = world.prepare(std::slice::from_ref(case)).await.remove(0);
        run(&world, case.clone(), subject).await.log
    };
    running.now_or_never().expect("simulated participants answer at once")
}

fn actions(shape: &Shape) -> impl Iterator<Item = StepIndex> {
    shape.steps().map(|(index, _)| index)
}

fn directions(shape: &Shape) -> impl Iterator<Item = (StepIndex, Direction)> {
    let undos = shape.compensatable().map(|step| (step, Direction::Compensation));
    actions(shape).map(|step| (step, Direction::Forward)).chain(undos)
}

/// Fails until the call needs attention.
fn until_attention(shape: &Shape, step: StepIndex) -> Fault {
    let policy = shape.definition().step(step).retry;
    let attempts = (1..).find(|attempts| policy.is_exhausted(*attempts)).unwrap_or(1);
    Fault::Failing { code: Code::Unavailable, attempts }
}

/// How many attempts of a step can fail until the deadline of its saga has passed.
fn attempts_past_deadline(shape: &Shape, step: StepIndex) -> u32 {
    let policy = shape.definition().step(step).retry;
    let (mut attempts, mut waited_ms) = (0, 0);
    while waited_ms <= shape.definition().deadline_ms() {
        attempts += 1;
        let pace = if policy.is_exhausted(attempts) { Verdict::SlowRetry } else { Verdict::Retry };
        waited_ms += delay_ms(&policy, attempts, pace, None, JITTER);
    }
    attempts
}

fn may_refuse(shape: &Shape, step: StepIndex) -> bool {
    shape.definition().step(step).kind.may_refuse()
}

/// A case in which a fault of this direction can appear. For an undo, the saga is cancelled as late as possible.
fn case_for(shape: &Shape, direction: Direction) -> Case {
    match (direction, shape.compensatable().last()) {
        (Direction::Compensation, Some(last)) => Case::calm().cancelled_at(shape, last),
        _ => Case::calm(),
    }
}

/// A fault for each direction of each step.
fn of_each(shape: &Shape, fault: impl Fn(StepIndex) -> Fault) -> impl Iterator<Item = Case> {
    directions(shape).map(move |(step, direction)| case_for(shape, direction).with(shape, step, direction, fault(step)))
}

fn of_undos(shape: &Shape, fault: Fault) -> impl Iterator<Item = Case> {
    shape
        .compensatable()
        .map(move |step| case_for(shape, Direction::Compensation).with(shape, step, Direction::Compensation, fault))
}

fn of_compensatable(shape: &Shape, fault: Fault) -> impl Iterator<Item = Case> {
    shape.compensatable().map(move |step| Case::calm().with(shape, step, Direction::Forward, fault))
}

fn cancelled_while_late(shape: &Shape) -> impl Iterator<Item = Case> {
    of_compensatable(shape, Fault::Late).zip(shape.compensatable()).map(|(case, step)| case.cancelled_at(shape, step))
}

/// The faults of one step of a pair.
fn faults(shape: &Shape, step: StepIndex, direction: Direction) -> impl Iterator<Item = Fault> {
    let refused = (direction == Direction::Forward && may_refuse(shape, step)).then_some(Fault::Refused);
    [FAILING, LOST].into_iter().chain(refused)
}

/// An event in a word or two.
fn title(event: &Event) -> String {
    let title = |step: &str, direction: Direction, end: &str| match direction {
        Direction::Forward => format!("{step} {end}"),
        Direction::Compensation => format!("undo of {step} {end}"),
    };
    match event {
        Event::Succeeded { step, direction, .. } => title(step, *direction, "done"),
        Event::Failed { step, direction, .. } => title(step, *direction, "failed"),
        Event::Refused { step, .. } => title(step, Direction::Forward, "refused"),
        other => other.name().to_owned(),
    }
}
