//! No way back. Once the pivot is done, nothing is undone. Once the saga has started its compensation, the pivot is not
//! done, unless its withdrawal is not answered yet. Steps after the pivot are not done before it. While the pivot is
//! being withdrawn, no other compensation is called.

use matricula_engine::{CallStatus, Direction, Kind, Outcome, SagaState};

use super::{Held, View, hold};
use crate::fact::Fact;
use crate::names::CallId;

pub(super) fn see(fact: &Fact, world: &View<'_>) -> Held {
    if let Fact::CallMade { of, .. } = fact {
        return waits_for_the_pivot(*of, world);
    }
    let (Fact::Done { of } | Fact::Undone { of }) = fact else { return Ok(()) };
    if world.is_decided_manually(of.saga) {
        return Ok(());
    }
    let committed = || world.witness.effects(of.saga, world.table(of.saga).definition.pivot()).done > 0;
    let state = world.witness.saga(of.saga).map(|seen| &seen.state);
    if matches!(fact, Fact::Undone { .. }) {
        return hold(!committed(), || format!("{of} is done, and the pivot is done too"));
    }
    match world.table(of.saga).definition.step(of.step).kind {
        Kind::Compensatable => Ok(()),
        Kind::Pivot => {
            let is_asked = |state: &SagaState| state.steps()[of.step.get()].undo.status == CallStatus::Trying;
            let is_compensating = state.is_none_or(|state| state.cause().is_some() && !is_asked(state));
            hold(!is_compensating, || format!("{of}, the pivot, is done, and the saga has started its compensation"))
        }
        Kind::Retriable => hold(committed(), || format!("{of} is done before the pivot")),
        Kind::Finalizer => {
            let decided = state.is_some_and(|state| state.outcome() != Outcome::Pending);
            hold(decided, || format!("{of} is done before the outcome stands"))
        }
    }
}

/// A compensation is called only when the withdrawal of the pivot is answered, or when an operator has decided instead.
fn waits_for_the_pivot(of: CallId, world: &View<'_>) -> Held {
    let pivot = world.table(of.saga).definition.pivot();
    if of.direction == Direction::Forward || of.step == pivot || world.is_decided_manually(of.saga) {
        return Ok(());
    }
    let Some(seen) = world.witness.saga(of.saga) else { return Ok(()) };
    hold(seen.state.steps()[pivot.get()].undo.status != CallStatus::Trying, || {
        format!("{of} is called, and whether the pivot has happened is not answered")
    })
}
