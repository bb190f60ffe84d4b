//! Follows one registration until its outcome, wherever it is driven, with its place in the waiting line.
//!
//! Promises: it asks the database once at most, when it begins; every change comes from the runtime, which knows what
//! this process drives and looks after what others drive.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, Stream};
use matricula_engine::{Outcome, SagaState};
use matricula_proto::registration::v1 as wire;
use matricula_registration::{RegistrationRequest, RegistrationView, Registrations, StoredRegistration};
use matricula_runtime::{Runtime, SagaId, Watcher, Workload as _};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::lookup::Lookup;
use crate::unavailable::shutting_down;

type Orchestrator = Runtime<Registrations>;

/// How often a watch looks at the place in line: a person reads no faster, and thousands may watch.
const LINE_LOOK: Duration = Duration::from_secs(1);

/// One registration as last known here.
pub(super) struct Follower {
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
    pub(super) fn accepted(watcher: Watcher, id: SagaId, key: String, request: RegistrationRequest) -> Self {
        let known = Known::Readable { key, request: Box::new(request), state: None };
        Self { watcher, id, known }
    }

    /// Follows a registration of the log; none when there is none.
    pub(super) async fn open(runtime: &Orchestrator, lookup: &Lookup, id: SagaId) -> Result<Option<Self>, Status> {
        // The watch begins first, so that no change falls between the two.
        let watcher = runtime.watch(id);
        let Some(known) = read(runtime, lookup, id).await? else { return Ok(None) };
        Ok(Some(Self { watcher, id, known }))
    }

    /// The registration now, and then each time it looks different, until it is finished.
    pub(super) fn changes(
        self,
        runtime: Arc<Orchestrator>,
        shutdown: CancellationToken,
    ) -> impl Stream<Item = Result<wire::Registration, Status>> {
        let watch = Watch { runtime, follower: self, sent: None, shutdown };
        stream::try_unfold(watch, |mut watch| async move {
            Ok(watch.next().await?.map(|registration| (registration, watch)))
        })
    }

    /// Waits for the next change; for ever when there can be none. May be dropped at any time.
    async fn changed(&mut self) {
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

    /// Waits until the outcome stands or can't change any more, `until` has come, or the process shuts down.
    pub(super) async fn wait_for_outcome(&mut self, until: Instant, shutdown: &CancellationToken) {
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

    /// Whether the outcome stands, as far as this replica can read it.
    fn is_decided(&self) -> bool {
        match &self.known {
            Known::Readable { state: Some(state), .. } => {
                state.outcome() != Outcome::Pending || state.phase().is_finished()
            }
            Known::Readable { state: None, .. } => false,
            Known::Fixed(_) => true,
        }
    }

    /// Whether no change will come any more.
    fn is_finished(&self) -> bool {
        match &self.known {
            Known::Readable { state, .. } => state.as_ref().is_some_and(|state| state.phase().is_finished()),
            Known::Fixed(_) => true,
        }
    }

    /// The registration on the wire.
    pub(super) fn to_wire(&self) -> wire::Registration {
        match &self.known {
            Known::Readable { key, request, state } => {
                let view = RegistrationView { id: self.id, idempotency_key: key, request, state: state.as_deref() };
                view.to_wire()
            }
            Known::Fixed(registration) => registration.as_ref().clone(),
        }
    }

    /// The registration on the wire, with its place in the waiting line.
    pub(super) async fn placed(&self, runtime: &Orchestrator) -> wire::Registration {
        placed(runtime, self.id, self.to_wire()).await
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
async fn read(runtime: &Orchestrator, lookup: &Lookup, id: SagaId) -> Result<Option<Known>, Status> {
    let Some(row) = lookup.get(id).await? else { return Ok(None) };
    let stored = StoredRegistration::read(runtime.workload().definition(), row);
    let known = match stored.read {
        Ok((request, state)) => {
            let state = Some(Arc::new(state));
            Known::Readable { key: stored.row.idempotency_key, request: Box::new(request), state }
        }
        Err(_) => Known::Fixed(Box::new(stored.to_wire())),
    };
    Ok(Some(known))
}

/// One watch of one registration.
struct Watch {
    runtime: Arc<Orchestrator>,
    follower: Follower,
    sent: Option<wire::Registration>,
    shutdown: CancellationToken,
}

impl Watch {
    /// The registration now, and then each time it looks different; `None` when it is finished.
    async fn next(&mut self) -> Result<Option<wire::Registration>, Status> {
        loop {
            let now = self.follower.placed(&self.runtime).await;
            let is_in_line = now.place_in_line.is_some();
            if self.sent.as_ref().is_none_or(|sent| !is_same(sent, &now)) {
                self.sent = Some(now.clone());
                return Ok(Some(now));
            }
            if self.follower.is_finished() {
                return Ok(None);
            }
            // The runtime wakes no watch when the waiting line moves on.
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

/// The registration with its place in the waiting line, when it waits for its outcome and this replica drives it.
pub(super) async fn placed(
    runtime: &Orchestrator,
    id: SagaId,
    mut registration: wire::Registration,
) -> wire::Registration {
    // A saga that compensates has no place any more.
    if registration.outcome() != wire::Outcome::Pending || !registration.reasons.is_empty() {
        return registration;
    }
    if let Some(place) = runtime.place(id).await {
        registration.place_in_line = place.ahead.and_then(|ahead| i32::try_from(ahead).ok());
        registration.expected_wait = place.expected_wait.and_then(|wait| wait.try_into().ok());
    }
    registration
}

/// Whether two look the same, except for the expected wait, which changes all the time.
fn is_same(one: &wire::Registration, other: &wire::Registration) -> bool {
    let plain = |registration: &wire::Registration| wire::Registration { expected_wait: None, ..registration.clone() };
    plain(one) == plain(other)
}
