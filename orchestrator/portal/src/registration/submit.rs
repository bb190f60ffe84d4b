//! Submits one registration and waits for its outcome.

use std::time::Duration;

use matricula_kit::id::SagaId;
use matricula_kit::status;
use matricula_kit::telemetry::TraceContext;
use matricula_proto::registration::v1 as wire;
use matricula_runtime::{Submission, SubmitError, Submitted};
use tokio::time::Instant;
use tonic::{Code, Status};
use tracing::Span;

use super::follow::Follower;
use super::request::Item;
use super::{RETRY_UNAVAILABLE, RegistrationGrpc, line};

/// How long a submission waits to become durable: milliseconds, unless the database is away, read-only or full. Then the
/// client is told, before its own patience ends.
const DURABLE_PATIENCE: Duration = Duration::from_secs(5);

impl RegistrationGrpc {
    /// Accepts a registration, whose saga becomes part of the trace of the call, and waits for its outcome.
    pub(super) async fn submit_and_wait(
        &self,
        item: Item,
        client: &TraceContext,
        until: Instant,
    ) -> Result<wire::Registration, Status> {
        let trace = TraceContext::of_span(&Span::current(), client);
        let mut follower = self.submit(item, trace).await?;
        self.wait_for_outcome(&mut follower, until).await;
        Ok(line::placed(&self.runtime, follower.to_wire()))
    }

    async fn submit(&self, item: Item, trace: TraceContext) -> Result<Follower, Status> {
        let Item { key, request } = item;
        // What was seen is stored as it was shown: any replica can tell later what has become of it.
        let request = request.confirmed(|section, version| self.board.seen(section, version));
        let id = SagaId::generate();
        let watcher = self.runtime.watch(&id);
        let submission = Submission {
            id: id.clone(),
            subject: request.student.as_str().to_owned(),
            idempotency_key: key.clone(),
            fingerprint: request.fingerprint(),
            request: request.clone(),
            trace,
        };
        let submitting = tokio::time::timeout(DURABLE_PATIENCE, self.runtime.submit(submission));
        match submitting.await.map_err(|_| not_known())?.map_err(not_accepted)? {
            Submitted::Accepted => Ok(Follower::accepted(watcher, id, key, request)),
            Submitted::Existing(id) => self.follow(&id).await,
        }
    }
}

/// It may still become durable. The client knows its key, so the same again is answered rightly either way.
fn not_known() -> Status {
    let message = "the registration could not be written down in time, and it is not known whether it will be; \
                   send the same again, with the same key";
    status::retry(Code::Unavailable, "LOG_UNAVAILABLE", message, RETRY_UNAVAILABLE)
}

fn not_accepted(error: SubmitError) -> Status {
    let message = error.to_string();
    match error {
        SubmitError::QueueFull { retry_after } => {
            status::retry(Code::ResourceExhausted, "ADMISSION_QUEUE_FULL", message, retry_after)
        }
        SubmitError::OverQuota { retry_after } => {
            status::retry(Code::ResourceExhausted, "STUDENT_QUOTA_EXCEEDED", message, retry_after)
        }
        SubmitError::KeyReused { .. } => status::error(Code::AlreadyExists, "IDEMPOTENCY_KEY_REUSED", message),
        SubmitError::ShuttingDown => status::retry(Code::Unavailable, "SHUTTING_DOWN", message, RETRY_UNAVAILABLE),
        SubmitError::Unstorable(_) => {
            tracing::error!(%error, "a registration could not be stored");
            status::error(Code::Internal, "REQUEST_UNSTORABLE", message)
        }
    }
}
