//! A set of definitions: each log folds with its own definition, and an unknown definition is an error.

use super::{sample, step};
use crate::*;

/// The sample in version 2: it enrolls in one step.
fn second() -> Definition {
    use Kind::{Compensatable, Pivot};
    let steps = vec![
        step(1, "reserve_courses", "academics", ["ReserveCourses", "RemoveCourses"], Compensatable),
        step(2, "enroll", "enrollments", ["Enroll", "Withdraw"], Pivot),
    ];
    Definition::try_new("registration", 2, 10_000, steps).unwrap()
}

fn set() -> Definitions {
    Definitions::new(second()).with_earlier(sample()).unwrap()
}

#[test]
fn a_log_is_folded_with_the_definition_that_it_names() {
    let set = set();
    for (definition, pivot) in [(sample(), "commit_enrollments"), (second(), "enroll")] {
        let log = [Recorded::first(0, definition.admit(["reserve_courses", pivot], 0))];
        let state = set.replay(&log).unwrap();
        assert_eq!(state.definition(), ("registration", definition.version()));
        assert_eq!(set.of(&state), &definition);
        assert_eq!(set.destination(&state, set.of(&state).pivot()), "enrollments");
        assert_eq!(state, SagaState::replay(&definition, &log).unwrap());
    }
    assert_eq!(set.current().version(), 2);
}

#[test]
fn a_definition_that_is_not_in_the_set_is_named() {
    let set = set();
    let mut log = vec![Recorded::first(0, sample().admit(["commit_enrollments"], 0))];
    let Event::Admitted { version, .. } = &mut log[0].event else { panic!("it was admitted") };
    *version = 7;
    let unknown = FoldError::OtherDefinition { definition: "registration".to_owned(), version: 7 };
    assert_eq!(set.replay(&log), Err(unknown));
    assert_eq!(set.replay(&[]), Err(FoldError::Empty));
    let finished = [Recorded::first(0, Event::Finished)];
    assert_eq!(set.replay(&finished), Err(FoldError::NotAdmitted { event: "finished" }));
    assert_eq!(set.get("registration", 7), None);
    assert_eq!(set.get("refund", 1), None);
}

#[test]
fn a_version_is_in_a_set_once_and_each_service_too() {
    let twice = set().with_earlier(sample()).unwrap_err();
    assert_eq!(twice.to_string(), "registration v1 is in the set twice");
    assert_eq!(set().destinations(), ["academics", "enrollments", "seats", "fees", "notifications"]);
}

#[test]
#[should_panic = "registration v1, which is not in the set"]
fn a_state_of_another_set_is_a_fault() {
    let log = [Recorded::first(0, sample().admit(["commit_enrollments"], 0))];
    let state = SagaState::replay(&sample(), &log).unwrap();
    Definitions::new(second()).of(&state);
}

#[test]
fn new_sagas_may_begin_with_an_earlier_version() {
    let first = set().beginning_with(1).unwrap();
    assert_eq!(first.current(), &sample());
    assert_eq!(first.all().count(), 2, "the newer one is still read and driven");
    assert_eq!(first.get("registration", 2), Some(&second()));
    assert_eq!(first.clone().beginning_with(1).unwrap(), first);
    assert_eq!(first.beginning_with(2).unwrap(), set());
    assert_eq!(set().beginning_with(3).unwrap_err(), NotDefined { version: 3 });
}
