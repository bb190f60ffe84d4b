//! Every RPC of every service, from the descriptors that reflection serves: none can be forgotten. Calls carry bytes,
//! so that what no client library would send can be sent.

use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes};
use matricula_harness::System;
use prost_reflect::{DescriptorPool, MessageDescriptor};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// Messages that are read of a stream, and how long it may be silent: some streams never end.
const MESSAGES_OF_STREAM_MAX: usize = 5;
const SILENCE_MAX: Duration = Duration::from_millis(100);
/// Longest answer that is taken.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// One RPC and where it is served.
#[derive(Clone)]
pub struct Rpc {
    /// `/package.Service/Method`.
    pub path: String,
    /// Its request.
    pub input: MessageDescriptor,
    /// Its answer.
    pub output: MessageDescriptor,
    is_stream: bool,
    /// The role that serves it.
    pub role: &'static str,
}

/// Every RPC.
pub fn all() -> Vec<Rpc> {
    let pool = DescriptorPool::decode(matricula_proto::DESCRIPTOR_SET).expect("the descriptors are sound");
    let methods = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>());
    let rpcs = methods.flat_map(|method| {
        let service = method.parent_service().full_name().to_owned();
        assert!(!method.is_client_streaming(), "{service}: extend this test by streams of requests");
        let rpc = |role: &&'static str| Rpc {
            path: format!("/{service}/{}", method.name()),
            input: method.input(),
            output: method.output(),
            is_stream: method.is_server_streaming(),
            role,
        };
        roles(&service).iter().map(rpc).collect::<Vec<_>>()
    });
    rpcs.collect()
}

/// The roles that serve a service.
fn roles(service: &str) -> &'static [&'static str] {
    match service.split('.').nth(1).expect("matricula.<area>.v1.<Service>") {
        "registration" | "catalog" | "ops" => &["orchestrator"],
        // All five serve `participant`; one is enough here.
        "seats" | "participant" => &["seats"],
        "enrollments" => &["enrollments"],
        "academics" => &["academics"],
        "fees" => &["fees"],
        "notifications" => &["notifications"],
        // Each takes rows of its own.
        "imports" => &["academics", "fees", "notifications", "seats"],
        area => panic!("{area}: say here which role serves it"),
    }
}

impl Rpc {
    /// Whether it answers by a stream, which may never end.
    pub fn is_stream(&self) -> bool {
        self.is_stream
    }

    /// Whether portals or operators call it, and not the orchestrator alone.
    pub fn is_public(&self) -> bool {
        self.role == "orchestrator"
    }

    /// A connection to the role that serves it.
    pub async fn connect(&self, system: &System) -> Channel {
        system.channel(self.role).await
    }

    /// Calls it. Of a stream, the first messages.
    pub async fn call(&self, channel: &Channel, body: Vec<u8>) -> Result<Vec<Bytes>, Status> {
        let mut client = Grpc::new(channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX);
        client.ready().await.map_err(|error| Status::unavailable(format!("no connection: {error:?}")))?;
        let path: PathAndQuery = self.path.parse().expect("a path");
        if !self.is_stream {
            return Ok(vec![client.unary(Request::new(body), path, Raw).await?.into_inner()]);
        }
        let mut stream = client.server_streaming(Request::new(body), path, Raw).await?.into_inner();
        let mut messages = Vec::new();
        while messages.len() < MESSAGES_OF_STREAM_MAX {
            match tokio::time::timeout(SILENCE_MAX, stream.message()).await {
                Ok(Ok(Some(message))) => messages.push(message),
                Ok(Err(status)) => return Err(status),
                Ok(Ok(None)) | Err(_) => break,
            }
        }
        Ok(messages)
    }
}

/// Takes messages as they are.
#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
