//! Takes submissions to the core, and back with what became of them.
//!
//! Promises: an accepted submission is a durable saga. A rejected one is answered at once, and is none.

use std::time::Duration;

use matricula_core::{Input, Reply, SagaId};
use matricula_kit::telemetry::TraceContext;
use tokio::sync::oneshot;

use super::Runtime;
use crate::Workload;
use crate::workflow::Carried;

/// Repeats of students that are over their quota which are looked up at a time: a flood of them is not let to the
/// database.
pub(super) const REPEATS_MAX: usize = 8;

/// What is submitted.
#[derive(Debug, Clone)]
pub struct Submission<R> {
    /// A new id.
    pub id: SagaId,
    /// Whom it is about.
    pub subject: String,
    /// Unique for each subject.
    pub idempotency_key: String,
    /// The request in one canonical form.
    pub fingerprint: String,
    /// What the saga works from.
    pub request: R,
    /// The trace that it belongs to.
    pub trace: TraceContext,
}

/// What became of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// It is accepted, durably.
    Accepted,
    /// The same was submitted before: this is its saga.
    Existing(SagaId),
}

/// Why a submission was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Too many are waiting. Nothing was accepted.
    #[error("too many registrations are waiting")]
    QueueFull {
        /// When to come back.
        retry_after: Duration,
    },
    /// This subject has too many open, or submits too fast. Nothing was accepted.
    #[error("the student has too many registrations under way, or submits too many a second")]
    OverQuota {
        /// When to come back.
        retry_after: Duration,
    },
    /// The key was used for another request.
    #[error("the idempotency key was used before, for another request (registration {existing})")]
    KeyReused {
        /// The registration of that time.
        existing: SagaId,
    },
    /// It is not known whether it was accepted: the orchestrator is shutting down.
    #[error("the orchestrator is shutting down")]
    ShuttingDown,
    /// The request can't be stored, or is none of this saga's. Nothing was accepted.
    #[error("the request can't be stored: {0}")]
    Unstorable(String),
}

impl<W: Workload> Runtime<W> {
    /// Accepts a submission durably, or says why not. Watch the id first to miss nothing.
    pub async fn submit(&self, submission: Submission<W::Request>) -> Result<Submitted, SubmitError> {
        if self.stopping.is_cancelled() {
            return Err(SubmitError::ShuttingDown);
        }
        let Submission { id, subject, idempotency_key: key, fingerprint, request, trace } = submission;
        let submission = matricula_core::Submission {
            id,
            subject: subject.clone(),
            key: key.clone(),
            fingerprint: fingerprint.clone(),
            request: Carried::new(request, trace),
        };
        let (caller, reply) = oneshot::channel();
        self.driver.mailbox.input(Input::Submitted { submission, caller });
        let (bound, error) = match reply.await.map_err(|_| SubmitError::ShuttingDown)? {
            Reply::Accepted(_) => return Ok(Submitted::Accepted),
            Reply::Existing { id, same_request } => return existing(id, same_request),
            Reply::Unstorable(problem) => return Err(SubmitError::Unstorable(problem)),
            Reply::QueueFull { retry_after } => ("queue", SubmitError::QueueFull { retry_after }),
            Reply::OverQuota { retry_after } => {
                if let Some((id, of_existing)) = self.repeated(&subject, &key).await {
                    return existing(id, of_existing == fingerprint);
                }
                ("quota", SubmitError::OverQuota { retry_after })
            }
            Reply::ShuttingDown | Reply::Done(_) | Reply::Refused(_) | Reply::NotHere => {
                return Err(SubmitError::ShuttingDown);
            }
        };
        metrics::counter!("matricula_submissions_turned_away_total", "bound" => bound).increment(1);
        Err(error)
    }

    /// The saga that a student who is over the quota has submitted with this key before, and its fingerprint. A repeat
    /// of what was accepted takes nothing, and is answered whatever the quota says. When the database does not answer,
    /// the client comes back and asks again.
    async fn repeated(&self, subject: &str, key: &str) -> Option<(SagaId, String)> {
        let _looking = self.repeats.try_acquire().ok()?;
        self.store().of_key(subject, key).await.ok()?
    }
}

fn existing(id: SagaId, same_request: bool) -> Result<Submitted, SubmitError> {
    if same_request { Ok(Submitted::Existing(id)) } else { Err(SubmitError::KeyReused { existing: id }) }
}
