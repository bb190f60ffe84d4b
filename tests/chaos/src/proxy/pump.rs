//! Moves the bytes of one connection in one direction, as far as the current fault allows.

use std::io;
use std::time::Duration;

use rand::Rng as _;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::Fault;

/// Bytes that pass at once.
const PIECE_BYTES_MAX: usize = 64 * 1024;
/// A trickle: this many bytes, this often. A small call takes a tenth of a second, a large batch does not arrive in
/// time.
const TRICKLE_BYTES: usize = 64;
const TRICKLE_PAUSE: Duration = Duration::from_millis(5);
/// A connection is reset, or its stream corrupted, at one piece of this many.
const BREAK_ONE_IN: u32 = 8;
/// The bytes that corrupt a stream. As a length they exceed every limit, as a number they have no end, as text they are
/// invalid; and they are longer than any of these.
const CORRUPTION: [u8; 48] = [0xff; 48];

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    ToServer,
    ToClient,
}

/// Pumps until one side ends, and returns true; false when the connection is to be reset.
pub(super) async fn pump(
    from: &TcpStream,
    to: &TcpStream,
    direction: Direction,
    mut faults: watch::Receiver<Fault>,
) -> bool {
    let mut buffer = vec![0; PIECE_BYTES_MAX];
    loop {
        // Unread bytes wait in the system's buffers and continue when the fault is over: within a connection TCP loses
        // nothing, it only delays.
        if faults.wait_for(|fault| !fault.stalls(direction)).await.is_err() {
            return true;
        }
        let length = match read(from, &mut buffer).await {
            Ok(0) | Err(_) => return true,
            Ok(length) => length,
        };
        let Ok(fault) = faults.wait_for(|fault| !fault.stalls(direction)).await.map(|fault| *fault) else {
            return true;
        };
        let piece = &buffer[..length];
        let passed = match fault {
            Fault::Reset if rand::rng().random_ratio(1, BREAK_ONE_IN) => {
                // Some of it arrives: the other side is in the middle of a message.
                let _ = write(to, &piece[..length / 2]).await;
                return false;
            }
            Fault::Corrupt if rand::rng().random_ratio(1, BREAK_ONE_IN) => {
                let at = rand::rng().random_range(0..=length);
                write(to, &[&piece[..at], &CORRUPTION, &piece[at..]].concat()).await
            }
            Fault::Delay(delay) => {
                tokio::time::sleep(delay).await;
                write(to, piece).await
            }
            Fault::Trickle => trickle(to, piece, &faults).await,
            _ => write(to, piece).await,
        };
        if passed.is_err() {
            return true;
        }
    }
}

async fn trickle(to: &TcpStream, piece: &[u8], faults: &watch::Receiver<Fault>) -> io::Result<()> {
    for drop in piece.chunks(TRICKLE_BYTES) {
        write(to, drop).await?;
        if *faults.borrow() == Fault::Trickle {
            tokio::time::sleep(TRICKLE_PAUSE).await;
        }
    }
    Ok(())
}

async fn read(from: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        from.readable().await?;
        match from.try_read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
    }
}

async fn write(to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        match to.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
