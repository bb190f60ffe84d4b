//! A database that an earlier version has filled.

use matricula_kit::testing::{UPGRADES, upgraded};

use super::*;

/// A row of each status.
const ROWS: &str = "INSERT INTO enrollments (registration_id, section_id, student_id, course_id, component, status, \
     dropped_by_registration_id, created_at, changed_at) VALUES \
     ('r0', 'M1', 'S', 'M', '', 'DROPPED', 'r1', 1, 2), ('r1', 'M2', 'S', 'M', '', 'ENROLLED', 'r3', 2, 2), \
     ('r2', 'P1', 'S', 'P', '', 'CANCELLED', NULL, 3, 3), ('r3', 'P2', 'S', 'P', '', 'PENDING', NULL, 4, 4)";

#[tokio::test]
async fn enrollments_are_kept_as_those_of_students() {
    for upgrade in UPGRADES {
        let test = upgraded(upgrade, &crate::SCHEMA, 101, &[(ROWS, Args::new())]).await;
        let service = Service { writer: writer(&test.database), test };
        let before = "r0/M1 DROPPED<r1, r1/M2 ENROLLED<r3, r2/P1 CANCELLED, r3/P2 PENDING";
        assert_eq!(service.state().await, before, "{upgrade:?}");
        assert_eq!(service.write("r4 -r1/M2 #E1; r3 commit").await, [false, true]);
        assert!(service.state().await.ends_with("r3/P2 ENROLLED"), "{upgrade:?}");
    }
}
