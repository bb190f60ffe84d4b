//! The sagas that are simulated: tables of steps, each with what it does in the simulated services.
//!
//! The first is the registration as it is; a test holds it to the real table, so that this crate need not be built with
//! the services' clients. The others have what the registration has not: no finalizer, many steps in one stage, a
//! stage a step, nothing but a pivot, a deadline that is short.

use matricula_engine::{Definition, Definitions, Kind, RetryPolicy, Step, StepIndex};

/// What a step does in the simulated services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Does {
    /// Puts adds on the academic record as pending, marks drops.
    Reserve,
    /// Takes seats.
    Hold,
    /// Creates pending enrollments, marks drops.
    Create,
    /// Charges adds.
    Assess,
    /// Makes pending enrollments official, ends marked ones.
    Commit,
    /// Settles the academic record.
    Settle,
    /// Gives back the seats of drops.
    ReleaseDropped,
    /// Gives back the fees of drops.
    Refund,
    /// Tells the student.
    Notify,
    /// An effect without meaning, that is counted.
    Plain,
}

/// A saga and what its steps do.
#[derive(Debug, Clone)]
pub struct Shape {
    /// The table.
    pub definition: Definition,
    /// The same as a set.
    pub definitions: Definitions,
    /// What each step does.
    pub does: Vec<Does>,
    /// The services that it calls, each once.
    pub destinations: Vec<&'static str>,
    /// For each step, which of them.
    pub destination_of: Vec<u8>,
}

impl Shape {
    fn new(name: &'static str, deadline_ms: i64, retry: RetryPolicy, lines: &[Line]) -> Self {
        let steps: Vec<Step> = lines
            .iter()
            .map(|&(stage, name, destination, action, undo, kind, _)| Step {
                name,
                stage,
                destination,
                action,
                undo,
                kind,
                retry,
            })
            .collect();
        let definition = Definition::try_new(name, 1, deadline_ms, steps).expect("a sound table");
        let mut destinations: Vec<&'static str> = Vec::new();
        let mut destination_of = Vec::new();
        for line in lines {
            let place = destinations.iter().position(|name| *name == line.2).unwrap_or(destinations.len());
            if place == destinations.len() {
                destinations.push(line.2);
            }
            destination_of.push(place as u8);
        }
        let definitions = definition.clone().into();
        Self { definition, definitions, does: lines.iter().map(|line| line.6).collect(), destinations, destination_of }
    }

    /// The step that does this, if there is one.
    pub fn step_that(&self, does: Does) -> Option<StepIndex> {
        self.does.iter().position(|other| *other == does).map(|index| StepIndex(index as u8))
    }

    /// Whether a saga of it can drop sections: then something has to say where they came from.
    pub fn may_drop(&self) -> bool {
        let settles = [Does::Commit, Does::Settle, Does::ReleaseDropped, Does::Refund];
        self.step_that(Does::Reserve) == Some(StepIndex(0))
            && self.definition.steps().get(1).is_none_or(|second| second.stage > self.definition.steps()[0].stage)
            && settles.iter().all(|does| self.step_that(*does).is_some())
    }

    /// All of them; the registration comes first.
    pub fn all() -> Vec<Self> {
        vec![registration(), hasty_registration(), side_by_side(), in_a_row(), pivot_only(), seats_first()]
    }
}

type Line = (u8, &'static str, &'static str, &'static str, Option<&'static str>, Kind, Does);

use Kind::{Compensatable, Finalizer, Pivot, Retriable};

#[rustfmt::skip]
const REGISTRATION: [Line; 9] = [
    (1, "reserve_courses",       "academics",     "ReserveCourses",    Some("RemoveCourses"),     Compensatable, Does::Reserve),
    (2, "hold_seats",            "seats",         "HoldSeats",         Some("ReleaseSeats"),      Compensatable, Does::Hold),
    (3, "create_enrollments",    "enrollments",   "CreateEnrollments", Some("CancelEnrollments"), Compensatable, Does::Create),
    (3, "assess_fees",           "fees",          "AssessFees",        Some("VoidFees"),          Compensatable, Does::Assess),
    (4, "commit_enrollments",    "enrollments",   "CommitEnrollments", Some("WithdrawCommit"),    Pivot,         Does::Commit),
    (5, "settle_courses",        "academics",     "SettleCourses",     None,                      Retriable,     Does::Settle),
    (5, "release_dropped_seats", "seats",         "ReleaseSeats",      None,                      Retriable,     Does::ReleaseDropped),
    (5, "refund_fees",           "fees",          "RefundFees",        None,                      Retriable,     Does::Refund),
    (5, "notify",                "notifications", "SendNotification",  None,                      Finalizer,     Does::Notify),
];

