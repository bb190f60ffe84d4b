//! Which pages of browsers may call a port (CORS): a list of allowed origins. A page of the port's own origin needs no
//! entry. `CorsLayer` of tower-http checks requests; this module checks the list.

use std::time::Duration;

use tonic::codegen::http::{HeaderName, HeaderValue, Method};
use tower_http::cors::{AllowOrigin, CorsLayer};
use url::Url;

/// Headers of requests: those of gRPC-Web clients, of trace context, and the caller's token.
const REQUEST_HEADERS: [&str; 10] = [
    "authorization",
    "content-type",
    "grpc-accept-encoding",
    "grpc-encoding",
    "grpc-timeout",
    "traceparent",
    "tracestate",
    "x-accept-content-transfer-encoding",
    "x-grpc-web",
    "x-user-agent",
];
/// Headers of answers that a page may read: the status of a call that failed at once is there.
const ANSWER_HEADERS: [&str; 3] = ["grpc-message", "grpc-status", "grpc-status-details-bin"];
/// How long a browser may keep the answer to a preflight; browsers keep it for two hours at most.
const PREFLIGHT_KEPT: Duration = Duration::from_secs(7_200);
/// Begins of origins of pages.
const SCHEMES: [&str; 2] = ["http://", "https://"];
/// Every origin.
const ANY: &str = "*";

/// The origins whose pages may call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cors {
    is_any: bool,
    origins: Vec<HeaderValue>,
}

impl Cors {
    /// From a list that is separated by commas, such as `https://portal.example.edu, http://localhost:5173`; `*` allows
    /// every origin, an empty list none.
    pub fn try_new(origins: &str) -> Result<Self, String> {
        let mut cors = Self::default();
        for origin in origins.split(',').map(str::trim).filter(|origin| !origin.is_empty()) {
            if origin == ANY {
                cors.is_any = true;
            } else {
                cors.origins.push(checked(origin)?);
            }
        }
        Ok(cors)
    }

    pub(super) fn layer(&self) -> CorsLayer {
        let origins = match self.is_any {
            true => AllowOrigin::any(),
            false => AllowOrigin::list(self.origins.clone()),
        };
        CorsLayer::new()
            .allow_origin(origins)
            .allow_methods([Method::POST, Method::OPTIONS])
            .allow_headers(REQUEST_HEADERS.map(HeaderName::from_static))
            .expose_headers(ANSWER_HEADERS.map(HeaderName::from_static))
            .max_age(PREFLIGHT_KEPT)
    }
}

/// An origin as browsers send it: scheme, host, and a port that is not the scheme's own.
fn checked(given: &str) -> Result<HeaderValue, String> {
    let problem = |why: &str| format!("{given:?} is no origin such as https://portal.example.edu: {why}");
    if !SCHEMES.iter().any(|scheme| given.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme))) {
        return Err(problem("it must begin with http:// or https://"));
    }
    let url = Url::parse(given).map_err(|error| problem(&format!("it is no URL ({error})")))?;
    let origin = url.origin().ascii_serialization();
    if !given.eq_ignore_ascii_case(&origin) {
        return Err(problem(&format!("it has more than scheme, host and port as browsers send them: {origin}")));
    }
    HeaderValue::from_str(&origin).map_err(|_| problem("it has characters that no header takes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(list: &str, expect: Result<usize, &str>) {
        match (Cors::try_new(list), expect) {
            (Ok(cors), Ok(count)) => assert_eq!(cors.origins.len(), count, "{list}"),
            (Err(problem), Err(words)) => assert!(problem.contains(words), "{list}: {problem}"),
            (got, _) => panic!("{list}: {got:?}"),
        }
    }

    #[test]
    fn origins_are_checked() {
        check("", Ok(0));
        check("https://portal.example.edu", Ok(1));
        check(" https://a.example.edu , http://localhost:5173,http://[::1]:3000,", Ok(3));
        check("https://Portal.Example.edu", Ok(1));
        assert!(Cors::try_new("*").expect("every origin").is_any);
        check("https://a.example.edu/", Err("more than scheme, host and port"));
        check("https://a.example.edu/portal", Err("more than scheme, host and port"));
        check("portal.example.edu", Err("http:// or https://"));
        check("localhost:5173", Err("http:// or https://"));
        check("ftp://a.example.edu", Err("http:// or https://"));
        check("https://user@a.example.edu", Err("send them: https://a.example.edu"));
        check("https://a.example.edu:443", Err("send them: https://a.example.edu"));
        check("http://a.example.edu:80", Err("send them: http://a.example.edu"));
        check("https://münchen.example.edu", Err("send them: https://xn--mnchen-3ya.example.edu"));
        check("http://a b", Err("no URL"));
        check("https://a.example.edu, null", Err("http:// or https://"));
    }
}
