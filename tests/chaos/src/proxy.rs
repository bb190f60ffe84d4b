//! A TCP proxy that injects faults: it stands before one server and treats its connections as broken networks do.
//!
//! ```text
//! client ──► listener ──► connection ──► pump to the server ──► server
//!               │              └─ pump to the client ◄─────────────┘
//!               └── a fault holds for all of it, from the moment it is set until the next one
//! ```
//!
//! The port is the proxy's for its whole life, also while it refuses connections.

mod pump;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use pump::{Direction, pump};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1_024;
/// How long the server may take to accept: it is on this machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The answer of a server that is another one than the client expects.
const GARBAGE: &[u8] = b"\x00\x17garbage: this is neither HTTP/2 nor anything else\r\n\r\n\xff\xfe\xfd";

/// The fault of a proxy's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// Nothing: bytes pass.
    #[default]
    None,
    /// Connections are refused, and those that exist are reset.
    Refuse,
    /// Connections are accepted and no byte moves in either direction: a process that hangs, a peer that is gone.
    Hang,
    /// Connections are reset in the middle of a stream, after some of its bytes.
    Reset,
    /// Each piece is delayed by this much.
    Delay(Duration),
    /// Data of the client does not arrive; answers to earlier data still do.
    SilentToServer,
    /// Answers do not arrive; data of the client still does, and has its effect.
    SilentToClient,
    /// Additional bytes are put into the stream, in both directions. Some layer always detects them: no valid frame,
    /// number or text contains them. A corruption of single bits that still makes sense can only be detected by TCP's
    /// checksums and TLS, and not above them.
    Corrupt,
    /// A few bytes at a time.
    Trickle,
    /// The proxy answers in place of the server: nonsense, then the end.
    Garbage,
}

impl Fault {
    /// Each kind once, with a delay that a call survives.
    pub const ALL: [Self; 9] = [
        Self::Refuse,
        Self::Hang,
        Self::Reset,
        Self::Delay(Duration::from_millis(300)),
        Self::SilentToServer,
        Self::SilentToClient,
        Self::Corrupt,
        Self::Trickle,
        Self::Garbage,
    ];

    /// The fault in a word or two.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Refuse => "refuse",
            Self::Hang => "hang",
            Self::Reset => "reset",
            Self::Delay(_) => "delay",
            Self::SilentToServer => "silent to server",
            Self::SilentToClient => "silent to client",
            Self::Corrupt => "corrupt",
            Self::Trickle => "trickle",
            Self::Garbage => "garbage",
        }
    }

    fn stalls(self, direction: Direction) -> bool {
        match self {
            Self::Hang => true,
            Self::SilentToServer => direction == Direction::ToServer,
            Self::SilentToClient => direction == Direction::ToClient,
            _ => false,
        }
    }
}

/// A running proxy. It ends, with all its connections, when this is dropped.
pub struct Proxy {
    address: SocketAddr,
    faults: watch::Sender<Fault>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy before a server, on a free loopback port.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(server: SocketAddr) -> io::Result<Self> {
        let (address, listener) = Port::take()?.listen()?;
        let (faults, fault) = watch::channel(Fault::None);
        let task = tokio::spawn(async move {
            if let Err(error) = run(address, listener, server, fault).await {
                eprintln!("the proxy before {server} ended: {error}");
            }
        });
        Ok(Self { address, faults, task })
    }

    /// The address for clients.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets the fault of all connections, until the next call; [`Fault::None`] heals.
    pub fn set(&self, fault: Fault) {
        self.faults.send_replace(fault);
    }

    /// The current fault.
    pub fn fault(&self) -> Fault {
        *self.faults.borrow()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A port that stays taken while no server listens on it. Otherwise the system would give it to another connection, and
/// the proxy could not bind it again.
struct Port {
    address: SocketAddr,
    /// Bound and not listening: connections are refused.
    held: TcpSocket,
}

impl Port {
    fn take() -> io::Result<Self> {
        let held = bound(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        Ok(Self { address: held.local_addr()?, held })
    }

    fn listen(self) -> io::Result<(SocketAddr, TcpListener)> {
        Ok((self.address, self.held.listen(BACKLOG)?))
    }

    fn refuse(address: SocketAddr, listener: TcpListener) -> io::Result<Self> {
        let held = bound(address)?;
        drop(listener);
        Ok(Self { address, held })
    }
}

fn bound(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // The next holder binds before the previous one releases the port.
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn run(
    address: SocketAddr,
    mut listener: TcpListener,
    server: SocketAddr,
    mut faults: watch::Receiver<Fault>,
) -> io::Result<()> {
    // Its connections end with it.
    let mut connections = JoinSet::new();
    loop {
        while *faults.borrow_and_update() != Fault::Refuse {
            tokio::select! {
                accepted = listener.accept() => {
                    let (client, _) = accepted?;
                    connections.spawn(connection(client, server, faults.clone()));
                }
                Some(_) = connections.join_next() => {}
                changed = faults.changed() => if changed.is_err() { return Ok(()) },
            }
        }
        let port = Port::refuse(address, listener)?;
        if faults.wait_for(|fault| *fault != Fault::Refuse).await.is_err() {
            return Ok(());
        }
        listener = port.listen()?.1;
    }
}

/// One connection to its end. Both sides get the end as TCP reports it, because their reaction is under test.
async fn connection(client: TcpStream, server: SocketAddr, mut faults: watch::Receiver<Fault>) {
    // The system of a hanging process accepts connections, and no answer follows.
    let Ok(fault) = faults.wait_for(|fault| *fault != Fault::Hang).await.map(|fault| *fault) else { return };
    match fault {
        Fault::Refuse => return reset(&client),
        Fault::Garbage => {
            let _ = client.writable().await;
            let _ = client.try_write(GARBAGE);
            return;
        }
        _ => {}
    }
    let Ok(Ok(server)) = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(server)).await else {
        return reset(&client);
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let clean = {
        let to_server = pump(&client, &server, Direction::ToServer, faults.clone());
        let to_client = pump(&server, &client, Direction::ToClient, faults.clone());
        let broken = faults.wait_for(|fault| matches!(fault, Fault::Refuse | Fault::Garbage));
        tokio::select! {
            clean = to_server => clean,
            clean = to_client => clean,
            _ = broken => false,
        }
    };
    if !clean {
        reset(&client);
        reset(&server);
    }
}

/// The end is sent as RST and not as FIN, so that the reader gets an error.
fn reset(stream: &TcpStream) {
    // A socket that is gone already needs no reset.
    let _ = stream.set_zero_linger();
}

#[cfg(test)]
mod tests;
