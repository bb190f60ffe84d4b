//! Looks whether a role's database answers, and tells gRPC health and `/readyz`.

use std::time::Duration;

use tokio::sync::watch;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::database::Database;
use crate::telemetry;

/// Time between two looks: a probe sees a state that is at most this old.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A database that takes longer than a long transaction before the look is not there.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Looks until it is dropped. The role begins ready: it has just used its database.
pub(super) async fn follow(
    role: &'static str,
    services: Vec<&'static str>,
    database: Database,
    reporter: HealthReporter,
    ready: watch::Sender<bool>,
) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let problem = match tokio::time::timeout(ANSWER_TIMEOUT, database.ping()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(telemetry::chain(&error)),
            Err(_) => Some(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())),
        };
        let is_ready = problem.is_none();
        if !ready.send_if_modified(|before| std::mem::replace(before, is_ready) != is_ready) {
            continue;
        }
        match problem {
            None => tracing::info!(role, "ready: the database answers again"),
            Some(problem) => tracing::warn!(role, problem, "not ready: the database does not answer"),
        }
        let status = if is_ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in &services {
            reporter.set_service_status(*service, status).await;
        }
    }
}
