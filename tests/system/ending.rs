//! The end of a real process: everything that can be stuck is, and the process ends by one deadline nevertheless.

use std::io::Write as _;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use matricula_chaos::proxy::{Fault, Proxy};
use matricula_harness::{ReservedPort, System};
use matricula_kit::testing::{Backend, create_postgres};
use matricula_proto::seats::v1::SetCapacityRequest;
use matricula_proto::seats::v1::seat_service_client::SeatServiceClient;

use crate::campus::bundle;
use crate::hostile::wire::{self, GRPC, frame, http_get, until};

/// Short, so that the test is; the default is 25 s.
const GRACE_MS: u64 = 4_000;
/// What a busy machine may need more, to send the signal and to see the end.
const MARGIN: Duration = Duration::from_secs(2);
/// Far beyond the test: only a second signal ends the process before.
const GRACE_LONG_MS: &str = "300000";

/// What a pipe takes before a write to it blocks, on Linux.
const PIPE_BYTES: usize = 64 * 1024;

const LEDGER: &str = "/matricula.seats.v1.SeatService/ExportLedger";
const HOLD: &str = "/matricula.seats.v1.SeatService/HoldSeats";
const SUBMIT: &str = "/matricula.registration.v1.RegistrationService/SubmitRegistration";

/// A new database, reached through a proxy.
async fn behind_proxy() -> (Proxy, String) {
    let url = create_postgres().await;
    let (login, place) = url.split_once('@').expect("a URL with a user");
    let (address, name) = place.split_once('/').expect("a URL with a database");
    let proxy = Proxy::start(address.parse().expect("an address")).await.expect("a free port");
    let url = format!("{login}@{}/{name}?sslmode=disable", proxy.address());
    (proxy, url)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_call_a_stuck_stream_and_a_stuck_database_end_by_one_deadline() {
    let (seats_proxy, seats_url) = behind_proxy().await;
    let (log_proxy, log_url) = behind_proxy().await;
    let grace = GRACE_MS.to_string();
    let settings = [
        ("seats.database_url", seats_url.as_str()),
        ("orchestrator.database_url", log_url.as_str()),
        ("shutdown_grace_ms", grace.as_str()),
    ];
    let mut system = System::separate(Backend::Sqlite, &settings).await;
    system.import(&bundle(&[("A", 50, "T 09:00-09:50")], 2));
    // Calls whose requests never come whole, and a ledger whose reader never reads.
    let seats = wire::connect(&system, "seats").await;
    let portal = wire::connect(&system, "orchestrator").await;
    let (mut half, _hold) = wire::begin(&seats, HOLD, &GRPC).await;
    half.send_data(vec![0, 0, 0, 1].into(), false).expect("sent");
    let (mut other_half, _submit) = wire::begin(&portal, SUBMIT, &GRPC).await;
    other_half.send_data(vec![0, 0, 0, 1].into(), false).expect("sent");
    let deaf = wire::connect_deaf(&system, "seats").await;
    let (mut ledger, exporting) = wire::begin(&deaf, LEDGER, &GRPC).await;
    ledger.send_data(frame(b"").into(), true).expect("sent");
    let _exporting = exporting.await.expect("a head");
    // And a write whose database does not answer.
    seats_proxy.set(Fault::Hang);
    log_proxy.set(Fault::Hang);
    let channel = system.channel("seats").await;
    let writing = tokio::spawn(async move {
        let request = SetCapacityRequest { section_id: "A".to_owned(), capacity: 60 };
        SeatServiceClient::new(channel).set_capacity(request).await
    });
    let http = system.http_address("orchestrator");
    for role in ["orchestrator", "seats"] {
        let asked = Instant::now();
        assert_eq!(system.terminate(role), Some(0), "{role}: it ends in order");
        let took = asked.elapsed();
        println!("{role}: {took:?}");
        assert!(took < Duration::from_millis(GRACE_MS) + MARGIN, "{role}: {took:?}");
    }
    assert!(writing.await.expect("no panic").is_err(), "the caller gets an error");
    assert!(http_get(&http, "/readyz").await.is_none(), "the port is closed");
    // What was accepted is not lost: the same addresses serve again when the databases do.
    seats_proxy.set(Fault::None);
    log_proxy.set(Fault::None);
    system.restart("seats");
    system.restart("orchestrator");
    system.audit();
}

/// Neither waits for its database, nor for its deadline.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_still_starting_ends_at_once() {
    let (proxy, url) = behind_proxy().await;
    let settings = [("fees.database_url", url.as_str()), ("shutdown_grace_ms", GRACE_LONG_MS)];
    let mut up = System::up_with(&["--students", "0"], &settings);
    let mut separate = System::separate(Backend::Sqlite, &settings).await;
    for (system, name) in [(&mut up, "up"), (&mut separate, "fees")] {
        assert_eq!(system.terminate(name), Some(0), "{name}");
        // One database refuses connections, the other accepts them and is silent.
        for fault in [Fault::Refuse, Fault::Hang] {
            proxy.set(fault);
            system.relaunch(name);
            // It has tried, or has been waiting for an answer for a while.
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(!system.has_ended(name), "{name}: it waits");
            let asked = Instant::now();
            assert_eq!(system.terminate(name), Some(0), "{name}: it ends in order");
            assert!(asked.elapsed() < MARGIN, "{name}: {:?}", asked.elapsed());
            proxy.set(Fault::None);
        }
        system.restart(name);
        assert_eq!(system.terminate(name), Some(0), "{name}: it has started");
    }
}

