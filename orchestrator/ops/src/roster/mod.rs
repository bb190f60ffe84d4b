//! `RosterService`: takes over rows of rosters as registrations, and waits for their outcomes.
//!
//! ```text
//! rows ──► their earlier registrations (one read) ──► next ──┬─► submit ──┬─► wait ──► outcomes (one read)
//!                                                            └─► follow ──┘
//! ```
//!
//! Promises: a call that is repeated makes no second registration. A row that can't be taken over delays no other row.

mod next;
mod row;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use matricula_engine::Outcome;
use matricula_kit::id::RosterRowId;
use matricula_kit::rpc::wait_time;
use matricula_kit::status;
use matricula_kit::telemetry::TraceContext;
use matricula_proto::ops::v1 as ops;
use matricula_proto::ops::v1::roster_service_server::RosterService;
use matricula_proto::registration::v1 as wire;
use matricula_registration::request::{ROSTER_KEY_PREFIX, parse_roster_key, roster_key};
use matricula_runtime::{KeyedSaga, SagaId, SagaRow, SubmitError, Submitted, Watcher};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};
use tracing::Span;

use self::next::{Earlier, Next, Standing};
use self::row::Row;
use crate::Orchestrator;
use crate::grpc::shutting_down;

/// When a row may be sent again after an earlier registration of it was still under way: a registration takes some tens
/// of milliseconds.
const RETRY_UNDER_WAY: Duration = Duration::from_millis(500);
/// How long the rows of a call wait to become durable: as long as a registration of a portal.
const DURABLE_WAIT_MAX: Duration = Duration::from_secs(25);
/// When a call may be made again after its rows have not become durable.
const RETRY_UNAVAILABLE: Duration = Duration::from_secs(1);

pub(crate) struct RosterGrpc {
    runtime: Arc<Orchestrator>,
    shutdown: CancellationToken,
}

type EarlierByRow = HashMap<(String, RosterRowId), Vec<Earlier>>;

impl RosterGrpc {
    pub(crate) fn new(runtime: Arc<Orchestrator>, shutdown: CancellationToken) -> Self {
        Self { runtime, shutdown }
    }

    /// The registrations that earlier imports submitted for the rows, and for other rows of the same students.
    async fn earlier(&self, rows: &[Row]) -> Result<EarlierByRow, Status> {
        let mut students: Vec<&str> = rows.iter().map(|row| row.request.student.as_str()).collect();
        students.sort_unstable();
        students.dedup();
        let mut of_rows = EarlierByRow::new();
        for saga in self.runtime.store().of_prefix(&students, ROSTER_KEY_PREFIX).await? {
            if let Some((row, earlier)) = earlier(saga) {
                of_rows.entry(row).or_default().push(earlier);
            }
        }
        Ok(of_rows)
    }

    /// Submits a registration for a row, or follows the earlier one. Its watch begins before its state is read.
    async fn begin(
        &self,
        row: Row,
        earlier: &EarlierByRow,
        trace: &TraceContext,
    ) -> Result<Result<Watcher, ops::NotTakenOver>, Status> {
        let student = row.request.student.as_str().to_owned();
        let earlier = earlier.get(&(student, row.id.clone())).map_or(&[][..], Vec::as_slice);
        match next::next(&row.request, earlier) {
            Next::Follow(id) => Ok(Ok(self.runtime.watch(id))),
            Next::Submit { number } => self.submit(row, number, trace).await,
            Next::Await(id) => {
                let message = format!("registration {id} of this row is under way");
                Ok(Err(not_taken_over(message, RETRY_UNDER_WAY)))
            }
            Next::Refuse(message) => Ok(Err(not_taken_over(message, Duration::ZERO))),
        }
    }

    async fn submit(
        &self,
        row: Row,
        number: u32,
        trace: &TraceContext,
    ) -> Result<Result<Watcher, ops::NotTakenOver>, Status> {
        let watcher = self.runtime.watch(matricula_runtime::new_saga_id());
        let key = roster_key(&row.id, number);
        match self.runtime.submit(row.request.submission(watcher.saga(), key, trace.clone())).await {
            Ok(Submitted::Accepted { .. }) => Ok(Ok(watcher)),
            Ok(Submitted::Existing(id)) => Ok(Ok(self.runtime.watch(id))),
            Err(SubmitError::ShuttingDown) => Err(shutting_down()),
            Err(error) => Ok(Err(not_accepted(&error))),
        }
    }

