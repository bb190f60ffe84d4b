//! Shutdowns are complete: an instance finishes its shutdown when all its calls and commits in flight have ended, and
//! not before.

use super::{Held, View, hold};
use crate::fact::Fact;

pub(super) fn see(fact: &Fact, _world: &View<'_>) -> Held {
    let Fact::EndsInOrder { instance, calls, has_commit } = fact else { return Ok(()) };
    hold(*calls == 0, || format!("{instance} is through with {calls} calls in flight"))?;
    hold(!has_commit, || format!("{instance} is through, and its commit has no answer"))
}
