//! Removes the fence from outside: then a dead instance goes on writing, and the tests detect it.

use matricula_kit::database::{Args, Database};
use matricula_kit::testing::Backend;
use matricula_runtime::{RuntimeConfig, SagaFilter, SagaId, Submitted};

use crate::system::{System, config, eventually, finished, new, order, within};
use crate::world::Order;

/// The rows that are set back in the database after an instance was declared dead and its sagas were adopted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opened {
    Nothing,
    /// The mark that it is dead.
    Fence,
    /// The mark, and the owner of its sagas.
    FenceAndOwner,
}

const SAGAS: usize = 20;

/// What an instance does wrong after its sagas were given to another, which has ended since, so that all that is
/// written is written by the first.
async fn wrongs(opened: Opened) -> Vec<&'static str> {
    // The first instance can detect only by its writes that it was declared dead.
    let long = RuntimeConfig { lease_ttl_ms: 600_000, ..config() };
    let (place, first) = new(Backend::Postgres, long).await;
    first.world.hold("Hold");
    let sagas = first.submit_all("k", SAGAS).await;
    let newest = sagas.iter().map(|(id, _)| *id).max().unwrap();
    reserved(&first).await;

    let second =
        System::start(place.open().await, first.world.clone(), RuntimeConfig { lease_ttl_ms: 600, ..config() }).await;
    let instance = || Args::new().id(first.runtime.instance().as_str());
    first.sql("UPDATE instances SET dead = 1 WHERE instance_id = $1", instance()).await;
    let adopter = second.runtime.instance().as_str();
    eventually("all are adopted", async || {
        let rows = first.list(SagaFilter { limit: 100, unfinished: true, ..SagaFilter::default() }).await;
        rows.len() == SAGAS && rows.iter().all(|row| row.owner == adopter)
    })
    .await;
    second.crash().await;
    let before = events(&first.database, newest).await;

    if opened != Opened::Nothing {
        first.sql("UPDATE instances SET dead = 0 WHERE instance_id = $1", instance()).await;
    }
    if opened == Opened::FenceAndOwner {
        first.sql("UPDATE sagas SET owner = $1", instance()).await;
    }
    first.world.release("Hold");
    let late = order("late", Order::default());
    let watcher = first.runtime.watch(late.id);
    let is_admitted = matches!(first.runtime.submit(late).await, Ok(Submitted::Accepted { .. }));
    if is_admitted {
        // Its answers come after the delayed ones, and so do its events.
        finished(watcher).await;
    }
    let System { task, database, shutdown, .. } = first;
    let has_stopped = !is_admitted && within(task).await.unwrap().is_err();
    shutdown.cancel();

    let mut wrongs = Vec::new();
    wrongs.extend((!has_stopped).then_some("it goes on"));
    wrongs.extend(is_admitted.then_some("it admits sagas"));
    let appended = events(&database, newest).await - before;
    wrongs.extend((appended > 0).then_some("it writes to sagas that are another's"));
    wrongs
}

/// Waits until the first step of every saga is recorded, and the second is called.
async fn reserved(system: &System) {
    eventually("all are reserved", async || {
        let rows = system.list(SagaFilter { limit: 100, ..SagaFilter::default() }).await;
        rows.iter().all(|row| row.log.as_ref().is_ok_and(|log| log.len() == 2))
    })
    .await;
    system.world.until(|world| world.in_flight.get("beta").is_some_and(|rpcs| *rpcs > 0)).await;
}

/// Events of the sagas up to this one.
async fn events(database: &Database, newest: SagaId) -> i64 {
    let sql = "SELECT CAST(SUM(sequence) AS BIGINT) AS events FROM sagas WHERE saga_id <= $1";
    database.fetch(sql, Args::new().id(newest.to_string())).await.unwrap()[0].int("events").unwrap()
}

#[tokio::test]
async fn an_instance_that_was_given_up_does_nothing_more() {
    assert_eq!(wrongs(Opened::Nothing).await, Vec::<&str>::new());
}

/// Its sagas have another owner: that alone keeps it from writing to them.
#[tokio::test]
async fn an_open_fence_is_seen() {
    assert_eq!(wrongs(Opened::Fence).await, ["it goes on", "it admits sagas"]);
}

#[tokio::test]
async fn an_open_fence_without_owners_is_seen() {
    let all = ["it goes on", "it admits sagas", "it writes to sagas that are another's"];
    assert_eq!(wrongs(Opened::FenceAndOwner).await, all);
}
