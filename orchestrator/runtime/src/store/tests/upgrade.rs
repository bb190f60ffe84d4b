//! Upgrades a database of the earlier build, which stores every event in a row of `saga_events` and ids as text. Until
//! the database is converted, this build writes the old form, which instances of the earlier build can read. After the
//! conversion it writes the compact form.

use matricula_core::{Claim, Turn};
use matricula_kit::database::Compacted;
use matricula_kit::testing::BACKENDS;

use super::super::entry::entry_text;
use super::*;

/// The last migration of the earlier build.
const BEFORE: i64 = 14;

/// The sagas of the earlier build: one at work with two entries in its log, one that waits in line, and one that is
/// finished.
struct Left {
    at_work: SagaId,
    waiting: SagaId,
    finished: SagaId,
}

async fn fill(database: &Database) -> Left {
    let before = MIGRATIONS.iter().filter(|migration| migration.version <= BEFORE).cloned().collect();
    database.migrate_with_ids_as_text(&Schema::plain(&Migrator::with_migrations(before), &[])).await.unwrap();
    let left = Left { at_work: crate::new_saga_id(), waiting: crate::new_saga_id(), finished: crate::new_saga_id() };
    let dead = InstanceId::generate();
    let mut tx = database.begin().await.unwrap();
    let instance = "INSERT INTO instances (instance_id, started_at, lease_until, dead) VALUES ($1, 0, 0, 1)";
    tx.execute(instance, Args::new().text(dead.as_str())).await.unwrap();
    let row = "INSERT INTO sagas (saga_id, definition, version, subject, idempotency_key, fingerprint, request, \
         traceparent, tracestate, created_at, owner, sequence, phase, outcome, needs_attention, finished, updated_at, \
         ticket, queued) \
         VALUES ($1, 'one', 1, $2, 'k', 'same', '{}', '', '', 1, $3, $4, $5, $6, 0, $7, 1, $8, $9)";
    for (ticket, (id, subject, owner, summary, sequence)) in (1..).zip([
        (left.at_work, "ada", dead.as_str(), RUNNING, 3),
        (left.finished, "cyd", dead.as_str(), DONE, 2),
        (left.waiting, "bob", "", Summary { phase: "queued", ..RUNNING }, 0),
    ]) {
        let args = Args::new().text(id.to_string()).text(subject).text(owner).int(sequence);
        let args = args.text(summary.phase).text(summary.outcome).int(i64::from(summary.finished));
        tx.execute(row, args.int(ticket).int(i64::from(sequence == 0))).await.unwrap();
    }
    tx.execute("INSERT INTO line_tickets (last_ticket) VALUES (3)", Args::new()).await.unwrap();
    tx.execute("INSERT INTO line_turns (ticket) VALUES (2)", Args::new()).await.unwrap();
    let log = "INSERT INTO saga_events (saga_id, sequence, at, event) VALUES ($1, $2, 1, $3)";
    for (id, later) in [(left.at_work, events(left.at_work, 2, 3)), (left.finished, finished(left.finished, 2))] {
        for events in [&[saga("", "", "").admitted][..], &later.events] {
            let text = entry_text(id, events, false).unwrap();
            let args = Args::new().text(id.to_string()).int(events[0].sequence as i64).text(text);
            tx.execute(log, args).await.unwrap();
        }
    }
    tx.commit().await.unwrap();
    left
}

/// A store on such a database, with an instance that has adopted the saga at work.
async fn opened(backend: Backend) -> (Fixture, Left) {
    let test = empty_database(backend).await;
    let left = fill(&test.database).await;
    let store = SagaStore::open(test.database.clone()).await.unwrap();
    let instance = InstanceId::generate();
    store.register(&instance, LONG_MS).await.unwrap();
    assert_eq!(store.adoptable(&[("one", 1)], 10).await.unwrap(), [left.at_work], "{backend:?}");
    let adopted = store.adopt(&instance, &[left.at_work]).await.unwrap();
    assert_eq!(adopted[0].log.as_ref().map(Vec::len), Ok(3), "{backend:?}");
    (Fixture { test, store, instance }, left)
}

impl Fixture {
    /// Makes the ids compact, and lets the instance detect it.
    async fn convert(&self) {
        let converted = self.test.database.compact(&SCHEMA, true, |_| {}).await.expect("nobody holds a lock");
        let is_shared = self.store.is_shared();
        assert_eq!(converted, if is_shared { Compacted::Now } else { Compacted::NotNeeded });
        self.store.mark_lapsed(&self.instance).await.unwrap();
        assert!(self.store.is_compact());
    }

    async fn number(&self, sql: &'static str) -> i64 {
        self.test.database.fetch(sql, Args::new()).await.unwrap()[0].int("n").unwrap()
    }

    /// Claims the sagas that wait.
    async fn claim(&self, after: u64, turns: &[(SagaId, u64)]) -> Vec<bool> {
        let first = saga("", "", "").admitted;
        let turn = |&(saga, ticket): &(SagaId, u64)| {
            let ticket = Ticket(ticket);
            Turn { saga, ticket, first: first.clone(), accepted_at_ms: 0, is_out_of_order: false }
        };
        let claim = Some(Claim { after: Ticket(after), turns: turns.iter().map(turn).collect() });
        let number = CommitNo { lane: Lane::Log, number: 1 };
        let commit: Commit<Arc<Carried<()>>> =
            Commit { number, admissions: Vec::new(), claim, appends: Vec::new(), others_claim_to_ms: None };
        let as_of = WriteAs { instance: &self.instance, definition: ("one", 1), subject_open_max: 20 };
        self.store.write(as_of, &commit).await.unwrap().claimed
    }

