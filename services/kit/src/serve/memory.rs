//! gRPC between the roles of one process: the same stubs and servers, over a pipe in memory instead of a socket.

use std::future::ready;
use std::io::{Error, ErrorKind};

use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Uri};

use super::connections::Connections;

/// Bytes that a pipe holds before its writer waits: some large batches.
const PIPE_BYTES: usize = 1 << 20;
/// Connections that may wait to be accepted; a process makes one for each role that it calls.
const CONNECTIONS_WAITING_MAX: usize = 16;

/// A channel and the server's end of it. The channel connects at its first call.
pub(super) fn connect() -> (Channel, mpsc::Receiver<DuplexStream>) {
    let (connections, accepted) = mpsc::channel(CONNECTIONS_WAITING_MAX);
    let connector = tower::service_fn(move |_: Uri| {
        let connections = connections.clone();
        async move {
            let (client, server) = tokio::io::duplex(PIPE_BYTES);
            let sent = connections.send(server).await;
            sent.map_err(|_| Error::new(ErrorKind::ConnectionRefused, "the role has ended"))?;
            Ok::<_, Error>(TokioIo::new(client))
        }
    });
    (Endpoint::from_static("http://in-memory").connect_with_connector_lazy(connector), accepted)
}

/// Serves the other roles until `no_new_calls`; then waits until the calls in flight have finished.
pub(super) async fn serve(
    mut accepted: mpsc::Receiver<DuplexStream>,
    mut connections: Connections,
    no_new_calls: CancellationToken,
) {
    loop {
        tokio::select! {
            () = no_new_calls.cancelled() => break,
            Some(()) = connections.one_ended() => {}
            Some(pipe) = accepted.recv() => connections.serve(ready(Some(pipe))),
        }
    }
    drop(accepted);
    connections.end().await;
}
