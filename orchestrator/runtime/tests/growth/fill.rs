//! Many finished sagas and receipts, written with few statements.

use matricula_engine::{Direction, Event, Recorded};
use matricula_kit::database::{Args, Database, Rows};
use matricula_kit::testing::Backend;
use matricula_runtime::{SagaStore, Submission};

use crate::system::{Place, order};
use crate::world::{Order, definition};

/// The number of subjects: students of a large university.
const SUBJECTS: i64 = 50_000;

/// The id of a saga of the hot tables.
pub fn hot(number: i64) -> String {
    format!("01900000-0000-7000-8000-{number:012x}")
}

/// The id of a saga that has only its receipt.
pub fn old(number: i64) -> String {
    format!("01800000-0000-7000-8000-{number:012x}")
}

/// The original submission of one of them: `hot7` or `old7`.
pub fn again(key: &str) -> Submission<Order> {
    let number: i64 = key[3..].parse().unwrap();
    Submission { subject: format!("s{}", number % SUBJECTS), ..order(key, Order::default()) }
}

/// The log of a saga that went straight to its end.
fn log() -> Vec<Recorded> {
    let definition = definition();
    let steps: Vec<&'static str> = definition.steps().iter().map(|step| step.name).collect();
    let succeeded = |step: &&'static str| Event::Succeeded {
        step: (*step).to_owned(),
        direction: Direction::Forward,
        attempt: 1,
        started_at_ms: 1_700_000_000_000,
        output: format!("what {step} has answered, in as many words as there are in an answer of a service"),
    };
    let mut events = vec![definition.admit(steps.iter().copied(), 1_700_000_000_000)];
    events.extend(steps.iter().map(succeeded));
    events.push(Event::Finished);
    (1..).zip(events).map(|(sequence, event)| Recorded { sequence, at_ms: 1_700_000_000_000, event }).collect()
}

fn numbers(backend: Backend) -> &'static str {
    match backend {
        Backend::Sqlite => {
            "(WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ROWS - 1) \
             SELECT i, printf('%012x', i) AS hex FROM n) AS n"
        }
        Backend::Postgres => "(SELECT i, lpad(to_hex(i), 12, '0') AS hex FROM generate_series(0, ROWS - 1) AS i) AS n",
    }
}

/// The SQL of an id that begins so, by the number of its row.
fn id(backend: Backend, begins: &str) -> String {
    match backend {
        Backend::Sqlite => format!("'{begins}-0000-7000-8000-' || n.hex"),
        Backend::Postgres => format!("decode('{begins}000070008000' || n.hex, 'hex')"),
    }
}

/// So many finished sagas with their logs, and as many receipts. The logs are those of an earlier build.
pub async fn fill(place: &Place, backend: Backend, rows: i64) {
    let database = place.open().await;
    SagaStore::open(database.clone()).await.unwrap();
    let request = serde_json::to_string(&Order::default()).unwrap();
    let numbers = numbers(backend).replace("ROWS", &rows.to_string());
    let log = log();
    let sagas = format!(
        "INSERT INTO sagas (saga_id, definition, version, subject, idempotency_key, fingerprint, request, traceparent, \
         tracestate, created_at, owner, sequence, phase, outcome, needs_attention, finished, updated_at) \
         SELECT {}, 'order', 1, 's' || (n.i % {SUBJECTS}), 'hot' || n.i, $1, $1, '', '', \
         1700000000000, {}, {}, 'completed', 'committed', 0, 1, 1700000000000 FROM {numbers}",
        id(backend, "01900000"),
        if backend == Backend::Postgres { "'\\xff676f6e65'::bytea" } else { "'gone'" },
        log.len()
    );
    let receipts = format!(
        "INSERT INTO receipts (saga_id, definition, version, subject, idempotency_key, fingerprint, request, created_at, \
         finished_at, phase, outcome, receipt, archived_in) \
         SELECT {}, 'order', 1, 's' || (n.i % {SUBJECTS}), 'old' || n.i, $1, $1, \
         1600000000000, 1600000000000, 'completed', 'committed', '\"committed\"', 'somewhere' FROM {numbers}",
        id(backend, "01800000")
    );
    let mut tx = database.begin().await.unwrap();
    for sql in [sagas, receipts] {
        tx.execute(sql.leak(), Args::new().text(request.as_str())).await.unwrap();
    }
    const EVENTS: &str = "INSERT INTO saga_events (saga_id, sequence, at, event) \
        SELECT s.saga_id, r.sequence, r.at, r.event FROM sagas s CROSS JOIN {rows} ORDER BY s.saga_id, r.sequence";
    let lines = Rows::new()
        .int("sequence", log.iter().map(|line| line.sequence as i64))
        .int("at", log.iter().map(|line| line.at_ms))
        .text("event", log.iter().map(|line| serde_json::to_string(&line.event).unwrap()));
    tx.execute(EVENTS, lines.into()).await.unwrap();
    tx.commit().await.unwrap();
    if backend == Backend::Postgres {
        // As the server does by itself, sooner or later.
        let mut tx = database.begin().await.unwrap();
        tx.execute("ANALYZE", Args::new()).await.unwrap();
        tx.commit().await.unwrap();
    }
    database.close().await;
}

/// Rows of the receipts, or of the sagas that the database was filled with.
pub async fn count(database: &Database, table: &str) -> i64 {
    let sql: &'static str = match table {
        "filled" => "SELECT COUNT(*) AS n FROM sagas WHERE created_at = 1700000000000",
        "events" => "SELECT COUNT(*) AS n FROM saga_events",
        "receipts" => "SELECT COUNT(*) AS n FROM receipts",
        other => panic!("no count of {other}"),
    };
    database.fetch(sql, Args::new()).await.unwrap()[0].int("n").unwrap()
}
