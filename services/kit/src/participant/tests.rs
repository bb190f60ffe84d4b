//! The write path and its barrier, with the smallest participant there is: counters that go up and, undone, down again.

mod barrier;
mod faults;
mod purge;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures::future::join_all;
use tonic_types::StatusExt as _;

use super::*;
use crate::answer::{NotYet, Reason, Refusal};
use crate::database::{Args, Database, Migrator, Rows, Schema};
use crate::testing::{self, BACKENDS, Backend, TestDatabase};

#[derive(Debug, Clone)]
struct Command {
    counter: &'static str,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum What {
    /// One more; its undo is one less.
    Count,
    Refuse,
    /// Nothing undoes it: its undo is refused once it is done.
    Keep,
    NotYet,
    /// The database refuses what is written of it.
    Break,
    /// What is written of it is always there before.
    Collide,
    /// Deciding it panics.
    Panic,
    /// The database refuses it at the commit, and not before.
    Dangle,
    /// It needs more space than there may be.
    Fill,
}

#[derive(Default)]
struct Counters {
    commits: AtomicUsize,
    decisions: AtomicUsize,
    committed: Mutex<Vec<i64>>,
    /// What the writer has told beside commits.
    told: Mutex<Vec<&'static str>>,
}

#[derive(Default)]
struct World {
    decisions: usize,
    values: BTreeMap<String, i64>,
    also: Vec<&'static str>,
}

const LOCK: &str = "SELECT c.name, c.value FROM {rows} JOIN counters c ON c.name = r.name ORDER BY c.name {for_update}";
const WRITE: &str = "UPDATE counters SET value = r.value FROM {rows} WHERE counters.name = r.name";
const BREAK: &str = "UPDATE counters SET value = -1 WHERE name = 'a'";
const DANGLE: &str = "INSERT INTO leaves (branch) VALUES ('none')";
const FILL: &str = "INSERT INTO leaves (ballast) VALUES (zeroblob(1000000))";
const COLLIDE: &str = "INSERT INTO counters (name, value) VALUES ('a', 0)";

#[async_trait]
impl Participant for Counters {
    type Command = Command;
    type World = World;

    const NAME: &'static str = "counters";

    async fn load(&self, tx: &mut Tx, operations: &[Operation<Command>], _: Reading) -> Result<World, DbError> {
        self.commits.fetch_add(1, Ordering::SeqCst);
        let mut world = World::default();
        let names = Rows::new().text("name", operations.iter().map(|operation| operation.command.counter));
        for row in tx.fetch(LOCK, names.into()).await? {
            world.values.insert(row.text("name")?, row.int("value")?);
        }
        Ok(world)
    }

    fn decide(&self, world: &mut World, operation: &Operation<Command>, _: UnixMs) -> Answer {
        world.decisions += 1;
        let Command { counter, what } = &operation.command;
        let value = world.values.get_mut(*counter).expect("what may pass is loaded");
        match (what, operation.direction) {
            (What::Refuse, _) | (What::Keep, Direction::Compensation) => {
                return Answer::Refused(vec![Refusal::whole(Reason::Hold, "no", "wait")]);
            }
            (What::NotYet, _) => {
                let (reason, message) = ("BUSY".to_owned(), "later".to_owned());
                return Answer::NotYet(NotYet { reason, message, retry_after_ms: 1, waits_for: None });
            }
            (What::Break, _) => world.also.push(BREAK),
            (What::Collide, _) => world.also.push(COLLIDE),
            (What::Dangle, _) => world.also.push(DANGLE),
            (What::Fill, _) => world.also.push(FILL),
            (What::Panic, _) => panic!("an operation that can't be decided"),
            (What::Count | What::Keep, Direction::Forward) => *value += 1,
            (What::Count, Direction::Compensation) => *value -= 1,
        }
        Answer::done()
    }

    fn write(&self, tx: &mut Tx, world: &World, _: UnixMs) -> Result<(), DbError> {
        for statement in &world.also {
            tx.send(statement, Args::new());
        }
        let rows = Rows::new().text("name", world.values.keys()).int("value", world.values.values().copied());
        tx.send(WRITE, rows.into());
        Ok(())
    }

    fn committed(&self, world: World, _: UnixMs) {
        self.decisions.fetch_add(world.decisions, Ordering::SeqCst);
        self.committed.lock().expect("not poisoned").extend(world.values.get("a"));
    }

    fn not_committed(&self) {
        self.told.lock().expect("not poisoned").push("not committed");
    }

