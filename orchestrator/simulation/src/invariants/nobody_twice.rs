//! Nobody twice: each idempotency key has one registration, and each (student, section) has one enrollment in force.

use super::{Held, View, hold};
use crate::fact::Fact;

pub(super) fn see(fact: &Fact, world: &View<'_>) -> Held {
    match fact {
        Fact::Admitted { saga, .. } => {
            let key = |saga| (world.request(saga).student, world.request(saga).key);
            let mut others = world.witness.sagas().filter(|(other, _)| other != saga);
            let twin = others.find(|(other, _)| key(*other) == key(*saga));
            hold(twin.is_none(), || format!("{saga} has the key of another saga"))
        }
        Fact::Acknowledged { client, saga } => {
            let mut answers = world.clients.answers().skip(usize::from(*client));
            let Some((request, answered)) = answers.next() else { return Ok(()) };
            let same = answered.is_none_or(|answered| answered == *saga);
            hold(same && world.request(*saga) == request, || {
                format!("{client} is answered {saga}, which is not its own ({answered:?})")
            })
        }
        Fact::Done { of } if world.table(of.saga).official() == Some(of.step) => {
            let student = world.request(of.saga).student;
            let entries = &world.participants.ledgers.enrollments.entries;
            let of_student = |section| {
                let official = entries.iter().filter(|entry| entry.student == student && !entry.pending);
                official.filter(|entry| entry.section == section).count()
            };
            let is_judged = |section| !world.is_left_manually(student, section);
            let mut adds = world.request(of.saga).adds.iter();
            let twice = adds.find(|section| of_student(**section) > 1 && is_judged(**section));
            hold(twice.is_none(), || format!("{student} is enrolled twice in {twice:?}"))
        }
        _ => Ok(()),
    }
}
