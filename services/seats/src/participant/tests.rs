//! Seats through the real writer on both databases: every order of every operation, the rush for the last seats, two
//! replicas on one database.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::future::join_all;
use matricula_kit::answer::Answer;
use matricula_kit::database::Args;
use matricula_kit::id::{OverrideId, SagaId, SectionId, StepName, StudentId};
use matricula_kit::participant::{Direction, Key, Writer, WriterLimits};
use matricula_kit::tasks::Tasks;
use matricula_kit::telemetry::TraceContext;
use matricula_kit::testing::{self, BACKENDS, Backend, TestDatabase, UPGRADES};

use super::*;
use crate::domain::{Hold, HoldKey, Section, Wanted};

/// Longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(60);

struct Service {
    writer: Writer<Seats>,
    test: TestDatabase,
}

impl Service {
    async fn new(backend: Backend, capacities: &[(&str, i32)]) -> Self {
        let test = testing::database(backend, &crate::SCHEMA).await;
        let service = Self { writer: writer(&test.database), test };
        let capacities = capacities.iter().map(|(id, capacity)| (section(id), *capacity)).collect();
        let answers = service.writer.write(vec![Operation::staff(Command::Import { base_version: 0, capacities })]);
        assert_eq!(answers.await.expect("committed"), [Answer::done()]);
        service
    }

    async fn is_done(&self, operation: Operation<Command>) -> bool {
        is_done(&self.writer, operation).await
    }

    async fn sections(&self) -> Vec<Section> {
        let mut snapshot = self.test.database.snapshot().await.expect("a snapshot");
        store::SECTIONS.all(&mut snapshot).await.expect("read")
    }

    async fn holds(&self) -> Vec<Hold> {
        let mut snapshot = self.test.database.snapshot().await.expect("a snapshot");
        store::HOLDS.all(&mut snapshot).await.expect("read")
    }

    /// Taken seats of every section; proves on the way that the ledger says the same and that every grant had a right.
    async fn state(&self) -> String {
        let holds = self.holds().await;
        let mut shown = String::new();
        for section in self.sections().await {
            let live = holds.iter().filter(|hold| hold.key.1 == section.id && hold.released.is_none()).count();
            assert_eq!(section.taken as usize, live, "{section:?}");
            shown.push_str(&format!("{} {} ", section.id, section.taken));
        }
        for hold in &holds {
            assert!(hold.taken_after <= hold.capacity_at_grant || hold.override_id.is_some(), "{hold:?}");
        }
        shown
    }
}

fn writer(database: &Database) -> Writer<Seats> {
    let seats = Arc::new(Seats::new(Arc::default(), database, TimeZone::UTC));
    Writer::alone(seats, database.clone(), WriterLimits::default()).0
}

async fn is_done(writer: &Writer<Seats>, operation: Operation<Command>) -> bool {
    let answers = writer.write(vec![operation]).await.expect("committed");
    matches!(answers[..], [Answer::Done(_)])
}

fn section(id: &str) -> SectionId {
    SectionId::try_new(id).expect("a valid id")
}

fn operation(
    saga: &SagaId,
    step: &str,
    direction: Direction,
    command: impl FnOnce(Key) -> Command,
) -> Operation<Command> {
    let key = Key { saga: saga.clone(), step: StepName::try_new(step).expect("a valid name") };
    Operation {
        key: Some(key.clone()),
        direction,
        trace: TraceContext::default(),
        owner_alive_at: None,
        command: command(key),
    }
}

fn hold(saga: &SagaId, sections: &[&str]) -> Operation<Command> {
    let wanted = sections.iter().map(|id| Wanted { section: section(id), override_id: None }).collect();
    let student = StudentId::stored(format!("of-{saga}"));
    operation(saga, "hold_seats", Direction::Forward, |holder| Command::Hold { holder, student, wanted })
}

fn undo(saga: &SagaId) -> Operation<Command> {
    operation(saga, "hold_seats", Direction::Compensation, Command::ReleaseStep)
}

