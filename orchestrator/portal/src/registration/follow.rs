//! Follows one registration, wherever it is driven.
//!
//! Promises: it asks the database once at most, when it begins; every change comes from the runtime, which knows what
//! this process drives and looks after what others drive.

use std::sync::Arc;

use matricula_engine::SagaState;
use matricula_kit::id::SagaId;
use matricula_proto::registration::v1 as wire;
use matricula_registration::{RegistrationRequest, RegistrationView, StoredRegistration};
use matricula_runtime::{Watcher, Workload as _};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::lookup::Lookup;
use crate::Orchestrator;

/// One registration as last known here.
pub(crate) struct Follower {
    watcher: Watcher,
    id: SagaId,
    known: Known,
}

enum Known {
    Readable {
        key: String,
        request: Box<RegistrationRequest>,
        /// None while nothing has happened since it was accepted.
        state: Option<Arc<SagaState>>,
    },
    /// Nothing of it will change here: its log is in the archive, or this replica can't read it.
    Fixed(Box<wire::Registration>),
}

impl Follower {
    /// Follows a registration that was just accepted here, with a watch that began before.
    pub(crate) fn accepted(watcher: Watcher, id: SagaId, key: String, request: RegistrationRequest) -> Self {
        let known = Known::Readable { key, request: Box::new(request), state: None };
        Self { watcher, id, known }
    }

    /// Follows a registration of the log; none when there is none.
    pub(super) async fn open(runtime: &Orchestrator, lookup: &Lookup, id: &SagaId) -> Result<Option<Self>, Status> {
        // The watch begins first, so that no change falls between the two.
        let watcher = runtime.watch(id);
        let Some(known) = read(runtime, lookup, id).await? else { return Ok(None) };
        Ok(Some(Self { watcher, id: id.clone(), known }))
    }

    /// Waits for the next change; for ever when there can be none. May be dropped at any time.
    pub(crate) async fn changed(&mut self) {
        if matches!(self.known, Known::Fixed(_)) {
            return std::future::pending().await;
        }
        loop {
            let newer = self.watcher.changed().await;
            if self.take(newer) {
                return;
            }
        }
    }

    /// Waits until the state is as wanted or will not change any more, `until` has come, or the process shuts down.
    pub(crate) async fn wait(
        &mut self,
        until: Instant,
        shutdown: &CancellationToken,
        is_wanted: impl Fn(&SagaState) -> bool,
    ) {
        let waiting = async {
            while !self.is_finished() && !self.state().is_some_and(&is_wanted) {
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

    /// Where it stands; none when that can't be read, or when it was accepted and nothing has happened since.
    pub(crate) fn state(&self) -> Option<&SagaState> {
        match &self.known {
            Known::Readable { state, .. } => state.as_deref(),
            Known::Fixed(_) => None,
        }
    }

    /// Whether no change will come any more.
    pub(crate) fn is_finished(&self) -> bool {
        match &self.known {
            Known::Readable { state, .. } => state.as_ref().is_some_and(|state| state.phase().is_finished()),
            Known::Fixed(_) => true,
        }
    }

    /// The registration on the wire.
    pub(crate) fn to_wire(&self) -> wire::Registration {
        match &self.known {
            Known::Readable { key, request, state } => {
                let view = RegistrationView { id: &self.id, idempotency_key: key, request, state: state.as_deref() };
                view.to_wire()
            }
            Known::Fixed(registration) => registration.as_ref().clone(),
        }
    }

    /// Takes a state, unless it is not newer than what is known.
    fn take(&mut self, newer: Arc<SagaState>) -> bool {
        let Known::Readable { state, .. } = &mut self.known else { return false };
        if state.as_ref().is_some_and(|known| known.sequence() >= newer.sequence()) {
            return false;
        }
        *state = Some(newer);
        true
    }
}

/// The registration as stored.
async fn read(runtime: &Orchestrator, lookup: &Lookup, id: &SagaId) -> Result<Option<Known>, Status> {
    let Some(row) = lookup.get(id).await? else { return Ok(None) };
    let stored = StoredRegistration::read(runtime.workload().definition(), row);
    let fixed = Box::new(stored.to_wire());
    let known = match stored.read {
        Ok((request, state)) => {
            let state = Some(Arc::new(state));
            Known::Readable { key: stored.row.idempotency_key, request: Box::new(request), state }
        }
        Err(_) => Known::Fixed(fixed),
    };
    Ok(Some(known))
}
