//! The watches of sagas: each gets the state of its saga after every persisted change, and none has to ask the
//! database.
//!
//! Of a saga that this instance drives, the core hands out each state. Sagas that another instance drives, or that no
//! instance drives yet, are followed by one task: after a crash, thousands of clients wait for sagas that are still to
//! be adopted. The task asks for all of them at once which have changed, and reads those alone. A reader for each watch
//! would take from the database just the capacity that the takeover needs.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use matricula_core::{SagaId, Ticket};
use matricula_engine::SagaState;
use matricula_kit::database::DbError;
use matricula_kit::telemetry;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use crate::peers::Changed;
use crate::{Runtime, Workload};

/// Time between two looks at all of them. Other instances send the sagas that they have changed. This is for missed
/// messages, and for sagas that no instance drives yet.
const PAUSE: Duration = Duration::from_secs(1);
/// Sagas that one statement asks for.
const CHUNK: usize = 1_000;

/// The last durable state of a saga; `None` before the first one since the watch began.
pub type Progress = Option<Arc<SagaState>>;

/// All watches of a process.
#[derive(Clone, Default)]
pub(crate) struct Watchers {
    sagas: Arc<Mutex<HashMap<SagaId, Watched>>>,
}

struct Watched {
    progress: watch::Sender<Progress>,
    /// Whether this process drives it: then nobody has to ask the database.
    driven_here: bool,
    /// Its place in line, where it waits there: before its turn nothing happens to it.
    in_line: Option<Ticket>,
    /// Counted here, under the lock: the receivers of two watches that end at the same moment would each count the
    /// other, and neither would clear up.
    watchers: usize,
}

/// One watch of one saga.
pub struct Watcher {
    saga: SagaId,
    progress: watch::Receiver<Progress>,
    watchers: Watchers,
}

impl Watcher {
    /// The saga waits in line: until its turn comes, or somebody says that it has changed, nobody looks after it.
    pub fn waits_in_line(&self, ticket: Ticket) {
        if let Some(watched) = self.watchers.lock().get_mut(&self.saga) {
            watched.in_line = Some(ticket);
        }
    }

    /// Waits for the next change and returns the state after it; changes that follow each other closely may come as
    /// one. Never returns when nothing changes any more, so callers bound the wait.
    pub async fn changed(&mut self) -> Arc<SagaState> {
        loop {
            if self.progress.changed().await.is_err() {
                // The sender lives as long as a watcher does.
                std::future::pending::<()>().await;
            }
            if let Some(state) = self.progress.borrow_and_update().clone() {
                return state;
            }
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut sagas = self.watchers.lock();
        let Some(watched) = sagas.get_mut(&self.saga) else { return };
        watched.watchers -= 1;
        if watched.watchers == 0 {
            sagas.remove(&self.saga);
        }
    }
}

impl Watchers {
    /// Begins a watch; changes from now on are seen.
    pub(crate) fn watch(&self, saga: SagaId) -> Watcher {
        let mut sagas = self.lock();
        let unwatched =
            || Watched { progress: watch::Sender::new(None), driven_here: false, in_line: None, watchers: 0 };
        let watched = sagas.entry(saga).or_insert_with(unwatched);
        watched.watchers += 1;
        Watcher { saga, progress: watched.progress.subscribe(), watchers: self.clone() }
    }

    /// Hands the state of a saga that this process drives to its watchers.
    pub(crate) fn tell(&self, saga: SagaId, state: Arc<SagaState>) {
        if let Some(watched) = self.lock().get_mut(&saga) {
            watched.driven_here = true;
            watched.progress.send_replace(Some(state));
        }
    }

    /// Another instance drives the saga from now on: its watchers get what is read of it, or they would wait for ever.
    pub(crate) fn given_away(&self, saga: SagaId) {
        if let Some(watched) = self.lock().get_mut(&saga) {
            watched.driven_here = false;
        }
    }

    /// Hands what was read of a saga that another instance drives to its watchers.
    pub(crate) fn tell_of_other(&self, saga: SagaId, state: Arc<SagaState>) {
        if let Some(watched) = self.lock().get(&saga) {
            let is_newer = |known: &SagaState| known.sequence() < state.sequence();
            if !watched.driven_here && watched.progress.borrow().as_deref().is_none_or(is_newer) {
                watched.progress.send_replace(Some(state));
            }
        }
    }

