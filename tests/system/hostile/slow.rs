//! Clients that hold what they have and do nothing: idle connections by the thousand, readers that never read.

use std::time::{Duration, Instant};

use matricula_harness::System;
use matricula_kit::testing::Backend;
use matricula_proto::academics::v1 as academics;
use matricula_proto::academics::v1::academic_service_client::AcademicServiceClient;
use matricula_proto::seats::v1::SetCapacityRequest;
use matricula_proto::seats::v1::seat_service_client::SeatServiceClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::wire::{self, GRPC, frame, http_get, until};
use super::{assert_calm, assert_registers, prepare};

/// What faults.md asks for, and the default limit of a port.
const IDLE_CONNECTIONS: usize = 10_000;
/// Files that this process needs beside them.
const OTHER_FILES: u64 = 1_000;
/// A connection of HTTP/2 that is open and silent: the preface and empty settings.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
/// Connections that are being opened at a time.
const AT_ONCE: usize = 8;
/// The most that an idle connection may cost, in KiB.
const KIB_PER_CONNECTION_MAX: u64 = 64;

/// A connection that has been greeted, and says nothing more.
async fn idle(address: &str) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    // Closed by a reset, so that ten thousand ports are not kept for a minute.
    stream.set_zero_linger()?;
    stream.write_all(HELLO).await?;
    stream.read_exact(&mut [0; 9]).await?;
    Ok(stream)
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_idle_connections() {
    let open_files = rlimit::increase_nofile_limit(u64::MAX).expect("the limit of open files");
    let room = usize::try_from(open_files.saturating_sub(OTHER_FILES)).unwrap_or(usize::MAX);
    let count = IDLE_CONNECTIONS.min(room);
    println!("{count} connections: {open_files} files may be open");
    let limit = count.to_string();
    let system = System::separate(Backend::Sqlite, &[("limits.connections_max", &limit)]).await;
    prepare(&system);
    let address = system.address("orchestrator").to_owned();
    let before = wire::memory_mib(&system, "orchestrator");
    // One that was there before keeps its place.
    let portal = system.channel("orchestrator").await;

    let begun = Instant::now();
    let mut opening = JoinSet::new();
    for part in 0..AT_ONCE {
        let address = address.clone();
        opening.spawn(async move {
            let mut connections = Vec::new();
            for _ in (1..count).skip(part).step_by(AT_ONCE) {
                connections.push(idle(&address).await.expect("there is room"));
            }
            connections
        });
    }
    let connections = opening.join_all().await.into_iter().flatten().collect::<Vec<_>>();
    let took = begun.elapsed();
    let after = wire::memory_mib(&system, "orchestrator");
    println!("{} connections after {took:?}: {before} MiB before, {after} MiB after", connections.len());
    let kib = (after - before) * 1024 / count as u64;
    assert!(kib <= KIB_PER_CONNECTION_MAX, "{kib} KiB a connection");

    // A client that is connected is served, and quickly; one connection too many is closed at once.
    let asked = Instant::now();
    let registration = matricula_harness::submit(&portal, matricula_harness::submission("S1", "k1", &["A"], &[])).await;
    println!("a registration took {:?}", asked.elapsed());
    assert_eq!(registration.outcome(), matricula_proto::registration::v1::Outcome::Enrolled);
    let one_too_many = tokio::time::timeout(matricula_harness::PATIENCE, idle(&address)).await;
    assert!(one_too_many.is_ok_and(|greeted| greeted.is_err()), "it is closed");
    let is_logged = |line: &String| line.contains("connections were refused") && line.contains("WARN");
    until(async || system.log("orchestrator").iter().any(is_logged).then_some(())).await;

    drop(connections);
    until(async || idle(&address).await.ok()).await;
    assert_calm(&system, "orchestrator");
    system.audit();
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_ledgers_that_never_read() {
    let system = System::up_with(&["--students", "0"], &[("limits.stall_ms", "1500")]);
    prepare(&system);
    for (role, path) in [
        ("academics", "/matricula.academics.v1.AcademicService/ExportLedger"),
        ("seats", "/matricula.seats.v1.SeatService/ExportLedger"),
        ("seats", "/matricula.seats.v1.SeatService/WatchSeats"),
        ("enrollments", "/matricula.enrollments.v1.EnrollmentService/ExportLedger"),
        ("fees", "/matricula.fees.v1.FeeService/ExportLedger"),
        ("notifications", "/matricula.notifications.v1.NotificationService/ExportLedger"),
        ("orchestrator", "/matricula.ops.v1.SagaService/ExportLedger"),
    ] {
        let client = wire::connect_deaf(&system, role).await;
        let mut answers = Vec::new();
        for _ in 0..20 {
            let (mut sending, answer) = wire::begin(&client, path, &GRPC).await;
            // One stream too many is rejected by its headers, and may be closed before this.
            let _ = sending.send_data(frame(b"").into(), true);
            answers.push(answer);
        }
        // They hold what they hold. A client that reads is served all the same, at once.
        let mut academics = AcademicServiceClient::new(system.channel("academics").await);
        let asked = Instant::now();
        academics.list_sections(academics::ListSectionsRequest::default()).await.expect("others are served");
        assert!(asked.elapsed() < Duration::from_secs(5), "{path}: a read took {:?}", asked.elapsed());
        drop(answers);
    }
    let mut academics = AcademicServiceClient::new(system.channel("academics").await);
    let mut held = Vec::new();
    let client = wire::connect_deaf(&system, "academics").await;
    for _ in 0..2 {
        let path = "/matricula.academics.v1.AcademicService/ExportLedger";
        let (mut sending, answer) = wire::begin(&client, path, &GRPC).await;
        sending.send_data(frame(b"").into(), true).expect("sent");
        held.push(answer.await.expect("headers"));
    }
    assert_registers(&system, "k1").await;
    // In the end they have lost what they held, and the next reader gets it.
    let status = until(async || academics.export_ledger(academics::ExportLedgerRequest {}).await.ok()).await;
    drop((status, held));
    assert_calm(&system, "up");
    system.audit();
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_that_never_read() {
    let system = System::up_with(&["--students", "0"], &[("limits.stall_ms", "2000")]);
    prepare(&system);
    let mut seats = SeatServiceClient::new(system.channel("seats").await);
    let client = wire::connect_deaf(&system, "orchestrator").await;
    let before = wire::memory_mib(&system, "up");
    let mut answers = Vec::new();
    for _ in 0..500 {
        let path = "/matricula.catalog.v1.CatalogService/WatchAvailability";
        let (mut sending, answer) = wire::begin(&client, path, &GRPC).await;
        sending.send_data(frame(b"").into(), true).expect("sent");
        answers.push(answer);
    }
    for capacity in 0..500 {
        let request = SetCapacityRequest { section_id: "F1".to_owned(), capacity };
        seats.set_capacity(request).await.expect("it is set");
    }
    let after = wire::memory_mib(&system, "up");
    println!("500 deaf watchers, 500 changes: {before} MiB before, {after} MiB after");
    assert!(after < before + 64, "{before} MiB before, {after} MiB after");
    // In the end each of them is ended.
    let stalled = async || {
        let text = http_get(&system.http_address("up"), "/metrics").await?;
        let count = text.lines().find_map(|line| line.strip_prefix("matricula_readers_stalled_total "))?;
        (count.parse::<f64>().ok()? >= 500.0).then_some(())
    };
    until(stalled).await;
    drop(answers);
    assert_calm(&system, "up");
    assert_registers(&system, "k1").await;
    system.audit();
}
