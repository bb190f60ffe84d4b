//! `RegistrationService`: each RPC from the wire to the runtime and back. It follows a registration until its outcome,
//! in line and in whichever instance drives it.
//!
//! Promises: a request that is out of its bounds is rejected with the name of its field. A registration that is
//! followed is read from the database once at most, at the beginning. Every change comes from the runtime, which drives
//! the sagas of this instance and watches those of other instances.

mod lookup;
#[cfg(test)]
mod tests;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use futures::future::try_join_all;
use futures::stream::{self, BoxStream, Stream};
use matricula_engine::{Outcome, SagaState};
use matricula_kit::id::StudentId;
use matricula_kit::rpc::{self, FieldError, checked_id, each_distinct, free_text, page_size, required_id, wait_time};
use matricula_kit::status;
use matricula_kit::tasks::Tasks;
use matricula_kit::telemetry::{TraceContext, spans};
use matricula_kit::time::UnixMs;
use matricula_proto::registration::v1 as wire;
use matricula_proto::registration::v1::registration_service_server::RegistrationService;
use matricula_registration::{Read, RegistrationRequest, RegistrationView, Registrations, StoredRegistration};
use matricula_runtime::{
    CommandError, CommandRequest, LineView, RequestedCommand, Runtime, SagaFilter, SagaId, SagaRow, Submission,
    SubmitError, Submitted, Ticket, Watcher,
};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};
use tracing::Span;

use self::lookup::Lookup;
use crate::availability::AvailabilityCache;
use crate::line::{self, LineFeed};
use crate::{shutting_down, unavailable};

type Orchestrator = Runtime<Registrations>;

/// How often a submission that is not durable yet checks whether the log can be written at all. When the database
/// refuses commits, the client gets its answer at the next check; when the database hangs, at the first check after the
/// commit has timed out (10 s).
const DURABLE_CHECK: Duration = Duration::from_secs(5);
/// How long a submission waits to become durable while the log is written: seconds in a rush. The contract advises
/// clients to wait 5 s longer, so that a client that is being accepted does not send the same again.
const DURABLE_WAIT_MAX: Duration = Duration::from_secs(25);
/// The author of a cancel in the log: portals send no person's name.
const CANCELLED_BY: &str = "portal";
/// How long a durable cancel waits for the compensation before it is answered with the state of that moment.
const CANCEL_WAIT: Duration = Duration::from_secs(2);

/// Longest idempotency key: a UUID fits three times.
const KEY_BYTES_MAX: usize = 128;
/// Registrations in one cart.
const CART_ITEMS_MAX: usize = 20;
/// Longest reason of a cancel: some sentences, recorded and shown.
const REASON_BYTES_MAX: usize = 500;
/// The answer to students when the door was closed without a sentence.
const CLOSED: &str = "Registration is closed.";

pub(crate) struct RegistrationGrpc {
    runtime: Arc<Orchestrator>,
    lookup: Lookup,
    /// The waiting line, for places.
    line: watch::Receiver<LineView>,
    /// The waiting line, for streams.
    line_feed: Arc<LineFeed>,
    /// Has the versions that students saw.
    cache: Arc<AvailabilityCache>,
    shutdown: CancellationToken,
}

type Answer<T> = Result<Response<T>, Status>;

impl RegistrationGrpc {
    pub(crate) fn new(
        runtime: Arc<Orchestrator>,
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
        let line_feed = LineFeed::start(runtime.clone(), shutdown.clone(), tasks);
        Self { line: runtime.line(), line_feed, runtime, lookup, cache, shutdown }
    }

    /// Accepts a registration, whose saga becomes part of the trace of the call, and waits for its outcome.
    async fn submit_and_wait(
        &self,
        item: Item,
        client: &TraceContext,
        until: Instant,
    ) -> Result<wire::Registration, Status> {
        let trace = TraceContext::of_span(&Span::current(), client);
        // The future that submits is larger than the one that waits, and thousands wait. So it is on the heap, and
        // dropped before the wait.
        let mut follower = Box::pin(self.submit(item, trace)).await?;
        follower.wait_for_outcome(until, &self.shutdown).await;
        Ok(follower.placed(&self.line))
    }

