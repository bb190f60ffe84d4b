//! Takes submissions: past the gate, into the log, and back with what became of them.
//!
//! Promises: who is told `Accepted` has a durable saga; who is turned away is told at once, and has none.

use std::sync::Arc;
use std::time::Duration;

use matricula_engine::{Recorded, SagaState};
use matricula_kit::id::SagaId;
use matricula_kit::telemetry::TraceContext;
use tokio::sync::oneshot;

use super::Runtime;
use crate::Workload;
use crate::executor::Entrant;
use crate::gate::{Entered, Entry, TurnedAway};
use crate::store::{Admission, NewSaga};
use crate::writer::Write;

/// Repeats of students that are over their quota which are looked up at a time: a flood of them is not let to the database.
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
        // First of all: whoever is turned away, or clicks again, costs next to nothing.
        let Submission { id, subject, idempotency_key: key, fingerprint, .. } = &submission;
        match self.gate.enter(Entry { id, subject, key, fingerprint }) {
            Ok(Entered::New) => {}
            Ok(Entered::Known { id, same_request }) => return existing(id, same_request),
            Err(why) => return self.turned_away(why, &submission).await,
        }
        let id = submission.id.clone();
        let (reply, admission) = oneshot::channel();
        let handed_over = self.new_saga(submission).and_then(|(saga, entrant)| {
            let write = Write::Admit { saga: Box::new(saga), entrant, reply };
            self.writes.send(write).map_err(|_| SubmitError::ShuttingDown)
        });
        if let Err(error) = handed_over {
            self.gate.withdraw(&id);
            return Err(error);
        }
        // From here on the executor counts it off: when it is decided, or turns out to exist.
        match admission.await.map_err(|_| SubmitError::ShuttingDown)? {
            Ok(Admission::Admitted) => Ok(Submitted::Accepted),
            Ok(Admission::Existing { id, same_request }) => existing(id, same_request),
            Err(problem) => Err(SubmitError::Unstorable(problem)),
        }
    }

    /// What one is told who is not let in. A repeat of what was accepted before takes nothing, and is answered whatever
    /// the subject's quota says.
    async fn turned_away(&self, why: TurnedAway, what: &Submission<W::Request>) -> Result<Submitted, SubmitError> {
        let (bound, error) = match why {
            TurnedAway::Full(retry_after) => ("queue", SubmitError::QueueFull { retry_after }),
            TurnedAway::OverQuota(retry_after) => ("quota", SubmitError::OverQuota { retry_after }),
        };
        if let (TurnedAway::OverQuota(_), Ok(_looking)) = (why, self.repeats.try_acquire()) {
            // When the database does not answer, the caller comes back and asks again.
            let found = self.store.of_key(&what.subject, &what.idempotency_key).await;
            if let Ok(Some((id, fingerprint))) = found {
                return existing(id, fingerprint == what.fingerprint);
            }
        }
        metrics::counter!("matricula_submissions_turned_away_total", "bound" => bound).increment(1);
        Err(error)
    }

    fn new_saga(&self, submission: Submission<W::Request>) -> Result<(NewSaga, Entrant<W::Request>), SubmitError> {
        let Submission { id, subject, idempotency_key, fingerprint, request, trace } = submission;
        let definition = self.workload.definition();
        let now_ms = self.clock.now().0;
        let admitted = Recorded::first(now_ms, definition.admit(self.workload.applies(&request), now_ms));
        // What does not fold must not become durable: nobody could ever drive it.
        let state = SagaState::replay(definition, [&admitted]);
        let state = state.map_err(|error| SubmitError::Unstorable(error.to_string()))?;
        let text = serde_json::to_string(&request).map_err(|error| SubmitError::Unstorable(error.to_string()))?;
        let entrant = Entrant { id: id.clone(), request: Arc::new(request), trace: trace.clone(), state };
        let definition = (definition.name(), definition.version());
        let saga = NewSaga { id, subject, idempotency_key, fingerprint, request: text, trace, admitted, definition };
        Ok((saga, entrant))
    }
}

fn existing(id: SagaId, same_request: bool) -> Result<Submitted, SubmitError> {
    if same_request { Ok(Submitted::Existing(id)) } else { Err(SubmitError::KeyReused { existing: id }) }
}
