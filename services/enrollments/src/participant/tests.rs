//! Enrollments through the real writer on both databases: every order of every operation, random batches against the
//! rules alone, two replicas on one database.

use std::collections::HashSet;
use std::sync::Arc;

use futures::future::join_all;
use matricula_kit::database::{Args, Database};
use matricula_kit::id::{SagaId, StepName, StudentId};
use matricula_kit::named::NamedValue as _;
use matricula_kit::participant::{Direction, Key, Writer, WriterLimits};
use matricula_kit::telemetry::TraceContext;
use matricula_kit::testing::{self, BACKENDS, Backend, TestDatabase};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::domain::tests::{any_script, command, commands, shown};
use crate::domain::{Action, Enrollment};

mod upgrade;

struct Service {
    writer: Writer<Enrollments>,
    test: TestDatabase,
}

impl Service {
    async fn new(backend: Backend) -> Self {
        let test = testing::database(backend, &crate::SCHEMA).await;
        Self { writer: writer(&test.database), test }
    }

    /// Writes the lines of a script together; tells which are done.
    async fn write(&self, script: &str) -> Vec<bool> {
        write(&self.writer, script.split(';').map(|line| operation(command(line))).collect()).await
    }

    async fn ledger(&self) -> Vec<Enrollment> {
        let mut snapshot = self.test.database.snapshot().await.expect("a snapshot");
        store::LEDGER.all(&mut snapshot).await.expect("read")
    }

    async fn state(&self) -> String {
        self.ledger().await.iter().map(shown).collect::<Vec<_>>().join(", ")
    }

    /// What is in force, without the registrations' ids.
    async fn in_force(&self) -> String {
        let ledger = self.ledger().await;
        let rows = ledger.iter().filter(|row| row.is_in_force());
        let rows = rows.map(|row| format!("{} {} {}", row.key.1, row.status.name(), row.dropped_by.is_some()));
        rows.collect::<Vec<_>>().join(", ")
    }
}

fn writer(database: &Database) -> Writer<Enrollments> {
    Writer::alone(Arc::new(Enrollments), database.clone(), WriterLimits::default()).0
}

async fn write(writer: &Writer<Enrollments>, operations: Vec<Operation<Command>>) -> Vec<bool> {
    let answers = writer.write(operations).await.expect("committed");
    answers.iter().map(|answer| matches!(answer, Answer::Done(_))).collect()
}

fn operation(command: Command) -> Operation<Command> {
    let (step, direction) = match &command.action {
        Action::Enroll(_) => ("enroll", Direction::Forward),
        Action::Create(_) => ("create_enrollments", Direction::Forward),
        Action::Cancel => ("create_enrollments", Direction::Compensation),
        Action::Commit => ("commit_enrollments", Direction::Forward),
        Action::Withdraw => ("commit_enrollments", Direction::Compensation),
    };
    of_step(command, step, direction)
}

/// A withdraw that names the step of version 2.
fn withdraw(registration: &str) -> Operation<Command> {
    of_step(command(&format!("{registration} withdraw")), "enroll", Direction::Compensation)
}

fn of_step(command: Command, step: &str, direction: Direction) -> Operation<Command> {
    let key = Key { saga: command.registration.clone(), step: StepName::stored(step.to_owned()) };
    Operation { key: Some(key), direction, trace: TraceContext::default(), owner_alive_at: None, command }
}

#[tokio::test]
async fn a_create_and_its_cancel_in_every_order() {
    for backend in BACKENDS {
        let service = Service::new(backend).await;
        assert_eq!(service.write("r0 +P1; r0 commit").await, [true, true]);
        testing::barrier_holds(
            &service.writer,
            // A swap: the cancel has something to give back, and something to take away.
            |saga| {
                let create = command(&format!("{saga} +P2 +M1 -r0/P1"));
                (operation(create), operation(command(&format!("{saga} cancel"))))
            },
            async || service.in_force().await,
        )
        .await;
    }
}

