//! Submits one registration and waits for its outcome.

use std::pin::pin;
use std::time::Duration;

use matricula_kit::id::SagaId;
use matricula_kit::status;
use matricula_kit::telemetry::TraceContext;
use matricula_proto::registration::v1 as wire;
use matricula_registration::RegistrationRequest;
use matricula_runtime::{Submission, SubmitError, Submitted};
use tokio::time::Instant;
use tonic::{Code, Status};
use tracing::Span;

use super::follow::Follower;
use super::request::Item;
use super::{RETRY_UNAVAILABLE, RegistrationGrpc, line};

/// How often a submission that is not durable yet looks whether the log can be written at all. When the database refuses, the
/// client gets its answer at the next look; when it hangs, at the first look after the commit has timed out (10 s).
const DURABLE_LOOK: Duration = Duration::from_secs(5);
/// How long a submission waits to become durable while the log is written: seconds in a rush. The contract advises clients
/// to wait 5 s longer, so that a client that is being accepted does not ask again.
const DURABLE_WAIT_MAX: Duration = Duration::from_secs(25);

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
        Ok(line::placed(&self.runtime, follower.to_wire()).await)
    }

    async fn submit(&self, item: Item, trace: TraceContext) -> Result<Follower, Status> {
        let Item { key, request } = item;
        // What was seen is stored as it was shown: any replica can tell later what has become of it.
        let zone = self.runtime.workload().zone();
        let request = request.confirmed(|section, version| self.board.seen(section, version), zone);
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
        match self.durably(submission).await?.map_err(not_accepted)? {
            Submitted::Accepted => Ok(Follower::accepted(watcher, id, key, request)),
            Submitted::Existing(id) => self.follow(&id).await,
        }
    }

    /// Waits until the submission is durable or rejected, as long as the log is written.
    async fn durably(
        &self,
        submission: Submission<RegistrationRequest>,
    ) -> Result<Result<Submitted, SubmitError>, Status> {
        let mut submitting = pin!(self.runtime.submit(submission));
        let give_up_at = Instant::now() + DURABLE_WAIT_MAX;
        loop {
            match tokio::time::timeout(DURABLE_LOOK, &mut submitting).await {
                Ok(submitted) => return Ok(submitted),
                Err(_) if self.runtime.is_log_failing() || Instant::now() >= give_up_at => return Err(not_known()),
                Err(_) => {}
            }
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
