//! Queued sagas have no owner: while a saga is in line, no instance owns it, makes calls for it, or writes to its log.

use super::{Held, View, hold};
use crate::fact::Fact;
use crate::names::{InstanceNo, SagaNo};

pub(super) fn see(fact: &Fact, world: &View<'_>) -> Held {
    let (saga, instance, what): (SagaNo, InstanceNo, _) = match fact {
        Fact::Appended { saga, instance, .. } => (*saga, *instance, "writes to"),
        Fact::Adopted { saga, instance } => (*saga, *instance, "adopts"),
        Fact::CallMade { instance, of, .. } => (of.saga, *instance, "calls a service for"),
        _ => return Ok(()),
    };
    let is_queued = world.witness.saga(saga).is_some_and(|seen| seen.is_queued);
    hold(!is_queued, || format!("{instance} {what} {saga}, which is in line"))
}
