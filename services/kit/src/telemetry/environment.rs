//! Reads our settings and the standard variables of OpenTelemetry for traces.
//!
//! Our setting has precedence, then a variable `OTEL_*`, then the default. An empty variable counts as unset. A wrong
//! or unsupported variable is reported as a warning, and never stops the process.
//!
//! The exporter and the SDK read other variables themselves: `OTEL_EXPORTER_OTLP_HEADERS`,
//! `OTEL_EXPORTER_OTLP_TIMEOUT`, `OTEL_BSP_*`, `OTEL_SPAN_*`.

use std::collections::BTreeMap;

use opentelemetry_sdk::trace::Sampler;

use super::TelemetryConfig;
use crate::connect::service_url;
use crate::secret::masked_url;

const SDK_DISABLED: &str = "OTEL_SDK_DISABLED";
const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SAMPLER_ARG: &str = "OTEL_TRACES_SAMPLER_ARG";
const PROPAGATORS: &str = "OTEL_PROPAGATORS";
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
const RESOURCE_ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";
/// In each pair, the variable for traces has precedence over the one for all signals.
const ENDPOINT: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const PROTOCOL: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
const INSECURE: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_INSECURE", "OTEL_EXPORTER_OTLP_INSECURE"];
const COMPRESSION: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"];
const TIMEOUT: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];

/// The endpoint if OTLP is requested without an endpoint.
const DEFAULT_ENDPOINT: &str = "http://localhost:4317";
/// The default: every trace that begins here, and the caller's decision for other traces.
const DEFAULT_SAMPLING: Sampling = Sampling { parent_based: true, root: Root::On };

/// The tracing settings of a process.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Traces {
    /// The endpoint for spans; `None`: no export.
    pub endpoint: Option<String>,
    pub sampling: Sampling,
    /// Whether contexts of callers are read and passed on.
    pub propagates: bool,
    /// Attributes of the process.
    pub resource: BTreeMap<String, String>,
}

/// The sampling of traces.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sampling {
    /// Whether the caller's decision is followed, if there is one.
    pub parent_based: bool,
    pub root: Root,
}

/// The sampling of traces that begin here; of all traces, if the caller's decision is not followed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Root {
    On,
    Off,
    Ratio(f64),
}

impl Sampling {
    pub(super) fn sampler(self) -> Sampler {
        let root = match self.root {
            Root::On => Sampler::AlwaysOn,
            Root::Off => Sampler::AlwaysOff,
            Root::Ratio(ratio) => Sampler::TraceIdRatioBased(ratio),
        };
        if self.parent_based { Sampler::ParentBased(Box::new(root)) } else { root }
    }
}

/// Resolves the tracing settings of a process with this role, and the warnings about its variables.
pub(super) fn resolve(
    role: &str,
    config: &TelemetryConfig,
    variable: impl Fn(&str) -> Option<String>,
) -> (Traces, Vec<String>) {
    let mut variables = Variables { variable, warnings: Vec::new() };
    let traces = Traces {
        endpoint: variables.endpoint(&config.otlp_endpoint),
        sampling: match config.trace_sample_ratio {
            Some(ratio) => Sampling { parent_based: true, root: Root::Ratio(ratio) },
            None => variables.sampling(),
        },
        propagates: variables.propagates(),
        resource: variables.resource(role),
    };
    (traces, variables.warnings)
}

/// An endpoint that the exporter supports, or the reason why not. Secrets in it are masked.
fn plain_http(endpoint: &str, is_insecure: bool) -> Result<String, String> {
    if !endpoint.contains("://") && !is_insecure {
        let shown = masked_url(endpoint);
        return Err(format!(
            "{shown:?}: must begin with http:// (an endpoint without it uses TLS, which is not supported)"
        ));
    }
    let url = if endpoint.contains("://") { endpoint.to_owned() } else { format!("http://{endpoint}") };
    service_url(&url).map(|_| url).map_err(|error| error.to_string())
}

struct Variables<F> {
    variable: F,
    warnings: Vec<String>,
}

