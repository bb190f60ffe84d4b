//! One click, followed until it is decided: turned away it comes back, and after a lost answer it asks again with the
//! same key. Nothing is given up that a person would not give up.

use std::time::Duration;

use matricula_proto::registration::v1::{Outcome, Registration};
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::clients::{Pauses, is_permanent};

/// How long a click is followed: longer than any restart, and longer than people wait.
pub const PATIENCE: Duration = Duration::from_secs(5 * 60);
/// Before asking again for a registration that is still pending: the call before has already waited for it.
const PENDING_PAUSE: Duration = Duration::from_millis(100);

/// How a click ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Followed {
    /// The decided registration, or why there is none.
    pub end: Result<Registration, String>,
    /// Answers that it was not accepted because the system was full.
    pub turned_away: u32,
    /// Calls without an answer: it was not known whether they had been accepted.
    pub lost: u32,
}

/// Submits until the registration is decided, an error is permanent, or patience has run out.
pub async fn follow<F>(mut submit: impl FnMut() -> F) -> Followed
where
    F: Future<Output = Result<Registration, Status>>,
{
    let give_up_at = Instant::now() + PATIENCE;
    let mut pauses = Pauses::new();
    let (mut turned_away, mut lost) = (0, 0);
    let end = loop {
        let (pause, state) = match submit().await {
            Ok(registration) => match registration.outcome() {
                Outcome::Enrolled | Outcome::Refused | Outcome::Cancelled => break Ok(registration),
                Outcome::Pending | Outcome::Unspecified => {
                    // Whatever went wrong before is over.
                    pauses = Pauses::new();
                    (PENDING_PAUSE, "accepted, still not decided".to_owned())
                }
            },
            Err(status) if is_permanent(status.code()) => break Err(word(&status)),
            Err(status) => {
                if is_turned_away(&status) {
                    turned_away += 1;
                } else {
                    lost += 1;
                }
                (pauses.after(&status), word(&status))
            }
        };
        if Instant::now() + pause >= give_up_at {
            break Err(format!("given up after {} s: {state}", PATIENCE.as_secs()));
        }
        tokio::time::sleep(pause).await;
    };
    Followed { end, turned_away, lost }
}

/// Whether it says when to come back, and that nothing was accepted.
pub fn is_turned_away(status: &Status) -> bool {
    status.code() == Code::ResourceExhausted
}

fn word(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(outcome: Outcome) -> Result<Registration, Status> {
        Ok(Registration { registration_id: "r-1".to_owned(), outcome: outcome.into(), ..Registration::default() })
    }

    /// Plays the script, its last entry again and again.
    async fn check(script: &[Result<Registration, Status>], end: Result<Outcome, &str>, turned_away: u32, lost: u32) {
        let mut calls = 0;
        let followed = follow(|| {
            let answer = script[calls.min(script.len() - 1)].clone();
            calls += 1;
            std::future::ready(answer)
        })
        .await;
        let ended = followed.end.as_ref().map(|registration| registration.outcome()).map_err(String::as_str);
        assert_eq!((ended, followed.turned_away, followed.lost), (end, turned_away, lost));
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
    async fn patience_ends() {
        let started = Instant::now();
        let error = "given up after 300 s: accepted, still not decided";
        check(&[answer(Outcome::Pending)], Err(error), 0, 0).await;
        assert!(started.elapsed() > PATIENCE - Duration::from_secs(1) && started.elapsed() <= PATIENCE);
    }
}
