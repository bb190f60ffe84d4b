//! Checks whether a database has the schema of a role: before migrations run, the applied ones are compared with those
//! of this build.
//!
//! | applied migrations | effect |
//! |---|---|
//! | the first of ours | the others are run |
//! | one with our number and different content | they are of another role or program: rejected |
//! | all of ours, and newer ones | a newer build was here: rejected, because its tables may have another meaning |
//!
//! Replicas of one role share a database: they find their own migrations, which is the first case.
//!
//! A conversion of ids is recorded among the migrations, with a number that no migration has. An earlier build takes it
//! for a newer migration, and does not start. This build and later ones skip it.

use sqlx::migrate::{Migration, Migrator};

use super::{Args, Database, DbError};

/// The most tables that an error lists.
const TABLES_SHOWN_MAX: usize = 6;

const POSTGRES_HAS_TABLE: &str = "SELECT 1 AS one WHERE to_regclass('_sqlx_migrations') IS NOT NULL";
const SQLITE_HAS_TABLE: &str = "SELECT 1 AS one FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations'";
const POSTGRES_APPLIED: &str =
    "SELECT version, encode(checksum, 'hex') AS checksum FROM _sqlx_migrations ORDER BY version";
const SQLITE_APPLIED: &str = "SELECT version, lower(hex(checksum)) AS checksum FROM _sqlx_migrations ORDER BY version";
const POSTGRES_TABLES: &str = "SELECT table_name::text AS name FROM information_schema.tables \
                               WHERE table_schema = ANY(current_schemas(false)) AND table_name <> '_sqlx_migrations' \
                               ORDER BY table_name";
const SQLITE_TABLES: &str = "SELECT name FROM sqlite_master WHERE type = 'table' AND name <> '_sqlx_migrations' \
                             AND substr(name, 1, 7) <> 'sqlite_' ORDER BY name";

/// The number under which a conversion of ids is recorded.
pub(super) const CONVERSION: i64 = 1_000_000;
/// The barrier's table of every participant. Services number their own migrations from 100.
static KIT_MIGRATIONS: Migrator = sqlx::migrate!("./migrations");
const KIT_IDS: &[IdColumns] = &[
    IdColumns { table: "barrier", columns: &["saga_id"] },
    IdColumns { table: "staged_import", columns: &["import_id"] },
];

/// The id columns of a table: statements bind and read them as ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdColumns {
    /// The table.
    pub table: &'static str,
    /// Its id columns.
    pub columns: &'static [&'static str],
}

/// The schema of a role.
#[derive(Debug, Clone, Copy)]
pub struct Schema<'a> {
    migrations: &'a Migrator,
    ids: &'a [IdColumns],
    has_barrier: bool,
}

impl<'a> Schema<'a> {
    /// The schema of a participant: the tables of the barrier and of imports, then its own.
    pub const fn participant(migrations: &'a Migrator, ids: &'a [IdColumns]) -> Self {
        Self { migrations, ids, has_barrier: true }
    }

    /// The schema of a role without a barrier.
    pub const fn plain(migrations: &'a Migrator, ids: &'a [IdColumns]) -> Self {
        Self { migrations, ids, has_barrier: false }
    }

    pub(crate) fn migrations(&self) -> Vec<Migration> {
        let kit = self.has_barrier.then(|| KIT_MIGRATIONS.iter()).into_iter().flatten();
        kit.chain(self.migrations.iter()).cloned().collect()
    }

    /// All id columns.
    pub(super) fn ids(&self) -> Vec<IdColumns> {
        let kit = if self.has_barrier { KIT_IDS } else { &[] };
        kit.iter().chain(self.ids).copied().collect()
    }
}

/// The state of the migrations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// No migration was run.
    Empty,
    /// Some were run.
    Begun,
    /// All were run.
    UpToDate,
}

/// A migration that was applied to the database.
struct Applied {
    version: i64,
    /// The checksum of its SQL, in hexadecimal.
    checksum: String,
}

/// Rejects a database with other migrations than those of this build.
pub(super) async fn check(database: &Database, known: &[Migration]) -> Result<Progress, DbError> {
    let applied: Vec<Applied> = applied(database).await?;
    match judged(&applied, known) {
        Err(DbError::SchemaOfAnother { migration, .. }) => {
            Err(DbError::SchemaOfAnother { migration, tables: tables(database).await? })
        }
        Err(error) => Err(error),
        Ok(()) if applied.is_empty() => Ok(Progress::Empty),
        Ok(()) if applied.len() < known.len() => Ok(Progress::Begun),
        Ok(()) => Ok(Progress::UpToDate),
    }
}

fn judged(applied: &[Applied], known: &[Migration]) -> Result<(), DbError> {
    let knows = known.iter().map(|migration| migration.version).max().unwrap_or_default();
    let checksum = |version| known.iter().find(|known| known.version == version).map(|known| hex(&known.checksum));
    let is_of_another = |applied: &&Applied| match checksum(applied.version) {
        Some(known) => known != applied.checksum,
        None => applied.version <= knows,
    };
    if let Some(other) = applied.iter().find(is_of_another) {
        return Err(DbError::SchemaOfAnother { migration: other.version, tables: String::new() });
    }
    match applied.iter().map(|applied| applied.version).max() {
        Some(has) if has > knows => Err(DbError::SchemaNewer { has, knows }),
        _ => Ok(()),
    }
}

