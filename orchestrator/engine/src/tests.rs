//! The tests of the engine: a sample saga shaped like a registration, a world that drives it by a script, and the
//! properties that every ended run must have.

mod audit;
mod crash;
mod definitions;
mod fold;
mod operator;
mod random;
mod recovery;
mod retries;
mod runs;
mod withdrawn;
mod words;
mod world;

use crate::{Definition, Kind, RetryPolicy, Step};

/// 100, 200, 400, 400... ms; attention after 3 failures, then every second.
fn retry() -> RetryPolicy {
    RetryPolicy::try_new(100, 400, 1_000, 3).unwrap()
}

fn step(
    stage: u8,
    name: &'static str,
    destination: &'static str,
    [action, undo]: [&'static str; 2],
    kind: Kind,
) -> Step {
    let undo = (!undo.is_empty()).then_some(undo);
    Step { name, stage, destination, action, undo, kind, retry: retry() }
}

fn table() -> Vec<Step> {
    use Kind::{Compensatable, Finalizer, Pivot, Retriable};
    vec![
        step(1, "reserve_courses", "academics", ["ReserveCourses", "RemoveCourses"], Compensatable),
        step(2, "hold_seats", "seats", ["HoldSeats", "ReleaseSeats"], Compensatable),
        step(3, "create_enrollments", "enrollments", ["CreateEnrollments", "CancelEnrollments"], Compensatable),
        step(3, "assess_fees", "fees", ["AssessFees", "VoidFees"], Compensatable),
        step(4, "commit_enrollments", "enrollments", ["CommitEnrollments", ""], Pivot),
        step(5, "settle_courses", "academics", ["SettleCourses", ""], Retriable),
        step(5, "release_dropped_seats", "seats", ["ReleaseSeats", ""], Retriable),
        step(5, "refund_fees", "fees", ["RefundFees", ""], Retriable),
        step(5, "notify", "notifications", ["SendNotification", ""], Finalizer),
    ]
}

fn sample() -> Definition {
    Definition::try_new("registration", 1, 10_000, table()).unwrap()
}
