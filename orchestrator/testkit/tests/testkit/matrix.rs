//! The whole matrix of each shape.

use std::collections::HashSet;

use futures::FutureExt as _;
use matricula_testkit::simulated::Simulated;
use matricula_testkit::{Shape, World, cases, run_matrix};

use crate::shapes;

const COMMAND: &str = "cargo test -p matricula-testkit --test testkit";

#[test]
fn every_case_of_every_shape_holds() {
    for (name, shape) in shapes::all() {
        let world = Simulated::new(shape);
        let mut all = cases::without_crash(world.shape());
        all.extend(cases::crashes(world.shape(), cases::for_crashes(world.shape())));
        all.extend(cases::crashes(world.shape(), cases::operators(world.shape())));
        all.extend(cases::cancelled_behind(world.shape()));
        let names: HashSet<_> = all.iter().map(|case| &case.name).collect();
        assert_eq!(names.len(), all.len(), "{name}: a case is there twice");
        let report = run_matrix(&world, all, 1).now_or_never().expect("nothing waits");
        println!("{name}: {} cases", report.runs.len());
        report.assert_holds(COMMAND);
    }
}

#[test]
fn names_say_what_goes_wrong() {
    let shape = Shape::whole(shapes::registration());
    let all = cases::without_crash(&shape);
    let mut crashes = cases::crashes(&shape, cases::basic(&shape));
    crashes.extend(cases::cancelled_behind(&shape));
    for name in [
        "nothing goes wrong",
        "hold refused",
        "settle heard as refused, which it may not be",
        "cancelled at assess; undo of hold failing with unavailable 3 times",
        "create refused; assess done, its answer lost",
        "hold delivered after the end; cancelled at hold",
        "commit done, its answer lost",
        "commit done, its answer lost 12 times",
        "cancelled too late, at commit",
        "cancelled at assess; undo of hold failing with unavailable for ever; skipped by an operator",
        "commit done, its answer lost for ever; resolved by an operator as done",
        "cancelled at assess; undo of assess failing with permission_denied",
        "create refused; everything once more after the end, the last first",
        "hold refused; crash after event 4 (turned), before the calls that follow",
        "crash after event 1 (admitted), after the effects that follow, what nothing waited for not stored; cancelled once adopted",
        "undo of commit done, its answer lost; crash after event 5 (assess done), after the effects that follow, what nothing \
         waited for not stored; cancelled too late, once adopted",
        "crash after event 6 (commit done), after the effects that follow, before their answers",
    ] {
        assert!(all.iter().chain(&crashes).any(|case| case.name == name), "no case is named {name:?}");
    }
}
