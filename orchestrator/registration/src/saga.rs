//! The table of a registration's steps, in all versions. A row is one step: its place in the saga, both its calls, and
//! when it has something to do.
//!
//! New registrations begin with the newest version, or with an earlier one while a fleet is being upgraded. A stored
//! registration is read with the version that its log names. So a landed version never changes: a new version adds
//! rows, and ends the range of the rows that it replaces. Version 1 enrolls in two steps, version 2 in one (ADR 0025).

use std::ops::RangeInclusive;

use matricula_engine::Kind::{self, Compensatable, Finalizer, Pivot, Retriable};
use matricula_engine::{Definition, DefinitionError, Definitions, RetryPolicy, Step};

use self::When::{Adds, Always, Drops, Never};
use crate::calls::Rpc;
use crate::calls::rpc::{academics, enrollments, fees, notifications, seats};
use crate::request::RegistrationRequest;

/// The newest version. New registrations begin with it, unless a setting says otherwise.
pub const VERSION_NEWEST: u32 = 2;

/// The name that its sagas carry.
const NAME: &str = "registration";

/// From this version on a pivot that has no answer can be withdrawn.
const PIVOT_WITHDRAWABLE_FROM: u32 = 2;

/// The deadline of a registration: from its admission to its pivot, in version 2 to the answer of its pivot. A service
/// that is down for longer costs students their place in line. So the deadline is far above any restart, and below the
/// time that a student keeps watching.
const DEADLINE_MS: i64 = 15 * 60 * 1_000;

/// The backoff of each step: quick at first, for a service that is restarting, then every two seconds. After 30 failed
/// attempts (about a minute) the saga needs attention, and the step is retried every 10 s. The deadline of one attempt
/// is a setting, `call_timeout_ms`, because one RPC carries the calls of many sagas.
const DELAY_FIRST_MS: i64 = 50;
const DELAY_MAX_MS: i64 = 2_000;
const DELAY_SLOW_MS: i64 = 10_000;
const ATTENTION_AFTER_ATTEMPTS: u32 = 30;

/// Names of the steps: in the log, in the barriers of the services, and for operators.
pub mod step {
    /// Decides all rules and reserves the change set on the academic record.
    pub const RESERVE_COURSES: &str = "reserve_courses";
    /// Takes a seat in each added section.
    pub const HOLD_SEATS: &str = "hold_seats";
    /// In version 1: creates pending enrollments, marks drops.
    pub const CREATE_ENROLLMENTS: &str = "create_enrollments";
    /// Charges the added sections.
    pub const ASSESS_FEES: &str = "assess_fees";
    /// The pivot of version 1: commits the pending enrollments and the marked drops.
    pub const COMMIT_ENROLLMENTS: &str = "commit_enrollments";
    /// The pivot: enrolls the adds and ends the drops, or refuses.
    pub const ENROLL: &str = "enroll";
    /// Settles the academic record.
    pub const SETTLE_COURSES: &str = "settle_courses";
    /// Gives back the seats of dropped sections.
    pub const RELEASE_DROPPED_SEATS: &str = "release_dropped_seats";
    /// Gives back the fees of dropped sections.
    pub const REFUND_FEES: &str = "refund_fees";
    /// Sends the outcome to the student.
    pub const NOTIFY: &str = "notify";
}

const ALL: RangeInclusive<u32> = 1..=VERSION_NEWEST;
const SINCE_2: RangeInclusive<u32> = 2..=VERSION_NEWEST;

#[rustfmt::skip]
static STEPS: [Row; 10] = [
    // versions  stage, step                     kind           action                            undo
    // applies waited for
    row(ALL,     1, step::RESERVE_COURSES,       Compensatable, academics::RESERVE_COURSES,       Some(academics::REMOVE_COURSES),       Always, Always),
    row(ALL,     2, step::HOLD_SEATS,            Compensatable, seats::HOLD_SEATS,                Some(seats::RELEASE_SEATS),            Adds,   Always),
    row(1..=1,   3, step::CREATE_ENROLLMENTS,    Compensatable, enrollments::CREATE_ENROLLMENTS,  Some(enrollments::CANCEL_ENROLLMENTS), Always, Always),
    row(ALL,     3, step::ASSESS_FEES,           Compensatable, fees::ASSESS_FEES,                Some(fees::VOID_FEES),                 Adds,   Always),
    row(1..=1,   4, step::COMMIT_ENROLLMENTS,    Pivot,         enrollments::COMMIT_ENROLLMENTS,  Some(enrollments::WITHDRAW_COMMIT),    Always, Always),
    row(SINCE_2, 4, step::ENROLL,                Pivot,         enrollments::ENROLL,              Some(enrollments::WITHDRAW_COMMIT),    Always, Always),
    row(ALL,     5, step::SETTLE_COURSES,        Retriable,     academics::SETTLE_COURSES,        None,                                  Always, Drops),
    row(ALL,     5, step::RELEASE_DROPPED_SEATS, Retriable,     seats::RELEASE_SEATS,             None,                                  Drops,  Always),
    row(ALL,     5, step::REFUND_FEES,           Retriable,     fees::REFUND_FEES,                None,                                  Drops,  Always),
    row(ALL,     5, step::NOTIFY,                Finalizer,     notifications::SEND_NOTIFICATION, None,                                  Always, Never),
];

