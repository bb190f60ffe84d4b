//! The tables of a registration's steps. New registrations begin with version 2, or with version 1 while a fleet is
//! being upgraded. Stored ones may have either.
//!
//! Version 1 enrolls in two steps, [`step::CREATE_ENROLLMENTS`] and [`step::COMMIT_ENROLLMENTS`]. Version 2 enrolls in
//! one, [`step::ENROLL`] (ADR 0025). A stored log is read with the version that it began with, so no table here is ever
//! changed or removed.

use matricula_engine::{Definition, DefinitionError, Definitions, Kind, RetryPolicy, Step};

use crate::calls::rpc;
use crate::request::RegistrationRequest;

/// The newest version. New registrations begin with it, unless a setting says otherwise.
pub const VERSION_NEWEST: u32 = 2;

/// Name that its sagas carry. A change of steps, stages or kinds needs a new version.
const NAME: &str = "registration";

/// How long a registration may take to its pivot, in version 2 to the answer of its pivot. A service that is down for
/// longer than this costs students their place in line, so it is far above any restart and below the patience of
/// somebody who watches.
const DEADLINE_MS: i64 = 15 * 60 * 1_000;

/// Backoff of every step: quick at first, for a service that is restarting, then every two seconds; after 30 failed
/// attempts (about a minute) a person is asked to look, and it goes on every 10 s.
const DELAY_FIRST_MS: i64 = 50;
const DELAY_MAX_MS: i64 = 2_000;
const DELAY_SLOW_MS: i64 = 10_000;
const ATTENTION_AFTER_ATTEMPTS: u32 = 30;

/// Names of the steps, as the log, the barriers and the operators know them.
pub mod step {
    /// Decides all rules and reserves the change set on the academic record.
    pub const RESERVE_COURSES: &str = "reserve_courses";
    /// Takes a seat in each added section.
    pub const HOLD_SEATS: &str = "hold_seats";
    /// In version 1: creates pending enrollments, marks drops.
    pub const CREATE_ENROLLMENTS: &str = "create_enrollments";
    /// Charges the added sections.
    pub const ASSESS_FEES: &str = "assess_fees";
    /// The pivot of version 1: commits what was created and marked.
    pub const COMMIT_ENROLLMENTS: &str = "commit_enrollments";
    /// The pivot: enrolls the adds and ends the drops, or refuses.
    pub const ENROLL: &str = "enroll";
    /// Settles the academic record.
    pub const SETTLE_COURSES: &str = "settle_courses";
    /// Gives back the seats of dropped sections.
    pub const RELEASE_DROPPED_SEATS: &str = "release_dropped_seats";
    /// Gives back the fees of dropped sections.
    pub const REFUND_FEES: &str = "refund_fees";
    /// Tells the student, whichever way it went.
    pub const NOTIFY: &str = "notify";
}

/// The definitions of all registrations that may be stored. An error is a fault of a table, and shows in the first
/// test.
pub fn definitions() -> Result<Definitions, DefinitionError> {
    let current = Definitions::new(definition()?);
    Ok(current.with_earlier(first_definition()?).expect("the versions differ"))
}

/// The saga: version 2. An error is a fault of this table.
pub fn definition() -> Result<Definition, DefinitionError> {
    use Kind::{Compensatable, Finalizer, Pivot, Retriable};

    #[rustfmt::skip]
    let steps = vec![
        // stage  step                         service          action                  what undoes it
        // kind
        spec(1, step::RESERVE_COURSES,       "academics",     rpc::RESERVE_COURSES,   Some(rpc::REMOVE_COURSES),  Compensatable),
        spec(2, step::HOLD_SEATS,            "seats",         rpc::HOLD_SEATS,        Some(rpc::RELEASE_SEATS),   Compensatable),
        spec(3, step::ASSESS_FEES,           "fees",          rpc::ASSESS_FEES,       Some(rpc::VOID_FEES),       Compensatable),
        spec(4, step::ENROLL,                "enrollments",   rpc::ENROLL,            Some(rpc::WITHDRAW_COMMIT), Pivot),
        spec(5, step::SETTLE_COURSES,        "academics",     rpc::SETTLE_COURSES,    None,                       Retriable),
        spec(5, step::RELEASE_DROPPED_SEATS, "seats",         rpc::RELEASE_SEATS,     None,                       Retriable),
        spec(5, step::REFUND_FEES,           "fees",          rpc::REFUND_FEES,       None,                       Retriable),
        spec(5, step::NOTIFY,                "notifications", rpc::SEND_NOTIFICATION, None,                       Finalizer),
    ];
    Definition::try_new(NAME, VERSION_NEWEST, DEADLINE_MS, steps)?.with_withdrawable_pivot()
}

