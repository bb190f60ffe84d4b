//! Deliveries by the real dispatcher on both databases: once when all goes well, again when it does not, and by e-mail
//! to a server on a loopback socket.

mod mail_server;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use matricula_kit::id::{SagaId, SectionId, StepName, StudentId};
use matricula_kit::participant::{Direction, Key, Operation, Writer, WriterLimits};
use matricula_kit::telemetry::TraceContext;
use matricula_kit::testing::{self, BACKENDS, Backend, TestDatabase};

use super::*;
use crate::domain::{Contact, Outcome, RegistrationResult};
use crate::participant::Notifications;
use mail_server::MailServer;

/// Failures come back at once: what is tested is that they come back.
const DELAYS: Delays = Delays { first_ms: 1, max_ms: 5 };
/// Far beyond what any of these needs, for a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);

struct Running {
    writer: Writer<Notifications>,
    tasks: Tasks,
}

/// Writer and dispatcher, as the role starts them.
fn start(database: &Database, sink: Arc<dyn Sink>) -> Running {
    let (waker, woken) = Waker::new();
    let tasks = Tasks::new(crate::NAME);
    Dispatcher::start(database.clone(), sink, DELAYS, woken, &tasks);
    let participant = Arc::new(Notifications::new(waker));
    let (writer, _) = Writer::alone(participant, database.clone(), WriterLimits::default());
    Running { writer, tasks }
}

impl Running {
    /// Ends it as a shutdown does.
    async fn stop(self) {
        drop(self.writer);
        assert_eq!(self.tasks.join(Instant::now() + PATIENCE).await, 0, "the dispatcher ends");
    }
}

fn notify(saga: &str, student: &str) -> Operation<RegistrationResult> {
    let registration = SagaId::try_new(saga).expect("an id");
    Operation {
        key: Some(Key { saga: registration.clone(), step: StepName::try_new("notify").expect("an id") }),
        direction: Direction::Forward,
        trace: TraceContext::default(),
        owner_alive_at: None,
        command: RegistrationResult {
            registration,
            student: StudentId::try_new(student).expect("an id"),
            outcome: Outcome::Enrolled,
            added: vec![SectionId::try_new("A").expect("an id")],
            dropped: vec![],
            reasons: vec![],
            charged: None,
            is_wanted: true,
        },
    }
}

fn many(count: usize) -> Vec<Operation<RegistrationResult>> {
    (0..count).map(|n| notify(&format!("r{n:04}"), "s1")).collect()
}

async fn empty(backend: Backend) -> TestDatabase {
    testing::database(backend, &crate::SCHEMA).await
}

/// Waits until nothing waits to be delivered.
async fn drained(database: &Database) {
    let drained = async {
        while store::waiting(database).await.expect("a count") > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, drained).await.expect("everything is delivered");
}

/// Registration, whether it was delivered, failures.
async fn told(database: &Database) -> Vec<(String, bool, i64)> {
    let mut tx = database.snapshot().await.expect("a snapshot");
    let page = store::LEDGER.all(&mut tx).await.expect("read");
    let told = page.into_iter();
    told.map(|told| (told.message.registration.to_string(), told.delivered_at.is_some(), told.failures)).collect()
}

/// Counts what it takes, after refusing a number of deliveries.
struct Counting {
    refusals_left: AtomicUsize,
    taken: Mutex<BTreeMap<String, usize>>,
}

impl Counting {
    fn new(refusals: usize) -> Arc<Self> {
        Arc::new(Self { refusals_left: AtomicUsize::new(refusals), taken: Mutex::default() })
    }

    fn taken(&self) -> Vec<usize> {
        self.taken.lock().expect("not poisoned").values().copied().collect()
    }
}

#[async_trait]
impl Sink for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }

    async fn deliver(&self, claimed: &Claimed) -> Result<(), Failure> {
        let fewer = |left: usize| left.checked_sub(1);
        if self.refusals_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fewer).is_ok() {
            return Err(Failure::Unavailable("the sink is down".into()));
        }
        let registration = claimed.message.registration.to_string();
        *self.taken.lock().expect("not poisoned").entry(registration).or_default() += 1;
        Ok(())
    }
}

/// Panics at its first delivery, or when it is first asked for its name, which is outside of any delivery.
struct Panicking {
    at_delivery: AtomicUsize,
    at_name: AtomicUsize,
    inner: Arc<Counting>,
}

impl Panicking {
    fn new(at_delivery: usize, at_name: usize) -> Arc<Self> {
        let (at_delivery, at_name) = (AtomicUsize::new(at_delivery), AtomicUsize::new(at_name));
        Arc::new(Self { at_delivery, at_name, inner: Counting::new(0) })
    }
}

fn panic_while(left: &AtomicUsize) {
    let fewer = |left: usize| left.checked_sub(1);
    assert!(left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fewer).is_err(), "the sink is broken");
}

#[async_trait]
impl Sink for Panicking {
    fn name(&self) -> &'static str {
        panic_while(&self.at_name);
        self.inner.name()
    }

    async fn deliver(&self, claimed: &Claimed) -> Result<(), Failure> {
        panic_while(&self.at_delivery);
        self.inner.deliver(claimed).await
    }
}

