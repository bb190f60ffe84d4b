//! Rosters through the real writer: the override of an import is stored with what it lets in, once.

use super::*;
use crate::domain::context::ChangeSet;

fn take_over(registration: &str, adds: &str, drops: &str) -> Operation<Command> {
    operation(registration, RESERVE, Direction::Forward, "ada", Action::TakeOver(change(adds, drops)))
}

/// The overrides of the ledger: `id section granted_by`.
async fn overrides(bed: &Bed) -> Vec<String> {
    let mut snapshot = bed.store.database.snapshot().await.expect("a snapshot");
    let overrides = store::OVERRIDES.all(&mut snapshot).await.expect("read").into_iter();
    let shown = overrides.map(|it| {
        let section = it.section.map(String::from).unwrap_or_default();
        format!("{} {section} {} {}", it.id, it.granted_by, it.source.name())
    });
    shown.collect()
}

#[tokio::test]
async fn a_row_is_taken_over_with_its_override() {
    for backend in BACKENDS {
        let bed = Bed::new(backend).await;
        // Repeated as one batch and as another: the barrier answers, and nothing is granted twice.
        let again = [take_over("r1", "MATH-1", ""), take_over("r1", "MATH-1", "")];
        for batch in [again.to_vec(), again.to_vec()] {
            let answers = bed.write_all(batch).await;
            for answer in answers {
                let Answer::Done(done) = answer else { panic!("{answer:?}") };
                let named = done.added[0].closed_section_override.as_ref().map(|id| id.as_str());
                assert_eq!(named, Some("r1:0"), "{backend:?}");
            }
        }
        assert_eq!(word(&bed.write(settle("r1")).await), "done");
        assert_eq!(overrides(&bed).await, ["r1:0 MATH-1 import BUNDLE"], "{backend:?}");
        assert_eq!(bed.record("ada").await, ["MATH-1 r1 ENROLLED 300 -"]);

        // Refused, and ended: neither grants anything.
        assert_eq!(word(&bed.write(take_over("r2", "MATH-2", "")).await), "DUPLICATE_COURSE");
        assert_eq!(word(&bed.write(take_over("r3", "", "MATH-1")).await), "done");
        let settled = operation("r3", SETTLE, Direction::Forward, "ada", Action::Settle);
        assert_eq!(word(&bed.write(settled).await), "done");
        assert_eq!(bed.record("ada").await, ["MATH-1 r1 DROPPED 300 r3"], "{backend:?}");
        assert_eq!(overrides(&bed).await, ["r1:0 MATH-1 import BUNDLE"], "{backend:?}");
    }
}

/// What an import lets in, its student cannot use again for a registration.
#[tokio::test]
async fn the_override_serves_no_later_registration() {
    for backend in BACKENDS {
        let bed = Bed::new(backend).await;
        bed.write_all(vec![take_over("r1", "MATH-1", ""), settle("r1")]).await;
        bed.write_all(vec![reserve("r2", "", "MATH-1"), settle("r2")]).await;
        let later = ChangeSet { submitted_at: AFTER, ..change("MATH-1", "") };
        let answer = bed.write(operation("r3", RESERVE, Direction::Forward, "ada", Action::Reserve(later))).await;
        let Answer::Done(done) = answer else { panic!("{answer:?}") };
        assert_eq!(done.added[0].closed_section_override, None, "{backend:?}");
    }
}
