//! Connections of the commands to a running system: calls with retries, whole streams, pages, watches, and the error
//! texts of failed calls.

use std::time::Duration;

use anyhow::Context as _;
use backoff::BackoffBuilder as _;
use matricula_proto::ops::v1::FindSagaRequest;
use matricula_proto::ops::v1::saga_service_client::SagaServiceClient;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Response, Status, Streaming};
use tonic_types::StatusExt as _;

use crate::config::OrchestratorConfig;

/// How long past its `wait` the answer to `SubmitRegistration` may take, as the API recommends.
pub const ANSWER_MARGIN: Duration = Duration::from_secs(30);
/// The largest message that a command accepts.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The largest page that the services accept.
const PAGE_SIZE_MAX: usize = 1_000;
/// First and longest delay between attempts: a restart takes a second, and a thousand clients must not retry at once.
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

/// Connects at once, so that a wrong address is reported immediately. The next call reopens a lost connection. Of
/// several URLs, separated by commas, the first that answers is used.
pub async fn connect(urls: &str) -> anyhow::Result<Channel> {
    let mut failed = None;
    for url in urls.split(',').map(str::trim) {
        match matricula_kit::connect::now(url).await {
            Ok(channel) => return Ok(channel),
            Err(error) => failed = Some(error),
        }
    }
    Err(anyhow::Error::from(failed.expect("there is at least one part"))).with_context(|| {
        format!("can't reach {urls}: is it running? Start everything with `matricula up`, or set its URL")
    })
}

/// Completes the prefix of an id of a saga or a registration, with the orchestrator's help.
pub async fn whole_id(orchestrator: &Channel, typed: &str) -> anyhow::Result<String> {
    if let Ok(whole) = uuid::Uuid::try_parse(typed)
        && typed.len() == uuid::fmt::Hyphenated::LENGTH
    {
        return Ok(whole.to_string());
    }
    let request = FindSagaRequest { id_prefix: typed.to_owned() };
    Ok(answered(SagaServiceClient::new(orchestrator.clone()).find_saga(request)).await?.saga_id)
}

/// An error for people: the message of the service, with the code and the machine-readable reason.
pub fn explained(status: &Status) -> anyhow::Error {
    let reason = status.get_details_error_info().map(|info| format!(", {}", info.reason)).unwrap_or_default();
    let message = match status.message() {
        "" => "the call failed, and the service sent no message",
        message => message,
    };
    anyhow::anyhow!("{message} ({:?}{reason})", status.code())
}

/// Whether the same call fails at every attempt. All other errors mean "unknown" or "not now". `OUT_OF_RANGE` too: no
/// service sends it, only a transport that has lost its position in the stream.
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

/// The delays between attempts of one call: at least the delay that the service requests, longer each time, with
/// jitter.
pub struct RetryDelays(backoff::ExponentialBackoff);

impl RetryDelays {
    /// The delays of one call.
    pub fn new() -> Self {
        let builder = backoff::ExponentialBuilder::new()
            .with_min_delay(RETRY_DELAY_MIN)
            .with_max_delay(RETRY_DELAY_MAX)
            .without_max_times()
            .with_jitter();
        Self(builder.build())
    }

    /// The delay before the next attempt.
    pub fn after(&mut self, status: &Status) -> Duration {
        let own = self.0.next().unwrap_or(RETRY_DELAY_MAX);
        let requested = status.get_details_retry_info().and_then(|info| info.retry_delay).unwrap_or_default();
        // Up to half as much again, so that clients that were rejected together do not retry together.
        own.max(requested.mul_f64(1.0 + rand::random::<f64>() / 2.0))
    }
}

/// Repeats an idempotent call until it succeeds, its error is permanent, or `retry_for` has passed. Calls `failed` for
/// each error that is followed by another attempt.
pub async fn retried<T>(
    retry_for: Duration,
    mut failed: impl FnMut(&Status),
    mut call: impl AsyncFnMut() -> Result<T, Status>,
) -> Result<T, Status> {
    let give_up_at = Instant::now() + retry_for;
    let mut delays = RetryDelays::new();
    loop {
        match call().await {
            Ok(answer) => return Ok(answer),
            Err(status) if is_permanent(status.code()) => return Err(status),
            Err(status) => {
                let delay = delays.after(&status);
                if Instant::now() + delay >= give_up_at {
                    return Err(status);
                }
                failed(&status);
                tokio::time::sleep(delay).await;
            }
        }
    }
}

