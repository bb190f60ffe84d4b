//! The write path on both databases, through the real writer: repeats, tombstones, swapped orders, one batch or many.

use std::sync::Arc;

use matricula_kit::answer::{Answer, DroppedCourse, Reason};
use matricula_kit::database::{Args, Database};
use matricula_kit::id::{CourseId, SagaId, SectionId, StepName, StudentId, TermId};
use matricula_kit::imports::ImportError;
use matricula_kit::money::Currency;
use matricula_kit::named::NamedValue as _;
use matricula_kit::participant::{Direction, Key, Operation, Participant as _, Reading, Writer, WriterLimits};
use matricula_kit::telemetry::TraceContext;
use matricula_kit::testing::{self, BACKENDS, Backend, TestDatabase};
use matricula_kit::time::UnixMs;

use super::Fees;
use crate::domain::price::{BalanceLimit, Credits, Percent, Price};
use crate::domain::rates::{RateTable, RefundLadder, TermRates};
use crate::domain::{Add, Basis, Command};
use crate::store::{self, account};

mod upgrade;

const TERM: &str = "2026-fall";

struct World {
    test: TestDatabase,
    writer: Writer<Fees>,
}

impl World {
    /// A term with 100.00 a credit, 100 % back before 1,000 and 50 % before 2,000; a fee of 25.00 for course `LAB`.
    async fn new(backend: Backend) -> Self {
        let test = testing::database(backend, &crate::SCHEMA).await;
        import(&test.database, rates("USD", 10_000)).await.expect("rates are imported");
        let writer = start(&test.database);
        Self { test, writer }
    }

    async fn write(&self, operations: &[&Operation<Command>]) -> Vec<Answer> {
        self.writer.write(operations.iter().map(|operation| (*operation).clone()).collect()).await.expect("committed")
    }

    /// The lines of a student's account, oldest first, after a check that they add up to its balance, and all accounts
    /// to all postings.
    async fn lines(&self, student: &str) -> Vec<String> {
        let database = &self.test.database;
        let account = account(database, &id(student, StudentId::try_new)).await.expect("an account");
        assert_eq!(account.balance, account.postings.iter().map(|posting| posting.minor_units).sum::<i64>());
        let sql = "SELECT CAST(COALESCE((SELECT SUM(minor_units) FROM postings), 0) AS BIGINT) AS posted, \
                   CAST(COALESCE((SELECT SUM(balance) FROM accounts), 0) AS BIGINT) AS balances";
        let sums = &database.fetch(sql, Args::new()).await.expect("sums")[0];
        assert_eq!(sums.int("posted").expect("a sum"), sums.int("balances").expect("a sum"));
        let line = |p: &crate::domain::Posting| {
            format!("{} {} {} {} by {}", p.kind.name(), p.registration, p.section, p.minor_units, p.caused_by)
        };
        let mut lines: Vec<String> = account.postings.iter().map(line).collect();
        lines.sort_unstable();
        lines
    }

    /// The charges of a student that were not given back, and the balance.
    async fn in_force(&self, student: &str) -> String {
        let lines = self.lines(student).await;
        let count = |kind| lines.iter().filter(|line| line.starts_with(kind)).count();
        let account = account(&self.test.database, &id(student, StudentId::try_new)).await.expect("an account");
        format!("{} charges, balance {}", count("CHARGE") - count("VOID"), account.balance)
    }
}

fn start(database: &Database) -> Writer<Fees> {
    Writer::alone(Arc::new(Fees::default()), database.clone(), WriterLimits::default()).0
}

fn rates(currency: &str, per_credit: i64) -> RateTable {
    let percent = |percent| Percent::try_new(percent).expect("a percentage");
    let ladder = vec![(UnixMs(1_000), percent(100)), (UnixMs(2_000), percent(50))];
    let ladder = RefundLadder::try_new(ladder).expect("a ladder");
    let price = |units| Price::try_new(units).expect("a price");
    RateTable {
        currency: Some(Currency::try_new(currency.to_owned()).expect("a currency")),
        terms: vec![(
            id(TERM, TermId::try_new),
            Some(TermRates { per_credit: price(per_credit), ladder, balance_limit: None }),
        )],
        course_fees: vec![(id("LAB", CourseId::try_new), Some(price(2_500)))],
    }
}

/// Imports a table as a client would that has just read.
async fn import(database: &Database, table: RateTable) -> Result<(), ImportError> {
    let (version, _) = store::rate_table(database).await.expect("it is read");
    store::import(database, version, table).await
}

