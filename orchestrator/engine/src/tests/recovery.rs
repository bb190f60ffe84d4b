//! The states of sagas that were found unfinished.

use super::sample;
use super::world::run;
use crate::*;

#[test]
fn readable_sagas_are_resumed_and_unreadable_ones_left_alone() {
    let def = sample();
    let log = run(&def, "notify=never").log;
    let row = |id: u32, definition: &str, version, log| Row { id, definition: definition.to_owned(), version, log };
    let rows = [
        row(1, "registration", 1, Ok(log.clone())),
        row(2, "registration", 2, Ok(log.clone())),
        row(3, "refund", 1, Ok(log.clone())),
        row(4, "registration", 1, Err("not JSON".to_owned())),
        row(5, "registration", 1, Ok(log[1..].to_vec())),
        row(6, "registration", 1, Ok([&log[..2], &log[3..]].concat())),
        row(7, "registration", 1, Ok(vec![])),
        row(8, "registration", 1, Ok(log[..1].to_vec())),
    ];
    let unknown =
        |definition: &str, version| Err(LeaveReason::UnknownDefinition { definition: definition.to_owned(), version });
    assert_eq!(
        rows.map(|row| row.resume(&def.clone().into()).map(|state| state.phase())),
        [
            Ok(Phase::Completing),
            unknown("registration", 2),
            unknown("refund", 1),
            Err(LeaveReason::Unreadable("not JSON".to_owned())),
            Err(FoldError::NotAdmitted { event: "step_succeeded" }.into()),
            Err(FoldError::Sequence { expected: 3, found: 4 }.into()),
            Err(FoldError::Empty.into()),
            Ok(Phase::Running),
        ]
    );
}
