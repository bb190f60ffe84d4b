//! Channels to other processes, made so that a service that is being restarted on this machine can have its port back.
//!
//! A port of a role may lie in the range from which the system takes the local ports of outgoing connections; the default
//! ports do not. While no process listens on such a port, one of many attempts to connect to it from this machine may be given
//! the same port as its own, and the connection meets itself: it is established, answers nothing, and keeps the port from the
//! service that comes back.

use std::io;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint, Error, Uri};
use tower::service_fn;

/// How long a connection may take: enough across a continent, and short enough for somebody who waits.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer that does not answer a ping for this long is gone: the connection is made anew.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// Port of an `http` URL that names none.
const HTTP_PORT: u16 = 80;

/// A channel that connects when it is first used, and again whenever the connection is lost.
pub fn lazily(url: &str) -> Result<Channel, Error> {
    Ok(endpoint(url)?.connect_with_connector_lazy(service_fn(connect)))
}

/// Connects at once, so that a wrong address is told at once; a connection lost later is made again by the next call.
pub async fn now(url: &str) -> Result<Channel, Error> {
    endpoint(url)?.connect_with_connector(service_fn(connect)).await
}

fn endpoint(url: &str) -> Result<Endpoint, Error> {
    let endpoint = Endpoint::from_shared(url.to_owned())?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true))
}

async fn connect(uri: Uri) -> io::Result<TokioIo<TcpStream>> {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(HTTP_PORT))).await?;
    refuse_itself(&stream)?;
    stream.set_nodelay(true)?;
    Ok(TokioIo::new(stream))
}

fn refuse_itself(stream: &TcpStream) -> io::Result<()> {
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "nobody listens: the connection met itself"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_that_meets_itself_is_refused() {
        // A socket that connects to its own address does what one of many attempts does by chance.
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let own = socket.local_addr().expect("bound");
        let itself = socket.connect(own).await.expect("it meets itself");
        assert_eq!(refuse_itself(&itself).expect_err("itself").kind(), io::ErrorKind::ConnectionRefused);

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let other = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("somebody listens");
        refuse_itself(&other).expect("not itself");
    }
}
