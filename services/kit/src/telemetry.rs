//! Logs, spans and W3C trace context.
//!
//! The trace context of a client is stored with the saga, and sent with every operation. The sampling decision was made
//! where the trace began, and is read from the context: an unsampled trace costs no span.
//!
//! | module | job |
//! |---|---|
//! | here | sets up logs and traces; the trace context |
//! | `environment` | reads our settings and the variables `OTEL_*` for traces |
//! | `export` | exports spans |
//! | `grpc` | the spans of the calls that this process answers |
//! | [`spans`] | every span of the system, with its name and attributes |

mod environment;
mod export;
mod grpc;
mod ratio;
pub mod spans;

use std::error::Error;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::sync::OnceLock;

use axum::http::HeaderMap;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde::{Deserialize, Serialize};
use tonic::metadata::MetadataMap;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Metadata, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::layer::{self, Filter, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use self::environment::{Root, Sampling};
pub(crate) use self::grpc::Traced;

/// Header and field names of W3C trace context.
const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
/// Maximum length of stored `traceparent` and `tracestate`, as in the standard.
const TRACEPARENT_BYTES_MAX: usize = 55;
const TRACESTATE_BYTES_MAX: usize = 512;

/// Targets of our own spans: the crates of this workspace. Spans of libraries are not exported, including those of the
/// exporter's own connection.
const OWN_CRATE: &str = "matricula";
const OWN_CRATES: &str = "matricula_";

/// The tracing policy of this process.
static POLICY: OnceLock<Policy> = OnceLock::new();

/// Which contexts get spans here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Policy {
    /// Whether contexts of callers are read and passed on.
    propagates: bool,
    recorded: Recorded,
    /// Paths of the RPCs with which traces begin; empty if nothing is exported.
    begins: &'static [&'static str],
}

/// For which incoming traces this process records spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recorded {
    /// For those that the caller samples.
    Sampled,
    /// For all, subject to the sampler.
    All,
    Never,
}

/// The policy before the setup: follow the callers, and begin no traces.
const FOLLOWS: Policy = Policy { propagates: true, recorded: Recorded::Sampled, begins: &[] };

fn policy() -> &'static Policy {
    POLICY.get().unwrap_or(&FOLLOWS)
}

impl Policy {
    fn new(traces: &environment::Traces, begins: &'static [&'static str]) -> Self {
        let Sampling { parent_based, root } = traces.sampling;
        let (recorded, begins) = match (&traces.endpoint, parent_based, root) {
            (None, ..) => (Recorded::Sampled, FOLLOWS.begins),
            (Some(_), true, _) => (Recorded::Sampled, begins),
            (Some(_), false, Root::Off) => (Recorded::Never, FOLLOWS.begins),
            (Some(_), false, Root::On | Root::Ratio(_)) => (Recorded::All, begins),
        };
        Self { propagates: traces.propagates, recorded, begins }
    }
}

/// The W3C trace context of a piece of work; empty if there is none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TraceContext {
    /// `00-<trace id>-<span id>-<flags>`, or empty.
    pub traceparent: String,
    /// Additions of vendors, or empty.
    pub tracestate: String,
}

impl TraceContext {
    /// The context of a request. A malformed or overlong context is ignored.
    pub fn from_metadata(metadata: &MetadataMap) -> Self {
        Self::from_headers(metadata.as_ref())
    }

