//! Whether a registration costs the same in an empty database and in one after a hundred mornings. Both systems run
//! side by side and play in turns, so that changes of the host's speed affect both.

use std::fmt;

use serde::Serialize;

use crate::fill;
use crate::plan::Plan;
use crate::report::Measured;
use crate::scenario::{Kind, Scenario};
use crate::stage::Stage;

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Prefilled {
    /// Finished registrations that were there before.
    pub finished: u64,
    /// In empty databases.
    pub empty: Measured,
    /// In filled ones.
    pub filled: Measured,
    /// Median time a registration, filled by empty.
    pub time_ratio: f64,
    /// Median CPU a registration of everything but the load, filled by empty.
    pub cpu_ratio: f64,
}

/// Measures the campus in both.
///
/// # Panics
/// When an invariant does not hold.
pub async fn prefilled(plan: Plan, finished: u64) -> Prefilled {
    let plan = Plan { floor: false, ..plan };
    let (of_empty, of_filled) = (Stage::start(plan.layout, &[]).await, Stage::start(plan.layout, &[]).await);
    let finished = fill::fill(&of_filled, finished, plan).await;
    eprintln!("the databases hold {finished} finished registrations");
    let mut empty = Scenario::prepare(&of_empty, Kind::Campus, plan).await;
    let mut filled = Scenario::prepare(&of_filled, Kind::Campus, plan).await;
    for repeat in 0..plan.repeats {
        let turns = if repeat % 2 == 0 { [&mut empty, &mut filled] } else { [&mut filled, &mut empty] };
        for scenario in turns {
            scenario.repeat().await;
        }
    }
    let (empty, filled) = (empty.end().await, filled.end().await);
    let per_s = |measured: &Measured| measured.median.registrations_per_s;
    let cpu = |measured: &Measured| measured.median.cpu_of_system_us();
    Prefilled {
        finished,
        time_ratio: per_s(&empty) / per_s(&filled),
        cpu_ratio: cpu(&filled) / cpu(&empty),
        empty,
        filled,
    }
}

impl fmt::Display for Prefilled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "empty databases\n\n{}", self.empty)?;
        writeln!(f, "{} finished registrations\n\n{}", self.finished, self.filled)?;
        writeln!(f, "time a registration, filled by empty  {:.2}", self.time_ratio)?;
        writeln!(f, "CPU a registration, filled by empty   {:.2}", self.cpu_ratio)
    }
}
