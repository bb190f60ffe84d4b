//! Logs, spans and W3C trace context.
//!
//! A trace comes in from the client, is stored with the saga, and goes out with every operation. Whether it is sampled was
//! decided where it began, and is read off the context: what is not sampled costs no span.

use std::error::Error;
use std::fmt::Write as _;
use std::io::IsTerminal as _;

use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use serde::{Deserialize, Serialize};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

/// Header and field names of W3C trace context.
const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
/// Longest `traceparent` and `tracestate` that are stored; the standard has 55 and 512 bytes.
const TRACEPARENT_BYTES_MAX: usize = 55;
const TRACESTATE_BYTES_MAX: usize = 512;

/// The W3C trace context that work belongs to; empty when it belongs to none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TraceContext {
    /// `00-<trace id>-<span id>-<flags>`, or empty.
    pub traceparent: String,
    /// Vendors' additions, or empty.
    pub tracestate: String,
}

impl TraceContext {
    /// The context that came with a request. A malformed or overlong one counts as none.
    pub fn from_metadata(metadata: &tonic::metadata::MetadataMap) -> Self {
        let text = |name, max| {
            let value: Option<&str> = metadata.get(name).and_then(|value| value.to_str().ok());
            value.filter(|value| value.len() <= max).unwrap_or_default().to_owned()
        };
        Self::from_wire(text(TRACEPARENT, TRACEPARENT_BYTES_MAX), text(TRACESTATE, TRACESTATE_BYTES_MAX))
    }

    /// The context that came with an operation. A malformed or overlong one counts as none: it is no reason to refuse.
    pub fn from_wire(traceparent: String, mut tracestate: String) -> Self {
        if tracestate.len() > TRACESTATE_BYTES_MAX {
            tracestate.clear();
        }
        let context = Self { traceparent, tracestate };
        let is_valid = context.traceparent.len() <= TRACEPARENT_BYTES_MAX && context.trace_id().is_some();
        if is_valid { context } else { Self::default() }
    }

    /// The context of a span, or `fallback` when the span is not traced.
    pub fn of_span(span: &Span, fallback: &Self) -> Self {
        let context = span.context();
        if !context.span().span_context().is_valid() {
            return fallback.clone();
        }
        let mut carrier = Self::default();
        TraceContextPropagator::new().inject_context(&context, &mut carrier);
        carrier
    }

    /// The trace's id in hexadecimal, when there is one.
    pub fn trace_id(&self) -> Option<&str> {
        let mut parts = self.traceparent.split('-');
        let id = parts.nth(1).filter(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        (parts.count() >= 2).then_some(id)
    }

    /// Whether whoever began the trace wants it recorded.
    pub fn is_sampled(&self) -> bool {
        let flags = self.trace_id().and_then(|_| self.traceparent.rsplit('-').next());
        flags.and_then(|flags| u8::from_str_radix(flags, 16).ok()).is_some_and(|flags| flags & 1 == 1)
    }

    /// Makes `span` a child of this context.
    pub fn adopt(&self, span: &Span) {
        if self.is_sampled() {
            let _ = span.set_parent(TraceContextPropagator::new().extract(self));
        }
    }

    /// Links `span` to this context, without making it a child.
    pub fn link(&self, span: &Span) {
        if self.is_sampled() {
            let context = TraceContextPropagator::new().extract(self);
            span.add_link(context.span().span_context().clone());
        }
    }
}

impl Injector for TraceContext {
    fn set(&mut self, key: &str, value: String) {
        match key {
            TRACEPARENT => self.traceparent = value,
            TRACESTATE => self.tracestate = value,
            _ => {}
        }
    }
}

impl Extractor for TraceContext {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            TRACEPARENT => Some(self.traceparent.as_str()),
            TRACESTATE => Some(self.tracestate.as_str()),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT, TRACESTATE]
    }
}

/// The span of one commit: linked to every sampled operation in it, and absent when there is none.
pub fn commit_span<'a>(service: &'static str, traces: impl Iterator<Item = &'a TraceContext>) -> Span {
    let sampled: Vec<&TraceContext> = traces.filter(|trace| trace.is_sampled()).collect();
    let Some(first) = sampled.first() else { return Span::none() };
    let span = tracing::info_span!("commit", service, trace_id = first.trace_id());
    // A batch of one registration is simply part of its trace; in a larger one the first is the parent, others are links.
    first.adopt(&span);
    for other in sampled.iter().skip(1) {
        other.link(&span);
    }
    span
}