/// Version 1. New registrations begin with it only while a fleet is being upgraded. An error is a fault of this table.
pub fn first_definition() -> Result<Definition, DefinitionError> {
    use Kind::{Compensatable, Finalizer, Pivot, Retriable};

    #[rustfmt::skip]
    let steps = vec![
        // stage  step                         service          action                    what undoes it
        // kind
        spec(1, step::RESERVE_COURSES,       "academics",     rpc::RESERVE_COURSES,     Some(rpc::REMOVE_COURSES),     Compensatable),
        spec(2, step::HOLD_SEATS,            "seats",         rpc::HOLD_SEATS,          Some(rpc::RELEASE_SEATS),      Compensatable),
        spec(3, step::CREATE_ENROLLMENTS,    "enrollments",   rpc::CREATE_ENROLLMENTS,  Some(rpc::CANCEL_ENROLLMENTS), Compensatable),
        spec(3, step::ASSESS_FEES,           "fees",          rpc::ASSESS_FEES,         Some(rpc::VOID_FEES),          Compensatable),
        spec(4, step::COMMIT_ENROLLMENTS,    "enrollments",   rpc::COMMIT_ENROLLMENTS,  Some(rpc::WITHDRAW_COMMIT),    Pivot),
        spec(5, step::SETTLE_COURSES,        "academics",     rpc::SETTLE_COURSES,      None,                          Retriable),
        spec(5, step::RELEASE_DROPPED_SEATS, "seats",         rpc::RELEASE_SEATS,       None,                          Retriable),
        spec(5, step::REFUND_FEES,           "fees",          rpc::REFUND_FEES,         None,                          Retriable),
        spec(5, step::NOTIFY,                "notifications", rpc::SEND_NOTIFICATION,   None,                          Finalizer),
    ];
    Definition::try_new(NAME, 1, DEADLINE_MS, steps)
}

/// The steps of a version that have something to do: seats and fees only where something is added, or dropped.
pub fn applies(definition: &Definition, request: &RegistrationRequest) -> Vec<&'static str> {
    let has_something_to_do = |name: &&str| match *name {
        step::HOLD_SEATS | step::ASSESS_FEES => !request.adds.is_empty(),
        step::RELEASE_DROPPED_SEATS | step::REFUND_FEES => !request.drops.is_empty(),
        _ => true,
    };
    definition.steps().iter().map(|step| step.name).filter(has_something_to_do).collect()
}

/// Whether somebody waits for a step: the student, whoever gets a seat that is given back, or the student's next
/// registration, which is judged by the record and the account that this one leaves. To the rules a course that is
/// added and not settled yet counts as one that is; who drops it again in the same moment waits for its settling.
pub fn is_waited_for(step: &Step, request: &RegistrationRequest) -> bool {
    let settles_adds_only = step.name == step::SETTLE_COURSES && request.drops.is_empty();
    step.kind != Kind::Finalizer && !settles_adds_only
}

fn spec(
    stage: u8,
    name: &'static str,
    destination: &'static str,
    action: &'static str,
    undo: Option<&'static str>,
    kind: Kind,
) -> Step {
    let retry = RetryPolicy::try_new(DELAY_FIRST_MS, DELAY_MAX_MS, DELAY_SLOW_MS, ATTENTION_AFTER_ATTEMPTS)
        .expect("the constants above are a policy");
    Step { name, stage, destination, action, undo, kind, retry }
}

