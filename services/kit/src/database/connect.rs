//! Opens a database from its URL and brings its schema up to date.

use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::PgPool;
use sqlx::migrate::{MigrateError, Migration, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use super::login::Login;
use super::pool::WriterPool;
use super::schema::{self, Progress};
use super::url::{DatabaseUrl, DatabaseUrlError, real_path};
use super::{Args, Database, DbError, PostgresDatabase, Rows, Schema, SqliteDatabase, session};

/// Reading connections of one SQLite file: they serve ledgers, lists and lookups, never the hot path.
const SQLITE_READERS_MAX: u32 = 4;
/// Rows that the thread of a SQLite connection may read ahead: those of a batch, so that both sides wake each other
/// once per batch instead of every fifty rows. A row has some hundred bytes.
const SQLITE_ROWS_AHEAD: usize = 1_000;
/// Writing connections to PostgreSQL: the writer of the process, its lease, and staff operations. Throughput peaks at a
/// few writers that batch; more would cost the server more than they add.
const POSTGRES_WRITERS_MAX: u32 = 4;
/// Reading connections; separate, so that many readers can't delay the writer.
const POSTGRES_READERS_MAX: u32 = 6;
/// The fillfactor in percent: each page has room for a second version of its rows.
const FILL_PERCENT: u8 = 50;
/// Held while a replica migrates a database: the new tables and their first conversion of ids are one step for others.
const ONE_MIGRATION_AT_A_TIME: &str = "SET LOCAL idle_in_transaction_session_timeout = 0; \
                                       SELECT pg_advisory_xact_lock(hashtext('matricula migrates'))";
const ONE_AT_A_TIME: &str = "SELECT pg_advisory_xact_lock(hashtext('matricula leave room'))";
const WITHOUT_ROOM: &str = "SELECT r.name FROM {rows} WHERE NOT EXISTS (SELECT 1 FROM pg_class c \
                            WHERE c.oid = to_regclass(r.name) AND array_to_string(c.reloptions, ' ') LIKE '%fillfactor%')";
/// How long a caller waits for a connection before the error "not available".
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the start waits for a replica; without one, it continues.
const REPLICA_TIMEOUT: Duration = Duration::from_secs(1);

impl Database {
    /// Opens `sqlite:path` or `postgres://...`. A missing SQLite file is created, unless the URL has `mode=rw`. The
    /// file is locked: only one process can open it.
    pub fn open(url: &str) -> BoxFuture<'_, Result<Self, DbError>> {
        Box::pin(async move {
            match DatabaseUrl::parse(url).map_err(unusable)? {
                DatabaseUrl::Sqlite { path, create } => open_sqlite(&path, create).await,
                DatabaseUrl::Postgres(options) => open_postgres(*options).await,
            }
        })
    }

    /// Creates an empty database with a new name on a PostgreSQL server, and returns the URL of the database: for tests
    /// and measurements. `server` is the server's URL without a database.
    pub fn create_on(server: &str) -> BoxFuture<'_, Result<String, DbError>> {
        Box::pin(async move {
            let name = format!("test_{}", uuid::Uuid::now_v7().simple());
            let admin = Self::open(&format!("{server}/postgres")).await?;
            // Statements are `'static` to prevent SQL injection. This generated name has only letters and digits.
            let sql: &'static str = Box::leak(format!("CREATE DATABASE {name}").into_boxed_str());
            admin.fetch(sql, Args::new()).await?;
            admin.close().await;
            Ok(format!("{server}/{name}"))
        })
    }

    /// A read replica of a PostgreSQL database, for reads that may lag. It is connected at the first read, so that
    /// nothing else depends on it. A replica that answers within a second and can't be used is an error.
    pub fn replica(url: &str) -> BoxFuture<'_, Result<Self, DbError>> {
        Box::pin(async move {
            let DatabaseUrl::Postgres(options) = DatabaseUrl::parse(url).map_err(unusable)? else {
                return Err(DbError::Setup("the URL of a replica must begin with postgres://".to_owned()));
            };
            // Any other error may pass: until then, lists are read from the primary.
            if let Err(error @ DbError::Setup(_)) = session::probe(&options, session::OF_READERS, REPLICA_TIMEOUT).await
            {
                return Err(error);
            }
            Ok(postgres(*options))
        })
    }

    /// Updates the schema. A PostgreSQL database without migrations gets compact ids; any other database keeps its form
    /// of ids. Replicas that start together do this one after the other.
    pub fn migrate<'a>(&'a self, schema: &'a Schema<'a>) -> BoxFuture<'a, Result<(), DbError>> {
        Box::pin(async move {
            let Self::Postgres(postgres) = self else { return self.run(schema.migrations()).await.map(drop) };
            let driver = postgres.driver_of_migrations();
            let lock = one_migration_at_a_time(&driver).await?;
            if self.run(schema.migrations()).await? == Progress::Empty {
                self.begin_compact(schema).await?;
            }
            lock.rollback().await?;
            driver.close().await;
            Ok(())
        })
    }

    /// Like [`Self::migrate`], as an earlier build without compact ids.
    #[cfg(any(test, feature = "testing"))]
    pub async fn migrate_with_ids_as_text(&self, schema: &Schema<'_>) -> Result<(), DbError> {
        self.run(schema.migrations()).await.map(drop)
    }

    /// Lets PostgreSQL leave room in the pages of these tables, whose rows change soon after they are written: a
    /// changed row then stays on its page, and no index is updated. SQLite changes rows in place.
    pub fn set_fillfactor<'a>(&'a self, tables: &'a [&'static str]) -> BoxFuture<'a, Result<(), DbError>> {
        Box::pin(async move {
            let Self::Postgres(_) = self else { return Ok(()) };
            let mut tx = self.begin().await?;
            // Serializes replicas that start together.
            tx.fetch(ONE_AT_A_TIME, Args::new()).await?;
            let rows = Rows::new().text("name", tables.iter().copied());
            for table in tx.fetch(WITHOUT_ROOM, rows.into()).await? {
                tx.alter(format!("ALTER TABLE {} SET (fillfactor = {FILL_PERCENT})", table.text("name")?)).await?;
            }
            tx.commit().await
        })
    }

    /// Runs the missing migrations, and returns the state before.
    async fn run(&self, migrations: Vec<Migration>) -> Result<Progress, DbError> {
        let was = schema::check(self, &migrations).await?;
        let mut migrator = Migrator::with_migrations(migrations);
        // A recorded conversion of ids is not a migration. The check runs before and after.
        migrator.set_ignore_missing(true);
        let outcome = match self {
            Self::Sqlite(sqlite) => migrator.run(sqlite.writer.opener()).await,
            Self::Postgres(postgres) => {
                let driver = postgres.driver_of_migrations();
                let outcome = migrator.run(&driver).await;
                driver.close().await;
                outcome
            }
        };
        // Another process may have migrated the database since the check.
        if !matches!(outcome, Err(MigrateError::Execute(_) | MigrateError::ExecuteMigration(..))) {
            schema::check(self, &migrator.migrations).await?;
        }
        outcome?;
        self.close_outdated_connections();
        Ok(was)
    }
}

