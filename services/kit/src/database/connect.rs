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

/// Readers of one SQLite file: reads are ledgers, lists and lookups, never the hot path.
const SQLITE_READERS_MAX: u32 = 4;
/// Rows that the thread of a SQLite connection may be ahead of who reads them: those of a batch, so that the two wake
/// each other once for a batch and not for every fifty rows. Each row is some hundred bytes.
const SQLITE_ROWS_AHEAD: usize = 1_000;
/// Connections to PostgreSQL that write: the writer of the process, its lease, staff operations. More would cost the
/// server more than they bring: throughput peaks at a few writers that batch.
const POSTGRES_WRITERS_MAX: u32 = 4;
/// Connections that read. They are apart, so that no crowd of readers keeps the writer waiting.
const POSTGRES_READERS_MAX: u32 = 6;
/// How full the pages of such a table are when rows are added, in percent: room for each row once more.
const FILL_PERCENT: u8 = 50;
const ONE_AT_A_TIME: &str = "SELECT pg_advisory_xact_lock(hashtext('matricula leave room'))";
const WITHOUT_ROOM: &str = "SELECT r.name FROM {rows} WHERE NOT EXISTS (SELECT 1 FROM pg_class c \
                            WHERE c.oid = to_regclass(r.name) AND array_to_string(c.reloptions, ' ') LIKE '%fillfactor%')";
/// How long a caller waits for a connection before it hears "not available".
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a start looks whether a replica can be used: it goes on without.
const REPLICA_PATIENCE: Duration = Duration::from_secs(1);

impl Database {
    /// Opens `sqlite:path` or `postgres://...`. A SQLite file is created when it is not there, unless the URL has
    /// `mode=rw`, and locked: one process at a time may have it.
    pub fn open(url: &str) -> BoxFuture<'_, Result<Self, DbError>> {
        Box::pin(async move {
            match DatabaseUrl::parse(url).map_err(unusable)? {
                DatabaseUrl::Sqlite { path, create } => open_sqlite(&path, create).await,
                DatabaseUrl::Postgres(options) => open_postgres(plain(*options)).await,
            }
        })
    }

    /// Creates an empty database with a new name on a PostgreSQL server, whose URL has no database, and returns the URL
    /// of the database: for tests and measurements.
    pub fn create_on(server: &str) -> BoxFuture<'_, Result<String, DbError>> {
        Box::pin(async move {
            let name = format!("test_{}", uuid::Uuid::now_v7().simple());
            let admin = Self::open(&format!("{server}/postgres")).await?;
            // Statements are static for good reason. This name is made here of letters and digits.
            let sql: &'static str = Box::leak(format!("CREATE DATABASE {name}").into_boxed_str());
            admin.fetch(sql, Args::new()).await?;
            admin.close().await;
            Ok(format!("{server}/{name}"))
        })
    }

    /// A replica that follows a PostgreSQL database, for reads that may be as old as it is behind. It is connected to
    /// when it is first read from, so that nothing else has to wait for it, or ends with it; what can't be used at all
    /// is refused at once when it answers within a second.
    pub fn replica(url: &str) -> BoxFuture<'_, Result<Self, DbError>> {
        Box::pin(async move {
            let DatabaseUrl::Postgres(options) = DatabaseUrl::parse(url).map_err(unusable)? else {
                return Err(DbError::Setup("the URL of a replica must begin with postgres://".to_owned()));
            };
            let options = plain(*options);
            // With any other error it is away, or not reached yet: the lists come from the database itself meanwhile.
            if let Err(error @ DbError::Setup(_)) =
                session::probe(&options, session::OF_READERS, REPLICA_PATIENCE).await
            {
                return Err(error);
            }
            Ok(postgres(options))
        })
    }

    /// Brings the schema up to date. A PostgreSQL database on which no migration was run gets compact ids at once; any
    /// other keeps the form that it has.
    pub fn migrate<'a>(&'a self, schema: &'a Schema<'a>) -> BoxFuture<'a, Result<(), DbError>> {
        Box::pin(async move {
            let was = self.run(schema.migrations()).await?;
            if was == Progress::Empty {
                self.begin_compact(schema).await?;
            }
            Ok(())
        })
    }

    /// The same as a build did that knew no compact ids.
    #[cfg(any(test, feature = "testing"))]
    pub async fn migrate_with_ids_as_text(&self, schema: &Schema<'_>) -> Result<(), DbError> {
        self.run(schema.migrations()).await.map(drop)
    }

    /// Has PostgreSQL leave room in the pages of these tables, whose rows change soon after they were written: such a
    /// change then stays on its page, and no index has to be told. SQLite changes rows in place.
    pub fn set_fillfactor<'a>(&'a self, tables: &'a [&'static str]) -> BoxFuture<'a, Result<(), DbError>> {
        Box::pin(async move {
            let Self::Postgres(_) = self else { return Ok(()) };
            let mut tx = self.begin().await?;
            // Replicas that start together come here one after the other.
            tx.fetch(ONE_AT_A_TIME, Args::new()).await?;
            let rows = Rows::new().text("name", tables.iter().copied());
            for table in tx.fetch(WITHOUT_ROOM, rows.into()).await? {
                tx.alter(format!("ALTER TABLE {} SET (fillfactor = {FILL_PERCENT})", table.text("name")?)).await?;
            }
            tx.commit().await
        })
    }

    /// Runs the migrations that are missing, and returns how far the database was before.
    async fn run(&self, migrations: Vec<Migration>) -> Result<Progress, DbError> {
        let was = schema::check(self, &migrations).await?;
        let mut migrator = Migrator::with_migrations(migrations);
        // A conversion of ids is on record and is no migration. The check is made before and after.
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
        // Another process may have migrated it since the check.
        if !matches!(outcome, Err(MigrateError::Execute(_) | MigrateError::ExecuteMigration(..))) {
            schema::check(self, &migrator.migrations).await?;
        }
        outcome?;
        self.forget_form_of_ids();
        Ok(was)
    }
}