    /// Writes a commit twice, as if the first answer was lost.
    async fn write_twice(&self, sagas: &[NewSaga], appends: &[Append]) -> (Vec<AdmissionOutcome>, Vec<AppendOutcome>) {
        let first = write(&self.store, &self.instance, sagas, appends).await.unwrap();
        let again = write(&self.store, &self.instance, sagas, appends).await.unwrap();
        assert_eq!(first, again);
        first
    }
}

/// Counts the sagas with events in their own rows, which is the compact form.
const IN_ROWS: &str = "SELECT COUNT(*) AS n FROM sagas WHERE log <> ''";
/// Counts the rows of events that the earlier build can't read.
const NOT_IN_OLD_FORM: &str = "SELECT COUNT(*) AS n FROM saga_events WHERE event NOT LIKE '{%' AND event NOT LIKE '[%'";

/// Until the database is converted, an instance of the earlier build can read everything that this build writes.
#[tokio::test]
async fn sagas_of_the_build_before_go_on_beside_it_and_after_the_conversion() {
    let (fixture, left) = opened(Backend::Postgres).await;
    assert!(!fixture.store.is_compact());
    let new = saga("dee", "k", "same");
    let (admitted, _) = fixture.write_twice(&[saga("eve", "k", "same"), saga("ada", "k", "same")], &[]).await;
    assert!(matches!(admitted[0], AdmissionOutcome::Queued { .. }), "somebody waits: {admitted:?}");
    assert_eq!(admitted[1], AdmissionOutcome::Existing { id: left.at_work, same_request: true });
    assert_eq!(fixture.claim(2, &[(left.waiting, 3)]).await, [true]);
    let (_, rows) = fixture.store.read_line::<()>(&fixture.instance, Ticket(0), 10).await.unwrap();
    assert_eq!(fixture.claim(3, &[(rows[0].id, rows[0].ticket.0)]).await, [true]);
    let (admitted, appended) = fixture.write_twice(std::slice::from_ref(&new), &[events(left.at_work, 4, 5)]).await;
    assert_eq!((admitted, appended), (vec![NEW], vec![AppendOutcome::Appended]));
    assert_eq!([fixture.number(IN_ROWS).await, fixture.number(NOT_IN_OLD_FORM).await], [0, 0]);
    for (id, log) in [(new.id, &[1][..]), (left.waiting, &[1]), (left.at_work, &[1, 2, 3, 4, 5])] {
        assert_eq!(fixture.log(id).await, log);
    }

    fixture.convert().await;
    for (id, log) in [(new.id, &[1][..]), (left.waiting, &[1]), (left.finished, &[1, 2])] {
        assert_eq!(fixture.log(id).await, log);
    }
    let newest = saga("fay", "k", "same");
    let appends = [events(left.at_work, 6, 6), finished(left.waiting, 2), events(new.id, 3, 3)];
    let (admitted, appended) = fixture.write_twice(std::slice::from_ref(&newest), &appends).await;
    use AppendOutcome::{Appended, Conflict};
    assert_eq!((admitted, appended), (vec![NEW], vec![Appended, Appended, Conflict]));
    assert_eq!(fixture.number(IN_ROWS).await, 3);
    for (id, log) in [(newest.id, &[1][..]), (left.waiting, &[1, 2]), (left.at_work, &[1, 2, 3, 4, 5, 6])] {
        assert_eq!(fixture.log(id).await, log);
    }
    let again = [saga("ada", "k", "other"), saga("cyd", "k", "same"), saga("bob", "k", "same")];
    let (admitted, _) = write(&fixture.store, &fixture.instance, &again, &[]).await.unwrap();
    let existing = |id, same_request| AdmissionOutcome::Existing { id, same_request };
    assert_eq!(admitted, [existing(left.at_work, false), existing(left.finished, true), existing(left.waiting, true)]);
    // After the conversion, sagas of an instance that was started before it can be adopted.
    fixture.store.release(&fixture.instance).await.unwrap();
    let next = InstanceId::generate();
    fixture.store.register(&next, LONG_MS).await.unwrap();
    let adoptable = fixture.store.adoptable(&[("one", 1)], 10).await.unwrap();
    assert!(adoptable.contains(&left.at_work) && adoptable.contains(&newest.id), "{adoptable:?}");
    let adopted = fixture.store.adopt(&next, &adoptable).await.unwrap();
    assert!(adopted.iter().all(|row| row.log.is_ok()), "{adopted:?}");
}

/// A long log goes on in rows of `saga_events`, and is read as a whole.
#[tokio::test]
async fn a_log_is_read_from_both_of_its_places() {
    for backend in BACKENDS {
        let (fixture, left) = opened(backend).await;
        fixture.convert().await;
        assert_eq!(fixture.claim(2, &[(left.waiting, 3)]).await, [true], "{backend:?}");
        let new = left.waiting;
        for id in [left.at_work, new] {
            let begins = fixture.log(id).await.len() as u64 + 1;
            for first in (begins..24).step_by(5) {
                let append = [events(id, first, first + 4)];
                assert_eq!(fixture.write_twice(&[], &append).await.1, [AppendOutcome::Appended], "{backend:?}");
            }
            let log = fixture.log(id).await;
            assert!(log.len() > 20 && log.iter().copied().eq(1..=log.len() as u64), "{backend:?}: {log:?}");
        }
        assert!(fixture.number("SELECT COUNT(*) AS n FROM saga_events WHERE sequence > 12").await >= 2, "{backend:?}");
        assert_eq!(fixture.number(IN_ROWS).await, 2, "{backend:?}");
    }
}
