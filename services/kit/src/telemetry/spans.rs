//! The spans of the system, by the semantic conventions of OpenTelemetry (1.44) for RPC and databases, and our own:
//!
//! | span | kind | begun by |
//! |---|---|---|
//! | `<package.Service>/<Method>` | server | every gRPC server, for a call with a context, and for RPCs that begin traces |
//! | `<definition>`, such as `registration` | internal | the orchestrator, for a saga while it drives it |
//! | `<package.Service>/<Method>` | client | the orchestrator, for each attempt of each step |
//! | `COMMIT <database>` | client | each writer of batches |
//!
//! `rpc.status_code` has the same value as the released name `rpc.response.status_code`. `error.type` is set on failure
//! only. Unrecorded work costs no span: each function then returns [`Span::none`].

use tonic::Code;
use tracing::{Span, field};

use super::TraceContext;
use crate::database::{Database, DbError};
use crate::id::{SagaId, StepName};

/// The names of gRPC's codes, each at the index of its number.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
/// The codes that are faults of the server. The other codes are caused by the request.
const SERVER_FAULTS: [Code; 6] =
    [Code::Unknown, Code::DeadlineExceeded, Code::Unimplemented, Code::Internal, Code::Unavailable, Code::DataLoss];

/// The direction of an attempt of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The action.
    Forward,
    /// The compensation.
    Compensation,
}

impl Direction {
    /// The value of the attribute `matricula.direction`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Compensation => "compensation",
        }
    }
}

/// The end of an attempt of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptOutcome<'a> {
    /// The action or compensation is done.
    Done,
    /// The service refused it, which is an answer and not an error.
    Refused,
    /// There is no answer: the gRPC code and message.
    Unknown(Code, &'a str),
}

/// The called service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peer {
    /// Its full name, `<package.Service>`.
    pub service: &'static str,
    /// Host name or address.
    pub address: String,
    /// Port; `None` if it is reached without a socket.
    pub port: Option<u16>,
}

impl Peer {
    /// The peer at a URL.
    pub fn at(service: &'static str, url: &str) -> Self {
        let uri = url.parse::<tonic::transport::Uri>().unwrap_or_default();
        let address = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        Self { service, address, port: uri.port_u16() }
    }
}

/// The saga, step and direction of an attempt.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// The saga.
    pub saga: &'a str,
    /// The step; for a compensation, the step that it undoes.
    pub step: &'a str,
    /// The direction.
    pub direction: Direction,
    /// Counted from 1.
    pub number: u32,
}

/// The span of a call that this process answers: a child of `parent`, or the first of a trace.
pub(super) fn server(method: &'static str, parent: &TraceContext, host: &str, port: Option<u16>) -> Span {
    let span = tracing::info_span!(
        parent: None,
        "serve",
        otel.name = method,
        otel.kind = "server",
        rpc.system.name = "grpc",
        rpc.method = method,
        server.address = host,
        server.port = port.map(i64::from),
        rpc.response.status_code = field::Empty,
        rpc.status_code = field::Empty,
        "error.type" = field::Empty,
        otel.status_code = field::Empty,
        matricula.saga.id = field::Empty,
        matricula.step = field::Empty,
        matricula.direction = field::Empty,
        matricula.outcome = field::Empty,
        matricula.reason = field::Empty,
        matricula.operations = field::Empty,
        trace_id = parent.trace_id(),
    );
    parent.adopt(&span);
    span
}

/// Records the status of a call that was answered here. Only a fault of the server is an error.
pub(super) fn served(span: &Span, code: Code) {
    let is_error = SERVER_FAULTS.contains(&code);
    record_code(span, code, is_error);
    if is_error {
        span.record("otel.status_code", "ERROR");
    }
}

/// The span of one attempt of a step, on the side of the caller.
pub fn call(peer: &Peer, rpc: &str, attempt: Attempt<'_>, parent: &TraceContext) -> Span {
    if !parent.is_wanted() {
        return Span::none();
    }
    let method = if peer.service.is_empty() { rpc.to_owned() } else { format!("{}/{rpc}", peer.service) };
    let span = tracing::info_span!(
        parent: None,
        "call",
        otel.name = method.as_str(),
        otel.kind = "client",
        rpc.system.name = "grpc",
        rpc.method = method.as_str(),
        server.address = peer.address.as_str(),
        server.port = peer.port.map(i64::from),
        rpc.response.status_code = field::Empty,
        rpc.status_code = field::Empty,
        "error.type" = field::Empty,
        otel.status_description = field::Empty,
        matricula.saga.id = attempt.saga,
        matricula.step = attempt.step,
        matricula.direction = attempt.direction.as_str(),
        matricula.attempt = i64::from(attempt.number),
        matricula.outcome = field::Empty,
        trace_id = parent.trace_id(),
    );
    parent.adopt(&span);
    span
}