#[tokio::test]
async fn the_pivot_is_once_and_for_all() {
    for backend in BACKENDS {
        let service = Service::new(backend).await;
        assert_eq!(service.write("r0 +P1; r0 commit").await, [true, true]);
        assert_eq!(service.write("r1 +P2 -r0/P1").await, [true]);
        assert_eq!(service.write("r1 commit; r1 commit").await, [true, true]);
        assert_eq!(service.write("r1 commit").await, [true]);
        assert_eq!(service.write("r1 cancel").await, [true], "an undo that comes after all is answered");
        assert_eq!(service.state().await, "r0/P1 DROPPED<r1, r1/P2 ENROLLED", "and changes nothing");

        assert_eq!(service.write("r2 commit").await, [false], "nothing was created");
        assert_eq!(service.write("r3 cancel").await, [true]);
        assert_eq!(service.write("r3 +M1; r3 commit").await, [false, false], "the create came after its tombstone");
        assert_eq!(service.write("r4 +M1; r4 cancel; r4 commit").await, [true, true, false]);
        assert_eq!(service.write("r4 commit").await, [false]);
        assert_eq!(service.state().await, "r0/P1 DROPPED<r1, r1/P2 ENROLLED, r4/M1 CANCELLED");
    }
}

#[tokio::test]
async fn a_commit_is_withdrawn_before_it_happens_or_not_at_all() {
    for backend in BACKENDS {
        let service = Service::new(backend).await;
        assert_eq!(service.write("r1 +M1; r1 withdraw").await, [true, true]);
        assert_eq!(service.write("r1 withdraw; r1 commit").await, [true, false], "it came after its tombstone");
        assert_eq!(service.state().await, "r1/M1 PENDING", "its cancel is another step's");
        assert_eq!(service.write("r1 cancel").await, [true]);
        assert_eq!(service.write("r2 +M1; r2 commit").await, [true, true]);
        assert_eq!(service.write("r2 withdraw; r2 withdraw").await, [false, false]);
        assert_eq!(service.write("r2 commit").await, [true], "it was not withdrawn");
        assert_eq!(service.state().await, "r1/M1 CANCELLED, r2/M1 ENROLLED");
    }
}

#[tokio::test]
async fn an_enroll_is_withdrawn_before_it_happens_or_not_at_all() {
    for backend in BACKENDS {
        let service = Service::new(backend).await;
        let enroll = |line: &str| operation(command(line));
        let write = async |operations| write(&service.writer, operations).await;
        assert_eq!(write(vec![enroll("r1 enroll +M1"), enroll("r1 enroll +M1")]).await, [true, true]);
        assert_eq!(write(vec![withdraw("r1"), withdraw("r1")]).await, [false, false], "it has happened");
        assert_eq!(write(vec![enroll("r1 enroll +M1")]).await, [true], "it was not withdrawn");
        // Nothing has happened of an enroll that never came, nor of one that was refused.
        assert_eq!(write(vec![withdraw("r2"), enroll("r2 enroll +P1")]).await, [true, false]);
        assert_eq!(write(vec![enroll("r2 enroll +P1")]).await, [false], "it came after its tombstone");
        assert_eq!(write(vec![enroll("r3 enroll +M2"), withdraw("r3"), withdraw("r3")]).await, [false, true, true]);
        assert_eq!(write(vec![enroll("r4 enroll +M2")]).await, [false]);
        assert_eq!(write(vec![withdraw("r4"), enroll("r4 enroll +M2")]).await, [true, false], "the refusal stands");
        assert_eq!(service.state().await, "r1/M1 ENROLLED", "{backend:?}");
        // Each version asks about its own pivot, and the other's has never come.
        assert_eq!(service.write("r1 withdraw; r5 +P1; r5 commit").await, [true, true, true]);
        assert_eq!(write(vec![withdraw("r5")]).await, [true]);
        assert_eq!(service.state().await, "r1/M1 ENROLLED, r5/P1 ENROLLED", "{backend:?}");
    }
}

