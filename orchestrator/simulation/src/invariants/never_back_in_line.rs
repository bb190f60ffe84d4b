//! Never back in line: a saga that has begun or was claimed is never queued again.

use super::{Held, Invariant, View, hold};
use crate::fact::Fact;
use crate::names::SagaNo;

#[derive(Default)]
pub(super) struct NeverBackInLine {
    accepted: Vec<SagaNo>,
}

impl Invariant for NeverBackInLine {
    fn see(&mut self, fact: &Fact, _world: &View<'_>) -> Held {
        let Fact::Admitted { saga, .. } = fact else { return Ok(()) };
        hold(!self.accepted.contains(saga), || format!("{saga} is queued again"))?;
        self.accepted.push(*saga);
        Ok(())
    }
}
