//! The plan over sagas that were found unfinished.

use super::sample;
use super::world::run;
use crate::*;

#[test]
fn what_can_be_read_is_resumed_and_the_rest_is_left() {
    let def = sample();
    let log = run(&def, "notify=never").log;
    let row = |id: u32, definition: &str, version, log| Row { id, definition: definition.to_owned(), version, log };
    let plan = plan(
        [
            row(1, "registration", 1, Ok(log.clone())),
            row(2, "registration", 2, Ok(log.clone())),
            row(3, "refund", 1, Ok(log.clone())),
            row(4, "registration", 1, Err("not JSON".to_owned())),
            row(5, "registration", 1, Ok(log[1..].to_vec())),
            row(6, "registration", 1, Ok([&log[..2], &log[3..]].concat())),
            row(7, "registration", 1, Ok(vec![])),
            row(8, "registration", 1, Ok(log[..1].to_vec())),
        ],
        [&def],
    );
    let resumed: Vec<_> = plan.resume.iter().map(|(id, state)| (*id, state.phase())).collect();
    assert_eq!(resumed, [(1, Phase::Completing), (8, Phase::Running)]);
    let unknown =
        |definition: &str, version| LeaveReason::UnknownDefinition { definition: definition.to_owned(), version };
    assert_eq!(
        plan.leave,
        [
            (2, unknown("registration", 2)),
            (3, unknown("refund", 1)),
            (4, LeaveReason::Unreadable("not JSON".to_owned())),
            (5, FoldError::NotAdmitted { event: "step_succeeded" }.into()),
            (6, FoldError::Sequence { expected: 3, found: 4 }.into()),
            (7, FoldError::Empty.into()),
        ]
    );
}
