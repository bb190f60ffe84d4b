//! A fenced instance is silent: after an instance is marked `dead`, no admission, claim, adoption or append of it
//! becomes durable. And at any time only the owner of a saga appends to it.

use super::{Held, View, hold};
use crate::fact::Fact;

pub(super) fn see(fact: &Fact, world: &View<'_>) -> Held {
    let (saga, instance) = match fact {
        Fact::Admitted { saga, instance, .. }
        | Fact::Claimed { saga, instance, .. }
        | Fact::Adopted { saga, instance } => (saga, instance),
        Fact::Appended { saga, instance, .. } => {
            let owner = world.witness.saga(*saga).map(|seen| seen.owner);
            hold(owner == Some(*instance), || format!("{instance} appends to {saga} of {owner:?}"))?;
            (saga, instance)
        }
        _ => return Ok(()),
    };
    hold(!world.witness.life(*instance).marked, || format!("{instance} is dead and writes {saga}"))
}
