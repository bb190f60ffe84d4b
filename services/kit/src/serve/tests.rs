//! Clients that take too much: each loses what it holds, and the others are served.

mod ending;
mod health;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tonic::codegen::http;
use tonic::service::RoutesBuilder;

use super::*;
use crate::database::Database;
use crate::tasks::Tasks;
use crate::testing::{Backend, TestDatabase, empty_database};

/// Long enough for a busy machine, short enough for a test.
const SHORT: Duration = Duration::from_millis(300);
/// Longest wait for something that must happen: a bound for a broken build.
const PATIENCE: Duration = Duration::from_secs(60);
/// An RPC that every role has.
const CHECK: &str = "/grpc.health.v1.Health/Check";

struct Served {
    serving: Serving,
    shutdown: CancellationToken,
    _database: TestDatabase,
}

impl Served {
    /// A role of health and reflection alone.
    async fn new(limits: Limits) -> Self {
        let database = empty_database(Backend::Sqlite).await;
        let role = role(database.database.clone());
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let shutdown = CancellationToken::new();
        let listen = Listen { grpc: any_port, http: Some(any_port), limits };
        let serving = serve(role, listen, shutdown.clone()).await.expect("it is served");
        Self { serving, shutdown, _database: database }
    }

    /// Ends it: clients that still hold something must not hold it up.
    async fn end(self) {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.serving.ended()).await.expect("it ends");
    }

    fn http(&self) -> SocketAddr {
        self.serving.http.expect("it has an HTTP port")
    }
}

/// A role of health and reflection alone.
fn role(database: Database) -> Role {
    Role {
        name: "nothing",
        routes: RoutesBuilder::default(),
        service_names: Vec::new(),
        database,
        tasks: Tasks::new("nothing"),
        grpc_web: Some(Cors::default()),
    }
}

/// Ports that are free.
fn anywhere() -> Listen {
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    Listen { grpc: any_port, http: Some(any_port), limits: Limits::default() }
}

fn limits() -> Limits {
    Limits { opening: SHORT, stall: SHORT, ..Limits::default() }
}

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("the port listens")
}

/// The server closes the connection, whatever it sends before.
#[track_caller]
fn assert_closed(mut stream: TcpStream) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    async move {
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "{place}: the connection is still open");
    }
}

async fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

async fn assert_healthy(address: SocketAddr) {
    let healthy = async {
        while !get(address, "/healthz").await.is_ok_and(|text| text.ends_with("ok\n")) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, healthy).await.expect("others are served");
}

/// HTTP/2 without a client library.
async fn h2(address: SocketAddr) -> SendRequest<Bytes> {
    let (client, connection) = h2::client::handshake(connect(address).await).await.expect("HTTP/2");
    tokio::spawn(connection);
    client.ready().await.expect("a connection")
}

