//! The spans of the calls that this process answers, around all its services.
//!
//! A call gets a span if its context is to be recorded, or if its RPC begins traces here. Other calls only cost a look
//! at their headers.

use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::{HeaderMap, Request, Response};
use axum::response::IntoResponse;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Either, Map};
use http_body_util::BodyExt as _;
use tonic::{Code, Status};
use tower::Service;
use tracing::{Instrument as _, Span};

use super::{TraceContext, policy, spans};
use crate::methods::METHODS;

/// Passes an answer without a span on.
type AsIs<R, E> = fn(Result<R, E>) -> Result<Response<Body>, E>;

/// Services whose calls have spans.
#[derive(Clone)]
pub(crate) struct Traced<S>(pub(crate) S);

impl<S> Service<Request<Body>> for Traced<S>
where
    S: Service<Request<Body>>,
    S::Response: IntoResponse,
    S::Future: Send + 'static,
    S::Error: 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future =
        Either<Map<S::Future, AsIs<S::Response, S::Error>>, BoxFuture<'static, Result<Response<Body>, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Some(span) = span(&request) else {
            let as_is: AsIs<S::Response, S::Error> = |answer| answer.map(IntoResponse::into_response);
            return Either::Left(self.0.call(request).map(as_is));
        };
        let served = Served { span: span.clone(), code: None };
        let answering = span.in_scope(|| self.0.call(request));
        let answering = async move { answering.await.map(|response| served.follow(response.into_response())) };
        Either::Right(answering.instrument(span).boxed())
    }
}

fn span(request: &Request<Body>) -> Option<Span> {
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
    fn follow(mut self, response: Response<Body>) -> Response<Body> {
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