    /// The sagas that are watched here and not driven here, with the sequence that is known of each; 0 for none. Either
    /// those that are named, or all but those that wait in line behind the ticket that was served last.
    fn of_others(&self, named: Option<&HashSet<SagaId>>, served: Ticket) -> Vec<(SagaId, u64)> {
        let sagas = self.lock();
        let may_have_changed = |saga: &SagaId, watched: &Watched| match named {
            Some(named) => named.contains(saga),
            None => watched.in_line.is_none_or(|ticket| ticket <= served),
        };
        let others = sagas.iter().filter(|(saga, watched)| !watched.driven_here && may_have_changed(saga, watched));
        let known = |watched: &Watched| watched.progress.borrow().as_ref().map_or(0, |state| state.sequence());
        others.map(|(saga, watched)| (*saga, known(watched))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SagaId, Watched>> {
        self.sagas.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl<W: Workload> Runtime<W> {
    /// Follows the watched sagas of other instances.
    pub(crate) async fn follow_others(self: Arc<Self>) {
        let mut changed = self.signals.elsewhere.subscribe();
        let mut look_at = Instant::now() + PAUSE;
        loop {
            let first = tokio::time::timeout_at(look_at, next(&mut changed)).await;
            let named = first.map(|first| gather(first, &mut changed));
            let served = self.line.borrow().served;
            let watched = self.watchers.of_others(named.as_ref().ok().and_then(Option::as_ref), served);
            if let Err(error) = self.read_watched(&watched).await {
                tracing::warn!(error = telemetry::chain(&error), "sagas that are waited for could not be read");
            }
            if named.is_err() {
                look_at = Instant::now() + PAUSE;
            }
        }
    }

    /// Reads those of these sagas that have more events than is known, and hands their states out.
    async fn read_watched(&self, known: &[(SagaId, u64)]) -> Result<(), DbError> {
        for chunk in known.chunks(CHUNK) {
            for row in self.store.changed(chunk).await? {
                if let Ok(state) = self.replayed(&row) {
                    self.watchers.tell_of_other(row.id, Arc::new(state));
                }
            }
        }
        Ok(())
    }
}

/// The next saga that has changed; none: any may have.
async fn next(changed: &mut broadcast::Receiver<Changed>) -> Changed {
    match changed.recv().await {
        Ok(saga) => saga,
        Err(RecvError::Lagged(_)) => None,
        // The sender is held by the runtime, which this task does not outlive.
        Err(RecvError::Closed) => std::future::pending().await,
    }
}

/// All sagas that have been named by now; none: any may have changed.
fn gather(first: Changed, changed: &mut broadcast::Receiver<Changed>) -> Option<HashSet<SagaId>> {
    let mut named = first.map(|saga| HashSet::from([saga]));
    loop {
        match changed.try_recv() {
            Ok(Some(saga)) => {
                if let Some(named) = named.as_mut() {
                    named.insert(saga);
                }
            }
            Ok(None) | Err(TryRecvError::Lagged(_)) => named = None,
            Err(TryRecvError::Empty | TryRecvError::Closed) => return named,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_in_line_cost_nothing_before_their_turn() {
        let watchers = Watchers::default();
        let id = SagaId::from_u128;
        let watching: Vec<Watcher> = (1..=3).map(|number| watchers.watch(id(number))).collect();
        watching[0].waits_in_line(Ticket(5));
        watching[1].waits_in_line(Ticket(6));
        let looked_at = |named: Option<&HashSet<SagaId>>| {
            let mut sagas: Vec<SagaId> =
                watchers.of_others(named, Ticket(5)).into_iter().map(|(saga, _)| saga).collect();
            sagas.sort_unstable();
            sagas
        };
        assert_eq!(looked_at(None), [id(1), id(3)], "the turn of the second one has not come");
        assert_eq!(looked_at(Some(&HashSet::from([id(2)]))), [id(2)], "it was cancelled elsewhere");
    }

    #[test]
    fn watches_leave_nothing_behind() {
        let watchers = Watchers::default();
        let saga = SagaId::from_u128(1);
        let (one, two) = (watchers.watch(saga), watchers.watch(saga));
        let ended = [std::thread::spawn(move || drop(one)), std::thread::spawn(move || drop(two))];
        ended.into_iter().for_each(|thread| thread.join().expect("a drop does not panic"));
        assert!(watchers.lock().is_empty());
    }
}