/// The same rates with a limit of what a student may owe.
fn limited(minor_units: i64) -> RateTable {
    let mut table = rates("USD", 10_000);
    let rates = table.terms[0].1.as_mut().expect("the term has rates");
    rates.balance_limit = Some(BalanceLimit::try_new(minor_units).expect("a limit"));
    table
}

fn id<T, E: std::fmt::Debug>(text: &str, try_new: impl FnOnce(String) -> Result<T, E>) -> T {
    try_new(text.to_owned()).expect("an id")
}

fn operation(
    saga: &str,
    step: &str,
    direction: Direction,
    command: impl FnOnce(SagaId) -> Command,
) -> Operation<Command> {
    let saga = id(saga, SagaId::try_new);
    let key = Some(Key { saga: saga.clone(), step: id(step, StepName::try_new) });
    Operation { key, direction, trace: TraceContext::default(), owner_alive_at: None, command: command(saga) }
}

/// Sections of 3 credits, each of a course of its own.
fn assess(saga: &str, student: &str, sections: &[&str]) -> Operation<Command> {
    let add = |section: &&str| Add {
        section: id(section, SectionId::try_new),
        course: id(&format!("course-of-{section}"), CourseId::try_new),
        term: id(TERM, TermId::try_new),
        credits: Credits::try_new(300).expect("credits"),
        is_only_part: true,
    };
    let adds = sections.iter().map(add).collect();
    let student = id(student, StudentId::try_new);
    let basis = Basis::Rates;
    operation(saga, "assess_fees", Direction::Forward, |registration| Command::Assess {
        registration,
        student,
        adds,
        basis,
    })
}

fn void(saga: &str) -> Operation<Command> {
    operation(saga, "assess_fees", Direction::Compensation, |registration| Command::Void { registration })
}

fn refund(saga: &str, student: &str, added_by: &str, section: &str, at: i64) -> Operation<Command> {
    let drops = vec![DroppedCourse {
        section: id(section, SectionId::try_new),
        course: id("c", CourseId::try_new),
        registration: id(added_by, SagaId::try_new),
    }];
    let student = id(student, StudentId::try_new);
    let effective_at = UnixMs(at);
    let command = |registration| Command::Refund { registration, student, drops, effective_at };
    operation(saga, "refund_fees", Direction::Forward, command)
}

#[track_caller]
fn amount(answer: &Answer) -> Option<i64> {
    match answer {
        Answer::Done(done) => done.amount.as_ref().map(|money| money.minor_units),
        other => panic!("not done: {other:?}"),
    }
}

#[track_caller]
fn is_refused_as_cancelled(answer: &Answer) {
    is_refused(answer, Reason::RegistrationCancelled);
}

#[track_caller]
fn is_refused(answer: &Answer, reason: Reason) {
    let Answer::Refused(reasons) = answer else { panic!("not refused: {answer:?}") };
    assert_eq!(reasons[0].reason, reason);
}

#[tokio::test]
async fn an_assessment_and_its_void_in_every_order() {
    for backend in BACKENDS {
        let world = World::new(backend).await;
        testing::barrier_holds(
            &world.writer,
            |saga| (assess(saga.as_str(), "s1", &["A", "B"]), void(saga.as_str())),
            async || world.in_force("s1").await,
        )
        .await;
    }
}

#[tokio::test]
async fn repeats_get_the_recorded_answer_and_post_nothing() {
    for backend in BACKENDS {
        let world = World::new(backend).await;
        let (first, drop) = (assess("r1", "s1", &["A", "B"]), refund("r2", "s1", "r1", "A", 1_500));
        for _ in 0..2 {
            assert_eq!(amount(&world.write(&[&first]).await[0]), Some(60_000));
        }
        for _ in 0..2 {
            assert_eq!(amount(&world.write(&[&drop]).await[0]), Some(-15_000));
        }
        // Prices that change later change nothing of what was answered.
        import(&world.test.database, rates("USD", 99)).await.expect("imported");
        assert_eq!(amount(&world.write(&[&first]).await[0]), Some(60_000));
        let lines = ["CHARGE r1 A 30000 by r1", "CHARGE r1 B 30000 by r1", "REFUND r1 A -15000 by r2"];
        assert_eq!(world.lines("s1").await, lines, "{backend:?}");
    }
}

