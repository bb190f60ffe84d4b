//! HTTP/2 without a client library: requests that no library would send, and readers that do not read.

use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use h2::client::{Builder, ResponseFuture, SendRequest};
use matricula_harness::{PATIENCE, System};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::codegen::http::{HeaderMap, Request};

/// A stream that is silent for so long will go on: some never end.
const SILENCE_MAX: Duration = Duration::from_millis(300);
/// One that has still something to tell after so long will go on, too: a feed tells that it lives.
const STREAMING_AFTER: Duration = Duration::from_secs(1);
/// What a client says about itself with every call.
pub const GRPC: [(&str, &str); 2] = [("content-type", "application/grpc"), ("te", "trailers")];

/// A connection to a role.
pub async fn connect(system: &System, role: &str) -> SendRequest<Bytes> {
    connect_with(system, role, &Builder::new()).await
}

/// A connection whose streams may be sent nothing: their reader never reads.
pub async fn connect_deaf(system: &System, role: &str) -> SendRequest<Bytes> {
    connect_with(system, role, Builder::new().initial_window_size(0)).await
}

async fn connect_with(system: &System, role: &str, builder: &Builder) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(system.address(role)).await.expect("the role listens");
    let (client, connection) = builder.handshake(stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    client.ready().await.expect("a connection")
}

/// Begins a call.
pub async fn begin(
    client: &SendRequest<Bytes>,
    path: &str,
    headers: &[(&str, &str)],
) -> (SendStream<Bytes>, ResponseFuture) {
    let mut request = Request::post(format!("http://test{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut client = client.clone().ready().await.expect("a connection");
    let (answer, body) = client.send_request(request.body(()).expect("a request"), false).expect("a stream");
    (body, answer)
}

/// How a call ended.
#[derive(Debug)]
pub enum Ending {
    /// The HTTP status, and the gRPC code when there is one.
    Answered(u16, Option<i32>),
    /// A stream began, and goes on.
    Streaming,
    /// The stream, or the connection, was reset.
    Reset(#[expect(dead_code, reason = "shown when a test fails")] h2::Error),
}

impl Ending {
    /// Whether the call was answered by what it asked for, or by a code.
    pub fn is_answer(&self) -> bool {
        matches!(self, Self::Answered(200, Some(_)) | Self::Streaming)
    }
}

/// Sends a body as one frame and waits for the end.
pub async fn call(client: &SendRequest<Bytes>, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Ending {
    let (mut sending, answer) = begin(client, path, headers).await;
    // A server may refuse before it has read everything.
    let _ = sending.send_data(body.into(), true);
    ending(answer).await
}

/// Waits for the end of a call, or for a stream to begin.
pub async fn ending(answer: ResponseFuture) -> Ending {
    let ended = async {
        let (parts, mut body) = answer.await?.into_parts();
        // An answer that is no stream has its end right behind its head; a watch may have nothing to tell, or goes on.
        let began = tokio::time::Instant::now();
        let trailers = loop {
            match tokio::time::timeout(SILENCE_MAX, body.data()).await {
                Err(_) => return Ok(Ending::Streaming),
                Ok(Some(Ok(_))) if began.elapsed() > STREAMING_AFTER => return Ok(Ending::Streaming),
                Ok(Some(data)) => drop(body.flow_control().release_capacity(data?.len())),
                Ok(None) => break body.trailers().await?.unwrap_or_default(),
            }
        };
        Ok(Ending::Answered(parts.status.as_u16(), code(&trailers).or_else(|| code(&parts.headers))))
    };
    tokio::time::timeout(PATIENCE * 2, ended).await.expect("the call ends").unwrap_or_else(Ending::Reset)
}

fn code(headers: &HeaderMap) -> Option<i32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// A message in its frame.
pub fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a small message");
    [&[0], length.to_be_bytes().as_slice(), message].concat()
}

/// Tries until something holds: a bound for a broken build.
pub async fn until<T>(mut holds: impl AsyncFnMut() -> Option<T>) -> T {
    let trying = async {
        loop {
            if let Some(it) = holds().await {
                return it;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, trying).await.expect("it holds in the end")
}

/// Memory that a process has, in MiB.
pub fn memory_mib(system: &System, name: &'static str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", system.pid(name))).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the memory it has");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1024
}

/// What an HTTP port answers.
pub async fn http_get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.ok()?;
    Some(text)
}