    fn in_doubt(&self) {
        self.told.lock().expect("not poisoned").push("in doubt");
    }

    fn settled(&self) {
        self.told.lock().expect("not poisoned").push("settled");
    }
}

struct Service {
    writer: Writer<Counters>,
    counters: Arc<Counters>,
    test: TestDatabase,
}

impl Service {
    async fn new(backend: Backend) -> Self {
        Self::limited(backend, WriterLimits::default()).await
    }

    async fn limited(backend: Backend, limits: WriterLimits) -> Self {
        let test = testing::database(backend, &Schema::participant(&Migrator::DEFAULT, &[])).await;
        let table = "CREATE TABLE counters (name TEXT PRIMARY KEY, value BIGINT NOT NULL CHECK (value >= 0))";
        let mut tx = test.database.begin().await.expect("begins");
        tx.execute(table, Args::new()).await.expect("created");
        let ballast = if backend == Backend::Sqlite { "BLOB" } else { "BYTEA" };
        let table = format!(
            "CREATE TABLE leaves (branch TEXT REFERENCES counters DEFERRABLE INITIALLY DEFERRED, ballast {ballast})"
        );
        tx.execute(table.leak(), Args::new()).await.expect("created");
        let names = Rows::new().text("name", ["a", "b", "c"]);
        tx.execute("INSERT INTO counters SELECT name, 0 FROM {rows}", names.into()).await.expect("inserted");
        tx.commit().await.expect("committed");
        let counters = Arc::new(Counters::default());
        let writer = Writer::alone(counters.clone(), test.database.clone(), limits).0;
        Self { writer, counters, test }
    }

    async fn value(&self, counter: &str) -> i64 {
        let rows = self.test.database.fetch("SELECT value FROM counters WHERE name = $1", Args::new().text(counter));
        rows.await.expect("read")[0].int("value").expect("a number")
    }

    /// The barrier row of a saga: "answered", "answered undone", "tombstone" or "none".
    async fn record(&self, saga: &SagaId) -> &'static str {
        let sql = "SELECT answer, undone FROM barrier WHERE saga_id = $1 AND step = 'count'";
        let rows = self.test.database.fetch(sql, Args::new().id(saga.as_str())).await.expect("read");
        let row =
            rows.first().map(|row| (row.opt_text("answer").expect("it").is_some(), row.int("undone").expect("it")));
        match row {
            None => "none",
            Some((true, 0)) => "answered",
            Some((true, _)) => "answered undone",
            Some((false, _)) => "tombstone",
        }
    }
}

fn operation(saga: &SagaId, direction: Direction, what: What) -> Operation<Command> {
    on("a", saga, direction, what)
}

fn on(counter: &'static str, saga: &SagaId, direction: Direction, what: What) -> Operation<Command> {
    let key = Key { saga: saga.clone(), step: StepName::try_new("count").expect("a valid name") };
    Operation {
        key: Some(key),
        direction,
        trace: TraceContext::default(),
        owner_alive_at: None,
        command: Command { counter, what },
    }
}

fn shown(answer: &Answer) -> &'static str {
    match answer {
        Answer::Done(_) => "done",
        Answer::Refused(reasons) => reasons[0].reason.name(),
        Answer::NotYet(_) => "not yet",
    }
}

async fn written(writer: &Writer<Counters>, operation: Operation<Command>) -> &'static str {
    match writer.write(vec![operation]).await {
        Ok(answers) => shown(&answers[0]),
        Err(WriteError::QueueFull) => "queue full",
        Err(WriteError::ShuttingDown) => "shutting down",
        Err(WriteError::NotCommitted(_)) => "not known",
        Err(WriteError::Panicked) => "panicked",
    }
}

#[tokio::test]
async fn what_waits_becomes_one_commit_and_everyone_gets_their_own_answers() {
    for backend in BACKENDS {
        let service = Service::new(backend).await;
        // Requests of 1, 2, 3, ... operations, of which every third is refused.
        let sizes: Vec<usize> = (1..=20).collect();
        let requests = sizes.iter().map(|size| {
            let what = |index: usize| if index.is_multiple_of(3) { What::Refuse } else { What::Count };
            let operations =
                (0..*size).map(|index| operation(&SagaId::generate(), Direction::Forward, what(index + size)));
            service.writer.write(operations.collect())
        });
        let answers = join_all(requests).await;
        let mut done = 0;
        for (size, answers) in sizes.iter().zip(answers) {
            let answers = answers.expect("committed");
            let expected = (0..*size).map(|index| if (index + size).is_multiple_of(3) { "HOLD" } else { "done" });
            assert_eq!(answers.iter().map(shown).collect::<Vec<_>>(), expected.collect::<Vec<_>>());
            done += answers.iter().filter(|answer| matches!(answer, Answer::Done(_))).count();
        }
        assert_eq!(service.value("a").await, done as i64);
        assert_eq!(service.counters.commits.load(Ordering::SeqCst), 1, "all came while nothing was committed yet");
        assert_eq!(*service.counters.committed.lock().expect("not poisoned"), [done as i64], "published once");
        assert!(service.writer.write(Vec::new()).await.expect("nothing to do").is_empty());
    }
}

