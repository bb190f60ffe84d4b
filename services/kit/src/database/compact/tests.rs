//! Ids in both forms, and conversions of databases in use.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use super::*;
use crate::database::connect::one_migration_at_a_time;
use crate::database::ids::tests::IDS;
use crate::database::{Args, Row, Rows};
use crate::testing::{BACKENDS, Backend, TestDatabase, empty_database};

const NOTES: &str = "CREATE TABLE notes (note_id TEXT NOT NULL PRIMARY KEY, written_by TEXT, number BIGINT NOT NULL, \
     CHECK (note_id <> written_by)); CREATE INDEX notes_by ON notes (written_by, note_id) WHERE number > 0";
const ADD: &str =
    "INSERT INTO notes (note_id, written_by, number) SELECT r.note_id, r.written_by, r.number FROM {rows}";
const OF: &str = "SELECT note_id, written_by, number FROM notes WHERE note_id = $1";
const ALL: &str = "SELECT note_id, written_by, number FROM notes ORDER BY number";
const IN_ORDER: &str = "SELECT note_id FROM notes ORDER BY note_id";
const EMPTY: &str = "SELECT number FROM notes WHERE note_id = ''";
const ROWS_KNOWN: &str = "SELECT reltuples::bigint AS count FROM pg_class WHERE relname = 'notes'";
const COUNT: &str = "SELECT COUNT(*) AS number FROM notes";
const WAITS_FOR_LOCK: &str = "SELECT 1 AS one FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND \
     database = (SELECT oid FROM pg_database WHERE datname = current_database())";

fn schema() -> Schema<'static> {
    const COLUMNS: &[IdColumns] = &[IdColumns { table: "notes", columns: &["note_id", "written_by"] }];
    let sql = sqlx::SqlStr::from_static(NOTES);
    let migration = Migration::new(100, "notes".into(), MigrationType::Simple, sql, false);
    Schema::participant(Box::leak(Box::new(Migrator::with_migrations(vec![migration]))), COLUMNS)
}

/// A database of a build without compact ids.
async fn of_before(backend: Backend) -> TestDatabase {
    let test = empty_database(backend).await;
    test.database.migrate_with_ids_as_text(&schema()).await.expect("it is empty");
    test
}

async fn add(database: &Database, ids: &[String]) -> Result<(), DbError> {
    let rows = Rows::new().id("note_id", ids).opt_id("written_by", ids.iter().map(|_| None::<&str>));
    let mut tx = database.write().await?;
    tx.send(ADD, rows.int("number", (0..ids.len()).map(|number| number as i64)).into());
    tx.commit().await
}

fn id_of(row: &Row) -> String {
    row.id("note_id").expect("an id")
}

/// Checks that all ids are found by all ways to read, in their order.
async fn all_are_found(database: &Database) {
    for (number, id) in IDS.iter().enumerate() {
        let found = |rows: Vec<Row>| {
            assert_eq!((rows.len(), id_of(&rows[0]).as_str()), (1, *id));
            assert_eq!(rows[0].int("number").expect("a number"), number as i64);
            assert_eq!(rows[0].opt_id("written_by").expect("an id or NULL"), None);
        };
        found(database.fetch(OF, Args::new().id(*id)).await.expect("read"));
        let mut tx = database.write().await.expect("a transaction");
        found(tx.fetch(OF, Args::new().id(*id)).await.expect("read"));
        let mut snapshot = database.snapshot().await.expect("a snapshot");
        found(snapshot.fetch(OF, Args::new().id(*id)).await.expect("read"));
        let all: Vec<String> = snapshot.fetch(ALL, Args::new()).await.expect("read").iter().map(id_of).collect();
        assert_eq!(all, IDS);
    }
    let ids: Vec<String> = database.fetch(IN_ORDER, Args::new()).await.expect("read").iter().map(id_of).collect();
    let uuids: Vec<&String> = ids.iter().filter(|id| uuid_of(id)).collect();
    assert!(ids[0].is_empty() && uuids.is_sorted() && uuids.len() == 3, "{ids:?}");
    assert_eq!(database.fetch(EMPTY, Args::new()).await.expect("read").len(), 1);
}

fn uuid_of(id: &str) -> bool {
    uuid::Uuid::parse_str(id).is_ok_and(|uuid| uuid.hyphenated().to_string() == id)
}

fn ids() -> Vec<String> {
    IDS.map(str::to_owned).to_vec()
}

