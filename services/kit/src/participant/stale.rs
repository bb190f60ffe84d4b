//! An operation that is too old to be decided without a barrier row: its saga may have been purged.

use crate::answer::{Answer, NotYet};
use crate::time::UnixMs;

/// An operation without a barrier row is not decided when its orchestrator last knew so long ago that it drives the
/// saga, in milliseconds: two hours. So the clocks of two machines may differ by an hour, and far more than that,
/// before a fresh call is kept out.
pub const STALE_AFTER_MS: i64 = 2 * 60 * 60 * 1_000;

/// When a stale operation should be sent again: at once would be the same.
const RETRY_STALE_MS: i64 = 1_000;

/// Whether an operation is too old to be decided without a barrier row.
pub(super) fn is_stale(owner_alive_at: Option<UnixMs>, now: UnixMs) -> bool {
    owner_alive_at.is_some_and(|alive_at| now.0.saturating_sub(alive_at.0) > STALE_AFTER_MS)
}

/// What is answered to it. Nothing is recorded.
pub(super) fn stale() -> Answer {
    metrics::counter!("matricula_stale_operations_total").increment(1);
    Answer::NotYet(NotYet {
        reason: "STALE_OPERATION".to_owned(),
        message: format!(
            "by the clock of this service the call is more than {} minutes old, and is not decided any more; when every call \
             is answered so, the clocks of the machines differ",
            STALE_AFTER_MS / 60_000
        ),
        retry_after_ms: RETRY_STALE_MS,
        waits_for: None,
    })
}