impl PostgresDatabase {
    /// A writing connection of the driver, for statements that services do not run.
    pub(super) fn driver_of_migrations(&self) -> PgPool {
        pool(1, session::OF_WRITERS).connect_lazy_with(self.writers.opener().options.clone())
    }
}

/// A transaction that holds the lock of migrations and changes nothing. When the network fails meanwhile, the server
/// detects it and frees the lock.
pub(super) async fn one_migration_at_a_time(
    driver: &PgPool,
) -> Result<sqlx::Transaction<'static, sqlx::Postgres>, sqlx::Error> {
    let mut lock = driver.begin().await?;
    sqlx::raw_sql(session::KEEP_ALIVE).execute(&mut *lock).await?;
    sqlx::raw_sql(ONE_MIGRATION_AT_A_TIME).execute(&mut *lock).await?;
    Ok(lock)
}

fn unusable(error: DatabaseUrlError) -> DbError {
    DbError::Setup(format!("the database URL can't be used: {error}"))
}

async fn open_postgres(options: PgConnectOptions) -> Result<Database, DbError> {
    session::probe(&options, session::OF_WRITERS, ACQUIRE_TIMEOUT).await?;
    Ok(postgres(options))
}

fn postgres(options: PgConnectOptions) -> Database {
    let writers = WriterPool::of(Login::of(options.clone()), POSTGRES_WRITERS_MAX, ACQUIRE_TIMEOUT);
    let readers = pool(POSTGRES_READERS_MAX, session::OF_READERS).connect_lazy_with(options);
    Database::Postgres(PostgresDatabase { writers, readers, form_of_readers: Arc::default() })
}

