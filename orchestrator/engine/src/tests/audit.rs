//! The properties of every run that has ended, whatever happened in it.

use super::world::World;
use crate::*;

/// Panics with the history when the run broke a promise.
#[track_caller]
pub(super) fn audit(world: &World<'_>) {
    let broken = |promise: &str| panic!("{promise}:\n{}", world.history());
    let (def, state) = (world.def, &world.state);
    if SagaState::replay(def, &world.log).as_ref() != Ok(state) {
        broken("the log does not fold to the state");
    }
    if !state.phase().is_finished() || state.decided_at_ms().is_none() || world.finished == 0 {
        broken("it has not ended");
    }
    if world.decided.last() != Some(&state.outcome()) {
        broken("the outcome was not sent");
    }
    if state.needs_attention() {
        broken("an ended saga needs attention");
    }
    if state.phase() == Phase::Abandoned {
        // A saga that an operator gave up stays as it is. Its phase distinguishes it from the others.
        return;
    }
    let committed = state.phase() == Phase::Completed;
    if committed != (state.outcome() == Outcome::Committed) {
        broken("phase and outcome disagree");
    }
    let adopted = world.log.iter().any(|recorded| matches!(recorded.event, Event::Adopted { .. }));
    for ((index, step), progress) in def.indexed().zip(state.steps()) {
        let called = |direction| world.called.contains(&(index, direction));
        let (action, undo) = (progress.action.status, progress.undo.status);
        let unknown = action == CallStatus::NotStarted && undo != CallStatus::Done;
        if called(Direction::Forward) && (!progress.applies || unknown) {
            broken("a call left that the state does not know of");
        }
        let is_asked = step.kind == Kind::Pivot && step.undo.is_some();
        if committed
            && (called(Direction::Compensation) && !is_asked || progress.applies != (action == CallStatus::Done))
        {
            broken("committed, and something undone or left out");
        }
        let is_started = action != CallStatus::NotStarted;
        let undone = match step.kind {
            Kind::Compensatable if action == CallStatus::Refused => false,
            Kind::Compensatable => is_started || adopted && progress.applies,
            _ => {
                let is_unanswered = adopted && !is_started || action == CallStatus::Trying;
                is_asked && (is_unanswered || progress.is_refused_manually)
            }
        };
        if !committed && undone != (undo == CallStatus::Done) {
            broken("undone is not what may have been done");
        }
        if !committed && step.kind == Kind::Pivot && action == CallStatus::Done {
            broken("undone after the pivot");
        }
        if !committed && step.kind == Kind::Retriable && called(Direction::Forward) {
            broken("a step after the pivot ran in a compensating saga");
        }
        let successes = world.log.iter().filter(|recorded| match &recorded.event {
            Event::Succeeded { step: name, direction: Direction::Forward, .. } => name == step.name,
            Event::Intervened { intervention: Intervention::Resolve { step: name, .. }, .. } => name == step.name,
            _ => false,
        });
        if step.kind == Kind::Finalizer && successes.count() != usize::from(progress.applies) {
            broken("a finalizer is done exactly once");
        }
    }
    audit_order(world);
}

/// Actions succeed in order of stages, undos in reverse.
fn audit_order(world: &World<'_>) {
    for direction in [Direction::Forward, Direction::Compensation] {
        let stages = world.log.iter().filter_map(|recorded| match &recorded.event {
            Event::Succeeded { step, direction: of, .. } if *of == direction => {
                let index = world.def.index(step).unwrap();
                // A withdrawal on an operator's word holds up no other compensation.
                let is_late =
                    direction == Direction::Compensation && world.state.steps()[index.get()].is_withdrawn_manually;
                (!is_late).then(|| world.def.step(index).stage)
            }
            _ => None,
        });
        let mut stages: Vec<_> = stages.collect();
        if direction == Direction::Compensation {
            stages.reverse();
        }
        assert!(stages.is_sorted(), "out of order of stages:\n{}", world.history());
    }
}