/// A pipe without a reader blocks each thread that writes a message.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_stderr_is_stuck_ends_at_its_deadline() {
    let system = System::up();
    let (_unread, mut stderr) = std::io::pipe().expect("a pipe");
    stderr.write_all(&[b' '; PIPE_BYTES]).expect("it takes as much");
    let port = ReservedPort::any().expect("a free port");
    let mut serving = system
        .matricula()
        .args(["serve", "fees"])
        .env("MATRICULA_FEES__LISTEN", port.address().to_string())
        .env("MATRICULA_FEES__HTTP_LISTEN", "127.0.0.1:0")
        .env("MATRICULA_FEES__DATABASE_URL", "sqlite:stuck.db")
        .env("MATRICULA_WORKER_THREADS", "2")
        .env("MATRICULA_SHUTDOWN_GRACE_MS", "1000")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn()
        .expect("the binary starts");
    until(async || TcpStream::connect(port.address()).ok()).await;
    let signalled = Command::new("kill").args(["-TERM", &serving.id().to_string()]).status();
    assert!(signalled.expect("kill runs").success());
    let asked = Instant::now();
    let ended = until(async || serving.try_wait().expect("it is our child")).await;
    assert_eq!(ended.code(), Some(1), "it did not end in order");
    assert!(asked.elapsed() < Duration::from_secs(1) + MARGIN, "{:?}", asked.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_at_once() {
    let mut system = System::up_with(&["--students", "0"], &[("shutdown_grace_ms", GRACE_LONG_MS)]);
    system.import(&bundle(&[("A", 50, "T 09:00-09:50")], 2));
    let deaf = wire::connect_deaf(&system, "seats").await;
    let (mut ledger, exporting) = wire::begin(&deaf, LEDGER, &GRPC).await;
    ledger.send_data(frame(b"").into(), true).expect("sent");
    // Its head is here: the rest is stuck.
    let _exporting = exporting.await.expect("a head");
    let http = system.http_address("up");
    system.signal("up", "-TERM");
    // The probes of the process report that it ends, as long as it does.
    until(async || {
        http_get(&http, "/readyz").await.filter(|text| text.contains("503") && text.contains("shutting down"))
    })
    .await;
    let asked = Instant::now();
    assert_eq!(system.terminate("up"), Some(130));
    assert!(asked.elapsed() < MARGIN, "{:?}", asked.elapsed());
}
