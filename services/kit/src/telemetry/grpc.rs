//! The spans of the calls that this process answers, around all its services.
//!
//! A call gets a span if its context is to be recorded, or if its RPC begins traces here. Other calls only cost a look
//! at their headers.

use axum::body::Body;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt as _;
use tonic::{Code, Status};
use tracing::{Instrument as _, Span};

use super::{TraceContext, policy, spans};
use crate::methods::METHODS;

/// Answers a call within its span, if it has one.
pub(crate) async fn traced(request: Request, next: Next) -> Response {
    let Some(span) = span(&request) else { return next.run(request).await };
    let served = Served { span: span.clone(), code: None };
    served.follow(next.run(request).instrument(span).await)
}

fn span(request: &Request) -> Option<Span> {
    let parent = TraceContext::from_headers(request.headers());
    let path = request.uri().path();
    let is_first = || parent.trace_id().is_none() && policy().begins.contains(&path);
    if !parent.is_wanted() && !is_first() {
        return None;
    }
    // An invented method gets no span.
    let method: &'static str = METHODS.get_key_value(path)?.0.strip_prefix('/')?;
    let host = request.uri().host().unwrap_or_default().trim_matches(['[', ']']);
    let span = spans::server(method, &parent, host, request.uri().port_u16());
    (!span.is_disabled()).then_some(span)
}

/// A call that is being answered. Its span ends with the status, or without one if the caller disconnects first.
struct Served {
    span: Span,
    code: Option<Code>,
}

impl Served {
    /// Waits for the status: in the headers if there is no body, otherwise after the body.
    fn follow(mut self, response: Response) -> Response {
        self.look_at(response.headers());
        if self.code.is_some() {
            return response;
        }
        let mut served = Some(self);
        response.map(|body| {
            Body::new(body.inspect_frame(move |frame| {
                if let Some(trailers) = frame.trailers_ref()
                    && let Some(mut served) = served.take()
                {
                    served.look_at(trailers);
                }
            }))
        })
    }

    fn look_at(&mut self, headers: &HeaderMap) {
        self.code = self.code.or_else(|| Status::from_header_map(headers).map(|status| status.code()));
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        spans::served(&self.span, self.code.unwrap_or(Code::Cancelled));
    }
}