/// Begins a call with so many bytes of a message of `length`.
async fn begin(client: &SendRequest<Bytes>, length: u32, sent: usize) -> (h2::SendStream<Bytes>, ResponseFuture) {
    let request = http::Request::post(format!("http://test{CHECK}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .expect("a request");
    let mut client = client.clone().ready().await.expect("a connection");
    let (answer, mut body) = client.send_request(request, false).expect("a stream");
    let mut bytes = vec![0];
    bytes.extend(length.to_be_bytes());
    bytes.resize(5 + sent, 0);
    body.send_data(bytes.into(), false).expect("data");
    (body, answer)
}

/// The code and the reason with which a call ends.
async fn ended_with(answer: ResponseFuture) -> (String, bool) {
    let answer = tokio::time::timeout(PATIENCE, answer).await.expect("it is answered").expect("headers");
    let mut headers = answer.headers().clone();
    let mut body = answer.into_body();
    while body.data().await.is_some() {}
    if let Ok(Some(trailers)) = body.trailers().await {
        headers.extend(trailers);
    }
    let code = headers.get("grpc-status").map(|code| code.to_str().expect("a number").to_owned());
    (code.unwrap_or_default(), headers.contains_key("grpc-status-details-bin"))
}

#[tokio::test]
async fn one_connection_too_many_is_closed_at_once() {
    let served = Served::new(Limits { connections_max: 2, ..Limits::default() }).await;
    let (first, second) = (h2(served.serving.grpc).await, h2(served.serving.grpc).await);
    assert_closed(connect(served.serving.grpc).await).await;
    // The clients that are connected stay so.
    let (mut body, answer) = begin(&first, 0, 0).await;
    body.send_data(Bytes::new(), true).expect("the end");
    assert_eq!(ended_with(answer).await.0, "0");
    // A place that is given up can be taken.
    drop((first, second));
    let again = async {
        while h2::client::handshake(connect(served.serving.grpc).await).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("a place is free again");
    served.end().await;
}

#[tokio::test]
async fn a_connection_that_sends_nothing_is_closed() {
    let served = Served::new(limits()).await;
    for address in [served.serving.grpc, served.http()] {
        assert_closed(connect(address).await).await;
        // A byte now and then is no opening.
        let (mut read, mut write) = connect(address).await.into_split();
        let dripping = tokio::spawn(async move {
            for byte in b"GET / HTTP/1.1\r\nhost: a-host-with-a-very-long-name".iter().cycle() {
                if write.write_all(&[*byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(SHORT / 10).await;
            }
        });
        let closed = tokio::time::timeout(PATIENCE, async { while read.read_u8().await.is_ok() {} }).await;
        closed.expect("the connection is still open");
        dripping.abort();
    }
    // Half a head, and then nothing.
    for address in [served.serving.grpc, served.http()] {
        let mut half = connect(address).await;
        half.write_all(b"GET /metrics HTTP/1.1\r\nhost: test\r\nx-long: ").await.expect("written");
        assert_closed(half).await;
    }
    assert_healthy(served.http()).await;
    served.end().await;
}

/// Long before its time is over: the server does not hold what has come of it.
#[tokio::test]
async fn a_huge_head_is_not_waited_for() {
    let served = Served::new(Limits { opening: PATIENCE * 2, stall: PATIENCE * 2, ..Limits::default() }).await;
    for address in [served.serving.grpc, served.http()] {
        let mut huge = connect(address).await;
        let head = format!("GET /metrics HTTP/1.1\r\nhost: test\r\nx-long: {}", "a".repeat(64 * 1024));
        // The server may close the connection in the middle of it.
        let _ = huge.write_all(head.as_bytes()).await;
        assert_closed(huge).await;
    }
    served.end().await;
}

#[tokio::test]
async fn a_connection_that_takes_nothing_is_closed() {
    let served = Served::new(Limits { connections_max: 1, ..limits() }).await;
    let mut greedy = connect(served.http()).await;
    // Requests without end and no answer read: in the end the server can write no more.
    let sending = async {
        let many = "GET /no-such-page HTTP/1.1\r\nhost: test\r\n\r\n".repeat(1_000);
        while greedy.write_all(many.as_bytes()).await.is_ok() {}
    };
    tokio::time::timeout(PATIENCE, sending).await.expect("the connection is still open");
    assert_healthy(served.http()).await;
    served.end().await;
}

#[tokio::test]
async fn a_request_that_stalls_is_ended() {
    let served = Served::new(limits()).await;
    let client = h2(served.serving.grpc).await;
    let (_body, answer) = begin(&client, 1_000, 10).await;
    assert_eq!(ended_with(answer).await, ("4".to_owned(), true));
    served.end().await;
}

#[tokio::test]
async fn too_much_at_once_is_rejected() {
    let served = Served::new(Limits { arriving_bytes_max: 50_000, ..Limits::default() }).await;
    let client = h2(served.serving.grpc).await;
    let (first_body, first) = begin(&client, 40_000, 30_000).await;
    let (_body, second) = begin(&client, 40_000, 30_000).await;
    assert_eq!(ended_with(second).await, ("8".to_owned(), true));
    // What is given up makes room.
    drop((first_body, first));
    let room = async {
        loop {
            let (mut body, answer) = begin(&client, 40_000, 30_000).await;
            body.send_data(vec![0; 10_000].into(), true).expect("the rest");
            // The bytes are no message; that is found when all of it has come.
            if ended_with(answer).await.0 != "8" {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, room).await.expect("there is room again");
    served.end().await;
}

#[tokio::test]
async fn a_message_of_100_mb_is_rejected_by_its_length() {
    let served = Served::new(Limits::default()).await;
    let client = h2(served.serving.grpc).await;
    // Only the first bytes are sent: the answer can't depend on the others.
    let (_body, answer) = begin(&client, 100 << 20, 10).await;
    assert_eq!(ended_with(answer).await.0, "11");
    served.end().await;
}