#[tokio::test]
async fn an_undo_repeated_and_late_actions_change_nothing() {
    for backend in BACKENDS {
        let world = World::new(backend).await;
        let (action, undo) = (assess("r1", "s1", &["A"]), void("r1"));
        world.write(&[&action]).await;
        world.write(&[&undo]).await;
        world.write(&[&undo]).await;
        assert_eq!(amount(&world.write(&[&action]).await[0]), Some(30_000));
        let lines = ["CHARGE r1 A 30000 by r1", "VOID r1 A -30000 by r1"];
        assert_eq!(world.lines("s1").await, lines, "{backend:?}");
    }
}

#[tokio::test]
async fn a_tombstone_refuses_the_action_that_comes_late() {
    for backend in BACKENDS {
        let world = World::new(backend).await;
        let (action, undo) = (assess("r1", "s1", &["A"]), void("r1"));
        assert_eq!(world.write(&[&undo]).await[0], Answer::done());
        is_refused_as_cancelled(&world.write(&[&action]).await[0]);
        is_refused_as_cancelled(&world.write(&[&action, &undo]).await[0]);
        assert!(world.lines("s1").await.is_empty(), "{backend:?}");
    }
}

#[tokio::test]
async fn one_batch_is_decided_in_its_order() {
    for backend in BACKENDS {
        let world = World::new(backend).await;
        let (action, undo) = (assess("r1", "s1", &["A"]), void("r1"));
        let answers = world.write(&[&action, &undo, &action, &undo]).await;
        assert_eq!((amount(&answers[0]), amount(&answers[2])), (Some(30_000), Some(30_000)));
        assert_eq!(world.lines("s1").await, ["CHARGE r1 A 30000 by r1", "VOID r1 A -30000 by r1"], "{backend:?}");

        let (action, undo) = (assess("r2", "s2", &["A"]), void("r2"));
        let answers = world.write(&[&undo, &action]).await;
        is_refused_as_cancelled(&answers[1]);
        assert!(world.lines("s2").await.is_empty(), "{backend:?}");

        // Charged and dropped in one batch, and many students at once.
        let charges: Vec<_> = (0..300).map(|n| assess(&format!("m{n}"), &format!("t{}", n % 7), &["A", "B"])).collect();
        world.write(&charges.iter().collect::<Vec<_>>()).await;
        let (action, drop) = (assess("r3", "s3", &["A"]), refund("r4", "s3", "r3", "A", 0));
        let answers = world.write(&[&action, &drop]).await;
        assert_eq!(amount(&answers[1]), Some(-30_000));
        assert_eq!(world.lines("s3").await, ["CHARGE r3 A 30000 by r3", "REFUND r3 A -30000 by r4"], "{backend:?}");
    }
}

#[tokio::test]
async fn two_steps_never_charge_or_give_back_a_section_twice() {
    for backend in BACKENDS {
        let world = World::new(backend).await;
        let again = Operation {
            key: Some(Key { saga: id("r1", SagaId::try_new), step: id("another_step", StepName::try_new) }),
            ..assess("r1", "s1", &["A", "B"])
        };
        world.write(&[&assess("r1", "s1", &["A"])]).await;
        assert_eq!(amount(&world.write(&[&again]).await[0]), Some(30_000));
        world.write(&[&refund("r2", "s1", "r1", "A", 0)]).await;
        assert_eq!(amount(&world.write(&[&refund("r3", "s1", "r1", "A", 0)]).await[0]), Some(0));
        let lines = ["CHARGE r1 A 30000 by r1", "CHARGE r1 B 30000 by r1", "REFUND r1 A -30000 by r2"];
        assert_eq!(world.lines("s1").await, lines, "{backend:?}");
    }
}

#[tokio::test]
async fn replicas_at_once_post_once() {
    let world = World::new(Backend::Postgres).await;
    let other = Database::open(&world.test.url).await.expect("a second replica's database");
    let replicas = [world.writer.clone(), start(&other)];
    let operations: Vec<_> = (0..40).map(|n| assess(&format!("r{n}"), &format!("s{}", n % 5), &["A", "B"])).collect();
    let undos: Vec<_> = (0..40).map(|n| void(&format!("r{n}"))).collect();
    for wanted in [operations, undos] {
        let forward = replicas[0].write(wanted.clone());
        let backward = replicas[1].write(wanted.into_iter().rev().collect());
        let (forward, backward) = tokio::join!(forward, backward);
        let mut backward = backward.expect("committed");
        backward.reverse();
        assert_eq!(forward.expect("committed"), backward);
    }
    for student in 0..5 {
        let lines = world.lines(&format!("s{student}")).await;
        assert_eq!(lines.len(), 8 * 2 * 2, "a charge and a void of each section: {lines:?}");
    }
}

