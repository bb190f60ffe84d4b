//! The simulated sagas: tables of steps, each with its effect in the simulated services.
//!
//! The first one is the real registration in both its versions. A test compares it with the real tables, so this crate
//! does not depend on the clients of the services. In some histories an earlier release of the orchestrator, which has
//! only version 1, runs beside this one. The other sagas have shapes that the registration does not have: no finalizer,
//! many steps in one stage, one step in each stage, only a pivot, a short deadline.

use std::ops::RangeInclusive;

use matricula_engine::{Definition, Definitions, Kind, RetryPolicy, SagaState, Step, StepIndex};

/// The effect of a step in the simulated services.
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
    /// Creates official enrollments, ends drops.
    Enroll,
    /// Settles the academic record.
    Settle,
    /// Gives back the seats of drops.
    ReleaseDropped,
    /// Gives back the fees of drops.
    Refund,
    /// Sends the notification to the student.
    Notify,
    /// An effect without meaning, which is only counted.
    Plain,
}

/// A saga: its definition, and the one before it, if an earlier release is simulated beside this one.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Name of the sagas.
    pub name: &'static str,
    /// All its definitions.
    pub definitions: Definitions,
    /// The definitions of the release before this one.
    pub earlier: Option<Definitions>,
    /// The services that it calls, each once.
    pub destinations: Vec<&'static str>,
    /// One for each definition, in their order.
    tables: Vec<Table>,
}

/// One definition, and the effects of its steps.
#[derive(Debug, Clone)]
pub struct Table {
    /// The definition.
    pub definition: Definition,
    /// The effect of each step.
    pub does: Vec<Does>,
}

impl Table {
    /// The step that does this, if there is one.
    pub fn step_that(&self, does: Does) -> Option<StepIndex> {
        self.does.iter().position(|other| *other == does).map(|index| StepIndex(index as u8))
    }

    /// The step that makes adds official, if there is one.
    pub fn official(&self) -> Option<StepIndex> {
        self.step_that(Does::Enroll).or_else(|| self.step_that(Does::Commit))
    }
}

impl Shape {
    fn new(name: &'static str, deadline_ms: i64, retry: RetryPolicy, lines: &[Line]) -> Self {
        Self::of_tables(vec![(definition(name, 1, deadline_ms, retry, lines), lines.to_vec())])
    }

    /// The first table is the current one.
    fn of_tables(tables: Vec<(Definition, Vec<Line>)>) -> Self {
        let mut all = tables.iter().map(|(definition, _)| definition.clone());
        let mut definitions = Definitions::new(all.next().expect("a saga has a table"));
        let earlier = all.clone().next().map(Definitions::new);
        for definition in all {
            definitions = definitions.with_earlier(definition).expect("each version once");
        }
        let destinations = definitions.destinations();
        let tables = tables
            .into_iter()
            .map(|(definition, lines)| Table { definition, does: lines.iter().map(|line| line.6).collect() });
        let tables = tables.collect();
        Self { name: definitions.current().name(), definitions, earlier, destinations, tables }
    }

    /// The place of a service in `destinations`. Panics for a service that it does not call.
    pub(crate) fn place(&self, destination: &str) -> usize {
        self.destinations.iter().position(|other| *other == destination).expect("it is one of them")
    }

    /// The definitions that a release has.
    pub(crate) fn definitions_of(&self, is_earlier_release: bool) -> &Definitions {
        self.earlier.as_ref().filter(|_| is_earlier_release).unwrap_or(&self.definitions)
    }

    /// The table that new sagas begin with.
    pub fn current(&self) -> &Table {
        &self.tables[0]
    }

    /// The table of a definition. Panics for a definition of another shape.
    pub fn table(&self, definition: &Definition) -> &Table {
        let table = self.tables.iter().find(|table| table.definition == *definition);
        table.expect("the definition is one of this shape")
    }

    /// The table that a state was folded with. Panics for a state of another shape.
    pub fn of(&self, state: &SagaState) -> &Table {
        self.table(self.definitions.of(state))
    }

    /// Whether any version of it does this.
    pub fn has(&self, does: Does) -> bool {
        self.tables.iter().any(|table| table.step_that(does).is_some())
    }

    /// The effect of the step of this name, in any version.
    pub fn does(&self, step: &str) -> Option<Does> {
        self.tables.iter().find_map(|table| Some(table.does[table.definition.index(step)?.get()]))
    }

