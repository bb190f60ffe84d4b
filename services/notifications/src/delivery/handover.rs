//! Hands new messages from the writer that has recorded them to the dispatcher that delivers them.
//!
//! Promises: a message that finds no room, or comes too late, is delivered from the database when its claim lapses.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::domain::Message;

/// How long the claim of a message holds that is claimed when it is recorded. Its delivery and its report must fit
/// between the latest begin and the end of the claim.
pub const CLAIM_ON_INSERT_MS: i64 = 30_000;
/// How long after its claim the delivery of a message may begin. A later one is left to the process that claims it
/// next.
pub(crate) const HANDED_OVER_FOR: Duration = Duration::from_secs(10);
/// Messages that may wait for the dispatcher: what a second of a registration morning brings. What is beyond waits in
/// the database.
pub(crate) const HANDED_OVER_MAX: usize = 4_096;

/// Wakes the dispatcher, and hands new messages to it. When the last one is dropped, the dispatcher finishes what is
/// under way and ends.
#[derive(Clone)]
pub struct Waker {
    signal: mpsc::Sender<()>,
    messages: mpsc::Sender<HandedOver>,
}

/// The dispatcher's end of a [`Waker`].
pub struct Woken {
    signal: mpsc::Receiver<()>,
    messages: mpsc::Receiver<HandedOver>,
}

/// A message that was claimed when it was recorded.
struct HandedOver {
    message: Message,
    /// When it was claimed, which is before its commit.
    since: Instant,
}

impl Waker {
    /// A waker and its other end.
    pub fn new() -> (Self, Woken) {
        // One waiting signal says it all.
        let (signal, signalled) = mpsc::channel(1);
        let (messages, handed_over) = mpsc::channel(HANDED_OVER_MAX);
        (Self { signal, messages }, Woken { signal: signalled, messages: handed_over })
    }

    /// There is something to deliver.
    pub fn wake(&self) {
        // Full: the dispatcher will look anyway. Closed: it has ended.
        let _ = self.signal.try_send(());
    }

    /// Whether so many messages can be handed over.
    pub fn has_room_for(&self, messages: usize) -> bool {
        !self.messages.is_closed() && self.messages.capacity() >= messages
    }

    /// Hands over messages that are claimed since then. What finds no room is delivered when its claim lapses.
    pub fn hand_over(&self, messages: Vec<Message>, since: Instant) {
        for message in messages {
            let _ = self.messages.try_send(HandedOver { message, since });
        }
    }
}

impl Woken {
    /// Whether the last [`Waker`] is gone.
    pub fn is_over(&self) -> bool {
        self.signal.is_closed()
    }

    /// Waits until woken, or for the time given; not at all as long as something that was handed over is left.
    pub async fn wait(&mut self, time: Duration) {
        if !self.messages.is_empty() {
            return;
        }
        let _ = tokio::time::timeout(time, self.signal.recv()).await;
    }

    /// Waits for the time given, whatever is recorded meanwhile; not longer than until the end.
    pub async fn pause(&mut self, time: Duration) {
        let until = tokio::time::Instant::now() + time;
        while let Ok(Some(())) = tokio::time::timeout_at(until, self.signal.recv()).await {}
    }

    /// What was handed over, at most so many, and until when their deliveries may begin; without what is too late
    /// already.
    pub fn handed_over(&mut self, count_max: usize) -> (Vec<Message>, Option<Instant>) {
        let handed_over = std::iter::from_fn(|| self.messages.try_recv().ok()).take(count_max);
        let in_time = handed_over.filter(|handed_over| handed_over.since.elapsed() <= HANDED_OVER_FOR);
        let in_time: Vec<HandedOver> = in_time.collect();
        // In the order in which they were recorded: the first is the oldest.
        let begin_by = in_time.first().map(|oldest| oldest.since + HANDED_OVER_FOR);
        (in_time.into_iter().map(|handed_over| handed_over.message).collect(), begin_by)
    }
}
