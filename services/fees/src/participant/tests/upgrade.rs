//! A database that an earlier version has filled.

use matricula_kit::testing::{UPGRADES, upgraded};

use super::*;

/// A charge, and one that was refunded to another registration.
const ROWS: [&str; 4] = [
    "INSERT INTO currency (id, code) VALUES (1, 'USD')",
    "INSERT INTO terms (term_id, per_credit, refund_ladder) VALUES ('2026-fall', 10000, '[]')",
    "INSERT INTO postings (registration_id, section_id, kind, student_id, term_id, minor_units, \
     caused_by_registration_id, posted_at) VALUES \
     ('r0', 'A', 'CHARGE', 'S', '2026-fall', 30000, 'r0', 1), ('r0', 'B', 'CHARGE', 'S', '2026-fall', 30000, 'r0', 1), \
     ('r0', 'B', 'REFUND', 'S', '2026-fall', -15000, '0192f0c1-2345-7abc-8def-0123456789ab', 2)",
    "INSERT INTO accounts (student_id, balance) VALUES ('S', 45000)",
];

#[tokio::test]
async fn accounts_are_kept_and_go_on() {
    for upgrade in UPGRADES {
        let test = upgraded(upgrade, &crate::SCHEMA, 100, &ROWS.map(|sql| (sql, Args::new()))).await;
        let world = World { writer: start(&test.database), test };
        let before = [
            "CHARGE r0 A 30000 by r0",
            "CHARGE r0 B 30000 by r0",
            "REFUND r0 B -15000 by 0192f0c1-2345-7abc-8def-0123456789ab",
        ];
        assert_eq!(world.lines("S").await, before, "{upgrade:?}");
        let answers = world.write(&[&assess("r1", "S", &["C"])]).await;
        assert!(matches!(answers[..], [Answer::Done(_)]), "{answers:?}");
        assert_eq!(world.lines("S").await.len(), 4, "{upgrade:?}");
    }
}
