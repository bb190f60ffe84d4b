//! The names and descriptions of metrics, for `/metrics`.
//!
//! Each crate has a table of its metrics; the process registers them when it starts to record. Names are a contract:
//! dashboards and alerts depend on them. They end in their unit, or in `_total` for counters.

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its description, a sentence without the full stop.
    pub help: &'static str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Metric {
    /// A number that only increases.
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: Kind::Counter }
    }

    /// A number that increases and decreases.
    pub const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: Kind::Gauge }
    }

    /// A distribution of measured values.
    pub const fn histogram(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: Kind::Histogram }
    }

    pub(crate) fn describe(&self) {
        match self.kind {
            Kind::Counter => metrics::describe_counter!(self.name, self.help),
            Kind::Gauge => metrics::describe_gauge!(self.name, self.help),
            Kind::Histogram => metrics::describe_histogram!(self.name, self.help),
        }
    }
}

/// The metrics of every service and port.
pub(crate) const METRICS: [Metric; 13] = [
    Metric::gauge("matricula_writer_requests_waiting", "Requests that wait for the one writer of a service"),
    Metric::histogram("matricula_writer_wait_seconds", "Time that a request has waited for the writer of its service"),
    Metric::histogram("matricula_commit_seconds", "Time from the first statement of a service's batch to its commit"),
    Metric::histogram("matricula_commit_operations", "Operations in a commit of a service"),
    Metric::counter("matricula_commit_failures_total", "Commits of a service that failed or have an unknown result"),
    Metric::counter("matricula_stale_operations_total", "Operations that came too late to be decided"),
    Metric::counter("matricula_barrier_rows_forgotten_total", "Barrier rows deleted after their sagas left the log"),
    Metric::gauge("matricula_connections", "Open connections of a port"),
    Metric::counter("matricula_connections_refused_total", "Connections closed because their port had too many"),
    Metric::counter("matricula_readers_stalled_total", "Streams ended because their client read nothing"),
    Metric::counter("matricula_task_failures_total", "Background tasks that panicked or ended before the shutdown"),
    Metric::counter("matricula_snapshots_expired_total", "Long reads given up because they took longer than they may"),
    Metric::counter("matricula_spans_lost_total", "Spans that could not be exported to the collector"),
];