#[tokio::test]
async fn a_sink_that_panics_stops_no_delivery() {
    for backend in BACKENDS {
        let test = empty(backend).await;
        let sink = Panicking::new(3, 0);
        let running = start(&test.database, sink.clone());
        running.writer.write(many(10)).await.expect("recorded");
        drained(&test.database).await;
        assert_eq!(sink.inner.taken(), vec![1; 10], "{backend:?}");
        running.stop().await;
    }
}

#[tokio::test]
async fn a_mailer_that_panics_is_started_again() {
    for backend in BACKENDS {
        let test = empty(backend).await;
        let sink = Panicking::new(0, 1);
        let running = start(&test.database, sink.clone());
        let mut health = running.tasks.health();
        running.writer.write(vec![notify("r1", "s1")]).await.expect("recorded");
        let down = health.wait_for(|health| !health.restarting.is_empty());
        let down = tokio::time::timeout(PATIENCE, down).await.expect("it panics").expect("it is watched").clone();
        assert_eq!(down.restarting["mailer"], "it panicked: the sink is broken");
        running.writer.write(vec![notify("r2", "s1")]).await.expect("recorded");
        let taken = async {
            while !sink.inner.taken.lock().expect("not poisoned").contains_key("r2") {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, taken).await.expect("deliveries go on");
        running.stop().await;
    }
}

#[tokio::test]
async fn a_file_gets_each_message_once() {
    for backend in BACKENDS {
        let test = empty(backend).await;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new").join("messages.jsonl");
        let running = start(&test.database, Arc::new(FileSink::try_open(&path).expect("a file")));
        for chunk in many(600).chunks(100) {
            running.writer.write(chunk.to_vec()).await.expect("committed");
        }
        drained(&test.database).await;
        running.stop().await;

        let text = std::fs::read_to_string(&path).expect("the file");
        let line = |line| serde_json::from_str::<serde_json::Value>(line).expect("a JSON object");
        let mut lines: Vec<serde_json::Value> = text.lines().map(line).collect();
        lines.sort_by_key(|line| line["registration_id"].to_string());
        assert_eq!(lines.len(), 600, "{backend:?}");
        assert_eq!(lines[599]["registration_id"], "r0599");
        assert_eq!(lines[0]["subject"], "You are enrolled in A");
        assert!(told(&test.database).await.iter().all(|(_, delivered, failures)| *delivered && *failures == 0));
    }
}

#[tokio::test]
async fn a_sink_that_recovers_gets_everything() {
    for backend in BACKENDS {
        let test = empty(backend).await;
        let sink = Counting::new(75);
        let running = start(&test.database, sink.clone());
        running.writer.write(many(50)).await.expect("recorded while the sink is down");
        drained(&test.database).await;
        running.stop().await;
        assert_eq!(sink.taken(), [1; 50], "{backend:?}");
        let failures: i64 = told(&test.database).await.iter().map(|(_, _, failures)| failures).sum();
        assert_eq!(failures, 75, "every failure is counted");
    }
}

#[tokio::test]
async fn a_backlog_is_delivered_at_start() {
    for backend in BACKENDS {
        let test = empty(backend).await;
        let down = start(&test.database, Counting::new(usize::MAX));
        down.writer.write(many(30)).await.expect("committed");
        down.stop().await;

        let sink = Counting::new(0);
        let running = start(&test.database, sink.clone());
        drained(&test.database).await;
        running.stop().await;
        assert_eq!(sink.taken(), [1; 30], "{backend:?}");
    }
}

#[tokio::test]
async fn replicas_share_the_deliveries() {
    let test = empty(Backend::Postgres).await;
    let other = Database::open(&test.url).await.expect("a second replica's database");
    let sink = Counting::new(40);
    let replicas = [start(&test.database, sink.clone()), start(&other, sink.clone())];
    for (index, chunk) in many(1_000).chunks(50).enumerate() {
        replicas[index % 2].writer.write(chunk.to_vec()).await.expect("committed");
    }
    drained(&test.database).await;
    for replica in replicas {
        replica.stop().await;
    }
    assert_eq!(sink.taken(), [1; 1_000]);
}

#[tokio::test]
async fn a_mail_server_gets_the_mail() {
    let test = empty(Backend::Sqlite).await;
    // Greylisting: each first attempt is rejected.
    let mut server = MailServer::start(1).await;
    let sink = SmtpSink::try_new(&server.url(), "Registrar <registrar@example.edu>").expect("a sink");
    let contact = Contact {
        student: StudentId::try_new("s1").expect("an id"),
        email: "ada@example.edu".to_owned(),
        name: "Ada Lovelace".to_owned(),
    };
    store::import_contacts(&test.database, 0, vec![contact], vec![]).await.expect("imported");
    let running = start(&test.database, Arc::new(sink));
    running.writer.write(vec![notify("r1", "s1"), notify("r2", "nobody")]).await.expect("committed");
    let mail = tokio::time::timeout(PATIENCE, server.next()).await.expect("a mail");
    drained(&test.database).await;
    running.stop().await;

    for expect in [
        "RCPT TO:<ada@example.edu>",
        "From: Registrar <registrar@example.edu>",
        "To: \"Ada Lovelace\" <ada@example.edu>",
        "Subject: You are enrolled in A",
        "Message-ID: <r1@example.edu>",
        "Your registration is complete.",
    ] {
        assert!(mail.contains(expect), "{expect} is not in:\n{mail}");
    }
    let expect = [("r1".to_owned(), true, 1), ("r2".to_owned(), false, 1)];
    assert_eq!(told(&test.database).await, expect, "who has no contact is not tried again");
}
