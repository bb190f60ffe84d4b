//! Connections of the commands to a running system: what to say when a call fails, and when to make it again.

use std::time::Duration;

use anyhow::Context as _;
use backoff::BackoffBuilder as _;
use matricula_proto::ops::v1::FindSagaRequest;
use matricula_proto::ops::v1::saga_service_client::SagaServiceClient;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::config::OrchestratorConfig;

/// How long past its `wait` the answer of `SubmitRegistration` may take: the deadline that the contract advises.
pub const ANSWER_MARGIN: Duration = Duration::from_secs(30);
/// Largest message that a command takes.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// First and longest pause between attempts: a restart takes a second, and a thousand clients must not come at once.
const RETRY_DELAY_MIN: Duration = Duration::from_millis(100);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(5);

/// The services that an import fills.
#[derive(Debug, Clone)]
pub struct Services {
    /// The seat service.
    pub seats: Channel,
    /// The fee service.
    pub fees: Channel,
    /// The notification service.
    pub notifications: Channel,
    /// The academic service.
    pub academics: Channel,
}

impl Services {
    /// Connects to the services of an orchestrator.
    pub async fn connect(config: &OrchestratorConfig) -> anyhow::Result<Self> {
        Ok(Self {
            seats: connect(&config.seats_url).await?,
            fees: connect(&config.fees_url).await?,
            notifications: connect(&config.notifications_url).await?,
            academics: connect(&config.academics_url).await?,
        })
    }
}

/// Connects at once, so that a wrong address is told at once. A connection lost later is made again by the next call.
/// Of several URLs, separated by commas, the first that answers is taken.
pub async fn connect(urls: &str) -> anyhow::Result<Channel> {
    let mut failed = None;
    for url in urls.split(',').map(str::trim) {
        match matricula_kit::connect::now(url).await {
            Ok(channel) => return Ok(channel),
            Err(error) => failed = Some(error),
        }
    }
    Err(anyhow::Error::from(failed.expect("there is at least one part"))).with_context(|| {
        format!("can't reach {urls}: is it running? Start everything with `matricula up`, or name the place")
    })
}

/// Connects when it is first used.
pub fn connect_lazily(url: &str) -> anyhow::Result<Channel> {
    Ok(matricula_kit::connect::lazily(url)?)
}

/// The whole id of a saga or a registration of which the beginning was typed. The orchestrator has them all.
pub async fn whole_id(orchestrator: &Channel, typed: &str) -> anyhow::Result<String> {
    if let Ok(whole) = uuid::Uuid::try_parse(typed)
        && typed.len() == uuid::fmt::Hyphenated::LENGTH
    {
        return Ok(whole.to_string());
    }
    let request = FindSagaRequest { id_prefix: typed.to_owned() };
    let found = SagaServiceClient::new(orchestrator.clone()).find_saga(request).await;
    Ok(found.map_err(|status| explained(&status))?.into_inner().saga_id)
}

/// An error for people: what the service says, with the code and the machine's word for it.
pub fn explained(status: &Status) -> anyhow::Error {
    let reason = status.get_details_error_info().map(|info| format!(", {}", info.reason)).unwrap_or_default();
    let message = match status.message() {
        "" => "the call failed without a word",
        message => message,
    };
    anyhow::anyhow!("{message} ({:?}{reason})", status.code())
}

/// Whether the same call can't succeed however often it is made. All other errors mean "unknown" or "not now";
/// `OUT_OF_RANGE` too: no service answers it, only a transport that has lost its place in the stream.
pub fn is_permanent(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::Unimplemented
            | Code::Unauthenticated
    )
}

/// When to make a failed call again: as long as the service asks for, and longer each time, never all at once.
pub struct Pauses(backoff::ExponentialBackoff);

impl Pauses {
    /// The pauses of one call.
    pub fn new() -> Self {
        let builder = backoff::ExponentialBuilder::new()
            .with_min_delay(RETRY_DELAY_MIN)
            .with_max_delay(RETRY_DELAY_MAX)
            .without_max_times()
            .with_jitter();
        Self(builder.build())
    }

    /// The pause before the next attempt.
    pub fn after(&mut self, status: &Status) -> Duration {
        let own = self.0.next().unwrap_or(RETRY_DELAY_MAX);
        let asked = status.get_details_retry_info().and_then(|info| info.retry_delay).unwrap_or_default();
        // Up to half as much again, so that those who were turned away together do not come back together.
        own.max(asked.mul_f64(1.0 + rand::random::<f64>() / 2.0))
    }
}

/// Makes an idempotent call until it is answered, its error is permanent, or `patience` has run out. `failed` hears
/// of each error that is followed by another attempt.
pub async fn persistently<T>(
    patience: Duration,
    mut failed: impl FnMut(&Status),
    mut call: impl AsyncFnMut() -> Result<T, Status>,
) -> Result<T, Status> {
    let give_up_at = Instant::now() + patience;
    let mut pauses = Pauses::new();
    loop {
        match call().await {
            Ok(answer) => return Ok(answer),
            Err(status) if is_permanent(status.code()) => return Err(status),
            Err(status) => {
                let pause = pauses.after(&status);
                if Instant::now() + pause >= give_up_at {
                    return Err(status);
                }
                failed(&status);
                tokio::time::sleep(pause).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_honour_what_is_asked() {
        let plain = Status::unavailable("gone");
        let mut pauses = Pauses::new();
        let own: Vec<Duration> = (0..10).map(|_| pauses.after(&plain)).collect();
        assert!(own[0] >= RETRY_DELAY_MIN && own[0] <= 2 * RETRY_DELAY_MIN, "{own:?}");
        assert!(own[9] >= RETRY_DELAY_MAX && own[9] <= 2 * RETRY_DELAY_MAX, "{own:?}");

        let asked = Duration::from_secs(20);
        let busy = matricula_kit::status::retry(Code::ResourceExhausted, "QUEUE_FULL", "full", asked);
        let pause = Pauses::new().after(&busy);
        assert!(pause >= asked && pause <= asked.mul_f64(1.5), "{pause:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_made_again_until_it_is_answered() {
        let (mut calls, mut failures) = (0, 0);
        let answer = persistently(
            Duration::from_secs(60),
            |_| failures += 1,
            async || {
                calls += 1;
                if calls < 4 { Err(Status::unavailable("gone")) } else { Ok(calls) }
            },
        );
        assert_eq!(answer.await.expect("the fourth call is answered"), 4);
        assert_eq!(failures, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends() {
        let mut calls = 0;
        let answer = persistently(
            Duration::from_secs(3),
            |_| (),
            async || {
                calls += 1;
                Err::<(), _>(Status::unavailable("gone"))
            },
        );
        assert_eq!(answer.await.expect_err("nothing answers").code(), Code::Unavailable);
        assert!((3..10).contains(&calls), "{calls}");

        let mut calls = 0;
        let answer = persistently(
            Duration::from_secs(3),
            |_| (),
            async || {
                calls += 1;
                Err::<(), _>(Status::invalid_argument("no"))
            },
        );
        assert_eq!(answer.await.expect_err("no retry can mend it").code(), Code::InvalidArgument);
        assert_eq!(calls, 1);
    }
}
