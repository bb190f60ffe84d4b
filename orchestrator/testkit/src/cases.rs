//! Makes the cases of a shape: the faults that every saga must survive, one by one, in pairs, and with a crash at every
//! boundary of the log.

use std::collections::BTreeSet;

use futures::FutureExt as _;
use matricula_engine::{Code, Event, Kind, Leg, Outcome, Recorded, StepIndex, Verdict, delay_ms};

use crate::case::{Again, Case, Crash, Fault, Moment, Steering};
use crate::driver::{JITTER, run};
use crate::shape::Shape;
use crate::simulated::Simulated;
use crate::world::World as _;

const LOST: Fault = Fault::AnswerLost { attempts: 1 };
const FAILING: Fault = Fault::Failing { code: Code::Unavailable, attempts: 1 };
const LOST_FOR_EVER: Fault = Fault::AnswerLost { attempts: u32::MAX };
const FAILING_FOR_EVER: Fault = Fault::Failing { code: Code::Unavailable, attempts: u32::MAX };

/// Every case but those with a crash.
pub fn without_crash(shape: &Shape) -> Vec<Case> {
    let families = [basic, failures, lost_answers, repeats, late, pairs, everything_again, codes, steered];
    families.into_iter().flat_map(|family| family(shape)).collect()
}

/// Nothing, each refusal, a cancel at each step, and each refusal heard where none may be.
pub fn basic(shape: &Shape) -> Vec<Case> {
    let refused = actions(shape).filter(|step| may_refuse(shape, *step));
    let refused = refused.map(|step| Case::calm().with(shape, step, Leg::Action, Fault::Refused));
    let cancelled = actions(shape).map(|step| Case::calm().cancelled_at(shape, step));
    let misread = actions(shape).filter(|step| !may_refuse(shape, *step));
    let misread = misread.map(|step| Case::calm().with(shape, step, Leg::Action, Fault::Misread));
    [Case::calm()]
        .into_iter()
        .chain(refused)
        .chain(cancelled)
        .chain(misread)
        .chain(of_undos(shape, Fault::Misread))
        .collect()
}

/// Each leg failing until a person must look, then well; each action that can be undone failing for ever; the pivot failing,
/// or done and its answer lost, until long after the deadline, which no longer turns the saga round.
pub fn failures(shape: &Shape) -> Vec<Case> {
    let legs = legs(shape);
    let legs = legs.map(|(step, leg)| turned_for(shape, leg).with(shape, step, leg, until_attention(shape, step)));
    let pivot = actions(shape).filter(|step| shape.definition().step(*step).kind == Kind::Pivot);
    let late_pivot = pivot.flat_map(|step| {
        let attempts = attempts_past_deadline(shape, step);
        let faults = [Fault::Failing { code: Code::Unavailable, attempts }, Fault::AnswerLost { attempts }];
        faults.map(|fault| Case::calm().with(shape, step, Leg::Action, fault))
    });
    legs.chain(of_compensatable(shape, FAILING_FOR_EVER)).chain(late_pivot).collect()
}

/// Each leg takes effect while its caller hears an error, once; each action that can be undone, for ever.
pub fn lost_answers(shape: &Shape) -> Vec<Case> {
    let legs = legs(shape).map(|(step, leg)| turned_for(shape, leg).with(shape, step, leg, LOST));
    legs.chain(of_compensatable(shape, LOST_FOR_EVER)).collect()
}

/// Each leg delivered three times.
pub fn repeats(shape: &Shape) -> Vec<Case> {
    let thrice = Fault::Repeated { times: 3 };
    legs(shape).map(|(step, leg)| turned_for(shape, leg).with(shape, step, leg, thrice)).collect()
}

/// The first attempt of each leg arriving when all is over: after a second attempt, and, of an action that was cancelled
/// meanwhile, after its undo.
pub fn late(shape: &Shape) -> Vec<Case> {
    let legs = legs(shape).map(|(step, leg)| turned_for(shape, leg).with(shape, step, leg, Fault::Late));
    legs.chain(cancelled_while_late(shape)).collect()
}

/// Each pair of steps of one stage, each of the two refused, failing or with its answer lost; their undos likewise.
pub fn pairs(shape: &Shape) -> Vec<Case> {
    let mut cases = Vec::new();
    for leg in [Leg::Action, Leg::Undo] {
        let of_leg: Vec<StepIndex> = legs(shape).filter(|(_, of)| *of == leg).map(|(step, _)| step).collect();
        for (place, &first) in of_leg.iter().enumerate() {
            let stage = |step: StepIndex| shape.definition().step(step).stage;
            for &second in of_leg[place + 1..].iter().filter(|step| stage(**step) == stage(first)) {
                for (one, other) in
                    faults(shape, first, leg).flat_map(|one| faults(shape, second, leg).map(move |other| (one, other)))
                {
                    cases.push(turned_for(shape, leg).with(shape, first, leg, one).with(shape, second, leg, other));
                }
            }
        }
    }
    cases
}

