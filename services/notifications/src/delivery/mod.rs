//! Takes recorded messages to the sink: what this process has recorded is handed over by its writer; for what an
//! earlier process left, what is due again, and what there was no room for, it looks in the database.
//!
//! ```text
//! wait until handed over or due --> claim what is due --> sink, a few at a time --> report as they end --> gather --> again
//! ```
//!
//! At least once: a process that dies between a delivery and its report lets the message be delivered again when its
//! claim lapses. The registration's id goes with every message, so that the other side can recognize a repeat.

mod config;
mod file;
mod handover;
mod mail_server;
mod sink;
mod smtp;
#[cfg(test)]
mod tests;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backoff::{ExponentialBuilder, Retryable as _};
use futures::{FutureExt as _, StreamExt as _, stream};
use matricula_kit::database::{Database, DbError};
use matricula_kit::tasks::{self, Tasks};
use matricula_kit::telemetry::chain;
use tokio::sync::Mutex;

pub use config::{ConfigError, NotificationConfig, SinkConfig};
pub use file::FileSink;
pub use handover::{CLAIM_ON_INSERT_MS, Waker, Woken};
pub use sink::{LogSink, Sink};
pub use smtp::SmtpSink;

use crate::domain::Message;
use crate::domain::retry::{Delays, Failure, Next};
use crate::store::{self, Claimed, Report};
use handover::{HANDED_OVER_FOR, HANDED_OVER_MAX};

/// Messages that are claimed at once: enough for few commits when the sink is quick.
const BATCH_MAX: i64 = 256;
/// Deliveries at the same time: as many connections as a mail server commonly grants one client.
pub const DELIVERIES_MAX: usize = 16;
/// A sink that has not answered by then has failed. A shutdown waits for it, so it is less than the grace period.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a claim holds: longer than a whole batch of deliveries that all time out.
const CLAIM_MS: i64 = 240_000;
const _: () = assert!(BATCH_MAX / DELIVERIES_MAX as i64 * DELIVERY_TIMEOUT.as_millis() as i64 + 60_000 <= CLAIM_MS);
const _: () =
    assert!((HANDED_OVER_FOR.as_millis() + DELIVERY_TIMEOUT.as_millis()) as i64 + REPORT_TIME_MS <= CLAIM_ON_INSERT_MS);
/// For the tries of a report with their pauses.
const REPORT_TIME_MS: i64 = 8_000;
/// While messages are handed over all the time, how often the database is looked at for others.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long messages gather after a batch that was not full: on the morning when everybody registers, a claim
/// and a report a handful would cost as much as recording them, and nobody reads a message sooner than this.
const GATHERED_FOR: Duration = Duration::from_millis(100);
/// First pause while the sink or the database is down.
const PROBE_FIRST: Duration = Duration::from_millis(100);
/// Longest wait without looking: another replica may have died with claims.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// Wait when all that is due is just being claimed by another replica.
const CONTENDED: Duration = Duration::from_millis(100);
/// How often the length of the queue is measured.
const MEASURED_EVERY: Duration = Duration::from_secs(10);
/// How often a report is tried: with its pauses some seconds. After that the messages are delivered again.
const REPORT_TRIES_MAX: usize = 6;

/// The task that delivers.
pub struct Dispatcher {
    database: Database,
    sink: Arc<dyn Sink>,
    delays: Delays,
    woken: Woken,
    measured_at: Option<Instant>,
    looked_at: Option<Instant>,
}

/// What one round did.
#[derive(Debug, PartialEq, Eq)]
enum Round {
    /// Nothing was due; the next may be after this long.
    Idle(Duration),
    /// Every delivery failed on the way: the sink is down.
    SinkDown,
    /// Some or all were delivered, and all that was due was claimed.
    Delivered,
    /// The same, and more may be due: the batch was full.
    More,
}

impl Dispatcher {
    /// Starts delivering, and again after a failure: what was claimed then is delivered when its claim lapses.
    pub fn start(database: Database, sink: Arc<dyn Sink>, delays: Delays, woken: Woken, tasks: &Tasks) {
        let dispatcher = Self { database, sink, delays, woken, measured_at: None, looked_at: None };
        // Kept over a failure: its other end is with the writer.
        let dispatcher = Arc::new(Mutex::new(dispatcher));
        tasks.restarted("mailer", move || {
            let dispatcher = dispatcher.clone();
            async move { dispatcher.lock().await.run().await }
        });
    }

    async fn run(&mut self) {
        // While sink or database are down, one batch probes, and no more.
        let mut pauses = tasks::pauses(PROBE_FIRST, IDLE_MAX);
        while !self.woken.is_over() {
            match self.run_once().await {
                Ok(Round::Idle(time)) => self.woken.wait(time).await,
                Ok(Round::Delivered) => {
                    pauses = tasks::pauses(PROBE_FIRST, IDLE_MAX);
                    self.woken.pause(GATHERED_FOR).await;
                }
                Ok(Round::More) => pauses = tasks::pauses(PROBE_FIRST, IDLE_MAX),
                Ok(Round::SinkDown) => self.woken.pause(pauses.next().unwrap_or(IDLE_MAX)).await,
                Err(error) => {
                    tracing::warn!(error = chain(&error), "messages can't be claimed or reported");
                    self.woken.pause(pauses.next().unwrap_or(IDLE_MAX)).await;
                }
            }
        }
        if let Err(error) = self.give_back().await {
            tracing::warn!(error = chain(&error), "messages are delivered when their claim lapses");
        }
    }

