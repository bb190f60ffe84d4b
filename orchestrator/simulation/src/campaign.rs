//! Many histories, one after the other, until there are enough or time is up.

use std::time::{Duration, Instant};

use crate::history::{Report, Simulation};
use crate::tally::Tally;

/// How much is simulated. Whichever bound is reached first ends it.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Seed of the first history; the next have the next ones.
    pub first_seed: u64,
    /// Histories at most.
    pub histories: u64,
    /// Time at most.
    pub time: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Campaign {
    /// Histories that were run.
    pub histories: u64,
    /// What was counted in them.
    pub tally: Tally,
    /// How long it took.
    pub took: Duration,
    /// The first history with a violation; nothing is run after it.
    pub failed: Option<Report>,
}

impl Campaign {
    /// Histories a second.
    pub fn rate(&self) -> f64 {
        self.histories as f64 / self.took.as_secs_f64().max(f64::EPSILON)
    }

    /// What a person needs to see of a failure: what was violated, and the command that shows how it came to that.
    pub fn failure(&self) -> Option<String> {
        let report = self.failed.as_ref()?;
        let violation = report.violation.as_ref()?;
        let (shape, seed) = (report.shape, report.seed);
        Some(format!(
            "seed {seed} ({shape}) violates {:?}: {}\nreplay it with: cargo xtask simulate --seed {seed}",
            violation.invariant, violation.what
        ))
    }
}

/// Runs histories; tells `progress` now and then how far it is.
pub fn run(simulation: &Simulation, budget: Budget, mut progress: impl FnMut(&Campaign)) -> Campaign {
    /// Often enough for somebody who watches.
    const PROGRESS: Duration = Duration::from_secs(10);
    let started = Instant::now();
    let mut told = started;
    let mut campaign = Campaign { histories: 0, tally: Tally::default(), took: Duration::ZERO, failed: None };
    while campaign.histories < budget.histories && campaign.took < budget.time {
        let report = simulation.run(budget.first_seed.wrapping_add(campaign.histories));
        campaign.histories += 1;
        campaign.tally += report.tally;
        campaign.took = started.elapsed();
        if report.violation.is_some() {
            campaign.failed = Some(report);
            break;
        }
        if told.elapsed() >= PROGRESS {
            told = Instant::now();
            progress(&campaign);
        }
    }
    campaign
}
