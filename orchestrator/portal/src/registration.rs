//! `RegistrationService`: each RPC from the wire to the runtime and back.
//!
//! | module | one job |
//! |---|---|
//! | `request` | the bounds of a request, checked once |
//! | this one | submits, cancels, reads and lists |
//! | `follow` | one registration until its outcome, its place in line, and the stream of its changes |
//! | `lookup` | reads of the database, joined |

mod follow;
mod lookup;
mod request;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use futures::future::try_join_all;
use futures::stream::BoxStream;
use matricula_kit::id::StudentId;
use matricula_kit::rpc::{checked_id, page_size, required_id};
use matricula_kit::status;
use matricula_kit::tasks::Tasks;
use matricula_kit::telemetry::{TraceContext, spans};
use matricula_proto::registration::v1 as wire;
use matricula_proto::registration::v1::registration_service_server::RegistrationService;
use matricula_registration::{RegistrationRequest, Registrations, StoredRegistration};
use matricula_runtime::{
    CommandError, CommandRequest, RequestedCommand, Runtime, SagaFilter, SagaId, Submission, SubmitError, Submitted,
    Workload as _,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};
use tracing::Span;

use self::follow::{Follower, placed};
use self::lookup::Lookup;
use self::request::Item;
use crate::availability::AvailabilityCache;
use crate::unavailable::unavailable;

/// How often a submission that is not durable yet looks whether the log can be written at all. When the database
/// refuses, the client gets its answer at the next look; when it hangs, at the first look after the commit has timed
/// out (10 s).
const DURABLE_LOOK: Duration = Duration::from_secs(5);
/// How long a submission waits to become durable while the log is written: seconds in a rush. The contract advises
/// clients to wait 5 s longer, so that a client that is being accepted does not ask again.
const DURABLE_WAIT_MAX: Duration = Duration::from_secs(25);
/// The author of a cancel in the log: portals don't say which person.
const CANCELLED_BY: &str = "portal";
/// How long a cancel that is durable may take to be undone before it is answered as it stands.
const CANCEL_WAIT: Duration = Duration::from_secs(2);

/// The service.
pub(crate) struct RegistrationGrpc {
    runtime: Arc<Runtime<Registrations>>,
    lookup: Lookup,
    /// Knows what students saw.
    cache: Arc<AvailabilityCache>,
    shutdown: CancellationToken,
}

type Answer<T> = Result<Response<T>, Status>;

impl RegistrationGrpc {
    pub(crate) fn new(
        runtime: Arc<Runtime<Registrations>>,
        cache: Arc<AvailabilityCache>,
        shutdown: CancellationToken,
        tasks: &Tasks,
    ) -> Self {
        let store = runtime.store().clone();
        let read = move |ids| {
            let store = store.clone();
            async move { store.get_many(ids).await }
        };
        let lookup = Lookup::start(read, tasks);
        Self { runtime, lookup, cache, shutdown }
    }

    /// Accepts a registration, whose saga becomes part of the trace of the call, and waits for its outcome.
    async fn submit_and_wait(
        &self,
        item: Item,
        client: &TraceContext,
        until: Instant,
    ) -> Result<wire::Registration, Status> {
        let trace = TraceContext::of_span(&Span::current(), client);
        let mut follower = self.submit(item, trace).await?;
        follower.wait_for_outcome(until, &self.shutdown).await;
        Ok(follower.placed(&self.runtime).await)
    }