    /// Whether a saga of it can drop sections. Then a step must answer which sagas added them.
    pub fn may_drop(&self) -> bool {
        let table = self.current();
        let (definition, settles) = (&table.definition, [Does::Settle, Does::ReleaseDropped, Does::Refund]);
        table.step_that(Does::Reserve) == Some(StepIndex(0))
            && definition.steps().get(1).is_none_or(|second| second.stage > definition.steps()[0].stage)
            && table.official().is_some()
            && settles.iter().all(|does| table.step_that(*does).is_some())
    }

    /// All of them; the registration comes first.
    pub fn all() -> Vec<Self> {
        vec![registration(), hasty_registration(), side_by_side(), in_a_row(), pivot_only(), seats_first()]
    }
}

fn definition(name: &'static str, version: u32, deadline_ms: i64, retry: RetryPolicy, lines: &[Line]) -> Definition {
    let step = |&(stage, name, destination, action, undo, kind, _): &Line| Step {
        name,
        stage,
        destination,
        action,
        undo,
        kind,
        retry,
    };
    let steps = lines.iter().map(step).collect();
    Definition::try_new(name, version, deadline_ms, steps).expect("a sound table")
}

type Line = (u8, &'static str, &'static str, &'static str, Option<&'static str>, Kind, Does);

use Kind::{Compensatable, Finalizer, Pivot, Retriable};

const ALL: RangeInclusive<u32> = 1..=VERSION_NEWEST;
const SINCE_2: RangeInclusive<u32> = 2..=VERSION_NEWEST;
const VERSION_NEWEST: u32 = 2;

/// The steps of the registration, each with the versions that have it.
#[rustfmt::skip]
const REGISTRATION: [(RangeInclusive<u32>, Line); 10] = [
    (ALL,     (1, "reserve_courses",       "academics",     "ReserveCourses",    Some("RemoveCourses"),     Compensatable, Does::Reserve)),
    (ALL,     (2, "hold_seats",            "seats",         "HoldSeats",         Some("ReleaseSeats"),      Compensatable, Does::Hold)),
    (1..=1,   (3, "create_enrollments",    "enrollments",   "CreateEnrollments", Some("CancelEnrollments"), Compensatable, Does::Create)),
    (ALL,     (3, "assess_fees",           "fees",          "AssessFees",        Some("VoidFees"),          Compensatable, Does::Assess)),
    (1..=1,   (4, "commit_enrollments",    "enrollments",   "CommitEnrollments", Some("WithdrawCommit"),    Pivot,         Does::Commit)),
    (SINCE_2, (4, "enroll",                "enrollments",   "Enroll",            Some("WithdrawCommit"),    Pivot,         Does::Enroll)),
    (ALL,     (5, "settle_courses",        "academics",     "SettleCourses",     None,                      Retriable,     Does::Settle)),
    (ALL,     (5, "release_dropped_seats", "seats",         "ReleaseSeats",      None,                      Retriable,     Does::ReleaseDropped)),
    (ALL,     (5, "refund_fees",           "fees",          "RefundFees",        None,                      Retriable,     Does::Refund)),
    (ALL,     (5, "notify",                "notifications", "SendNotification",  None,                      Finalizer,     Does::Notify)),
];

/// The registration as it is, with all its versions.
pub fn registration() -> Shape {
    let retry = RetryPolicy::try_new(50, 2_000, 10_000, 30).expect("a sound policy");
    all_versions("registration", 15 * 60 * 1_000, retry)
}

fn all_versions(name: &'static str, deadline_ms: i64, retry: RetryPolicy) -> Shape {
    let table = |version| {
        let of_version = REGISTRATION.into_iter().filter(|(versions, _)| versions.contains(&version));
        let lines: Vec<Line> = of_version.map(|(_, line)| line).collect();
        let definition = definition(name, version, deadline_ms, retry, &lines);
        (if version == 1 { definition } else { withdrawable(definition) }, lines)
    };
    Shape::of_tables((1..=VERSION_NEWEST).rev().map(table).collect())
}

fn withdrawable(definition: Definition) -> Definition {
    definition.with_withdrawable_pivot().expect("its pivot has an undo")
}

fn quick() -> RetryPolicy {
    RetryPolicy::try_new(20, 200, 1_000, 4).expect("a sound policy")
}

/// The registration with hardly any time to its pivot.
fn hasty_registration() -> Shape {
    all_versions("hasty", 900, quick())
}

/// All compensatable steps in one stage.
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

/// One step in each stage, and several finalizers before and after other steps.
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

/// Only a pivot.
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