#[cfg(test)]
mod tests {
    use matricula_kit::id::StudentId;
    use matricula_kit::time::UnixMs;

    use super::*;

    fn request(adds: &[&str], drops: &[&str]) -> RegistrationRequest {
        let owned = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
        let student = StudentId::stored("S1".to_owned());
        let request = RegistrationRequest::try_new(student, owned(adds), owned(drops), Vec::new(), UnixMs(0));
        request.expect("it is within the bounds")
    }

    #[test]
    fn nobody_waits_for_the_notification_nor_for_the_settling_of_adds() {
        for definition in definitions().expect("sound tables").all() {
            let not_waited_for = |adds: &[&str], drops: &[&str]| -> Vec<&str> {
                let request = request(adds, drops);
                let applies = applies(definition, &request);
                let steps = definition.steps().iter().filter(|step| applies.contains(&step.name));
                steps.filter(|step| !is_waited_for(step, &request)).map(|step| step.name).collect()
            };
            assert_eq!(not_waited_for(&["A"], &[]), [step::SETTLE_COURSES, step::NOTIFY]);
            let dropped = not_waited_for(&["A"], &["B"]);
            assert_eq!(dropped, [step::NOTIFY], "what is dropped takes its time until it is settled");
        }
    }

    #[test]
    fn the_table_is_a_saga() {
        let definition = definition().expect("a sound table");
        insta::assert_snapshot!(definition.render(), @r"
        registration v2, to the answer of its pivot within 900000 ms
          1  reserve_courses        academics      ReserveCourses     <- RemoveCourses      compensatable
          2  hold_seats             seats          HoldSeats          <- ReleaseSeats       compensatable
          3  assess_fees            fees           AssessFees         <- VoidFees           compensatable
          4  enroll                 enrollments    Enroll             <- WithdrawCommit     pivot
          5  settle_courses         academics      SettleCourses                            retriable
          |  release_dropped_seats  seats          ReleaseSeats                             retriable
          |  refund_fees            fees           RefundFees                               retriable
          |  notify                 notifications  SendNotification                         closing
        ");
    }

    /// Stored sagas have this table: it never changes.
    #[test]
    fn the_first_version_stays_as_it_was() {
        let definition = first_definition().expect("a sound table");
        insta::assert_snapshot!(definition.render(), @r"
        registration v1, to its pivot within 900000 ms
          1  reserve_courses        academics      ReserveCourses     <- RemoveCourses      compensatable
          2  hold_seats             seats          HoldSeats          <- ReleaseSeats       compensatable
          3  create_enrollments     enrollments    CreateEnrollments  <- CancelEnrollments  compensatable
          |  assess_fees            fees           AssessFees         <- VoidFees           compensatable
          4  commit_enrollments     enrollments    CommitEnrollments  <- WithdrawCommit     pivot
          5  settle_courses         academics      SettleCourses                            retriable
          |  release_dropped_seats  seats          ReleaseSeats                             retriable
          |  refund_fees            fees           RefundFees                               retriable
          |  notify                 notifications  SendNotification                         closing
        ");
    }

    #[test]
    fn a_step_without_anything_to_do_is_skipped() {
        let definition = definition().expect("a sound table");
        let applies = |adds: &[&str], drops: &[&str]| applies(&definition, &request(adds, drops)).join(" ");
        assert_eq!(applies(&["A"], &[]), "reserve_courses hold_seats assess_fees enroll settle_courses notify");
        let drop = "reserve_courses enroll settle_courses release_dropped_seats refund_fees notify";
        assert_eq!(applies(&[], &["B"]), drop);
        assert_eq!(applies(&["A"], &["B"]).split(' ').count(), definition.steps().len());
    }

    #[test]
    fn the_simulation_has_the_same_tables() {
        assert_eq!(matricula_simulation::shapes::registration().definitions, definitions().expect("sound tables"));
    }
}