impl PostgresDatabase {
    /// A connection of the driver's that writes, for what is not a statement of a service.
    pub(super) fn driver_of_migrations(&self) -> PgPool {
        PgPoolOptions::new()
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .max_connections(1)
            .after_connect(|connection, _| Box::pin(session::begin(connection, session::OF_WRITERS)))
            .connect_lazy_with(self.writers.opener().options.clone())
    }
}

fn unusable(error: DatabaseUrlError) -> DbError {
    DbError::Setup(format!("the database's URL {error}"))
}

/// The options without what a pooler refuses and nobody needs: there are no floating-point numbers.
fn plain(options: PgConnectOptions) -> PgConnectOptions {
    options.extra_float_digits(None)
}

async fn open_postgres(options: PgConnectOptions) -> Result<Database, DbError> {
    session::probe(&options, session::OF_WRITERS, ACQUIRE_TIMEOUT).await?;
    Ok(postgres(options))
}

fn postgres(options: PgConnectOptions) -> Database {
    let writers = WriterPool::of(Login::of(options.clone()), POSTGRES_WRITERS_MAX, ACQUIRE_TIMEOUT);
    let readers = readers().connect_lazy_with(options);
    Database::Postgres(PostgresDatabase { writers, readers, form_of_readers: Arc::default() })
}

fn readers() -> PgPoolOptions {
    PgPoolOptions::new()
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .max_connections(POSTGRES_READERS_MAX)
        .after_connect(|connection, _| Box::pin(session::begin(connection, session::OF_READERS)))
}

async fn open_sqlite(path: &Path, create: bool) -> Result<Database, DbError> {
    if !create && !path.is_file() {
        let problem = "there is no such file, and mode=rw does not create one: leave it out, or use mode=rwc";
        return Err(DbError::Setup(format!("{}: {problem}", path.display())));
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)
            .map_err(|error| DbError::Setup(format!("{}: can't create the folder: {error}", folder.display())))?;
    }
    // However it is spelt, a file has one lock.
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
        // Only a checkpoint of a reader's can be in the way of the one writer, and that is short.
        // Somebody else's lock is told before a caller's patience ends.
        .busy_timeout(Duration::from_secs(2));
    let writer = SqlitePoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE_TIMEOUT);
    // There is nothing between this process and its file that could break a connection.
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
            "{}: another process has this database open; stop it, or use PostgreSQL for several processes",
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
    async fn a_file_that_must_be_there_is_not_created() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = |name: &str| DatabaseUrl::of_file(&folder.path().join(name));
        let error = refused(&format!("{}?mode=rw", url("new/x.db"))).await;
        assert!(error.contains("there is no such file"), "{error}");
        assert_eq!(folder.path().read_dir().expect("a folder").count(), 0, "nothing was created");
        Database::open(&format!("{}?mode=rwc", url("new/x.db"))).await.expect("it is created").close().await;
        Database::open(&format!("{}?mode=rw", url("new/x.db"))).await.expect("it is there").close().await;
        Database::open(&url("a b?%20#.db")).await.expect("a name as any other").close().await;
        assert!(folder.path().join("a b?%20#.db").is_file());
        assert!(refused("sqlite::memory:").await.contains("in-memory"));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_file_is_opened_once_however_it_is_spelt() {
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
