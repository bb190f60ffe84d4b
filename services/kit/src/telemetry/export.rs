//! Exports spans.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::resource::TelemetryResourceDetector;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};

use super::TelemetryError;
use super::environment::Traces;

/// The interval of log lines about lost spans: a collector may be unavailable for hours.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The provider that makes spans and sends them to `endpoint`.
pub(super) fn provider(traces: &Traces, endpoint: &str) -> Result<SdkTracerProvider, TelemetryError> {
    let otlp = opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(endpoint).build();
    let otlp = otlp.map_err(TelemetryError::Exporter)?;
    let attributes = traces.resource.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    let resource = Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_attributes(attributes)
        .build();
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(Exporter { otlp, logged_at: Mutex::new(None) })
        .with_sampler(traces.sampling.sampler())
        .with_resource(resource)
        .build())
}

/// The exporter. It logs lost spans, because the SDK drops them silently.
#[derive(Debug)]
struct Exporter {
    otlp: opentelemetry_otlp::SpanExporter,
    logged_at: Mutex<Option<Instant>>,
}

impl Exporter {
    fn lost(&self, spans: u64, error: &opentelemetry_sdk::error::OTelSdkError) {
        metrics::counter!("matricula_spans_lost_total").increment(spans);
        let mut logged_at = self.logged_at.lock().unwrap_or_else(PoisonError::into_inner);
        if logged_at.is_none_or(|logged_at| logged_at.elapsed() >= LOG_INTERVAL) {
            *logged_at = Some(Instant::now());
            tracing::warn!(spans, error = super::chain(error), "spans could not be exported and are lost");
        }
    }
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let outcome = self.otlp.export(batch).await;
        if let Err(error) = &outcome {
            self.lost(spans, error);
        }
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.otlp.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.otlp.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.otlp.set_resource(resource);
    }
}