async fn is_compact(database: &Database) -> bool {
    const TYPE: &str = "SELECT data_type::text AS name FROM information_schema.columns \
                        WHERE table_name = 'notes' AND column_name = 'note_id'";
    database.fetch(TYPE, Args::new()).await.expect("a type")[0].text("name").expect("a name") == "bytea"
}

#[tokio::test]
async fn a_new_database_has_compact_ids_where_they_pay() {
    for backend in BACKENDS {
        let test = empty_database(backend).await;
        // Connections opened before do not have a form yet.
        test.database.fetch("SELECT 1 AS one", Args::new()).await.expect("it answers");
        for _ in 0..2 {
            test.database.migrate(&schema()).await.expect("migrated");
        }
        if backend == Backend::Postgres {
            let rows = test.database.fetch(ROWS_KNOWN, Args::new()).await.expect("read");
            assert_eq!(rows[0].int("count").expect("a number"), -1, "a plan for an empty table would read it whole");
        }
        add(&test.database, &ids()).await.expect("written");
        all_are_found(&test.database).await;
        if backend == Backend::Postgres {
            assert!(is_compact(&test.database).await);
        }
        let expected = if backend == Backend::Postgres { Compacted::Before } else { Compacted::NotNeeded };
        assert_eq!(test.database.compact(&schema(), false, |_| {}).await.expect("it may be asked"), expected);
    }
}

/// A replica that starts between the first migration of another one and its conversion waits: otherwise its first
/// statements would be in the old form.
#[tokio::test]
async fn a_replica_waits_until_another_one_has_migrated() {
    let test = of_before(Backend::Postgres).await;
    let Database::Postgres(postgres) = &test.database else { panic!("it is PostgreSQL") };
    let driver = postgres.driver_of_migrations();
    let lock = one_migration_at_a_time(&driver).await.expect("the lock");
    let second = Database::open(&test.url).await.expect("it opens");
    let started = {
        let second = second.clone();
        tokio::spawn(async move { second.migrate(&schema()).await })
    };
    while test.database.fetch(WAITS_FOR_LOCK, Args::new()).await.expect("read").is_empty() {
        assert!(!started.is_finished(), "it did not wait");
        tokio::task::yield_now().await;
    }
    test.database.begin_compact(&schema()).await.expect("converted");
    lock.rollback().await.expect("the lock is free");
    started.await.expect("no panic").expect("migrated");
    add(&second, &ids()).await.expect("its ids have the form of the database");
}

#[tokio::test]
async fn ids_of_an_earlier_build_are_the_same_after_the_conversion() {
    let test = of_before(Backend::Postgres).await;
    test.database.migrate(&schema()).await.expect("it has all tables");
    assert!(!is_compact(&test.database).await, "earlier builds may be at work beside this one");
    add(&test.database, &ids()).await.expect("written");
    all_are_found(&test.database).await;
    let mut steps = Vec::new();
    let compacted = test.database.compact(&schema(), false, |step| steps.push(step)).await.expect("converted");
    assert_eq!(compacted, Compacted::Now);
    assert!(is_compact(&test.database).await);
    all_are_found(&test.database).await;
    assert!(matches!(&steps[0], CompactStep::Begins { tables } if tables.len() == 3), "{steps:?}");
    assert!(matches!(steps[3], CompactStep::Converted { table: "notes", rows: 16, .. }), "{steps:?}");
    // An earlier build finds a migration that it does not have.
    let newest = test.database.fetch("SELECT MAX(version) AS version FROM _sqlx_migrations", Args::new()).await;
    assert_eq!(newest.expect("read")[0].int("version").expect("a number"), schema::CONVERSION);
    assert_eq!(test.database.compact(&schema(), false, |_| {}).await.expect("again"), Compacted::Before);
    test.database.migrate(&schema()).await.expect("this build starts");
}

#[tokio::test]
async fn a_database_without_all_tables_is_refused() {
    let test = empty_database(Backend::Postgres).await;
    let error = test.database.compact(&schema(), false, |_| {}).await.expect_err("it is empty");
    assert!(matches!(error, CompactError::NotMigrated), "{error}");
}

#[tokio::test]
async fn sessions_of_other_builds_are_found() {
    let test = of_before(Backend::Postgres).await;
    let options: PgConnectOptions = test.url.parse().expect("a URL");
    let earlier = options.clone().application_name("earlier").connect().await.expect("the server answers");
    let error = test.database.compact(&schema(), false, |_| {}).await.expect_err("an earlier build is there");
    let CompactError::OtherSessions(others) = error else { panic!("{error}") };
    assert_eq!((others.len(), others[0].program.as_str()), (1, "earlier"), "{others:?}");
    assert!(!is_compact(&test.database).await);
    let compacted = test.database.compact(&schema(), true, |_| {}).await.expect("the caller knows better");
    assert_eq!(compacted, Compacted::Now);
    earlier.close().await.expect("closed");
}

