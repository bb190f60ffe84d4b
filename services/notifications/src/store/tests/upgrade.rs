//! A database that an earlier version has filled.

use matricula_kit::database::{Args, Migrator, Schema};

use super::*;

/// Everything that migration 0100 could store of a message.
const ROWS: &str = "INSERT INTO messages (registration_id, student_id, outcome, subject, body, recorded_at, \
     delivered_at, undeliverable, delivery_failures, next_delivery_at) VALUES \
     ('r1', 's1', 'ENROLLED', 'one', 'Body', 1, 2, NULL, 0, NULL), \
     ('r2', 's1', 'REFUSED', 'two', 'Body', 1, NULL, 'REJECTED', 20, NULL), \
     ('r3', 's1', 'CANCELLED', 'three', 'Body', 1, NULL, NULL, 3, 0)";

#[tokio::test]
async fn messages_are_kept_and_still_delivered() {
    for backend in BACKENDS {
        let test = testing::empty_database(backend).await;
        let database = &test.database;
        let first = crate::MIGRATIONS.iter().filter(|migration| migration.version <= 100).cloned().collect();
        database
            .migrate_with_ids_as_text(&Schema::participant(&Migrator::with_migrations(first), &[]))
            .await
            .expect("it is empty");
        let mut tx = database.begin().await.expect("the database answers");
        tx.execute(ROWS, Args::new()).await.expect("rows of the first version");
        tx.commit().await.expect("committed");
        database.migrate(&crate::SCHEMA).await.expect("it is brought up to date");

        let mut tx = database.snapshot().await.expect("a snapshot");
        let page = ledger_page(&mut tx, "").await.expect("a page");
        let shown = page.iter().map(|told| {
            (told.message.subject.as_str(), told.delivered_at.map(|at| at.0), told.undeliverable, told.failures)
        });
        let expect =
            [("one", Some(2), None, 0), ("two", None, Some(Undeliverable::Rejected), 20), ("three", None, None, 3)];
        assert_eq!(shown.collect::<Vec<_>>(), expect, "{backend:?}");
        assert_eq!(names(&claim(database, 9, LEASE_MS).await.expect("claimed")), ["r3"], "{backend:?}");
    }
}
