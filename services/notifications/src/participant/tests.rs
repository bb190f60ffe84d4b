//! The write path and the queue on both databases: one message a registration, whatever is repeated.

use std::sync::Arc;

use matricula_kit::answer::Reason;
use matricula_kit::database::Database;
use matricula_kit::id::{SagaId, SectionId, StepName, StudentId};
use matricula_kit::participant::{Direction, Key, Writer, WriterLimits};
use matricula_kit::telemetry::TraceContext;
use matricula_kit::testing::{self, BACKENDS, Backend, TestDatabase};

use super::*;
use crate::domain::retry::{Next, Undeliverable};
use crate::domain::{Contact, Outcome};
use crate::store::{Claimed, LEDGER, ListKey, Report, claim, due_in_ms, import_contacts, list, report, waiting};

mod upgrade;

const LEASE_MS: i64 = 600_000;

fn start(database: &Database) -> Writer<Notifications> {
    let (waker, _) = Waker::new();
    Writer::alone(Arc::new(Notifications::new(waker)), database.clone(), WriterLimits::default()).0
}

async fn new(backend: Backend) -> (TestDatabase, Writer<Notifications>) {
    let test = testing::database(backend, &crate::SCHEMA).await;
    let writer = start(&test.database);
    (test, writer)
}

fn send(saga: &str, step: &str, direction: Direction, student: &str) -> Operation<RegistrationResult> {
    let registration = SagaId::try_new(saga).expect("an id");
    Operation {
        key: Some(Key { saga: registration.clone(), step: StepName::try_new(step).expect("an id") }),
        direction,
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

fn notify(saga: &str, student: &str) -> Operation<RegistrationResult> {
    send(saga, "notify", Direction::Forward, student)
}

async fn messages(database: &Database) -> Vec<String> {
    let mut tx = database.snapshot().await.expect("a snapshot");
    let page = LEDGER.all(&mut tx).await.expect("read");
    page.into_iter().map(|told| format!("{} {}", told.message.registration, told.message.subject)).collect()
}

fn names(claimed: &[Claimed]) -> Vec<&str> {
    claimed.iter().map(|claimed| claimed.message.registration.as_str()).collect()
}

fn reported(registration: &str, failures: i64, next: Option<Next>) -> Report {
    Report { registration: SagaId::try_new(registration).expect("an id"), failures, next }
}

#[tokio::test]
async fn a_registration_has_one_message() {
    for backend in BACKENDS {
        let (test, writer) = new(backend).await;
        let first = notify("r1", "s1");
        for _ in 0..2 {
            assert_eq!(writer.write(vec![first.clone()]).await.expect("committed"), [Answer::done()]);
        }
        let again = send("r1", "another_step", Direction::Forward, "s1");
        let batch =
            vec![first.clone(), again.clone(), notify("r2", "s1"), send("r2", "x", Direction::Forward, "s1"), again];
        let answers = writer.write(batch).await.expect("committed");
        assert!(answers.iter().all(|answer| *answer == Answer::done()));
        let expect = ["r1 You are enrolled in A", "r2 You are enrolled in A"];
        assert_eq!(messages(&test.database).await, expect, "{backend:?}");
    }
}

#[tokio::test]
async fn a_tombstone_keeps_a_late_message_out() {
    for backend in BACKENDS {
        let (test, writer) = new(backend).await;
        for batch in [
            vec![send("r1", "notify", Direction::Compensation, "s1")],
            vec![notify("r1", "s1")],
            vec![send("r2", "notify", Direction::Compensation, "s1"), notify("r2", "s1")],
        ] {
            let answers = writer.write(batch).await.expect("committed");
            if let Some(Answer::Refused(reasons)) = answers.last() {
                assert_eq!(reasons[0].reason, Reason::RegistrationCancelled);
            }
        }
        assert!(messages(&test.database).await.is_empty(), "{backend:?}");
    }
}

#[tokio::test]
async fn replicas_at_once_record_once() {
    let (test, writer) = new(Backend::Postgres).await;
    let other = Database::open(&test.url).await.expect("a second replica's database");
    let operations: Vec<_> = (0..40).map(|n| notify(&format!("r{n:02}"), "s1")).collect();
    let backward: Vec<_> = operations.iter().rev().cloned().collect();
    let writers = (writer, start(&other));
    let (a, b) = tokio::join!(writers.0.write(operations), writers.1.write(backward));
    assert_eq!(a.expect("committed"), b.expect("committed"));
    assert_eq!(messages(&test.database).await.len(), 40);
}

#[tokio::test]
async fn a_claim_keeps_others_away_and_a_report_ends_it() {
    for backend in BACKENDS {
        let (test, writer) = new(backend).await;
        let database = &test.database;
        assert_eq!(due_in_ms(database).await.expect("a wait"), None);
        writer.write((1..=4).map(|n| notify(&format!("r{n}"), "s1")).collect()).await.expect("committed");
        assert!(due_in_ms(database).await.expect("a wait").expect("some wait") <= 0);

        let claimed = claim(database, 3, LEASE_MS).await.expect("claimed");
        assert_eq!(names(&claimed), ["r1", "r2", "r3"], "oldest first");
        assert_eq!(names(&claim(database, 3, LEASE_MS).await.expect("claimed")), ["r4"]);
        assert!(claim(database, 3, LEASE_MS).await.expect("claimed").is_empty());
        assert!(due_in_ms(database).await.expect("a wait").expect("some wait") > LEASE_MS / 2);

        let reports = [
            reported("r1", 0, None),
            reported("r2", 1, Some(Next::RetryAfterMs(0))),
            reported("r3", 1, Some(Next::Undeliverable(Undeliverable::NoContact))),
            reported("r4", 0, Some(Next::RetryAfterMs(LEASE_MS))),
        ];
        report(database, &reports).await.expect("reported");
        let again = claim(database, 9, LEASE_MS).await.expect("claimed");
        assert_eq!((names(&again), again[0].failures), (vec!["r2"], 1), "{backend:?}");
        assert_eq!(waiting(database).await.expect("a count"), 2);

        // A late report of somebody whose claim had lapsed changes nothing of what is delivered.
        report(database, &[reported("r1", 7, Some(Next::RetryAfterMs(0)))]).await.expect("reported");
        assert!(claim(database, 9, LEASE_MS).await.expect("claimed").is_empty());
    }
}

#[tokio::test]
async fn a_new_message_is_claimed_by_who_has_recorded_it_and_will_deliver_it() {
    for backend in BACKENDS {
        let (test, _) = new(backend).await;
        let database = &test.database;
        let (waker, woken) = Waker::new();
        let writer = Writer::alone(Arc::new(Notifications::new(waker)), database.clone(), WriterLimits::default()).0;
        writer.write(vec![notify("r1", "s1")]).await.expect("committed");
        assert!(claim(database, 9, LEASE_MS).await.expect("claimed").is_empty(), "{backend:?}: no other takes it");
        let due_in_ms = due_in_ms(database).await.expect("a wait").expect("some wait");
        assert!((1..=CLAIM_ON_INSERT_MS).contains(&due_in_ms), "{backend:?}: {due_in_ms}: not for ever");
        drop(woken);
        writer.write(vec![notify("r2", "s1")]).await.expect("committed");
        assert_eq!(names(&claim(database, 9, LEASE_MS).await.expect("claimed")), ["r2"], "{backend:?}");
    }
}

#[tokio::test]
async fn a_lapsed_claim_is_taken_over() {
    for backend in BACKENDS {
        let (test, writer) = new(backend).await;
        writer.write(vec![notify("r1", "s1")]).await.expect("committed");
        claim(&test.database, 9, 0).await.expect("claimed by somebody who dies");
        assert_eq!(names(&claim(&test.database, 9, LEASE_MS).await.expect("claimed")), ["r1"], "{backend:?}");
    }
}

#[tokio::test]
async fn a_new_contact_has_old_messages_delivered() {
    for backend in BACKENDS {
        let (test, writer) = new(backend).await;
        let database = &test.database;
        writer.write(vec![notify("r1", "s1"), notify("r2", "s2")]).await.expect("committed");
        let claimed = claim(database, 9, LEASE_MS).await.expect("claimed");
        assert!(claimed.iter().all(|claimed| claimed.contact.is_none()));
        let no_contact = || Some(Next::Undeliverable(Undeliverable::NoContact));
        report(database, &[reported("r1", 1, no_contact()), reported("r2", 1, no_contact())]).await.expect("reported");

        let contact = |email: &str| Contact {
            student: StudentId::try_new("s2").expect("an id"),
            email: email.to_owned(),
            name: "Ada".to_owned(),
        };
        import_contacts(database, 0, vec![contact("old@example.edu")], vec![]).await.expect("imported");
        import_contacts(database, 1, vec![contact("ada@example.edu")], vec![]).await.expect("imported");
        let claimed = claim(database, 9, LEASE_MS).await.expect("claimed");
        assert_eq!(names(&claimed), ["r2"], "{backend:?}");
        assert_eq!(claimed[0].contact, Some(contact("ada@example.edu")));
    }
}

#[tokio::test]
async fn a_removed_contact_is_no_contact() {
    for backend in BACKENDS {
        let (test, writer) = new(backend).await;
        let database = &test.database;
        let student = || StudentId::try_new("s1").expect("an id");
        let contact = Contact { student: student(), email: "ada@example.edu".to_owned(), name: "Ada".to_owned() };
        import_contacts(database, 0, vec![contact], vec![]).await.expect("imported");
        import_contacts(database, 1, vec![], vec![student()]).await.expect("imported");
        writer.write(vec![notify("r1", "s1")]).await.expect("committed");
        let claimed = claim(database, 9, LEASE_MS).await.expect("claimed");
        assert_eq!((names(&claimed), &claimed[0].contact), (vec!["r1"], &None), "{backend:?}");
    }
}

#[tokio::test]
async fn what_is_not_wanted_is_only_recorded() {
    for backend in BACKENDS {
        let (test, writer) = new(backend).await;
        let database = &test.database;
        let mut quiet = notify("r1", "s1");
        quiet.command.is_wanted = false;
        for _ in 0..2 {
            writer.write(vec![quiet.clone(), notify("r2", "s1")]).await.expect("committed");
        }
        assert_eq!(messages(database).await, ["r1 You are enrolled in A", "r2 You are enrolled in A"], "{backend:?}");
        assert_eq!(waiting(database).await.expect("a count"), 1);
        let contact = Contact {
            student: StudentId::try_new("s1").expect("an id"),
            email: "ada@example.edu".to_owned(),
            name: "Ada".to_owned(),
        };
        import_contacts(database, 0, vec![contact], vec![]).await.expect("imported");
        assert_eq!(names(&claim(database, 9, LEASE_MS).await.expect("claimed")), ["r2"], "{backend:?}");
        let student = StudentId::try_new("s1").expect("an id");
        let told = list(database, &student, None, 9).await.expect("a page");
        let told: Vec<_> = told.iter().map(|told| (told.message.registration.as_str(), told.undeliverable)).collect();
        assert_eq!(told, [("r2", None), ("r1", Some(Undeliverable::NotWanted))], "{backend:?}");
    }
}

#[tokio::test]
async fn lists_are_paged_newest_first() {
    for backend in BACKENDS {
        let (test, writer) = new(backend).await;
        for n in 1..=5 {
            writer
                .write(vec![notify(&format!("r{n}"), "s1"), notify(&format!("x{n}"), "s2")])
                .await
                .expect("committed");
        }
        let student = StudentId::try_new("s1").expect("an id");
        let (mut after, mut seen) = (None, Vec::new());
        loop {
            let page = list(&test.database, &student, after, 2).await.expect("a page");
            let Some(last) = page.last() else { break };
            let message = &last.message;
            after = Some(ListKey { recorded_at: message.recorded_at, registration: message.registration.clone() });
            seen.extend(page.into_iter().map(|told| told.message.registration.to_string()));
        }
        assert_eq!(seen, ["r5", "r4", "r3", "r2", "r1"], "{backend:?}");
    }
}
