//! The variables of OpenTelemetry, with real processes. The kit's tests cover the meaning of each value.

use matricula_harness::{System, submission};
use tokio::task::block_in_place;

use super::collector::{Collector, Received};
use super::{EXPORT_SOON, SUBMIT, all_exported, submit};
use crate::campus::bundle;

type Pairs<'a> = &'a [(&'static str, &'static str)];

/// A placeholder for the endpoint of the collector, which is known only when it runs.
const COLLECTOR: &str = "COLLECTOR";
const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", COLLECTOR);

/// The exported spans of one registration whose client wants it recorded (flags "01") or not ("00"), and the log.
async fn exported(settings: Pairs<'_>, environment: Pairs<'_>, flags: &str) -> (Vec<Received>, String) {
    let collector = Collector::start().await;
    let endpoint = collector.endpoint().to_owned();
    let filled = |(name, value): &(&'static str, &'static str)| match *value {
        COLLECTOR => (*name, endpoint.as_str()),
        other => (*name, other),
    };
    let settings: Vec<(&str, &str)> = settings.iter().map(filled).collect();
    let environment: Vec<(&str, &str)> = environment.iter().map(filled).chain([EXPORT_SOON]).collect();
    let mut system = System::up_in(&["--students", "0"], &settings, &environment);
    block_in_place(|| system.import(&bundle(&[("A", 3, "")], 1)));
    submit(&system, submission("S1", "k", &["A"], &[]), flags).await;
    let spans = all_exported(&mut system, &["up"], collector).await;
    (spans, system.log("up").join("\n"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_standard_variables_say_where_spans_go_and_what_they_carry() {
    let environment = [
        ENDPOINT,
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-test=a%20b"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,deployment.environment.name=a%2Cb"),
        ("OTEL_SERVICE_NAME", "registrar"),
    ];
    let (spans, _) = exported(&[], &environment, "01").await;
    assert_eq!(spans.len(), 21);
    for span in &spans {
        assert_eq!((span.service.as_str(), span.header.as_str()), ("registrar", "a b"));
        let resource = |key: &str| span.resource.get(key).map(String::as_str).unwrap_or_default();
        assert_eq!(resource("deployment.environment.name"), "a,b");
        assert_eq!(resource("telemetry.sdk.language"), "rust");
        assert!(!resource("service.version").is_empty() && resource("service.instance.id").len() == 36);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_setting_wins_over_the_standard_variable() {
    let own = [("telemetry.otlp_endpoint", COLLECTOR), ("telemetry.trace_sample_ratio", "1")];
    let other = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"), ("OTEL_TRACES_SAMPLER", "always_off")];
    assert_eq!(exported(&own, &other, "01").await.0.len(), 21);
    let none = [("telemetry.otlp_endpoint", COLLECTOR), ("telemetry.trace_sample_ratio", "")];
    assert_eq!(exported(&none, &other, "01").await.0.len(), 0, "the sampler of the variable");
}

#[track_caller]
fn check_count(case: &str, spans: &[Received], expected: usize) {
    assert_eq!(spans.len(), expected, "{case}: {spans:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_sampler_decides_as_its_specification_says() {
    let cases = [
        ("always_on", "", [21, 21]),
        ("always_off", "", [0, 0]),
        ("traceidratio", "0", [0, 0]),
        ("traceidratio", "1", [21, 21]),
        ("parentbased_always_on", "", [0, 21]),
        ("parentbased_always_off", "", [0, 21]),
        ("parentbased_traceidratio", "0", [0, 21]),
        ("nonsense", "", [0, 21]),
    ];
    for (sampler, argument, counts) in cases {
        let environment = [ENDPOINT, ("OTEL_TRACES_SAMPLER", sampler), ("OTEL_TRACES_SAMPLER_ARG", argument)];
        for (flags, expected) in ["00", "01"].into_iter().zip(counts) {
            let (spans, log) = exported(&[], &environment, flags).await;
            check_count(&format!("{sampler} {argument} {flags}"), &spans, expected);
            assert_eq!(log.contains("OTEL_TRACES_SAMPLER: "), sampler == "nonsense", "{log}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_exported_when_export_is_switched_off() {
    for off in [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")] {
        check_count(off.0, &exported(&[], &[ENDPOINT, off], "01").await.0, 0);
        check_count(off.0, &exported(&[("telemetry.otlp_endpoint", COLLECTOR)], &[off], "01").await.0, 0);
    }
    for wrong in [
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://127.0.0.1:1"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
    ] {
        let (spans, log) = exported(&[], &[ENDPOINT, wrong], "01").await;
        check_count(wrong.0, &spans, 0);
        assert!(log.contains(&format!("{}: ", wrong.0)) && log.contains("no traces are exported"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_context_of_a_client_is_ignored_when_propagation_is_off() {
    let (spans, _) = exported(&[], &[ENDPOINT, ("OTEL_PROPAGATORS", "none")], "01").await;
    let submitted = spans.iter().find(|span| span.name == SUBMIT).expect("it begins a trace of its own");
    assert_ne!(submitted.trace, super::TRACE);
    assert!(submitted.parent.is_empty(), "{submitted:?}");
}

/// If the collector is away, spans are lost and a log message says so. Nothing else changes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_that_are_lost_are_counted_and_logged_once() {
    let (_, log) = exported(&[], &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")], "01").await;
    assert_eq!(log.matches("spans could not be exported").count(), 1, "{log}");
}
