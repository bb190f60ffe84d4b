//! Sagas whose rows were corrupted: all others run, and these are marked with the reason.

use std::time::{Duration, Instant};

use matricula_harness::campus::bundle;
use matricula_harness::{PATIENCE, Sql, System, submission, submit};
use matricula_kit::testing::{BACKENDS, Backend};
use matricula_proto::registration::v1::Outcome;

/// Between two checks of a fact without a notification.
const LOOK: Duration = Duration::from_millis(50);

/// A corruption: its name, its change of the saga `$`, and the resulting message of `saga show`. An entry of a log
/// begins with `ENTRY` and the number of its first event, as a character: a quotation mark is 2, and an apostrophe is
/// 7.
type Poison = (&'static str, &'static str, &'static str);

const POISONS: [Poison; 6] = [
    (
        "an event that is no JSON",
        "UPDATE sagas SET log = REPLACE(log, ENTRY || '\"', ENTRY || '\"none') WHERE saga_id = $",
        "event 2",
    ),
    (
        "a gap",
        "UPDATE sagas SET log = REPLACE(log, ENTRY || '\"', ENTRY || '''') WHERE saga_id = $",
        "event 7 stands where 2 should",
    ),
    ("a log cut short", "UPDATE sagas SET sequence = 3 WHERE saga_id = $", "ends with event 2"),
    ("a request that is none", "UPDATE sagas SET request = '[1]' WHERE saga_id = $", "request"),
    ("an unknown version", "UPDATE sagas SET version = 99 WHERE saga_id = $", "v99 is not known"),
    (
        "an operation that no service takes",
        "UPDATE sagas SET request = REPLACE(request, '\"A\"', '\"no id!\"') WHERE saga_id = $",
        "invalid_argument",
    ),
];

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let give_up_at = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < give_up_at, "never: {what}");
        tokio::time::sleep(LOOK).await;
    }
}

#[tokio::test]
async fn poisoned_sagas_are_shown_and_block_no_other() {
    for backend in BACKENDS {
        let settings = [("orchestrator.runtime.lease_ttl_ms", "1500")];
        check(System::separate(backend, &settings).await, backend).await;
    }
}

async fn check(mut system: System, backend: Backend) {
    let count = POISONS.len() as u32 + 3;
    system.import(&bundle(&[("A", 100, "")], count));
    // All wait for their seats when the orchestrator dies.
    system.pause("seats");
    let portal = system.channel("orchestrator").await;
    let mut ids = Vec::new();
    for student in 1..=count {
        let mut click = submission(&format!("S{student}"), "k", &["A"], &[]);
        click.wait_ms = 0;
        ids.push(submit(&portal, click).await.registration_id);
    }
    drop(portal);
    let mut log = Sql::open(&system.database_url("orchestrator")).await;
    until("all are reserved", async || {
        log.number("SELECT COUNT(*) FROM sagas WHERE sequence = 2").await == i64::from(count)
    })
    .await;
    system.kill("orchestrator");
    for ((name, corrupt, _), id) in POISONS.iter().zip(&ids) {
        let (entry, id) = match backend {
            Backend::Sqlite => ("char(1)", format!("'{id}'")),
            Backend::Postgres => ("chr(1)", format!("decode('{}', 'hex')", id.replace('-', ""))),
        };
        assert_eq!(log.run(&corrupt.replace("ENTRY", entry).replace('$', &id)).await, 1, "{name}");
    }
    system.restart("orchestrator");
    system.resume("seats");

    let portal = system.channel("orchestrator").await;
    for student in POISONS.len() as u32 + 1..=count {
        let outcome = submit(&portal, submission(&format!("S{student}"), "k", &["A"], &[])).await;
        assert_eq!(outcome.outcome(), Outcome::Enrolled, "{backend:?}: {outcome:?}");
    }
    let poisoned = &ids[..POISONS.len()];
    until("all that is poisoned is flagged", async || {
        let listed = system.done(&["saga", "list", "--needs-attention"]);
        poisoned.iter().all(|id| listed.contains(id)) && !ids[POISONS.len()..].iter().any(|id| listed.contains(id))
    })
    .await;
    for ((name, _, reason), id) in POISONS.iter().zip(poisoned) {
        let shown = system.done(&["saga", "show", id]).to_lowercase();
        assert!(shown.contains(&reason.to_lowercase()), "{backend:?}: {name}: {reason:?} is missing:\n{shown}");
    }
    // A saga that needs attention violates no invariant, and the audit counts such sagas.
    let audit = system.done(&["audit"]);
    assert!(audit.contains(&format!("{} registrations need attention", POISONS.len())), "{audit}");
}
