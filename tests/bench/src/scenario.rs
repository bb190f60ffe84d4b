//! The scenarios of the closed loop. Each is a warm-up and then one whole morning for each repeat, each of a new campus
//! in the same system.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use matricula_harness::{Portals, peak_memory_mib};

use crate::campus::{Click, Morning};
use crate::figures::Figures;
use crate::floor;
use crate::load;
use crate::plan::Plan;
use crate::report::Measured;
use crate::snapshot::Snapshot;
use crate::stage::Stage;

/// The largest campus that a repeat plays: about 330,000 clicks, a few hundred MB of memory here.
const STUDENTS_MAX: u32 = 60_000;
/// Requests of a student, on average.
const REQUESTS_PER_STUDENT: f64 = 5.2;
/// The seed of the warm-up; each repeat has the next.
const SEED: u64 = 1;
/// The slow service and its delay: every registration with an add has to call it.
const SLOW_SERVICE: &str = "fees";
const SLOW_BY: Duration = Duration::from_millis(50);

/// The behaviour of the students.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The calibrated morning.
    Campus,
    /// All students want one section.
    Hot,
    /// Everything is refused: no section has a seat.
    Refused,
    /// The calibrated morning, and 2 % are refused at the fee step.
    Compensated,
    /// The calibrated morning, with one slow service.
    SlowService,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Campus => "campus",
            Self::Hot => "one hot section",
            Self::Refused => "all refused",
            Self::Compensated => "2 % compensated",
            Self::SlowService => "one service 50 ms slow",
        })
    }
}

impl Kind {
    fn morning(self, prefix: &str, students: u32, seed: u64) -> Morning {
        match self {
            Self::Campus | Self::SlowService => Morning::generate(prefix, students, seed),
            Self::Hot => Morning::hot(prefix, students),
            Self::Refused => Morning::full(prefix, students, seed),
            Self::Compensated => Morning::with_unpayable(prefix, students, seed),
        }
    }

    fn registrations_per_student(self) -> f64 {
        if self == Self::Hot { 1.0 } else { REQUESTS_PER_STUDENT }
    }
}

/// The rate of a short run, in registrations a second.
pub(crate) async fn warm_up(stage: &Stage, kind: Kind, plan: Plan) -> f64 {
    let warm = kind.morning("W", plan.students_min, SEED);
    stage.import(&warm.bundle);
    let warm = load::play(&stage.portals(), warm.clicks, plan.in_flight, plan.warm_up()).await;
    let rate = warm.registrations as f64 / warm.took.as_secs_f64();
    eprintln!("{kind}, {}, {} in flight: {rate:.0} registrations/s in the warm-up", plan.layout, plan.in_flight);
    rate
}

/// The number of students of a campus whose morning takes about as long as a repeat.
pub(crate) fn sized(kind: Kind, plan: Plan, rate: f64) -> u32 {
    let students = (rate * plan.length.as_secs_f64() / kind.registrations_per_student()) as u32;
    students.clamp(plan.students_min, STUDENTS_MAX)
}

/// Measures a scenario in a system of its own.
///
/// # Panics
/// When an invariant does not hold.
pub async fn play(kind: Kind, plan: Plan) -> Measured {
    let mut stage = Stage::start(plan.layout, &[]).await;
    if kind == Kind::SlowService {
        stage.slow_down(SLOW_SERVICE, SLOW_BY);
    }
    measure(&stage, kind, plan).await
}

/// Measures a scenario in a system that has no campus of this kind yet, and audits it.
async fn measure(stage: &Stage, kind: Kind, plan: Plan) -> Measured {
    let mut scenario = Scenario::prepare(stage, kind, plan).await;
    for _ in 0..plan.repeats {
        scenario.repeat().await;
    }
    scenario.end().await
}

/// A scenario in a system that has no campus of this kind yet.
pub(crate) struct Scenario<'a> {
    stage: &'a Stage,
    kind: Kind,
    plan: Plan,
    portals: Arc<Portals>,
    /// The mornings that are left.
    mornings: VecDeque<Vec<Click>>,
    repeats: Vec<Figures>,
}

impl<'a> Scenario<'a> {
    /// Warms up, and imports the campuses of all repeats.
    pub(crate) async fn prepare(stage: &'a Stage, kind: Kind, plan: Plan) -> Self {
        let rate = warm_up(stage, kind, plan).await;
        let students = sized(kind, plan, rate);
        let mut mornings = VecDeque::new();
        for repeat in 1..=plan.repeats as u64 {
            let morning = kind.morning(&format!("R{repeat}"), students, SEED + repeat);
            stage.import(&morning.bundle);
            mornings.push_back(morning.clicks);
        }
        Self { stage, kind, plan, portals: stage.portals(), mornings, repeats: Vec::new() }
    }

    /// Plays the next morning.
    ///
    /// # Panics
    /// When all have been played.
    pub(crate) async fn repeat(&mut self) {
        let clicks = self.mornings.pop_front().expect("a morning a repeat");
        let before = Snapshot::take(self.stage).await;
        let played = load::play(&self.portals, clicks, self.plan.in_flight, self.plan.length_max()).await;
        self.stage.settled().await;
        let after = Snapshot::take(self.stage).await;
        self.repeats.push(Figures::of(&played, &before, &after));
    }

    /// Audits it, and collects the measurements.
    pub(crate) async fn end(self) -> Measured {
        let Self { stage, kind, plan, repeats, .. } = self;
        let processes = stage.processes.iter();
        let memory_mib = processes.map(|name| ((*name).to_owned(), peak_memory_mib(stage.system.pid(name)))).collect();
        stage.system.audit();
        let mut measured = Measured::new(kind.to_string(), &plan, repeats, memory_mib);
        if plan.floor {
            measured.floor = Some(floor::measure(stage, plan.repeats, measured.median.registrations_per_s).await);
        }
        measured
    }
}