#[tokio::test]
async fn swaps_in_one_step_go_there_and_back_in_one_batch() {
    for backend in BACKENDS {
        let service = Service::new(backend).await;
        let there_and_back = "r0 enroll +M1; r1 enroll +M2 -r0/M1; r2 enroll +M1 -r1/M2";
        assert_eq!(service.write(there_and_back).await, [true; 3]);
        assert_eq!(service.state().await, "r0/M1 DROPPED<r1, r1/M2 DROPPED<r2, r2/M1 ENROLLED", "{backend:?}");
        // The next batch changes stored rows, and gives up and takes the place several times.
        assert_eq!(service.write("r3 enroll +M2 -r2/M1; r4 enroll +M1 -r3/M2; r5 enroll +M2 -r4/M1").await, [true; 3]);
        assert_eq!(service.in_force().await, "M2 ENROLLED false", "{backend:?}");
        // Registrations of both versions in one batch.
        let mixed = "r6 +M1 -r5/M2; r7 enroll +M2 -r5/M2; r6 commit; r8 enroll +M2 -r6/M1; r9 +M1";
        assert_eq!(service.write(mixed).await, [true, false, true, true, false], "{backend:?}");
        assert_eq!(service.in_force().await, "M2 ENROLLED false", "{backend:?}");
    }
}

#[tokio::test]
async fn operations_of_one_batch_see_each_other() {
    for backend in BACKENDS {
        let service = Service::new(backend).await;
        let outcome =
            service.write("r1 +M1; r2 +M2; r3 +ML1; r1 commit; r4 +M2 -r1/M1; r4 commit; r5 -r4/M2; r6 +M1").await;
        assert_eq!(outcome, [true, false, true, true, true, true, true, false]);
        let state = "r1/M1 DROPPED<r4, r3/ML1 PENDING, r4/M2 ENROLLED<r5";
        assert_eq!(service.state().await, state);
        // A place is given up and taken again in one batch, in both directions.
        assert_eq!(service.write("r5 cancel; r7 +M1 -r4/M2; r7 commit; r8 +M2 -r7/M1").await, [true; 4]);
        assert_eq!(service.write("r8 cancel; r9 +M2 -r7/M1; r9 cancel").await, [true; 3]);
        assert!(service.state().await.contains("r7/M1 ENROLLED, r8/M2 CANCELLED, r9/M2 CANCELLED"));
    }
}

#[test]
fn random_batches_do_what_the_rules_do_and_never_meet_the_indexes() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for backend in BACKENDS {
        let service = runtime.block_on(Service::new(backend));
        let mut runner = TestRunner::new(Config { cases: 60, ..Config::default() });
        let run = |(script, batch): (Vec<_>, usize)| {
            // Registrations and students of this case only: the database is shared by all cases.
            let case = SagaId::generate();
            let commands = commands(&script, |index| format!("{case}:{index:03}"));
            let mut commands: Vec<Command> = commands.into_iter().map(|command| of_case(command, &case)).collect();
            // A commit that is repeated is answered by the barrier, which the rules alone know nothing of.
            let mut committed = HashSet::new();
            commands.retain(|command| {
                !matches!(command.action, Action::Commit) || committed.insert(command.registration.clone())
            });
            let mut alone = World::new([]);
            let expected: Vec<bool> =
                commands.iter().map(|command| matches!(alone.decide(command, UnixMs(0)), Answer::Done(_))).collect();
            let mut outcome = Vec::new();
            for batch in commands.chunks(batch) {
                let operations = batch.iter().cloned().map(operation).collect();
                outcome.extend(runtime.block_on(write(&service.writer, operations)));
            }
            prop_assert_eq!(outcome, expected);
            let ledger = runtime.block_on(service.ledger());
            let ledger: Vec<String> =
                ledger.iter().filter(|row| row.key.0.as_str().starts_with(case.as_str())).map(shown).collect();
            let alone: Vec<String> = alone.rows.rows().map(shown).collect();
            prop_assert_eq!(ledger, alone);
            Ok(())
        };
        runner.run(&(any_script(30), 1..12usize), run).unwrap_or_else(|error| panic!("{backend:?}: {error}"));
    }
}

fn of_case(mut command: Command, case: &SagaId) -> Command {
    command.student = StudentId::stored(format!("{case}:{}", command.student));
    command
}

