//! Where one saga stands, from the memory of the instance that drives it: what the log does not tell.
//!
//! Promises: changes nothing; gives up soon, because an operator waits, and then only the log is known.

use std::time::Duration;

use matricula_engine::{LegWait, SagaState, Wait};
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
    /// What each of its legs waits for that is to be called.
    pub legs: Vec<LegWait>,
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
            Some(legs) => SeenBy::Driver(Seen { legs, state: None }),
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
        let mut legs = seen.waits;
        if seen.is_queued {
            let ahead = self.line(saga).and_then(|place| place.ahead).map(|ahead| ahead as u64);
            legs.iter_mut().for_each(|leg| leg.wait = Wait::Turn { ahead });
        }
        for leg in &mut legs {
            self.add_service(leg);
        }
        for handle in self.handles().iter().filter(|handle| seen.called.contains(&handle.name())) {
            let (reply, waits) = oneshot::channel();
            if handle.tell(Told::Look { saga: saga.clone(), reply }) {
                for wait in waits.await.unwrap_or_default() {
                    // A call whose answer is not waited for any more, as its saga is being undone, is left out.
                    let mut own = legs.iter_mut();
                    if let Some(leg) = own.find(|leg| (&leg.step, leg.leg) == (&wait.step, wait.leg)) {
                        *leg = wait;
                    }
                }
            }
        }
        Some(Seen { legs, state: Some(seen.state) })
    }

    /// How the service of a leg stands that has no call of it.
    fn add_service(&self, leg: &mut LegWait) {
        let definition = self.workload().definition();
        let Some(index) = definition.index(&leg.step) else { return };
        let name = definition.step(index).destination;
        if let Some(handle) = self.handles().iter().find(|handle| handle.name() == name) {
            let status = handle.status();
            (leg.failing_since_ms, leg.last_error) = (status.failing_since_ms, status.last_error);
        }
    }
}
