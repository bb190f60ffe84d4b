//! Each variable alone, with others, with our settings, and with invalid values.

use super::*;

type Set<'a> = &'a [(&'a str, &'a str)];

const LOCAL: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317");

fn resolved(config: &TelemetryConfig, set: Set<'_>) -> (Traces, Vec<String>) {
    let variable = |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    resolve("seats", config, variable)
}

fn with_endpoint(endpoint: &str) -> TelemetryConfig {
    TelemetryConfig { otlp_endpoint: endpoint.to_owned(), ..Default::default() }
}

/// Checks that the only warning names the variable and contains the text.
#[track_caller]
fn check_warning(warnings: &[String], expected: Option<(&str, &str)>) {
    match expected {
        None => assert!(warnings.is_empty(), "{warnings:?}"),
        Some((name, words)) => {
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            assert!(warnings[0].starts_with(&format!("{name}: ")) && warnings[0].contains(words), "{warnings:?}");
        }
    }
}

#[track_caller]
fn check_endpoint(own: &str, set: Set<'_>, expected: Option<&str>, warning: Option<(&str, &str)>) {
    let (traces, warnings) = resolved(&with_endpoint(own), set);
    assert_eq!(traces.endpoint.as_deref(), expected, "{set:?}");
    check_warning(&warnings, warning);
}