impl<F: Fn(&str) -> Option<String>> Variables<F> {
    /// A variable that is set and not empty.
    fn text(&self, name: &str) -> Option<String> {
        (self.variable)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// A name from a fixed set, in lower case: case does not matter.
    fn name(&self, name: &str) -> Option<String> {
        self.text(name).map(|value| value.to_ascii_lowercase())
    }

    /// The first variable that is set, with its name.
    fn first(&self, names: &[&'static str]) -> Option<(&'static str, String)> {
        names.iter().find_map(|name| Some((*name, self.text(name)?)))
    }

    fn warn(&mut self, name: &str, problem: impl std::fmt::Display) {
        self.warnings.push(format!("{name}: {problem}"));
    }

    /// Only "true" is true; values other than "true" and "false" are reported and count as false.
    fn is_true(&mut self, name: &str) -> bool {
        match self.name(name).as_deref() {
            Some("true") => true,
            None | Some("false") => false,
            Some(other) => {
                self.warn(name, format!("{other:?} is neither true nor false, and counts as false"));
                false
            }
        }
    }

    fn endpoint(&mut self, own: &str) -> Option<String> {
        if self.is_true(SDK_DISABLED) {
            return None;
        }
        let is_requested = self.exporter()?;
        if !own.is_empty() {
            self.timeout();
            self.compression();
            return Some(own.to_owned());
        }
        let (name, endpoint) = match self.first(&ENDPOINT) {
            Some(set) => set,
            None if is_requested => (EXPORTER, DEFAULT_ENDPOINT.to_owned()),
            None => return None,
        };
        if let Some(problem) = self.protocol() {
            self.warnings.push(problem);
            return None;
        }
        self.timeout();
        self.compression();
        let insecure = self.first(&INSECURE).map(|(name, _)| name);
        let is_insecure = insecure.is_some_and(|name| self.is_true(name));
        plain_http(&endpoint, is_insecure).map_err(|problem| self.warn(name, no_traces(problem))).ok()
    }

    /// Whether OTLP is requested by name; `None` if nothing is to be exported.
    fn exporter(&mut self) -> Option<bool> {
        let mut is_requested = false;
        for exporter in self.name(EXPORTER).iter().flat_map(|list| list.split(',')).map(str::trim) {
            match exporter {
                "none" => return None,
                "otlp" => is_requested = true,
                other => self.warn(EXPORTER, format!("{other:?} is not supported; use otlp or none")),
            }
        }
        Some(is_requested)
    }

    /// The problem of a protocol other than gRPC, with which nothing is exported.
    fn protocol(&mut self) -> Option<String> {
        let (name, protocol) = self.first(&PROTOCOL)?;
        match protocol.to_ascii_lowercase().as_str() {
            "grpc" => None,
            "http/protobuf" | "http/json" => {
                let problem = format!("{protocol:?} is not supported; use grpc");
                Some(format!("{name}: {}", no_traces(problem)))
            }
            _ => {
                self.warn(name, format!("{protocol:?} is unknown; grpc is used"));
                None
            }
        }
    }

    /// Warns about an invalid value, which the exporter ignores silently.
    fn timeout(&mut self) {
        for name in TIMEOUT {
            if let Some(value) = self.text(name).filter(|value| value.parse::<u64>().is_err()) {
                self.warn(name, format!("{value:?} is not a number of milliseconds, and is ignored"));
            }
        }
    }

    fn compression(&mut self) {
        if let Some((name, value)) = self.first(&COMPRESSION).filter(|(_, value)| !value.eq_ignore_ascii_case("none")) {
            self.warn(name, format!("{value:?} is not supported; spans are sent without compression"));
        }
    }

    fn sampling(&mut self) -> Sampling {
        let Some(name) = self.name(SAMPLER) else { return DEFAULT_SAMPLING };
        let (parent_based, root) = match name.strip_prefix("parentbased_") {
            Some(root) => (true, root),
            None => (false, name.as_str()),
        };
        let root = match root {
            "always_on" => Root::On,
            "always_off" => Root::Off,
            "traceidratio" => Root::Ratio(self.ratio()),
            _ => {
                self.warn(SAMPLER, format!("{name:?} is not supported; parentbased_always_on is used"));
                return DEFAULT_SAMPLING;
            }
        };
        Sampling { parent_based, root }
    }

    fn ratio(&mut self) -> f64 {
        let Some(text) = self.text(SAMPLER_ARG) else { return 1.0 };
        let ratio = text.parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
        ratio.unwrap_or_else(|| {
            self.warn(SAMPLER_ARG, format!("{text:?} is not a number from 0 to 1; 1 is used"));
            1.0
        })
    }

    /// Baggage is never read, so it is accepted and ignored.
    fn propagates(&mut self) -> bool {
        let Some(list) = self.name(PROPAGATORS) else { return true };
        let mut known = Vec::new();
        for propagator in list.split(',').map(str::trim) {
            match propagator {
                "tracecontext" => known.push(true),
                "none" | "baggage" => known.push(false),
                other => self.warn(PROPAGATORS, format!("{other:?} is not supported; use tracecontext or none")),
            }
        }
        known.is_empty() || known.contains(&true)
    }

    fn resource(&mut self, role: &str) -> BTreeMap<String, String> {
        let mut resource = BTreeMap::from([
            ("service.name".to_owned(), format!("matricula-{role}")),
            ("service.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("service.instance.id".to_owned(), uuid::Uuid::now_v7().to_string()),
        ]);
        if let Some(list) = self.text(RESOURCE_ATTRIBUTES) {
            match attributes(&list) {
                Ok(attributes) => resource.extend(attributes),
                Err(problem) => self.warn(RESOURCE_ATTRIBUTES, format!("{problem}; the whole list is ignored")),
            }
        }
        if let Some(name) = self.text(SERVICE_NAME) {
            resource.insert("service.name".to_owned(), name);
        }
        resource
    }
}

fn no_traces(problem: String) -> String {
    format!("{problem}; no traces are exported")
}

/// Parses `key=value,key=value`, percent-decoded.
fn attributes(list: &str) -> Result<Vec<(String, String)>, String> {
    let pairs = list.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| match pair.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => Ok((decoded(key.trim())?, decoded(value.trim())?)),
            _ => Err(format!("{pair:?} is not a key=value pair")),
        })
        .collect()
}

fn decoded(text: &str) -> Result<String, String> {
    let is_digit = |at: usize, rest: &str| rest.as_bytes().get(at).is_some_and(u8::is_ascii_hexdigit);
    if !text.split('%').skip(1).all(|rest| is_digit(0, rest) && is_digit(1, rest)) {
        return Err(format!("{text:?} has a % without two hexadecimal digits"));
    }
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
    decoded.map(std::borrow::Cow::into_owned).map_err(|_| format!("{text:?} is not UTF-8"))
}

#[cfg(test)]
mod tests;