    async fn submit(&self, item: Item, trace: TraceContext) -> Result<Follower, Status> {
        let Item { key, request } = item;
        // The versions that the student saw are stored as they were shown, so that any replica can say later what has
        // happened since.
        let zone = &self.runtime.workload().zone;
        let request = request.confirmed(|section, version| self.cache.seen(section, version), zone);
        let id = matricula_runtime::new_saga_id();
        let watcher = self.runtime.watch(id);
        match self.durably(request.clone().submission(id, key.clone(), trace)).await? {
            Submitted::Accepted { ticket, is_queued } => {
                if is_queued {
                    watcher.waits_in_line(ticket);
                }
                let known = Known::Readable { key, ticket, request: Box::new(request), is_queued, state: None };
                Ok(Follower { watcher, known })
            }
            Submitted::Existing(id) => self.follow(id).await,
        }
    }

    /// Waits until the submission is durable or rejected, as long as the log can be written.
    async fn durably(&self, submission: Submission<RegistrationRequest>) -> Result<Submitted, Status> {
        let mut submitting = pin!(self.runtime.submit(submission));
        let give_up_at = Instant::now() + DURABLE_WAIT_MAX;
        loop {
            match tokio::time::timeout(DURABLE_CHECK, &mut submitting).await {
                Ok(submitted) => return submitted.map_err(not_accepted),
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

    /// Follows a registration of the log.
    async fn follow(&self, id: SagaId) -> Result<Follower, Status> {
        // The watch begins first, so that no change falls between the two.
        let watcher = self.runtime.watch(id);
        let stored = self.stored(id).await?;
        let known = match stored.read {
            Read::Log(request, state) => {
                let SagaRow { idempotency_key: key, ticket, is_queued, .. } = stored.row;
                if is_queued {
                    watcher.waits_in_line(ticket);
                }
                Known::Readable { key, ticket, request: Box::new(request), is_queued, state: Some(Arc::new(state)) }
            }
            Read::Receipt(..) | Read::Unreadable(_) => Known::Fixed(Box::new(stored.to_wire())),
        };
        Ok(Follower { watcher, known })
    }

    async fn stored(&self, id: SagaId) -> Result<StoredRegistration, Status> {
        let row = self.lookup.get(id).await?.ok_or_else(|| status::not_found("registration", &id.to_string()))?;
        Ok(self.runtime.workload().read(row))
    }
}

#[tonic::async_trait]
impl RegistrationService for RegistrationGrpc {
    type WatchLineStream = BoxStream<'static, Result<wire::WatchLineResponse, Status>>;
    type SubmitAndWatchRegistrationStream =
        BoxStream<'static, Result<wire::SubmitAndWatchRegistrationResponse, Status>>;
    type WatchRegistrationStream = BoxStream<'static, Result<wire::WatchRegistrationResponse, Status>>;

    async fn submit_registration(
        &self,
        request: Request<wire::SubmitRegistrationRequest>,
    ) -> Answer<wire::SubmitRegistrationResponse> {
        let trace = TraceContext::from_metadata(request.metadata());
        let request = request.into_inner();
        let wait = wait_time(request.wait_ms)?;
        let item = item(request, self.runtime.now())?;
        let registration = self.submit_and_wait(item, &trace, Instant::now() + wait).await?;
        spans::is_of_saga(&Span::current(), &registration.registration_id);
        Ok(Response::new(wire::SubmitRegistrationResponse { registration: Some(registration) }))
    }

    async fn submit_and_watch_registration(
        &self,
        request: Request<wire::SubmitAndWatchRegistrationRequest>,
    ) -> Answer<Self::SubmitAndWatchRegistrationStream> {
        let trace = TraceContext::from_metadata(request.metadata());
        let item = item(submitted(request.into_inner()), self.runtime.now())?;
        let trace = TraceContext::of_span(&Span::current(), &trace);
        let follower = Box::pin(self.submit(item, trace)).await?;
        spans::is_of_saga(&Span::current(), &follower.watcher.saga().to_string());
        let changes = follower.changes(self.line.clone(), self.shutdown.clone());
        let responses = changes
            .map_ok(|registration| wire::SubmitAndWatchRegistrationResponse { registration: Some(registration) });
        Ok(Response::new(Box::pin(responses)))
    }

    async fn submit_cart(&self, request: Request<wire::SubmitCartRequest>) -> Answer<wire::SubmitCartResponse> {
        let trace = TraceContext::from_metadata(request.metadata());
        let request = request.into_inner();
        let wait = wait_time(request.wait_ms)?;
        let items = cart(request, self.runtime.now())?;
        let until = Instant::now() + wait;
        let submitted = items.into_iter().map(|item| self.submit_and_wait(item, &trace, until));
        let registrations = try_join_all(submitted).await?;
        Ok(Response::new(wire::SubmitCartResponse { registrations }))
    }

    async fn get_registration(
        &self,
        request: Request<wire::GetRegistrationRequest>,
    ) -> Answer<wire::GetRegistrationResponse> {
        let id = registration_id(request.into_inner().registration_id)??;
        let registration = placed(&self.stored(id).await?, &self.line.borrow());
        Ok(Response::new(wire::GetRegistrationResponse { registration: Some(registration) }))
    }

    async fn list_registrations(
        &self,
        request: Request<wire::ListRegistrationsRequest>,
    ) -> Answer<wire::ListRegistrationsResponse> {
        let request = request.into_inner();
        let student = required_id("student_id", request.student_id, StudentId::try_new)?;
        let size = page_size(request.page_size)?;
        let before = rpc::page_after(&request.page_token, rpc::id_part)?;
        let subject = Some(student.into());
        let filter = SagaFilter { subject, archived: true, before, limit: size + 1, ..Default::default() };
        let rows = self.runtime.store().list_somewhat_old(filter).await?;
        let (rows, next_page_token) = rpc::page(rows, size, |row| rpc::page_token(&[&row.id]));
        let line = self.line.borrow().clone();
        let registrations = rows.into_iter().map(|row| placed(&self.runtime.workload().read(row), &line)).collect();
        Ok(Response::new(wire::ListRegistrationsResponse { registrations, next_page_token }))
    }

    async fn watch_registration(
        &self,
        request: Request<wire::WatchRegistrationRequest>,
    ) -> Answer<Self::WatchRegistrationStream> {
        let id = registration_id(request.into_inner().registration_id)??;
        let changes = self.follow(id).await?.changes(self.line.clone(), self.shutdown.clone());
        let responses =
            changes.map_ok(|registration| wire::WatchRegistrationResponse { registration: Some(registration) });
        Ok(Response::new(Box::pin(responses)))
    }

    async fn watch_line(&self, _: Request<wire::WatchLineRequest>) -> Answer<Self::WatchLineStream> {
        Ok(Response::new(Box::pin(self.line_feed.watch())))
    }

    async fn cancel_registration(
        &self,
        request: Request<wire::CancelRegistrationRequest>,
    ) -> Answer<wire::CancelRegistrationResponse> {
        let request = request.into_inner();
        let id = registration_id(request.registration_id)?;
        let reason = free_text("reason", request.reason, REASON_BYTES_MAX)?;
        let registration = self.cancel(id?, reason).await?;
        Ok(Response::new(wire::CancelRegistrationResponse { registration: Some(registration) }))
    }
}

/// It may still become durable. The client has its key, so the same request again gets the right answer either way.
fn not_known() -> Status {
    let message = "the registration could not be stored in time, and it is not known whether it will be; \
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
        SubmitError::Closed { sentence } => {
            let sentence = if sentence.is_empty() { CLOSED.to_owned() } else { sentence };
            status::error(Code::FailedPrecondition, "REGISTRATION_CLOSED", sentence)
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

/// A registration to submit.
#[derive(Debug)]
struct Item {
    /// Unique for the student.
    key: String,
    request: RegistrationRequest,
}

/// The submission of a request that also watches.
fn submitted(request: wire::SubmitAndWatchRegistrationRequest) -> wire::SubmitRegistrationRequest {
    let wire::SubmitAndWatchRegistrationRequest { idempotency_key, student_id, adds, drops, seen_versions } = request;
    wire::SubmitRegistrationRequest { idempotency_key, student_id, adds, drops, seen_versions, wait_ms: 0 }
}

/// A registration from the wire.
fn item(wire: wire::SubmitRegistrationRequest, now: UnixMs) -> Result<Item, FieldError> {
    let wire::SubmitRegistrationRequest { idempotency_key, student_id, adds, drops, seen_versions, wait_ms: _ } = wire;
    let key = key(idempotency_key)?;
    let student = student(student_id)?;
    let request = RegistrationRequest::try_new(student, adds, drops, seen_versions, now)?;
    Ok(Item { key, request })
}

/// All registrations of a cart from the wire, or the first that is out of bounds.
fn cart(wire: wire::SubmitCartRequest, now: UnixMs) -> Result<Vec<Item>, FieldError> {
    let student = student(wire.student_id)?;
    let item = |cart_item| {
        let wire::CartItem { idempotency_key, adds, drops, seen_versions } = cart_item;
        let key = key(idempotency_key)?;
        let request = RegistrationRequest::try_new(student.clone(), adds, drops, seen_versions, now)?;
        Ok(Item { key, request })
    };
    each_distinct("items", wire.items, 1..=CART_ITEMS_MAX, item, "idempotency_key", |item| &item.key)
}

/// The id of a registration. An id within the bounds of the wire may be no UUID: then no registration has it.
fn registration_id(text: String) -> Result<Result<SagaId, Status>, FieldError> {
    let text = checked_id("registration_id", text)?;
    Ok(text.parse().map_err(|_| status::not_found("registration", &text)))
}

fn student(text: String) -> Result<StudentId, FieldError> {
    required_id("student_id", text, StudentId::try_new)
}

fn key(text: String) -> Result<String, FieldError> {
    let shown = match text.len() {
        0 => "an empty value".to_owned(),
        1..=KEY_BYTES_MAX if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) => return Ok(text),
        1..=KEY_BYTES_MAX => format!("{text:?}"),
        bytes => format!("{bytes} bytes"),
    };
    let problem = format!("must be 1-{KEY_BYTES_MAX} bytes of printable ASCII, got {shown}");
    Err(FieldError::new("idempotency_key", problem))
}

/// A registration that is followed.
struct Follower {
    watcher: Watcher,
    known: Known,
}

enum Known {
    Readable {
        key: String,
        ticket: Ticket,
        request: Box<RegistrationRequest>,
        /// It waits in line.
        is_queued: bool,
        /// None while nothing has happened since it was accepted.
        state: Option<Arc<SagaState>>,
    },
    /// It does not change any more here: its log is in the archive, or this replica can't read it.
    Fixed(Box<wire::Registration>),
}

impl Follower {
    /// The registration now, when its turn comes, and each time it looks different, until it is finished.
    fn changes(
        self,
        line: watch::Receiver<LineView>,
        shutdown: CancellationToken,
    ) -> impl Stream<Item = Result<wire::Registration, Status>> {
        stream::try_unfold((self, None), move |(mut follower, sent)| {
            let (line, shutdown) = (line.clone(), shutdown.clone());
            async move {
                let next = follower.next(sent.as_ref(), &line, &shutdown).await?;
                Ok(next.map(|registration| (registration.clone(), (follower, Some(registration)))))
            }
        })
    }

    /// The registration as soon as it looks different from what was sent; `None` when it is finished.
    async fn next(
        &mut self,
        sent: Option<&wire::Registration>,
        line: &watch::Receiver<LineView>,
        shutdown: &CancellationToken,
    ) -> Result<Option<wire::Registration>, Status> {
        loop {
            let now = self.placed(line);
            if sent.is_none_or(|sent| !is_same(sent, &now)) {
                return Ok(Some(now));
            }
            if self.is_finished() {
                return Ok(None);
            }
            tokio::select! {
                () = shutdown.cancelled() => return Err(shutting_down()),
                () = self.changed() => {}
            }
        }
    }

    /// Waits for the next change of a registration that is not finished. May be dropped at any time.
    async fn changed(&mut self) {
        loop {
            let newer = self.watcher.changed().await;
            if self.take(newer) {
                return;
            }
        }
    }

    /// Waits until the outcome is decided or can't change any more, `until` has come, or the process shuts down.
    async fn wait_for_outcome(&mut self, until: Instant, shutdown: &CancellationToken) {
        let waiting = async {
            while !self.is_decided() {
                self.changed().await;
            }
        };
        tokio::select! {
            biased;
            () = waiting => {}
            () = tokio::time::sleep_until(until) => {}
            () = shutdown.cancelled() => {}
        }
    }

    /// Whether the outcome is decided, as far as this replica can read it.
    fn is_decided(&self) -> bool {
        let state = if let Known::Readable { state, .. } = &self.known { state.as_ref() } else { None };
        self.is_finished() || state.is_some_and(|state| state.outcome() != Outcome::Pending)
    }

    /// Whether no change can come any more.
    fn is_finished(&self) -> bool {
        match &self.known {
            Known::Readable { state, .. } => state.as_ref().is_some_and(|state| state.phase().is_finished()),
            Known::Fixed(_) => true,
        }
    }

    /// The registration on the wire.
    fn to_wire(&self) -> wire::Registration {
        match &self.known {
            Known::Readable { key, ticket, request, state, is_queued: _ } => {
                let (id, ticket, state) = (self.watcher.saga(), *ticket, state.as_deref());
                RegistrationView { id, ticket, idempotency_key: key, request, state }.to_wire()
            }
            Known::Fixed(registration) => registration.as_ref().clone(),
        }
    }

    /// The registration on the wire, with its place while it waits in line.
    fn placed(&self, line: &watch::Receiver<LineView>) -> wire::Registration {
        let mut registration = self.to_wire();
        if let Known::Readable { ticket, is_queued: true, .. } = &self.known {
            line::place(&mut registration, *ticket, &line.borrow());
        }
        registration
    }

    /// Takes a newer state. The first state of a registration that waited in line shows that its turn has come, so it
    /// is a change even if it is not newer.
    fn take(&mut self, newer: Arc<SagaState>) -> bool {
        let Known::Readable { state, is_queued, .. } = &mut self.known else { return false };
        let is_known = |known: &SagaState| known.sequence() >= newer.sequence();
        if !std::mem::take(is_queued) && state.as_deref().is_some_and(is_known) {
            return false;
        }
        *state = Some(newer);
        true
    }
}

/// A registration as it is stored, with its place while it waits in line.
fn placed(stored: &StoredRegistration, line: &LineView) -> wire::Registration {
    let mut registration = stored.to_wire();
    if stored.row.is_queued {
        line::place(&mut registration, stored.row.ticket, line);
    }
    registration
}

/// Whether two look the same to a watch. It sends a place and a wait only once, because they change all the time.
fn is_same(one: &wire::Registration, other: &wire::Registration) -> bool {
    let plain = |registration: &wire::Registration| wire::Registration {
        place_in_line: registration.place_in_line.map(|_| 0),
        expected_wait: None,
        ..registration.clone()
    };
    plain(one) == plain(other)
}