/// Tells people that a call is made again.
pub fn print_retry(status: &Status) {
    eprintln!("Not yet: {:#}; retrying", explained(status));
}

/// The answer to a call; an error is explained.
pub async fn answered<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> anyhow::Result<T> {
    Ok(call.await.map_err(|status| explained(&status))?.into_inner())
}

/// Folds all messages of a stream. A stream that breaks is read again from its start, for this long.
pub async fn read_whole<T, R: Default>(
    retry_for: Duration,
    mut open: impl AsyncFnMut() -> Result<Response<Streaming<T>>, Status>,
    mut add: impl FnMut(&mut R, T),
) -> anyhow::Result<R> {
    let read = async || {
        let (mut stream, mut whole) = (open().await?.into_inner(), R::default());
        while let Some(message) = stream.message().await? {
            add(&mut whole, message);
        }
        Ok(whole)
    };
    retried(retry_for, |_| (), read).await.map_err(|status| explained(&status))
}

/// Reads pages until there are `limit` items. Also returns whether more items follow.
pub async fn read_pages<T>(
    limit: usize,
    mut page: impl AsyncFnMut(i32, String) -> anyhow::Result<(Vec<T>, String)>,
) -> anyhow::Result<(Vec<T>, bool)> {
    let (mut items, mut token) = (Vec::new(), String::new());
    while items.len() < limit {
        let size = (limit - items.len()).min(PAGE_SIZE_MAX) as i32;
        let (more, next) = page(size, token).await?;
        items.extend(more);
        token = next;
        if token.is_empty() {
            break;
        }
    }
    Ok((items, !token.is_empty()))
}

/// Passes every message of a stream on until interrupted. Opens the stream again when the connection is lost, and
/// returns only errors that a retry can't fix.
pub async fn watch<T>(
    mut open: impl AsyncFnMut() -> Result<Response<Streaming<T>>, Status>,
    mut print: impl FnMut(T),
) -> anyhow::Result<()> {
    let watching = async {
        let mut delays = RetryDelays::new();
        loop {
            let followed = async {
                let mut stream = open().await?.into_inner();
                while let Some(message) = stream.message().await? {
                    delays = RetryDelays::new();
                    print(message);
                }
                Ok(())
            };
            let ended = followed.await.err().unwrap_or_else(|| Status::unavailable("the stream ended"));
            if is_permanent(ended.code()) {
                return explained(&ended);
            }
            let (why, pause) = (explained(&ended), delays.after(&ended));
            let pause_ms = pause.as_millis();
            eprintln!("Connection lost: {why:#}; the lines above may be out of date. Retrying in {pause_ms} ms");
            tokio::time::sleep(pause).await;
        }
    };
    tokio::select! {
        problem = watching => Err(problem),
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_and_respect_the_requested_delay() {
        let plain = Status::unavailable("gone");
        let mut delays = RetryDelays::new();
        let own: Vec<Duration> = (0..10).map(|_| delays.after(&plain)).collect();
        assert!(own[0] >= RETRY_DELAY_MIN && own[0] <= 2 * RETRY_DELAY_MIN, "{own:?}");
        assert!(own[9] >= RETRY_DELAY_MAX && own[9] <= 2 * RETRY_DELAY_MAX, "{own:?}");

        let requested = Duration::from_secs(20);
        let busy = matricula_kit::status::retry(Code::ResourceExhausted, "QUEUE_FULL", "full", requested);
        let pause = RetryDelays::new().after(&busy);
        assert!(pause >= requested && pause <= requested.mul_f64(1.5), "{pause:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_repeated_until_it_is_answered() {
        let (mut calls, mut failures) = (0, 0);
        let answer = retried(
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
    async fn a_call_is_given_up_after_its_time() {
        let mut calls = 0;
        let answer = retried(
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
        let answer = retried(
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
