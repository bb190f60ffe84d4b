//! gRPC between the roles of one process: the same stubs and servers, over a pipe in memory instead of a socket.

use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// Bytes that a pipe holds before its writer waits: some large batches.
const PIPE_BYTES: usize = 1 << 20;
/// Connections that may wait to be accepted; a process makes one for each role that it calls.
const CONNECTIONS_WAITING_MAX: usize = 16;

/// Connections as the server accepts them.
pub(super) type Incoming =
    futures::stream::Map<ReceiverStream<DuplexStream>, fn(DuplexStream) -> std::io::Result<DuplexStream>>;

/// A channel and the server's end of it. The channel connects at its first call.
pub(super) fn connect() -> (Channel, Incoming) {
    let (connections, accepted) = mpsc::channel(CONNECTIONS_WAITING_MAX);
    let connector = tower::service_fn(move |_: Uri| {
        let connections = connections.clone();
        async move {
            let (client, server) = tokio::io::duplex(PIPE_BYTES);
            let sent = connections.send(server).await;
            sent.map_err(|_| std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "the role has ended"))?;
            Ok::<_, std::io::Error>(TokioIo::new(client))
        }
    });
    let channel = Endpoint::from_static("http://in-memory").connect_with_connector_lazy(connector);
    let incoming: Incoming = futures::StreamExt::map(ReceiverStream::new(accepted), Ok);
    (channel, incoming)
}
