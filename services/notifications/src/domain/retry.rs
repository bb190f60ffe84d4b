//! What becomes of a message whose delivery failed: it is tried again, later each time, or given up with the reason.
//!
//! A failure of the way (no connection, a busy server) is tried again for ever, with a capped delay. What the receiving
//! side refuses for good is tried again too, as a wrongly set up mail server refuses everybody for good; but not for
//! ever.

use std::error::Error;

use matricula_kit::named::NamedValue;

/// First delay, as a passing failure is over in a second.
const DELAY_FIRST_MS: i64 = 1_000;
/// Longest delay: an hour, as mail servers do it.
const DELAY_MAX_MS: i64 = 3_600_000;
/// Failures after which a refusal counts: with the delays above about nine hours, enough for an operator to set a mail
/// server right, and few enough not to knock at a dead mailbox for ever.
const FAILURES_MAX: i64 = 20;

/// Why a message was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// There is no address to deliver to.
    #[error("the student has no contact")]
    NoContact,
    /// The receiving side refused the message.
    #[error("the message was refused")]
    Rejected(#[source] Box<dyn Error + Send + Sync>),
    /// It did not get that far; another time it may.
    #[error("the message could not be sent")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
}

/// What is done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Tried again after this delay.
    RetryAfterMs(i64),
    /// Given up, until the student's contact is set anew.
    Undeliverable(Undeliverable),
}

/// Why a message was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undeliverable {
    /// The student has no contact.
    NoContact,
    /// The receiving side refused it again and again.
    Rejected,
    /// It is only for the record, also when the student's contact is set anew.
    NotWanted,
}

/// The delays between the deliveries of one message.
#[derive(Debug, Clone, Copy)]
pub struct Delays {
    /// The first.
    pub first_ms: i64,
    /// The longest.
    pub max_ms: i64,
}

impl Default for Delays {
    fn default() -> Self {
        Self { first_ms: DELAY_FIRST_MS, max_ms: DELAY_MAX_MS }
    }
}

impl NamedValue for Undeliverable {
    const NAMES: &'static [(Self, &'static str)] =
        &[(Self::NoContact, "NO_CONTACT"), (Self::Rejected, "REJECTED"), (Self::NotWanted, "NOT_WANTED")];
}

impl Delays {
    /// What is done after a failure; `failures` counts it in.
    pub fn after(self, failure: &Failure, failures: i64) -> Next {
        match failure {
            Failure::NoContact => Next::Undeliverable(Undeliverable::NoContact),
            Failure::Rejected(_) if failures >= FAILURES_MAX => Next::Undeliverable(Undeliverable::Rejected),
            Failure::Rejected(_) | Failure::Unavailable(_) => Next::RetryAfterMs(self.delay_ms(failures)),
        }
    }

    /// Doubles with each failure up to the longest.
    fn delay_ms(self, failures: i64) -> i64 {
        // 2^31 times the first delay is beyond any cap.
        let doublings = (failures - 1).clamp(0, 31);
        self.first_ms.saturating_mul(1 << doublings).min(self.max_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(failure: Failure, failures: i64, expect: Next) {
        assert_eq!(Delays::default().after(&failure, failures), expect);
    }

    #[test]
    fn delays_double_up_to_the_cap() {
        for (failures, delay) in [(1, 1_000), (2, 2_000), (3, 4_000), (12, 2_048_000), (13, 3_600_000)] {
            check(Failure::Unavailable("down".into()), failures, Next::RetryAfterMs(delay));
            check(Failure::Rejected("no".into()), failures, Next::RetryAfterMs(delay));
        }
        check(Failure::Unavailable("down".into()), 1_000_000, Next::RetryAfterMs(DELAY_MAX_MS));
    }

    #[test]
    fn what_can_never_arrive_is_given_up() {
        check(Failure::NoContact, 1, Next::Undeliverable(Undeliverable::NoContact));
        check(Failure::Rejected("no".into()), FAILURES_MAX - 1, Next::RetryAfterMs(DELAY_MAX_MS));
        check(Failure::Rejected("no".into()), FAILURES_MAX, Next::Undeliverable(Undeliverable::Rejected));
    }
}
