//! `RegistrationService`: what portals ask about registrations, from the wire to the runtime and back.

mod cancel;
mod follow;
mod line;
mod lookup;
mod request;
mod submit;

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use futures::future::try_join_all;
use futures::stream::{self, BoxStream};
use matricula_engine::Outcome;
use matricula_kit::id::{SagaId, StudentId};
use matricula_kit::rpc::{page_size, required_id};
use matricula_kit::status;
use matricula_kit::tasks::Tasks;
use matricula_kit::telemetry::{TraceContext, spans};
use matricula_proto::registration::v1 as wire;
use matricula_proto::registration::v1::registration_service_server::RegistrationService;
use matricula_registration::StoredRegistration;
use matricula_runtime::{SagaFilter, Workload as _};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tracing::Span;

use self::follow::Follower;
use self::lookup::Lookup;
use crate::availability::Board;
use crate::{Orchestrator, shutting_down};

/// When a caller should come back to a replica that is starting, ending or handing over.
pub(crate) const RETRY_UNAVAILABLE: Duration = Duration::from_millis(500);
/// How often a watch looks at the place in line: a person reads no faster, and thousands may watch.
const LINE_LOOK: Duration = Duration::from_secs(1);

/// The service.
pub(crate) struct RegistrationGrpc {
    runtime: Arc<Orchestrator>,
    lookup: Lookup,
    /// Knows what students saw.
    board: Arc<Board>,
    shutdown: CancellationToken,
}

type Answer<T> = Result<Response<T>, Status>;

impl RegistrationGrpc {
    pub(crate) fn new(
        runtime: Arc<Orchestrator>,
        board: Arc<Board>,
        shutdown: CancellationToken,
        tasks: &Tasks,
    ) -> Self {
        let store = runtime.store().clone();
        let read = move |ids| {
            let store = store.clone();
            async move { store.get_many(ids).await }
        };
        let lookup = Lookup::start(read, tasks);
        Self { runtime, lookup, board, shutdown }
    }

    async fn follow(&self, id: &SagaId) -> Result<Follower, Status> {
        let follower = Follower::open(&self.runtime, &self.lookup, id).await?;
        follower.ok_or_else(|| status::not_found("registration", id.as_str()))
    }

    /// Waits until the outcome stands, but not beyond `until`, nor beyond the life of this process.
    async fn wait_for_outcome(&self, follower: &mut Follower, until: Instant) {
        follower.wait(until, &self.shutdown, |state| state.outcome() != Outcome::Pending).await;
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
        let id = request::registration_id(request.into_inner().registration_id)?;
        let row = self.lookup.get(&id).await?;
        let row = row.ok_or_else(|| status::not_found("registration", id.as_str()))?;
        let registration = StoredRegistration::read(self.runtime.workload().definition(), row).to_wire();
        let registration = line::placed(&self.runtime, registration).await;
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
            token => Some(required_id("page_token", token, SagaId::try_new)?),
        };
        // One more than asked for tells whether there is a next page.
        let subject = Some(student.into());
        let filter = SagaFilter { subject, archived: true, before, limit: size + 1, ..Default::default() };
        let mut rows = self.runtime.store().list_somewhat_old(filter).await?;
        let has_more = rows.len() > usize::try_from(size).unwrap_or(usize::MAX);
        if has_more {
            rows.pop();
        }
        let next = rows.last().filter(|_| has_more).map(|row| row.id.as_str().to_owned());
        let definition = self.runtime.workload().definition();
        let mut registrations = Vec::with_capacity(rows.len());
        for row in rows {
            let registration = StoredRegistration::read(definition, row).to_wire();
            registrations.push(line::placed(&self.runtime, registration).await);
        }
        let next_page_token = next.unwrap_or_default();
        Ok(Response::new(wire::ListRegistrationsResponse { registrations, next_page_token }))
    }

    async fn watch_registration(
        &self,
        request: Request<wire::WatchRegistrationRequest>,
    ) -> Answer<Self::WatchRegistrationStream> {
        let id = request::registration_id(request.into_inner().registration_id)?;
        let (runtime, shutdown) = (self.runtime.clone(), self.shutdown.clone());
        let watch = Watch { runtime, follower: self.follow(&id).await?, told: None, shutdown };
        let changes = stream::try_unfold(watch, |mut watch| async move {
            Ok::<_, Status>(watch.next().await?.map(|registration| (registration, watch)))
        });
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
        let registration = self.cancel(&id, reason).await?;
        Ok(Response::new(wire::CancelRegistrationResponse { registration: Some(registration) }))
    }
}

/// One watch of one registration.
struct Watch {
    runtime: Arc<Orchestrator>,
    follower: Follower,
    told: Option<wire::Registration>,
    shutdown: CancellationToken,
}

impl Watch {
    /// The registration now, and then each time it looks different; `None` when it is finished.
    async fn next(&mut self) -> Result<Option<wire::Registration>, Status> {
        loop {
            let now = line::placed(&self.runtime, self.follower.to_wire()).await;
            let is_in_line = now.place_in_line.is_some();
            if self.told.as_ref().is_none_or(|told| !line::is_same(told, &now)) {
                self.told = Some(now.clone());
                return Ok(Some(now));
            }
            if self.follower.is_finished() {
                return Ok(None);
            }
            // Nobody is woken by a line that moves on.
            let look = async {
                match is_in_line {
                    true => tokio::time::sleep(LINE_LOOK).await,
                    false => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.shutdown.cancelled() => return Err(shutting_down()),
                () = self.follower.changed() => {}
                () = look => {}
            }
        }
    }
}
