//! A decided call is not made: an instance makes no call that is over by its own log. It makes no call of a pivot that
//! is being withdrawn, unless the pivot has happened.

use matricula_engine::{CallStatus, Direction, Phase};

use super::{Held, View, hold};
use crate::fact::Fact;

pub(super) fn see(fact: &Fact, world: &View<'_>) -> Held {
    let Fact::CallMade { instance, of, .. } = fact else { return Ok(()) };
    // The log may have grown since the instance was declared dead.
    let Some(seen) = world.witness.saga(of.saga).filter(|seen| seen.owner == *instance) else { return Ok(()) };
    let step = &seen.state.steps()[of.step.get()];
    let status = step.call(of.direction).status;
    // The answer that the pivot has happened may not be written yet: then the pivot is due again.
    let is_pivot = of.direction == Direction::Forward && of.step == world.table(of.saga).definition.pivot();
    let is_withdrawn = is_pivot && step.undo.status == CallStatus::Trying;
    let has_happened = || world.witness.effects(of.saga, of.step).done > 0;
    hold(!is_withdrawn || has_happened(), || format!("{instance} makes {of}, which is being withdrawn"))?;
    let may_be_due = matches!(status, CallStatus::NotStarted | CallStatus::Trying) || is_withdrawn;
    // The compensation of a step settles a late action, so an action may be made late.
    hold(may_be_due && seen.state.phase() != Phase::Abandoned, || {
        format!("{instance} makes {of}, which is {status:?} in a saga that is {}", seen.state.phase().as_str())
    })
}
