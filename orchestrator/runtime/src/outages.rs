//! Services that do not answer. Such a service needs attention itself, and the sagas that wait for it are only counted:
//! an operator should see one cause, not hundreds of sagas.
//!
//! ```text
//! core --destination changed--> here --destinations, counts of sagas--- core
//!                           │ begins: an ERROR in the log, a gauge, a row for the other instances
//!                           ▼ ends: an INFO, and the row goes
//!                        operators
//! ```
//!
//! Promises: while every service answers, this task sleeps. An outage begins when a service has not answered for
//! `destination_attention_after_ms` and a saga waits for it. It ends when the service answers, or when no saga waits
//! for it any more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use matricula_core::{DestinationStatus, SagasWaiting};
use matricula_kit::telemetry;

use crate::news::publish;
use crate::store::{Outage, StoreError};
use crate::{Runtime, Workload};

/// Longest time between two looks while a service does not answer. Each look counts the waiting sagas by a pass over
/// all sagas in memory.
const LOOK: Duration = Duration::from_secs(1);
/// Shortest time between two looks, for short settings as in tests.
const LOOK_MIN: Duration = Duration::from_millis(50);
/// Timeout of the core.
const COUNT_MAX: Duration = Duration::from_secs(1);
/// Timeout of the database.
const RECORD_MAX: Duration = Duration::from_secs(2);

/// The outages of all living instances; those of this instance come first.
pub(crate) type Outages = Arc<Vec<Outage>>;

/// The destinations in the core, and the sagas that wait for each.
struct View {
    now_ms: i64,
    statuses: Vec<DestinationStatus>,
    waiting: BTreeMap<&'static str, SagasWaiting>,
}

impl<W: Workload> Runtime<W> {
    /// Looks for outages until the shutdown.
    pub(crate) async fn look_for_outages(self: Arc<Self>) -> Result<(), StoreError> {
        self.stopping.run_until_cancelled(self.look_for_ever()).await;
        // The other instances adopt the sagas, and detect the outages themselves.
        if self.store.is_shared() && !self.outages().is_empty() {
            let _ = tokio::time::timeout(RECORD_MAX, self.store.put_outages(&self.instance, &[], true)).await;
        }
        Ok(())
    }

    async fn look_for_ever(&self) {
        let attention_after = Duration::from_millis(self.config.destination_attention_after_ms);
        let pause = (attention_after / 4).clamp(LOOK_MIN, LOOK);
        let (mut own, mut others) = (Vec::new(), Vec::new());
        // The outages that this instance has recorded in the database; none after a write that may have failed.
        let mut recorded = Some(Vec::new());
        // Whether other instances may have recorded something that was not read yet; true at the start.
        let mut is_unread = true;
        loop {
            // If the core is too busy to answer, its last outages stay.
            let view = self.view().await;
            let is_failing = |view: &View| view.statuses.iter().any(|status| status.failing_since_ms.is_some());
            let may_change = view.as_ref().is_none_or(is_failing);
            if let Some(view) = view {
                own = self.outages_now(&own, &view);
            }
            if recorded.as_ref() != Some(&own) {
                recorded = self.record(recorded, &own).await;
            }
            if is_unread || !others.is_empty() {
                let read = self.of_others().await;
                is_unread = read.is_none();
                // While they can't be read, the last ones are shown.
                others = read.unwrap_or(others);
            }
            self.show(&own, &others);
            let is_open = may_change || !own.is_empty() || !others.is_empty() || recorded.is_none() || is_unread;
            tokio::select! {
                () = self.signals.destinations.notified() => {}
                () = self.signals.outages.notified() => is_unread = true,
                () = tokio::time::sleep(pause), if is_open => {}
            }
        }
    }

    /// The outages now. Logs the changes since the last look.
    fn outages_now(&self, before: &[Outage], view: &View) -> Vec<Outage> {
        let mut now = Vec::new();
        for status in &view.statuses {
            let outage = self.outage(status, view);
            let was_out = before.iter().any(|outage| outage.destination == status.name);
            gauges(status.name, outage.as_ref());
            log_change(status, view.now_ms, was_out, outage.as_ref());
            now.extend(outage);
        }
        now
    }

