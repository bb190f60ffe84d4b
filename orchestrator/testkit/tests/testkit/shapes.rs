//! Sagas of several shapes.

use matricula_engine::{Definition, Kind, RetryPolicy, Step};
use matricula_testkit::Shape;

use Kind::{Compensatable, Finalizer, Pivot, Retriable};

/// 100, 200, 400, 400... ms; attention after 3 failures, then every second; 10 s to the pivot.
pub fn definition(table: &[(u8, &'static str, Kind)]) -> Definition {
    let retry = RetryPolicy::try_new(100, 400, 1_000, 3).expect("a policy");
    let step = |&(stage, name, kind): &(u8, &'static str, Kind)| Step {
        name,
        stage,
        destination: "there",
        action: "Do",
        undo: matches!(kind, Compensatable | Pivot).then_some("Undo"),
        kind,
        retry,
    };
    Definition::try_new("sample", 1, 10_000, table.iter().map(step).collect()).expect("a sound table")
}

/// The same with a pivot without a compensation, so that its call waits for the log.
fn unasked(table: &[(u8, &'static str, Kind)]) -> Definition {
    let mut steps = definition(table).steps().to_vec();
    steps.iter_mut().filter(|step| step.kind == Pivot).for_each(|step| step.undo = None);
    Definition::try_new("sample", 1, 10_000, steps).expect("a sound table")
}

/// Shaped like a registration.
pub fn registration() -> Definition {
    definition(&[
        (1, "reserve", Compensatable),
        (2, "hold", Compensatable),
        (3, "create", Compensatable),
        (3, "assess", Compensatable),
        (4, "commit", Pivot),
        (5, "settle", Retriable),
        (5, "release", Retriable),
        (5, "refund", Retriable),
        (5, "notify", Finalizer),
    ])
}

/// The same with a pivot that can be withdrawn.
fn withdrawable() -> Definition {
    registration().with_withdrawable_pivot().expect("its pivot has an undo")
}

/// Each shape with a name.
pub fn all() -> Vec<(&'static str, Shape)> {
    vec![
        ("all steps of a registration", Shape::whole(registration())),
        ("all steps, and a pivot that can be withdrawn", Shape::whole(withdrawable())),
        ("half of its steps", Shape::new(registration(), ["reserve", "create", "commit", "settle", "notify"])),
        ("a pivot alone", Shape::new(registration(), ["commit"])),
        (
            "nothing to undo, nobody to ask about the pivot",
            Shape::whole(unasked(&[(1, "commit", Pivot), (2, "a", Retriable), (2, "b", Retriable)])),
        ),
        (
            "three at a time, closing by itself, nobody to ask about the pivot",
            Shape::whole(unasked(&[
                (1, "a", Compensatable),
                (1, "b", Compensatable),
                (1, "c", Compensatable),
                (2, "commit", Pivot),
                (3, "tell", Finalizer),
                (3, "note", Finalizer),
                (4, "sweep", Retriable),
            ])),
        ),
    ]
}