/// Everything that arrived arriving once more after the end, in order and reversed.
pub fn everything_again(shape: &Shape) -> Vec<Case> {
    let bases = basic(shape).into_iter().chain(cancelled_while_late(shape));
    bases.flat_map(|base| [Again::InOrder, Again::Reversed].map(|again| base.clone().with_again(again))).collect()
}

/// Each of gRPC's codes, once on each leg.
pub fn codes(shape: &Shape) -> Vec<Case> {
    let failing = |code| Fault::Failing { code, attempts: 1 };
    legs(shape)
        .flat_map(|(step, leg)| Code::ALL.map(|code| turned_for(shape, leg).with(shape, step, leg, failing(code))))
        .collect()
}

/// An operator's verbs about each leg that needs attention, where they are allowed: after the pivot and on undos all, about
/// the pivot only to find out what came of it.
pub fn steered(shape: &Shape) -> Vec<Case> {
    use Steering::{Abandoned, ResolvedAsDone, ResolvedAsRefused, Retried, Skipped};
    let mut cases = Vec::new();
    for (step, leg) in legs(shape) {
        let failing = until_attention(shape, step);
        let decided: &[(Fault, Steering)] = match (leg, shape.definition().step(step).kind) {
            (Leg::Action, Kind::Compensatable) => &[(failing, Retried)],
            (Leg::Action, Kind::Pivot) => {
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
        let base = turned_for(shape, leg);
        let case = |(fault, steering): &(Fault, Steering)| {
            base.clone().with(shape, step, leg, *fault).steered(step, leg, *steering)
        };
        cases.extend(decided.iter().map(case));
    }
    cases
}

/// A process dies whose log is behind, after each event up to the pivot's, and whoever adopts the saga is asked to cancel it.
/// That is too late where the pivot had been called. The question whether it had may be repeated, fail or lose its answer.
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
        let case = Case::calm().with(shape, pivot, Leg::Undo, fault);
        BTreeSet::from([1, answered]).into_iter().map(move |known| (case.clone(), known))
    });
    plain.chain(asked.map(|(case, known)| behind(case, known))).collect()
}

/// What is worth a crash everywhere: every case but those that repeat an ending or wait for a deadline, whose logs are
/// those of another case, only longer.
pub fn for_crashes(shape: &Shape) -> Vec<Case> {
    let families = [basic, lost_answers, late, pairs];
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

/// The log of a case that simulated participants are part of.
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

fn legs(shape: &Shape) -> impl Iterator<Item = (StepIndex, Leg)> {
    let undos = shape.compensatable().map(|step| (step, Leg::Undo));
    actions(shape).map(|step| (step, Leg::Action)).chain(undos)
}

/// Failing until a person must look.
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

/// Where a fault of this leg can show: an undo runs in a saga that was cancelled as late as it could be.
fn turned_for(shape: &Shape, leg: Leg) -> Case {
    match (leg, shape.compensatable().last()) {
        (Leg::Undo, Some(last)) => Case::calm().cancelled_at(shape, last),
        _ => Case::calm(),
    }
}

fn of_undos(shape: &Shape, fault: Fault) -> impl Iterator<Item = Case> {
    shape.compensatable().map(move |step| turned_for(shape, Leg::Undo).with(shape, step, Leg::Undo, fault))
}

fn of_compensatable(shape: &Shape, fault: Fault) -> impl Iterator<Item = Case> {
    shape.compensatable().map(move |step| Case::calm().with(shape, step, Leg::Action, fault))
}

fn cancelled_while_late(shape: &Shape) -> impl Iterator<Item = Case> {
    of_compensatable(shape, Fault::Late).zip(shape.compensatable()).map(|(case, step)| case.cancelled_at(shape, step))
}

/// What goes wrong with one of a pair.
fn faults(shape: &Shape, step: StepIndex, leg: Leg) -> impl Iterator<Item = Fault> {
    let refused = (leg == Leg::Action && may_refuse(shape, step)).then_some(Fault::Refused);
    [FAILING, LOST].into_iter().chain(refused)
}

/// An event in a word or two.
fn title(event: &Event) -> String {
    let title = |step: &str, leg: Leg, end: &str| match leg {
        Leg::Action => format!("{step} {end}"),
        Leg::Undo => format!("undo of {step} {end}"),
    };
    match event {
        Event::Succeeded { step, leg, .. } => title(step, *leg, "done"),
        Event::Failed { step, leg, .. } => title(step, *leg, "failed"),
        Event::Refused { step, .. } => title(step, Leg::Action, "refused"),
        other => other.name().to_owned(),
    }
}
