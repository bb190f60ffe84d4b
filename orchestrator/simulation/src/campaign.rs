//! Many histories, one after the other on each processor, until there are enough or time is up.

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::history::{Report, Simulation};
use crate::tally::Tally;

/// Time between two reports of the progress, in seconds.
const PROGRESS_S: u64 = 10;

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

/// The result of a campaign.
#[derive(Debug)]
pub struct Campaign {
    /// Histories that were run.
    pub histories: u64,
    /// The counts of all histories.
    pub tally: Tally,
    /// How long it took.
    pub took: Duration,
    /// A history with a violation; none is begun after it.
    pub failed: Option<Report>,
}

impl Campaign {
    /// Histories a second.
    pub fn rate(&self) -> f64 {
        self.histories as f64 / self.took.as_secs_f64().max(f64::EPSILON)
    }

    /// The violation, and the command that replays its history.
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

/// Runs histories on all processors, and calls `progress` at intervals. Each thread takes the next seed, and all
/// threads end with the first violation.
pub fn run(
    simulation: &(impl Fn() -> Simulation + Sync),
    budget: Budget,
    progress: impl FnMut(&Campaign) + Send,
) -> Campaign {
    let campaign = Campaign { histories: 0, tally: Tally::default(), took: Duration::ZERO, failed: None };
    let shared = Shared {
        next: AtomicU64::new(0),
        is_over: AtomicBool::new(false),
        campaign: Mutex::new((campaign, progress)),
        started: Instant::now(),
    };
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| shared.run(&simulation(), budget));
        }
    });
    shared.campaign.into_inner().unwrap_or_else(PoisonError::into_inner).0
}

/// The state that the threads of a campaign share.
struct Shared<P> {
    /// How many histories were begun.
    next: AtomicU64,
    /// Whether a violation was found.
    is_over: AtomicBool,
    campaign: Mutex<(Campaign, P)>,
    started: Instant,
}

impl<P: FnMut(&Campaign)> Shared<P> {
    fn run(&self, simulation: &Simulation, budget: Budget) {
        while self.started.elapsed() < budget.time && !self.is_over.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= budget.histories {
                return;
            }
            let report = simulation.run(budget.first_seed.wrapping_add(number));
            self.add(report);
        }
    }

    fn add(&self, report: Report) {
        let mut campaign = self.campaign.lock().unwrap_or_else(PoisonError::into_inner);
        let (campaign, progress) = &mut *campaign;
        let took = self.started.elapsed();
        let is_told = took.as_secs() / PROGRESS_S > campaign.took.as_secs() / PROGRESS_S;
        campaign.histories += 1;
        campaign.tally += report.tally;
        campaign.took = took;
        self.is_over.fetch_or(report.violation.is_some(), Ordering::Relaxed);
        if report.violation.is_some() && campaign.failed.as_ref().is_none_or(|failed| failed.seed > report.seed) {
            campaign.failed = Some(report);
        }
        if is_told {
            progress(campaign);
        }
    }
}