fn drop_of(saga: &SagaId, seats: &[HoldKey]) -> Operation<Command> {
    let seats = seats.to_vec();
    operation(saga, "release_dropped_seats", Direction::Forward, |key| Command::ReleaseDropped { by: key.saga, seats })
}

#[tokio::test]
async fn a_hold_and_its_undo_in_every_order() {
    for backend in BACKENDS {
        let service = Service::new(backend, &[("A", 3), ("B", 1)]).await;
        testing::barrier_holds(
            &service.writer,
            |saga| (hold(&saga, &["A", "B"]), undo(&saga)),
            async || service.state().await,
        )
        .await;
    }
}

#[tokio::test]
async fn a_dropped_seat_is_given_back_once_and_never_a_later_one() {
    for backend in BACKENDS {
        let service = Service::new(backend, &[("A", 3)]).await;
        let (first, dropping, again) = (SagaId::generate(), SagaId::generate(), SagaId::generate());
        assert!(service.is_done(hold(&first, &["A"])).await);
        let seat = (first.clone(), section("A"));
        assert!(service.is_done(drop_of(&dropping, std::slice::from_ref(&seat))).await);
        assert_eq!(service.state().await, "A 0 ");
        assert!(service.is_done(hold(&again, &["A"])).await);
        // The same operation late, and another drop of the same seat: neither reaches the seat that was taken since.
        assert!(service.is_done(drop_of(&dropping, std::slice::from_ref(&seat))).await);
        assert!(service.is_done(drop_of(&SagaId::generate(), &[seat.clone(), (first, section("X"))])).await);
        assert_eq!(service.state().await, "A 1 ");
        let holds = service.holds().await;
        let released: Vec<Option<SagaId>> = holds.into_iter().map(|hold| hold.released.map(|(_, by)| by)).collect();
        assert_eq!(released, [Some(dropping), None]);
    }
}

#[tokio::test]
async fn the_rush_for_the_last_seats() {
    for backend in BACKENDS {
        let service = Service::new(backend, &[("A", 10), ("B", 1_000)]).await;
        let students: Vec<SagaId> = (0..500).map(|_| SagaId::generate()).collect();
        let outcomes = join_all(students.iter().map(|saga| service.is_done(hold(saga, &["A", "B"])))).await;
        assert_eq!(outcomes.iter().filter(|done| **done).count(), 10, "{backend:?}");
        assert_eq!(service.state().await, "A 10 B 10 ");
        let sections = service.sections().await;
        assert_eq!((sections[0].version, sections[0].closed_at.is_some()), (11, true));
        assert_eq!((sections[1].version, sections[1].closed_at), (11, None));
        let mut order: Vec<(i32, i64)> = service
            .holds()
            .await
            .iter()
            .filter(|hold| hold.key.1 == section("A"))
            .map(|hold| (hold.taken_after, hold.section_version))
            .collect();
        order.sort_unstable();
        let expect: Vec<(i32, i64)> = (1..=10).zip(2..).collect();
        assert_eq!(order, expect, "every grant has its own number and its own version");
    }
}

/// A commit whose end is not known may have changed what watchers see: they begin anew when it is decided, without
/// waiting for a next change.
#[tokio::test]
async fn a_commit_in_doubt_ends_the_feed_until_it_is_decided() {
    let service = Service::new(Backend::Sqlite, &[("A", 3)]).await;
    let feed = Arc::new(Feed::default());
    let shutdown = tokio_util::sync::CancellationToken::new();
    let tasks = Tasks::new("seats");
    feed::follow(feed.clone(), &service.test.database, shutdown.clone(), &tasks).await.expect("it follows");
    // It hears nothing of the service's commits, as if each of their answers was lost.
    let seats = Seats::new(feed.clone(), &service.test.database, TimeZone::UTC);
    let watch = || feed.watch(service.test.database.clone());
    let mut watching = watch().expect("the feed is open");
    let taken = |update: Option<Result<feed::Update, feed::FeedError>>| match update {
        Some(Ok(update)) => update.sections.first().map(|section| section.taken),
        _ => None,
    };
    assert_eq!(taken(watching.next().await), Some(0));
    assert!(service.is_done(hold(&SagaId::generate(), &["A"])).await);
    seats.in_doubt();
    assert!(matches!(watching.next().await, Some(Err(feed::FeedError::NotConnected))), "it does not go on");
    assert!(watch().is_err(), "nobody is told an old state meanwhile");
    seats.settled();
    assert_eq!(taken(watch().expect("the feed is open again").next().await), Some(1));
    // What the service has ended stays ended.
    shutdown.cancel();
    assert_eq!(tasks.join(Instant::now() + PATIENCE).await, 0, "it ends");
    seats.settled();
    assert!(watch().is_err());
}

