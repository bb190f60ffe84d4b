//! When a failed call is made again: the verdict on each gRPC code, and the delays between the attempts of a call.
//!
//! Promises: no code starts a compensation. A delay is never shorter than the called service asked for (up to
//! [`RETRY_AFTER_MAX_MS`]), is never longer than [`RetryPolicy::delay_longest_ms`], and is spread by the caller's
//! jitter.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest delay that a service can ask for: a service can't foresee an overload that lasts longer, and an absurd value
/// must not park a student's registration.
const RETRY_AFTER_MAX_MS: i64 = 60_000;

/// Longest delay that a policy may name: a day, so that sums of times stay far from overflow.
const DELAY_LIMIT_MS: i64 = 86_400_000;

/// Longest message that is kept of an error: a saga that is retried for days records a message for each attempt.
const MESSAGE_BYTES_MAX: usize = 500;

macro_rules! codes {
    ($($code:ident = $name:literal,)*) => {
        /// The codes of gRPC, in the order of their numbers on the wire.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[allow(missing_docs, reason = "the names are gRPC's, and documented there")]
        pub enum Code {
            $(#[serde(rename = $name)] $code,)*
        }

        impl Code {
            /// All codes, each at the index of its number.
            pub const ALL: [Self; 17] = [$(Self::$code),*];

            /// The name that is persisted and shown.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$code => $name,)*
                }
            }
        }
    };
}

codes! {
    Ok = "ok",
    Cancelled = "cancelled",
    Unknown = "unknown",
    InvalidArgument = "invalid_argument",
    DeadlineExceeded = "deadline_exceeded",
    NotFound = "not_found",
    AlreadyExists = "already_exists",
    PermissionDenied = "permission_denied",
    ResourceExhausted = "resource_exhausted",
    FailedPrecondition = "failed_precondition",
    Aborted = "aborted",
    OutOfRange = "out_of_range",
    Unimplemented = "unimplemented",
    Internal = "internal",
    Unavailable = "unavailable",
    DataLoss = "data_loss",
    Unauthenticated = "unauthenticated",
}

impl Code {
    /// The code of a number on the wire. A number without a code is `Unknown`, as in gRPC itself.
    pub fn from_number(number: i32) -> Self {
        usize::try_from(number).ok().and_then(|index| Self::ALL.get(index).copied()).unwrap_or(Self::Unknown)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The error that came instead of an answer. It says nothing about the effect of the call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallError {
    /// gRPC's code.
    pub code: Code,
    /// gRPC's message, shortened.
    pub message: String,
    /// The delay that the service asked for (`RetryInfo`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<i64>,
    /// Id of the saga that must end first, if the service gives that as the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
}

impl CallError {
    /// Keeps at most 500 bytes of the message.
    pub fn new(code: Code, message: impl Into<String>, retry_after_ms: Option<i64>) -> Self {
        let mut message = message.into();
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        Self { code, message, retry_after_ms, waits_for: None }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.message.is_empty() { write!(f, "{}", self.code) } else { write!(f, "{}: {}", self.code, self.message) }
    }
}

/// The reaction to a code. No verdict starts a compensation, because every error means "unknown".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The call is retried with backoff.
    Retry,
    /// No retry is likely to succeed: a person must look at once, and until then the call is retried slowly.
    SlowRetry,
}

/// The verdict table.
pub fn verdict(code: Code) -> Verdict {
    match code {
        Code::InvalidArgument | Code::Unimplemented | Code::Unauthenticated | Code::PermissionDenied => {
            Verdict::SlowRetry
        }
        _ => Verdict::Retry,
    }
}

/// A fraction in [0, 1), in steps of 2^-32, drawn by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jitter(pub u32);

impl Jitter {
    fn of(self, span_ms: i64) -> i64 {
        // At most 2^27 * 2^32: `DELAY_LIMIT_MS` bounds the span.
        (span_ms * i64::from(self.0)) >> 32
    }
}

/// When a failed call is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    delay_first_ms: i64,
    delay_max_ms: i64,
    delay_slow_ms: i64,
    attention_after_attempts: u32,
}

impl RetryPolicy {
    /// Delays double from `delay_first_ms` to `delay_max_ms`. After `attention_after_attempts` failed attempts the call
    /// needs attention, and is tried every `delay_slow_ms` from then on.
    pub fn try_new(
        delay_first_ms: i64,
        delay_max_ms: i64,
        delay_slow_ms: i64,
        attention_after_attempts: u32,
    ) -> Result<Self, RetryPolicyError> {
        let ordered = 0 < delay_first_ms && delay_first_ms <= delay_max_ms && delay_max_ms <= delay_slow_ms;
        if !ordered || delay_slow_ms > DELAY_LIMIT_MS {
            return Err(RetryPolicyError::Delays { delay_first_ms, delay_max_ms, delay_slow_ms });
        }
        if attention_after_attempts == 0 {
            return Err(RetryPolicyError::NoAttempts);
        }
        Ok(Self { delay_first_ms, delay_max_ms, delay_slow_ms, attention_after_attempts })
    }

    /// Whether a call that has failed this often needs attention.
    pub fn is_exhausted(&self, attempts_failed: u32) -> bool {
        attempts_failed >= self.attention_after_attempts
    }

    /// The longest delay of this policy. A retry that lies further ahead was scheduled by another clock.
    pub fn delay_longest_ms(&self) -> i64 {
        spread(self.delay_slow_ms, RETRY_AFTER_MAX_MS, Jitter(u32::MAX))
    }
}

/// Why numbers are not a retry policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RetryPolicyError {
    /// The delays are out of order or out of bounds.
    #[error(
        "delays must satisfy 0 < first ({delay_first_ms}) <= max ({delay_max_ms}) <= slow ({delay_slow_ms}) <= a day"
    )]
    Delays {
        /// First delay.
        delay_first_ms: i64,
        /// Longest delay of the backoff.
        delay_max_ms: i64,
        /// Delay once attention is needed.
        delay_slow_ms: i64,
    },
    /// Attention is needed after at least one attempt.
    #[error("attention after 0 attempts: it must be at least 1")]
    NoAttempts,
}

/// Time until the next attempt, after attempt number `attempt` (from 1) has failed: between the half and the whole of
/// the backoff, and never before the service wants to be called again.
pub fn delay_ms(
    policy: &RetryPolicy,
    attempt: u32,
    verdict: Verdict,
    retry_after_ms: Option<i64>,
    jitter: Jitter,
) -> i64 {
    let whole_ms = match verdict {
        Verdict::SlowRetry => policy.delay_slow_ms,
        Verdict::Retry => {
            // A day in milliseconds has 27 bits: further doublings change nothing.
            let doublings = attempt.saturating_sub(1).min(27);
            (policy.delay_first_ms << doublings).min(policy.delay_max_ms)
        }
    };
    spread(whole_ms, retry_after_ms.unwrap_or(0).clamp(0, RETRY_AFTER_MAX_MS), jitter)
}

/// Adds jitter on top of the floor too. Otherwise all callers that were asked to wait for a second would come back in
/// the same second.
fn spread(whole_ms: i64, floor_ms: i64, jitter: Jitter) -> i64 {
    let half_ms = whole_ms / 2;
    let rest_ms = whole_ms - half_ms;
    half_ms.max(floor_ms) + jitter.of(rest_ms + 1)
}
