//! A registration as it is read back from the saga log, or from its receipt when its log is in the archive.
//!
//! A receipt is the answer of a finished registration, as its student gets it, for ever. Promises: its field names never
//! change, and the registration on the wire is the same before and after; what can't be read (a version that this replica does not know, a log that does not fold) is shown with
//! what is known of it, so that one bad record hides no other.

use matricula_engine::{Definition, Event, Intervention, Recorded, SagaState};
use matricula_kit::id::SectionId;
use matricula_kit::time::UnixMs;
use matricula_proto::common::v1 as common;
use matricula_proto::registration::v1 as wire;
use matricula_runtime::{Archived, SagaId, SagaRow};
use serde::{Deserialize, Serialize};

use crate::answer::{list, optional};
use crate::request::RegistrationRequest;
use crate::view::{self, RegistrationView};

/// A row of the saga log, read as far as it can be.
#[derive(Debug, Clone)]
pub struct StoredRegistration {
    /// The row.
    pub row: SagaRow,
    /// What was asked for, and where the saga stands, or why these can't be read: of one whose log is in the archive,
    /// only what its receipt says is known.
    pub read: Result<(RegistrationRequest, SagaState), String>,
    receipt: Option<(RegistrationRequest, Receipt)>,
}

impl StoredRegistration {
    /// Reads a row.
    pub fn read(definition: &Definition, row: SagaRow) -> Self {
        if let Some(archived) = &row.archived {
            let receipt = receipt(&row, archived).map_err(|error| format!("the receipt: {error}"));
            let why = receipt.as_ref().err().cloned();
            let read = Err(why.unwrap_or_else(|| format!("its log is in the archive, in {}", archived.file)));
            return Self { row, read, receipt: receipt.ok() };
        }
        let request = || request(&row).map_err(|error| format!("the request: {error}"));
        let log = row.log.as_ref().map_err(|problem| format!("the log: {problem}"));
        let known = (row.definition.as_str(), row.version) == (definition.name(), definition.version());
        let log = if known { log } else { Err(format!("{} v{} is not known here", row.definition, row.version)) };
        let state = log.and_then(|log| SagaState::replay(definition, log).map_err(|error| error.to_string()));
        let read = state.and_then(|state| Ok((request()?, state)));
        Self { row, read, receipt: None }
    }

    /// The registration on the wire. One that can't be read has no outcome, and needs attention.
    pub fn to_wire(&self) -> wire::Registration {
        let (id, idempotency_key) = (self.row.id, self.row.idempotency_key.as_str());
        match (&self.read, &self.receipt) {
            (Ok((request, state)), _) => {
                RegistrationView { id, idempotency_key, request, state: Some(state) }.to_wire()
            }
            (Err(_), Some((request, receipt))) => receipt.to_wire(id, idempotency_key, request),
            (Err(_), None) => {
                let ids = |sections: Vec<SectionId>| sections.into_iter().map(String::from).collect();
                let (adds, drops) = request(&self.row).map(|request| (request.adds, request.drops)).unwrap_or_default();
                wire::Registration {
                    registration_id: self.row.id.to_string(),
                    idempotency_key: self.row.idempotency_key.clone(),
                    student_id: self.row.subject.clone(),
                    adds: ids(adds),
                    drops: ids(drops),
                    submitted_at: Some(self.row.created_at.to_wire()),
                    needs_attention: true,
                    ..Default::default()
                }
            }
        }
    }

    /// The outcome on the wire; unspecified when it can't be read.
    pub fn outcome(&self) -> wire::Outcome {
        match (&self.read, &self.receipt) {
            (Ok((_, state)), _) => view::outcome(state.outcome()),
            (Err(_), Some((_, receipt))) => receipt.outcome(),
            (Err(_), None) => wire::Outcome::Unspecified,
        }
    }

    /// What was asked for, as far as that can be read.
    pub fn request(&self) -> Option<&RegistrationRequest> {
        let read = self.read.as_ref().ok().map(|(request, _)| request);
        read.or_else(|| self.receipt.as_ref().map(|(request, _)| request))
    }

    /// The file of the archive that has its log, when that is where it is.
    pub fn archived_in(&self) -> Option<&str> {
        self.row.archived.as_ref().filter(|_| self.receipt.is_some()).map(|archived| archived.file.as_str())
    }

    /// Whether it is neither read nor known by its receipt: then a person must look.
    pub fn is_unreadable(&self) -> bool {
        self.read.is_err() && self.receipt.is_none()
    }

    /// Whether an operator decided something of it manually, as far as that can be read.
    pub fn is_decided_manually(&self) -> bool {
        match &self.receipt {
            Some((_, receipt)) => receipt.decided_manually,
            None => self.row.log.as_ref().is_ok_and(|log| is_decided_manually(log)),
        }
    }
}

fn request(row: &SagaRow) -> Result<RegistrationRequest, serde_json::Error> {
    serde_json::from_str(&row.request)
}

fn receipt(row: &SagaRow, archived: &Archived) -> Result<(RegistrationRequest, Receipt), serde_json::Error> {
    Ok((request(row)?, serde_json::from_str(&archived.receipt)?))
}

/// The answer of a finished registration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Receipt {
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
    pub(crate) fn new(state: &SagaState, log: &[Recorded]) -> Self {
        Self {
            outcome: view::outcome(state.outcome()).as_str_name().to_owned(),
            reasons: view::reasons(state),
            charged: view::charged(state),
            decided_at: state.decided_at_ms().map(UnixMs),
            decided_manually: is_decided_manually(log),
        }
    }

    /// The outcome on the wire.
    fn outcome(&self) -> wire::Outcome {
        wire::Outcome::from_str_name(&self.outcome).unwrap_or_default()
    }

    /// The registration on the wire.
    fn to_wire(&self, id: SagaId, idempotency_key: &str, request: &RegistrationRequest) -> wire::Registration {
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
fn is_decided_manually(log: &[Recorded]) -> bool {
    log.iter().any(|recorded| match &recorded.event {
        Event::Intervened { intervention, .. } => match intervention {
            Intervention::Skip { .. } | Intervention::Resolve { .. } | Intervention::Abandon => true,
            Intervention::Retry { .. } => false,
        },
        _ => false,
    })
}
