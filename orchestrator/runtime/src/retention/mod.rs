//! Moves sagas that ended long ago from the hot tables to the archive, in the background.
//!
//! ```text
//! eldest instance, one chunk after the other, the oldest sagas first:
//!   sagas that ended long ago ─► services delete their barrier rows ─► file: written, synced, named
//!       ─► receipts: committed ─► all writes in progress have ended ─► rows and logs: removed
//! ```
//!
//! Promises (ADR 0010 has the proof):
//!
//! - A crash between two of these steps can archive a saga twice, but never lose one.
//! - Services delete barrier rows only when no call of the saga can be decided any more.
//! - An unreadable saga stays in the database, and delays no other saga.
//! - The retention works at most a fifth of the time.

mod config;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use matricula_core::SagaId;
use matricula_engine::{CallError, Code, Recorded};
use matricula_kit::database::DbError;
use matricula_kit::telemetry;
use matricula_kit::time::UnixMs;
use tokio_util::sync::CancellationToken;

use crate::Workload;
use crate::archive::{self, Line};
use crate::runtime::Runtime;
use crate::store::{SagaRow, StoreError};

pub use config::RetentionConfig;

/// The most sagas whose rows are removed in one transaction. It takes a few milliseconds, in which a writer on SQLite
/// waits.
const REMOVED_IN_COMMIT_MAX: usize = 200;
/// The rest after a chunk is this many times its duration, so that the retention works at most a fifth of the time.
const REST_FACTOR: u32 = 4;
/// Shortest rest, so that other writers get their turn even after a quick chunk.
const REST_MIN: Duration = Duration::from_millis(20);
/// Timeout of a service that deletes barrier rows.
const FORGET_MAX: Duration = Duration::from_secs(5);
/// Time between two counts of the hot rows, because a count scans a whole index.
const COUNT_EVERY: Duration = Duration::from_secs(600);

/// Moves finished sagas to the archive, for one instance.
pub struct Retention<W: Workload> {
    runtime: Arc<Runtime<W>>,
    config: RetentionConfig,
    dir: PathBuf,
}

/// The result of one search for old sagas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Swept {
    /// Sagas that left the hot tables.
    archived: u64,
    /// Sagas that are old enough but can't be read by this build: they stay.
    left: u64,
}

