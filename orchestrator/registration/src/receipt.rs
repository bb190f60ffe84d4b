//! What stays of a registration when its log has gone to the archive: its answer, as its student gets it, for ever.
//!
//! Promises: field names never change; the registration on the wire is the same before and after.

use matricula_engine::{Event, Intervention, Recorded, SagaState};
use matricula_kit::time::UnixMs;
use matricula_proto::common::v1 as common;
use matricula_proto::registration::v1 as wire;
use matricula_runtime::SagaId;
use serde::{Deserialize, Serialize};

use crate::answer::{list, optional};
use crate::request::RegistrationRequest;
use crate::view::{self, RegistrationView};

/// The answer of a finished registration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// Name of the outcome on the wire, such as `OUTCOME_ENROLLED`.
    outcome: String,
    #[serde(default, with = "list", skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<common::Refusal>,
    #[serde(default, with = "optional", skip_serializing_if = "Option::is_none")]
    charged: Option<common::Money>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    decided_at: Option<UnixMs>,
    #[serde(rename = "decided_by_hand", default, skip_serializing_if = "std::ops::Not::not")]
    decided_manually: bool,
}

impl Receipt {
    /// Of a finished registration.
    pub fn new(state: &SagaState, log: &[Recorded]) -> Self {
        Self {
            outcome: view::outcome(state.outcome()).as_str_name().to_owned(),
            reasons: view::reasons(state),
            charged: view::charged(state),
            decided_at: state.decided_at_ms().map(UnixMs),
            decided_manually: is_decided_manually(log),
        }
    }

    /// The outcome on the wire.
    pub fn outcome(&self) -> wire::Outcome {
        wire::Outcome::from_str_name(&self.outcome).unwrap_or_default()
    }

    /// Whether an operator decided something of it manually.
    pub fn is_decided_manually(&self) -> bool {
        self.decided_manually
    }

    /// The registration on the wire.
    pub fn to_wire(&self, id: SagaId, idempotency_key: &str, request: &RegistrationRequest) -> wire::Registration {
        wire::Registration {
            outcome: self.outcome().into(),
            reasons: self.reasons.clone(),
            charged: self.charged.clone(),
            decided_at: self.decided_at.map(UnixMs::to_wire),
            ..RegistrationView { id, idempotency_key, request, state: None }.to_wire()
        }
    }
}

/// Whether a person said what came of a call of a saga, or that nothing will.
pub(crate) fn is_decided_manually(log: &[Recorded]) -> bool {
    log.iter().any(|recorded| match &recorded.event {
        Event::Intervened { intervention, .. } => match intervention {
            Intervention::Skip { .. } | Intervention::Resolve { .. } | Intervention::Abandon => true,
            Intervention::Retry { .. } => false,
        },
        _ => false,
    })
}