#[tokio::test]
async fn what_imports_did_is_kept() {
    for backend in BACKENDS {
        let service = Service::new(backend).await;
        assert_eq!(service.write("r0 +M1 #E1; r0 commit; r1 +P1; r1 commit").await, [true; 4]);
        assert_eq!(service.write("r2 -r1/P1 #E2").await, [false], "the student has added it");
        assert_eq!(service.write("r3 -r0/M1 #E1; r3 cancel; r4 -r0/M1 #E1").await, [true; 3]);
        assert_eq!(service.write("r4 commit").await, [true]);
        assert_eq!(service.state().await, "r0/M1 DROPPED#E1<#r4, r1/P1 ENROLLED", "{backend:?}");
    }
}

/// Each student has two registrations at a time, at two replicas: of both versions, or two swaps of the same section.
#[tokio::test]
async fn two_replicas_and_two_versions_enroll_nobody_twice() {
    let service = Service::new(Backend::Postgres).await;
    let other = writer(&Database::open(&service.test.url).await.expect("a second replica"));
    let both = async |student: usize, [one, two]: [&str; 2]| {
        let line = |line: &str| vec![operation(command(&line.replace('#', &format!("{student:03}"))))];
        let (one, two) = futures::join!(write(&service.writer, line(one)), write(&other, line(two)));
        (one[0], two[0])
    };
    let tabs = ["a#@S# enroll +M1", "b#@S# +M2"];
    let first: Vec<(bool, bool)> = join_all((0..100).map(|student| both(student, tabs))).await;
    assert!(first.iter().all(|(one, two)| one != two), "each student is in one of both sections: {first:?}");
    let pending: Vec<usize> = (0..100).filter(|student| first[*student].1).collect();
    let commit = async |student: &usize| service.write(&format!("b{student:03}@S{student:03} commit")).await;
    assert!(join_all(pending.iter().map(commit)).await.concat().iter().all(|done| *done));

    let swaps = |student: usize| match first[student] {
        (true, _) => ["c#@S# enroll +M2 -a#/M1", "d#@S# enroll +M3 -a#/M1"],
        _ => ["c#@S# enroll +M1 -b#/M2", "d#@S# +M3 -b#/M2"],
    };
    let second: Vec<(bool, bool)> = join_all((0..100).map(|student| both(student, swaps(student)))).await;
    assert!(second.iter().all(|(one, two)| one != two), "each section is dropped once: {second:?}");
    let taking: Vec<Enrollment> = service.ledger().await.into_iter().filter(Enrollment::takes_place).collect();
    let students: HashSet<&StudentId> = taking.iter().map(|row| &row.student).collect();
    assert_eq!((taking.len(), students.len()), (100, 100));
}

#[tokio::test]
async fn two_replicas_enroll_nobody_twice() {
    let service = Service::new(Backend::Postgres).await;
    let other = writer(&Database::open(&service.test.url).await.expect("a second replica"));
    // Two tabs of every student: different sections of one course, at both replicas at once.
    let tabs = (0..150).flat_map(|student| [(student, 1), (student, 2)]);
    let tabs: Vec<String> =
        tabs.map(|(student, section)| format!("r{student:03}-{section}@S{student} +M{section}")).collect();
    let outcomes = join_all(tabs.iter().enumerate().map(|(index, line)| {
        let replica = if index % 2 == 0 { &service.writer } else { &other };
        write(replica, vec![operation(command(line))])
    }))
    .await;
    for (student, tabs) in outcomes.chunks(2).enumerate() {
        assert_eq!(tabs.concat().iter().filter(|done| **done).count(), 1, "student {student}");
    }
    assert_eq!(service.ledger().await.len(), 150);

    // A commit and a cancel of every registration at once: one of them wins, and both say so.
    let won: Vec<String> = service.ledger().await.iter().map(|row| format!("{}@{}", row.key.0, row.student)).collect();
    let races = won.iter().map(|whose| {
        let commit = write(&service.writer, vec![operation(command(&format!("{whose} commit")))]);
        let cancel = write(&other, vec![operation(command(&format!("{whose} cancel")))]);
        async { futures::join!(commit, cancel) }
    });
    let committed: Vec<bool> = join_all(races).await.into_iter().map(|(commit, _)| commit[0]).collect();
    for (row, committed) in service.ledger().await.iter().zip(committed) {
        assert_eq!(row.status.name(), if committed { "ENROLLED" } else { "CANCELLED" }, "{row:?}");
    }
}
