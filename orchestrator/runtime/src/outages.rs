//! Services that do not answer. Such a service needs attention by itself, and the sagas that wait for it are counted
//! under it: an operator is to see one cause, and not hundreds of sagas.
//!
//! ```text
//! core --destination changed--> here --destinations, counts of sagas--- core
//!                           │ begins: an ERROR in the log, a gauge, a row for the other instances
//!                           ▼ ends: an INFO, and the row goes
//!                        operators
//! ```
//!
//! Promises: while every service answers, this waits and does nothing; an outage begins once the service has not
//! answered for `destination_attention_after_ms` while a saga waits for it, and ends when it answers, or when no saga
//! waits for it any more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use matricula_core::{DestinationStatus, SagasWaiting};
use matricula_kit::telemetry;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::Workload;
use crate::peers::Signals;
use crate::shell::{Clock, Mailbox};
use crate::store::{InstanceId, Outage, SagaStore, StoreError};

/// Time between two looks while a service does not answer. Sagas that wait are counted each time, by a pass over all
/// that are in memory.
const LOOK: Duration = Duration::from_secs(1);
/// Shortest time between two looks: where the setting is short, as in tests.
const LOOK_MIN: Duration = Duration::from_millis(50);
/// How long the core may take to answer.
const COUNT_MAX: Duration = Duration::from_secs(1);
/// How long the database may take to keep what others are to see.
const RECORD_MAX: Duration = Duration::from_secs(2);

/// What every instance that lives sees: this one's own come first.
pub(crate) type Outages = Arc<Vec<Outage>>;

/// What the core says of the destinations, and of the sagas that wait for each.
struct View {
    now_ms: i64,
    statuses: Vec<DestinationStatus>,
    waiting: BTreeMap<&'static str, SagasWaiting>,
}

/// Looks for outages.
pub(crate) struct Lookout<W: Workload> {
    pub store: SagaStore,
    pub instance: InstanceId,
    pub mailbox: Mailbox<W>,
    /// Woken when a destination begins to fail, and when it answers again.
    pub changed: Arc<Notify>,
    pub clock: Clock,
    pub signals: Signals,
    pub attention_after: Duration,
    pub shown: watch::Sender<Outages>,
}

