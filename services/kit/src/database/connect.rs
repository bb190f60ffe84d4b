//! Opens a database from its URL and brings its schema up to date.

use std::fs::OpenOptions;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::Connection as _;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use super::{Database, DbError, PostgresDatabase, SqliteDatabase};

/// The barrier's table, which every participant has. Services number their own migrations from 100.
static KIT_MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// Readers of one SQLite file: reads are ledgers, lists and lookups, never the hot path.
const SQLITE_READERS_MAX: u32 = 4;
/// Connections to PostgreSQL that write: the writer of the process, its lease, staff operations. More would cost the
/// server more than they bring: throughput peaks at a few writers that batch.
const POSTGRES_WRITERS_MAX: u32 = 4;
/// Connections that read. They are apart, so that no crowd of readers keeps the writer waiting.
const POSTGRES_READERS_MAX: u32 = 6;
/// Settings of every connection to PostgreSQL.
///
/// A plan is made for each batch: a plan that was kept from when a table was empty reads the whole table for every batch
/// until the server's statistics catch up, on just the morning when it fills. Compiling such plans costs more than
/// running them.
///
/// Every statement names its rows by key, and a page at random costs what one in order costs: tables that matter are in
/// memory, and disks have no heads. Left alone, the planner reads a table of 200,000 sagas from end to end for a batch of
/// a thousand, and compares each of its rows with all of the others when the statistics don't know the instance yet: 327
/// ms, where the keys take 2.
const POSTGRES_SETTINGS: [(&str, &str); 5] = [
    ("plan_cache_mode", "force_custom_plan"),
    ("jit", "off"),
    ("enable_seqscan", "off"),
    ("random_page_cost", "1.1"),
    ("max_parallel_workers_per_gather", "0"),
];
/// How long a caller waits for a connection before it hears "not available".
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

impl Database {
    /// Opens `sqlite:path` or `postgres://...`. A SQLite file is created when it is not there, and locked: one process
    /// at a time may have it.
    pub async fn open(url: &str) -> Result<Self, DbError> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            return open_sqlite(Path::new(path)).await;
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let options = PgConnectOptions::from_str(url)?.options(POSTGRES_SETTINGS);
            say_why_not(&options).await?;
            let pool = PgPoolOptions::new().acquire_timeout(ACQUIRE_TIMEOUT);
            let writers = pool.clone().max_connections(POSTGRES_WRITERS_MAX).connect_with(options.clone()).await?;
            let readers = pool.max_connections(POSTGRES_READERS_MAX).connect_lazy_with(options);
            return Ok(Self::Postgres(PostgresDatabase { writers, readers }));
        }
        Err(DbError::Setup("a database URL must begin with sqlite: or postgres://".to_owned()))
    }

    /// Brings the schema up to date: the barrier's table, then the service's own migrations.
    pub async fn migrate(&self, service: &Migrator) -> Result<(), DbError> {
        self.run(&KIT_MIGRATIONS).await?;
        self.run(service).await
    }

    /// Brings a schema up to date that has no barrier.
    pub async fn migrate_plain(&self, migrations: &Migrator) -> Result<(), DbError> {
        self.run(migrations).await
    }

    async fn run(&self, migrations: &Migrator) -> Result<(), DbError> {
        let mut migrations = Migrator { migrations: migrations.migrations.clone(), ..Migrator::DEFAULT };
        // The kit's and the service's migrations share one table of what was applied.
        migrations.set_ignore_missing(true);
        let outcome = match self {
            Self::Sqlite(sqlite) => migrations.run(&sqlite.writer).await,
            Self::Postgres(postgres) => migrations.run(&postgres.writers).await,
        };
        Ok(outcome?)
    }
}

/// One connection, for the reason why there can be none: the pool would only say that its time is up.
async fn say_why_not(options: &PgConnectOptions) -> Result<(), DbError> {
    let connected = tokio::time::timeout(ACQUIRE_TIMEOUT, PgConnection::connect_with(options)).await;
    let connection = connected.map_err(|_| DbError::no_answer_within(ACQUIRE_TIMEOUT))??;
    Ok(connection.close().await?)
}

async fn open_sqlite(path: &Path) -> Result<Database, DbError> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)
            .map_err(|error| DbError::Setup(format!("{}: can't create the folder: {error}", folder.display())))?;
    }
    let lock = lock(path)?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .statement_cache_capacity(200)
        // Only a checkpoint of a reader's can be in the way of the one writer, and that is short.
        // Somebody else's lock is told before a caller's patience ends.
        .busy_timeout(Duration::from_secs(2));
    let writer = SqlitePoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE_TIMEOUT);
    let writer = writer.idle_timeout(None).max_lifetime(None);
    // A full disk or an I/O error can make SQLite roll back by itself. The driver then believes the transaction to be
    // open for ever, and refuses every other: that connection is given up for a new one.
    let writer = writer.before_acquire(|connection, _| Box::pin(async { Ok(!connection.is_in_transaction()) }));
    let writer = writer.connect_with(options.clone()).await?;
    let readers = SqlitePoolOptions::new().max_connections(SQLITE_READERS_MAX).acquire_timeout(ACQUIRE_TIMEOUT);
    let readers = readers.connect_lazy_with(options.read_only(true));
    Ok(Database::Sqlite(SqliteDatabase { writer, readers, _lock: Arc::new(lock) }))
}

fn lock(path: &Path) -> Result<std::fs::File, DbError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let shown = Path::new(&name).display().to_string();
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&name)
        .map_err(|error| DbError::Setup(format!("{shown}: can't open: {error}")))?;
    file.try_lock().map_err(|_| {
        DbError::Setup(format!(
            "{}: another process has this database open; stop it, or use PostgreSQL for several processes",
            path.display()
        ))
    })?;
    Ok(file)
}
