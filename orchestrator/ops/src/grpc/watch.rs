//! A watch of sagas: first all unfinished ones, then each that changes.
//!
//! ```text
//! unfinished, page by page ──► client          again, when the message about a change may have been missed
//! changed ──ids──► pending ──read set-wise──► client
//! ```
//!
//! Promises: the watch reads only changed sagas from the database. It keeps a bounded number of ids, however slow the
//! client is. When it may have missed a change, it lists the unfinished sagas again; the client also gets an end that
//! was missed.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use futures::stream::{self, Stream};
use matricula_kit::database::DbError;
use matricula_proto::ops::v1 as ops;
use matricula_registration::StoredRegistration;
use matricula_runtime::{Changed, Changes, Outage, SagaId, SagaRow};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::shutting_down;
use crate::{Orchestrator, waits, wire};

/// Sagas that are read at once: some hundred kilobytes with their logs.
const READ_MAX: usize = 200;
/// Ids of unfinished sagas that the client has. Beyond it the client does not get the end of the oldest of them, if the
/// message about it is missed.
const OPEN_MAX: usize = 10_000;
/// Ids of changed sagas that wait to be read. Beyond it the unfinished sagas are listed again. Twice the other bound,
/// so that all of `open` and the changes meanwhile fit.
const PENDING_MAX: usize = 2 * OPEN_MAX;

/// The stream, until the shutdown.
pub(super) fn sagas(
    runtime: Arc<Orchestrator>,
    needs_attention: bool,
    shutdown: CancellationToken,
) -> impl Stream<Item = Result<ops::WatchSagasResponse, Status>> {
    // The watch begins before the list, so that no change falls between the two.
    let (changed, mut outages) = (runtime.moved(), runtime.watch_outages());
    outages.mark_changed();
    let watch = Watch {
        runtime,
        changed,
        outages,
        sent_outages: Vec::new(),
        needs_attention,
        list: List::After(None),
        has_missed: false,
        pending: BTreeSet::new(),
        open: BTreeSet::new(),
        to_send: VecDeque::new(),
    };
    stream::try_unfold(watch, move |mut watch| {
        let shutdown = shutdown.clone();
        async move {
            let next = shutdown.run_until_cancelled(watch.next()).await.ok_or_else(shutting_down)??;
            Ok(Some((next, watch)))
        }
    })
}

struct Watch {
    runtime: Arc<Orchestrator>,
    changed: Changes,
    outages: watch::Receiver<Arc<Vec<Outage>>>,
    /// The outages that the client has.
    sent_outages: Vec<Outage>,
    /// Whether the client wants only sagas that need attention, or needed it in the message before.
    needs_attention: bool,
    list: List,
    /// Whether the message about a change may have been missed since that list began.
    has_missed: bool,
    /// Sagas that have changed since they were read.
    pending: BTreeSet<SagaId>,
    /// Sagas whose last message to the client said unfinished, or needing attention if the client wants only these.
    open: BTreeSet<SagaId>,
    /// Messages that are not sent yet.
    to_send: VecDeque<ops::WatchSagasResponse>,
}

/// The progress of the list of unfinished sagas.
#[derive(Debug, Clone, PartialEq, Eq)]
enum List {
    After(Option<SagaId>),
    Complete,
}

impl Watch {
    /// The next message.
    async fn next(&mut self) -> Result<ops::WatchSagasResponse, DbError> {
        loop {
            if self.needs_attention && self.outages.has_changed().unwrap_or_default() {
                self.take_outages();
            }
            if let Some(message) = self.to_send.pop_front() {
                return Ok(message);
            }
            while let Some(changed) = self.changed.arrived() {
                self.note(changed);
            }
            if let List::After(after) = self.list.clone() {
                self.list_on(after).await?;
            } else if self.has_missed {
                self.list_again();
            } else if self.pending.is_empty() {
                tokio::select! {
                    changed = self.changed.next() => self.note(changed),
                    Ok(()) = self.outages.changed(), if self.needs_attention => self.outages.mark_changed(),
                }
            } else {
                self.read_pending().await?;
            }
        }
    }

    /// Notes that a saga has changed. `None` means that messages were missed, so any saga may have changed.
    fn note(&mut self, changed: Changed) {
        match changed {
            Some(saga) if self.pending.len() < PENDING_MAX => drop(self.pending.insert(saga)),
            _ => self.has_missed = true,
        }
    }

    /// Queues messages about the services that begin to need attention, and about those that need it no more.
    fn take_outages(&mut self) {
        let now = self.outages.borrow_and_update().clone();
        let is_same =
            |one: &Outage, other: &Outage| (&one.instance, &one.destination) == (&other.instance, &other.destination);
        let is_in = |outages: &[Outage], one: &Outage| outages.iter().any(|other| is_same(one, other));
        let ended = self.sent_outages.iter().filter(|outage| !is_in(&now, outage));
        let ended = ended.map(|outage| ops::Destination { needs_attention: false, ..wire::outage(outage) });
        let begun = now.iter().filter(|outage| !is_in(&self.sent_outages, outage)).map(wire::outage);
        let message = |change| ops::WatchSagasResponse { summary: None, destination: Some(change) };
        self.to_send.extend(ended.chain(begun).map(message));
        self.sent_outages = now.to_vec();
    }

    /// Begins the list anew. A saga that the client has as unfinished may have ended and be missing in the list, so
    /// these sagas are read, too.
    fn list_again(&mut self) {
        self.has_missed = false;
        self.list = List::After(None);
        self.pending.extend(self.open.iter());
    }

    async fn list_on(&mut self, after: Option<SagaId>) -> Result<(), DbError> {
        let rows = self.runtime.store().unfinished(after, READ_MAX as i64).await?;
        self.list = match rows.last() {
            Some(last) if rows.len() == READ_MAX => List::After(Some(last.id)),
            _ => List::Complete,
        };
        for row in &rows {
            self.pending.remove(&row.id);
        }
        self.take(rows).await
    }

    async fn read_pending(&mut self) -> Result<(), DbError> {
        let ids = std::iter::from_fn(|| self.pending.pop_first()).take(READ_MAX).collect();
        let rows = self.runtime.store().get_many(ids).await?;
        self.take(rows).await
    }

    /// Queues messages about the sagas that the client wants.
    async fn take(&mut self, rows: Vec<SagaRow>) -> Result<(), DbError> {
        let mut stored: Vec<_> = rows.into_iter().map(|row| self.runtime.workload().read(row)).collect();
        stored.retain(|one| is_wanted(&mut self.open, self.needs_attention, one));
        let summaries = waits::summaries(&self.runtime, &stored).await?.into_iter();
        let message = |summary| ops::WatchSagasResponse { summary: Some(summary), destination: None };
        self.to_send.extend(summaries.map(message));
        Ok(())
    }
}

/// Whether a client gets a saga. `open` has the sagas that the client has as unfinished, and is kept up to date.
fn is_wanted(open: &mut BTreeSet<SagaId>, needs_attention: bool, stored: &StoredRegistration) -> bool {
    let id = stored.row.id;
    let is_open = if needs_attention { wire::needs_attention(stored) } else { !wire::is_finished(stored) };
    let was_open = open.remove(&id);
    if is_open {
        open.insert(id);
        if open.len() > OPEN_MAX {
            open.pop_first();
        }
    }
    is_open || was_open || !needs_attention
}
