//! Where one saga stands, from the memory of the instance that drives it: what the log does not tell.
//!
//! Promises: changes nothing; gives up soon, because an operator waits, and then only the log is known.

use std::time::Duration;

use matricula_engine::{CallWait, SagaState, Wait};
use matricula_kit::id::SagaId;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::Workload;
use crate::destination::Told;
use crate::executor::Look;
use crate::runtime::Runtime;
use crate::store::SagaRow;

/// How long the tasks of this instance may take to answer.
const HERE_MAX: Duration = Duration::from_millis(500);
/// How long another instance may take.
const OWNER_MAX: Duration = Duration::from_secs(3);

/// What is known of a saga beside its log.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its calls that are due, and what each waits for.
    pub calls: Vec<CallWait>,
    /// Its state, where this instance drives it: the log may be behind it.
    pub state: Option<std::sync::Arc<SagaState>>,
}

/// Where the answer came from.
#[derive(Debug, Clone)]
pub enum SeenBy {
    /// The instance that drives it.
    Driver(Seen),
    /// Nobody: the instance that drives it has not answered, or there is none. Only the log is known.
    LogOnly {
        /// Why.
        why: String,
    },
}

impl<W: Workload> Runtime<W> {
    /// Where a saga stands by whoever drives it.
    pub async fn look(&self, row: &SagaRow) -> SeenBy {
        if row.owner == self.instance().as_str() {
            return match tokio::time::timeout(HERE_MAX, self.look_now(&row.id)).await {
                Ok(Some(seen)) => SeenBy::Driver(seen),
                Ok(None) => SeenBy::LogOnly { why: "it is not in the memory of its instance".to_owned() },
                Err(_) => SeenBy::LogOnly { why: "its instance is too busy to look".to_owned() },
            };
        }
        if !row.owner_alive {
            return SeenBy::LogOnly { why: format!("instance {}, which drove it, does not live", row.owner) };
        }
        match self.ask_owner_to_look(&row.id, Instant::now() + OWNER_MAX).await {
            Some(calls) => SeenBy::Driver(Seen { calls, state: None }),
            None => SeenBy::LogOnly { why: format!("instance {}, which drives it, did not answer", row.owner) },
        }
    }

    /// None when this instance does not drive the saga, or is too busy.
    pub(crate) async fn look_here(&self, saga: &SagaId) -> Option<Seen> {
        tokio::time::timeout(HERE_MAX, self.look_now(saga)).await.ok()?
    }

    async fn look_now(&self, saga: &SagaId) -> Option<Seen> {
        let (reply, seen) = oneshot::channel();
        self.looks().send(Look::Saga { saga: saga.clone(), reply }).await.ok()?;
        let seen = seen.await.ok()??;
        let mut calls = seen.waits;
        if seen.is_queued {
            let ahead = self.line(saga).and_then(|place| place.ahead).map(|ahead| ahead as u64);
            calls.iter_mut().for_each(|call| call.wait = Wait::Turn { ahead });
        }
        for call in &mut calls {
            self.add_service(call);
        }
        for handle in self.handles().iter().filter(|handle| seen.called.contains(&handle.name())) {
            let (reply, waits) = oneshot::channel();
            if handle.tell(Told::Look { saga: saga.clone(), reply }) {
                for wait in waits.await.unwrap_or_default() {
                    // A call whose answer is not waited for any more, as its saga is being undone, is left out.
                    let mut own = calls.iter_mut();
                    if let Some(call) = own.find(|call| (&call.step, call.direction) == (&wait.step, wait.direction)) {
                        *call = wait;
                    }
                }
            }
        }
        Some(Seen { calls, state: Some(seen.state) })
    }

    /// Adds the state of the service of a call that the service does not have yet.
    fn add_service(&self, call: &mut CallWait) {
        let definition = self.workload().definition();
        let Some(index) = definition.index(&call.step) else { return };
        let name = definition.step(index).destination;
        if let Some(handle) = self.handles().iter().find(|handle| handle.name() == name) {
            let status = handle.status();
            (call.failing_since_ms, call.last_error) = (status.failing_since_ms, status.last_error);
        }
    }
}
