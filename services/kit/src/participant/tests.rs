//! The write path and its barrier, with the smallest participant there is: counters that go up and, undone, down again.

mod forget;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;

use super::*;
use crate::answer::{NotYet, Reason, Refusal};
use crate::database::{Args, Database, Migrator, Rows};
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

    async fn load(&self, tx: &mut Tx, operations: &[Operation<Command>]) -> Result<World, DbError> {
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
        match (what, operation.leg) {
            (What::Refuse, _) | (What::Keep, Leg::Undo) => {
                return Answer::Refused(vec![Refusal::whole(Reason::Hold, "no", "wait")]);
            }
            (What::NotYet, _) => {
                let (reason, message) = ("BUSY".to_owned(), "later".to_owned());
                return Answer::NotYet(NotYet { reason, message, retry_after_ms: 1 });
            }
            (What::Break, _) => world.also.push(BREAK),
            (What::Collide, _) => world.also.push(COLLIDE),
            (What::Dangle, _) => world.also.push(DANGLE),
            (What::Fill, _) => world.also.push(FILL),
            (What::Panic, _) => panic!("an operation that can't be decided"),
            (What::Count | What::Keep, Leg::Action) => *value += 1,
            (What::Count, Leg::Undo) => *value -= 1,
        }
        Answer::done()
    }

    fn write(&self, tx: &mut Tx, world: &World, _: UnixMs) -> Result<(), DbError> {
        for statement in &world.also {
            tx.post(statement, Args::new());
        }
        let rows = Rows::new().text("name", world.values.keys()).int("value", world.values.values().copied());
        tx.post(WRITE, rows.into());
        Ok(())
    }

    fn committed(&self, world: World, _: UnixMs) {
        self.decisions.fetch_add(world.decisions, Ordering::SeqCst);
        self.committed.lock().expect("not poisoned").extend(world.values.get("a"));
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
        let test = testing::database(backend, &Migrator::DEFAULT).await;
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
        let writer = Writer::start(counters.clone(), test.database.clone(), limits).0;
        Self { writer, counters, test }
    }

    async fn value(&self, counter: &str) -> i64 {
        let rows = self.test.database.fetch("SELECT value FROM counters WHERE name = $1", Args::new().text(counter));
        rows.await.expect("read")[0].int("value").expect("a number")
    }

    /// The barrier row of a saga: "answered", "answered undone", "tombstone" or "none".
    async fn record(&self, saga: &SagaId) -> &'static str {
        let sql = "SELECT answer, undone FROM barrier WHERE saga_id = $1 AND step = 'count'";
        let rows = self.test.database.fetch(sql, Args::new().text(saga.as_str())).await.expect("read");
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

fn operation(saga: &SagaId, leg: Leg, what: What) -> Operation<Command> {
    on("a", saga, leg, what)
}

