//! A loopback port that belongs to one server of a test as long as the test runs, also while the server is down.
//!
//! The system takes local ports of outgoing connections from the same range. It would give the port of a killed server
//! to one of them, and the server could not start again.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

/// A port of 127.0.0.1 that is bound and does not listen. Linux gives it to no program that requests any free port, and
/// lets a server listen on it that sets `SO_REUSEADDR`, as tokio, PostgreSQL and Redis do (socket(7), `SO_REUSEADDR`).
///
/// Other systems let no second socket bind: there the port is only found, and is free for others until the server
/// listens.
#[derive(Debug)]
pub struct ReservedPort {
    address: SocketAddr,
    _held: Option<Socket>,
}

impl ReservedPort {
    /// Reserves a free port.
    ///
    /// # Errors
    /// When no port is free.
    pub fn any() -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        let address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { address, _held: cfg!(target_os = "linux").then_some(socket) })
    }

    /// The address to listen on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port to listen on.
    pub fn number(&self) -> u16 {
        self.address.port()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::collections::HashSet;
    use std::net::{TcpListener, TcpStream};

    use super::ReservedPort;

    #[test]
    fn only_the_server_listens_on_its_port() {
        let port = ReservedPort::any().expect("a free port");
        for _ in 0..3 {
            // The standard library sets SO_REUSEADDR, too.
            let listener = TcpListener::bind(port.address()).expect("it is ours");
            TcpListener::bind(port.address()).expect_err("another one listens");
            let client = TcpStream::connect(port.address()).expect("it listens");
            let (server, _) = listener.accept().expect("it is connected");
            // The server closes first, as when it is killed: its side waits for stray packets.
            drop((server, listener, client));
        }
    }

    /// As many listeners and connections as a process may open: none of them gets it.
    #[test]
    fn a_reserved_port_is_never_given_away() {
        let reserved: Vec<ReservedPort> = (0..50).map(|_| ReservedPort::any().expect("a free port")).collect();
        let numbers: HashSet<u16> = reserved.iter().map(ReservedPort::number).collect();
        assert_eq!(numbers.len(), reserved.len(), "each has its own");
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let mut held = Vec::new();
        for _ in 0..200 {
            let client = TcpStream::connect(address).expect("it listens");
            held.push(listener.accept().expect("it is connected").0);
            assert!(!numbers.contains(&client.local_addr().expect("it is bound").port()));
            held.push(client);
        }
        for _ in 0..200 {
            let other = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
            assert!(!numbers.contains(&other.local_addr().expect("it is bound").port()));
        }
    }
}
