//! The collector's view: it receives every span of a registration, each exactly once, in one trace, and no other span.

mod collector;
mod variables;

use std::collections::BTreeMap;

use matricula_harness::{PATIENCE, System, is_settled, submission};
use matricula_kit::testing::{BACKENDS, Backend};
use matricula_proto::registration::v1::registration_service_client::RegistrationServiceClient;
use matricula_proto::registration::v1::{
    CartItem, GetRegistrationRequest, Outcome, Registration, SubmitCartRequest, SubmitRegistrationRequest,
};
use tokio::task::block_in_place;
use tonic::Request;

use self::collector::{Collector, Kind, Received, Status};
use crate::campus::bundle;

/// The trace of the client, and its span.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CLIENT: &str = "b7ad6b7169203331";
/// Spans are exported soon, so that the exporter has activity of its own that could be traced.
const EXPORT_SOON: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "10");

const SUBMIT: &str = "matricula.registration.v1.RegistrationService/SubmitRegistration";
const RESERVE: &str = "matricula.academics.v1.AcademicService/ReserveCourses";
const REMOVE: &str = "matricula.academics.v1.AcademicService/RemoveCourses";
const SETTLE: &str = "matricula.academics.v1.AcademicService/SettleCourses";
const HOLD: &str = "matricula.seats.v1.SeatService/HoldSeats";
const ENROLL: &str = "matricula.enrollments.v1.EnrollmentService/Enroll";
const ASSESS: &str = "matricula.fees.v1.FeeService/AssessFees";
const NOTIFY: &str = "matricula.notifications.v1.NotificationService/SendNotification";

/// Submits with the client's trace, sampled or not, and waits for the outcome.
async fn submit(system: &System, submission: SubmitRegistrationRequest, flags: &str) -> Registration {
    let mut request = Request::new(submission);
    let traceparent = format!("00-{TRACE}-{CLIENT}-{flags}").parse().expect("a header value");
    request.metadata_mut().insert("traceparent", traceparent);
    let mut client = RegistrationServiceClient::new(system.channel("orchestrator").await);
    let answer = client.submit_registration(request).await.expect("accepted").into_inner();
    answer.registration.expect("an answer has a registration")
}

/// Waits until nothing is left to do, ends every process, and returns all exported spans.
async fn all_exported(system: &mut System, processes: &[&'static str], collector: Collector) -> Vec<Received> {
    let portal = system.channel("orchestrator").await;
    let settled = async {
        while !is_settled(&portal).await {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, settled).await.expect("every saga finishes");
    drop(portal);
    for process in processes.iter().rev() {
        assert_eq!(block_in_place(|| system.terminate(process)), Some(0), "{process}");
    }
    collector.all()
}

/// The number of spans of each kind and name.
fn counted(spans: &[Received]) -> BTreeMap<(Kind, &str), usize> {
    let mut counts = BTreeMap::new();
    for span in spans {
        *counts.entry((span.kind, span.name.as_str())).or_insert(0) += 1;
    }
    counts
}

/// The spans of a saga whose steps were these RPCs, on databases of these names.
fn expected<'a>(rpcs: &[&'a str], databases: &'a BTreeMap<&str, String>) -> BTreeMap<(Kind, &'a str), usize> {
    let mut counts = BTreeMap::new();
    let mut add = |kind, name| *counts.entry((kind, name)).or_insert(0) += 1;
    add(Kind::Server, SUBMIT);
    add(Kind::Internal, "registration");
    add(Kind::Client, databases["orchestrator"].as_str());
    for rpc in rpcs {
        add(Kind::Client, rpc);
        add(Kind::Server, rpc);
        let service = databases.keys().find(|role| rpc.contains(&format!(".{role}."))).expect("one of the five");
        add(Kind::Client, databases[service].as_str());
    }
    counts
}

