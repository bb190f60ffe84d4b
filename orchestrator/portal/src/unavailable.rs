//! How a request is answered that this replica can't serve now: with the time after which the client should try again.

use std::time::Duration;

use matricula_kit::status;
use tonic::{Code, Status};

/// When a client should come back to a replica that is starting, ending or handing over.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// A request that can be sent again soon.
pub(crate) fn unavailable(reason: &'static str, message: &str) -> Status {
    status::retry(Code::Unavailable, reason, message, RETRY_AFTER)
}

/// The end of a stream when the process shuts down. The client must not take it for the end of the changes.
pub(crate) fn shutting_down() -> Status {
    unavailable("SHUTTING_DOWN", "the orchestrator is shutting down; ask again")
}
