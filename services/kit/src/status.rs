//! The one place where errors become a `tonic::Status`: code, `ErrorInfo`, `RetryInfo`, `BadRequest`. The caller gets a
//! message; the cause goes to the log.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::answer::NotYet;
use crate::database::DbError;
use crate::participant::WriteError;
use crate::rpc::FieldError;
use crate::telemetry;

/// Domain of every `google.rpc.ErrorInfo`.
pub const DOMAIN: &str = "matricula";

/// When a caller that met a full queue should come back at the earliest; callers add jitter of their own.
const RETRY_QUEUE_FULL: Duration = Duration::from_millis(200);
/// When a caller that met a database failure should come back.
const RETRY_UNAVAILABLE: Duration = Duration::from_millis(500);
/// When a caller that met a full disk should come back: somebody has to make space first.
const RETRY_FULL: Duration = Duration::from_secs(2);

/// A status with `ErrorInfo`.
pub fn error(code: Code, reason: &str, message: impl Into<String>) -> Status {
    Status::with_error_details(code, message, info(reason))
}

/// A status that says when to come back.
pub fn retry(code: Code, reason: &str, message: impl Into<String>, after: Duration) -> Status {
    let mut details = info(reason);
    details.set_retry_info(Some(after));
    Status::with_error_details(code, message, details)
}

/// `NOT_FOUND`.
pub fn not_found(what: &str, id: &str) -> Status {
    error(Code::NotFound, "NOT_FOUND", format!("there is no {what} {id}"))
}

fn no_space() -> Status {
    retry(Code::ResourceExhausted, "DATABASE_FULL", "the database has no space left", RETRY_FULL)
}

fn info(reason: &str) -> ErrorDetails {
    ErrorDetails::with_error_info(reason, DOMAIN, std::collections::HashMap::<String, String>::new())
}

impl From<FieldError> for Status {
    fn from(problem: FieldError) -> Self {
        let mut details = info("INVALID_FIELD");
        details.add_bad_request_violation(problem.field.as_str(), problem.problem.as_str());
        Status::with_error_details(Code::InvalidArgument, problem.to_string(), details)
    }
}

impl From<DbError> for Status {
    fn from(problem: DbError) -> Self {
        if matches!(problem, DbError::Full(_)) {
            tracing::error!(error = telemetry::chain(&problem), "the database has no space left");
            return no_space();
        }
        if matches!(problem, DbError::SnapshotExpired(_)) {
            return error(Code::DeadlineExceeded, "SNAPSHOT_EXPIRED", problem.to_string());
        }
        if problem.is_permanent() {
            tracing::error!(error = telemetry::chain(&problem), "the database refused a request");
            return error(Code::Internal, "DATABASE_REFUSED", "the request could not be served; the log has the cause");
        }
        tracing::warn!(error = telemetry::chain(&problem), "the database is not available");
        retry(Code::Unavailable, "DATABASE_UNAVAILABLE", problem.to_string(), RETRY_UNAVAILABLE)
    }
}

/// For a caller that is no saga: nothing was done, and the status says when to come back.
impl From<NotYet> for Status {
    fn from(problem: NotYet) -> Self {
        let after = Duration::from_millis(problem.retry_after_ms.max(0).unsigned_abs());
        retry(Code::Aborted, &problem.reason, format!("not done: {}", problem.message), after)
    }
}

impl From<WriteError> for Status {
    fn from(problem: WriteError) -> Self {
        match &problem {
            WriteError::QueueFull => {
                retry(Code::ResourceExhausted, "WRITE_QUEUE_FULL", problem.to_string(), RETRY_QUEUE_FULL)
            }
            WriteError::ShuttingDown => {
                retry(Code::Unavailable, "SHUTTING_DOWN", problem.to_string(), RETRY_UNAVAILABLE)
            }
            WriteError::NotCommitted(cause) if matches!(**cause, DbError::Full(_)) => no_space(),
            WriteError::Panicked => error(Code::Internal, "OPERATION_FAILED", problem.to_string()),
            // The writer has logged the cause. UNKNOWN is what it is: the commit may have taken effect.
            WriteError::NotCommitted(_) => {
                retry(Code::Unavailable, "NOT_COMMITTED", problem.to_string(), RETRY_UNAVAILABLE)
            }
        }
    }
}
