//! Bytes that are no call: wrong headers, wrong frames, messages cut short, messages that are too long. Each is
//! answered by an error or loses its connection; none of them costs other clients anything.

use matricula_harness::System;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::wire::{self, Ending, GRPC, call, frame};
use super::{assert_calm, assert_registers, prepare, rounds_and_seed};

/// The code of OUT_OF_RANGE, by which a message is rejected that is longer than the largest.
const OUT_OF_RANGE: i32 = 11;
/// Memory that the process may have taken more, in MiB, while 100 MB are sent to it again and again.
const MIB_MORE_MAX: u64 = 64;

/// A message that no server takes.
const TOO_LONG: &str = "the longest length";

/// Every way to say something wrong around a message.
fn wrong_bodies() -> Vec<(&'static str, Vec<u8>)> {
    let with_flag = |flag: u8| {
        let mut body = frame(b"\x0a\x02S1");
        body[0] = flag;
        body
    };
    let with_length = |length: u32| [&[0], length.to_be_bytes().as_slice(), b"\x0a\x02S1"].concat();
    vec![
        ("nothing", Vec::new()),
        ("half a frame's head", vec![0, 0]),
        ("a frame cut short", with_length(100)),
        ("a frame longer than it says", with_length(1)),
        ("an empty frame and more", [frame(b""), frame(b"")].concat()),
        ("compressed, it says", with_flag(1)),
        ("an unknown flag", with_flag(7)),
        (TOO_LONG, with_length(u32::MAX)),
        ("a field that never ends", frame(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f])),
        ("a number that never ends", frame(&[0x30, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01])),
        ("no UTF-8", frame(b"\x12\x02\xff\xfe")),
        ("a first part with nothing in it", frame(&[0x0a, 0])),
        ("field number 0", frame(&[0x00, 0x01])),
        ("a group without an end", frame(&[0x0b; 200])),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_call() {
    let (rounds, seed) = rounds_and_seed();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let system = System::up();
    prepare(&system);
    for rpc in super::rpcs::all() {
        let client = wire::connect(&system, rpc.role).await;
        for (what, body) in wrong_bodies() {
            let ending = call(&client, &rpc.path, &GRPC, body).await;
            // Not every message has a field that is wrong then; what counts is that there is an answer.
            assert!(ending.is_answer(), "{}: {what}: {ending:?}", rpc.path);
            // By its length alone: the server does not wait for the rest of it, or make room.
            let by_length = matches!(ending, Ending::Answered(200, Some(OUT_OF_RANGE)));
            assert_eq!(by_length, what == TOO_LONG, "{}: {what}: {ending:?}", rpc.path);
        }
        for _ in 0..rounds {
            let body: Vec<u8> = (0..rng.random_range(0..200)).map(|_| rng.random()).collect();
            let ending = call(&client, &rpc.path, &GRPC, body.clone()).await;
            assert!(ending.is_answer(), "{}: {body:02x?}: {ending:?}", rpc.path);
        }
    }
    let client = wire::connect(&system, "orchestrator").await;
    let path = "/matricula.registration.v1.RegistrationService/GetRegistration";
    for (path, headers) in [
        (path, [("content-type", "text/plain"), ("te", "trailers")]),
        (path, [("content-type", "application/grpc"), ("grpc-encoding", "gzip")]),
        (path, [("content-type", "application/grpc"), ("grpc-encoding", "nonsense")]),
        (path, [("content-type", "application/grpc"), ("grpc-timeout", "a while")]),
        (path, [("content-type", "application/grpc-web-text"), ("te", "trailers")]),
        ("/", GRPC),
        ("/matricula.registration.v1.RegistrationService/NoSuchMethod", GRPC),
        ("/no.such.Service/Method", GRPC),
    ] {
        let ending = call(&client, path, &headers, frame(b"\x0a\x02S1")).await;
        assert!(matches!(ending, Ending::Answered(..)), "{path} {headers:?}: {ending:?}");
    }
    assert_calm(&system, "up");
    assert_registers(&system, "k1").await;
    system.audit();
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_other_protocols() {
    let (rounds, seed) = rounds_and_seed();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let system = System::up_with(&["--students", "0"], &[("limits.opening_ms", "500")]);
    prepare(&system);
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut starts: Vec<Vec<u8>> = vec![
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"GET / HTTP/0.9\r\n\r\n".to_vec(),
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\n".to_vec(),
        [PREFACE, &[0xff; 100]].concat(),
        // A frame of 16 MB for stream 0, settings of nonsense, a window update of 0, a ping of 3 bytes.
        [PREFACE, &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0]].concat(),
        [PREFACE, &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff]].concat(),
        [PREFACE, &[0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0]].concat(),
        [PREFACE, &[0, 0, 3, 6, 0, 0, 0, 0, 0, 1, 2, 3]].concat(),
    ];
    for _ in 0..rounds {
        let random: Vec<u8> = (0..rng.random_range(1..300)).map(|_| rng.random()).collect();
        starts.push([PREFACE, &random].concat());
        starts.push(random);
    }
    for role in ["orchestrator", "seats"] {
        for start in &starts {
            let mut stream = TcpStream::connect(system.address(role)).await.expect("the role listens");
            // The server may hang up in the middle of it.
            let _ = stream.write_all(start).await;
            let _ = stream.shutdown().await;
            let mut rest = Vec::new();
            let closed = timeout(matricula_harness::PATIENCE, stream.read_to_end(&mut rest)).await;
            assert!(closed.is_ok(), "{role}: still open after {start:02x?}");
        }
    }
    assert_calm(&system, "up");
    assert_registers(&system, "k1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_100_mb() {
    let system = System::up();
    prepare(&system);
    let before = wire::memory_mib(&system, "up");
    for rpc in super::rpcs::all() {
        let client = wire::connect(&system, rpc.role).await;
        let (mut sending, answer) = wire::begin(&client, &rpc.path, &GRPC).await;
        // As much as is taken of 100 MB: the refusal comes long before their end.
        let flood = async {
            let head = [&[0], (100_u32 << 20).to_be_bytes().as_slice()].concat();
            let mut chunk = bytes::Bytes::from(head);
            for _ in 0..100 * 64 {
                sending.reserve_capacity(chunk.len());
                match std::future::poll_fn(|cx| sending.poll_capacity(cx)).await {
                    Some(Ok(capacity)) if capacity > 0 => {
                        let part = chunk.split_to(capacity.min(chunk.len()));
                        if sending.send_data(part, false).is_err() {
                            return;
                        }
                    }
                    _ => return,
                }
                if chunk.is_empty() {
                    chunk = vec![0x0a; 16 * 1024].into();
                }
            }
        };
        let (ending, ()) = tokio::join!(wire::ending(answer), flood);
        assert!(matches!(ending, Ending::Answered(200, Some(OUT_OF_RANGE))), "{}: {ending:?}", rpc.path);
    }
    let after = wire::memory_mib(&system, "up");
    println!("{before} MiB before, {after} MiB after");
    assert!(after < before + MIB_MORE_MAX, "{before} MiB before, {after} MiB after");
    assert_registers(&system, "k1").await;
}
