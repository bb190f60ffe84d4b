//! The end of a process: it begins once, and everything has ended by one deadline.
//!
//! ```text
//! signal --> begin() --> calls in flight --> tasks, such as writers --> database --> telemetry
//!            |<--------------------------- grace ------------------------------->|
//! ```
//!
//! Each part gets a share of the time that is left when its turn comes. So a part that hangs can't take the time of
//! those after it, and all of them together never need more than the grace period.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// How long an orderly end may take by default: Kubernetes kills a process after 30 s.
pub const GRACE: Duration = Duration::from_secs(25);

/// The shutdown of a process, or one stage of it.
#[derive(Debug, Clone)]
pub struct Shutdown {
    token: CancellationToken,
    /// Of this stage, from the moment when the shutdown began.
    grace: Duration,
    /// One moment for all stages.
    begun_at: Arc<OnceLock<Instant>>,
}

/// Until when a stage must have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline(Instant);

impl Shutdown {
    /// One that has not begun.
    pub fn new(grace: Duration) -> Self {
        Self { token: CancellationToken::new(), grace, begun_at: Arc::default() }
    }

    /// Begins it; the first call counts.
    pub fn begin(&self) {
        self.begun_at.get_or_init(Instant::now);
        self.token.cancel();
    }

    /// Cancelled when it begins.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Waits until it begins, and returns its deadline.
    pub async fn begun(&self) -> Deadline {
        self.token.cancelled().await;
        Deadline(*self.begun_at.get_or_init(Instant::now) + self.grace)
    }

    /// The same, but it must be over after a share of the grace period: there is something that ends after it.
    pub fn within(&self, share: f64) -> Self {
        Self { grace: self.grace.mul_f64(share), ..self.clone() }
    }

    /// A later stage, which begins by a call of its own and has the same deadline.
    pub fn later(&self) -> Self {
        Self { token: CancellationToken::new(), ..self.clone() }
    }
}

impl From<CancellationToken> for Shutdown {
    /// Begins with the token, and has the default grace period.
    fn from(token: CancellationToken) -> Self {
        Self { token, ..Self::new(GRACE) }
    }
}

impl Deadline {
    /// The end of a part that begins now and may take this share of the time that is left.
    pub fn part(self, share: f64) -> Instant {
        let now = Instant::now();
        now + self.0.saturating_duration_since(now).mul_f64(share)
    }

    /// The end of everything.
    #[cfg(test)]
    pub(crate) fn end(self) -> Instant {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stages_share_one_deadline() {
        let first = Shutdown::new(Duration::from_secs(20));
        let (half, later) = (first.within(0.5), first.later());
        first.begin();
        let begun = Instant::now();
        let end = first.begun().await.end();
        assert!(end <= begun + Duration::from_secs(20));
        assert_eq!(end - half.begun().await.end(), Duration::from_secs(10));
        assert!(!later.token().is_cancelled());
        later.begin();
        assert_eq!(later.begun().await.end(), end);
    }

    #[test]
    fn no_part_takes_the_time_of_those_after_it() {
        let deadline = Deadline(Instant::now() + Duration::from_secs(10));
        assert!(deadline.part(0.7) <= Instant::now() + Duration::from_secs(7));
        assert!(deadline.part(1.0) <= deadline.end());
        let past = Deadline(Instant::now());
        assert!(past.part(0.5) <= Instant::now());
    }
}
