//! What of a saga's log is not durable yet, and what waits for it: one append is under way at a time.

use matricula_engine::{Effect, Recorded, SagaState};

use crate::clients::Asker;

/// What is to be done when something is durable.
#[derive(Default)]
pub(super) struct Waiting {
    pub effects: Vec<Effect>,
    pub replies: Vec<Asker>,
}

#[derive(Default)]
pub(super) struct Behind {
    sent: Option<(SagaState, Waiting)>,
    next: Vec<Recorded>,
    waiting: Waiting,
}

impl Behind {
    /// Takes in a decision; what can be done at once, because all is durable.
    pub(super) fn decided(
        &mut self,
        events: Vec<Recorded>,
        effects: Vec<Effect>,
        reply: Option<Asker>,
    ) -> Option<Waiting> {
        let follows_sent = events.is_empty() && self.next.is_empty();
        let waiting = match &mut self.sent {
            None if follows_sent => return Some(Waiting { effects, replies: reply.into_iter().collect() }),
            Some((_, of_sent)) if follows_sent => of_sent,
            _ => &mut self.waiting,
        };
        waiting.effects.extend(effects);
        waiting.replies.extend(reply);
        self.next.extend(events);
        None
    }

    /// What is to be appended now; nothing while an append is under way.
    pub(super) fn send(&mut self, state: &SagaState) -> Option<Vec<Recorded>> {
        if self.next.is_empty() || self.sent.is_some() {
            return None;
        }
        self.sent = Some((state.clone(), std::mem::take(&mut self.waiting)));
        Some(std::mem::take(&mut self.next))
    }

    /// The state as the log has it now, and what can be done.
    pub(super) fn appended(&mut self) -> Option<(SagaState, Waiting)> {
        self.sent.take()
    }
}
