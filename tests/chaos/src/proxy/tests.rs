//! Each fault against a server that echoes.

use std::io::ErrorKind;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// Longer than any step here takes.
const PATIENCE: Duration = Duration::from_secs(30);
const QUIET: Duration = Duration::from_millis(100);

async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = [0; 1_024];
                while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                    let _ = stream.write_all(&buffer[..length]).await;
                }
            });
        }
    });
    address
}

async fn says(stream: &mut TcpStream, text: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(text).await?;
    let mut answer = vec![0; text.len()];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut answer)).await.expect("an answer or an end")?;
    Ok(answer)
}

async fn is_quiet(stream: &mut TcpStream) -> bool {
    tokio::time::timeout(QUIET, stream.read_u8()).await.is_err()
}

#[tokio::test]
async fn bytes_pass_and_a_refused_port_comes_back() {
    let proxy = Proxy::start(echo().await).await.expect("it starts");
    let mut stream = TcpStream::connect(proxy.address()).await.expect("it listens");
    assert_eq!(says(&mut stream, b"hello").await.expect("no error"), b"hello");
    for _ in 0..20 {
        proxy.set(Fault::Refuse);
        let broken = says(&mut stream, b"hello").await.expect_err("the connection is reset");
        assert!(matches!(broken.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{broken}");
        // A connection that was accepted just before is reset; soon they are refused.
        let refused = async {
            loop {
                match TcpStream::connect(proxy.address()).await {
                    Err(error) if error.kind() == ErrorKind::ConnectionRefused => return,
                    _ => tokio::task::yield_now().await,
                }
            }
        };
        tokio::time::timeout(PATIENCE, refused).await.expect("it refuses");
        proxy.set(Fault::None);
        stream = loop {
            match TcpStream::connect(proxy.address()).await {
                Ok(stream) => break stream,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        assert_eq!(says(&mut stream, b"again").await.expect("no error"), b"again");
    }
}

#[tokio::test]
async fn silent_connections_deliver_everything_later() {
    let proxy = Proxy::start(echo().await).await.expect("it starts");
    for fault in [Fault::Hang, Fault::SilentToServer, Fault::SilentToClient] {
        let mut stream = TcpStream::connect(proxy.address()).await.expect("it listens");
        assert_eq!(says(&mut stream, b"hello").await.expect("no error"), b"hello");
        proxy.set(fault);
        let mut other = TcpStream::connect(proxy.address()).await.expect("its system accepts");
        other.write_all(b"late too").await.expect("into the buffers");
        stream.write_all(b"late").await.expect("into the buffers");
        assert!(is_quiet(&mut stream).await && is_quiet(&mut other).await, "{fault:?}");
        proxy.set(Fault::None);
        let (mut late, mut late_too) = ([0; 4], [0; 8]);
        stream.read_exact(&mut late).await.expect("no error");
        other.read_exact(&mut late_too).await.expect("no error");
        assert_eq!((&late, &late_too), (b"late", b"late too"), "{fault:?}");
    }
}

#[tokio::test]
async fn connections_break_in_the_middle() {
    let proxy = Proxy::start(echo().await).await.expect("it starts");
    proxy.set(Fault::Reset);
    for _ in 0..5 {
        let mut stream = TcpStream::connect(proxy.address()).await.expect("it listens");
        let broken = loop {
            if let Err(error) = says(&mut stream, b"hello").await {
                break error;
            }
        };
        assert!(matches!(broken.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{broken}");
    }
}

#[tokio::test]
async fn corruption_is_no_text_and_loses_nothing() {
    let proxy = Proxy::start(echo().await).await.expect("it starts");
    proxy.set(Fault::Corrupt);
    let mut stream = TcpStream::connect(proxy.address()).await.expect("it listens");
    let mut got = Vec::new();
    let mut buffer = [0; 1_024];
    while !got.contains(&0xff) {
        stream.write_all(b"hello").await.expect("no error");
        let length = stream.read(&mut buffer).await.expect("no error");
        got.extend_from_slice(&buffer[..length]);
    }
    assert!(std::str::from_utf8(&got).is_err());
    let rest: Vec<u8> = got.into_iter().filter(|byte| *byte != 0xff).collect();
    assert!(rest.chunks(5).all(|word| b"hello".starts_with(word)), "{}", String::from_utf8_lossy(&rest));
}

#[tokio::test]
async fn delays_deliver_and_garbage_changes_the_bytes() {
    let proxy = Proxy::start(echo().await).await.expect("it starts");
    let text = [b'x'; 640];
    for fault in [Fault::Trickle, Fault::Delay(Duration::from_millis(30))] {
        proxy.set(fault);
        let mut stream = TcpStream::connect(proxy.address()).await.expect("it listens");
        let begun = std::time::Instant::now();
        assert_eq!(says(&mut stream, &text).await.expect("no error"), text, "{fault:?}");
        assert!(begun.elapsed() > Duration::from_millis(40), "{fault:?} took {:?}", begun.elapsed());
    }
    proxy.set(Fault::Garbage);
    let mut stream = TcpStream::connect(proxy.address()).await.expect("it listens");
    let mut got = Vec::new();
    let _ = stream.read_to_end(&mut got).await;
    assert!(got.starts_with(b"\x00\x17garbage"), "{got:?}");
}
