//! What watchers, other instances, logs and metrics get: the news of each step of the core, its gauges, and the names
//! of all metrics of an orchestrator.

use std::sync::Arc;
use std::time::Duration;

use matricula_core::{Change, Core, LineView, Moment, Notice};
use matricula_kit::metrics::Metric;
use tokio::sync::watch;

use crate::workflow::{Carried, Sagas};
use crate::{Runtime, Workload};

/// Time between two settings of the gauges: what reads them comes once in some seconds.
const GAUGES_PAUSE: Duration = Duration::from_millis(100);
/// Time between two looks at the line for portals, which send it on once a second.
const LINE_PAUSE: Duration = Duration::from_millis(250);

impl<W: Workload> Runtime<W> {
    /// Hands on the news of one step.
    pub(crate) fn hand_on(&self, changes: Vec<Change<Arc<Carried<W::Request>>>>, notices: Vec<Notice>) {
        changes.into_iter().for_each(|change| self.change(change));
        notices.into_iter().for_each(|notice| self.notice(notice));
    }

    fn change(&self, change: Change<Arc<Carried<W::Request>>>) {
        match change {
            Change::Entered { saga, request, state } => {
                // It was stored before it came here: out of the line, or from another instance.
                if request.unstored().is_empty() {
                    self.signals.changed_here(saga);
                }
                request.begin(self.definition().0, saga);
                self.watchers.tell(saga, state.into_inner());
            }
            Change::HandedOver { saga } => self.watchers.given_away(saga),
            Change::Advanced { saga, request, state, before, after } => {
                self.watchers.tell(saga, state.into_inner());
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
            // It is flagged and shown in lists, and all others run.
            Notice::LeftAlone { saga, reason } => tracing::error!(saga_id = %saga, %reason, "a saga is left alone"),
            Notice::LostOwnership { saga } => {
                tracing::warn!(saga_id = %saga, "the saga has another owner now; leaving it");
            }
            Notice::AppendRefused { saga, problem } => {
                tracing::error!(saga_id = %saga, problem, "the log of a saga can't be written");
            }
            Notice::ClaimRefused { sagas, problem } => {
                tracing::error!(sagas, problem, "sagas can't be taken out of the line; trying again");
            }
            Notice::AdmissionRefused { saga, problem } => {
                tracing::error!(saga_id = %saga, problem, "a submission can't be stored");
            }
            Notice::Ignored { saga, error } => tracing::debug!(saga_id = %saga, %error, "an input changed nothing"),
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

/// The gauges of one orchestrator.
#[derive(Default)]
pub(crate) struct Gauges {
    /// When they are to be set again.
    set_at: Moment,
}

impl Gauges {
    /// Sets them, unless that was done a moment ago; returns when they are to be set, then.
    pub(crate) fn set<W: Workload>(&mut self, now: Moment, core: &Core<Sagas<W>>) -> Option<Moment> {
        if now < self.set_at {
            return Some(self.set_at);
        }
        self.set_at = now + GAUGES_PAUSE;
        let line = core.line(now);
        metrics::gauge!("matricula_sagas_in_memory").set(core.in_memory() as f64);
        metrics::gauge!("matricula_sagas_queued").set((line.last.0 - line.served.0) as f64);
        metrics::gauge!("matricula_sagas_parked").set(core.parked() as f64);
        metrics::gauge!("matricula_log_writes_waiting").set(core.writes_waiting() as f64);
        for of in core.destinations(now) {
            metrics::gauge!("matricula_calls_waiting", "destination" => of.name).set(of.waiting as f64);
            metrics::gauge!("matricula_calls_oldest_seconds", "destination" => of.name)
                .set(of.longest_wait.as_secs_f64());
            metrics::gauge!("matricula_calls_in_flight", "destination" => of.name).set(of.in_flight as f64);
        }
        None
    }
}

/// The line as portals see it.
#[derive(Default)]
pub(crate) struct LineNews {
    /// When it is to be looked at again.
    publish_at: Moment,
}

impl LineNews {
    /// Publishes the line if it has changed, unless that was done a moment ago; returns when it is to be done, then.
    pub(crate) fn publish<W: Workload>(
        &mut self,
        now: Moment,
        core: &Core<Sagas<W>>,
        to: &watch::Sender<LineView>,
    ) -> Option<Moment> {
        if now < self.publish_at {
            return Some(self.publish_at);
        }
        self.publish_at = now + LINE_PAUSE;
        let line = core.line(now);
        to.send_if_modified(|published| {
            let is_changed = *published != line;
            if is_changed {
                *published = line;
            }
            is_changed
        });
        None
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
