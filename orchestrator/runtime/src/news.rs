//! Delivers the changes of each step to watchers, other instances, logs and metrics.
//!
//! A [`Watcher`] gets the state of its saga after every persisted change, without a query of its own. For a saga that
//! this instance drives, each state comes from the core. All other watched sagas are followed by one task: it queries
//! with one statement which of them have changed, and reads only these. After a crash, thousands of clients wait for
//! sagas that are still to be adopted. One query for each watch would take the capacity of the database that the
//! adoption needs.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use matricula_core::{Change, Core, LineView, Moment, Notice, SagaId, Ticket};
use matricula_engine::SagaState;
use matricula_kit::database::DbError;
use matricula_kit::metrics::Metric;
use matricula_kit::telemetry;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::peers::Changes;
use crate::workflow::{Carried, Sagas};
use crate::{Runtime, Workload};

/// Time between two updates of the gauges, which are scraped every few seconds.
const GAUGES_PAUSE: Duration = Duration::from_millis(100);
/// Time between two updates of the line for portals, which send it once a second.
const LINE_PAUSE: Duration = Duration::from_millis(250);
/// Time between two queries for all watched sagas that this instance does not drive. It covers missed messages of other
/// instances, and sagas that no instance drives yet.
const OTHERS_PAUSE: Duration = Duration::from_secs(1);
/// Time between two reads of sagas that other instances have reported as changed, so that one read has many of them.
const READ_PAUSE: Duration = Duration::from_millis(20);
/// The most sagas in one statement.
const CHUNK: usize = 1_000;

impl<W: Workload> Runtime<W> {
    /// Delivers the changes and notices of one step.
    pub(crate) fn hand_on(&self, changes: Vec<Change<Arc<Carried<W::Request>>>>, notices: Vec<Notice>) {
        changes.into_iter().for_each(|change| self.change(change));
        notices.into_iter().for_each(|notice| self.notice(notice));
    }

    fn change(&self, change: Change<Arc<Carried<W::Request>>>) {
        match change {
            Change::Entered { saga, request, state } => {
                // It was already stored, so it comes from the line or from another instance: lists show a change.
                if request.unstored().is_empty() {
                    self.signals.changed_here(saga);
                }
                let state = state.into_inner();
                request.begin(state.definition().0, saga);
                self.watchers.send_driven(saga, state);
            }
            Change::HandedOver { saga } => self.watchers.handed_over(saga),
            Change::Advanced { saga, request, state, before, after } => {
                self.watchers.send_driven(saga, state.into_inner());
                if before.outcome != after.outcome {
                    metrics::counter!("matricula_sagas_decided_total", "outcome" => after.outcome).increment(1);
                    request.decided(after.outcome);
                }
                if before != after {
                    self.signals.changed_here(saga);
                }
            }
        }
    }

    fn notice(&self, notice: Notice) {
        match notice {
            Notice::Adopted { sagas } => tracing::info!(sagas, "adopted sagas of an instance that has ended"),
            // It is flagged and shown in lists, and all other sagas go on.
            Notice::LeftAlone { saga, reason } => tracing::error!(saga_id = %saga, %reason, "a saga is left alone"),
            Notice::LostOwnership { saga } => {
                tracing::warn!(saga_id = %saga, "the saga has another owner now; leaving it");
            }
            Notice::AppendRefused { saga, problem } => {
                tracing::error!(saga_id = %saga, problem, "the log of a saga can't be written");
            }
            Notice::TurnRefused { saga, problem } => {
                tracing::error!(
                    saga_id = %saga,
                    problem,
                    "the database refuses the claim of a saga; later sagas pass it, and it is tried again"
                );
            }
            Notice::ClaimRefused { sagas, problem } => {
                tracing::error!(sagas, problem, "the database refuses a claim of sagas; trying again with fewer");
            }
            Notice::AdmissionRefused { saga, problem } => {
                tracing::error!(saga_id = %saga, problem, "a submission can't be stored");
            }
            Notice::Ignored { saga, error } => tracing::debug!(saga_id = %saga, %error, "an input was ignored"),
            Notice::CallFailed { destination } => {
                metrics::counter!("matricula_call_failures_total", "destination" => destination).increment(1);
            }
            Notice::BreakerOpened { destination, error } => {
                tracing::warn!(destination, error, "the destination's breaker opened");
            }
            Notice::BreakerClosed { destination } => tracing::info!(destination, "the destination answers again"),
            Notice::DestinationChanged { .. } => self.signals.destinations.notify_one(),
            Notice::Finished { .. } => metrics::counter!("matricula_sagas_finished_total").increment(1),
        }
    }
}

