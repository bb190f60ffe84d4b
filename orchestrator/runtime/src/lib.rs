//! The shell around the core of an orchestrator: sockets, database, timers. It moves data and makes no decision about a
//! saga.
//!
//! ```text
//! portal, ops ──► Runtime ──Mailbox──► shell ──step──► core
//!                                       │ │ │
//!                                       │ │ └─► replies, watch, peers, logs, metrics
//!                                       │ └───► calls ──► participants
//!                                       └─────► commits, lease ──► store ──► database
//! ```
//!
//! | module | one job |
//! |---|---|
//! | `runtime` | the handle and the state that the tasks share: starts and stops the tasks, accepts submissions |
//! | `shell` | the task that owns the core and carries out its outputs, and the mailbox of that task |
//! | `workflow` | the workload as the core sees it: the data kept with a saga, and how its calls are made |
//! | `lease` | carries out the core's requests to the database, one try each |
//! | `news` | delivers changes to watchers, other instances, logs and metrics; follows sagas of other instances |
//! | `commands` | sends commands and looks of clients and operators to the instance that drives the saga |
//! | `peers` | messages between instances |
//! | `outages` | services that do not answer |
//! | `store`, `archive`, `retention` | the saga log: its SQL, its archive, and the move from one to the other |
//!
//! The promises are the core's (see `matricula_core`). Examples: an admission is answered when it is durable, and this
//! instance has at most one call in flight for each (saga, step, direction). The runtime knows no domain: a
//! [`Workload`] brings the definitions and the calls.

pub mod archive;
mod commands;
mod lease;
mod news;
mod outages;
mod peers;
mod retention;
mod runtime;
mod shell;
mod store;
mod workflow;

use std::sync::Arc;

use async_trait::async_trait;
pub use matricula_core::{
    CoreConfig as RuntimeConfig, DestinationStatus, Door, DoorState, InvalidSagaId, LineView, SagaId, Ticket,
};
use matricula_engine::{CallAnswer, CallError, Definitions, Direction, Kind, Recorded, SagaState, Step, StepIndex};
use matricula_kit::telemetry::TraceContext;
use matricula_kit::telemetry::spans::Peer;
use matricula_kit::time::UnixMs;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use commands::{CommandError, CommandRequest, RequestedCommand, Seen};
pub use news::{METRICS, Progress, Watcher};
pub use peers::{Changed, Changes};
pub use retention::{Retention, RetentionConfig};
pub use runtime::{Runtime, Submission, SubmitError, Submitted};
pub use store::{
    Archived, DoorChange, InstanceId, KeyedSaga, Outage, SCHEMA, SagaFilter, SagaRow, SagaStore, StoreError,
    StoredRequest,
};

/// The tasks of an orchestrator in logs and in metrics.
pub(crate) const ROLE: &str = "orchestrator";

/// The work of an orchestrator's sagas.
#[async_trait]
pub trait Workload: Send + Sync + 'static {
    /// The request that a saga carries out; stored with it as JSON.
    type Request: Serialize + DeserializeOwned + Send + Sync + 'static;

    /// The tables of steps: the current version, and the earlier versions that stored sagas began with. A version must
    /// stay here as long as the database or an archive has a saga of it.
    fn definitions(&self) -> &Definitions;

    /// The names of the steps of the current definition that a request needs.
    fn applies(&self, request: &Self::Request) -> Vec<&'static str>;

    /// Whether a client or another saga waits for the effect of an action. Any other call may be delayed until it can
    /// share an RPC with calls of its kind. Compensations are never delayed.
    fn is_waited_for(&self, step: &Step, _request: &Self::Request) -> bool {
        step.kind != Kind::Finalizer
    }

    /// Where a destination is, for traces.
    fn peer(&self, destination: &'static str) -> Peer {
        let _ = destination;
        Peer::default()
    }

    /// Makes one RPC for a batch of calls to one destination, and returns one answer for each call, in their order. An
    /// error means "unknown" for all of them.
    async fn call(
        &self,
        destination: &'static str,
        rpc: &'static str,
        calls: &[Call<Self::Request>],
    ) -> Result<Vec<CallAnswer>, CallError>;

    /// Has a destination delete its barrier rows of these sagas, at most 1,000. They ended so long ago that no call of
    /// them can arrive any more. May be repeated.
    async fn forget(&self, destination: &'static str, sagas: &[SagaId]) -> Result<(), CallError>;

    /// The receipt of a finished saga as JSON, which is kept for ever when the log goes to the archive: the answer of
    /// the saga, and the data that an audit needs.
    fn receipt(&self, request: &Self::Request, state: &SagaState, log: &[Recorded]) -> Result<String, String>;
}

/// A call of a step of a saga, in one direction.
#[derive(Debug)]
pub struct Call<R> {
    /// The saga.
    pub saga: SagaId,
    /// The step.
    pub step: StepIndex,
    /// The name of the step. A compensation has the name of the step that it undoes.
    pub step_name: &'static str,
    /// Whether the call does the step or undoes it.
    pub direction: Direction,
    /// The number of this attempt, counted from 1 for each direction.
    pub attempt: u32,
    /// The request.
    pub request: Arc<R>,
    /// The saga's state when the call became due. It contains the outputs of earlier steps.
    pub state: Arc<SagaState>,
    /// The trace of this attempt.
    pub trace: TraceContext,
    /// When the database last confirmed the lease of this instance, by the database's clock. This is before the end of
    /// the saga, however long the call waits to be sent: a service can detect a call that is far too old.
    pub owner_alive_at: UnixMs,
}

/// A new id of a saga, larger than all earlier ones of this process.
pub fn new_saga_id() -> SagaId {
    SagaId::from_u128(uuid::Uuid::now_v7().as_u128())
}
