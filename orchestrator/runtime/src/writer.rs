//! One try of a commit of the saga log. The core says when it is tried again, and in which parts.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use matricula_core::{Admitted, Commit, CommitAnswer, LineState};
use matricula_kit::telemetry::{self, spans};

use crate::store::{StoreError, WriteAs, Written};
use crate::workflow::Carried;
use crate::{Runtime, Workload};

/// A commit that takes longer is given up: a half-open connection would be waited for for ever.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);

impl<W: Workload> Runtime<W> {
    /// Writes a commit, once.
    pub(crate) async fn write(&self, commit: &Commit<Arc<Carried<W::Request>>>) -> CommitAnswer {
        let started = Instant::now();
        let span = self.store.commit_span(&commit.admissions);
        let subject_open_max = self.config.subject_open_max;
        let as_of = WriteAs { instance: &self.instance, definition: self.definition(), subject_open_max };
        let writing = self.store.write(as_of, commit);
        let (answer, problem) = match tokio::time::timeout(COMMIT_TIMEOUT, writing).await {
            Ok(Ok(Written { admissions, claimed, appends, line })) => {
                self.log_failing.store(false, Ordering::Relaxed);
                let operations = (admissions.len() + claimed.len() + appends.len()) as f64;
                metrics::histogram!("matricula_log_commit_seconds").record(started.elapsed());
                metrics::histogram!("matricula_log_commit_operations").record(operations);
                self.line_after(&admissions, line.as_ref());
                return CommitAnswer::Written { admissions, claimed, appends, line };
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

    /// A commit was written: others are to know when it has begun a line.
    fn line_after(&self, admissions: &[Admitted], line: Option<&LineState>) {
        let Some(line) = line else { return };
        let has_line = line.last > line.served;
        let had_line = self.has_line.swap(has_line, Ordering::Relaxed);
        if has_line && !had_line && admissions.iter().any(|outcome| matches!(outcome, Admitted::Queued { .. })) {
            self.signals.line_begun.notify_one();
        }
    }
}