fn on(counter: &'static str, saga: &SagaId, leg: Leg, what: What) -> Operation<Command> {
    let key = Key { saga: saga.clone(), step: StepName::try_new("count").expect("a valid name") };
    Operation {
        key: Some(key),
        leg,
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

/// The table of the barrier: what came before, what comes in, what is answered, whether the domain was asked in what was
/// committed, and what is on record then.
#[tokio::test]
async fn the_verdict_table_row_by_row() {
    use Leg::{Action, Undo};
    use What::{Count, Keep, NotYet, Refuse};
    for backend in BACKENDS {
        let service = Service::new(backend).await;
        let check = async |before: &[(Leg, What)], comes: (Leg, What), expect: (&str, usize, &str)| {
            let saga = SagaId::generate();
            for (leg, what) in before {
                written(&service.writer, operation(&saga, *leg, *what)).await;
            }
            let decided = service.counters.decisions.load(Ordering::SeqCst);
            let answer = written(&service.writer, operation(&saga, comes.0, comes.1)).await;
            let asked = service.counters.decisions.load(Ordering::SeqCst) - decided;
            let seen = (answer, asked, service.record(&saga).await);
            assert_eq!(seen, expect, "{backend:?}: {before:?}, then {comes:?}");
        };
        // Nothing on record.
        check(&[], (Action, Count), ("done", 1, "answered")).await;
        check(&[], (Action, Refuse), ("HOLD", 1, "answered")).await;
        check(&[], (Action, NotYet), ("not yet", 1, "none")).await;
        check(&[], (Undo, Count), ("done", 0, "tombstone")).await;
        // Answered. What the caller sends now does not matter.
        check(&[(Action, Count)], (Action, Refuse), ("done", 0, "answered")).await;
        check(&[(Action, Refuse)], (Action, Count), ("HOLD", 0, "answered")).await;
        check(&[(Action, Count)], (Action, NotYet), ("done", 0, "answered")).await;
        check(&[(Action, Refuse)], (Action, NotYet), ("HOLD", 0, "answered")).await;
        check(&[(Action, Count)], (Undo, Count), ("done", 1, "answered undone")).await;
        check(&[(Action, Refuse)], (Undo, Count), ("done", 0, "answered undone")).await;
        // What nothing undoes stays done, however often that is asked.
        check(&[(Action, Keep)], (Undo, Keep), ("HOLD", 1, "answered")).await;
        check(&[(Action, Keep), (Undo, Keep)], (Undo, Keep), ("HOLD", 1, "answered")).await;
        check(&[(Action, Keep), (Undo, Keep)], (Action, Keep), ("done", 0, "answered")).await;
        check(&[], (Undo, Keep), ("done", 0, "tombstone")).await;
        // Not decided is not on record: it is asked again.
        check(&[(Action, NotYet)], (Action, Count), ("done", 1, "answered")).await;
        check(&[(Action, NotYet)], (Undo, Count), ("done", 0, "tombstone")).await;
        // Answered, then undone.
        check(&[(Action, Count), (Undo, Count)], (Action, Count), ("done", 0, "answered undone")).await;
        check(&[(Action, Refuse), (Undo, Count)], (Action, Count), ("HOLD", 0, "answered undone")).await;
        check(&[(Action, Count), (Undo, Count)], (Undo, Count), ("done", 0, "answered undone")).await;
        // A tombstone.
        check(&[(Undo, Count)], (Action, Count), ("REGISTRATION_CANCELLED", 0, "tombstone")).await;
        check(&[(Undo, Count)], (Action, NotYet), ("REGISTRATION_CANCELLED", 0, "tombstone")).await;
        check(&[(Undo, Count)], (Undo, Count), ("done", 0, "tombstone")).await;
    }
}

#[tokio::test]
async fn every_order_ends_in_the_same_state() {
    for backend in BACKENDS {
        let service = Service::new(backend).await;
        let step =
            |saga: SagaId| (operation(&saga, Leg::Action, What::Count), operation(&saga, Leg::Undo, What::Count));
        testing::barrier_holds(&service.writer, step, async || service.value("a").await.to_string()).await;
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
            let operations = (0..*size).map(|index| operation(&SagaId::generate(), Leg::Action, what(index + size)));
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

/// Whatever a repeat asks for now, it is answered from the record, and those that it came with are done once.
#[tokio::test]
async fn a_repeat_spoils_nothing_of_the_new_ones_it_comes_with() {
    for backend in BACKENDS {
        for again in [What::Count, What::Refuse, What::NotYet, What::Break] {
            let service = Service::new(backend).await;
            let repeated = SagaId::generate();
            assert_eq!(written(&service.writer, operation(&repeated, Leg::Action, What::Count)).await, "done");
            let new = |what| operation(&SagaId::generate(), Leg::Action, what);
            let batch =
                vec![new(What::Count), operation(&repeated, Leg::Action, again), new(What::NotYet), new(What::Count)];
            let answers = service.writer.write(batch).await.expect("committed");
            let shown: Vec<&str> = answers.iter().map(shown).collect();
            assert_eq!(shown, ["done", "done", "not yet", "done"], "{backend:?}");
            assert_eq!(service.value("a").await, 3, "{backend:?}");
            assert_eq!(*service.counters.committed.lock().expect("not poisoned"), [1, 3], "{backend:?}");
        }
    }
}

#[tokio::test]
async fn a_batch_has_a_limit() {
    let limits = WriterLimits { operations_in_batch_max: 10, ..WriterLimits::default() };
    let service = Service::limited(Backend::Sqlite, limits).await;
    let sagas: Vec<SagaId> = (0..95).map(|_| SagaId::generate()).collect();
    join_all(sagas.iter().map(|saga| written(&service.writer, operation(saga, Leg::Action, What::Count)))).await;
    assert_eq!((service.value("a").await, service.counters.commits.load(Ordering::SeqCst)), (95, 10));
}

/// What the database never takes fails alone, whatever it is batched with; and it fails again when it comes again.
#[tokio::test]
async fn one_bad_request_keeps_nobody_out() {
    for backend in BACKENDS {
        for bad in [What::Break, What::Collide] {
            let service = Service::new(backend).await;
            let whats = [What::Count, bad, What::Count, What::Refuse, What::Count];
            let sagas: Vec<SagaId> = whats.iter().map(|_| SagaId::generate()).collect();
            for _ in 0..2 {
                let requests = whats.iter().zip(&sagas);
                let requests =
                    requests.map(|(what, saga)| written(&service.writer, operation(saga, Leg::Action, *what)));
                let answers = join_all(requests).await;
                assert_eq!(answers, ["done", "not known", "done", "HOLD", "done"], "{backend:?} {bad:?}");
            }
            assert_eq!(service.value("a").await, 3);
            assert_eq!(service.record(&sagas[1]).await, "none", "what is not committed is not on record");
            let published = service.counters.committed.lock().expect("not poisoned").iter().copied().max();
            assert_eq!(published, Some(3), "what is not committed is not published");
        }
    }
}

/// The same within one request: those beside it are done and have their answers, and it is to be sent again.
#[tokio::test]
async fn one_bad_operation_keeps_no_other_of_its_request_out() {
    for backend in BACKENDS {
        for bad in [What::Break, What::Collide, What::Dangle, What::Panic] {
            let service = Service::new(backend).await;
            let sagas: Vec<SagaId> = (0..50).map(|_| SagaId::generate()).collect();
            let what = |index: usize| if index == 33 { bad } else { What::Count };
            let operations = sagas.iter().enumerate();
            let operations: Vec<_> =
                operations.map(|(index, saga)| operation(saga, Leg::Action, what(index))).collect();
            for _ in 0..2 {
                let answers = service.writer.write(operations.clone()).await.expect("answered");
                let seen: Vec<&str> = answers.iter().map(shown).collect();
                let expected = (0..50).map(|index| if index == 33 { "not yet" } else { "done" });
                assert_eq!(seen, expected.collect::<Vec<_>>(), "{backend:?} {bad:?}");
            }
            assert_eq!(service.value("a").await, 49, "{backend:?} {bad:?}");
            assert_eq!(service.record(&sagas[33]).await, "none");
            // Alone it is an error, and the writer goes on.
            let alone = written(&service.writer, operations[33].clone()).await;
            assert!(["not known", "panicked"].contains(&alone), "{alone}");
            assert_eq!(written(&service.writer, operation(&sagas[33], Leg::Action, What::Count)).await, "done");
        }
    }
}

/// When everything fails, the fault is not an operation's: the callers hear an error, and the search has a bound.
#[tokio::test]
async fn a_database_that_refuses_everything_is_not_asked_for_each_operation() {
    let service = Service::new(Backend::Sqlite).await;
    let operations = (0..1_000).map(|_| operation(&SagaId::generate(), Leg::Action, What::Break)).collect();
    assert!(matches!(service.writer.write(operations).await, Err(WriteError::NotCommitted(_))));
    let commits = service.counters.commits.load(Ordering::SeqCst);
    assert!(commits < 300, "{commits}");
}

/// What may have been committed and is not published is told, and told again when it is decided, though nothing else is
/// written.
#[tokio::test]
async fn a_commit_in_doubt_is_told_and_settled() {
    for backend in BACKENDS {
        let service = Service::new(backend).await;
        let told = || service.counters.told.lock().expect("not poisoned").clone();
        let failed = written(&service.writer, operation(&SagaId::generate(), Leg::Action, What::Break)).await;
        assert_eq!((failed, told()), ("not known", vec![]), "{backend:?}: it failed before the commit");
        let failed = written(&service.writer, operation(&SagaId::generate(), Leg::Action, What::Dangle)).await;
        assert_eq!(failed, "not known", "{backend:?}");
        let settled = async {
            while told() != ["in doubt", "settled"] {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), settled)
            .await
            .unwrap_or_else(|_| panic!("{backend:?}: {:?}", told()));
    }
}

/// The answer to a commit is lost, twice in a row: the caller hears "not known", asks again, and it was done once.
#[tokio::test]
async fn a_commit_whose_answer_is_lost_has_one_effect() {
    let service = Service::new(Backend::Postgres).await;
    let proxy = testing::Proxy::before(&service.test.url).await;
    let database = Database::open(proxy.url()).await.expect("a way through the proxy");
    let counters = Arc::new(Counters::default());
    let writer = Writer::start(counters.clone(), database, WriterLimits::default()).0;
    let saga = SagaId::generate();
    proxy.lose_answers_of_commits(2);
    let mut answers = Vec::new();
    while answers.last() != Some(&"done") {
        answers.push(written(&writer, operation(&saga, Leg::Action, What::Count)).await);
        // What another caller reads meanwhile is the truth already.
        assert_eq!((service.value("a").await, service.record(&saga).await), (1, "answered"), "{answers:?}");
    }
    assert_eq!(answers, ["not known", "not known", "done"]);
    let told = counters.told.lock().expect("not poisoned").clone();
    assert_eq!((told.iter().filter(|word| **word == "in doubt").count(), told.last()), (2, Some(&"settled")));
}

/// The way to the database is gone and nobody says so, in the middle of a commit or before a batch: what hangs is given
/// up, and the next batch takes another way.
#[tokio::test]
async fn a_connection_that_hangs_is_given_up() {
    let service = Service::new(Backend::Postgres).await;
    let proxy = testing::Proxy::before(&service.test.url).await;
    let database = Database::open(proxy.url()).await.expect("a way through the proxy");
    let limits = WriterLimits { answer_timeout: Duration::from_secs(1), ..WriterLimits::default() };
    let writer = Writer::start(Arc::new(Counters::default()), database, limits).0;
    let hanging = async {
        proxy.hang_at_commit();
        let [cut, next, last] = [(); 3].map(|()| SagaId::generate());
        assert_eq!(written(&writer, operation(&cut, Leg::Action, What::Count)).await, "not known");
        while written(&writer, on("b", &next, Leg::Action, What::Count)).await != "done" {}
        proxy.hang();
        while written(&writer, on("b", &last, Leg::Action, What::Count)).await != "done" {}
        // What never reached the server was not done; it is when it comes again.
        while written(&writer, operation(&cut, Leg::Action, What::Count)).await != "done" {}
    };
    tokio::time::timeout(Duration::from_secs(40), hanging).await.expect("it finds another way");
    assert_eq!((service.value("a").await, service.value("b").await), (1, 2));
}

/// SQLite rolls back by itself when the disk is full. It is said so, and the writer works on when there is space.
#[tokio::test]
async fn a_full_disk_is_told_and_left_behind() {
    let service = Service::new(Backend::Sqlite).await;
    let mut tx = service.test.database.begin().await.expect("begins");
    tx.fetch("PRAGMA max_page_count = 40", Args::new()).await.expect("a bound of the size");
    tx.commit().await.expect("committed");
    let full = service.writer.write(vec![operation(&SagaId::generate(), Leg::Action, What::Fill)]).await;
    let full = full.expect_err("there is no space");
    assert!(matches!(&full, WriteError::NotCommitted(error) if matches!(**error, DbError::Full(_))), "{full:?}");
    let status = tonic::Status::from(full);
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    // What needs no more space is done, at once; and what did, when there is some.
    assert_eq!(written(&service.writer, operation(&SagaId::generate(), Leg::Action, What::Count)).await, "done");
    let mut tx = service.test.database.begin().await.expect("begins");
    tx.fetch("PRAGMA max_page_count = 40000", Args::new()).await.expect("a bound of the size");
    tx.commit().await.expect("committed");
    assert_eq!(written(&service.writer, operation(&SagaId::generate(), Leg::Action, What::Fill)).await, "done");
}

#[tokio::test]
async fn a_record_that_cannot_be_read_stops_only_its_own_saga() {
    for backend in BACKENDS {
        let service = Service::new(backend).await;
        let [bad, good] = [(); 2].map(|()| SagaId::generate());
        let mut tx = service.test.database.begin().await.expect("begins");
        let sql =
            "INSERT INTO barrier (saga_id, step, answer, undone, recorded_at) VALUES ($1, 'count', 'garbage', 0, 0)";
        tx.execute(sql, Args::new().text(bad.as_str())).await.expect("inserted");
        tx.commit().await.expect("committed");
        let sagas = [&bad, &good];
        let answers = sagas.map(|saga| written(&service.writer, operation(saga, Leg::Action, What::Count)));
        assert_eq!(join_all(answers).await, ["not known", "done"]);
    }
}

#[tokio::test]
async fn a_full_queue_says_so_at_once() {
    let limits = WriterLimits { requests_waiting_max: 3, ..WriterLimits::default() };
    let service = Service::limited(Backend::Sqlite, limits).await;
    let sagas: Vec<SagaId> = (0..5).map(|_| SagaId::generate()).collect();
    let requests = || sagas.iter().map(|saga| written(&service.writer, operation(saga, Leg::Action, What::Count)));
    assert_eq!(join_all(requests()).await, ["done", "done", "done", "queue full", "queue full"]);
    // The same requests later: those that are done are answered again, the others had not been touched.
    let (first, rest) = sagas.split_at(3);
    for saga in first.iter().chain(rest) {
        assert_eq!(written(&service.writer, operation(saga, Leg::Action, What::Count)).await, "done");
    }
    assert_eq!(service.value("a").await, 5);
}

#[tokio::test]
async fn who_has_gone_is_not_written_for() {
    let service = Service::new(Backend::Sqlite).await;
    let [gone, stays] = [(); 2].map(|()| SagaId::generate());
    let mut waiting = Box::pin(service.writer.write(vec![operation(&gone, Leg::Action, What::Count)]));
    assert!(futures::poll!(&mut waiting).is_pending(), "it is in the queue");
    drop(waiting);
    assert_eq!(written(&service.writer, operation(&stays, Leg::Action, What::Count)).await, "done");
    assert_eq!((service.record(&gone).await, service.value("a").await), ("none", 1));
}

#[tokio::test]
async fn the_last_handle_lets_the_writer_finish_and_end() {
    let service = Service::new(Backend::Sqlite).await;
    let (writer, task) =
        Writer::start(service.counters.clone(), service.test.database.clone(), WriterLimits::default());
    let saga = SagaId::generate();
    let mut waiting = Box::pin({
        let (writer, operation) = (writer.clone(), operation(&saga, Leg::Action, What::Count));
        async move { written(&writer, operation).await }
    });
    assert!(futures::poll!(&mut waiting).is_pending(), "it is in the queue");
    drop(writer);
    assert_eq!(waiting.await, "done");
    task.await.expect("it ends by itself");
}

#[tokio::test]
async fn staff_operations_have_no_barrier() {
    let service = Service::new(Backend::Sqlite).await;
    for _ in 0..3 {
        let operation = Operation::staff(Command { counter: "a", what: What::Count });
        assert_eq!(written(&service.writer, operation).await, "done");
    }
    assert_eq!(service.value("a").await, 3);
}

/// Two replicas hear every operation, at the same moment, in batches whose rows and keys cross: one effect each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_with_the_same_keys_have_one_effect() {
    let service = Service::new(Backend::Postgres).await;
    let second = Database::open(&service.test.url).await.expect("a second replica");
    let other = Writer::start(Arc::new(Counters::default()), second, WriterLimits::default()).0;
    let names = ["a", "b", "c"];
    let undone = AtomicI64::new(0);
    let sagas: Vec<(usize, SagaId)> = (0..300).map(|index| (index, SagaId::generate())).collect();
    let requests = sagas.iter().map(|(index, saga)| {
        let action = on(names[index % 3], saga, Leg::Action, What::Count);
        let undo = on(names[index % 3], saga, Leg::Undo, What::Count);
        let (one, two) = (service.writer.clone(), other.clone());
        let undone = &undone;
        async move {
            let both = (sure(&one, action.clone()), sure(&two, action));
            let both = futures::join!(both.0, both.1);
            assert_eq!(both.0, both.1, "both replicas give the same answer");
            if index.is_multiple_of(4) {
                undone.fetch_add(1, Ordering::SeqCst);
                assert_eq!(futures::join!(sure(&two, undo.clone()), sure(&one, undo)), ("done", "done"));
            }
        }
    });
    join_all(requests).await;
    let mut total = 0;
    for name in names {
        total += service.value(name).await;
    }
    assert_eq!(total, 300 - undone.load(Ordering::SeqCst));
}

/// Sends an operation again while it is not known whether it was done, as the orchestrator does.
async fn sure(writer: &Writer<Counters>, operation: Operation<Command>) -> &'static str {
    /// Replicas that meet all the time still get through one by one.
    const ATTEMPTS_MAX: u32 = 20;
    for _ in 0..ATTEMPTS_MAX {
        match written(writer, operation.clone()).await {
            "not known" => {}
            answer => return answer,
        }
    }
    panic!("not known after {ATTEMPTS_MAX} attempts");
}
