//! Databases that an earlier build has filled, for tests of what this build does with them.

use super::{Backend, TestDatabase, empty_database};
use crate::database::{Args, Compacted, Migrator, Schema};

/// What becomes of a database of an earlier build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upgrade {
    /// SQLite has ids as text.
    Sqlite,
    /// PostgreSQL, with ids as text: replicas of the earlier build may be at work beside this one.
    Postgres,
    /// PostgreSQL, with ids that were converted.
    Converted,
}

/// All of them, the quick one first.
pub const UPGRADES: [Upgrade; 3] = [Upgrade::Sqlite, Upgrade::Postgres, Upgrade::Converted];

/// A participant's database with the migrations up to a version and rows of that time, brought up to date by this build.
///
/// # Panics
/// When that fails.
pub async fn upgraded(
    upgrade: Upgrade,
    schema: &Schema<'_>,
    version: i64,
    rows: &[(&'static str, Args)],
) -> TestDatabase {
    let backend = if upgrade == Upgrade::Sqlite { Backend::Sqlite } else { Backend::Postgres };
    let test = empty_database(backend).await;
    let before = schema.migrations().into_iter().filter(|migration| migration.version <= version);
    let before = Migrator::with_migrations(before.collect());
    test.database.migrate_with_ids_as_text(&Schema::plain(&before, &[])).await.expect("it is empty");
    let mut tx = test.database.begin().await.expect("the database answers");
    for (sql, args) in rows {
        tx.execute(sql, args.clone()).await.expect("rows of the earlier build");
    }
    tx.commit().await.expect("committed");
    test.database.migrate(schema).await.expect("it is brought up to date");
    if upgrade == Upgrade::Converted {
        let compacted = test.database.compact(schema, false, |_| {}).await.expect("it is converted");
        assert_eq!(compacted, Compacted::Now);
    }
    test
}
