//! The metrics of an orchestrator, by name.

use matricula_kit::metrics::Metric;

/// The metrics of an orchestrator.
pub const METRICS: [Metric; 25] = [
    Metric::counter(
        "matricula_submissions_turned_away_total",
        "Submissions rejected because of a bound: queue or quota",
    ),
    Metric::gauge("matricula_sagas_in_memory", "Sagas that this instance drives"),
    Metric::gauge("matricula_sagas_queued", "Accepted sagas that wait for their turn"),
    Metric::counter("matricula_sagas_decided_total", "Sagas that have an outcome, by outcome"),
    Metric::counter("matricula_sagas_finished_total", "Sagas of which nothing is left to do"),
    Metric::gauge("matricula_calls_waiting", "Calls that wait for a service"),
    Metric::gauge("matricula_calls_oldest_seconds", "How long the oldest waiting call of a service has waited"),
    Metric::gauge("matricula_calls_in_flight", "RPCs in flight to a service"),
    Metric::counter("matricula_call_failures_total", "RPCs to a service without an answer"),
    Metric::histogram("matricula_call_seconds", "Time of an RPC to a service"),
    Metric::histogram("matricula_call_operations", "Operations in an RPC to a service"),
    Metric::gauge(
        "matricula_destination_needs_attention",
        "1 while a service has not answered for longer than it may, otherwise 0",
    ),
    Metric::gauge("matricula_destination_sagas_waiting", "Sagas that wait for a service that needs attention"),
    Metric::gauge(
        "matricula_destination_sagas_behind",
        "Sagas that wait for a saga that waits for a service that needs attention",
    ),
    Metric::gauge(
        "matricula_log_writes_waiting",
        "Admissions and appends that wait for the next commit of the saga log",
    ),
    Metric::histogram("matricula_log_commit_seconds", "Time of a commit of the saga log"),
    Metric::histogram("matricula_log_commit_operations", "Admissions and appends in a commit of the saga log"),
    Metric::counter("matricula_log_commit_failures_total", "Commits of the saga log that failed and were tried again"),
    Metric::counter("matricula_replica_failures_total", "Lists that the replica could not answer"),
    Metric::gauge("matricula_log_sagas", "Sagas in the saga log"),
    Metric::counter("matricula_sagas_archived_total", "Finished sagas moved from the saga log to the archive"),
    Metric::gauge("matricula_retention_oldest_seconds", "Age of the oldest finished saga in the saga log"),
    Metric::counter("matricula_retention_failures_total", "Failed searches for finished sagas to archive"),
    Metric::gauge(
        "matricula_retention_unreadable",
        "Finished sagas that stay in the saga log because they can't be read",
    ),
    Metric::histogram("matricula_retention_chunk_seconds", "Time to archive one chunk of finished sagas"),
];
