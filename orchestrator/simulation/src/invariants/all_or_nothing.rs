//! All or nothing: the sections of one registration share one outcome.

use matricula_engine::Phase;

use super::{Held, View, hold};
use crate::fact::Fact;
use crate::names::SagaNo;

pub(super) fn see(fact: &Fact, world: &View<'_>) -> Held {
    match fact {
        Fact::Done { of } if world.is_decided_manually(of.saga) => Ok(()),
        Fact::Done { of } if world.table(of.saga).official() == Some(of.step) => whole(of.saga, world),
        Fact::Appended { saga, .. } if !world.is_decided_manually(*saga) => nothing(*saga, world),
        _ => Ok(()),
    }
}

/// When the pivot is done, every add is official and every drop has ended.
fn whole(saga: SagaNo, world: &View<'_>) -> Held {
    let enrollments = &world.participants.ledgers.enrollments;
    let official = enrollments.of_saga(saga).filter(|entry| !entry.pending).count();
    let adds = world.request(saga).adds.len();
    hold(official == adds, || format!("{saga} is committed with {official} of its {adds} adds"))?;
    let marked = enrollments.entries.iter().any(|entry| entry.dropping == Some(saga));
    hold(!marked, || format!("{saga} is committed, and a section that it drops is still enrolled"))
}

/// When a saga that has compensated is finished, none is.
fn nothing(saga: SagaNo, world: &View<'_>) -> Held {
    let Some(seen) = world.witness.saga(saga).filter(|seen| seen.state.phase() == Phase::Compensated) else {
        return Ok(());
    };
    for (name, ledger) in world.participants.ledgers.named() {
        let left = ledger.of_saga(saga).count() + ledger.entries.iter().filter(|e| e.dropping == Some(saga)).count();
        let outcome = seen.state.outcome().as_str();
        hold(left == 0, || format!("{saga} is {outcome}, and the {name} has {left} entries of it"))?;
    }
    Ok(())
}
