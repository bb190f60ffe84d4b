//! A fenced core does nothing more: it answers no later input, and it sends nothing.

use super::{Held, View, hold};
use crate::fact::Fact;

pub(super) fn see(fact: &Fact, _world: &View<'_>) -> Held {
    let Fact::Fenced { instance, is_answered, has_sent } = fact else { return Ok(()) };
    hold(!is_answered, || format!("{instance} was fenced, and answers a question after that"))?;
    hold(!has_sent, || format!("{instance} was fenced, and sends a commit or a call after that"))
}