/// A pool of the driver, whose connections have these settings.
pub(super) fn pool(connections_max: u32, settings: &'static [(&str, &str)]) -> PgPoolOptions {
    PgPoolOptions::new()
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .max_connections(connections_max)
        .after_connect(|connection, _| Box::pin(session::begin(connection, settings)))
}

async fn open_sqlite(path: &Path, create: bool) -> Result<Database, DbError> {
    if !create && !path.is_file() {
        let problem = "the file does not exist, and mode=rw does not create it: remove mode=rw, or use mode=rwc";
        return Err(DbError::Setup(format!("{}: {problem}", path.display())));
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)
            .map_err(|error| DbError::Setup(format!("{}: can't create the folder: {error}", folder.display())))?;
    }
    // A file has one lock, even if its path is spelled differently.
    let path = &real_path(path);
    let lock = lock(path)?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(create)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .statement_cache_capacity(200)
        .row_buffer_size(SQLITE_ROWS_AHEAD)
        // The writer can only be blocked by a short checkpoint of a reader.
        // A lock of another process is reported before the caller's timeout.
        .busy_timeout(Duration::from_secs(2));
    let writer = SqlitePoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE_TIMEOUT);
    // A local file can't lose its connection.
    let writer = writer.idle_timeout(None).max_lifetime(None).test_before_acquire(false);
    let writer = WriterPool::of(writer.connect_with(options.clone()).await?, 1, ACQUIRE_TIMEOUT);
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
            "{}: another process has this database open; stop that process, or use PostgreSQL for several processes",
            path.display()
        ))
    })?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refused(url: &str) -> String {
        match Database::open(url).await {
            Ok(_) => panic!("{url} is refused"),
            Err(error) => {
                assert!(error.is_permanent(), "{url}: it is not waited for: {error}");
                error.to_string()
            }
        }
    }

    #[tokio::test]
    async fn mode_rw_does_not_create_a_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = |name: &str| DatabaseUrl::of_file(&folder.path().join(name));
        let error = refused(&format!("{}?mode=rw", url("new/x.db"))).await;
        assert!(error.contains("the file does not exist"), "{error}");
        assert_eq!(folder.path().read_dir().expect("a folder").count(), 0, "nothing was created");
        Database::open(&format!("{}?mode=rwc", url("new/x.db"))).await.expect("it is created").close().await;
        Database::open(&format!("{}?mode=rw", url("new/x.db"))).await.expect("it is there").close().await;
        Database::open(&url("a b?%20#.db")).await.expect("a name as any other").close().await;
        assert!(folder.path().join("a b?%20#.db").is_file());
        assert!(refused("sqlite::memory:").await.contains("in-memory"));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_file_is_opened_once_even_by_different_paths() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name);
        std::os::unix::fs::symlink("x.db", path("link.db")).expect("a link");
        std::os::unix::fs::symlink(folder.path(), path("folder")).expect("a link");
        let open = Database::open(&DatabaseUrl::of_file(&path("x.db"))).await.expect("it opens");
        for other in ["x.db", "link.db", "folder/x.db", "folder/link.db", "./x.db"] {
            let error = refused(&DatabaseUrl::of_file(&path(other))).await;
            assert!(error.contains("another process has this database open"), "{other}: {error}");
        }
        open.close().await;
    }
}
