//! `SagaService`: each RPC of operators, from the wire to the runtime and back.
//!
//! | module | one job |
//! |---|---|
//! | `commands` | the commands of operators, carried out by the instance that drives the saga |
//! | `door` | `DoorService`: whether registration is open |
//! | `find` | a saga by the beginning of its id |
//! | `list` | pages, and the export for the audit |
//! | `watch` | sagas as they change |

mod commands;
pub(crate) mod door;
pub(crate) mod find;
mod list;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use matricula_engine::OperatorCommand;
use matricula_kit::rpc::{FieldError, checked_id};
use matricula_kit::status;
use matricula_proto::ops::v1 as ops;
use matricula_proto::ops::v1::saga_service_server::SagaService;
use matricula_registration::StoredRegistration;
use matricula_runtime::RequestedCommand::{Cancel, Operator};
use matricula_runtime::{DestinationStatus, SagaId, Workload as _};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};

use crate::{Orchestrator, explain, wire};

/// Highest limit of RPCs in flight to a service: more do not fit a connection.
const IN_FLIGHT_MAX: i32 = 1_000;
/// When a stream that the shutdown has ended may begin again.
const RETRY_UNAVAILABLE: Duration = Duration::from_millis(500);

pub(crate) struct SagaGrpc {
    runtime: Arc<Orchestrator>,
    shutdown: CancellationToken,
}

type Answer<T> = Result<Response<T>, Status>;

/// Carries out a command and answers its request: the requests and responses of all commands have these fields.
macro_rules! carry_out {
    ($self:ident, $request:ident, $command:expr, $response:ident) => {{
        let carried = $self.carry_out($request.saga_id, $command, $request.by, $request.reason, $request.command_id);
        let (summary, result, pending) = carried.await?;
        Ok(Response::new(ops::$response { summary, result, pending }))
    }};
}

impl SagaGrpc {
    pub(crate) fn new(runtime: Arc<Orchestrator>, shutdown: CancellationToken) -> Self {
        Self { runtime, shutdown }
    }

    async fn stored(&self, id: SagaId) -> Result<StoredRegistration, Status> {
        let row = self.runtime.store().get(id).await?;
        let row = row.ok_or_else(|| status::not_found("saga", &id.to_string()))?;
        Ok(self.runtime.workload().read(row))
    }

    /// A destination of this replica.
    fn destination(&self, status: DestinationStatus) -> ops::Destination {
        let (instance, outages) = (self.runtime.instance(), self.runtime.outages());
        let mut own = outages.iter().filter(|outage| outage.instance == instance.as_str());
        let outage = own.find(|outage| outage.destination == status.name);
        wire::destination(status, instance, outage)
    }
}

#[tonic::async_trait]
impl SagaService for SagaGrpc {
    type WatchSagasStream = BoxStream<'static, Result<ops::WatchSagasResponse, Status>>;
    type ExportLedgerStream = BoxStream<'static, Result<ops::ExportLedgerResponse, Status>>;

    async fn list_sagas(&self, request: Request<ops::ListSagasRequest>) -> Answer<ops::ListSagasResponse> {
        Ok(Response::new(list::list(&self.runtime, request.into_inner()).await?))
    }

    async fn get_saga(&self, request: Request<ops::GetSagaRequest>) -> Answer<ops::GetSagaResponse> {
        let stored = self.stored(saga_id(request.into_inner().saga_id)??).await?;
        Ok(Response::new(wire::shown(self.runtime.workload().definitions(), &stored)))
    }

    async fn find_saga(&self, request: Request<ops::FindSagaRequest>) -> Answer<ops::FindSagaResponse> {
        Ok(Response::new(find::saga(&self.runtime, request.into_inner()).await?))
    }

    async fn explain_saga(&self, request: Request<ops::ExplainSagaRequest>) -> Answer<ops::ExplainSagaResponse> {
        let stored = self.stored(saga_id(request.into_inner().saga_id)??).await?;
        Ok(Response::new(explain::explained(&self.runtime, &stored).await?))
    }

    async fn retry_saga(&self, request: Request<ops::RetrySagaRequest>) -> Answer<ops::RetrySagaResponse> {
        let request = request.into_inner();
        let step = if request.step.is_empty() { None } else { Some(self.step(request.step)?) };
        carry_out!(self, request, Operator(OperatorCommand::Retry { step }), RetrySagaResponse)
    }

