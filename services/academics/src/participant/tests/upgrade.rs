//! A database that an earlier version has filled.

use matricula_kit::database::Args;
use matricula_kit::id::SagaId;
use matricula_kit::testing::{UPGRADES, Upgrade, upgraded};

use super::*;

/// Everything that migration 0100 could store of a student.
const ROWS: [&str; 5] = [
    "INSERT INTO student (student_id, name, max_credits_hundredths) VALUES ('ada', 'Ada', 0)",
    "INSERT INTO hold (student_id, hold_id, description) VALUES ('ada', 'h1', 'Fine'), ('ada', 'h2', 'Call us')",
    "INSERT INTO completed_course (student_id, course_id, grade) VALUES ('ada', 'c-MATH', 'B'), ('ada', 'c-MATH', 'F')",
    "INSERT INTO override_grant (override_id, student_id, reason, granted_by, justification, granted_at) \
     VALUES ('o1', 'ada', 'PERMISSION_REQUIRED', 'dean', 'a good reason', 1)",
    "INSERT INTO course_record (registration_id, section_id, student_id, course_id, term_id, credits_hundredths, status, \
     dropped_by_registration_id, recorded_at, changed_at) VALUES \
     ('0192f0c1-2345-7abc-8def-0123456789ab', 'MATH-9', 'ada', 'c-MATH', 'fall', 300, 'DROPPED', 'r0', 1, 2), \
     ('r0', 'MATH-8', 'ada', 'c-MATH', 'fall', 300, 'CANCELLED', NULL, 2, 2)",
];

/// The academics of such a database, with the campus of all tests.
async fn of_before(upgrade: Upgrade) -> Bed {
    let bed = Bed::on(Arc::new(upgraded(upgrade, &crate::SCHEMA, 100, &ROWS.map(|sql| (sql, Args::new()))).await));
    bed.import(&fixture::changes(), Vec::new()).await.expect("the campus is sound");
    bed
}

async fn holds(bed: &Bed) -> String {
    let record = bed.store.record(&student_id("ada")).await.expect("the database answers").expect("on record");
    let shown = |hold: &Hold| format!("{} {} {}", hold.id, hold.source.name(), hold.description);
    record.profile.holds.iter().map(shown).collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn everything_is_kept() {
    for upgrade in UPGRADES {
        let bed = of_before(upgrade).await;
        assert_eq!(holds(&bed).await, "h1 STAFF Fine, h2 STAFF Call us", "{upgrade:?}");
        let record = bed.store.record(&student_id("ada")).await.expect("the database answers").expect("on record");
        assert_eq!(record.profile.clone().in_order().completed, [math("B"), math("F")], "{upgrade:?}");
        assert_eq!((record.profile.closed, record.profile.active_until), (false, None));
        assert_eq!(record.overrides[0].source, Source::Staff);
        let courses: Vec<(&str, Option<&str>)> = record
            .courses
            .iter()
            .map(|course| (course.registration.as_str(), course.dropped_by.as_ref().map(SagaId::as_str)))
            .collect();
        assert_eq!(courses, [("r0", None), ("0192f0c1-2345-7abc-8def-0123456789ab", Some("r0"))], "{upgrade:?}");
        assert_eq!(word(&bed.write(reserve("r1", "MATH-1", "")).await), "HOLD");
    }
}

/// Nobody knows whether staff or a bundle have set them, so a bundle without them lifts none.
#[tokio::test]
async fn a_hold_of_unknown_source_stays_until_staff_lift_it_or_a_bundle_names_it() {
    for upgrade in UPGRADES {
        let bed = of_before(upgrade).await;
        let ada = |holds: &[Hold]| vec![Profile { holds: holds.to_vec(), ..profile("ada") }];
        let fine = Hold { source: Source::Bundle, ..hold("h1", "Fine of 3") };

        let mut content = bed.store.imported().await.expect("the database answers");
        let students = content.all_students().await.expect("read");
        assert_eq!(students[0].holds, [], "no plan takes them for the bundle's");
        bed.import_students(ada(&[])).await;
        assert_eq!(holds(&bed).await, "h1 STAFF Fine, h2 STAFF Call us", "{upgrade:?}");

        bed.import_students(ada(std::slice::from_ref(&fine))).await;
        assert_eq!(holds(&bed).await, "h1 BUNDLE Fine of 3, h2 STAFF Call us", "{upgrade:?}");
        bed.store.lift_hold(&student_id("ada"), &hold("h2", "").id).await.expect("lifted");
        bed.import_students(ada(&[])).await;
        assert_eq!(holds(&bed).await, "", "{upgrade:?}");
    }
}
