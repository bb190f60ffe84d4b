//! A collector that keeps the spans that it receives.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tonic::{Request, Response};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Server,
    Client,
    Internal,
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Unset,
    Ok,
    Error,
}

/// A span as it was received.
#[derive(Debug, Clone)]
pub struct Received {
    pub service: String,
    pub resource: BTreeMap<String, String>,
    /// The header `x-test` of its export.
    pub header: String,
    pub name: String,
    pub kind: Kind,
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub status: Status,
    attributes: BTreeMap<String, String>,
    /// The number of received attributes, in which a repeated name counts twice.
    sent: usize,
}

impl Received {
    pub fn attribute(&self, key: &str) -> Option<&str> {
        self.attributes.get(key).map(String::as_str)
    }

    pub fn has(&self, key: &str, value: &str) -> bool {
        self.attribute(key) == Some(value)
    }
}

pub struct Collector {
    endpoint: String,
    received: watch::Sender<Vec<Received>>,
    server: AbortHandle,
}

impl Collector {
    pub async fn start() -> Self {
        let received = watch::Sender::new(Vec::new());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
        let collector = TraceServiceServer::new(Receiver(received.clone()));
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let serving = tonic::transport::Server::builder().add_service(collector).serve_with_incoming(incoming);
        Self { endpoint, received, server: tokio::spawn(serving).abort_handle() }
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Waits for such a span.
    pub async fn until(&self, is_wanted: impl Fn(&Received) -> bool) {
        let mut received = self.received.subscribe();
        received.wait_for(|spans| spans.iter().any(&is_wanted)).await.expect("the collector lives");
    }

    /// All that came.
    #[track_caller]
    pub fn all(self) -> Vec<Received> {
        let all = self.received.borrow().clone();
        let doubled = all.iter().find(|span| span.attributes.len() < span.sent);
        assert!(doubled.is_none(), "an attribute comes twice: {doubled:?}");
        all
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

struct Receiver(watch::Sender<Vec<Received>>);

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, tonic::Status> {
        let header = request.metadata().get("x-test").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let header = header.to_owned();
        let mut received = Vec::new();
        for resource in request.into_inner().resource_spans {
            let attributes = texts(resource.resource.map(|resource| resource.attributes).unwrap_or_default());
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            received.extend(spans.map(|span| Received { header: header.clone(), ..of(span, &attributes) }));
        }
        self.0.send_modify(|all| all.extend(received));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn of(span: Span, resource: &BTreeMap<String, String>) -> Received {
    let kind = match span.kind() {
        SpanKind::Server => Kind::Server,
        SpanKind::Client => Kind::Client,
        SpanKind::Internal => Kind::Internal,
        _ => Kind::Other,
    };
    let status = match span.status.as_ref().map(|status| status.code()) {
        Some(StatusCode::Error) => Status::Error,
        Some(StatusCode::Ok) => Status::Ok,
        Some(StatusCode::Unset) | None => Status::Unset,
    };
    Received {
        service: resource.get("service.name").cloned().unwrap_or_default(),
        resource: resource.clone(),
        header: String::new(),
        name: span.name,
        kind,
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        status,
        sent: span.attributes.len(),
        attributes: texts(span.attributes),
    }
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    attributes.into_iter().map(|attribute| (attribute.key, text(attribute.value))).collect()
}

fn text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(is)) => is.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