/// The name of a commit into the database of each role.
fn commits(system: &System) -> BTreeMap<&'static str, String> {
    let of = |role: &'static str| {
        let url = system.database_url(role);
        let path = url.split('?').next().unwrap_or_default();
        (role, format!("COMMIT {}", path.rsplit('/').next().unwrap_or_default()))
    };
    matricula_harness::ROLES.into_iter().map(of).collect()
}

/// All belong to the client's trace, and the parent of each is the span that has caused it.
#[track_caller]
fn check_one_trace(spans: &[Received]) {
    let by_id: BTreeMap<&str, &Received> = spans.iter().map(|span| (span.id.as_str(), span)).collect();
    for span in spans {
        assert_eq!(span.trace, TRACE, "{span:?}");
        let parent = by_id.get(span.parent.as_str());
        let is_right = match (span.kind, parent.map(|parent| (parent.kind, parent.name.as_str()))) {
            (Kind::Server, None) => span.name == SUBMIT && span.parent == CLIENT,
            (Kind::Internal, Some((Kind::Server, SUBMIT))) => span.name == "registration",
            (Kind::Client, Some((Kind::Internal, "registration"))) => span.has("rpc.method", &span.name),
            (Kind::Server, Some((Kind::Client, name))) => span.name == name,
            (Kind::Client, Some((Kind::Server, _))) => span.has("db.operation.name", "COMMIT"),
            _ => false,
        };
        assert!(is_right, "{span:?}\nunder {parent:?}");
    }
}