/// The gauges and the line, which are updated after a step, but not after every step.
#[derive(Default)]
pub(crate) struct RegularNews {
    /// The earliest moment of the next update of the gauges.
    gauges_at: Moment,
    /// The earliest moment of the next update of the line.
    line_at: Moment,
}

impl RegularNews {
    /// Sets the gauges, and publishes the line for portals if it has changed. An update that comes too soon is skipped;
    /// then this returns when it is due.
    pub(crate) fn hand_on<W: Workload>(
        &mut self,
        now: Moment,
        core: &Core<Sagas<W>>,
        line: &watch::Sender<LineView>,
    ) -> Option<Moment> {
        let later = [self.gauges_at, self.line_at].into_iter().filter(|at| now < *at).min();
        if self.gauges_at <= now {
            self.gauges_at = now + GAUGES_PAUSE;
            set_gauges(now, core);
        }
        if self.line_at <= now {
            self.line_at = now + LINE_PAUSE;
            publish(line, core.line(now));
        }
        later
    }
}

fn set_gauges<W: Workload>(now: Moment, core: &Core<Sagas<W>>) {
    let line = core.line(now);
    metrics::gauge!("matricula_sagas_in_memory").set(core.in_memory() as f64);
    metrics::gauge!("matricula_sagas_queued").set((line.last.0 - line.served.0) as f64);
    metrics::gauge!("matricula_sagas_parked").set(core.parked() as f64);
    metrics::gauge!("matricula_log_writes_waiting").set(core.writes_waiting() as f64);
    for of in core.destinations(now) {
        metrics::gauge!("matricula_calls_waiting", "destination" => of.name).set(of.waiting as f64);
        metrics::gauge!("matricula_calls_oldest_seconds", "destination" => of.name).set(of.longest_wait.as_secs_f64());
        metrics::gauge!("matricula_calls_in_flight", "destination" => of.name).set(of.in_flight as f64);
    }
}

/// Publishes a value if it has changed.
pub(crate) fn publish<T: PartialEq>(to: &watch::Sender<T>, value: T) {
    to.send_if_modified(|published| {
        let is_changed = *published != value;
        *published = value;
        is_changed
    });
}

/// The last durable state of a saga; `None` before the first one since the watch began.
pub type Progress = Option<Arc<SagaState>>;

/// All watches of a process.
#[derive(Clone, Default)]
pub(crate) struct Watchers {
    sagas: Arc<Mutex<HashMap<SagaId, Watched>>>,
}

struct Watched {
    progress: watch::Sender<Progress>,
    /// Whether this process drives it: then its states come from the core, without a query.
    driven_here: bool,
    /// Its ticket while it waits in line. Until its turn it is not queried.
    in_line: Option<Ticket>,
    /// How many watchers it has. It is counted under the lock, and not by the receivers of the channel: if two watchers
    /// ended at the same moment, each would count the other's receiver, and neither would remove the entry.
    watchers: usize,
}

/// One watch of one saga.
pub struct Watcher {
    saga: SagaId,
    progress: watch::Receiver<Progress>,
    watchers: Watchers,
}

impl Watcher {
    /// The saga that is watched.
    pub fn saga(&self) -> SagaId {
        self.saga
    }

