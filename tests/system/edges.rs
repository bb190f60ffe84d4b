//! Clients of all kinds at the ports: reflection in both versions, compressed requests, browsers of other origins.

use std::collections::BTreeSet;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use matricula_harness::System;
use prost::Message as _;
use prost_types::FileDescriptorProto;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;
use tonic::codegen::http::HeaderMap;
use tonic_reflection::pb::{v1, v1alpha};

use crate::campus::bundle;
use crate::hostile::rpcs::{self, Rpc};
use crate::hostile::wire::{self, GRPC, frame, memory_mib};

const ROLES: [&str; 6] = ["seats", "enrollments", "academics", "fees", "notifications", "orchestrator"];
/// gRPC's codes.
const OK: &str = "0";
const RESOURCE_EXHAUSTED: &str = "8";
const OUT_OF_RANGE: &str = "11";
const UNIMPLEMENTED: &str = "12";
/// Memory that the process may have taken more, in MiB, after a message that unpacks to 100 MB came for every RPC.
const MIB_MORE_MAX: u64 = 96;
const PORTAL: &str = "https://portal.example.edu";

/// The services of a role's port, by their full names.
fn served(role: &str) -> BTreeSet<String> {
    let of_role = rpcs::all().into_iter().filter(|rpc| rpc.role == role);
    let mut names: BTreeSet<String> =
        of_role.map(|rpc| rpc.path.split('/').nth(1).expect("a service").to_owned()).collect();
    if role != "orchestrator" {
        names.insert("matricula.participant.v1.ParticipantService".to_owned());
    }
    let of_every_port = ["health.v1.Health", "reflection.v1.ServerReflection", "reflection.v1alpha.ServerReflection"];
    names.extend(of_every_port.map(|name| format!("grpc.{name}")));
    names
}

/// Queries one version of reflection: the names that it lists, and the files of a symbol.
macro_rules! reflection {
    ($name:ident, $version:ident) => {
        mod $name {
            use super::*;
            use $version::server_reflection_client::ServerReflectionClient;
            use $version::server_reflection_request::MessageRequest;
            use $version::server_reflection_response::MessageResponse;

            /// None for what is not there.
            async fn query(system: &System, role: &str, request: MessageRequest) -> Option<MessageResponse> {
                let mut client = ServerReflectionClient::new(system.channel(role).await);
                let request = $version::ServerReflectionRequest { host: String::new(), message_request: Some(request) };
                let answers = client.server_reflection_info(tokio_stream::once(request)).await.expect("it is served");
                match answers.into_inner().message().await {
                    Ok(answer) => Some(answer.expect("one").message_response.expect("an answer")),
                    Err(status) if status.code() == Code::NotFound => None,
                    Err(status) => panic!("{role}: {status:?}"),
                }
            }

            pub async fn list(system: &System, role: &str) -> BTreeSet<String> {
                match query(system, role, MessageRequest::ListServices(String::new())).await {
                    Some(MessageResponse::ListServicesResponse(list)) => {
                        list.service.into_iter().map(|s| s.name).collect()
                    }
                    other => panic!("{role}: {other:?}"),
                }
            }

            pub async fn of_symbol(system: &System, role: &str, symbol: &str) -> Option<FileDescriptorProto> {
                file(query(system, role, MessageRequest::FileContainingSymbol(symbol.to_owned())).await)
            }

            pub async fn by_name(system: &System, role: &str, name: &str) -> Option<FileDescriptorProto> {
                file(query(system, role, MessageRequest::FileByFilename(name.to_owned())).await)
            }

            fn file(answer: Option<MessageResponse>) -> Option<FileDescriptorProto> {
                match answer? {
                    MessageResponse::FileDescriptorResponse(files) => {
                        let bytes = files.file_descriptor_proto.into_iter().next()?;
                        Some(FileDescriptorProto::decode(bytes.as_slice()).expect("a descriptor"))
                    }
                    MessageResponse::ErrorResponse(_) => None,
                    other => panic!("{other:?}"),
                }
            }
        }
    };
}

reflection!(newer, v1);
reflection!(older, v1alpha);