#[track_caller]
fn find<'a>(spans: &'a [Received], kind: Kind, name: &str) -> &'a Received {
    let mut found = spans.iter().filter(|span| span.kind == kind && span.name == name);
    let first = found.next().unwrap_or_else(|| panic!("no {kind:?} {name}"));
    assert!(found.next().is_none(), "more than one {kind:?} {name}");
    first
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_is_one_trace_of_these_spans() {
    for backend in BACKENDS {
        let collector = Collector::start().await;
        let settings = [("telemetry.otlp_endpoint", collector.endpoint()), ("telemetry.log_format", "json")];
        let mut system = System::separate_in(backend, &settings, &[EXPORT_SOON]).await;
        block_in_place(|| system.import(&bundle(&[("A", 3, "")], 1)));
        let registration = submit(&system, submission("S1", "k", &["A"], &[]), "01").await;
        assert_eq!(registration.outcome(), Outcome::Enrolled);
        let saga = registration.registration_id;

        let databases = commits(&system);
        let spans = all_exported(&mut system, &matricula_harness::ROLES, collector).await;
        let steps = [RESERVE, HOLD, ASSESS, ENROLL, SETTLE, NOTIFY];
        assert_eq!(counted(&spans), expected(&steps, &databases), "{backend:?}");
        assert_eq!(spans.len(), 21, "{backend:?}");
        check_one_trace(&spans);

        let system_name = if backend == Backend::Sqlite { "sqlite" } else { "postgresql" };
        for span in &spans {
            assert!(span.has("matricula.saga.id", &saga), "{span:?}");
            assert_eq!((span.status, span.attribute("error.type")), (Status::Unset, None), "{span:?}");
            if let Some(method) = span.attribute("rpc.method") {
                assert_eq!(method, span.name, "{span:?}");
                assert!(span.has("rpc.system.name", "grpc") && span.has("rpc.status_code", "OK"), "{span:?}");
                assert!(
                    span.has("rpc.response.status_code", "OK") && span.has("server.address", "127.0.0.1"),
                    "{span:?}"
                );
                assert!(span.attribute("server.port").is_some_and(|port| port.parse::<u16>().is_ok()), "{span:?}");
            }
            if span.attribute("db.operation.name").is_some() {
                assert!(span.has("db.system.name", system_name), "{span:?}");
                assert_eq!(format!("COMMIT {}", span.attribute("db.namespace").unwrap_or_default()), span.name);
            }
            let of_role = if span.name == SUBMIT { Some("matricula-orchestrator") } else { None };
            assert!(of_role.is_none_or(|role| span.service == role), "{span:?}");
        }
        assert!(find(&spans, Kind::Internal, "registration").has("matricula.outcome", "committed"));
        let hold = find(&spans, Kind::Client, HOLD);
        for (key, value) in [
            ("matricula.step", "hold_seats"),
            ("matricula.direction", "forward"),
            ("matricula.attempt", "1"),
            ("matricula.outcome", "done"),
        ] {
            assert!(hold.has(key, value), "{key}: {hold:?}");
        }
        assert_eq!(hold.service, "matricula-orchestrator");
        assert_eq!(find(&spans, Kind::Server, HOLD).service, "matricula-seats");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_steps_and_compensations_have_spans_without_errors() {
    let collector = Collector::start().await;
    let settings = [("telemetry.otlp_endpoint", collector.endpoint())];
    let mut system = System::separate_in(Backend::Sqlite, &settings, &[EXPORT_SOON]).await;
    block_in_place(|| system.import(&bundle(&[("A", 0, "")], 1)));
    let registration = submit(&system, submission("S1", "k", &["A"], &[]), "01").await;
    assert_eq!(registration.outcome(), Outcome::Refused);

    let databases = commits(&system);
    let spans = all_exported(&mut system, &matricula_harness::ROLES, collector).await;
    assert_eq!(counted(&spans), expected(&[RESERVE, HOLD, REMOVE, NOTIFY], &databases));
    check_one_trace(&spans);
    assert!(spans.iter().all(|span| span.status == Status::Unset && span.attribute("error.type").is_none()));
    assert!(find(&spans, Kind::Internal, "registration").has("matricula.outcome", "refused"));
    assert!(find(&spans, Kind::Client, HOLD).has("matricula.outcome", "refused"));
    let served = find(&spans, Kind::Server, HOLD);
    assert!(
        served.has("matricula.outcome", "refused") && served.has("matricula.reason", "CLOSED_SECTION"),
        "{served:?}"
    );
    for kind in [Kind::Client, Kind::Server] {
        let remove = find(&spans, kind, REMOVE);
        assert!(remove.has("matricula.direction", "compensation"), "{remove:?}");
        assert!(remove.has("matricula.step", "reserve_courses"), "{remove:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_without_an_answer_are_errors_of_the_caller() {
    let collector = Collector::start().await;
    let settings = [("telemetry.otlp_endpoint", collector.endpoint())];
    let mut system = System::separate_in(Backend::Sqlite, &settings, &[EXPORT_SOON]).await;
    block_in_place(|| system.import(&bundle(&[("A", 3, "")], 1)));
    block_in_place(|| system.kill("seats"));
    let mut request = submission("S1", "k", &["A"], &[]);
    request.wait_ms = 0;
    submit(&system, request, "01").await;
    let failed = |span: &Received| span.name == HOLD && span.status == Status::Error;
    tokio::time::timeout(PATIENCE, collector.until(failed)).await.expect("an attempt fails");
    block_in_place(|| system.restart("seats"));

    let databases = commits(&system);
    let spans = all_exported(&mut system, &matricula_harness::ROLES, collector).await;
    let (mut holds, others): (Vec<Received>, Vec<Received>) =
        spans.into_iter().partition(|span| span.name == HOLD && span.kind == Kind::Client);
    let mut rest = expected(&[RESERVE, HOLD, ASSESS, ENROLL, SETTLE, NOTIFY], &databases);
    rest.remove(&(Kind::Client, HOLD));
    assert_eq!(counted(&others), rest);
    holds.sort_by_key(|span| span.attribute("matricula.attempt").and_then(|number| number.parse::<u32>().ok()));
    let last = holds.pop().expect("one has succeeded");
    assert!(last.has("matricula.outcome", "done") && last.status == Status::Unset, "{last:?}");
    assert!(last.has("matricula.attempt", &(holds.len() + 1).to_string()), "{last:?}");
    assert!(!holds.is_empty());
    for (number, span) in (1..).zip(&holds) {
        assert!(span.has("matricula.attempt", &number.to_string()), "{span:?}");
        assert!(span.has("matricula.outcome", "unknown") && span.status == Status::Error, "{span:?}");
        assert!(span.has("error.type", "UNAVAILABLE") && span.has("rpc.status_code", "UNAVAILABLE"), "{span:?}");
        assert_eq!(span.trace, TRACE);
    }
}

/// A call that a client traces has a span, whatever the call is. An answer that is the client's fault is no error of
/// the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_of_the_client_is_no_error_of_the_server() {
    let collector = Collector::start().await;
    let settings = [("telemetry.otlp_endpoint", collector.endpoint())];
    let mut system = System::up_in(&["--students", "0"], &settings, &[EXPORT_SOON]);
    let mut client = RegistrationServiceClient::new(system.channel("orchestrator").await);
    let traceparent = || format!("00-{TRACE}-{CLIENT}-01").parse().expect("a header value");
    let mut unknown = Request::new(GetRegistrationRequest { registration_id: "nobody".to_owned() });
    unknown.metadata_mut().insert("traceparent", traceparent());
    let answer = client.get_registration(unknown).await.expect_err("there is no such registration");
    assert_eq!(answer.code(), tonic::Code::NotFound);
    let mut malformed = Request::new(submission("", "k", &["A"], &[]));
    malformed.metadata_mut().insert("traceparent", traceparent());
    let answer = client.submit_registration(malformed).await.expect_err("the student is missing");
    assert_eq!(answer.code(), tonic::Code::InvalidArgument);

    let spans = all_exported(&mut system, &["up"], collector).await;
    let get = "matricula.registration.v1.RegistrationService/GetRegistration";
    for (name, code) in [(get, "NOT_FOUND"), (SUBMIT, "INVALID_ARGUMENT")] {
        let span = find(&spans, Kind::Server, name);
        assert!(span.has("rpc.status_code", code) && span.has("rpc.response.status_code", code), "{span:?}");
        assert_eq!((span.status, span.attribute("error.type")), (Status::Unset, None), "{span:?}");
    }
    assert_eq!(spans.len(), 2);
}

/// Without a client's trace each submission begins one, reads begin none, and a cart is one trace.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn submissions_begin_traces_and_reads_do_not() {
    let collector = Collector::start().await;
    let settings = [("telemetry.otlp_endpoint", collector.endpoint())];
    let mut system = System::up_in(&["--students", "0"], &settings, &[EXPORT_SOON]);
    block_in_place(|| system.import(&bundle(&[("A", 9, ""), ("B", 9, "")], 3)));
    let portal = system.channel("orchestrator").await;
    for student in ["S1", "S2"] {
        matricula_harness::submit(&portal, submission(student, "k", &["A"], &[])).await;
    }
    let cart = ["A", "B"].map(|section| submission("S3", section, &[section], &[]));
    let items =
        cart.map(|one| CartItem { idempotency_key: one.idempotency_key, adds: one.adds, ..CartItem::default() });
    let cart = SubmitCartRequest { student_id: "S3".to_owned(), items: items.into(), wait_ms: 30_000 };
    RegistrationServiceClient::new(portal.clone()).submit_cart(cart).await.expect("accepted");
    block_in_place(|| system.done(&["registration", "list", "S1"]));
    block_in_place(|| system.done(&["sections", "show", "A"]));

    let spans = all_exported(&mut system, &["up"], collector).await;
    let mut traces: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for span in &spans {
        traces.entry(&span.trace).or_default().push(&span.name);
        assert_eq!(span.service, "matricula-up");
    }
    let sagas = |names: &[&str]| names.iter().filter(|name| **name == "registration").count();
    let mut sizes: Vec<(usize, bool)> = traces.values().map(|names| (sagas(names), names.contains(&SUBMIT))).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [(1, true), (1, true), (2, false)], "{traces:#?}");
    let begun = spans.iter().filter(|span| span.parent.is_empty()).count();
    assert_eq!(begun, 3, "each trace has one beginning");
}