    /// The saga waits in line: it is not queried until its turn comes, or an instance reports that it has changed.
    pub fn waits_in_line(&self, ticket: Ticket) {
        if let Some(watched) = self.watchers.lock().get_mut(&self.saga) {
            watched.in_line = Some(ticket);
        }
    }

    /// Waits for the next change and returns the state after it. Changes in quick succession may come as one. Without a
    /// further change it never returns, so callers need a timeout.
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
    /// Begins a watch, which gets all later changes.
    pub(crate) fn watch(&self, saga: SagaId) -> Watcher {
        let mut sagas = self.lock();
        let unwatched =
            || Watched { progress: watch::Sender::new(None), driven_here: false, in_line: None, watchers: 0 };
        let watched = sagas.entry(saga).or_insert_with(unwatched);
        watched.watchers += 1;
        Watcher { saga, progress: watched.progress.subscribe(), watchers: self.clone() }
    }

    /// Sends the state of a saga that this process drives to its watchers.
    pub(crate) fn send_driven(&self, saga: SagaId, state: Arc<SagaState>) {
        if let Some(watched) = self.lock().get_mut(&saga) {
            watched.driven_here = true;
            watched.progress.send_replace(Some(state));
        }
    }

    /// This process does not drive the saga any more: from now on its watchers get the states that are read.
    pub(crate) fn handed_over(&self, saga: SagaId) {
        if let Some(watched) = self.lock().get_mut(&saga) {
            watched.driven_here = false;
        }
    }

    /// Sends a state that was read from the database to the watchers of a saga, if it is newer.
    pub(crate) fn send_read(&self, saga: SagaId, state: Arc<SagaState>) {
        if let Some(watched) = self.lock().get(&saga) {
            let is_newer_than = |known: &SagaState| known.sequence() < state.sequence();
            if !watched.driven_here && watched.progress.borrow().as_deref().is_none_or(is_newer_than) {
                watched.progress.send_replace(Some(state));
            }
        }
    }

