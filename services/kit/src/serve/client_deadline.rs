//! The deadline that a client sets for its call (`grpc-timeout`). When it is over, the handler is dropped, and the call
//! ends with the code and the words of tonic. tonic has the same layer, but only inside of its own server.

use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{Either, Map};
use tokio::time::Timeout;
use tokio::time::error::Elapsed;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tower::Service;

const GRPC_TIMEOUT: &str = "grpc-timeout";
/// gRPC's bound.
const DIGITS_MAX: usize = 8;

/// A service whose calls end by the deadline of their client.
#[derive(Clone)]
pub(super) struct ClientDeadline<S>(pub(super) S);

type Answer<S> = Result<Response<Body>, <S as Service<Request<Body>>>::Error>;

impl<S: Service<Request<Body>, Response = Response<Body>>> Service<Request<Body>> for ClientDeadline<S> {
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, Map<Timeout<S::Future>, fn(Result<Answer<S>, Elapsed>) -> Answer<S>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let timeout = timeout(request.headers());
        let answering = self.0.call(request);
        match timeout {
            None => Either::Left(answering),
            Some(timeout) => {
                let answer: fn(_) -> _ = |answer: Result<_, Elapsed>| answer.unwrap_or_else(|_| Ok(expired()));
                Either::Right(tokio::time::timeout(timeout, answering).map(answer))
            }
        }
    }
}

fn expired() -> Response<Body> {
    Status::cancelled("Timeout expired").into_http()
}

/// The time that a call may take; none if its client has set none, or one that makes no sense.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count: u64 = if digits.len() > DIGITS_MAX { return None } else { digits.parse().ok()? };
    match unit {
        "H" => Some(Duration::from_secs(count * 3_600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tonic::Code;

    use super::*;

    /// What a call gets whose handler never answers, and after which time.
    async fn check(header: &str, expect: Option<Duration>) {
        let never = |_: Request<Body>| std::future::pending::<Result<Response<Body>, Infallible>>();
        let mut service = ClientDeadline(tower::service_fn(never));
        let request = Request::builder().header(GRPC_TIMEOUT, header).body(Body::empty()).expect("a request");
        let begun = tokio::time::Instant::now();
        let a_year = Duration::from_secs(365 * 24 * 3_600);
        match (tokio::time::timeout(a_year, service.call(request)).await, expect) {
            (Ok(Ok(answer)), Some(expect)) => {
                // A timer is exact to a millisecond.
                assert_eq!(begun.elapsed().as_millis().max(1), expect.as_millis().max(1), "{header}");
                let status = Status::from_header_map(answer.headers()).expect("a status");
                assert_eq!(status.code(), Code::Cancelled, "{header}");
            }
            (Err(_), None) => {}
            (got, _) => panic!("{header}: {got:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_ends_by_the_deadline_of_its_client() {
        check("250m", Some(Duration::from_millis(250))).await;
        check("7S", Some(Duration::from_secs(7))).await;
        check("2M", Some(Duration::from_secs(120))).await;
        check("3H", Some(Duration::from_secs(3 * 3_600))).await;
        check("5000u", Some(Duration::from_millis(5))).await;
        check("99999999n", Some(Duration::from_millis(100))).await;
        for nonsense in ["", "S", "7", "7s", "-7S", "7.5S", "123456789S", "a while", "7S "] {
            check(nonsense, None).await;
        }
    }
}
