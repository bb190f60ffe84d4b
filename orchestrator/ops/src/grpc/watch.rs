//! Sagas as they change: first all that are unfinished, then each that moves.
//!
//! ```text
//! unfinished, page by page ──► client          again, when word of a move may have been missed
//! moved ──ids──► pending ──read set-wise──► client
//! ```
//!
//! Promises: asks the database only for what has moved; keeps a bounded number of ids, however slow the client is, and
//! lists all that are unfinished again where it may have missed one; an end that was missed is told then, too.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use futures::stream::{self, Stream};
use matricula_kit::database::DbError;
use matricula_proto::ops::v1 as ops;
use matricula_registration::StoredRegistration;
use matricula_runtime::{Outage, SagaId, SagaRow, Workload as _};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::shutting_down;
use crate::{Orchestrator, waits, wire};

/// Sagas that are read at once: with their logs they are some hundred kilobytes.
const READ_MAX: usize = 200;
/// Ids of sagas that the client was told of and that are not over. Beyond it, the end of the oldest of them is told
/// only when word of it comes, not when that was missed.
const OPEN_MAX: usize = 10_000;
/// Ids of sagas that have moved and wait to be read. Beyond it all that are unfinished are listed again. Twice the
/// other bound, so that reading again what is open leaves room for what moves meanwhile.
const PENDING_MAX: usize = 2 * OPEN_MAX;

/// The stream, until the shutdown.
pub(super) fn sagas(
    runtime: Arc<Orchestrator>,
    needs_attention: bool,
    shutdown: CancellationToken,
) -> impl Stream<Item = Result<ops::WatchSagasResponse, Status>> {
    // The watch begins before the list, so that no change falls between the two.
    let (moved, mut outages) = (runtime.moved(), runtime.watch_outages());
    outages.mark_changed();
    let watch = Watch {
        runtime,
        moved,
        outages,
        known_outages: Vec::new(),
        needs_attention,
        list: List::After(None),
        has_missed: false,
        pending: BTreeSet::new(),
        open: BTreeSet::new(),
        told: VecDeque::new(),
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
    moved: Receiver<Option<SagaId>>,
    outages: watch::Receiver<Arc<Vec<Outage>>>,
    /// The services that the client knows to need attention.
    known_outages: Vec<Outage>,
    /// Whether the client wants only those that need attention, or did when it was last told of them.
    needs_attention: bool,
    list: List,
    /// Whether word of a move may have been missed since that list began.
    has_missed: bool,
    /// Moved, and not read since.
    pending: BTreeSet<SagaId>,
    /// The client knows them as unfinished, or as needing attention where it wants only these.
    open: BTreeSet<SagaId>,
    /// Read, and not sent yet.
    told: VecDeque<ops::WatchSagasResponse>,
}

/// How far the list of the unfinished has come.
#[derive(Debug, Clone, PartialEq, Eq)]
enum List {
    After(Option<SagaId>),
    Complete,
}

impl Watch {
    /// The next saga or service to tell of.
    async fn next(&mut self) -> Result<ops::WatchSagasResponse, DbError> {
        loop {
            if self.needs_attention && self.outages.has_changed().unwrap_or_default() {
                self.take_outages();
            }
            if let Some(saga) = self.told.pop_front() {
                return Ok(saga);
            }
            self.gather();
            if let List::After(after) = self.list.clone() {
                self.list_on(after).await?;
            } else if self.has_missed {
                self.list_again();
            } else if self.pending.is_empty() {
                tokio::select! {
                    moved = self.moved.recv() => match moved {
                        Ok(moved) => self.note(moved),
                        Err(RecvError::Lagged(_)) => self.note(None),
                        // The sender is held by the runtime, which this watch holds.
                        Err(RecvError::Closed) => std::future::pending().await,
                    },
                    Ok(()) = self.outages.changed(), if self.needs_attention => self.outages.mark_changed(),
                }
            } else {
                self.read_pending().await?;
            }
        }
    }

    /// Takes in all that has been told by now.
    fn gather(&mut self) {
        loop {
            match self.moved.try_recv() {
                Ok(moved) => self.note(moved),
                Err(TryRecvError::Lagged(_)) => self.note(None),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    /// Takes in that a saga has moved; none: any may have.
    fn note(&mut self, moved: Option<SagaId>) {
        match moved {
            Some(saga) if self.pending.len() < PENDING_MAX => drop(self.pending.insert(saga)),
            _ => self.has_missed = true,
        }
    }

    /// Has those services told that begin to need attention, and those that do no more.
    fn take_outages(&mut self) {
        let now = self.outages.borrow_and_update().clone();
        let is_same =
            |one: &Outage, other: &Outage| (&one.instance, &one.destination) == (&other.instance, &other.destination);
        let is_in = |outages: &[Outage], one: &Outage| outages.iter().any(|other| is_same(one, other));
        let ended = self.known_outages.iter().filter(|outage| !is_in(&now, outage));
        let ended = ended.map(|outage| ops::Destination { needs_attention: false, ..wire::outage(outage) });
        let begun = now.iter().filter(|outage| !is_in(&self.known_outages, outage)).map(wire::outage);
        let changes = ended.chain(begun);
        let told = changes.map(|change| ops::WatchSagasResponse { summary: None, destination: Some(change) });
        self.told.extend(told);
        self.known_outages = now.to_vec();
    }

    /// Begins the list anew. A saga that the client takes for unfinished may have ended, so that it is not in the list.
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

    /// Has those sagas told that the client wants.
    async fn take(&mut self, rows: Vec<SagaRow>) -> Result<(), DbError> {
        let definitions = self.runtime.workload().definitions();
        let mut stored: Vec<_> = rows.into_iter().map(|row| StoredRegistration::read(definitions, row)).collect();
        stored.retain(|one| is_wanted(&mut self.open, self.needs_attention, one));
        let told = waits::summaries(&self.runtime, &stored).await?.into_iter();
        self.told.extend(told.map(|summary| ops::WatchSagasResponse { summary: Some(summary), destination: None }));
        Ok(())
    }
}

/// Whether a client is told of a saga. `open` has what the client takes for unfinished, and is kept up to date.
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