/// Records the end of an attempt. A caller counts every code except `OK` as an error.
pub fn answered(span: &Span, outcome: AttemptOutcome<'_>) {
    if span.is_disabled() {
        return;
    }
    let (name, code) = match outcome {
        AttemptOutcome::Done => ("done", Code::Ok),
        AttemptOutcome::Refused => ("refused", Code::Ok),
        AttemptOutcome::Unknown(code, message) => {
            // This also sets the span's status to error.
            span.record("otel.status_description", message);
            ("unknown", code)
        }
    };
    span.record("matricula.outcome", name);
    record_code(span, code, matches!(outcome, AttemptOutcome::Unknown(..)));
}

fn record_code(span: &Span, code: Code, is_error: bool) {
    let name = CODES[code as usize];
    span.record("rpc.response.status_code", name).record("rpc.status_code", name);
    if is_error {
        span.record("error.type", name);
    }
}

/// The span of a saga, from when this process starts to drive it until it is finished or another process takes over.
pub fn saga(definition: &str, saga: &str, parent: &TraceContext) -> Span {
    if !parent.is_wanted() {
        return Span::none();
    }
    let span = tracing::info_span!(
        parent: None,
        "saga",
        otel.name = definition,
        matricula.saga.id = saga,
        matricula.outcome = field::Empty,
        trace_id = parent.trace_id(),
    );
    parent.adopt(&span);
    span
}

/// Records the outcome of a saga. No outcome is an error: a refusal is a decision of the rules.
pub fn decided(span: &Span, outcome: &'static str) {
    span.record("matricula.outcome", outcome);
}

/// The span of one commit: a child of the first trace among its operations, and linked to the others.
pub fn commit<'a>(database: &Database, traces: impl Iterator<Item = &'a TraceContext>, operations: usize) -> Span {
    let wanted: Vec<&TraceContext> = traces.filter(|trace| trace.is_wanted()).collect();
    let Some(first) = wanted.first() else { return Span::none() };
    let identity = database.identity();
    let name = format!("COMMIT {}", identity.namespace);
    let span = tracing::info_span!(
        parent: None,
        "commit",
        otel.name = name.as_str(),
        otel.kind = "client",
        db.system.name = identity.system,
        db.operation.name = "COMMIT",
        db.namespace = identity.namespace.as_str(),
        server.address = identity.address.as_deref(),
        server.port = identity.port.map(i64::from),
        db.response.status_code = field::Empty,
        "error.type" = field::Empty,
        otel.status_description = field::Empty,
        matricula.operations = i64::try_from(operations).unwrap_or(i64::MAX),
        matricula.saga.id = field::Empty,
        matricula.step = field::Empty,
        matricula.direction = field::Empty,
        trace_id = first.trace_id(),
    );
    first.adopt(&span);
    for other in wanted.iter().skip(1).filter(|other| **other != *first) {
        other.link(&span);
    }
    span
}

/// Records a failed commit.
pub fn not_committed(span: &Span, error: &DbError) {
    if span.is_disabled() {
        return;
    }
    let code = error.code();
    if let Some(code) = &code {
        span.record("db.response.status_code", code.as_str());
    }
    span.record("error.type", code.as_deref().unwrap_or(error.kind()));
    span.record("otel.status_description", error.to_string());
}

/// Records the saga step of a commit or call that has only one.
pub(crate) fn is_about(span: &Span, saga: &SagaId, step: &StepName, direction: Direction) {
    if span.is_disabled() {
        return;
    }
    span.record("matricula.saga.id", saga.as_str()).record("matricula.step", step.as_str());
    span.record("matricula.direction", direction.as_str());
}

/// Records the number of operations in the call that is answered in `span`.
pub(crate) fn has_operations(span: &Span, count: usize) {
    span.record("matricula.operations", i64::try_from(count).unwrap_or(i64::MAX));
}

/// Records the answer to the only operation of a call, with the first reason if it is not done.
pub(crate) fn has_answer(span: &Span, outcome: &'static str, reason: Option<&str>) {
    span.record("matricula.outcome", outcome);
    if let Some(reason) = reason {
        span.record("matricula.reason", reason);
    }
}

/// Records the saga of a commit or call that has only one.
pub fn is_of_saga(span: &Span, saga: &str) {
    span.record("matricula.saga.id", saga);
}