#[tokio::test(flavor = "multi_thread")]
async fn reflection_has_what_the_port_has() {
    let system = System::up();
    for role in ROLES {
        let served = served(role);
        assert_eq!(newer::list(&system, role).await, served, "{role}");
        assert_eq!(older::list(&system, role).await, served, "{role}");
        for service in &served {
            let mut open = vec![newer::of_symbol(&system, role, service).await.expect("its file")];
            assert_eq!(older::of_symbol(&system, role, service).await.as_ref(), open.first(), "{role}: {service}");
            let mut known = BTreeSet::new();
            while let Some(file) = open.pop() {
                for import in &file.dependency {
                    if known.insert(import.clone()) {
                        let found = newer::by_name(&system, role, import).await;
                        open.push(found.unwrap_or_else(|| panic!("{role}: {} imports {import}", file.name())));
                        assert!(older::by_name(&system, role, import).await.is_some(), "{role}: {import}");
                    }
                }
            }
        }
        // The other services are not described: a service that the port does not have must not be offered.
        for other in
            rpcs::all().iter().filter_map(|rpc| rpc.path.split('/').nth(1)).filter(|name| !served.contains(*name))
        {
            assert_eq!(newer::of_symbol(&system, role, other).await, None, "{role}: {other}");
            assert_eq!(older::of_symbol(&system, role, other).await, None, "{role}: {other}");
        }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// A message that says that it is packed.
fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut body = frame(bytes);
    body[0] = 1;
    body
}

/// Calls with headers of its own; the head of the answer with its trailers, and its body.
async fn call(system: &System, rpc: &Rpc, more: &[(&str, &str)], body: Vec<u8>) -> (HeaderMap, Vec<u8>) {
    let client = wire::connect(system, rpc.role).await;
    let headers: Vec<(&str, &str)> = GRPC.iter().chain(more).copied().collect();
    let (mut sending, answer) = wire::begin(&client, &rpc.path, &headers).await;
    // A server may refuse before it has read everything.
    let _ = sending.send_data(body.into(), true);
    let answering = async {
        let (parts, mut stream) = answer.await.expect("a head").into_parts();
        let (mut headers, mut body) = (parts.headers, Vec::new());
        while let Some(Ok(data)) = stream.data().await {
            let _ = stream.flow_control().release_capacity(data.len());
            body.extend(data);
            if body.len() > 100 {
                break;
            }
        }
        if let Ok(Ok(Some(trailers))) = tokio::time::timeout(matricula_harness::PATIENCE, stream.trailers()).await {
            headers.extend(trailers);
        }
        (headers, body)
    };
    tokio::time::timeout(matricula_harness::PATIENCE, answering).await.expect("an answer")
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map(|value| value.to_str().expect("a text")).unwrap_or_default()
}

/// Those that answer at once: a watch never ends.
fn unary() -> impl Iterator<Item = Rpc> {
    rpcs::all().into_iter().filter(|rpc| !rpc.is_stream())
}

#[tokio::test(flavor = "multi_thread")]
async fn packed_requests_are_taken_within_limits() {
    let system = System::up();
    system.import(&bundle(&[("A", 50, "T 09:00-09:50")], 2));
    let bomb = packed(&gzip(&vec![0; 100 << 20]));
    assert!(bomb.len() < 200_000, "it is small on the wire");
    let empty = packed(&gzip(b""));
    let before = memory_mib(&system, "up");
    for rpc in unary() {
        let (plain, _) = call(&system, &rpc, &[], frame(b"")).await;
        let (taken, _) = call(&system, &rpc, &[("grpc-encoding", "gzip")], empty.clone()).await;
        assert_eq!(text(&taken, "grpc-status"), text(&plain, "grpc-status"), "{}: packed as plain", rpc.path);
        let (refused, _) = call(&system, &rpc, &[("grpc-encoding", "gzip")], bomb.clone()).await;
        let code = text(&refused, "grpc-status");
        assert!([RESOURCE_EXHAUSTED, OUT_OF_RANGE].contains(&code), "{}: a bomb: {refused:?}", rpc.path);
        let (cut, _) = call(&system, &rpc, &[("grpc-encoding", "gzip")], packed(&gzip(b"abcdef")[..12])).await;
        assert_ne!(text(&cut, "grpc-status"), OK, "{}: cut short", rpc.path);
        for other in ["zstd", "deflate", "br", "snappy"] {
            let (refused, _) = call(&system, &rpc, &[("grpc-encoding", other)], empty.clone()).await;
            assert_eq!(text(&refused, "grpc-status"), UNIMPLEMENTED, "{}: {other}", rpc.path);
            assert_eq!(text(&refused, "grpc-accept-encoding"), "gzip,identity", "{}: {other}", rpc.path);
        }
    }
    let after = memory_mib(&system, "up");
    println!("{before} MiB before, {after} MiB after");
    assert!(after < before + MIB_MORE_MAX, "{before} MiB before, {after} MiB after");
    system.audit();
}

/// Most clients offer gzip with every call. Only a client that packs its requests gets packed answers.
#[tokio::test(flavor = "multi_thread")]
async fn answers_are_packed_for_clients_that_pack() {
    let system = System::up();
    system.import(&bundle(&[("A", 50, "T 09:00-09:50")], 2));
    let list = unary().find(|rpc| rpc.path.ends_with("CatalogService/ListSections")).expect("it is there");
    let accept = ("grpc-accept-encoding", "identity,deflate,gzip");
    for (headers, body, expect) in [
        (vec![], frame(b""), ""),
        (vec![accept], frame(b""), ""),
        (vec![accept, ("grpc-encoding", "identity")], frame(b""), ""),
        (vec![("grpc-encoding", "gzip")], packed(&gzip(b"")), ""),
        (vec![accept, ("grpc-encoding", "gzip")], packed(&gzip(b"")), "gzip"),
    ] {
        let (answer, body) = call(&system, &list, &headers, body).await;
        assert_eq!(text(&answer, "grpc-status"), OK, "{headers:?}");
        assert_eq!(text(&answer, "grpc-encoding"), expect, "{headers:?}");
        assert_eq!(body[0] == 1, expect == "gzip", "{headers:?}");
    }
}

/// A request of HTTP/1.1 as a browser sends it; the answer's head in lower case.
async fn browser(address: &str, method: &str, headers: &[(&str, &str)], body: &[u8]) -> String {
    let path = "/matricula.registration.v1.RegistrationService/GetRegistration";
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += &format!("content-length: {}\r\n\r\n", body.len());
    let mut stream = TcpStream::connect(address).await.expect("the portal listens");
    stream.write_all(&[request.as_bytes(), body].concat()).await.expect("sent");
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    tokio::time::timeout(matricula_harness::PATIENCE, reading).await.expect("an answer").expect("read");
    let answer = String::from_utf8_lossy(&answer).to_lowercase();
    answer.split("\r\n\r\n").next().expect("a head").to_owned()
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

const ALLOW_ORIGIN: &str = "access-control-allow-origin";

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_allowed_origins_may_call() {
    let origins = format!("{PORTAL}, http://localhost:5173");
    let system = System::up_with(&["--students", "0"], &[("orchestrator.cors_origins", &origins)]);
    let address = system.address("orchestrator");
    let wanted = "authorization,content-type,grpc-timeout,traceparent,tracestate,x-grpc-web,x-user-agent";
    let preflight = |origin: &'static str| {
        let headers =
            [("origin", origin), ("access-control-request-method", "POST"), ("access-control-request-headers", wanted)];
        async move { browser(address, "OPTIONS", &headers, b"").await }
    };
    for origin in [PORTAL, "http://localhost:5173"] {
        let head = preflight(origin).await;
        assert!(head.starts_with("http/1.1 200"), "{head}");
        assert_eq!(header(&head, ALLOW_ORIGIN), Some(origin), "{head}");
        assert!(
            header(&head, "access-control-allow-methods").is_some_and(|methods| methods.contains("post")),
            "{head}"
        );
        let allowed: BTreeSet<&str> =
            header(&head, "access-control-allow-headers").unwrap_or_default().split(',').map(str::trim).collect();
        for name in wanted.split(',') {
            assert!(allowed.contains(name), "{name}: {head}");
        }
    }
    for origin in ["https://evil.example", "http://portal.example.edu", "https://portal.example.edu:8443", "null"] {
        let head = preflight(origin).await;
        assert_eq!(header(&head, ALLOW_ORIGIN), None, "{origin}: {head}");
    }
    let call = [("content-type", "application/grpc-web+proto"), ("x-grpc-web", "1")];
    let from = |origin| [call.as_slice(), &[("origin", origin)]].concat();
    let head = browser(address, "POST", &from(PORTAL), &frame(b"")).await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!(header(&head, ALLOW_ORIGIN), Some(PORTAL));
    let exposed: BTreeSet<&str> =
        header(&head, "access-control-expose-headers").unwrap_or_default().split(',').map(str::trim).collect();
    assert_eq!(exposed, BTreeSet::from(["grpc-message", "grpc-status", "grpc-status-details-bin"]), "{head}");
    // The answer depends on the origin: no cache may give it to a page of another.
    assert!(header(&head, "vary").is_some_and(|vary| vary.contains("origin")), "{head}");
    assert_eq!(header(&browser(address, "POST", &from("https://evil.example"), &frame(b"")).await, ALLOW_ORIGIN), None);
    assert!(browser(address, "POST", &call, &frame(b"")).await.starts_with("http/1.1 200"), "the port's own pages");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_list_no_other_origin_may_call() {
    let system = System::up();
    let headers = [("origin", PORTAL), ("access-control-request-method", "POST")];
    let head = browser(system.address("orchestrator"), "OPTIONS", &headers, b"").await;
    assert_eq!(header(&head, ALLOW_ORIGIN), None, "{head}");
    // A list that can't be meant is rejected at the start.
    let system = System::up_with(&["--students", "0"], &[]);
    let refused = system.run(&["--set", "orchestrator.cors_origins=https://portal.example.edu/app", "config"]);
    assert_eq!(refused.status.code(), Some(64));
    let problem = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        problem.contains("orchestrator.cors_origins") && problem.contains("more than scheme, host and port"),
        "{problem}"
    );
}
