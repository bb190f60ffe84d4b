//! One truth: a section is enrolled exactly if it is on the academic record, has a seat and is charged.

use super::{Held, Invariant, View, hold};
use crate::fact::Fact;
use crate::names::SagaNo;
use crate::participants::{Entry, Ledger};
use crate::shapes::Does;

pub(super) struct OneTruth;

impl Invariant for OneTruth {
    fn see(&mut self, fact: &Fact, world: &View<'_>) -> Held {
        match fact {
            Fact::Appended { saga, .. } => of_finished(*saga, world),
            _ => Ok(()),
        }
    }

    fn end(&mut self, world: &View<'_>) -> Held {
        let is_judged = |entry: &&Entry| !world.is_left_manually(entry.student, entry.section);
        let enrollments = &world.participants.ledgers.enrollments;
        for (name, ledger) in kept(world) {
            let unsettled = |entry: &&Entry| entry.pending || entry.dropping.is_some();
            if let Some(entry) = ledger.entries.iter().filter(is_judged).find(unsettled) {
                return Err(format!("{name}: an entry of {} in {} is not settled", entry.student, entry.section));
            }
            for entry in enrollments.entries.iter().filter(is_judged) {
                hold(has(ledger, entry), || {
                    format!("{} is enrolled in {} and not in the {name}", entry.student, entry.section)
                })?;
            }
            let count = |ledger: &Ledger| ledger.entries.iter().filter(is_judged).count();
            hold(count(ledger) == count(enrollments), || format!("the {name} has what is not enrolled"))?;
        }
        Ok(())
    }
}

/// The adds of a saga that has just finished are in all ledgers alike, its drops in none.
fn of_finished(saga: SagaNo, world: &View<'_>) -> Held {
    let Some(seen) = world.witness.saga(saga) else { return Ok(()) };
    if seen.state.phase() != matricula_engine::Phase::Completed || seen.is_decided_manually() {
        return Ok(());
    }
    let request = world.request(saga);
    for &section in &request.adds {
        if world.is_being_dropped(request, section) {
            continue;
        }
        let entry = Entry { student: request.student, section, saga, pending: false, dropping: None };
        let enrolled = has(&world.participants.ledgers.enrollments, &entry);
        for (name, ledger) in kept(world) {
            hold(has(ledger, &entry) == enrolled, || {
                format!("{saga} is finished: enrolled in {section}: {enrolled}, in the {name}: {}", !enrolled)
            })?;
        }
    }
    for (name, ledger) in kept(world) {
        let marked = ledger.entries.iter().any(|entry| entry.dropping == Some(saga));
        hold(!marked, || format!("{saga} is finished, and what it drops is still in the {name}"))?;
    }
    Ok(())
}

fn has(ledger: &Ledger, wanted: &Entry) -> bool {
    let key = |entry: &Entry| (entry.student, entry.section, entry.saga);
    ledger.entries.iter().any(|entry| key(entry) == key(wanted))
}

/// The ledgers that the sagas of this shape keep.
fn kept<'a>(world: &View<'a>) -> impl Iterator<Item = (&'static str, &'a Ledger)> {
    let does = [&[Does::Reserve][..], &[Does::Hold], &[Does::Create, Does::Enroll], &[Does::Assess]];
    let ledgers = world.participants.ledgers.named();
    let shape = world.shape;
    let kept = ledgers.into_iter().zip(does).filter(move |(_, does)| does.iter().any(|does| shape.has(*does)));
    kept.map(|(named, _)| named)
}