/// How a process reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// Log filter in the form of `RUST_LOG`, such as `info,matricula=debug`.
    pub log: String,
    /// `json`, `text`, or `auto`: text on a terminal, else JSON.
    pub log_format: LogFormat,
    /// Where traces go: an OTLP/gRPC endpoint such as `http://127.0.0.1:4317`. Empty: nowhere.
    pub otlp_endpoint: String,
    /// Part of the traces begun here that are recorded, 0 to 1. Traces begun by a client keep the client's decision.
    pub trace_sample_ratio: f64,
}

/// Form of the logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            log: "info,sqlx=warn,h2=warn,hyper=warn,opentelemetry=warn".to_owned(),
            log_format: LogFormat::Auto,
            otlp_endpoint: String::new(),
            trace_sample_ratio: 1.0,
        }
    }
}

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The log filter has no meaning.
    #[error("telemetry.log")]
    Filter(#[source] tracing_subscriber::filter::ParseError),
    /// The exporter could not be made.
    #[error("telemetry.otlp_endpoint")]
    Exporter(#[source] opentelemetry_otlp::ExporterBuildError),
    /// It was set up before.
    #[error("telemetry is already set up")]
    Twice(#[source] tracing_subscriber::util::TryInitError),
}

/// Sends what spans are left when the process ends.
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Exports the spans that are left.
    pub fn flush(self) {
        if let Some(provider) = self.provider
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(error = chain(&error), "spans were lost at shutdown");
        }
    }
}

/// Sets up logs and traces of this process. Logs go to stderr.
pub fn init(service: &str, config: &TelemetryConfig) -> Result<Telemetry, TelemetryError> {
    let filter = EnvFilter::try_new(&config.log).map_err(TelemetryError::Filter)?;
    let json = match config.log_format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    // Its own errors would go to stderr by a macro that panics where nothing can be written: on a full disk, say.
    let format = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).log_internal_errors(false);
    let logs = if json {
        format.json().with_span_list(false).boxed()
    } else {
        format.with_ansi(is_coloured()).with_target(false).compact().boxed()
    };
    let provider = match config.otlp_endpoint.as_str() {
        "" => None,
        endpoint => Some(provider(service, endpoint, config.trace_sample_ratio)?),
    };
    let traces = provider.as_ref().map(|provider| {
        let spans_only = tracing_subscriber::filter::filter_fn(|metadata| metadata.is_span());
        tracing_opentelemetry::layer().with_tracer(provider.tracer("matricula")).with_filter(spans_only)
    });
    let registry = tracing_subscriber::registry().with(logs.with_filter(filter)).with(traces);
    registry.try_init().map_err(TelemetryError::Twice)?;
    Ok(Telemetry { provider })
}

/// Whether stderr is shown in colours: a terminal that has them, and neither `NO_COLOR`, `CLICOLOR=0` nor `TERM=dumb` is set.
fn is_coloured() -> bool {
    anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never
}

fn provider(service: &str, endpoint: &str, ratio: f64) -> Result<SdkTracerProvider, TelemetryError> {
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(endpoint).build();
    let exporter = exporter.map_err(TelemetryError::Exporter)?;
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio)));
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(sampler)
        .with_resource(Resource::builder().with_service_name(format!("matricula-{service}")).build())
        .build())
}

/// An error with all its causes, for a log line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Writing to a string does not fail.
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(traceparent: &str, valid: bool, sampled: bool) {
        let mut metadata = tonic::metadata::MetadataMap::new();
        metadata.insert(TRACEPARENT, traceparent.parse().expect("a header value"));
        let context = TraceContext::from_metadata(&metadata);
        assert_eq!((context.trace_id().is_some(), context.is_sampled()), (valid, sampled), "{traceparent}");
    }

    #[test]
    fn contexts_from_outside_are_checked() {
        check("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true, true);
        check("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", true, false);
        check("00-0af7651916cd43dd8448eb211c80319c", false, false);
        check("00-zzf7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false, false);
        check(&"0".repeat(500), false, false);
        check("", false, false);
    }
}
