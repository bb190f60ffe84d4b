//! A proxy in front of PostgreSQL that simulates failures: the answer to a commit is lost, or nothing is delivered any
//! more.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Largest part of a message that is forwarded at once.
const PART_BYTES: usize = 64 * 1024;

/// Forwards connections to a database, subject to the requested failures.
pub struct Proxy {
    url: String,
    faults: Arc<Faults>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Faults {
    /// Number of commits whose answers are still to be lost.
    commits_to_cut: AtomicUsize,
    /// Whether the next commit hangs, and its connection with it.
    hang_at_commit: AtomicBool,
    /// Connections with lower numbers are dead: nothing is delivered, and they are not closed.
    dead_below: AtomicUsize,
    connections: AtomicUsize,
    refusing: AtomicBool,
}

impl Proxy {
    /// A proxy for the database of a URL such as `postgres://user@127.0.0.1:5432/name`.
    ///
    /// # Panics
    /// If the URL has no address, or no port is free.
    pub async fn before(url: &str) -> Self {
        let (login, place) = url.split_once('@').expect("a URL with a user");
        let (address, name) = place.split_once('/').expect("a URL with a database");
        let server: SocketAddr = address.parse().expect("an address with a port");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("{login}@{}/{name}?sslmode=disable", listener.local_addr().expect("it is bound"));
        let faults = Arc::new(Faults::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, server, faults.clone()));
        Self { url, faults, _tasks: tasks }
    }

    /// The URL of the same database through the proxy.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Lets the next commits take effect, but closes their connections before the answers.
    pub fn lose_answers_of_commits(&self, commits: usize) {
        self.faults.commits_to_cut.store(commits, Ordering::SeqCst);
    }

    /// At the next commit, stops all existing connections, including the one with that commit.
    pub fn hang_at_commit(&self) {
        self.faults.hang_at_commit.store(true, Ordering::SeqCst);
    }

    /// Stops all existing connections, as when the network path is lost. New connections work.
    pub fn hang(&self) {
        self.faults.hang();
    }

    /// Rejects new connections, or accepts them again.
    pub fn refuse(&self, refusing: bool) {
        self.faults.refusing.store(refusing, Ordering::SeqCst);
    }
}

impl Faults {
    fn hang(&self) {
        self.dead_below.store(self.connections.load(Ordering::SeqCst), Ordering::SeqCst);
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, faults: Arc<Faults>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        if faults.refusing.load(Ordering::SeqCst) {
            continue;
        }
        let number = faults.connections.fetch_add(1, Ordering::SeqCst);
        connections.spawn(pass(client, server, number, faults.clone()));
    }
}

async fn pass(client: TcpStream, server: SocketAddr, number: usize, faults: Arc<Faults>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (client, server) = (client.into_split(), server.into_split());
    // Set by the forward direction and read by the backward direction: the next answer is that of a commit.
    let cut = AtomicBool::new(false);
    let action = |may_pass: bool| match number < faults.dead_below.load(Ordering::SeqCst) {
        true => PartAction::Hang,
        false if may_pass => PartAction::Pass,
        false => PartAction::Cut,
    };
    let there = copy(client.0, server.1, |part| {
        let is_commit = part.windows(6).any(|word| word == b"COMMIT");
        if is_commit && faults.commits_to_cut.load(Ordering::SeqCst) > 0 {
            faults.commits_to_cut.fetch_sub(1, Ordering::SeqCst);
            cut.store(true, Ordering::SeqCst);
        }
        if is_commit && faults.hang_at_commit.swap(false, Ordering::SeqCst) {
            faults.hang();
        }
        action(true)
    });
    let back = copy(server.0, client.1, |_| action(!cut.load(Ordering::SeqCst)));
    // The connection ends when either side closes it.
    tokio::select! {
        () = there => {}
        () = back => {}
    }
}

/// The treatment of a part of a message.
enum PartAction {
    Pass,
    Cut,
    Hang,
}

/// Forwards parts until the end, or until a part must not be forwarded.
async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, action: impl Fn(&[u8]) -> PartAction) {
    let mut part = vec![0; PART_BYTES];
    while let Ok(read @ 1..) = from.read(&mut part).await {
        match action(&part[..read]) {
            PartAction::Pass if to.write_all(&part[..read]).await.is_ok() => {}
            PartAction::Pass | PartAction::Cut => return,
            PartAction::Hang => std::future::pending().await,
        }
    }
}