    async fn skip_step(&self, request: Request<ops::SkipStepRequest>) -> Answer<ops::SkipStepResponse> {
        let request = request.into_inner();
        let step = self.step(request.step)?;
        carry_out!(self, request, Operator(OperatorCommand::Skip { step }), SkipStepResponse)
    }

    async fn resolve_step(&self, request: Request<ops::ResolveStepRequest>) -> Answer<ops::ResolveStepResponse> {
        let request = request.into_inner();
        let step = self.step(request.step)?;
        let answer = commands::resolution(request.answer, &request.reason)?;
        carry_out!(self, request, Operator(OperatorCommand::Resolve { step, answer }), ResolveStepResponse)
    }

    async fn abandon_saga(&self, request: Request<ops::AbandonSagaRequest>) -> Answer<ops::AbandonSagaResponse> {
        let request = request.into_inner();
        carry_out!(self, request, Operator(OperatorCommand::Abandon), AbandonSagaResponse)
    }

    async fn cancel_saga(&self, request: Request<ops::CancelSagaRequest>) -> Answer<ops::CancelSagaResponse> {
        let request = request.into_inner();
        carry_out!(self, request, Cancel, CancelSagaResponse)
    }

    async fn watch_sagas(&self, request: Request<ops::WatchSagasRequest>) -> Answer<Self::WatchSagasStream> {
        let ops::WatchSagasRequest { needs_attention } = request.into_inner();
        let sagas = watch::sagas(self.runtime.clone(), needs_attention, self.shutdown.clone());
        Ok(Response::new(Box::pin(sagas)))
    }

    async fn list_destinations(
        &self,
        _: Request<ops::ListDestinationsRequest>,
    ) -> Answer<ops::ListDestinationsResponse> {
        let (instance, outages) = (self.runtime.instance(), self.runtime.outages());
        let others = outages.iter().filter(|outage| outage.instance != instance.as_str());
        let others_in_trouble = others.map(wire::outage).collect();
        let destinations = self.runtime.destinations().await.into_iter();
        let destinations = destinations.map(|status| self.destination(status)).collect();
        Ok(Response::new(ops::ListDestinationsResponse { destinations, others_in_trouble }))
    }

    async fn set_destination_limit(
        &self,
        request: Request<ops::SetDestinationLimitRequest>,
    ) -> Answer<ops::SetDestinationLimitResponse> {
        let ops::SetDestinationLimitRequest { name, in_flight_max } = request.into_inner();
        let limit = usize::try_from(in_flight_max).ok().filter(|_| in_flight_max <= IN_FLIGHT_MAX);
        let limit = limit.ok_or_else(|| {
            FieldError::new("in_flight_max", format!("must be 0 to {IN_FLIGHT_MAX}, got {in_flight_max}"))
        })?;
        let is_set = self.runtime.set_destination_limit(&name, limit).await;
        let destinations = self.runtime.destinations().await;
        // The core has ended with this replica: nothing was set.
        if destinations.is_empty() {
            return Err(shutting_down());
        }
        let names = destinations.iter().map(|one| one.name).collect::<Vec<_>>().join(", ");
        let destination = destinations.into_iter().find(|one| one.name == name);
        let destination = destination.ok_or_else(|| FieldError::new("name", format!("must be one of {names}")))?;
        if !is_set {
            return Err(shutting_down());
        }
        tracing::info!(destination = name, in_flight_max, "an operator has changed how many calls may be in flight");
        Ok(Response::new(ops::SetDestinationLimitResponse { destination: Some(self.destination(destination)) }))
    }

    async fn export_ledger(&self, _: Request<ops::ExportLedgerRequest>) -> Answer<Self::ExportLedgerStream> {
        Ok(Response::new(Box::pin(list::export(self.runtime.clone(), self.shutdown.clone()))))
    }
}

/// The id of a saga. An id within the bounds of the wire may be no UUID: then no saga has it.
fn saga_id(text: String) -> Result<Result<SagaId, Status>, FieldError> {
    let text = checked_id("saga_id", text)?;
    Ok(text.parse().map_err(|_| status::not_found("saga", &text)))
}

pub(crate) fn shutting_down() -> Status {
    status::retry(Code::Unavailable, "SHUTTING_DOWN", "the orchestrator is shutting down", RETRY_UNAVAILABLE)
}