/// A step of a registration.
struct Row {
    /// The versions that have the step.
    versions: RangeInclusive<u32>,
    stage: u8,
    name: &'static str,
    kind: Kind,
    action: Rpc,
    /// The RPC of the same service that undoes the action.
    undo: Option<Rpc>,
    /// The registrations in which the step has something to do.
    applies: When,
    /// The registrations in which somebody waits for the action: the student, another student who gets a seat that is
    /// given back, or the student's next registration, which is decided by the record and the account that this one
    /// leaves. An added course counts for the rules before it is settled; a dropped one occupies its time until then.
    is_waited_for: When,
}

/// Some registrations, by their change set.
#[derive(Clone, Copy)]
enum When {
    Always,
    Adds,
    Drops,
    Never,
}

impl When {
    fn includes(self, request: &RegistrationRequest) -> bool {
        match self {
            Always => true,
            Adds => !request.adds.is_empty(),
            Drops => !request.drops.is_empty(),
            Never => false,
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "they are the columns of the table")]
const fn row(
    versions: RangeInclusive<u32>,
    stage: u8,
    name: &'static str,
    kind: Kind,
    action: Rpc,
    undo: Option<Rpc>,
    applies: When,
    is_waited_for: When,
) -> Row {
    Row { versions, stage, name, kind, action, undo, applies, is_waited_for }
}

impl Row {
    /// The step as the engine takes it.
    fn step(&self) -> Step {
        let retry = RetryPolicy::try_new(DELAY_FIRST_MS, DELAY_MAX_MS, DELAY_SLOW_MS, ATTENTION_AFTER_ATTEMPTS);
        Step {
            name: self.name,
            stage: self.stage,
            destination: self.action.service,
            action: self.action.name,
            undo: self.undo.map(|undo| undo.name),
            kind: self.kind,
            retry: retry.expect("the constants above are a policy"),
        }
    }

    /// The row of a step of any version.
    fn of(step: &Step) -> &'static Self {
        let row = STEPS.iter().find(|row| (row.name, row.stage) == (step.name, step.stage));
        row.expect("each step of a definition is made from a row")
    }
}

/// The definitions of all registrations that may be stored. An error is a fault of the table.
pub fn definitions() -> Result<Definitions, DefinitionError> {
    let mut definitions = Definitions::new(definition(VERSION_NEWEST)?);
    for version in (1..VERSION_NEWEST).rev() {
        definitions = definitions.with_earlier(definition(version)?).expect("the versions differ");
    }
    Ok(definitions)
}

/// The saga of one version. An error is a fault of the table.
pub fn definition(version: u32) -> Result<Definition, DefinitionError> {
    let steps = STEPS.iter().filter(|row| row.versions.contains(&version)).map(Row::step).collect();
    let definition = Definition::try_new(NAME, version, DEADLINE_MS, steps)?;
    if version < PIVOT_WITHDRAWABLE_FROM { Ok(definition) } else { definition.with_withdrawable_pivot() }
}

/// Names of the steps of a version that have something to do for a request.
pub fn applies(definition: &Definition, request: &RegistrationRequest) -> Vec<&'static str> {
    let applies = |step: &&Step| Row::of(step).applies.includes(request);
    definition.steps().iter().filter(applies).map(|step| step.name).collect()
}

/// Whether somebody waits for the action of a step.
pub(crate) fn is_waited_for(step: &Step, request: &RegistrationRequest) -> bool {
    Row::of(step).is_waited_for.includes(request)
}

/// The RPC of this name of a service.
pub(crate) fn rpc(service: &str, name: &str) -> Option<Rpc> {
    let mut rpcs = STEPS.iter().flat_map(|row| [Some(row.action), row.undo]).flatten();
    rpcs.find(|rpc| (rpc.service, rpc.name) == (service, name))
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
    fn nobody_waits_for_the_notification_or_for_settled_adds() {
        for definition in definitions().expect("sound tables").all() {
            let not_waited_for = |adds: &[&str], drops: &[&str]| -> Vec<&str> {
                let request = request(adds, drops);
                let applies = applies(definition, &request);
                let steps = definition.steps().iter().filter(|step| applies.contains(&step.name));
                steps.filter(|step| !is_waited_for(step, &request)).map(|step| step.name).collect()
            };
            assert_eq!(not_waited_for(&["A"], &[]), [step::SETTLE_COURSES, step::NOTIFY]);
            let dropped = not_waited_for(&["A"], &["B"]);
            assert_eq!(dropped, [step::NOTIFY], "a dropped section occupies its time until it is settled");
        }
    }

    #[test]
    fn the_table_is_a_saga() {
        let definition = definition(VERSION_NEWEST).expect("a sound table");
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
        let definition = definition(1).expect("a sound table");
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
    fn a_service_undoes_its_own_actions() {
        for row in &STEPS {
            assert!(row.undo.is_none_or(|undo| undo.service == row.action.service), "{}", row.name);
        }
    }

    #[test]
    fn a_step_without_anything_to_do_is_skipped() {
        let definition = definition(VERSION_NEWEST).expect("a sound table");
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
