//! Imports beside registrations, and imports that are refused.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

#[tokio::test]
async fn an_import_for_another_version_is_refused_whole() {
    for backend in BACKENDS {
        let bed = Bed::new(backend).await;
        bed.import_students(vec![profile("eve")]).await;
        let stale = bed.store.apply_import(1, &CatalogChanges::default(), &[profile("mal")]).await;
        let error = stale.expect_err("version 2 is in force");
        assert!(matches!(error, ImportError::Outdated { base: 1, version: 2 }), "{backend:?}: {error:?}");
        assert_eq!(bed.store.record(&student_id("mal")).await.expect("the database answers"), None);
    }
}

/// Of imports that were planned for one version, one is applied, whichever replica takes it.
#[tokio::test]
async fn of_two_imports_of_one_version_one_is_applied() {
    for backend in BACKENDS {
        let bed = Bed::new(backend).await;
        let (one, two) =
            (bed.store.clone(), if bed.test.database.is_shared() { bed.replica().store } else { bed.store.clone() });
        let changes = CatalogChanges { sections: vec![section("MATH-9", "fall", "", "")], ..CatalogChanges::default() };
        let (eve, mal) = ([profile("eve")], [profile("mal")]);
        let (one, two) = tokio::join!(one.apply_import(1, &changes, &eve), two.apply_import(1, &changes, &mal));
        assert_eq!([one.is_ok(), two.is_ok()].iter().filter(|applied| **applied).count(), 1, "{backend:?}");
        let stored = [bed.store.record(&student_id("eve")).await, bed.store.record(&student_id("mal")).await];
        let stored = stored.map(|record| record.expect("the database answers").is_some());
        assert_eq!(stored, [one.is_ok(), two.is_ok()], "{backend:?}");
    }
}

#[tokio::test]
async fn an_import_of_students_keeps_the_version_of_the_catalogue() {
    for backend in BACKENDS {
        let bed = Bed::new(backend).await;
        bed.import_students(vec![profile("eve")]).await;
        bed.import(&fixture::changes(), Vec::new()).await.expect("the same campus");
        let content = bed.store.imported().await.expect("the database answers");
        assert_eq!((content.version, content.catalog.version()), (3, 1), "{backend:?}");
        let new = CatalogChanges { sections: vec![section("MATH-9", "fall", "", "")], ..CatalogChanges::default() };
        bed.import(&new, Vec::new()).await.expect("a sound import");
        let content = bed.store.imported().await.expect("the database answers");
        assert_eq!((content.version, content.catalog.version()), (4, 2), "{backend:?}");
    }
}

/// An import gives every student the course that was missing, and a hold. Each registration beside it is decided before
/// it, or after it, and never by half of it; and nobody waits for nobody.
#[tokio::test]
async fn registrations_are_decided_before_an_import_or_after_it() {
    const STUDENTS: usize = 200;
    for backend in BACKENDS {
        let bed = Bed::new(backend).await;
        let students: Vec<String> = (0..STUDENTS).map(|number| format!("s{number}")).collect();
        let before = |student: &String| Profile { completed: Vec::new(), ..profile(student) };
        bed.import_students(students.iter().map(before).collect()).await;
        let other = if bed.test.database.is_shared() { bed.replica().writer } else { bed.writer.clone() };

        let applied = Arc::new(AtomicBool::new(false));
        let waves = [bed.writer.clone(), other].into_iter().enumerate().map(|(replica, writer)| {
            let (students, applied) = (students.clone(), applied.clone());
            tokio::spawn(async move {
                for wave in 0.. {
                    let is_after = applied.load(Ordering::SeqCst);
                    let reserve = students.iter().map(|student| {
                        let registration = format!("{student}-{replica}-{wave}");
                        operation(
                            &registration,
                            RESERVE,
                            Direction::Forward,
                            student,
                            Action::Reserve(change("PHYS-2", "")),
                        )
                    });
                    let answers = writer.write(reserve.collect()).await.expect("the batch is committed");
                    for answer in &answers {
                        let Answer::Refused(refusals) = answer else { panic!("{answer:?}") };
                        let reasons: Vec<&str> = refusals.iter().map(|refusal| refusal.reason.name()).collect();
                        let allowed: &[&[&str]] =
                            if is_after { &[&["HOLD"]] } else { &[&["HOLD"], &["PREREQUISITE_NOT_MET"]] };
                        assert!(allowed.contains(&reasons.as_slice()), "{backend:?}, wave {wave}: {reasons:?}");
                    }
                    if is_after {
                        return;
                    }
                }
            })
        });
        let waves: Vec<_> = waves.collect();
        let after = |student: &String| Profile {
            completed: vec![math("B")],
            holds: vec![Hold { source: Source::Bundle, ..hold("h1", "Fine") }],
            ..profile(student)
        };
        let sections = vec![section("MATH-9", "fall", "", "")];
        let changes = CatalogChanges { sections, ..CatalogChanges::default() };
        bed.import(&changes, students.iter().map(after).collect()).await.expect("applied");
        applied.store(true, Ordering::SeqCst);
        for wave in waves {
            wave.await.expect("no panic");
        }
    }
}