    /// The registrations once all are decided, `until` has come, or the process shuts down.
    async fn decided(
        &self,
        mut begun: Vec<Watcher>,
        until: Instant,
    ) -> Result<HashMap<SagaId, wire::Registration>, Status> {
        let mut known = self.read(&begun).await?;
        let is_pending = |one: &wire::Registration| one.outcome() == wire::Outcome::Pending;
        begun.retain(|watcher| known.get(&watcher.saga()).is_some_and(is_pending));
        let waiting =
            begun.iter_mut().map(|watcher| async { while watcher.changed().await.outcome() == Outcome::Pending {} });
        let waiting = join_all(waiting);
        tokio::select! {
            biased;
            _ = waiting => {}
            () = tokio::time::sleep_until(until) => {}
            () = self.shutdown.cancelled() => {}
        }
        known.extend(self.read(&begun).await?);
        Ok(known)
    }

    async fn read(&self, begun: &[Watcher]) -> Result<HashMap<SagaId, wire::Registration>, Status> {
        let mut ids: Vec<SagaId> = begun.iter().map(Watcher::saga).collect();
        ids.sort_unstable();
        ids.dedup();
        let rows = self.runtime.store().get_many(ids).await?;
        let registration = |row: SagaRow| (row.id, self.runtime.workload().read(row).to_wire());
        Ok(rows.into_iter().map(registration).collect())
    }
}

#[tonic::async_trait]
impl RosterService for RosterGrpc {
    async fn take_over(
        &self,
        request: Request<ops::TakeOverRequest>,
    ) -> Result<Response<ops::TakeOverResponse>, Status> {
        let trace = TraceContext::of_span(&Span::current(), &TraceContext::from_metadata(request.metadata()));
        let ops::TakeOverRequest { rows, charge, wait_ms } = request.into_inner();
        let until = Instant::now() + wait_time(wait_ms)?;
        let rows = row::rows(rows, charge, self.runtime.now())?;
        let earlier = self.earlier(&rows).await?;
        let begun = try_join_all(rows.into_iter().map(|row| self.begin(row, &earlier, &trace)));
        let begun = tokio::time::timeout(DURABLE_WAIT_MAX, begun).await.map_err(|_| not_known())??;
        let results: Vec<_> = begun.iter().map(|one| one.as_ref().map(Watcher::saga).map_err(Clone::clone)).collect();
        let open = begun.into_iter().flatten().collect();
        let registrations = self.decided(open, until).await?;
        let results = results.into_iter().map(|result| result_of(result, &registrations));
        Ok(Response::new(ops::TakeOverResponse { results: results.collect() }))
    }
}

/// A registration of an earlier import, with its row; none for the key of a portal.
fn earlier(saga: KeyedSaga) -> Option<((String, RosterRowId), Earlier)> {
    let (row, number) = parse_roster_key(&saga.idempotency_key)?;
    let request = serde_json::from_str(&saga.request).ok();
    Some(((saga.subject, row), Earlier { id: saga.id, number, request, standing: Standing::of(&saga.outcome) }))
}

fn result_of(
    result: Result<SagaId, ops::NotTakenOver>,
    registrations: &HashMap<SagaId, wire::Registration>,
) -> ops::RosterResult {
    use ops::roster_result::Result as Wire;
    let result = match result {
        Ok(id) => match registrations.get(&id) {
            Some(registration) => Wire::Registration(registration.clone()),
            None => Wire::NotTakenOver(not_taken_over(format!("registration {id} is not in the log"), RETRY_UNDER_WAY)),
        },
        Err(why) => Wire::NotTakenOver(why),
    };
    ops::RosterResult { result: Some(result) }
}

fn not_accepted(error: &SubmitError) -> ops::NotTakenOver {
    let retry_after = match error {
        SubmitError::QueueFull { retry_after } | SubmitError::OverQuota { retry_after } => *retry_after,
        // Two imports at the same time want different changes of the row: one of them goes first.
        SubmitError::KeyReused { .. } | SubmitError::ShuttingDown => RETRY_UNDER_WAY,
        // The door does not apply to rosters.
        SubmitError::Closed { .. } | SubmitError::Unstorable(_) => Duration::ZERO,
    };
    not_taken_over(error.to_string(), retry_after)
}

fn not_taken_over(message: String, retry_after: Duration) -> ops::NotTakenOver {
    let retry_after_ms = i64::try_from(retry_after.as_millis()).unwrap_or(i64::MAX);
    ops::NotTakenOver { message, retry_after_ms }
}

/// Some rows may still become durable. Their keys are made of their rows, so the same call again gets the right answer
/// either way.
fn not_known() -> Status {
    let message = "the rows could not be stored in time, and it is not known whether they will be; send the same again";
    status::retry(Code::Unavailable, "LOG_UNAVAILABLE", message, RETRY_UNAVAILABLE)
}
