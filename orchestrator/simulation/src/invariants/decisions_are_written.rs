//! Decisions are written: a decision is in the log after 200 ms, even if nothing waits for it, unless the store takes
//! longer. Otherwise a crash would lose the answers of many calls.

use super::{Held, Invariant, View, hold};
use crate::fact::Fact;
use crate::names::{InstanceNo, SagaNo};

const UNWRITTEN_MAX_MS: i64 = 200;

/// A saga whose log was behind its memory when an operator looked.
struct Behind {
    instance: InstanceNo,
    saga: SagaNo,
    /// The last sequence in the log.
    written: u64,
    since_ms: i64,
}

#[derive(Default)]
pub(super) struct DecisionsAreWritten {
    behind: Vec<Behind>,
}

impl Invariant for DecisionsAreWritten {
    fn see(&mut self, fact: &Fact, world: &View<'_>) -> Held {
        let Fact::Looked { instance, looked } = fact else { return Ok(()) };
        let (instance, now_ms) = (*instance, world.now_ms);
        for (known, shown) in looked.known.sagas.iter().zip(&looked.sagas) {
            let decided = shown.view.as_ref().map_or(0, |view| view.state.sequence());
            let is_it = |behind: &&Behind| {
                (behind.instance, behind.saga, behind.written) == (instance, known.saga, known.sequence)
            };
            let before = self.behind.iter().find(is_it).map(|behind| behind.since_ms);
            if decided == known.sequence {
                continue;
            }
            let Some(since_ms) = before else {
                let (saga, written) = (known.saga, known.sequence);
                self.behind.push(Behind { instance, saga, written, since_ms: now_ms });
                continue;
            };
            let may_be_behind = looked.known.is_writing || looked.known.is_stopping || known.is_refused;
            hold(may_be_behind || now_ms < since_ms + UNWRITTEN_MAX_MS, || {
                let ago_ms = now_ms - since_ms;
                format!("{instance} has decided {decided} of {} {ago_ms} ms ago, and nothing is written", known.saga)
            })?;
        }
        Ok(())
    }
}
