//! The shell around the core of an orchestrator: sockets, database, timers. It moves data and decides nothing about a
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
//! | `runtime` | the handle, and what the tasks share: starts and ends them, takes submissions |
//! | `shell` | the task that owns the core and writes its commits, and the mailbox that leads to it |
//! | `workflow` | the workload as the core sees it: what a saga carries, how its calls are made |
//! | `lease` | what the core asks the database, tried once |
//! | `news` | what watchers, other instances, logs and metrics get, of sagas that are driven here and elsewhere |
//! | `commands` | commands and looks of clients and operators, wherever the saga is driven |
//! | `peers` | messages between instances |
//! | `outages` | services that do not answer |
//! | `store`, `archive`, `retention` | the saga log: its SQL, its archive, the way from one to the other |
//!
//! Promises are the core's (see `matricula_core`): an admission is answered when it is durable; at most one call of a
//! (saga, step, direction) is in flight from here. It knows no domain: a [`Workload`] brings the definitions and the
//! calls.

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
pub use retention::{Retention, RetentionConfig};
pub use runtime::{Runtime, Submission, SubmitError, Submitted};
pub use store::{
    Archived, DoorChange, InstanceId, KeyedSaga, Outage, SCHEMA, SagaFilter, SagaRow, SagaStore, StoreError,
    StoredRequest,
};

/// The tasks of an orchestrator in logs and in metrics.
pub(crate) const ROLE: &str = "orchestrator";

/// What the sagas of an orchestrator do.
#[async_trait]
pub trait Workload: Send + Sync + 'static {
    /// What a saga works from; stored as JSON with it.
    type Request: Serialize + DeserializeOwned + Send + Sync + 'static;

    /// The tables of steps: of new sagas, and of those that began with an earlier version. A version stays here for as
    /// long as a saga of it, or an archive with one, is to be read.
    fn definitions(&self) -> &Definitions;

    /// Names of the steps of the current definition that have something to do for a request.
    fn applies(&self, request: &Self::Request) -> Vec<&'static str>;

    /// Whether somebody waits for the answer of an action: for the outcome, or for what it gives back. A call that
    /// nobody waits for may gather with others of its kind. Compensations never gather.
    fn is_waited_for(&self, step: &Step, _request: &Self::Request) -> bool {
        step.kind != Kind::Finalizer
    }

    /// Where a destination is, for traces.
    fn peer(&self, destination: &'static str) -> Peer {
        let _ = destination;
        Peer::default()
    }

    /// Makes one RPC for a batch of calls to one destination, and returns an answer a call, in their order. An error
    /// means "unknown" for all of them.
    async fn call(
        &self,
        destination: &'static str,
        rpc: &'static str,
        calls: &[Call<Self::Request>],
    ) -> Result<Vec<CallAnswer>, CallError>;

    /// Has a destination take away what it keeps against repeats of these sagas, at most 1,000, which ended so long ago
    /// that no call of them can come any more. May be asked again.
    async fn forget(&self, destination: &'static str, sagas: &[SagaId]) -> Result<(), CallError>;

    /// What is kept for ever of a finished saga when its log goes to the archive, as JSON: its answer, in the words of
    /// the domain, and what an audit needs to know of it.
    fn receipt(&self, request: &Self::Request, state: &SagaState, log: &[Recorded]) -> Result<String, String>;
}

/// One call of one step of one saga, in one direction.
#[derive(Debug)]
pub struct Call<R> {
    /// The saga.
    pub saga: SagaId,
    /// The step.
    pub step: StepIndex,
    /// Its name; of an undo, the name of the step that it undoes.
    pub step_name: &'static str,
    /// Which direction.
    pub direction: Direction,
    /// Counted from 1 in its direction.
    pub attempt: u32,
    /// The request.
    pub request: Arc<R>,
    /// The saga as it stood when the call became due: the outputs of earlier steps are in it.
    pub state: Arc<SagaState>,
    /// The trace of this attempt.
    pub trace: TraceContext,
    /// When this instance last knew that it drives the saga, by the database's clock: before the saga's end, however
    /// long the call waits to be sent, and whatever has become of the instance since.
    pub owner_alive_at: UnixMs,
}

/// A new id of a saga, larger than every id made before it by this process.
pub fn new_saga_id() -> SagaId {
    SagaId::from_u128(uuid::Uuid::now_v7().as_u128())
}
