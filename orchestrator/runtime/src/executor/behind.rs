//! What of a saga's log is not durable yet, and what waits for it.
//!
//! ```text
//! decided --> next: events, and what waits for them --send--> sent: on its way to the log --appended--> acted on
//! ```
//!
//! Promises: one append of a saga is under way at a time; what waits is acted on when all that was decided before it is
//! durable; what nothing waits for is written soon all the same, so that operators see it, and a crash costs few calls.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use matricula_engine::{Effect, Recorded, SagaState};
use matricula_kit::id::SagaId;
use tokio::time::Instant;

use super::Reply;
use crate::store::Summary;

/// How long events that nothing waits for stay unwritten: long enough that most sagas come to their outcome meanwhile, and
/// one append tells all; short for somebody who looks.
const UNWRITTEN_MAX: Duration = Duration::from_millis(200);

/// What is to be done when something is durable.
#[derive(Default)]
pub(super) struct Waiting {
    pub effects: Vec<Effect>,
    pub replies: Vec<Reply>,
}

impl Waiting {
    fn extend(&mut self, effects: Vec<Effect>, reply: Option<Reply>) {
        self.effects.extend(effects);
        self.replies.extend(reply);
    }

    fn is_empty(&self) -> bool {
        self.effects.is_empty() && self.replies.is_empty()
    }
}

/// What has become durable.
pub(super) struct Durable {
    pub waiting: Waiting,
    /// The state as it is in the log now; the saga's may be ahead of it.
    pub state: Arc<SagaState>,
    /// How lists showed the saga before.
    pub before: Summary,
}

/// What follows.
pub(super) enum Due {
    /// All is durable: do this.
    Now(Waiting),
    /// Something waits for what is unwritten.
    Write,
    /// There is something unwritten that nothing waits for.
    Later,
    Nothing,
}

/// One saga's part of the log that is on its way.
pub(super) struct Behind {
    /// How lists show the saga, by the log.
    shown: Summary,
    sent: Option<Durable>,
    next: Vec<Recorded>,
    waiting: Waiting,
    is_noted: bool,
}

impl Behind {
    /// Of a saga whose log is durable.
    pub(super) fn new(state: &SagaState) -> Self {
        Self { shown: Summary::of(state), sent: None, next: Vec::new(), waiting: Waiting::default(), is_noted: false }
    }

    /// Takes in a decision, but for what goes ahead of the log.
    pub(super) fn decided(
        &mut self,
        events: Vec<Recorded>,
        effects: Vec<Effect>,
        reply: Option<Reply>,
        state: &SagaState,
    ) -> Due {
        if events.is_empty() && self.next.is_empty() {
            let mut waiting = Waiting::default();
            let of_sent = self.sent.as_mut().map(|sent| &mut sent.waiting);
            return match of_sent {
                // It follows from what is on its way.
                Some(of_sent) => {
                    of_sent.extend(effects, reply);
                    Due::Nothing
                }
                None => {
                    waiting.extend(effects, reply);
                    Due::Now(waiting)
                }
            };
        }
        self.next.extend(events);
        self.waiting.extend(effects, reply);
        self.due(state)
    }

    fn due(&mut self, state: &SagaState) -> Due {
        if self.next.is_empty() || self.sent.is_some() {
            Due::Nothing
        } else if !self.waiting.is_empty() || Summary::of(state) != self.shown {
            Due::Write
        } else if std::mem::replace(&mut self.is_noted, true) {
            Due::Nothing
        } else {
            Due::Later
        }
    }

    /// What is to be appended now, with the state after it; nothing while an append is under way.
    pub(super) fn send(&mut self, state: &Arc<SagaState>) -> Option<(Vec<Recorded>, Summary)> {
        self.is_noted = false;
        if self.next.is_empty() || self.sent.is_some() {
            return None;
        }
        let waiting = std::mem::take(&mut self.waiting);
        let summary = Summary::of(state);
        self.sent = Some(Durable { waiting, state: state.clone(), before: self.shown });
        Some((std::mem::take(&mut self.next), summary))
    }

    /// What was sent is durable: what can be done now, and what follows of what was decided meanwhile.
    pub(super) fn appended(&mut self, state: &SagaState) -> Option<(Durable, Due)> {
        let durable = self.sent.take()?;
        self.shown = Summary::of(&durable.state);
        let due = self.due(state);
        Some((durable, due))
    }
}

/// Sagas with events that nothing waits for, in the order in which they are to be written.
#[derive(Default)]
pub(super) struct Overdue {
    sagas: VecDeque<(Instant, SagaId)>,
}

impl Overdue {
    pub(super) fn push(&mut self, saga: SagaId) {
        self.sagas.push_back((Instant::now() + UNWRITTEN_MAX, saga));
    }

    /// The next one whose time has come; waits for it. May be dropped at any time.
    pub(super) async fn next(&mut self) -> SagaId {
        match self.sagas.front() {
            Some((at, _)) => tokio::time::sleep_until(*at).await,
            None => std::future::pending().await,
        }
        match self.sagas.pop_front() {
            Some((_, saga)) => saga,
            None => std::future::pending().await,
        }
    }

    pub(super) fn take_all(&mut self) -> Vec<SagaId> {
        self.sagas.drain(..).map(|(_, saga)| saga).collect()
    }
}
