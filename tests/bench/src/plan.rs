//! The plan of a measurement: system, size, length and repeats.

use std::fmt;
use std::time::Duration;

/// How the system runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `matricula up`: everything in one process, on SQLite.
    OneProcess,
    /// The five services and this many orchestrators, a process each, on a PostgreSQL server for this run.
    Separate {
        /// 1 to 3.
        orchestrators: usize,
    },
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OneProcess => write!(f, "SQLite, one process"),
            Self::Separate { orchestrators: 1 } => write!(f, "PostgreSQL, six processes"),
            Self::Separate { orchestrators } => write!(f, "PostgreSQL, five services, {orchestrators} orchestrators"),
        }
    }
}

/// One measurement.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How the system runs.
    pub layout: Layout,
    /// Students who wait for an outcome at a time.
    pub in_flight: usize,
    /// About how long one repeat takes.
    pub length: Duration,
    /// How often it is repeated; figures are medians.
    pub repeats: usize,
    /// Whether the floor is measured, too.
    pub floor: bool,
    /// Students of the campus that warms everything up, and the fewest of the others. The proportions of real mornings
    /// need 1,000.
    pub students_min: u32,
}

impl Plan {
    /// The longest warm-up: enough to fill caches and to measure the rate.
    pub fn warm_up(&self) -> Duration {
        (self.length / 3).max(Duration::from_secs(2)).min(self.length)
    }

    /// A repeat that takes longer is cut: the warm-up had suggested a campus that is too large.
    pub fn length_max(&self) -> Duration {
        self.length.mul_f64(1.5)
    }
}
