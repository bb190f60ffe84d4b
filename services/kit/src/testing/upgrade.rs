//! Databases of an earlier build, for tests of upgrades.

use super::{Backend, TestDatabase, empty_database};
use crate::database::{Args, Compacted, Migrator, Schema};

/// The kind of database, and the form of its ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upgrade {
    /// SQLite, with ids as text.
    Sqlite,
    /// PostgreSQL, with ids as text: replicas of the earlier build may run beside this one.
    Postgres,
    /// PostgreSQL, with converted ids.
    Converted,
}

/// All kinds, the fastest first.
pub const UPGRADES: [Upgrade; 3] = [Upgrade::Sqlite, Upgrade::Postgres, Upgrade::Converted];

/// A participant's database with the migrations up to a version and rows of that time, upgraded by this build.
///
/// # Panics
/// If that fails.
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
