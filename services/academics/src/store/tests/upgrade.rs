//! A database that an earlier version has filled.

use matricula_kit::database::{Args, Migrator, Schema};

use super::*;

/// Everything that migration 0100 could store of a student.
const ROWS: [&str; 4] = [
    "INSERT INTO student (student_id, name, max_credits_hundredths) VALUES ('ada', 'Ada', 0)",
    "INSERT INTO hold (student_id, hold_id, description) VALUES ('ada', 'h1', 'Fine'), ('ada', 'h2', 'Call us')",
    "INSERT INTO completed_course (student_id, course_id, grade) VALUES ('ada', 'c-MATH', 'B'), ('ada', 'c-MATH', 'F')",
    "INSERT INTO override_grant (override_id, student_id, reason, granted_by, justification, granted_at) \
     VALUES ('o1', 'ada', 'PERMISSION_REQUIRED', 'dean', 'a good reason', 1)",
];

async fn upgraded(backend: Backend) -> Bed {
    let test = testing::empty_database(backend).await;
    let first = crate::MIGRATIONS.iter().filter(|migration| migration.version <= 100).cloned().collect();
    test.database
        .migrate_with_ids_as_text(&Schema::participant(&Migrator::with_migrations(first), &[]))
        .await
        .expect("it is empty");
    let mut tx = test.database.begin().await.expect("the database answers");
    for sql in ROWS {
        tx.execute(sql, Args::new()).await.expect("a row of the first version");
    }
    tx.commit().await.expect("committed");
    test.database.migrate(&crate::SCHEMA).await.expect("it is brought up to date");
    let bed = Bed::on(Arc::new(test));
    bed.import(&fixture::changes(), Vec::new()).await.expect("the campus is sound");
    bed
}

async fn holds(bed: &Bed) -> String {
    let record = bed.academics.record(&student_id("ada")).await.expect("the database answers").expect("on record");
    let shown = |hold: &Hold| format!("{} {} {}", hold.id, hold.source.name(), hold.description);
    record.profile.holds.iter().map(shown).collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn everything_is_kept() {
    for backend in BACKENDS {
        let bed = upgraded(backend).await;
        assert_eq!(holds(&bed).await, "h1 STAFF Fine, h2 STAFF Call us", "{backend:?}");
        let record = bed.academics.record(&student_id("ada")).await.expect("the database answers").expect("on record");
        assert_eq!(record.profile.clone().in_order().completed, [math("B"), math("F")], "{backend:?}");
        assert_eq!((record.profile.closed, record.profile.active_until), (false, None));
        assert_eq!(record.overrides[0].source, Source::Staff);
        assert_eq!(word(&bed.write(reserve("r1", "MATH-1", "")).await), "HOLD");
    }
}

/// Nobody knows whether staff or a bundle have set them, so a bundle without them lifts none.
#[tokio::test]
async fn a_hold_of_unknown_source_stays_until_staff_lift_it_or_a_bundle_names_it() {
    for backend in BACKENDS {
        let bed = upgraded(backend).await;
        let ada = |holds: &[Hold]| vec![Profile { holds: holds.to_vec(), ..profile("ada") }];
        let fine = Hold { source: Source::Bundle, ..hold("h1", "Fine of 3") };

        let page = bed.academics.imported().await.expect("the database answers").next_students().await.expect("a page");
        assert_eq!(page[0].holds, [], "no plan takes them for the bundle's");
        bed.import_students(ada(&[])).await;
        assert_eq!(holds(&bed).await, "h1 STAFF Fine, h2 STAFF Call us", "{backend:?}");

        bed.import_students(ada(std::slice::from_ref(&fine))).await;
        assert_eq!(holds(&bed).await, "h1 BUNDLE Fine of 3, h2 STAFF Call us", "{backend:?}");
        bed.academics.lift_hold(&student_id("ada"), &hold("h2", "").id).await.expect("lifted");
        bed.import_students(ada(&[])).await;
        assert_eq!(holds(&bed).await, "", "{backend:?}");
    }
}
