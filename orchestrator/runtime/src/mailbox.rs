//! The way to the core: inputs and queries, in one channel to the task that owns it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use matricula_core::{Core, Input, Moment};
use matricula_kit::time::UnixMs;
use tokio::sync::{mpsc, oneshot};

use crate::Workload;
use crate::workflow::Sagas;

/// A message to the owner of the core.
pub(crate) enum Message<W: Workload> {
    /// Something has happened.
    Input(Input<Sagas<W>>),
    /// An operator or a client wants to see something. It runs after the inputs that came with it.
    Query(Query<W>),
}

/// The owner's end of the channel.
pub(crate) type Messages<W> = mpsc::UnboundedReceiver<Message<W>>;

/// A question to the core, which replies by itself.
pub(crate) type Query<W> = Box<dyn FnOnce(&mut Core<Sagas<W>>, Moment) + Send>;

/// A sender of messages to the core.
pub(crate) struct Mailbox<W: Workload>(mpsc::UnboundedSender<Message<W>>);

impl<W: Workload> Clone for Mailbox<W> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<W: Workload> Mailbox<W> {
    /// A new channel. It has no bound of its own: each sender waits for its answer before it sends again, the
    /// submissions of a server are as many as its requests, and the core answers those beyond its bounds at once.
    pub(crate) fn new() -> (Self, Messages<W>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Sends an input. When the core has ended, the input is dropped, and with it the sender of its reply.
    pub(crate) fn input(&self, input: Input<Sagas<W>>) {
        drop(self.0.send(Message::Input(input)));
    }

    /// Has the core answer a question; `None` when it has ended.
    pub(crate) async fn query<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Core<Sagas<W>>, Moment) -> T + Send + 'static,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        let query: Query<W> = Box::new(move |core, now| drop(reply.send(question(core, now))));
        self.0.send(Message::Query(query)).ok()?;
        answer.await.ok()
    }
}

/// The moments of this process, and the database's clock as the core reckons it.
#[derive(Clone)]
pub(crate) struct Clock {
    started: Instant,
    /// The database's clock is ahead of the moments by so many milliseconds.
    ahead_ms: Arc<AtomicI64>,
}

impl Clock {
    /// Starts to count moments. The database's clock is not known yet.
    pub(crate) fn start() -> Self {
        Self { started: Instant::now(), ahead_ms: Arc::default() }
    }

    /// The moment now.
    pub(crate) fn moment(&self) -> Moment {
        self.started.elapsed()
    }

    /// Waits until a moment; for ever where there is none.
    pub(crate) async fn sleep_until(&self, moment: Option<Moment>) {
        match moment {
            Some(moment) => tokio::time::sleep_until((self.started + moment).into()).await,
            None => std::future::pending().await,
        }
    }

    /// The time by the database's clock.
    pub(crate) fn now(&self) -> UnixMs {
        UnixMs(self.ahead_ms.load(Ordering::Relaxed).saturating_add(in_ms(self.moment())))
    }

    /// Takes over how the core reckons.
    pub(crate) fn set(&self, moment: Moment, database_ms: i64) {
        self.ahead_ms.store(database_ms.saturating_sub(in_ms(moment)), Ordering::Relaxed);
    }
}

fn in_ms(moment: Moment) -> i64 {
    i64::try_from(moment.as_millis()).unwrap_or(i64::MAX)
}