#[tokio::test]
async fn a_conversion_stops_at_the_lock_of_a_long_reader() {
    let test = of_before(Backend::Postgres).await;
    add(&test.database, &ids()).await.expect("written");
    // It has not read the table yet: after a conversion the table would look empty to it.
    let mut snapshot = test.database.snapshot().await.expect("a snapshot");
    snapshot.fetch("SELECT 1 AS one", Args::new()).await.expect("it begins");
    let error = test.database.compact(&schema(), false, |_| {}).await.expect_err("a reader is there");
    assert!(
        matches!(error, CompactError::Locked(_)) && error.to_string().contains("not be locked within 3 s"),
        "{error}"
    );
    assert_eq!(snapshot.fetch(ALL, Args::new()).await.expect("it reads on").len(), IDS.len());
    snapshot.commit().await.expect("it ends");
    all_are_found(&test.database).await;
    test.database.compact(&schema(), false, |_| {}).await.expect("it can be tried again");
    all_are_found(&test.database).await;
}

/// The results of the tasks in a test.
#[derive(Default)]
struct Load {
    is_over: AtomicBool,
    written: AtomicI64,
    repeated: AtomicI64,
}

impl Load {
    async fn write(&self, database: &Database) {
        while !self.is_over.load(Ordering::Acquire) {
            let ids = [uuid::Uuid::now_v7().to_string(), format!("note {}", uuid::Uuid::now_v7())];
            while let Err(error) = add(database, &ids).await {
                assert!(!error.is_permanent(), "{error:?}");
                self.repeated.fetch_add(1, Ordering::AcqRel);
                // A commit with an unknown result may have been done.
                if self.is_there(database, &ids[0]).await {
                    break;
                }
            }
            self.written.fetch_add(ids.len() as i64, Ordering::AcqRel);
            assert!(self.is_there(database, &ids[1]).await);
        }
    }

    async fn is_there(&self, database: &Database, id: &str) -> bool {
        !database.fetch(OF, Args::new().id(id)).await.expect("reads never fail").is_empty()
    }

    /// A snapshot either has all rows, or can't be read.
    async fn read(&self, database: &Database) {
        while !self.is_over.load(Ordering::Acquire) {
            let written = self.written.load(Ordering::Acquire);
            let mut snapshot = database.snapshot().await.expect("a snapshot");
            match snapshot.fetch(COUNT, Args::new()).await {
                Ok(rows) => assert!(rows[0].int("number").expect("a number") >= written),
                Err(error) => assert!(!error.is_permanent(), "{error:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_is_converted_while_it_is_written_and_read() {
    let test = of_before(Backend::Postgres).await;
    let other = Database::open(&test.url).await.expect("a second process");
    let load = Arc::new(Load::default());
    let mut tasks = tokio::task::JoinSet::new();
    for database in [&test.database, &other] {
        for _ in 0..3 {
            let (load, database) = (load.clone(), database.clone());
            tasks.spawn(async move { load.write(&database).await });
        }
        let (load, database) = (load.clone(), database.clone());
        tasks.spawn(async move { load.read(&database).await });
    }
    let more_than = async |count: i64| {
        while load.written.load(Ordering::Acquire) < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let patience = Duration::from_secs(60);
    tokio::time::timeout(patience, more_than(200)).await.expect("it is under way");
    let console = Database::open(&test.url).await.expect("the operator's");
    let converting = async {
        while let Err(error) = console.compact(&schema(), false, |_| {}).await {
            assert!(matches!(error, CompactError::Locked(_)), "{error:?}");
        }
    };
    tokio::time::timeout(patience, converting).await.expect("it is converted");
    let reached = load.written.load(Ordering::Acquire);
    tokio::time::timeout(patience, more_than(reached + 200)).await.expect("it goes on");
    load.is_over.store(true, Ordering::Release);
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no task has failed");
    }
    assert!(is_compact(&other).await);
    let count = other.fetch(COUNT, Args::new()).await.expect("read")[0].int("number").expect("a number");
    assert_eq!(count, load.written.load(Ordering::Acquire));
    assert!(load.repeated.load(Ordering::Acquire) > 0, "open connections knew the old form");
}
