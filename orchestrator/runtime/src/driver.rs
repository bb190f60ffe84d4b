//! Commands and looks at the instance that drives the saga, and answers about sagas that are finished.

use std::sync::Arc;
use std::time::Duration;

use matricula_core::{Input, Reply, SagaId, SagaView, answer_finished};
use matricula_engine::{DecideError, SagaState};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::Workload;
use crate::command_request::CommandRequest;
use crate::mailbox::{Clock, Mailbox};
use crate::store::{SagaRow, SagaStore};

/// How long the core may take to answer an operator.
pub(crate) const LOOK_MAX: Duration = Duration::from_millis(500);

/// The sagas of this instance, as commands and operators reach them.
pub(crate) struct Driver<W: Workload> {
    pub mailbox: Mailbox<W>,
    pub clock: Clock,
    pub store: SagaStore,
    pub workload: Arc<W>,
}

impl<W: Workload> Driver<W> {
    /// Has a command carried out here. `None`: this instance does not drive the saga, or has not persisted by then what
    /// was decided. The database may refuse a log for as long as nobody mends it.
    pub(crate) async fn command(
        &self,
        saga: SagaId,
        request: CommandRequest,
        until: Instant,
    ) -> Option<Result<(), DecideError>> {
        let (caller, reply) = oneshot::channel();
        self.mailbox.input(Input::Commanded { saga, command: request.into_input(), caller });
        match tokio::time::timeout_at(until, reply).await.ok()?.ok()? {
            Reply::Done(_) => Some(Ok(())),
            Reply::Refused(error) => Some(Err(error)),
            _ => None,
        }
    }

    /// Answers a command for a saga that is finished. `None`: it is not finished, or can't be read.
    pub(crate) async fn command_to_finished(
        &self,
        saga: SagaId,
        request: CommandRequest,
    ) -> Option<Result<(), DecideError>> {
        let row = self.store.get(saga).await.ok()??;
        let state = self.read(&row).ok().filter(|state| state.phase().is_finished())?;
        Some(self.of_finished(&state, request))
    }

    /// Answers a command for a saga that is finished.
    pub(crate) fn of_finished(&self, state: &SagaState, request: CommandRequest) -> Result<(), DecideError> {
        answer_finished(self.workload.definition(), state, request.into_input(), self.clock.now().0)
    }

    /// The state that a row's log tells.
    pub(crate) fn read(&self, row: &SagaRow) -> Result<SagaState, String> {
        let log = row.log.as_ref().map_err(Clone::clone)?;
        SagaState::replay(self.workload.definition(), log).map_err(|error| error.to_string())
    }

    /// Where a saga stands. `None`: this instance does not drive it, or has ended.
    pub(crate) async fn look(&self, saga: SagaId) -> Option<SagaView> {
        self.mailbox.query(move |core, now| core.look(now, saga)).await?
    }
}