    fn from_headers(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name)?.to_str().ok();
        let short = |name, max| text(name).filter(|value| value.len() <= max).unwrap_or_default().to_owned();
        match short(TRACEPARENT, TRACEPARENT_BYTES_MAX) {
            none if none.is_empty() => Self::default(),
            traceparent => Self::from_wire(traceparent, short(TRACESTATE, TRACESTATE_BYTES_MAX)),
        }
    }

    /// The context of an operation. A malformed or overlong context is ignored, and is no reason to reject the
    /// operation.
    pub fn from_wire(traceparent: String, mut tracestate: String) -> Self {
        if !policy().propagates {
            return Self::default();
        }
        if tracestate.len() > TRACESTATE_BYTES_MAX {
            tracestate.clear();
        }
        let context = Self { traceparent, tracestate };
        let is_valid = context.traceparent.len() <= TRACEPARENT_BYTES_MAX && context.trace_id().is_some();
        if is_valid { context } else { Self::default() }
    }

    /// The context of a span, or `fallback` if the span is not traced.
    pub fn of_span(span: &Span, fallback: &Self) -> Self {
        let context = span.context();
        if !context.span().span_context().is_valid() {
            return fallback.clone();
        }
        let mut carrier = Self::default();
        TraceContextPropagator::new().inject_context(&context, &mut carrier);
        carrier
    }

    /// The trace id in hexadecimal, if there is one.
    pub fn trace_id(&self) -> Option<&str> {
        let mut parts = self.traceparent.split('-');
        let id = parts.nth(1).filter(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        (parts.count() >= 2).then_some(id)
    }

    /// Whether the trace is sampled by its originator.
    pub fn is_sampled(&self) -> bool {
        let flags = self.trace_id().and_then(|_| self.traceparent.rsplit('-').next());
        flags.and_then(|flags| u8::from_str_radix(flags, 16).ok()).is_some_and(|flags| flags & 1 == 1)
    }

    /// Whether this process makes spans for this context: by the context's flag, unless the sampler of this process
    /// ignores it.
    pub fn is_wanted(&self) -> bool {
        match policy().recorded {
            Recorded::Sampled => self.is_sampled(),
            Recorded::All => self.trace_id().is_some(),
            Recorded::Never => false,
        }
    }

    /// Adds this context to the metadata of a call.
    pub fn to_metadata(&self, metadata: &mut MetadataMap) {
        for (name, text) in [(TRACEPARENT, &self.traceparent), (TRACESTATE, &self.tracestate)] {
            if let Some(value) = text.parse().ok().filter(|_| !text.is_empty()) {
                metadata.insert(name, value);
            }
        }
    }

    /// The context of an outgoing call with the span `span`, if that span belongs to this context. Empty if contexts
    /// are not passed on.
    pub fn for_call(&self, span: &Span) -> Self {
        if policy().propagates { Self::of_span(span, self) } else { Self::default() }
    }

    /// The context of the call that is being answered here, if this context belongs to its trace.
    pub(crate) fn within(self, serving: &Self) -> Self {
        if serving.is_sampled() && self.trace_id() == serving.trace_id() { serving.clone() } else { self }
    }

    /// Makes `span` a child of this context.
    fn adopt(&self, span: &Span) {
        if self.trace_id().is_some() {
            let _ = span.set_parent(TraceContextPropagator::new().extract(self));
        }
    }

    /// Links `span` to this context, without making it a child.
    fn link(&self, span: &Span) {
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

/// The settings of logs and traces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// Log filter in the form of `RUST_LOG`, such as `info,matricula=debug`.
    pub log: String,
    /// `json`, `text`, or `auto`: text on a terminal, otherwise JSON.
    pub log_format: LogFormat,
    /// The OTLP/gRPC endpoint for traces, such as `http://127.0.0.1:4317`. Empty: the value of
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`, or no export.
    pub otlp_endpoint: String,
    /// The share of the traces begun here that is recorded, 0 to 1. Traces begun by a client keep the client's
    /// decision. Empty: the value of `OTEL_TRACES_SAMPLER`, or all traces.
    #[serde(with = "ratio")]
    pub trace_sample_ratio: Option<f64>,
}

/// Format of the logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, otherwise JSON.
    Auto,
    /// One JSON object per line.
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
            trace_sample_ratio: None,
        }
    }
}

impl TelemetryConfig {
    /// All problems of the settings, each with its name.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if let Err(problem) = EnvFilter::try_new(&self.log) {
            problems
                .push(("log", format!("{:?} is not a log filter such as info,matricula=debug: {problem}", self.log)));
        }
        if self.trace_sample_ratio.is_some_and(|ratio| !(0.0..=1.0).contains(&ratio)) {
            problems.push(("trace_sample_ratio", "must be 0 to 1".to_owned()));
        }
        problems
    }
}

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The log filter is invalid.
    #[error("telemetry.log")]
    Filter(#[source] tracing_subscriber::filter::ParseError),
    /// The exporter could not be created.
    #[error("telemetry.otlp_endpoint")]
    Exporter(#[source] opentelemetry_otlp::ExporterBuildError),
    /// It was set up before.
    #[error("telemetry is already set up")]
    Twice(#[source] tracing_subscriber::util::TryInitError),
}

/// Exports the remaining spans when the process ends.
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Exports the remaining spans.
    pub fn flush(self) {
        if let Some(provider) = self.provider
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(error = chain(&error), "the last spans were not exported");
        }
    }
}

/// Sets up the logs and traces of this process. Logs go to stderr. A call of an RPC in `begins` (a path,
/// `/<package.Service>/<Method>`) without a context begins a new trace.
pub fn init(
    role: &str,
    config: &TelemetryConfig,
    begins: &'static [&'static str],
) -> Result<Telemetry, TelemetryError> {
    let filter = EnvFilter::try_new(&config.log).map_err(TelemetryError::Filter)?;
    let json = match config.log_format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    // The subscriber would report its own errors with a macro that panics when stderr can't be written, such as on a
    // full disk.
    let format = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).log_internal_errors(false);
    let logs = if json {
        format.json().with_span_list(false).boxed()
    } else {
        format.with_ansi(is_coloured()).with_target(false).compact().boxed()
    };
    let variable = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let (traces, warnings) = environment::resolve(role, config, variable);
    let provider = match &traces.endpoint {
        None => None,
        Some(endpoint) => Some(export::provider(&traces, endpoint)?),
    };
    let spans = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("matricula"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(exported_spans())
    });
    let registry = tracing_subscriber::registry().with(logs.with_filter(filter)).with(spans);
    registry.try_init().map_err(TelemetryError::Twice)?;
    // This cannot fail: only the first call, which set the subscriber, gets here.
    let _ = POLICY.set(Policy::new(&traces, begins));
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok(Telemetry { provider })
}

/// Whether stderr is coloured: it is a terminal with colours, and none of `NO_COLOR`, `CLICOLOR=0` and `TERM=dumb` is
/// set.
fn is_coloured() -> bool {
    anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never
}

/// The filter of exported spans.
///
/// It is evaluated for each span, not once per callsite. A library that only queries whether it would be logged
/// (`enabled!`) leaves the results of all filters in its thread, and they would be applied to the next span. For
/// example, a notice of PostgreSQL that is not logged would suppress the next span.
fn exported_spans<S: tracing::Subscriber>() -> impl Filter<S> {
    let each = dynamic_filter_fn(|metadata: &Metadata<'_>, _: &layer::Context<'_, S>| is_exported(metadata));
    each.with_max_level_hint(LevelFilter::INFO).with_callsite_filter(|metadata| match is_exported(metadata) {
        true => Interest::sometimes(),
        false => Interest::never(),
    })
}

/// Our spans, down to the level of information. Lower levels are for the log only.
fn is_exported(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let of_crate = target.split("::").next().unwrap_or_default();
    metadata.is_span()
        && *metadata.level() <= tracing::Level::INFO
        && (of_crate == OWN_CRATE || of_crate.starts_with(OWN_CRATES))
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
    fn settings_are_checked_by_their_names() {
        let problems =
            |config: TelemetryConfig| config.problems().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(problems(TelemetryConfig::default()), [""; 0]);
        for ratio in [-0.1, 1.1, f64::NAN] {
            let wrong = TelemetryConfig { trace_sample_ratio: Some(ratio), ..Default::default() };
            assert_eq!(problems(wrong), ["trace_sample_ratio"]);
        }
        let wrong = TelemetryConfig { log: "info,=".to_owned(), ..Default::default() };
        assert_eq!(problems(wrong), ["log"]);
    }

    /// Spans of libraries, and spans below the level of information, are not exported.
    #[test]
    fn only_our_spans_are_exported() {
        use tracing::callsite::Identifier;
        use tracing::field::FieldSet;
        use tracing::metadata::Kind;

        struct Callsite;
        impl tracing::Callsite for Callsite {
            fn set_interest(&self, _: tracing::subscriber::Interest) {}
            fn metadata(&self) -> &Metadata<'_> {
                unreachable!("never called")
            }
        }
        static CALLSITE: Callsite = Callsite;
        let is_exported = |target: &'static str, level, kind| {
            let fields = FieldSet::new(&[], Identifier(&CALLSITE));
            super::is_exported(&Metadata::new("name", target, level, None, None, None, fields, kind))
        };
        let info = tracing::Level::INFO;
        for target in ["matricula", "matricula::roles", "matricula_kit::telemetry::spans", "matricula_seats"] {
            assert!(is_exported(target, info, Kind::SPAN), "{target}");
        }
        for target in
            ["h2::client", "hyper_util", "tonic", "tower::buffer", "sqlx::query", "matriculate", "opentelemetry_sdk"]
        {
            assert!(!is_exported(target, info, Kind::SPAN), "{target}");
        }
        assert!(!is_exported("matricula", tracing::Level::DEBUG, Kind::SPAN));
        assert!(!is_exported("matricula", info, Kind::EVENT));
    }

    /// Counts the spans that reach it.
    #[derive(Clone, Default)]
    struct Count(std::sync::Arc<std::sync::atomic::AtomicUsize>);

    impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Count {
        fn on_new_span(&self, _: &tracing::span::Attributes<'_>, _: &tracing::span::Id, _: layer::Context<'_, S>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    #[test]
    fn a_library_that_queries_whether_it_is_logged_suppresses_no_span() {
        let count = Count::default();
        let log = EnvFilter::try_new("info,library=warn").expect("a filter");
        let logs = tracing_subscriber::fmt::layer().with_writer(std::io::sink).with_filter(log);
        let registry = tracing_subscriber::registry().with(logs).with(count.clone().with_filter(exported_spans()));
        tracing::subscriber::with_default(registry, || {
            for _ in 0..3 {
                assert!(!tracing::enabled!(target: "library::notice", tracing::Level::INFO));
                drop(tracing::info_span!("ours"));
            }
        });
        assert_eq!(count.0.load(std::sync::atomic::Ordering::Relaxed), 3);
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