    /// Gives back what was handed over and had no turn: the process that looks next takes it.
    async fn give_back(&mut self) -> Result<(), DbError> {
        let next = Some(Next::RetryAfterMs(0));
        let back = |message: Message| Report { registration: message.registration, failures: 0, next };
        let (left, _) = self.woken.handed_over(HANDED_OVER_MAX);
        let reports: Vec<Report> = left.into_iter().map(back).collect();
        if reports.is_empty() { Ok(()) } else { self.report(&reports).await }
    }

    async fn run_once(&mut self) -> Result<Round, DbError> {
        self.measure().await?;
        let (handed_over, begin_by) = self.woken.handed_over(BATCH_MAX as usize);
        if !handed_over.is_empty() {
            let claimed = store::claimed_on_insert(&self.database, handed_over).await?;
            let round = self.deliver_all(claimed, begin_by).await?;
            if round == Round::SinkDown || self.looked_at.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
                return Ok(round);
            }
        }
        self.look().await
    }

    /// Delivers what is due by the database.
    async fn look(&mut self) -> Result<Round, DbError> {
        self.looked_at = Some(Instant::now());
        match store::due_in_ms(&self.database).await? {
            Some(ms) if ms <= 0 => {}
            // Never negative here.
            Some(ms) => return Ok(Round::Idle(Duration::from_millis(ms.unsigned_abs()).min(IDLE_MAX))),
            None => return Ok(Round::Idle(IDLE_MAX)),
        }
        let claimed = store::claim(&self.database, BATCH_MAX, CLAIM_MS).await?;
        if claimed.is_empty() {
            return Ok(Round::Idle(CONTENDED));
        }
        self.deliver_all(claimed, None).await
    }

    /// Delivers what is claimed; what has not begun by then is left to the process that claims it after this claim has
    /// lapsed.
    async fn deliver_all(&self, claimed: Vec<Claimed>, begin_by: Option<Instant>) -> Result<Round, DbError> {
        let is_full = claimed.len() >= BATCH_MAX as usize;
        let in_time = move |_: &Claimed| std::future::ready(begin_by.is_none_or(|moment| Instant::now() <= moment));
        // Looked at when its turn comes, and not before.
        let claimed = stream::iter(claimed).filter(in_time);
        let deliveries = claimed.map(|claimed| self.deliver(claimed)).buffer_unordered(DELIVERIES_MAX);
        // What has ended while the last report was written is reported together.
        let mut ended = deliveries.ready_chunks(BATCH_MAX as usize);
        let (mut delivered, mut unavailable, mut last_error) = (0, 0, None);
        while let Some(attempts) = ended.next().await {
            let mut reports = Vec::with_capacity(attempts.len());
            for (report, error) in attempts {
                match &error {
                    None => delivered += 1,
                    Some(Failure::Unavailable(_)) => unavailable += 1,
                    Some(_) => {}
                }
                last_error = error.or(last_error);
                reports.push(report);
            }
            self.report(&reports).await?;
        }
        if let Some(error) = last_error {
            tracing::warn!(sink = self.sink.name(), error = chain(&error), "deliveries failed; the last one's cause");
        }
        Ok(match (delivered, unavailable) {
            (0, 1..) => Round::SinkDown,
            _ if is_full => Round::More,
            _ => Round::Delivered,
        })
    }

    async fn deliver(&self, claimed: Claimed) -> (Report, Option<Failure>) {
        let registration = claimed.message.registration.clone();
        if self.woken.is_over() {
            // Given back to the process that comes next.
            let next = Some(Next::RetryAfterMs(0));
            return (Report { registration, failures: claimed.failures, next }, None);
        }
        let delivering = tokio::time::timeout(DELIVERY_TIMEOUT, self.sink.deliver(&claimed));
        // A message whose delivery panics holds up no other.
        let outcome = AssertUnwindSafe(delivering).catch_unwind().await;
        let outcome = match outcome {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(elapsed)) => Err(Failure::Unavailable(Box::new(elapsed))),
            Err(_) => {
                tracing::error!(registration = registration.as_str(), "a delivery panicked; it is tried again");
                Err(Failure::Unavailable("the delivery panicked".into()))
            }
        };
        match outcome {
            Ok(()) => (Report { registration, failures: claimed.failures, next: None }, None),
            Err(error) => {
                let failures = claimed.failures + 1;
                let next = self.delays.after(&error, failures);
                (Report { registration, failures, next: Some(next) }, Some(error))
            }
        }
    }

    async fn report(&self, reports: &[Report]) -> Result<(), DbError> {
        for report in reports {
            let outcome = match report.next {
                None => "delivered",
                Some(Next::RetryAfterMs(0)) => "given_back",
                Some(Next::RetryAfterMs(_)) => "failed",
                Some(Next::Undeliverable(_)) => "undeliverable",
            };
            metrics::counter!("matricula_notification_deliveries_total", "sink" => self.sink.name(), "outcome" => outcome)
                .increment(1);
        }
        let tries = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(100))
            .with_max_times(REPORT_TRIES_MAX - 1)
            .with_jitter();
        let report = || store::report(&self.database, reports);
        report.retry(tries).when(|error: &DbError| !error.is_permanent()).await
    }

    async fn measure(&mut self) -> Result<(), DbError> {
        if self.measured_at.is_some_and(|at| at.elapsed() < MEASURED_EVERY) {
            return Ok(());
        }
        self.measured_at = Some(Instant::now());
        let waiting = store::waiting(&self.database).await?;
        metrics::gauge!("matricula_notifications_waiting").set(waiting as f64);
        Ok(())
    }
}