/// Why a search ended early. The next one begins again.
#[derive(Debug, thiserror::Error)]
enum RetentionError {
    #[error("{destination} does not delete its barrier rows: {error}")]
    NotForgotten { destination: &'static str, error: CallError },
    #[error("the archive can't be written")]
    File(#[source] io::Error),
    #[error("the task that writes the archive has panicked")]
    Ended(#[from] tokio::task::JoinError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<DbError> for RetentionError {
    fn from(error: DbError) -> Self {
        Self::Store(error.into())
    }
}

/// A chunk as it was read: the sagas that can leave, and how many must stay.
#[derive(Default)]
struct Chunk {
    lines: Vec<Line>,
    receipts: Vec<(SagaId, String)>,
    left: u64,
}

impl<W: Workload> Retention<W> {
    /// For a running orchestrator. `config` is already checked, and `dir` is the folder of the archive.
    pub fn new(runtime: Arc<Runtime<W>>, config: RetentionConfig, dir: PathBuf) -> Self {
        Self { runtime, config, dir }
    }

    /// Searches at intervals until the shutdown, which may interrupt it anywhere without a loss.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        if !self.config.enabled {
            tracing::info!("finished sagas stay in the database: the retention is switched off");
            return shutdown.cancelled().await;
        }
        let looking = async {
            let mut counted: Option<Instant> = None;
            loop {
                tokio::time::sleep(Duration::from_millis(self.config.look_ms)).await;
                match self.run_once(self.runtime.now()).await {
                    Ok(None) => continue,
                    Ok(Some(swept)) => metrics::gauge!("matricula_retention_unreadable").set(swept.left as f64),
                    // The renewal of the lease detects this too, and ends the process.
                    Err(RetentionError::Store(StoreError::Fenced)) => std::future::pending::<()>().await,
                    Err(error) => {
                        metrics::counter!("matricula_retention_failures_total").increment(1);
                        tracing::warn!(
                            error = telemetry::chain(&error),
                            "finished sagas could not be archived; trying again"
                        );
                    }
                }
                let is_count_due = counted.is_none_or(|counted| counted.elapsed() > COUNT_EVERY);
                if let Err(error) = self.measure(is_count_due).await {
                    tracing::warn!(error = telemetry::chain(&error), "the saga log could not be measured");
                } else if is_count_due {
                    counted = Some(Instant::now());
                }
            }
        };
        shutdown.run_until_cancelled(looking).await;
    }

    /// Archives all sagas that ended long enough before `now`; `None` if another instance does it.
    async fn run_once(&self, now: UnixMs) -> Result<Option<Swept>, RetentionError> {
        let (store, instance) = (self.runtime.store(), self.runtime.instance());
        if !store.is_eldest(instance).await? {
            return Ok(None);
        }
        let ended_by = now.plus_ms(-self.config.keep_ms());
        store.sweep_instances(ended_by).await?;
        let mut swept = Swept::default();
        let mut after = String::new();
        loop {
            let started = Instant::now();
            let due = store.due(&after, ended_by, self.config.chunk as i64).await?;
            let Some(last) = due.last else { break };
            after = last;
            let chunk = self.read(store.get_many(due.sagas).await?);
            swept.left += due.without_id + chunk.left;
            swept.archived += self.take_out(chunk, now).await?;
            metrics::histogram!("matricula_retention_chunk_seconds").record(started.elapsed());
            tokio::time::sleep((started.elapsed() * REST_FACTOR).max(REST_MIN)).await;
        }
        if swept.archived > 0 {
            tracing::info!(sagas = swept.archived, "finished sagas were moved to the archive");
        }
        if swept.left > 0 {
            tracing::warn!(sagas = swept.left, "finished sagas can't be read here, and stay in the database");
        }
        Ok(Some(swept))
    }

    fn read(&self, rows: Vec<SagaRow>) -> Chunk {
        let mut chunk = Chunk::default();
        for row in rows {
            match self.read_one(&row) {
                Ok((line, receipt)) => {
                    chunk.lines.push(line);
                    chunk.receipts.push((row.id, receipt));
                }
                Err(problem) => {
                    tracing::debug!(saga_id = %row.id, problem, "a finished saga can't be archived");
                    chunk.left += 1;
                }
            }
        }
        chunk
    }

    fn read_one(&self, row: &SagaRow) -> Result<(Line, String), String> {
        let state = self.runtime.replayed(row)?;
        let log: &[Recorded] = row.log.as_ref().map_err(Clone::clone)?;
        if !state.phase().is_finished() {
            return Err("its row is finished, but its log is not".to_owned());
        }
        let request: W::Request = serde_json::from_str(&row.request).map_err(|error| error.to_string())?;
        let receipt = self.runtime.workload().receipt(&request, &state, log)?;
        let line = Line::new(row, log, &state).map_err(|error| error.to_string())?;
        Ok((line, receipt))
    }

    /// Archives a chunk, step by step; returns how many sagas have left the database.
    async fn take_out(&self, chunk: Chunk, now: UnixMs) -> Result<u64, RetentionError> {
        let Chunk { lines, receipts, .. } = chunk;
        if lines.is_empty() {
            return Ok(0);
        }
        let sagas: Vec<SagaId> = receipts.iter().map(|(saga, _)| *saga).collect();
        self.forget(&sagas).await?;
        let dir = self.dir.clone();
        let written = tokio::task::spawn_blocking(move || archive::write(&dir, now, &lines));
        let file = written.await?.map_err(RetentionError::File)?;
        let (store, instance) = (self.runtime.store(), self.runtime.instance());
        store.keep_receipts(instance, &file, &receipts).await?;
        store.pass_writes().await?;
        let mut removed = 0;
        for sagas in sagas.chunks(REMOVED_IN_COMMIT_MAX) {
            removed += store.remove(instance, sagas).await?;
            metrics::counter!("matricula_sagas_archived_total").increment(sagas.len() as u64);
        }
        Ok(removed)
    }

    /// Makes every service delete its barrier rows of these sagas. While a service is away, the sagas stay in the
    /// database.
    async fn forget(&self, sagas: &[SagaId]) -> Result<(), RetentionError> {
        for destination in self.runtime.workload().definitions().destinations() {
            let forgetting = self.runtime.workload().forget(destination, sagas);
            let forgotten = tokio::time::timeout(FORGET_MAX, forgetting).await;
            let forgotten =
                forgotten.unwrap_or_else(|_| Err(CallError::new(Code::DeadlineExceeded, "no answer", None)));
            forgotten.map_err(|error| RetentionError::NotForgotten { destination, error })?;
        }
        Ok(())
    }

    async fn measure(&self, count: bool) -> Result<(), DbError> {
        let store = self.runtime.store();
        let oldest = store.oldest_end().await?;
        let oldest_ms = oldest.map_or(0, |ended| self.runtime.now().0.saturating_sub(ended.0).max(0));
        metrics::gauge!("matricula_retention_oldest_seconds").set(oldest_ms as f64 / 1_000.0);
        if count {
            metrics::gauge!("matricula_log_sagas").set(store.count().await? as f64);
        }
        Ok(())
    }
}
