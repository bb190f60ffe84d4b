//! Counters at one moment. The difference of two snapshots is the cost of a repeat.

use std::collections::BTreeMap;
use std::time::Duration;

use matricula_harness::{Metrics, cpu, cpu_of_server};

use crate::stage::Stage;

/// The process of the load generator.
pub(crate) const GENERATOR: &str = "load generator";
/// The server with all its connections.
const POSTGRES: &str = "postgres";
/// The writer of the saga log; the other writers are named by their service.
const LOG: &str = "saga log";

/// Counts up to a moment.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// By process.
    pub(crate) cpu: BTreeMap<String, Duration>,
    /// Commits and their operations, by writer; of all replicas together.
    pub(crate) commits: BTreeMap<String, Batches>,
    /// RPCs of the orchestrators and their operations, by destination.
    pub(crate) calls: BTreeMap<String, Batches>,
}

/// The number of batches, and of their operations.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Batches {
    pub(crate) count: f64,
    pub(crate) operations: f64,
    /// Their total duration.
    pub(crate) seconds: f64,
}

impl Snapshot {
    /// The counters of all processes, now.
    pub(crate) async fn take(stage: &Stage) -> Self {
        let mut snapshot = Self::default();
        snapshot.cpu.insert(GENERATOR.to_owned(), cpu(std::process::id()));
        if let Some(cluster) = &stage.cluster {
            snapshot.cpu.insert(POSTGRES.to_owned(), cpu_of_server(cluster.pid()));
        }
        for process in &stage.processes {
            snapshot.cpu.insert((*process).to_owned(), cpu(stage.system.pid(process)));
            let metrics = Metrics::read(&stage.system.http_address(process)).await.expect("it serves its metrics");
            add(&mut snapshot.commits, &metrics, "matricula_commit", "service", "");
            add(&mut snapshot.commits, &metrics, "matricula_log_commit", "service", LOG);
            add(&mut snapshot.calls, &metrics, "matricula_call", "destination", "");
        }
        snapshot
    }
}

/// Adds the counts of two histograms, of operations and of seconds, by a label's value; those without the label are
/// under `other`.
fn add(to: &mut BTreeMap<String, Batches>, metrics: &Metrics, name: &str, label: &str, other: &str) {
    let mut add = |suffix: &str, field: fn(&mut Batches) -> &mut f64| {
        for (value, number) in metrics.by(&format!("{name}_{suffix}"), label) {
            let value = if value.is_empty() { other.to_owned() } else { value };
            *field(to.entry(value).or_default()) += number;
        }
    };
    add("operations_count", |batches| &mut batches.count);
    add("operations_sum", |batches| &mut batches.operations);
    add("seconds_sum", |batches| &mut batches.seconds);
}
