//! Where one saga stands, from the memory of the instance that drives it: what the log does not tell.
//!
//! Promises: changes nothing; gives up soon, because an operator waits, and then only the log is known.

use std::sync::Arc;
use std::time::Duration;

use matricula_engine::{CallWait, SagaState};
use tokio::time::Instant;

use crate::Workload;
use crate::driver::LOOK_MAX;
use crate::runtime::Runtime;
use crate::store::SagaRow;

/// How long another instance may take.
const OWNER_MAX: Duration = Duration::from_secs(3);

/// What is known of a saga beside its log.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its calls that are due, and what each waits for.
    pub calls: Vec<CallWait>,
    /// Its state, where this instance drives it: the log may be behind it.
    pub state: Option<Arc<SagaState>>,
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
    /// Where a saga stands by the instance that drives it.
    pub async fn look(&self, row: &SagaRow) -> SeenBy {
        if row.owner == self.instance().as_str() {
            return match tokio::time::timeout(LOOK_MAX, self.driver().look(row.id)).await {
                Ok(Some(seen)) => SeenBy::Driver(Seen { calls: seen.waits, state: Some(seen.state) }),
                Ok(None) => SeenBy::LogOnly { why: "it is not in the memory of its instance".to_owned() },
                Err(_) => SeenBy::LogOnly { why: "its instance is too busy to look".to_owned() },
            };
        }
        if !row.owner_alive {
            return SeenBy::LogOnly { why: format!("instance {}, which drove it, does not live", row.owner) };
        }
        match self.requests().look(row.id, Instant::now() + OWNER_MAX).await {
            Some(calls) => SeenBy::Driver(Seen { calls, state: None }),
            None => SeenBy::LogOnly { why: format!("instance {}, which drives it, did not answer", row.owner) },
        }
    }
}
