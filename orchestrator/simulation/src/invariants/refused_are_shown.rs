//! Refused sagas are shown: when the store refuses the log of a saga, the instance flags the saga at once as needing
//! attention.

use super::{Held, View, hold};
use crate::fact::Fact;

pub(super) fn see(fact: &Fact, _world: &View<'_>) -> Held {
    let Fact::RowRefused { instance, saga, is_shown } = fact else { return Ok(()) };
    hold(*is_shown, || format!("{instance} can't write the log of {saga}, and shows it to nobody"))
}
