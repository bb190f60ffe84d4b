//! Nothing left behind: the effects of a finished saga are those that its outcome explains, and no later effect is
//! added. The withdrawable pivot of a compensated saga never happens, even if an operator has resolved it.

use matricula_engine::{Kind, Phase};

use super::{Held, Invariant, View, hold};
use crate::fact::Fact;
use crate::names::SagaNo;

pub(super) struct NothingLeftBehind;

impl Invariant for NothingLeftBehind {
    fn see(&mut self, fact: &Fact, world: &View<'_>) -> Held {
        match fact {
            Fact::Appended { saga, .. } => {
                let finished = world.witness.saga(*saga).is_some_and(|seen| seen.state.phase().is_finished());
                never_happens(*saga, world)?;
                if finished { explained(*saga, world) } else { Ok(()) }
            }
            Fact::Done { of } | Fact::Undone { of } => {
                let seen = world.witness.saga(of.saga);
                let may = seen.is_some_and(|seen| !seen.state.phase().is_finished() || seen.is_decided_manually());
                hold(may, || format!("{of} is done too late"))?;
                never_happens(of.saga, world)
            }
            _ => Ok(()),
        }
    }

    fn end(&mut self, world: &View<'_>) -> Held {
        world.witness.sagas().try_for_each(|(saga, _)| explained(saga, world))
    }
}

fn never_happens(saga: SagaNo, world: &View<'_>) -> Held {
    let definition = &world.table(saga).definition;
    let pivot = definition.pivot();
    let is_compensated = world.witness.saga(saga).is_some_and(|seen| seen.state.phase() == Phase::Compensated);
    let may_happen = !is_compensated || definition.step(pivot).undo.is_none();
    hold(may_happen || world.witness.effects(saga, pivot).done == 0, || {
        format!("{saga} has compensated, and its pivot has happened")
    })
}

fn explained(saga: SagaNo, world: &View<'_>) -> Held {
    let Some(seen) = world.witness.saga(saga).filter(|seen| !seen.is_decided_manually()) else { return Ok(()) };
    let committed = seen.state.phase() == Phase::Completed;
    for ((index, step), state) in world.table(saga).definition.indexed().zip(seen.state.steps()) {
        let effects = world.witness.effects(saga, index);
        let wanted = match step.kind {
            _ if !state.applies => 0,
            Kind::Finalizer => 1,
            _ => u32::from(committed),
        };
        let stands = effects.done.saturating_sub(effects.undone);
        hold(stands == wanted, || {
            let outcome = seen.state.outcome().as_str();
            format!("{saga} is {outcome}: {} stands {stands} times, not {wanted}", step.name)
        })?;
    }
    Ok(())
}
