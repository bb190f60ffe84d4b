//! Follows one click until it is decided: after a rejection or a lost answer, it is sent again with the same key.

use std::time::Duration;

use matricula_proto::registration::v1::{Outcome, Registration};
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::clients::{RetryDelays, is_permanent};

/// How long a click is followed: longer than any restart takes, and longer than people wait.
pub const RETRY_FOR: Duration = Duration::from_secs(5 * 60);
/// The delay before the next call for a pending registration. It is short, because the last call has already waited.
const PENDING_PAUSE: Duration = Duration::from_millis(100);

/// How a click ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Followed {
    /// The decided registration, or why it has none.
    pub end: Result<Registration, String>,
    /// Answers that rejected the call because the system was full.
    pub rejected: u32,
    /// Calls without an answer: whether they were accepted is unknown.
    pub lost: u32,
}

/// Submits until the registration is decided, an error is permanent, or [`RETRY_FOR`] has passed.
pub async fn follow<F>(mut submit: impl FnMut() -> F) -> Followed
where
    F: Future<Output = Result<Registration, Status>>,
{
    let give_up_at = Instant::now() + RETRY_FOR;
    let mut delays = RetryDelays::new();
    let (mut rejected, mut lost) = (0, 0);
    let end = loop {
        let (pause, state) = match submit().await {
            Ok(registration) => match registration.outcome() {
                Outcome::Enrolled | Outcome::Refused | Outcome::Cancelled => break Ok(registration),
                Outcome::Pending | Outcome::Unspecified => {
                    // Earlier errors no longer matter.
                    delays = RetryDelays::new();
                    (PENDING_PAUSE, "accepted, still not decided".to_owned())
                }
            },
            Err(status) if is_permanent(status.code()) => break Err(describe(&status)),
            Err(status) => {
                if is_rejected(&status) {
                    rejected += 1;
                } else {
                    lost += 1;
                }
                (delays.after(&status), describe(&status))
            }
        };
        if Instant::now() + pause >= give_up_at {
            break Err(format!("given up after {} s: {state}", RETRY_FOR.as_secs()));
        }
        tokio::time::sleep(pause).await;
    };
    Followed { end, rejected, lost }
}

/// Whether the call was rejected with a time to retry; then nothing was accepted.
pub fn is_rejected(status: &Status) -> bool {
    status.code() == Code::ResourceExhausted
}

fn describe(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(outcome: Outcome) -> Result<Registration, Status> {
        Ok(Registration { registration_id: "r-1".to_owned(), outcome: outcome.into(), ..Registration::default() })
    }

    /// Plays the script, its last entry again and again.
    async fn check(script: &[Result<Registration, Status>], end: Result<Outcome, &str>, rejected: u32, lost: u32) {
        let mut calls = 0;
        let followed = follow(|| {
            let answer = script[calls.min(script.len() - 1)].clone();
            calls += 1;
            std::future::ready(answer)
        })
        .await;
        let ended = followed.end.as_ref().map(|registration| registration.outcome()).map_err(String::as_str);
        assert_eq!((ended, followed.rejected, followed.lost), (end, rejected, lost));
    }

    #[tokio::test(start_paused = true)]
    async fn a_click_is_followed_until_it_is_decided() {
        let full = || Err(Status::resource_exhausted("full"));
        let gone = || Err(Status::unavailable("connection refused"));
        check(&[answer(Outcome::Enrolled)], Ok(Outcome::Enrolled), 0, 0).await;
        check(&[full(), full(), answer(Outcome::Refused)], Ok(Outcome::Refused), 2, 0).await;
        check(&[gone(), answer(Outcome::Pending), answer(Outcome::Enrolled)], Ok(Outcome::Enrolled), 0, 1).await;
        check(&[gone(), full(), answer(Outcome::Cancelled)], Ok(Outcome::Cancelled), 1, 1).await;
        let error = "InvalidArgument: adds: at most 20";
        check(&[full(), Err(Status::invalid_argument("adds: at most 20"))], Err(error), 1, 0).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_pending_click_is_given_up_at_the_end() {
        let started = Instant::now();
        let error = "given up after 300 s: accepted, still not decided";
        check(&[answer(Outcome::Pending)], Err(error), 0, 0).await;
        assert!(started.elapsed() > RETRY_FOR - Duration::from_secs(1) && started.elapsed() <= RETRY_FOR);
    }
}