async fn applied(database: &Database) -> Result<Vec<Applied>, DbError> {
    let (has_table, applied) = match database {
        Database::Sqlite(_) => (SQLITE_HAS_TABLE, SQLITE_APPLIED),
        Database::Postgres(_) => (POSTGRES_HAS_TABLE, POSTGRES_APPLIED),
    };
    let mut tx = database.begin().await?;
    let has_table = !tx.fetch(has_table, Args::new()).await?.is_empty();
    let rows = if has_table { tx.fetch(applied, Args::new()).await? } else { Vec::new() };
    // Frees the connection for the migrations.
    tx.commit().await?;
    let applied = rows.iter().map(|row| Ok(Applied { version: row.int("version")?, checksum: row.text("checksum")? }));
    applied.filter(|applied| !matches!(applied, Ok(Applied { version: CONVERSION, .. }))).collect()
}

async fn tables(database: &Database) -> Result<String, DbError> {
    let tables = match database {
        Database::Sqlite(_) => SQLITE_TABLES,
        Database::Postgres(_) => POSTGRES_TABLES,
    };
    let mut tx = database.begin().await?;
    let rows = tx.fetch(tables, Args::new()).await?;
    tx.commit().await?;
    let names: Vec<String> = rows.iter().map(|row| row.text("name")).collect::<Result<_, _>>()?;
    let shown = names[..names.len().min(TABLES_SHOWN_MAX)].join(", ");
    Ok(if names.len() > TABLES_SHOWN_MAX { format!("{shown}, ...") } else { shown })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use sqlx::migrate::MigrationType;

    use super::*;
    use crate::testing::{BACKENDS, empty_database};

    fn migration(version: i64, sql: &'static str) -> Migration {
        let kind = MigrationType::Simple;
        Migration::new(version, Cow::Borrowed("test"), kind, sqlx::SqlStr::from_static(sql), false)
    }

    fn migrator(of: &[(i64, &'static str)]) -> Migrator {
        Migrator::with_migrations(of.iter().map(|(version, sql)| migration(*version, sql)).collect())
    }

    fn participant(of: &[(i64, &'static str)]) -> Schema<'static> {
        Schema::participant(Box::leak(Box::new(migrator(of))), &[])
    }

    const SEATS: (i64, &str) = (100, "CREATE TABLE seats (id BIGINT PRIMARY KEY)");
    const MORE_SEATS: (i64, &str) = (101, "CREATE TABLE more_seats (id BIGINT PRIMARY KEY)");
    const FEES: (i64, &str) = (100, "CREATE TABLE fees (id BIGINT PRIMARY KEY)");

    #[tokio::test]
    async fn a_database_of_another_role_is_rejected_with_the_reason() {
        for backend in BACKENDS {
            let test = empty_database(backend).await;
            // It also has newer migrations, but the other role is reported first.
            test.database.migrate(&participant(&[SEATS, MORE_SEATS])).await.expect("it is empty");
            let error =
                test.database.migrate(&participant(&[FEES])).await.expect_err("it has other tables").to_string();
            assert!(error.contains("belongs to another role or program") && error.contains("migration 100"), "{error}");
            assert!(error.contains("more_seats, seats"), "{error}");
            // A schema without the barrier.
            let log = migrator(&[(1, "CREATE TABLE sagas (id BIGINT PRIMARY KEY)")]);
            let error =
                test.database.migrate(&Schema::plain(&log, &[])).await.expect_err("it has other tables").to_string();
            assert!(error.contains("belongs to another role or program") && error.contains("migration 1 "), "{error}");
        }
    }

    #[tokio::test]
    async fn a_schema_that_is_newer_than_the_build_is_rejected_with_the_reason() {
        for backend in BACKENDS {
            let test = empty_database(backend).await;
            test.database.migrate(&participant(&[SEATS, MORE_SEATS])).await.expect("it is empty");
            let error = test.database.migrate(&participant(&[SEATS])).await.expect_err("it is newer");
            assert!(error.is_permanent(), "it is not waited for");
            assert_eq!(
                error.to_string(),
                "the database was migrated by a newer build: it has migration 101, this build has migrations up to 100; start the \
                 newer build"
            );
        }
    }

    #[tokio::test]
    async fn an_older_schema_is_brought_up_to_date_and_replicas_share_it() {
        for backend in BACKENDS {
            let test = empty_database(backend).await;
            test.database.migrate(&participant(&[SEATS])).await.expect("it is empty");
            for _ in 0..2 {
                test.database.migrate(&participant(&[SEATS, MORE_SEATS])).await.expect("it is ours");
            }
        }
    }

    #[tokio::test]
    async fn an_unknown_migration_before_ours_is_of_another_program() {
        let known = [migration(100, SEATS.1), migration(102, MORE_SEATS.1)];
        let applied = |version: i64, sql| Applied { version, checksum: hex(&migration(version, sql).checksum) };
        assert!(judged(&[applied(100, SEATS.1), applied(102, MORE_SEATS.1)], &known).is_ok());
        let error = judged(&[applied(100, SEATS.1), applied(101, "")], &known).expect_err("101 is unknown");
        assert!(matches!(error, DbError::SchemaOfAnother { migration: 101, .. }), "{error}");
    }
}