#[test]
fn the_first_endpoint_that_is_set_is_used() {
    check_endpoint("", &[], None, None);
    check_endpoint("http://own:1", &[], Some("http://own:1"), None);
    check_endpoint("", &[LOCAL], Some("http://127.0.0.1:4317"), None);
    check_endpoint("http://own:1", &[LOCAL], Some("http://own:1"), None);
    check_endpoint("", &[LOCAL, ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t:2")], Some("http://t:2"), None);
    check_endpoint("", &[LOCAL, ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")], Some("http://127.0.0.1:4317"), None);
    check_endpoint("", &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")], None, None);
}

#[test]
fn exporting_can_be_switched_off() {
    for off in [("OTEL_SDK_DISABLED", "true"), ("OTEL_SDK_DISABLED", "TRUE"), ("OTEL_TRACES_EXPORTER", "none")] {
        check_endpoint("", &[LOCAL, off], None, None);
        check_endpoint("http://own:1", &[off], None, None);
    }
    let on = Some("http://127.0.0.1:4317");
    check_endpoint("", &[LOCAL, ("OTEL_SDK_DISABLED", "false")], on, None);
    check_endpoint("", &[LOCAL, ("OTEL_SDK_DISABLED", "")], on, None);
    check_endpoint("", &[LOCAL, ("OTEL_SDK_DISABLED", "1")], on, Some(("OTEL_SDK_DISABLED", "neither true nor false")));
}

#[test]
fn the_exporter_is_otlp() {
    check_endpoint("", &[("OTEL_TRACES_EXPORTER", "otlp")], Some("http://localhost:4317"), None);
    check_endpoint("", &[LOCAL, ("OTEL_TRACES_EXPORTER", "OTLP")], Some("http://127.0.0.1:4317"), None);
    let warning = Some(("OTEL_TRACES_EXPORTER", "\"zipkin\" is not supported"));
    check_endpoint("", &[LOCAL, ("OTEL_TRACES_EXPORTER", "zipkin")], Some("http://127.0.0.1:4317"), warning);
    check_endpoint("", &[("OTEL_TRACES_EXPORTER", "otlp,zipkin")], Some("http://localhost:4317"), warning);
    check_endpoint("", &[("OTEL_TRACES_EXPORTER", "zipkin")], None, warning);
}

#[test]
fn unsupported_protocols_are_rejected_with_the_reason() {
    let name = "OTEL_EXPORTER_OTLP_ENDPOINT";
    check_endpoint("", &[(name, "https://c:4317")], None, Some((name, "TLS is not supported")));
    check_endpoint("", &[(name, "HTTPS://c:4317")], None, Some((name, "TLS is not supported")));
    check_endpoint("", &[(name, "unix:///run/c")], None, Some((name, "use http://")));
    check_endpoint("", &[(name, "http://c:4317/v1/traces")], None, Some((name, "has a path")));
    check_endpoint("", &[(name, "http://")], None, Some((name, "is not a service URL")));
    check_endpoint("", &[(name, "localhost:4317")], None, Some((name, "an endpoint without it uses TLS")));
    let insecure = ("OTEL_EXPORTER_OTLP_INSECURE", "true");
    check_endpoint("", &[(name, "localhost:4317"), insecure], Some("http://localhost:4317"), None);

    let grpc = [("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"), ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc")];
    check_endpoint("", &[LOCAL, grpc[0], grpc[1]], Some("http://127.0.0.1:4317"), None);
    let refused = "use grpc; no traces are exported";
    check_endpoint("", &[LOCAL, grpc[0]], None, Some(("OTEL_EXPORTER_OTLP_PROTOCOL", refused)));
    let json = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json");
    check_endpoint("", &[LOCAL, json], None, Some(("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", refused)));
    check_endpoint("http://own:1", &[grpc[0]], Some("http://own:1"), None);
    let unknown = ("OTEL_EXPORTER_OTLP_PROTOCOL", "thrift");
    let warning = Some(("OTEL_EXPORTER_OTLP_PROTOCOL", "is unknown; grpc is used"));
    check_endpoint("", &[LOCAL, unknown], Some("http://127.0.0.1:4317"), warning);

    // The exporter reads these two regardless of the source of the endpoint.
    let timeout = ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s");
    check_endpoint("", &[LOCAL, timeout], Some("http://127.0.0.1:4317"), Some((timeout.0, "milliseconds")));
    check_endpoint("http://own:1", &[timeout], Some("http://own:1"), Some((timeout.0, "milliseconds")));
    let gzip = ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip");
    check_endpoint("", &[LOCAL, gzip], Some("http://127.0.0.1:4317"), Some((gzip.0, "not supported")));
    check_endpoint("http://own:1", &[gzip], Some("http://own:1"), Some((gzip.0, "not supported")));
}

#[test]
fn warnings_show_no_secret_of_an_endpoint() {
    let insecure = ("OTEL_EXPORTER_OTLP_INSECURE", "true");
    for endpoint in [
        "http://me:s3cret@c:4317",
        "https://me:pa<s3cret@c:4317",
        "http://s3cret@c:4317",
        "me:s3cret@c:4317",
        "c:4317?api-key=a s3cret",
    ] {
        for set in [&[(ENDPOINT[1], endpoint)][..], &[(ENDPOINT[1], endpoint), insecure]] {
            let (traces, warnings) = resolved(&TelemetryConfig::default(), set);
            assert_eq!((traces.endpoint, warnings.len()), (None, 1), "{endpoint}");
            assert!(!warnings[0].contains("s3cret"), "{warnings:?}");
        }
    }
}

#[track_caller]
fn check_sampler(own: Option<f64>, set: Set<'_>, expected: (bool, Root), warning: Option<(&str, &str)>) {
    let config = TelemetryConfig { trace_sample_ratio: own, ..Default::default() };
    let (traces, warnings) = resolved(&config, set);
    assert_eq!(traces.sampling, Sampling { parent_based: expected.0, root: expected.1 }, "{set:?}");
    check_warning(&warnings, warning);
}

#[test]
fn all_six_samplers_are_known() {
    let sampler = |name| ("OTEL_TRACES_SAMPLER", name);
    let half = ("OTEL_TRACES_SAMPLER_ARG", "0.5");
    check_sampler(None, &[], (true, Root::On), None);
    check_sampler(None, &[sampler("always_on")], (false, Root::On), None);
    check_sampler(None, &[sampler("always_off")], (false, Root::Off), None);
    check_sampler(None, &[sampler("traceidratio"), half], (false, Root::Ratio(0.5)), None);
    check_sampler(None, &[sampler("parentbased_always_on")], (true, Root::On), None);
    check_sampler(None, &[sampler("parentbased_always_off")], (true, Root::Off), None);
    check_sampler(None, &[sampler("parentbased_traceidratio"), half], (true, Root::Ratio(0.5)), None);
    check_sampler(None, &[sampler("traceidratio")], (false, Root::Ratio(1.0)), None);
    check_sampler(None, &[sampler("Always_Off"), half], (false, Root::Off), None);
    check_sampler(None, &[sampler("")], (true, Root::On), None);
    check_sampler(Some(0.25), &[sampler("always_off")], (true, Root::Ratio(0.25)), None);
    check_sampler(Some(0.0), &[], (true, Root::Ratio(0.0)), None);
}

#[test]
fn a_sampler_that_makes_no_sense_is_the_default_one() {
    for name in ["xray", "jaeger_remote", "parentbased_jaeger_remote", "0.5"] {
        let warning = Some(("OTEL_TRACES_SAMPLER", "parentbased_always_on is used"));
        check_sampler(None, &[("OTEL_TRACES_SAMPLER", name)], (true, Root::On), warning);
    }
    for ratio in ["2", "-0.1", "half", "NaN"] {
        let set = [("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", ratio)];
        check_sampler(None, &set, (false, Root::Ratio(1.0)), Some(("OTEL_TRACES_SAMPLER_ARG", "from 0 to 1")));
    }
}

#[track_caller]
fn check_resource(set: Set<'_>, expected: &[(&str, &str)], warning: Option<(&str, &str)>) {
    let (traces, warnings) = resolved(&TelemetryConfig::default(), set);
    for (key, value) in expected {
        assert_eq!(traces.resource.get(*key).map(String::as_str), Some(*value), "{key} of {set:?}");
    }
    for key in ["service.name", "service.version", "service.instance.id"] {
        assert!(traces.resource.get(key).is_some_and(|value| !value.is_empty()), "{key} of {set:?}");
    }
    check_warning(&warnings, warning);
}

#[test]
fn the_resource_attributes_describe_the_process() {
    let attributes = |list| ("OTEL_RESOURCE_ATTRIBUTES", list);
    check_resource(&[], &[("service.name", "matricula-seats"), ("service.version", env!("CARGO_PKG_VERSION"))], None);
    check_resource(&[("OTEL_SERVICE_NAME", "places")], &[("service.name", "places")], None);
    check_resource(&[("OTEL_SERVICE_NAME", "")], &[("service.name", "matricula-seats")], None);
    check_resource(&[attributes("service.name=a")], &[("service.name", "a")], None);
    let both = [attributes("service.name=a,service.version=2"), ("OTEL_SERVICE_NAME", "b")];
    check_resource(&both, &[("service.name", "b"), ("service.version", "2")], None);
    let encoded = attributes(" host = a%20b%2Cc , team=Zür%69ch,key%3D=x=y,");
    check_resource(&[encoded], &[("host", "a b,c"), ("team", "Zürich"), ("key=", "x=y")], None);
}

#[test]
fn one_malformed_attribute_spoils_the_list() {
    for list in ["a=1,b", "a=1,=2", "a=%zz", "a=%2", "a=%", "a=%ff"] {
        let set = [("OTEL_RESOURCE_ATTRIBUTES", list), ("OTEL_SERVICE_NAME", "b")];
        let warning = Some(("OTEL_RESOURCE_ATTRIBUTES", "the whole list is ignored"));
        check_resource(&set, &[("service.name", "b")], warning);
        assert!(!resolved(&TelemetryConfig::default(), &set).0.resource.contains_key("a"), "{list}");
    }
}

#[track_caller]
fn check_propagators(list: &str, expected: bool, warning: Option<&str>) {
    let (traces, warnings) = resolved(&TelemetryConfig::default(), &[("OTEL_PROPAGATORS", list)]);
    assert_eq!(traces.propagates, expected, "{list}");
    check_warning(&warnings, warning.map(|words| ("OTEL_PROPAGATORS", words)));
}

#[test]
fn contexts_are_read_unless_that_is_switched_off() {
    check_propagators("", true, None);
    check_propagators("tracecontext,baggage", true, None);
    check_propagators("TraceContext", true, None);
    check_propagators("none", false, None);
    check_propagators("baggage", false, None);
    check_propagators("b3", true, Some("\"b3\" is not supported"));
    check_propagators("tracecontext, jaeger", true, Some("\"jaeger\" is not supported"));
}
