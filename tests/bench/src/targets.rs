//! The project's aims on two cores, beside the measurements. They are reported and not asserted: the figures depend on
//! the machine.

use serde::Serialize;

use crate::reads::Reads;
use crate::report::{Entry, Measured};

/// Scenario, layout (its beginning), in flight.
type Case = (&'static str, &'static str, usize);

const CAMPUS: Case = ("campus", "PostgreSQL, six", 256);
const CAMPUS_SQLITE: Case = ("campus", "SQLite", 256);
const ONE_IN_FLIGHT: Case = ("campus", "PostgreSQL, six", 1);
const HOT: Case = ("one hot section", "PostgreSQL, six", 500);

/// One aim and its result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Target {
    /// The measured figure.
    pub what: String,
    /// The aim.
    pub aim: String,
    /// The measurement.
    pub measured: f64,
    /// Whether the aim is reached.
    pub reached: bool,
}

/// Every aim with a measurement.
pub(crate) fn of(entries: &[Entry]) -> Vec<Target> {
    let mut targets = Vec::new();
    for entry in entries {
        match entry {
            Entry::Scenario(measured) => of_scenario(measured, &mut targets),
            Entry::Prefilled(prefilled) => {
                let what = format!("{} finished registrations: time a registration by empty", prefilled.finished);
                targets.push(at_most(what, 1.15, prefilled.time_ratio));
            }
            Entry::Reads(reads) => {
                let apart = if reads.apart { "from an orchestrator of their own, " } else { "" };
                let Reads { reads_per_s, sections_of_read, .. } = &**reads;
                let what = format!("{reads_per_s} reads/s, {sections_of_read} a call, {apart}beside full writes");
                targets.push(at_least(format!("{what}: writes beside by writes alone"), 0.9, reads.writes_ratio));
                targets.push(at_most(format!("{what}: read p99 ms"), 10.0, reads.looks.p99_ms));
                targets.push(at_most(format!("{what}: commit to watcher p99 ms"), 250.0, reads.looks.stale_p99_ms));
            }
        }
    }
    targets
}

fn of_scenario(measured: &Measured, targets: &mut Vec<Target>) {
    let median = &measured.median;
    let name = format!("{}, {}, {} in flight", measured.scenario, measured.layout, measured.in_flight);
    let mut least = |of: &str, aim, value| targets.push(at_least(format!("{name}: {of}"), aim, value));
    if is(measured, CAMPUS) {
        least("registrations/s", 3_000.0, median.registrations_per_s);
        if let Some(floor) = &measured.floor {
            least("of the floor", 0.3, floor.ratio);
        }
        targets.push(at_most(format!("{name}: p99 ms"), 200.0, median.p99_ms));
    } else if is(measured, CAMPUS_SQLITE) {
        least("registrations/s", 5_000.0, median.registrations_per_s);
    } else if is(measured, HOT) {
        least("decided/s", 2_500.0, median.registrations_per_s);
    } else if is(measured, ONE_IN_FLIGHT) {
        targets.push(at_most(format!("{name}: p50 ms"), 8.0, median.p50_ms));
        targets.push(at_most(format!("{name}: p99 ms"), 30.0, median.p99_ms));
    }
}

fn is(measured: &Measured, (scenario, layout, in_flight): Case) -> bool {
    measured.scenario == scenario && measured.layout.starts_with(layout) && measured.in_flight == in_flight
}

fn at_least(what: String, aim: f64, measured: f64) -> Target {
    Target { what, aim: format!("at least {aim}"), measured, reached: measured >= aim }
}

fn at_most(what: String, aim: f64, measured: f64) -> Target {
    Target { what, aim: format!("at most {aim}"), measured, reached: measured <= aim }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::figures::Figures;
    use crate::plan::{Layout, Plan};

    fn campus(in_flight: usize, figures: Figures) -> Entry {
        let layout = Layout::Separate { orchestrators: 1 };
        let plan = Plan { layout, in_flight, length: Duration::ZERO, repeats: 1, floor: false, students_min: 1 };
        Entry::Scenario(Box::new(Measured::new("campus".to_owned(), &plan, vec![figures], BTreeMap::new())))
    }

    #[test]
    fn only_measured_figures_are_compared_with_aims() {
        let fast = Figures { registrations_per_s: 3_000.0, p50_ms: 8.1, p99_ms: 30.0, ..Figures::default() };
        let reached = |in_flight| -> Vec<bool> {
            of(&[campus(in_flight, fast.clone())]).iter().map(|target| target.reached).collect()
        };
        assert_eq!(reached(256), [true, true]);
        assert_eq!(reached(1), [false, true]);
        assert!(reached(64).is_empty());
    }
}
