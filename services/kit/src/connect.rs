//! Channels to other processes. They never occupy the port of a restarting service on this machine.
//!
//! The port of a role may be in the range from which the system chooses the local ports of outgoing connections; the
//! default ports are not. While no process listens on such a port, an attempt to connect to it from this machine may
//! get the same port as its local port. Then the connection is connected to itself: it is established, answers nothing,
//! and the restarting service can't bind the port.

use std::io;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::secret::{is_scheme, masked_url};

/// Connect timeout: enough across a continent, and short enough for a waiting user.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer that does not answer a ping within this time is dead: the channel reconnects.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// An example of a URL, for errors.
const EXAMPLE: &str = "http://127.0.0.1:7451";
/// Default port of an `http` URL.
const HTTP_PORT: u16 = 80;

/// Why the URL of a service is rejected. The protocol is HTTP/2 without TLS. No part of a URL is ignored, so that users
/// do not assume an encrypted connection.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ServiceUrlError(String);

/// Why a channel can't be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL can't be used.
    #[error(transparent)]
    Url(#[from] ServiceUrlError),
    /// The server does not answer.
    #[error(transparent)]
    Transport(#[from] tonic::transport::Error),
}

/// Checks the URL of a service: only `http://host` and `http://host:port` are allowed.
pub fn service_url(url: &str) -> Result<Uri, ServiceUrlError> {
    // The URL in errors is masked, because it may contain a password.
    let shown = || format!("{:?}", masked_url(url));
    let no_url = || ServiceUrlError(format!("{} is not a service URL such as {EXAMPLE}", shown()));
    let not_spoken = |scheme: &str| {
        let problem = match scheme.eq_ignore_ascii_case("https") {
            true => "TLS is not supported yet".to_owned(),
            false => format!("{scheme}:// is not supported"),
        };
        ServiceUrlError(format!("{}: {problem}; use http://, such as {EXAMPLE}", shown()))
    };
    let ignored = |part: &str| {
        ServiceUrlError(format!("{} has {part}, which would be ignored: use a host and a port only", shown()))
    };
    let Some((scheme, rest)) = url.split_once("://").filter(|(scheme, _)| is_scheme(scheme)) else {
        let known = url
            .split_once(':')
            .filter(|(scheme, rest)| is_scheme(scheme) && *scheme != "http" && rest.starts_with('/'));
        return Err(known.map_or_else(no_url, |(scheme, _)| not_spoken(scheme)));
    };
    if !scheme.eq_ignore_ascii_case("http") {
        return Err(not_spoken(scheme));
    }
    let parts = [('#', "a fragment"), ('?', "a query"), ('@', "a user or password")];
    if let Some((_, part)) = parts.into_iter().find(|(mark, _)| rest.contains(*mark)) {
        return Err(ignored(part));
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '\\']) {
        return Err(ignored("a path"));
    }
    let host_end = if authority.starts_with('[') { authority.find(']').map_or(0, |at| at + 1) } else { 0 };
    if let Some((_, port)) = authority[host_end..].split_once(':') {
        let is_port = port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
        if !is_port {
            return Err(ServiceUrlError(format!("the port of {} must be from 1 to 65535", shown())));
        }
    }
    let uri = format!("http://{authority}").parse::<Uri>().ok();
    uri.filter(|uri| uri.host().is_some_and(is_host)).ok_or_else(no_url)
}

/// A host name or an IP address; IPv6 addresses are in brackets.
fn is_host(host: &str) -> bool {
    match host.strip_prefix('[') {
        Some(address) => address.strip_suffix(']').is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok()),
        None => !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)),
    }
}

/// A channel that connects at the first call, and reconnects when the connection is lost.
pub fn lazily(url: &str) -> Result<Channel, ServiceUrlError> {
    Ok(endpoint(url)?.connect_with_connector_lazy(service_fn(connect)))
}

/// Connects at once, so that a wrong address is reported immediately; the next call reopens a lost connection.
pub async fn now(url: &str) -> Result<Channel, ConnectError> {
    Ok(endpoint(url)?.connect_with_connector(service_fn(connect)).await?)
}

fn endpoint(url: &str) -> Result<Endpoint, ServiceUrlError> {
    Ok(Endpoint::from(service_url(url)?)
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
        return Err(io::Error::new(
            io::ErrorKind::ConnectionRefused,
            "no process listens on the port: the connection was connected to itself",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, expect: Result<(&str, Option<u16>), &str>) {
        match (service_url(url), expect) {
            (Ok(uri), Ok(expect)) => assert_eq!((uri.host().unwrap_or_default(), uri.port_u16()), expect, "{url}"),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{url}: {error}"),
            (read, expect) => panic!("{url}: {read:?}, expected {expect:?}"),
        }
    }

    #[test]
    fn hosts_and_ports_are_read() {
        check("http://127.0.0.1:7450", Ok(("127.0.0.1", Some(7450))));
        check("http://localhost:7450/", Ok(("localhost", Some(7450))));
        check("HTTP://seats_1.example:7451", Ok(("seats_1.example", Some(7451))));
        check("http://[::1]:7450", Ok(("[::1]", Some(7450))));
        check("http://seats", Ok(("seats", None)));
    }

    #[test]
    fn unsupported_urls_are_rejected() {
        for url in
            ["https://seats:7451", "HTTPS://seats", "grpc://seats:7451", "ftp://seats", "unix:/run/seats", "unix:///x"]
        {
            check(url, Err("is not supported"));
        }
        for url in
            ["", "seats", "localhost:7450", "seats:7451/", "//seats:7451", "http:", "://x", "http:seats", "http:/seats"]
        {
            check(url, Err("is not a service URL such as"));
        }
        for url in [
            "http://",
            "http:///",
            "http://:7450",
            "http://a b",
            "http://[::1",
            "http://[x]:1",
            "http://::1",
            "http://ä",
        ] {
            assert!(service_url(url).is_err(), "{url}");
        }
        for url in ["http://a:", "http://a:0", "http://a:70000", "http://a:+1", "http://a:x", "http://[::1]:x"] {
            check(url, Err("the port of"));
        }
    }

    #[test]
    fn parts_that_would_be_ignored_are_rejected_and_secrets_are_masked() {
        check("http://seats:7451/v1", Err("has a path"));
        check("http://seats:7451//", Err("has a path"));
        check("http://seats:7451?tls=on", Err("has a query"));
        check("http://seats:7451/#x", Err("has a fragment"));
        check("http://me:s3cret@seats:7451", Err("has a user or password"));
        for url in [
            "http://me:s3cret@seats",
            "https://me:s3cret@seats",
            "http://s3cret@seats",
            "http:/s3cret@seats",
            "http://me:pa<s3cret@seats",
            "http://seats?token=s3cret",
            "http://seats?token=a s3cret",
            "x?password=s3cret",
        ] {
            let error = service_url(url).expect_err("it is refused").to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_connection_to_itself_is_refused() {
        // A socket that connects to its own address does what some attempts do by chance.
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let own = socket.local_addr().expect("bound");
        let itself = socket.connect(own).await.expect("it meets itself");
        assert_eq!(refuse_itself(&itself).expect_err("itself").kind(), io::ErrorKind::ConnectionRefused);

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let other = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("a process listens");
        refuse_itself(&other).expect("not itself");
    }
}
