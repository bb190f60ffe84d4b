//! The deadline that a client sets for its call (`grpc-timeout`). When it is over, the handler is dropped, and the call
//! ends with the code and the words of tonic. tonic has the same layer, but only inside of its own server.

use std::time::Duration;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use tonic::Status;
use tonic::codegen::http::HeaderMap;

const GRPC_TIMEOUT: &str = "grpc-timeout";
/// gRPC's bound.
const DIGITS_MAX: usize = 8;

/// Answers a call until the deadline of its client.
pub(super) async fn until_client_deadline(request: Request, next: Next) -> Response {
    let timeout = timeout(request.headers());
    let answering = next.run(request);
    match timeout {
        None => answering.await,
        Some(timeout) => {
            let answer = tokio::time::timeout(timeout, answering).await;
            answer.unwrap_or_else(|_| Status::cancelled("Timeout expired").into_http())
        }
    }
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

    use axum::body::Body;
    use axum::middleware::from_fn;
    use tonic::Code;
    use tower::{Layer as _, Service as _};

    use super::*;

    /// What a call gets whose handler never answers, and after which time.
    async fn check(header: &str, expect: Option<Duration>) {
        let never = |_: Request| std::future::pending::<Result<Response, Infallible>>();
        let mut service = from_fn(until_client_deadline).layer(tower::service_fn(never));
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