#[tokio::test]
async fn nobody_owes_more_than_the_limit() {
    for backend in BACKENDS {
        let world = World::new(backend).await;
        world.write(&[&assess("r0", "s1", &["Z"])]).await;
        import(&world.test.database, limited(70_000)).await.expect("imported");
        // 300.00 of the 700.00 are owed from before, and in one batch each operation counts for the next.
        let (fits, above, other) = (assess("r1", "s1", &["A"]), assess("r2", "s1", &["B"]), assess("r3", "s2", &["A"]));
        let answers = world.write(&[&fits, &above, &other]).await;
        assert_eq!((amount(&answers[0]), amount(&answers[2])), (Some(30_000), Some(30_000)));
        is_refused(&answers[1], Reason::BalanceLimitExceeded);
        is_refused(&world.write(&[&assess("r4", "s3", &["A", "B", "C"])]).await[0], Reason::BalanceLimitExceeded);
        assert!(world.lines("s3").await.is_empty(), "all or nothing");

        // What was refused stays refused, and is undone without a trace; a void or a refund makes room for the next.
        let answers = world.write(&[&void("r1"), &above, &void("r2"), &assess("r5", "s1", &["C"])]).await;
        is_refused(&answers[1], Reason::BalanceLimitExceeded);
        assert_eq!((&answers[2], amount(&answers[3])), (&Answer::done(), Some(30_000)));
        let answers = world.write(&[&refund("r6", "s1", "r0", "Z", 0), &assess("r7", "s1", &["D"])]).await;
        assert_eq!((amount(&answers[0]), amount(&answers[1])), (Some(-30_000), Some(30_000)));
        assert_eq!(world.lines("s1").await.len(), 6, "{backend:?}");

        // An import without a limit takes it away.
        import(&world.test.database, rates("USD", 10_000)).await.expect("imported");
        assert_eq!(amount(&world.write(&[&assess("r8", "s1", &["E"])]).await[0]), Some(30_000));
    }
}

#[tokio::test]
async fn replicas_at_once_keep_the_limit() {
    const STUDENTS: usize = 6;
    let world = World::new(Backend::Postgres).await;
    import(&world.test.database, limited(100_000)).await.expect("imported");
    let other = Database::open(&world.test.url).await.expect("a second replica's database");
    let replicas = [world.writer.clone(), start(&other)];
    // Of 300.00 each, three fit. The replicas meet the students in opposite orders, some of them with an account.
    let existing: Vec<_> = (0..STUDENTS / 2).map(|n| assess(&format!("first{n}"), &format!("s{n}"), &["Z"])).collect();
    world.write(&existing.iter().collect::<Vec<_>>()).await;
    let mut tasks = tokio::task::JoinSet::new();
    for round in 0..8 {
        for (replica, writer) in replicas.iter().enumerate() {
            let mut operations: Vec<_> = (0..STUDENTS)
                .flat_map(|n| {
                    let charge = assess(&format!("r{replica}-{round}-{n}"), &format!("s{n}"), &["A"]);
                    // An operation of a registration that was undone before makes room for none.
                    let undone = format!("u{replica}-{round}-{n}");
                    [charge, assess(&undone, &format!("s{n}"), &["B"]), void(&undone)]
                })
                .collect();
            if replica == 1 {
                operations.reverse();
            }
            let writer = writer.clone();
            tasks.spawn(async move { writer.write(operations).await.expect("committed") });
        }
    }
    tasks.join_all().await;
    for student in 0..STUDENTS {
        let student = format!("s{student}");
        let account = account(&world.test.database, &id(&student, StudentId::try_new)).await.expect("an account");
        assert_eq!(account.balance, 90_000, "{student}: the limit is used, and kept");
        world.lines(&student).await;
    }
}

