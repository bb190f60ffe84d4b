//! Carries out the core's requests to the database, one try each: the lease of this instance, the adoption of sagas of
//! ended instances, and reads of the line.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use matricula_core::{StoreAnswer, StoreRequest, StoredSaga};
use matricula_engine::Row;
use matricula_kit::database::DbError;
use matricula_kit::telemetry;
use matricula_kit::time;

use crate::store::{SagaRow, StoreError};
use crate::workflow::Carried;
use crate::{Runtime, Workload};

/// Longest round trip of a renewal after which the database's clock is compared with the clock of this machine.
const ROUND_TRIP_MAX: Duration = Duration::from_millis(500);
/// A difference of the clocks beyond this is logged as a warning.
const OFF_MS: i64 = 5_000;

type Answer<W> = StoreAnswer<Arc<Carried<<W as Workload>::Request>>>;

impl<W: Workload> Runtime<W> {
    /// Carries out a request, once.
    pub(crate) async fn query_store(&self, request: &StoreRequest) -> Answer<W> {
        self.try_query_store(request).await.unwrap_or_else(|error| {
            if matches!(error, StoreError::Fenced) {
                return StoreAnswer::Fenced;
            }
            tracing::warn!(error = telemetry::chain(&error), "the saga log could not be queried; trying again");
            StoreAnswer::Failed
        })
    }

    async fn try_query_store(&self, request: &StoreRequest) -> Result<Answer<W>, StoreError> {
        Ok(match request {
            StoreRequest::Renew { .. } => self.renew().await,
            StoreRequest::Look { may_mark } => {
                self.mark_and_sweep(*may_mark).await?;
                StoreAnswer::Looked
            }
            StoreRequest::Choose { limit } => {
                StoreAnswer::Chosen(self.store.adoptable(&self.known_definitions(), *limit).await?)
            }
            StoreRequest::Adopt { sagas } => {
                let rows = self.store.adopt(&self.instance, sagas).await?;
                StoreAnswer::Adopted(rows.into_iter().map(stored::<W>).collect())
            }
            StoreRequest::ReadLine { after, limit } => {
                let (state, sagas) = self.store.read_line(&self.instance, *after, *limit).await?;
                StoreAnswer::Line { state, sagas }
            }
            StoreRequest::Flag { sagas } => {
                self.store.flag(&self.instance, sagas).await?;
                StoreAnswer::Flagged
            }
        })
    }

    /// Renews the lease. The timeout is a heartbeat, so that a renewal that hangs does not last until the lease lapses.
    async fn renew(&self) -> Answer<W> {
        let (sent_at, heartbeat) = (Instant::now(), Duration::from_millis(self.config.lease_ttl_ms.unsigned_abs() / 3));
        let renewing = self.store.renew(&self.instance, self.config.lease_ttl_ms);
        let problem = match tokio::time::timeout(heartbeat, renewing).await {
            Ok(Ok(database_now_ms)) => {
                if sent_at.elapsed() <= ROUND_TRIP_MAX {
                    self.compare_clocks(database_now_ms);
                }
                return StoreAnswer::Renewed { database_now_ms };
            }
            Ok(Err(StoreError::Fenced)) => return StoreAnswer::Fenced,
            Ok(Err(error)) => telemetry::chain(&error),
            Err(_) => format!("no answer within {} ms", heartbeat.as_millis()),
        };
        tracing::warn!(problem, "the lease could not be renewed; trying again");
        StoreAnswer::Failed
    }

    /// Logs a warning when the clock of this machine begins to differ from the database's.
    pub(crate) fn compare_clocks(&self, database_now_ms: i64) {
        let ahead_ms = time::now().0.saturating_sub(database_now_ms);
        let is_off = ahead_ms.abs() > OFF_MS;
        if is_off && !self.is_clock_off.swap(is_off, Ordering::Relaxed) {
            tracing::warn!(
                ahead_ms,
                "this machine's clock differs from the database's; sagas use the database's clock"
            );
        }
        self.is_clock_off.store(is_off, Ordering::Relaxed);
    }

    /// Marks lapsed instances as dead, if `may_mark`. Sweeps outdated requests, rows of the line and outages of dead
    /// instances. Flags sagas whose definition this build does not have.
    async fn mark_and_sweep(&self, may_mark: bool) -> Result<(), StoreError> {
        if may_mark {
            let has_others = self.store.mark_lapsed(&self.instance).await?;
            let had_others = self.signals.has_others.swap(has_others, Ordering::Relaxed);
            if has_others && !had_others {
                self.greet().await?;
            }
        }
        self.store.sweep_requests().await?;
        self.store.sweep_line().await?;
        if self.store.is_shared() {
            self.store.sweep_outages().await?;
        }
        let unknown = self.store.flag_unknown(&self.known_definitions()).await?;
        if unknown > 0 {
            tracing::error!(
                sagas = unknown,
                "no instance drives these sagas, and this build does not have their definition"
            );
        }
        Ok(())
    }

    /// Sends new instances a message that any saga of this one may have changed, because they have received no message
    /// since they started.
    async fn greet(&self) -> Result<(), DbError> {
        let sent = self.store.send(&[self.changed_message(&[])]).await;
        if sent.is_err() {
            self.signals.has_others.store(false, Ordering::Relaxed);
        }
        sent
    }
}

/// Converts a stored saga for the core.
fn stored<W: Workload>(row: SagaRow) -> StoredSaga<Arc<Carried<W::Request>>> {
    let request = Carried::stored(&row.request, row.trace);
    StoredSaga { row: Row { id: row.id, definition: row.definition, version: row.version, log: row.log }, request }
}
