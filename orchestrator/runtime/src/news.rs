//! Changes of sagas and notices of the core on their way to watchers, other instances, logs and metrics.

use std::sync::Arc;

use matricula_core::{Change, Notice};
use matricula_kit::id::SagaId;
use tokio::sync::{Notify, broadcast};

use crate::watch::Watchers;
use crate::workflow::Carried;

/// The receivers of news.
pub(crate) struct News {
    /// Name of the definition, by which the spans of sagas are called.
    pub definition: &'static str,
    pub watchers: Watchers,
    /// Gets the sagas that lists show otherwise now.
    pub changed: broadcast::Sender<SagaId>,
    /// Woken when a service begins to fail, and when it answers again.
    pub destinations: Arc<Notify>,
}

impl News {
    /// Hands on the news of one step.
    pub(crate) fn tell<R>(&self, changes: Vec<Change<Arc<Carried<R>>>>, notices: Vec<Notice>) {
        changes.into_iter().for_each(|change| self.change(change));
        notices.into_iter().for_each(|notice| self.notice(notice));
    }

    fn change<R>(&self, change: Change<Arc<Carried<R>>>) {
        match change {
            Change::Entered { saga, request, state } => {
                request.begin(self.definition, saga);
                self.watchers.tell(saga, state.into_inner());
            }
            Change::HandedOver { saga } => self.watchers.given_away(saga),
            Change::Advanced { saga, request, state, before, after } => {
                self.watchers.tell(saga, state.into_inner());
                if before.outcome != after.outcome {
                    metrics::counter!("matricula_sagas_decided_total", "outcome" => after.outcome).increment(1);
                    request.decided(after.outcome);
                }
                if before != after {
                    // Nobody may be listening.
                    let _ = self.changed.send(crate::text(saga));
                }
            }
        }
    }

    fn notice(&self, notice: Notice) {
        match notice {
            Notice::Adopted { sagas } => tracing::info!(sagas, "adopted sagas of an instance that has ended"),
            // It is flagged and shown in lists, and all others run.
            Notice::LeftAlone { saga, reason } => tracing::error!(saga_id = %saga, %reason, "a saga is left alone"),
            Notice::LostOwnership { saga } => {
                tracing::warn!(saga_id = %saga, "the saga has another owner now; leaving it");
            }
            Notice::AppendRefused { saga, problem } => {
                tracing::error!(saga_id = %saga, problem, "the log of a saga can't be written");
            }
            Notice::AdmissionRefused { saga, problem } => {
                tracing::error!(saga_id = %saga, problem, "a submission can't be stored");
            }
            Notice::Ignored { saga, error } => tracing::debug!(saga_id = %saga, %error, "an input changed nothing"),
            Notice::CallFailed { destination } => {
                metrics::counter!("matricula_call_failures_total", "destination" => destination).increment(1);
            }
            Notice::BreakerOpened { destination, error } => {
                tracing::warn!(destination, error, "the destination's breaker opened");
            }
            Notice::BreakerClosed { destination } => tracing::info!(destination, "the destination answers again"),
            Notice::DestinationChanged { .. } => self.destinations.notify_one(),
            Notice::Finished { .. } => metrics::counter!("matricula_sagas_finished_total").increment(1),
        }
    }
}