    /// The watched sagas that this process does not drive, each with its last known sequence, or 0. Only those in
    /// `named`; or, without it, all except those that still wait in line after the ticket `served`.
    fn of_others(&self, named: Option<&HashSet<SagaId>>, served: Ticket) -> Vec<(SagaId, u64)> {
        let sagas = self.lock();
        let known = |saga: &SagaId, watched: &Watched| {
            let sequence = || watched.progress.borrow().as_ref().map_or(0, |state| state.sequence());
            (!watched.driven_here).then(|| (*saga, sequence()))
        };
        match named {
            Some(named) => named.iter().filter_map(|saga| known(saga, sagas.get(saga)?)).collect(),
            None => {
                let may_move = |watched: &Watched| watched.in_line.is_none_or(|ticket| ticket <= served);
                let moving = sagas.iter().filter(|(_, watched)| may_move(watched));
                moving.filter_map(|(saga, watched)| known(saga, watched)).collect()
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SagaId, Watched>> {
        self.sagas.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl<W: Workload> Runtime<W> {
    /// Follows the watched sagas of other instances.
    pub(crate) async fn follow_others(self: Arc<Self>) {
        let mut changed = Changes::of(&self.signals.elsewhere);
        let (mut look_at, mut read_at) = (Instant::now() + OTHERS_PAUSE, Instant::now());
        loop {
            let first = tokio::time::timeout_at(look_at, changed.next()).await;
            tokio::time::sleep_until(read_at).await;
            read_at = Instant::now() + READ_PAUSE;
            // All sagas that have been reported by now; none: any saga may have changed.
            let named = first.map(|first| changed.gathered(first).into_iter().collect::<Option<HashSet<_>>>());
            let served = self.line.borrow().served;
            let watched = self.watchers.of_others(named.as_ref().ok().and_then(Option::as_ref), served);
            if let Err(error) = self.read_watched(&watched).await {
                tracing::warn!(error = telemetry::chain(&error), "sagas that are waited for could not be read");
            }
            if named.is_err() {
                look_at = Instant::now() + OTHERS_PAUSE;
            }
        }
    }

    /// Reads those of these sagas that have more events than the known ones, and sends their states to the watchers.
    async fn read_watched(&self, known: &[(SagaId, u64)]) -> Result<(), DbError> {
        for chunk in known.chunks(CHUNK) {
            for row in self.store.changed(chunk).await? {
                if let Ok(state) = self.replayed(&row) {
                    self.watchers.send_read(row.id, Arc::new(state));
                }
            }
        }
        Ok(())
    }
}

/// The metrics of an orchestrator.
pub const METRICS: [Metric; 27] = [
    Metric::histogram(
        "matricula_acceptance_seconds",
        "Time from a submission to its durable acceptance, in this process",
    ),
    Metric::counter(
        "matricula_submissions_turned_away_total",
        "Submissions rejected because of a bound: queue, quota or door",
    ),
    Metric::gauge("matricula_sagas_in_memory", "Sagas that this instance drives"),
    Metric::gauge("matricula_sagas_queued", "Accepted sagas that wait in line, of all instances"),
    Metric::gauge(
        "matricula_sagas_parked",
        "Sagas that had their turn and hold no place at work, because they wait for a service or another saga",
    ),
    Metric::counter("matricula_sagas_decided_total", "Sagas that have an outcome, by outcome"),
    Metric::counter("matricula_sagas_finished_total", "Sagas of which nothing is left to do"),
    Metric::gauge("matricula_calls_waiting", "Calls that wait for a service"),
    Metric::gauge("matricula_calls_oldest_seconds", "How long the oldest waiting call of a service has waited"),
    Metric::gauge("matricula_calls_in_flight", "RPCs in flight to a service"),
    Metric::counter("matricula_call_failures_total", "RPCs to a service without an answer"),
    Metric::histogram("matricula_call_seconds", "Time of an RPC to a service"),
    Metric::histogram("matricula_call_operations", "Operations in an RPC to a service"),
    Metric::gauge(
        "matricula_destination_needs_attention",
        "1 while a service has not answered for longer than it may, otherwise 0",
    ),
    Metric::gauge("matricula_destination_sagas_waiting", "Sagas that wait for a service that needs attention"),
    Metric::gauge(
        "matricula_destination_sagas_behind",
        "Sagas that wait for a saga that waits for a service that needs attention",
    ),
    Metric::gauge(
        "matricula_log_writes_waiting",
        "Admissions and appends that wait for the next commit of the saga log",
    ),
    Metric::histogram("matricula_log_commit_seconds", "Time of a commit of the saga log"),
    Metric::histogram("matricula_log_commit_operations", "Admissions and appends in a commit of the saga log"),
    Metric::counter("matricula_log_commit_failures_total", "Commits of the saga log that failed and were tried again"),
    Metric::counter("matricula_replica_failures_total", "Lists that the replica could not answer"),
    Metric::gauge("matricula_log_sagas", "Sagas in the saga log"),
    Metric::counter("matricula_sagas_archived_total", "Finished sagas moved from the saga log to the archive"),
    Metric::gauge("matricula_retention_oldest_seconds", "Age of the oldest finished saga in the saga log"),
    Metric::counter("matricula_retention_failures_total", "Failed searches for finished sagas to archive"),
    Metric::gauge(
        "matricula_retention_unreadable",
        "Finished sagas that stay in the saga log because they can't be read",
    ),
    Metric::histogram("matricula_retention_chunk_seconds", "Time to archive one chunk of finished sagas"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sagas_in_line_are_not_queried_before_their_turn() {
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
    fn the_last_watcher_removes_the_entry() {
        let watchers = Watchers::default();
        let saga = SagaId::from_u128(1);
        let (one, two) = (watchers.watch(saga), watchers.watch(saga));
        let ended = [std::thread::spawn(move || drop(one)), std::thread::spawn(move || drop(two))];
        ended.into_iter().for_each(|thread| thread.join().expect("a drop does not panic"));
        assert!(watchers.lock().is_empty());
    }
}