/// The registration as it is.
pub fn registration() -> Shape {
    let retry = RetryPolicy::try_new(50, 2_000, 10_000, 30).expect("a sound policy");
    Shape::new("registration", 15 * 60 * 1_000, retry, &REGISTRATION)
}

fn quick() -> RetryPolicy {
    RetryPolicy::try_new(20, 200, 1_000, 4).expect("a sound policy")
}

/// The registration with hardly any time to its pivot.
fn hasty_registration() -> Shape {
    Shape::new("hasty", 900, quick(), &REGISTRATION)
}

/// Everything that can be undone at the same time.
fn side_by_side() -> Shape {
    #[rustfmt::skip]
    let lines = [
        (1, "reserve", "academics",     "Reserve", Some("Remove"),  Compensatable, Does::Reserve),
        (1, "hold",    "seats",         "Hold",    Some("Release"), Compensatable, Does::Hold),
        (1, "create",  "enrollments",   "Create",  Some("Cancel"),  Compensatable, Does::Create),
        (1, "assess",  "fees",          "Assess",  Some("Void"),    Compensatable, Does::Assess),
        (1, "plain",   "seats",         "Do",      Some("Undo"),    Compensatable, Does::Plain),
        (2, "commit",  "enrollments",   "Commit",  Some("Withdraw"), Pivot,        Does::Commit),
        (3, "settle",  "academics",     "Settle",  None,            Retriable,     Does::Settle),
        (4, "notify",  "notifications", "Send",    None,            Finalizer,     Does::Notify),
    ];
    Shape::new("side_by_side", 4_000, quick(), &lines)
}

/// A stage a step, several finalizers, before and after others.
fn in_a_row() -> Shape {
    #[rustfmt::skip]
    let lines = [
        (1, "one",    "academics",     "One",    Some("UndoOne"),   Compensatable, Does::Plain),
        (2, "two",    "fees",          "Two",    Some("UndoTwo"),   Compensatable, Does::Plain),
        (3, "three",  "academics",     "Three",  Some("UndoThree"), Compensatable, Does::Plain),
        (4, "pivot",  "seats",         "Pivot",  None,              Pivot,         Does::Plain),
        (5, "file",   "fees",          "File",   None,              Finalizer,     Does::Plain),
        (6, "five",   "academics",     "Five",   None,              Retriable,     Does::Plain),
        (7, "notify", "notifications", "Notify", None,              Finalizer,     Does::Notify),
    ];
    Shape::new("in_a_row", 2_500, quick(), &lines)
}

/// Nothing but the point of no return.
fn pivot_only() -> Shape {
    Shape::new("pivot_only", 1_500, quick(), &[(1, "pivot", "seats", "Pivot", Some("Withdraw"), Pivot, Does::Plain)])
}

/// Seats before the rules, as a naive saga would have it; one service for most of it.
fn seats_first() -> Shape {
    #[rustfmt::skip]
    let lines = [
        (1, "hold",   "seats",  "Hold",   Some("Release"), Compensatable, Does::Hold),
        (2, "plain",  "seats",  "Do",     Some("Undo"),    Compensatable, Does::Plain),
        (2, "create", "office", "Create", Some("Cancel"),  Compensatable, Does::Create),
        (3, "commit", "office", "Commit", None,            Pivot,         Does::Commit),
        (4, "tail",   "office", "Tail",   None,            Retriable,     Does::Plain),
        (5, "more",   "seats",  "More",   None,            Retriable,     Does::Plain),
    ];
    Shape::new("seats_first", 3_000, quick(), &lines)
}
