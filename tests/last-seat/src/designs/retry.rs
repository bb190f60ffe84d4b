//! Retries after a lost race: when, how often, and when to stop.

use std::time::Duration;

use backoff::{ExponentialBuilder, Retryable as _};

use super::{Decided, Decision};

/// About as long as the shortest transaction.
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// Longer pauses would leave the section idle while it has free seats.
const PAUSE_MAX: Duration = Duration::from_millis(50);
/// With these pauses about 4 s: students wait no longer for a click.
const RETRIES_MAX: usize = 60;

/// Why an attempt has not decided.
#[derive(Debug)]
pub enum Missed {
    /// Another client was faster.
    Race,
    /// An error.
    Broken(anyhow::Error),
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Missed {
    fn from(error: E) -> Self {
        Self::Broken(error.into())
    }
}

/// Makes attempts until one decides, with growing pauses that differ between clients.
pub async fn until_decided<F>(attempt: impl FnMut() -> F + Send) -> anyhow::Result<Decided>
where
    F: Future<Output = Result<Decision, Missed>> + Send,
{
    let pauses = ExponentialBuilder::new()
        .with_min_delay(PAUSE_MIN)
        .with_max_delay(PAUSE_MAX)
        .with_max_times(RETRIES_MAX)
        .with_jitter();
    let mut retries = 0;
    let outcome = attempt.retry(pauses).when(|missed| matches!(missed, Missed::Race)).notify(|_, _| retries += 1).await;
    match outcome {
        Ok(decision) => Ok(Decided { decision, retries }),
        Err(Missed::Race) => Ok(Decided { decision: Decision::GaveUp, retries }),
        Err(Missed::Broken(error)) => Err(error),
    }
}