/// The way to the database is gone and nobody says so: the feed falls silent and ends, instead of calling live what it
/// does not hear of any more, and goes on by another way.
#[tokio::test]
async fn a_way_that_hangs_ends_the_feed() {
    let service = Service::new(Backend::Postgres, &[("A", 3)]).await;
    let proxy = testing::Proxy::before(&service.test.url).await;
    let database = Database::open(proxy.url()).await.expect("a way through the proxy");
    let feed = Arc::new(Feed::default());
    let shutdown = tokio_util::sync::CancellationToken::new();
    let tasks = Tasks::new("seats");
    feed::follow(feed.clone(), &database, shutdown.clone(), &tasks).await.expect("it follows");
    let hanging = async {
        let mut watching = feed.watch(database.clone()).expect("the feed is open");
        let state = watching.next().await.expect("a state").expect("it is read");
        assert_eq!(state.sections[0].taken, 0);
        let beat = watching.next().await.expect("a heartbeat").expect("the server answers");
        assert_eq!(beat.sections, []);
        proxy.hang();
        assert!(service.is_done(hold(&SagaId::generate(), &["A"])).await);
        let mut after = Vec::new();
        while let Some(Ok(update)) = watching.next().await {
            after.push(update);
            assert!(after.len() <= 1, "more than what was on its way: {after:?}");
        }
        loop {
            let state = match feed.watch(database.clone()) {
                Ok(mut watching) => watching.next().await,
                Err(_) => None,
            };
            match state {
                Some(Ok(state)) => break assert_eq!(state.sections[0].taken, 1),
                _ => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(40), hanging).await.expect("it finds another way");
    shutdown.cancel();
    assert_eq!(tasks.join(Instant::now() + PATIENCE).await, 0, "it ends");
}

#[tokio::test]
async fn two_replicas_sell_exactly_the_capacity() {
    let sections = ["A", "B", "C", "D"];
    let service = Service::new(Backend::Postgres, &sections.map(|id| (id, 25))).await;
    let other = writer(&Database::open(&service.test.url).await.expect("a second replica"));
    let students: Vec<(usize, SagaId)> = (0..400).map(|index| (index, SagaId::generate())).collect();
    let outcomes = join_all(students.iter().map(|(index, saga)| {
        // Two sections each, named in changing order: nobody waits in a circle.
        let (one, two) = (sections[index % 4], sections[(index / 4 + index + 1) % 4]);
        let wanted = if one == two { vec![one] } else { vec![one, two] };
        let replica = if index % 2 == 0 { &service.writer } else { &other };
        is_done(replica, hold(saga, &wanted))
    }))
    .await;
    assert!(outcomes.contains(&false), "more wanted than there is");
    assert_eq!(service.state().await, "A 25 B 25 C 25 D 25 ");

    // The same undo at both replicas at once, for all of them.
    let undos = students.iter().flat_map(|(_, saga)| [(&service.writer, saga), (&other, saga)]);
    let undone = join_all(undos.map(|(replica, saga)| is_done(replica, undo(saga)))).await;
    assert!(undone.iter().all(|done| *done));
    assert_eq!(service.state().await, "A 0 B 0 C 0 D 0 ");
}

#[tokio::test]
async fn a_capacity_can_move_while_seats_are_taken() {
    for backend in BACKENDS {
        let service = Service::new(backend, &[("A", 2)]).await;
        let set = |id: &str, capacity| Operation::staff(Command::SetCapacity { section: section(id), capacity });
        let (one, two) = (SagaId::generate(), SagaId::generate());
        assert!(service.is_done(hold(&one, &["A"])).await && service.is_done(hold(&two, &["A"])).await);
        assert!(service.is_done(set("A", 1)).await);
        assert!(!service.is_done(hold(&SagaId::generate(), &["A"])).await);
        assert!(service.is_done(undo(&one)).await);
        assert!(!service.is_done(hold(&SagaId::generate(), &["A"])).await);
        assert!(service.is_done(set("A", 2)).await);
        assert!(service.is_done(hold(&SagaId::generate(), &["A"])).await);
        assert!(service.is_done(set("A", 0)).await);
        assert!(!service.is_done(hold(&SagaId::generate(), &["A"])).await);
        assert!(!service.is_done(set("X", 1)).await);
        assert_eq!(service.state().await, "A 2 ");
    }
}

/// A grant that an earlier version of the service has stored has no version; it can be released like any other.
#[tokio::test]
async fn a_grant_of_an_earlier_version_is_kept_without_a_version() {
    const SECTION: &str =
        "INSERT INTO sections (section_id, capacity, taken, version, changed_at) VALUES ('A', 2, 1, 2, 5)";
    const HOLD: &str = "INSERT INTO holds (registration_id, section_id, step, student_id, granted_at, taken_after, \
         capacity_at_grant) VALUES ('r0', 'A', 'hold_seats', 'S', 5, 1, 2)";
    /// What the barrier has of the step that took it.
    const ANSWERED: &str = "INSERT INTO barrier (saga_id, step, answer, undone, recorded_at) \
         VALUES ('r0', 'hold_seats', '{\"done\":{}}', 0, 5)";
    for upgrade in UPGRADES {
        let rows = [SECTION, HOLD, ANSWERED].map(|sql| (sql, Args::new()));
        let test = testing::upgraded(upgrade, &crate::SCHEMA, 102, &rows).await;
        let service = Service { writer: writer(&test.database), test };
        let before = SagaId::stored("r0".to_owned());
        assert!(service.is_done(hold(&before, &["A"])).await, "a repeat takes no seat");
        assert_eq!(service.state().await, "A 1 ", "{upgrade:?}");
        assert!(service.is_done(hold(&SagaId::generate(), &["A"])).await);
        let mut versions: Vec<i64> = service.holds().await.iter().map(|hold| hold.section_version).collect();
        versions.sort_unstable();
        assert_eq!(versions, [0, 3], "{upgrade:?}");
        assert!(service.is_done(drop_of(&SagaId::generate(), &[(before, section("A"))])).await);
        assert_eq!(service.state().await, "A 1 ", "{upgrade:?}");
    }
}

#[tokio::test]
async fn an_override_beyond_the_capacity_is_on_the_ledger() {
    for backend in BACKENDS {
        let service = Service::new(backend, &[("A", 1)]).await;
        assert!(service.is_done(hold(&SagaId::generate(), &["A"])).await);
        let wanted = vec![Wanted { section: section("A"), override_id: Some(OverrideId::stored("O-7".to_owned())) }];
        let student = StudentId::stored("S2".to_owned());
        let command = |holder| Command::Hold { holder, student, wanted };
        assert!(service.is_done(operation(&SagaId::generate(), "hold_seats", Direction::Forward, command)).await);
        assert_eq!(service.state().await, "A 2 ");
        let grants: Vec<(i32, i64, Option<String>)> = service
            .holds()
            .await
            .into_iter()
            .map(|hold| (hold.taken_after, hold.section_version, hold.override_id.map(Into::into)))
            .collect();
        assert_eq!(grants, [(1, 2, None), (2, 3, Some("O-7".to_owned()))]);
    }
}