impl<W: Workload> Lookout<W> {
    /// Looks until the shutdown.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> Result<(), StoreError> {
        shutdown.run_until_cancelled(self.look_for_ever()).await;
        // The other instances take the sagas over, and see for themselves.
        if self.store.is_shared() && !self.shown.borrow().is_empty() {
            let _ = tokio::time::timeout(RECORD_MAX, self.store.put_outages(&self.instance, &[], true)).await;
        }
        Ok(())
    }

    async fn look_for_ever(&self) {
        let pause = (self.attention_after / 4).clamp(LOOK_MIN, LOOK);
        let (mut own, mut others) = (Vec::new(), Vec::new());
        // What the other instances can read of `own`; none after a record that may have failed.
        let mut recorded = Some(Vec::new());
        // Whether the others may have recorded something that was not read yet, at first before this instance came.
        let mut is_unread = true;
        let mut is_first = true;
        loop {
            // A core that is too busy to answer has said what it said last.
            let view = self.view().await;
            let statuses = view.as_ref().map_or(&[][..], |view| &view.statuses);
            if is_first {
                statuses.iter().for_each(|status| gauges(status.name, &SagasWaiting::default(), false));
                is_first = view.is_none();
            }
            let is_failing = statuses.iter().any(|status| status.failing_since_ms.is_some());
            let is_busy = view.is_none();
            if let Some(view) = view.filter(|_| is_failing || !own.is_empty()) {
                own = self.look(&own, &view);
            }
            if recorded.as_ref() != Some(&own) {
                recorded = self.record(recorded, &own).await;
            }
            if is_unread || !others.is_empty() {
                let read = self.of_others().await;
                is_unread = read.is_none();
                // While they can't be read, what was read last is shown.
                others = read.unwrap_or(others);
            }
            self.show(&own, &others);
            let is_open =
                is_busy || is_failing || !own.is_empty() || !others.is_empty() || recorded.is_none() || is_unread;
            tokio::select! {
                () = self.changed.notified() => {}
                () = self.signals.outages.notified() => is_unread = true,
                () = tokio::time::sleep(pause), if is_open => {}
            }
        }
    }

    /// The outages now, after those of the last look.
    fn look(&self, before: &[Outage], view: &View) -> Vec<Outage> {
        let after_ms = self.attention_after_ms();
        let seen = view.statuses.iter().filter_map(|status| {
            let since_ms =
                status.failing_since_ms.filter(|since_ms| view.now_ms.saturating_sub(*since_ms) >= after_ms)?;
            let waiting = view.waiting.get(status.name).filter(|waiting| waiting.direct > 0)?;
            Some(Outage {
                instance: self.instance.as_str().to_owned(),
                destination: status.name.to_owned(),
                since_ms,
                last_error: status.last_error.clone(),
                breaker: status.breaker.to_owned(),
                probe_at_ms: status.probe_at_ms,
                sagas_waiting: waiting.direct,
                sagas_behind: waiting.behind,
                oldest: waiting.oldest,
            })
        });
        let now: Vec<Outage> = seen.collect();
        for status in &view.statuses {
            let is_in = |outages: &[Outage]| outages.iter().any(|outage| outage.destination == status.name);
            self.tell(status, is_in(before), is_in(&now), view.waiting.get(status.name));
        }
        now
    }

    /// Records the outages for the other instances, and wakes them when others began or ended than `before`. Returns
    /// what they can read now; none when that is not known: then it is recorded again at the next look.
    async fn record(&self, before: Option<Vec<Outage>>, now: &[Outage]) -> Option<Vec<Outage>> {
        if !self.store.is_shared() {
            return Some(now.to_vec());
        }
        let names =
            |outages: &[Outage]| -> Vec<String> { outages.iter().map(|outage| outage.destination.clone()).collect() };
        let is_news = before.is_none_or(|before| names(now) != names(&before));
        let recording = self.store.put_outages(&self.instance, now, is_news);
        match tokio::time::timeout(RECORD_MAX, recording).await {
            Ok(Ok(())) => return Some(now.to_vec()),
            Ok(Err(error)) => tracing::warn!(error = telemetry::chain(&error), "other instances can't see the outage"),
            Err(_) => tracing::warn!("other instances can't see the outage: the database does not answer"),
        }
        None
    }

    /// Writes the log and the gauges of one service.
    fn tell(&self, status: &DestinationStatus, was_out: bool, is_out: bool, waiting: Option<&SagasWaiting>) {
        let none = SagasWaiting::default();
        let waiting = waiting.filter(|_| is_out).unwrap_or(&none);
        if was_out || is_out {
            gauges(status.name, waiting, is_out);
        }
        let silent_s = status.failing_since_ms.map(|since_ms| self.clock.now().0.saturating_sub(since_ms) / 1_000);
        match (was_out, is_out) {
            (false, true) => tracing::error!(
                destination = status.name,
                error = status.last_error,
                silent_s,
                sagas_waiting = waiting.direct,
                sagas_behind = waiting.behind,
                "a service does not answer, and needs attention"
            ),
            (true, false) if status.failing_since_ms.is_none() => {
                tracing::info!(destination = status.name, "a service that needed attention answers again");
            }
            (true, false) => tracing::info!(
                destination = status.name,
                silent_s,
                "no saga waits any more for a service that does not answer"
            ),
            _ => {}
        }
    }

    /// The destinations; and the sagas that wait for each, while one needs attention: they are counted by a pass over
    /// all that are in memory. None while the core is too busy.
    async fn view(&self) -> Option<View> {
        let after_ms = self.attention_after_ms();
        let asking = self.mailbox.query(move |core, now| {
            let (now_ms, statuses) = (core.now_ms(now), core.destinations(now));
            let is_long = |since_ms: i64| now_ms.saturating_sub(since_ms) >= after_ms;
            let needs_attention = statuses.iter().any(|status| status.failing_since_ms.is_some_and(is_long));
            let waiting = if needs_attention { core.waiting() } else { BTreeMap::new() };
            View { now_ms, statuses, waiting }
        });
        tokio::time::timeout(COUNT_MAX, asking).await.ok()?
    }

    fn attention_after_ms(&self) -> i64 {
        i64::try_from(self.attention_after.as_millis()).unwrap_or(i64::MAX)
    }

    /// What the other instances have recorded; none when it can't be read.
    async fn of_others(&self) -> Option<Vec<Outage>> {
        if !self.store.is_shared() {
            return Some(Vec::new());
        }
        let reading = self.store.outages_of_others(&self.instance);
        tokio::time::timeout(RECORD_MAX, reading).await.ok()?.ok()
    }

    fn show(&self, own: &[Outage], others: &[Outage]) {
        let all: Vec<Outage> = own.iter().chain(others).cloned().collect();
        self.shown.send_if_modified(|shown| {
            let is_other = **shown != all;
            if is_other {
                *shown = Arc::new(all);
            }
            is_other
        });
    }
}

fn gauges(destination: &'static str, waiting: &SagasWaiting, is_out: bool) {
    metrics::gauge!("matricula_destination_needs_attention", "destination" => destination).set(f64::from(is_out));
    metrics::gauge!("matricula_destination_sagas_waiting", "destination" => destination).set(waiting.direct as f64);
    metrics::gauge!("matricula_destination_sagas_behind", "destination" => destination).set(waiting.behind as f64);
}