    fn outage(&self, status: &DestinationStatus, view: &View) -> Option<Outage> {
        let since_ms = overdue_since(status, view.now_ms, self.config.destination_attention_after_ms)?;
        let waiting = view.waiting.get(status.name).filter(|waiting| waiting.direct > 0)?;
        Some(Outage {
            instance: self.instance.as_str().to_owned(),
            destination: status.name.to_owned(),
            since_ms,
            last_error: status.last_error.clone(),
            breaker: status.breaker.to_owned(),
            probe_at_ms: status.probe_at_ms,
            sagas_waiting: waiting.direct,
            sagas_behind: waiting.indirect,
            oldest: waiting.oldest,
        })
    }

    /// Records the outages for the other instances, and wakes them if an outage has begun or ended since `before`.
    /// Returns what is recorded now; none if the write may have failed: then the next look writes again.
    async fn record(&self, before: Option<Vec<Outage>>, now: &[Outage]) -> Option<Vec<Outage>> {
        if self.store.is_shared() {
            let is_news = before.is_none_or(|before| {
                now.iter().map(|outage| &outage.destination).ne(before.iter().map(|outage| &outage.destination))
            });
            let recording = self.store.put_outages(&self.instance, now, is_news);
            let problem = match tokio::time::timeout(RECORD_MAX, recording).await {
                Ok(recorded) => recorded.err().map(|error| telemetry::chain(&error)),
                Err(_) => Some("the database does not answer".to_owned()),
            };
            if let Some(problem) = problem {
                tracing::warn!(error = problem, "other instances can't see the outage");
                return None;
            }
        }
        Some(now.to_vec())
    }

    /// The destinations, and the sagas that wait for each. The sagas are only counted while a service needs attention,
    /// because this takes a pass over all sagas in memory. None while the core is too busy.
    async fn view(&self) -> Option<View> {
        let after_ms = self.config.destination_attention_after_ms;
        let asking = self.mailbox.query(move |core, now| {
            let (now_ms, statuses) = (core.now_ms(now), core.destinations(now));
            let needs_attention = statuses.iter().any(|status| overdue_since(status, now_ms, after_ms).is_some());
            let waiting = if needs_attention { core.waiting() } else { BTreeMap::new() };
            View { now_ms, statuses, waiting }
        });
        tokio::time::timeout(COUNT_MAX, asking).await.ok()?
    }

    /// The outages that the other instances have recorded; none if they can't be read.
    async fn of_others(&self) -> Option<Vec<Outage>> {
        if !self.store.is_shared() {
            return Some(Vec::new());
        }
        let reading = self.store.outages_of_others(&self.instance);
        tokio::time::timeout(RECORD_MAX, reading).await.ok()?.ok()
    }

    fn show(&self, own: &[Outage], others: &[Outage]) {
        publish(&self.outages, Arc::new([own, others].concat()));
    }
}

/// Since when a service has not answered, if that is so long that it needs attention.
fn overdue_since(status: &DestinationStatus, now_ms: i64, after_ms: u64) -> Option<i64> {
    status.failing_since_ms.filter(|since_ms| now_ms.saturating_sub(*since_ms) >= after_ms as i64)
}

/// Logs the begin or the end of an outage.
fn log_change(status: &DestinationStatus, now_ms: i64, was_out: bool, outage: Option<&Outage>) {
    let destination = status.name;
    let silent_s = status.failing_since_ms.map(|since_ms| now_ms.saturating_sub(since_ms) / 1_000);
    match outage {
        Some(outage) if !was_out => tracing::error!(
            destination,
            error = status.last_error,
            silent_s,
            sagas_waiting = outage.sagas_waiting,
            sagas_behind = outage.sagas_behind,
            "a service does not answer, and needs attention"
        ),
        None if was_out && silent_s.is_none() => {
            tracing::info!(destination, "a service that needed attention answers again");
        }
        None if was_out => {
            tracing::info!(destination, silent_s, "no saga waits any more for a service that does not answer");
        }
        _ => {}
    }
}

fn gauges(destination: &'static str, outage: Option<&Outage>) {
    let (waiting, behind) = outage.map_or((0, 0), |outage| (outage.sagas_waiting, outage.sagas_behind));
    let needs_attention = f64::from(outage.is_some());
    metrics::gauge!("matricula_destination_needs_attention", "destination" => destination).set(needs_attention);
    metrics::gauge!("matricula_destination_sagas_waiting", "destination" => destination).set(waiting as f64);
    metrics::gauge!("matricula_destination_sagas_behind", "destination" => destination).set(behind as f64);
}
