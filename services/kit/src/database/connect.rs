//! Opens a database from its URL and brings its schema up to date.

use std::fs::OpenOptions;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _};

use super::writers::Writers;
use super::{Args, Database, DbError, PostgresDatabase, Rows, SqliteDatabase};

/// The barrier's table, which every participant has. Services number their own migrations from 100.
static KIT_MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// Readers of one SQLite file: reads are ledgers, lists and lookups, never the hot path.
const SQLITE_READERS_MAX: u32 = 4;
/// Rows that the thread of a SQLite connection may be ahead of who reads them: those of a batch, so that the two wake each other
/// once for a batch and not for every fifty rows. Each row is some hundred bytes.
const SQLITE_ROWS_AHEAD: usize = 1_000;
/// Connections to PostgreSQL that write: the writer of the process, its lease, staff operations. More would cost the
/// server more than they bring: throughput peaks at a few writers that batch.
const POSTGRES_WRITERS_MAX: u32 = 4;
/// Connections that read. They are apart, so that no crowd of readers keeps the writer waiting.
const POSTGRES_READERS_MAX: u32 = 6;
/// Settings of every connection to PostgreSQL.
///
/// All statements look up rows by key, some hundred a batch, or go through a table in the order of its key. What reads
/// whole tables at once is ruled out, and pages cost nothing, because those of a registration morning are in memory: so a
/// look-up by index is chosen as soon as a table has more than some ten rows, whatever the server's statistics say of a
/// table that fills in minutes. Compiling plans would cost more than running them.
const POSTGRES_SETTINGS: [(&str, &str); 8] = [
    ("standard_conforming_strings", "on"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_material", "off"),
    ("random_page_cost", "0"),
    ("seq_page_cost", "0"),
    ("jit", "off"),
];
/// Settings of the connections that read: their statements are few, so each is planned when it is run.
const POSTGRES_READER_SETTINGS: [(&str, &str); 1] = [("plan_cache_mode", "force_custom_plan")];
/// Settings of the connections that write: their plans are kept, because planning a statement for each batch takes longer
/// than running it.
///
/// A process that was stopped in the middle of a transaction keeps its locks: what waits for them would wait until it is
/// continued. No writer is idle between two statements for as long as that timeout, and a lease lapses later.
const POSTGRES_WRITER_SETTINGS: [(&str, &str); 2] =
    [("plan_cache_mode", "force_generic_plan"), ("idle_in_transaction_session_timeout", "4s")];
/// How full the pages of such a table are when rows are added, in percent: room for each row once more.
const FILL_PERCENT: u8 = 50;
const ONE_AT_A_TIME: &str = "SELECT pg_advisory_xact_lock(hashtext('matricula leave room'))";
const WITHOUT_ROOM: &str = "SELECT r.name FROM {rows} WHERE NOT EXISTS (SELECT 1 FROM pg_class c \
                            WHERE c.oid = to_regclass(r.name) AND array_to_string(c.reloptions, ' ') LIKE '%fillfactor%')";
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
            // What is written has its values in its text, and they are nobody's business: it goes to no log.
            let to_write = options.clone().options(POSTGRES_WRITER_SETTINGS).disable_statement_logging();
            let writers = pool.clone().max_connections(POSTGRES_WRITERS_MAX).max_lifetime(None).idle_timeout(None);
            let writers = Writers::of(writers.connect_with(to_write).await?);
            let to_read = options.options(POSTGRES_READER_SETTINGS);
            let readers = pool.max_connections(POSTGRES_READERS_MAX).connect_lazy_with(to_read);
            return Ok(Self::Postgres(PostgresDatabase { writers, readers }));
        }
        Err(DbError::Setup("a database URL must begin with sqlite: or postgres://".to_owned()))
    }

    /// A replica that follows a PostgreSQL database, for reads that may be as old as it is behind. It is connected to when it
    /// is first read from, so that nothing else has to wait for it, or ends with it.
    pub fn replica(url: &str) -> Result<Self, DbError> {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(DbError::Setup("the URL of a replica must begin with postgres://".to_owned()));
        }
        let options = PgConnectOptions::from_str(url)?.options(POSTGRES_SETTINGS).options(POSTGRES_READER_SETTINGS);
        let pool = PgPoolOptions::new().acquire_timeout(ACQUIRE_TIMEOUT).max_connections(POSTGRES_READERS_MAX);
        let readers = pool.connect_lazy_with(options);
        Ok(Self::Postgres(PostgresDatabase { writers: Writers::of(readers.clone()), readers }))
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

    /// Has PostgreSQL leave room in the pages of these tables, whose rows change soon after they were written: such a change
    /// then stays on its page, and no index has to be told. SQLite changes rows in place.
    pub async fn leave_room(&self, tables: &[&'static str]) -> Result<(), DbError> {
        let Self::Postgres(_) = self else { return Ok(()) };
        let mut tx = self.begin().await?;
        // Replicas that start together come here one after the other.
        tx.fetch(ONE_AT_A_TIME, Args::new()).await?;
        let rows = Rows::new().text("name", tables.iter().copied());
        for table in tx.fetch(WITHOUT_ROOM, rows.into()).await? {
            tx.alter(format!("ALTER TABLE {} SET (fillfactor = {FILL_PERCENT})", table.text("name")?)).await?;
        }
        tx.commit().await
    }

    async fn run(&self, migrations: &Migrator) -> Result<(), DbError> {
        let mut migrations = Migrator { migrations: migrations.migrations.clone(), ..Migrator::DEFAULT };
        // The kit's and the service's migrations share one table of what was applied.
        migrations.set_ignore_missing(true);
        let outcome = match self {
            Self::Sqlite(sqlite) => migrations.run(sqlite.writer.pool()).await,
            Self::Postgres(postgres) => migrations.run(postgres.writers.pool()).await,
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
        .row_buffer_size(SQLITE_ROWS_AHEAD)
        // Only a checkpoint of a reader's can be in the way of the one writer, and that is short.
        // Somebody else's lock is told before a caller's patience ends.
        .busy_timeout(Duration::from_secs(2));
    let writer = SqlitePoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE_TIMEOUT);
    // There is nothing between this process and its file that could break a connection.
    let writer = writer.idle_timeout(None).max_lifetime(None).test_before_acquire(false);
    let writer = Writers::of(writer.connect_with(options.clone()).await?);
    let readers = SqlitePoolOptions::new().max_connections(SQLITE_READERS_MAX).acquire_timeout(ACQUIRE_TIMEOUT);
    let readers = readers.test_before_acquire(false);
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
