//! One trace from the client through the saga to every service's commit, as a collector receives it.

use std::collections::{BTreeMap, BTreeSet};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use crate::campus::bundle;
use matricula_harness::{PATIENCE, System, submission};

/// A collector that hands on what it is sent.
struct Collector {
    spans: mpsc::UnboundedSender<(String, Span)>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
            let name = attributes.into_iter().find(|attribute| attribute.key == "service.name");
            let service = format!("{:?}", name.and_then(|name| name.value));
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                let _ = self.spans.send((service.clone(), span));
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::test]
async fn a_registration_is_one_trace() {
    let (spans, mut received) = mpsc::unbounded_channel();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
    let collector = TraceServiceServer::new(Collector { spans });
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    tokio::spawn(tonic::transport::Server::builder().add_service(collector).serve_with_incoming(incoming));

    let system = System::separate(
        matricula_kit::testing::Backend::Sqlite,
        &[("telemetry.otlp_endpoint", &endpoint), ("telemetry.log_format", "json")],
    )
    .await;
    system.import(&bundle(&[("A", 3, "")], 1));
    let trace_id = "0af7651916cd43dd8448eb211c80319c";
    let mut request = Request::new(submission("S1", "k", &["A"], &[]));
    let traceparent = format!("00-{trace_id}-b7ad6b7169203331-01").parse().expect("a header value");
    request.metadata_mut().insert("traceparent", traceparent);
    let portal = system.channel("orchestrator").await;
    let mut client =
        matricula_proto::registration::v1::registration_service_client::RegistrationServiceClient::new(portal);
    client.submit_registration(request).await.expect("accepted");

    // The services whose commits, and the steps whose attempts, are in the client's trace.
    let mut commits = BTreeSet::new();
    let mut attempts = BTreeMap::new();
    let seen = async {
        while commits.len() < 5 || attempts.len() < 7 {
            let (service, span) = received.recv().await.expect("the collector lives");
            let of_trace = span.trace_id.iter().map(|byte| format!("{byte:02x}")).collect::<String>() == trace_id;
            if of_trace && span.name == "commit" {
                commits.insert(service);
            } else if of_trace && service.contains("orchestrator") {
                *attempts.entry(span.name).or_insert(0) += 1;
            }
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.unwrap_or_else(|_| panic!("not all spans came"));
    for rpc in ["ReserveCourses", "HoldSeats", "CreateEnrollments", "AssessFees", "CommitEnrollments"] {
        assert!(attempts.contains_key(rpc), "{rpc} is missing among {attempts:?}");
    }
}