#[tokio::test]
async fn a_batch_has_a_limit() {
    let limits = WriterLimits { operations_in_batch_max: 10, ..WriterLimits::default() };
    let service = Service::limited(Backend::Sqlite, limits).await;
    let sagas: Vec<SagaId> = (0..95).map(|_| SagaId::generate()).collect();
    join_all(sagas.iter().map(|saga| written(&service.writer, operation(saga, Direction::Forward, What::Count)))).await;
    assert_eq!((service.value("a").await, service.counters.commits.load(Ordering::SeqCst)), (95, 10));
}

#[tokio::test]
async fn a_full_queue_says_so_at_once() {
    let limits = WriterLimits { requests_waiting_max: 3, ..WriterLimits::default() };
    let service = Service::limited(Backend::Sqlite, limits).await;
    let sagas: Vec<SagaId> = (0..5).map(|_| SagaId::generate()).collect();
    let requests =
        || sagas.iter().map(|saga| written(&service.writer, operation(saga, Direction::Forward, What::Count)));
    assert_eq!(join_all(requests()).await, ["done", "done", "done", "queue full", "queue full"]);
    // The same requests later: those that are done are answered again, the others had not been touched.
    let (first, rest) = sagas.split_at(3);
    for saga in first.iter().chain(rest) {
        assert_eq!(written(&service.writer, operation(saga, Direction::Forward, What::Count)).await, "done");
    }
    assert_eq!(service.value("a").await, 5);
}

#[tokio::test]
async fn who_has_gone_is_not_written_for() {
    let service = Service::new(Backend::Sqlite).await;
    let [gone, stays] = [(); 2].map(|()| SagaId::generate());
    let mut waiting = Box::pin(service.writer.write(vec![operation(&gone, Direction::Forward, What::Count)]));
    assert!(futures::poll!(&mut waiting).is_pending(), "it is in the queue");
    drop(waiting);
    assert_eq!(written(&service.writer, operation(&stays, Direction::Forward, What::Count)).await, "done");
    assert_eq!((service.record(&gone).await, service.value("a").await), ("none", 1));
}

#[tokio::test]
async fn the_last_handle_lets_the_writer_finish_and_end() {
    let service = Service::new(Backend::Sqlite).await;
    let (writer, task) =
        Writer::alone(service.counters.clone(), service.test.database.clone(), WriterLimits::default());
    let saga = SagaId::generate();
    let mut waiting = Box::pin({
        let (writer, operation) = (writer.clone(), operation(&saga, Direction::Forward, What::Count));
        async move { written(&writer, operation).await }
    });
    assert!(futures::poll!(&mut waiting).is_pending(), "it is in the queue");
    drop(writer);
    assert_eq!(waiting.await, "done");
    task.await.expect("it ends by itself");
}

/// Nobody takes a command for done that was refused or put off.
#[tokio::test]
async fn a_staff_command_is_done_or_an_error() {
    let service = Service::new(Backend::Sqlite).await;
    let staff = |what: What| service.writer.write_staff(Command { counter: "a", what });
    staff(What::Count).await.expect("it is done");
    let refused = staff(What::Refuse).await.expect_err("it is refused");
    assert!(matches!(&refused, StaffError::Refused(reasons) if reasons.len() == 1), "{refused:?}");
    let Err(StaffError::NotYet(not_yet)) = staff(What::NotYet).await else { panic!("it is put off") };
    let status = tonic::Status::from(not_yet);
    assert_eq!((status.code(), status.message()), (tonic::Code::Aborted, "not done: later"));
    assert!(status.get_details_retry_info().is_some(), "it says when to come back");
    let broken = staff(What::Break).await.expect_err("the database refuses it");
    assert!(matches!(broken, StaffError::Write(_)), "{broken:?}");
    assert_eq!(service.value("a").await, 1);
}
