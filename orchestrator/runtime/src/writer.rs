//! One try of a commit of the saga log. The core says when it is tried again, and in which parts.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use matricula_core::{Commit, CommitAnswer};
use matricula_kit::telemetry::{self, spans};

use crate::store::StoreError;
use crate::workflow::Carried;
use crate::{Runtime, Workload};

/// A commit that takes longer is given up: a half-open connection would be waited for for ever.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);

impl<W: Workload> Runtime<W> {
    /// Writes a commit, once.
    pub(crate) async fn write(&self, commit: &Commit<Arc<Carried<W::Request>>>) -> CommitAnswer {
        let started = Instant::now();
        let span = self.store.commit_span(&commit.admissions);
        let writing = self.store.write(&self.instance, self.definition(), &commit.admissions, &commit.appends);
        let (answer, problem) = match tokio::time::timeout(COMMIT_TIMEOUT, writing).await {
            Ok(Ok((admitted, appended))) => {
                self.log_failing.store(false, Ordering::Relaxed);
                let operations = (commit.admissions.len() + commit.appends.len()) as f64;
                metrics::histogram!("matricula_log_commit_seconds").record(started.elapsed());
                metrics::histogram!("matricula_log_commit_operations").record(operations);
                return CommitAnswer::Written { admissions: admitted, appends: appended };
            }
            Ok(Err(StoreError::Fenced)) => return CommitAnswer::Fenced,
            Ok(Err(StoreError::Database(error))) => {
                spans::not_committed(&span, &error);
                let problem = telemetry::chain(&error);
                if error.is_permanent() {
                    return CommitAnswer::Refused { problem };
                }
                (if error.is_conflict() { CommitAnswer::Conflict } else { CommitAnswer::Failed }, problem)
            }
            Err(_) => (CommitAnswer::Failed, format!("no answer within {} s", COMMIT_TIMEOUT.as_secs())),
        };
        // A conflict is an answer: the log can be written.
        self.log_failing.store(answer == CommitAnswer::Failed, Ordering::Relaxed);
        metrics::counter!("matricula_log_commit_failures_total").increment(1);
        tracing::warn!(problem, "the saga log could not be written; trying again");
        answer
    }
}
