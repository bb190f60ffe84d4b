//! The gauges of sagas, of the log and of destinations, as the core has them.

use std::collections::BTreeMap;
use std::time::Duration;

use matricula_core::{Core, Moment};
use metrics::Gauge;

use crate::Workload;
use crate::workflow::Sagas;

/// Time between two settings: what reads them comes once in some seconds.
const PAUSE: Duration = Duration::from_millis(100);

/// The gauges of one orchestrator.
pub(crate) struct Gauges {
    in_memory: Gauge,
    queued: Gauge,
    writes_waiting: Gauge,
    destinations: BTreeMap<&'static str, OfDestination>,
    /// When they are to be set again.
    set_at: Moment,
}

/// Those of one destination.
struct OfDestination {
    waiting: Gauge,
    oldest: Gauge,
    in_flight: Gauge,
}

impl Gauges {
    pub(crate) fn new() -> Self {
        Self {
            in_memory: metrics::gauge!("matricula_sagas_in_memory"),
            queued: metrics::gauge!("matricula_sagas_queued"),
            writes_waiting: metrics::gauge!("matricula_log_writes_waiting"),
            destinations: BTreeMap::new(),
            set_at: Moment::ZERO,
        }
    }

    /// Sets them, unless that was done a moment ago; returns when they are to be set, then.
    pub(crate) fn set<W: Workload>(&mut self, now: Moment, core: &Core<Sagas<W>>) -> Option<Moment> {
        if now < self.set_at {
            return Some(self.set_at);
        }
        self.set_at = now + PAUSE;
        self.in_memory.set(core.in_memory() as f64);
        self.queued.set(core.queued() as f64);
        self.writes_waiting.set(core.writes_waiting() as f64);
        for status in core.destinations(now) {
            let of = self.destinations.entry(status.name).or_insert_with(|| OfDestination::new(status.name));
            of.waiting.set(status.waiting as f64);
            of.oldest.set(status.longest_wait.as_secs_f64());
            of.in_flight.set(status.in_flight as f64);
        }
        None
    }
}

impl OfDestination {
    fn new(name: &'static str) -> Self {
        Self {
            waiting: metrics::gauge!("matricula_calls_waiting", "destination" => name),
            oldest: metrics::gauge!("matricula_calls_oldest_seconds", "destination" => name),
            in_flight: metrics::gauge!("matricula_calls_in_flight", "destination" => name),
        }
    }
}
