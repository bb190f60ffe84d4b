//! The spans of the system, by the semantic conventions of OpenTelemetry (1.44) for RPC and databases, and ours:
//!
//! | span | kind | begun by |
//! |---|---|---|
//! | `<package.Service>/<Method>` | server | every gRPC server, for a call that comes with a context, and where traces begin |
//! | `<definition>`, such as `registration` | internal | the orchestrator, for a saga while it drives it |
//! | `<package.Service>/<Method>` | client | the orchestrator, for each attempt of each step |
//! | `COMMIT <database>` | client | whatever writes a batch into its database |
//!
//! `rpc.status_code` says the same as the released name `rpc.response.status_code`. `error.type` is there on failure
//! only. What is not recorded costs no span: each function returns [`Span::none`] then.

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
/// The codes that are faults of the server. The others are answers to what its client has asked.
const SERVER_FAULTS: [Code; 6] =
    [Code::Unknown, Code::DeadlineExceeded, Code::Unimplemented, Code::Internal, Code::Unavailable, Code::DataLoss];

/// Which way an attempt of a step goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// It does the step.
    Forward,
    /// It undoes the step.
    Compensation,
}

impl Direction {
    /// As the attribute `matricula.direction` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Compensation => "compensation",
        }
    }
}

/// How an attempt of a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptOutcome<'a> {
    /// The step, or its compensation, is done.
    Done,
    /// The service has refused: an answer, and no error.
    Refused,
    /// There is no answer: gRPC's code and message.
    Unknown(Code, &'a str),
}

/// The service that is called.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peer {
    /// Its full name, `<package.Service>`.
    pub service: &'static str,
    /// Host name or address.
    pub address: String,
    /// Port; `None` when it is reached without a socket.
    pub port: Option<u16>,
}

impl Peer {
    /// The peer that a URL leads to.
    pub fn at(service: &'static str, url: &str) -> Self {
        let uri = url.parse::<tonic::transport::Uri>().unwrap_or_default();
        let address = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        Self { service, address, port: uri.port_u16() }
    }
}

/// What an attempt of a step is about.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// The saga.
    pub saga: &'a str,
    /// The step; of a compensation, the step that it undoes.
    pub step: &'a str,
    /// Which way it goes.
    pub direction: Direction,
    /// Counted from 1.
    pub number: u32,
}

/// The span of a call that this process answers, part of `parent` or the first of a trace.
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

/// How a call that was answered here ended. Only a fault of the server is an error.
pub(super) fn served(span: &Span, code: Code) {
    let is_error = SERVER_FAULTS.contains(&code);
    record_code(span, code, is_error);
    if is_error {
        span.record("otel.status_code", "ERROR");
    }
}

/// The span of one attempt of a step, as its caller sees it.
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

/// How an attempt ended. A caller counts every code but `OK` as an error.
pub fn answered(span: &Span, outcome: AttemptOutcome<'_>) {
    if span.is_disabled() {
        return;
    }
    let (name, code) = match outcome {
        AttemptOutcome::Done => ("done", Code::Ok),
        AttemptOutcome::Refused => ("refused", Code::Ok),
        AttemptOutcome::Unknown(code, message) => {
            // It makes the status an error, too.
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

/// The span of a saga, from when this process begins to drive it until it is finished or another process drives it.
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

/// The outcome of a saga. None of them is an error: a refusal is what the rules say, not a fault.
pub fn decided(span: &Span, outcome: &'static str) {
    span.record("matricula.outcome", outcome);
}

/// The span of one commit: part of the first of the traces whose operations are in it, and linked to the others.
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

/// A commit that failed.
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

/// The one step of a saga that a commit or a call is about.
pub(crate) fn is_about(span: &Span, saga: &SagaId, step: &StepName, direction: Direction) {
    if span.is_disabled() {
        return;
    }
    span.record("matricula.saga.id", saga.as_str()).record("matricula.step", step.as_str());
    span.record("matricula.direction", direction.as_str());
}

/// How many operations the call has that is answered in `span`.
pub(crate) fn has_operations(span: &Span, count: usize) {
    span.record("matricula.operations", i64::try_from(count).unwrap_or(i64::MAX));
}

/// The answer to the one operation of the call that is answered in `span`, with the first reason when it is not done.
pub(crate) fn has_answer(span: &Span, outcome: &'static str, reason: Option<&str>) {
    span.record("matricula.outcome", outcome);
    if let Some(reason) = reason {
        span.record("matricula.reason", reason);
    }
}

/// The one saga that a commit or a call is about.
pub fn is_of_saga(span: &Span, saga: &str) {
    span.record("matricula.saga.id", saga);
}
