//! One try of a commit of the saga log. The core says when it is tried again, and in which parts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use matricula_core::{Admission, Commit, CommitAnswer};
use matricula_kit::telemetry::{self, spans};

use crate::Workload;
use crate::store::{InstanceId, NewSaga, SagaStore, StoreError};
use crate::workflow::Carried;

/// A commit that takes longer is given up: a half-open connection would be waited for for ever.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);

/// The saga log as one instance writes it.
pub(crate) struct Writer<W: Workload> {
    pub store: SagaStore,
    pub instance: InstanceId,
    pub workload: Arc<W>,
    /// Whether the last try of a commit failed.
    pub failing: Arc<AtomicBool>,
}

impl<W: Workload> Writer<W> {
    /// Writes a commit, once.
    pub(crate) async fn write(&self, commit: &Commit<Arc<Carried<W::Request>>>) -> CommitAnswer {
        let admissions: Result<Vec<NewSaga<'_>>, _> = commit.admissions.iter().map(|new| self.new_saga(new)).collect();
        let admissions = match admissions {
            Ok(admissions) => admissions,
            Err(error) => return CommitAnswer::Refused { problem: error.to_string() },
        };
        let started = Instant::now();
        let span = self.store.commit_span(&admissions);
        let writing = self.store.write(&self.instance, &admissions, &commit.appends);
        let (answer, problem) = match tokio::time::timeout(COMMIT_TIMEOUT, writing).await {
            Ok(Ok((admitted, appended))) => {
                self.failing.store(false, Ordering::Relaxed);
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
        self.failing.store(answer == CommitAnswer::Failed, Ordering::Relaxed);
        metrics::counter!("matricula_log_commit_failures_total").increment(1);
        tracing::warn!(problem, "the saga log could not be written; trying again");
        answer
    }

    fn new_saga<'a>(
        &self,
        admission: &'a Admission<Arc<Carried<W::Request>>>,
    ) -> Result<NewSaga<'a>, serde_json::Error> {
        let definition = self.workload.definition();
        Ok(NewSaga {
            id: admission.id,
            subject: &admission.subject,
            idempotency_key: &admission.key,
            fingerprint: &admission.fingerprint,
            request: serde_json::to_string(&*admission.request.request)?,
            trace: admission.request.submitted(),
            admitted: &admission.admitted,
            definition: (definition.name(), definition.version()),
        })
    }
}