#[track_caller]
fn is_other_currency(outcome: Result<(), ImportError>, expect: &str) {
    match outcome {
        Err(ImportError::Refused { reason: "OTHER_CURRENCY", message }) => assert_eq!(message, expect),
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn an_installation_has_one_currency() {
    for backend in BACKENDS {
        let test = testing::database(backend, &crate::SCHEMA).await;
        let database = &test.database;
        let student = id("s1", StudentId::try_new);
        let currency = async || account(database, &student).await.expect("an account").currency.to_string();
        let empty = account(database, &student).await.expect("an empty account");
        assert_eq!((empty.currency.to_string(), empty.balance, empty.postings.len()), ("USD".to_owned(), 0, 0));

        // As long as nothing is posted it may change, but not under rates that stay.
        import(database, rates("USD", 9)).await.expect("imported");
        import(database, rates("JPY", 5_000)).await.expect("nothing is posted yet");
        assert_eq!(currency().await, "JPY");
        let mut other = rates("USD", 1);
        other.terms[0].0 = id("other", TermId::try_new);
        is_other_currency(
            import(database, other.clone()).await,
            "the rates are in USD, and term 2026-fall has rates in JPY: import all terms together, in one currency",
        );
        // A term whose rates were removed has none that could be taken for others.
        let ended = RateTable { terms: vec![(id(TERM, TermId::try_new), None)], ..RateTable::default() };
        import(database, ended).await.expect("the rates are removed");
        import(database, other).await.expect("no rates are left");
        assert_eq!(currency().await, "USD");
        let mut both = rates("JPY", 5_000);
        both.terms.push((id("other", TermId::try_new), None));
        import(database, both).await.expect("all terms are named");

        let answers = start(database).write(vec![assess("r1", "s1", &["A"])]).await.expect("committed");
        assert_eq!(amount(&answers[0]), Some(15_000), "the refused import changed nothing");
        is_other_currency(
            import(database, rates("USD", 1)).await,
            "the rates are in USD, and the accounts of this installation are in JPY: import rates in JPY",
        );
        assert_eq!(currency().await, "JPY");
        import(database, rates("JPY", 6_000)).await.expect("the same currency");
    }
}

/// A batch that has read the currency, and has posted nothing yet, keeps an import from changing it.
#[tokio::test]
async fn the_currency_does_not_change_under_a_batch() {
    let world = World::new(Backend::Postgres).await;
    let other = Database::open(&world.test.url).await.expect("a second replica's database");
    let fees = Fees::default();
    let operations = [assess("r1", "s1", &["A"])];
    let mut tx = world.test.database.write().await.expect("a transaction");
    let mut loaded = fees.load(&mut tx, &operations, Reading::All).await.expect("it is loaded");
    assert_eq!(amount(&fees.decide(&mut loaded, &operations[0], UnixMs(5))), Some(30_000));
    let importing = tokio::spawn(async move { import(&other, rates("JPY", 5_000)).await });
    let is_waiting = "SELECT 1 AS one FROM pg_locks WHERE NOT granted \
                      AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())";
    while world.test.database.fetch(is_waiting, Args::new()).await.expect("locks").is_empty() {
        assert!(!importing.is_finished(), "it has not waited: {importing:?}");
        tokio::task::yield_now().await;
    }
    fees.write(&mut tx, &loaded, UnixMs(5)).expect("written");
    tx.commit().await.expect("committed");
    is_other_currency(
        importing.await.expect("it ends"),
        "the rates are in JPY, and the accounts of this installation are in USD: import rates in USD",
    );
    assert_eq!(world.lines("s1").await, ["CHARGE r1 A 30000 by r1"]);
}

/// A term whose rates are removed charges nothing from then on, and gives back what it has charged as before.
#[tokio::test]
async fn rates_are_removed_and_their_refund_ladder_stays() {
    for backend in BACKENDS {
        let world = World::new(backend).await;
        let database = &world.test.database;
        import(database, limited(40_000)).await.expect("imported");
        world.write(&[&assess("r1", "s1", &["A"])]).await;
        let lab = id("LAB", CourseId::try_new);
        let removed = RateTable {
            terms: vec![(id(TERM, TermId::try_new), None), (id("unknown", TermId::try_new), None)],
            course_fees: vec![(lab.clone(), None)],
            currency: None,
        };
        import(database, removed).await.expect("imported");
        let (_, left) = store::rate_table(database).await.expect("it is read");
        assert_eq!((left.terms, left.course_fees), (vec![], vec![]), "{backend:?}");

        // Its limit is gone with the rates. A drop of a charge from before goes by the ladder from before.
        let answers = world.write(&[&assess("r2", "s1", &["B"]), &refund("r3", "s1", "r1", "A", 1_500)]).await;
        assert_eq!([amount(&answers[0]), amount(&answers[1])], [Some(0), Some(-15_000)], "{backend:?}");

        let fees = vec![(lab, None)];
        import(database, RateTable { course_fees: fees, ..rates("USD", 7_000) }).await.expect("rates again");
        assert_eq!(amount(&world.write(&[&assess("r4", "s1", &["C"])]).await[0]), Some(21_000));
    }
}
