//! Every durable log folds under its definition: it has no gaps, and an order that the engine's table allows.

use super::{Held, Invariant, View};
use crate::fact::Fact;

pub(super) struct LogFolds;

impl Invariant for LogFolds {
    fn name(&self) -> &'static str {
        "the log folds"
    }

    fn see(&mut self, _fact: &Fact, world: &View<'_>) -> Held {
        world.witness.unfoldable.clone().map_or(Ok(()), Err)
    }
}
