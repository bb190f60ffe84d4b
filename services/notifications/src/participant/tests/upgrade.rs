//! A database that an earlier version has filled.

use matricula_kit::database::Args;
use matricula_kit::testing::{UPGRADES, upgraded};

use super::*;

/// Everything that migration 0100 could store of a message.
const ROWS: &str = "INSERT INTO messages (registration_id, student_id, outcome, subject, body, recorded_at, \
     delivered_at, undeliverable, delivery_failures, next_delivery_at) VALUES \
     ('r1', 's1', 'ENROLLED', 'one', 'Body', 1, 2, NULL, 0, NULL), \
     ('r2', 's1', 'REFUSED', 'two', 'Body', 1, NULL, 'REJECTED', 20, NULL), \
     ('r3', 's1', 'CANCELLED', 'three', 'Body', 1, NULL, NULL, 3, 0)";

#[tokio::test]
async fn messages_are_kept_and_still_delivered() {
    for upgrade in UPGRADES {
        let test = upgraded(upgrade, &crate::SCHEMA, 100, &[(ROWS, Args::new())]).await;
        let database = &test.database;
        let mut tx = database.snapshot().await.expect("a snapshot");
        let page = LEDGER.all(&mut tx).await.expect("read");
        let shown = page.iter().map(|told| {
            (told.message.subject.as_str(), told.delivered_at.map(|at| at.0), told.undeliverable, told.failures)
        });
        let expect =
            [("one", Some(2), None, 0), ("two", None, Some(Undeliverable::Rejected), 20), ("three", None, None, 3)];
        assert_eq!(shown.collect::<Vec<_>>(), expect, "{upgrade:?}");
        assert_eq!(names(&claim(database, 9, LEASE_MS).await.expect("claimed")), ["r3"], "{upgrade:?}");
    }
}