    async fn submit(&self, item: Item, trace: TraceContext) -> Result<Follower, Status> {
        let Item { key, request } = item;
        // The versions that the student saw are stored as they were shown: any replica can tell later what has become
        // of it.
        let zone = self.runtime.workload().zone();
        let request = request.confirmed(|section, version| self.cache.seen(section, version), zone);
        let id = matricula_runtime::new_saga_id();
        let watcher = self.runtime.watch(id);
        let submission = Submission {
            id,
            subject: request.student.as_str().to_owned(),
            idempotency_key: key.clone(),
            fingerprint: request.fingerprint(),
            request: request.clone(),
            trace,
        };
        match self.durably(submission).await?.map_err(not_accepted)? {
            Submitted::Accepted => Ok(Follower::accepted(watcher, id, key, request)),
            Submitted::Existing(id) => self.follow(id).await,
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

    async fn cancel(&self, id: SagaId, reason: String) -> Result<wire::Registration, Status> {
        let request =
            CommandRequest { command: RequestedCommand::Cancel, by: CANCELLED_BY.to_owned(), reason, id: None };
        self.runtime.command(id, request).await.map_err(|error| not_cancelled(id, error))?;
        let mut follower = self.follow(id).await?;
        follower.wait_for_outcome(Instant::now() + CANCEL_WAIT, &self.shutdown).await;
        Ok(follower.to_wire())
    }

    async fn follow(&self, id: SagaId) -> Result<Follower, Status> {
        let follower = Follower::open(&self.runtime, &self.lookup, id).await?;
        follower.ok_or_else(|| status::not_found("registration", &id.to_string()))
    }
}

#[tonic::async_trait]
impl RegistrationService for RegistrationGrpc {
    type WatchRegistrationStream = BoxStream<'static, Result<wire::WatchRegistrationResponse, Status>>;

    async fn submit_registration(
        &self,
        request: Request<wire::SubmitRegistrationRequest>,
    ) -> Answer<wire::SubmitRegistrationResponse> {
        let trace = TraceContext::from_metadata(request.metadata());
        let request = request.into_inner();
        let wait = request::wait(request.wait_ms)?;
        let item = request::item(request, self.runtime.now())?;
        let registration = self.submit_and_wait(item, &trace, Instant::now() + wait).await?;
        spans::is_of_saga(&Span::current(), &registration.registration_id);
        Ok(Response::new(wire::SubmitRegistrationResponse { registration: Some(registration) }))
    }

    async fn submit_cart(&self, request: Request<wire::SubmitCartRequest>) -> Answer<wire::SubmitCartResponse> {
        let trace = TraceContext::from_metadata(request.metadata());
        let request = request.into_inner();
        let wait = request::wait(request.wait_ms)?;
        let items = request::cart(request, self.runtime.now())?;
        let until = Instant::now() + wait;
        let submitted = items.into_iter().map(|item| self.submit_and_wait(item, &trace, until));
        let registrations = try_join_all(submitted).await?;
        Ok(Response::new(wire::SubmitCartResponse { registrations }))
    }

    async fn get_registration(
        &self,
        request: Request<wire::GetRegistrationRequest>,
    ) -> Answer<wire::GetRegistrationResponse> {
        let id = request::registration_id(request.into_inner().registration_id)??;
        let row = self.lookup.get(id).await?;
        let row = row.ok_or_else(|| status::not_found("registration", &id.to_string()))?;
        let registration = StoredRegistration::read(self.runtime.workload().definition(), row).to_wire();
        let registration = placed(&self.runtime, id, registration).await;
        Ok(Response::new(wire::GetRegistrationResponse { registration: Some(registration) }))
    }

    async fn list_registrations(
        &self,
        request: Request<wire::ListRegistrationsRequest>,
    ) -> Answer<wire::ListRegistrationsResponse> {
        let request = request.into_inner();
        let student = required_id("student_id", request.student_id, StudentId::try_new)?;
        let size = page_size(request.page_size)?;
        let before = match request.page_token {
            token if token.is_empty() => None,
            token => Some(checked_id("page_token", token)?),
        };
        // One more than asked for tells whether there is a next page.
        let subject = Some(student.into());
        let filter = SagaFilter { subject, archived: true, before, limit: size + 1, ..Default::default() };
        let mut rows = self.runtime.store().list_somewhat_old(filter).await?;
        let has_more = rows.len() > usize::try_from(size).unwrap_or(usize::MAX);
        if has_more {
            rows.pop();
        }
        let next = rows.last().filter(|_| has_more).map(|row| row.id.to_string());
        let definition = self.runtime.workload().definition();
        let mut registrations = Vec::with_capacity(rows.len());
        for row in rows {
            let stored = StoredRegistration::read(definition, row);
            registrations.push(placed(&self.runtime, stored.row.id, stored.to_wire()).await);
        }
        let next_page_token = next.unwrap_or_default();
        Ok(Response::new(wire::ListRegistrationsResponse { registrations, next_page_token }))
    }

    async fn watch_registration(
        &self,
        request: Request<wire::WatchRegistrationRequest>,
    ) -> Answer<Self::WatchRegistrationStream> {
        let id = request::registration_id(request.into_inner().registration_id)??;
        let changes = self.follow(id).await?.changes(self.runtime.clone(), self.shutdown.clone());
        let responses =
            changes.map_ok(|registration| wire::WatchRegistrationResponse { registration: Some(registration) });
        Ok(Response::new(Box::pin(responses)))
    }

    async fn cancel_registration(
        &self,
        request: Request<wire::CancelRegistrationRequest>,
    ) -> Answer<wire::CancelRegistrationResponse> {
        let request = request.into_inner();
        let id = request::registration_id(request.registration_id)?;
        let reason = request::cancel_reason(request.reason)?;
        let registration = self.cancel(id?, reason).await?;
        Ok(Response::new(wire::CancelRegistrationResponse { registration: Some(registration) }))
    }
}

/// It may still become durable. The client knows its key, so the same again is answered rightly either way.
fn not_known() -> Status {
    let message = "the registration could not be written down in time, and it is not known whether it will be; \
                   send the same again, with the same key";
    unavailable("LOG_UNAVAILABLE", message)
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
        SubmitError::ShuttingDown => unavailable("SHUTTING_DOWN", &message),
        SubmitError::Unstorable(_) => {
            tracing::error!(%error, "a registration could not be stored");
            status::error(Code::Internal, "REQUEST_UNSTORABLE", message)
        }
    }
}

fn not_cancelled(id: SagaId, error: CommandError) -> Status {
    let message = error.to_string();
    match error {
        CommandError::NotFound => status::not_found("registration", &id.to_string()),
        CommandError::Refused(_) => status::error(Code::FailedPrecondition, "TOO_LATE_TO_CANCEL", message),
        CommandError::LeftAlone(_) => status::error(Code::FailedPrecondition, "SAGA_UNREADABLE", message),
        CommandError::Unanswered => {
            let message = "the cancel is not recorded yet; send it again";
            unavailable("NOT_CANCELLED_YET", message)
        }
        CommandError::Database(error) => error.into(),
    }
}
