//! Calls that go ahead of the log, calls that wait for it, and a process that ends between the two.

use matricula_engine::{Event, Outcome};
use matricula_kit::database::Database;
use matricula_kit::testing::BACKENDS;
use matricula_runtime::SagaId;

use crate::crash::{refuse_events_of, short_lease, take_all_events};
use crate::system::{Place, System, eventually, finished, new};
use crate::world::{Order, World};

const AHEAD: [&str; 4] = ["charge", "enroll", "hold", "reserve"];
const AHEAD_WITH_PIVOT: [&str; 5] = ["charge", "commit", "enroll", "hold", "reserve"];

/// A saga whose log the database refuses from its second event on, after it has made all calls that it may make.
async fn ahead_of_its_log(system: &System) -> SagaId {
    has_done_ahead(system, &AHEAD).await
}

async fn has_done_ahead(system: &System, ahead: &[&str]) -> SagaId {
    system.world.hold("Reserve");
    let (id, _) = system.submit("k", Order::default()).await;
    refuse_events_of(&system.database, id).await;
    system.world.release("Reserve");
    let world = &system.world;
    eventually("all that may go ahead is done", async || {
        let mut done = world.done(id);
        done.sort();
        done == ahead
    })
    .await;
    let store = system.runtime.store();
    eventually("its log is refused", async || store.get(id).await.unwrap().unwrap().needs_attention).await;
    id
}

#[tokio::test]
async fn the_pivot_waits_for_the_log_and_compensatable_calls_do_not() {
    for backend in BACKENDS {
        let (_place, system) = new(backend, short_lease()).await;
        let id = ahead_of_its_log(&system).await;
        assert_eq!(system.world.rpcs("Commit").len(), 0, "{backend:?}");
        let watcher = system.runtime.watch(id);
        take_all_events(&system.database).await;
        assert_eq!(finished(watcher).await.outcome(), Outcome::Committed, "{backend:?}");
        system.world.audit(id, Outcome::Committed);
    }
}

#[tokio::test]
async fn calls_ahead_of_a_lost_log_are_undone_by_an_adopter_that_compensates() {
    for backend in BACKENDS {
        let (place, system) = new(backend, short_lease()).await;
        let id = ahead_of_its_log(&system).await;
        let system = crash_and_mend(&place, system).await;
        eventually("it is taken over", async || system.cancel(id, "ada", "changed my mind").await.is_ok()).await;
        assert_eq!(finished(system.runtime.watch(id)).await.outcome(), Outcome::Cancelled, "{backend:?}");
        system.world.audit(id, Outcome::Cancelled);
        let log = system.runtime.store().get(id).await.unwrap().unwrap().log.unwrap();
        assert!(matches!(log[1].event, Event::Adopted { .. }), "{backend:?}: {log:?}");
    }
}

#[tokio::test]
async fn calls_ahead_of_a_lost_log_are_repeated_by_an_adopter_that_goes_on() {
    for backend in BACKENDS {
        let (place, system) = new(backend, short_lease()).await;
        let id = ahead_of_its_log(&system).await;
        let system = crash_and_mend(&place, system).await;
        system.world.release("Reserve");
        assert_eq!(finished(system.runtime.watch(id)).await.outcome(), Outcome::Committed, "{backend:?}");
        system.world.audit(id, Outcome::Committed);
    }
}

#[tokio::test]
async fn a_pivot_ahead_of_a_lost_log_is_found_by_an_adopter_that_compensates() {
    for backend in BACKENDS {
        let place = Place::new(backend).await;
        let system = System::start(place.open().await, World::asked(), short_lease()).await;
        let id = has_done_ahead(&system, &AHEAD_WITH_PIVOT).await;
        let system = crash_and_mend(&place, system).await;
        eventually("it is taken over", async || system.cancel(id, "ada", "changed my mind").await.is_ok()).await;
        let watcher = system.runtime.watch(id);
        system.world.release("Reserve");
        assert_eq!(finished(watcher).await.outcome(), Outcome::Committed, "{backend:?}");
        system.world.audit(id, Outcome::Committed);
        let log = system.runtime.store().get(id).await.unwrap().unwrap().log.unwrap();
        let turns: Vec<_> =
            log.iter().map(|recorded| recorded.event.name()).filter(|name| name.starts_with("turned")).collect();
        assert_eq!(turns, ["turned", "turned_back"], "{backend:?}");
    }
}

#[tokio::test]
async fn a_pivot_that_was_never_called_is_withdrawn_before_anything_is_undone() {
    for backend in BACKENDS {
        let place = Place::new(backend).await;
        let system = System::start(place.open().await, World::asked(), short_lease()).await;
        system.world.hold("Commit");
        let id = has_done_ahead(&system, &AHEAD).await;
        let system = crash_and_mend(&place, system).await;
        eventually("it is taken over", async || system.cancel(id, "ada", "changed my mind").await.is_ok()).await;
        assert_eq!(finished(system.runtime.watch(id)).await.outcome(), Outcome::Cancelled, "{backend:?}");
        system.world.audit(id, Outcome::Cancelled);
        let names: Vec<_> = system.world.now().rpcs.iter().map(|(name, _)| *name).collect();
        let first_undo = names.iter().position(|name| ["Unreserve", "Release", "Unenroll", "Void"].contains(name));
        assert!(names.iter().position(|name| *name == "Withdraw") < first_undo, "{backend:?}: {names:?}");
    }
}

/// The process ends, the database accepts events again, and another instance adopts the saga. Its first call hangs.
async fn crash_and_mend(place: &Place, system: System) -> System {
    let world = system.crash().await;
    let database: Database = place.open().await;
    take_all_events(&database).await;
    world.hold("Reserve");
    System::start(database, world, short_lease()).await
}
