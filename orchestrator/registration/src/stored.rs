//! A registration as it is read back from the saga log, or from its receipt when its log is in the archive.
//!
//! Promises: what can't be read (a version that this replica does not know, a log that does not fold) is shown with
//! what is known of it, so that one bad record hides no other. A receipt is the answer of a finished registration, as
//! its student gets it, for ever: its field names never change, and the registration on the wire is the same before and
//! after.

use matricula_engine::{Definition, Direction, Event, Intervention, Recorded, SagaState};
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
    /// What is known of it.
    pub read: Read,
}

/// What is known of a stored registration.
#[derive(Debug, Clone)]
pub enum Read {
    /// What was asked for, and where the saga stands.
    Log(RegistrationRequest, SagaState),
    /// What was asked for, and the answer: its log is in the archive.
    Receipt(RegistrationRequest, Receipt),
    /// Why it can't be read: a person must look.
    Unreadable(String),
}

impl StoredRegistration {
    /// Reads a row.
    pub fn read(definition: &Definition, row: SagaRow) -> Self {
        let read = match &row.archived {
            Some(archived) => receipt(&row, archived).map_err(|error| format!("the receipt: {error}")),
            None => log(definition, &row),
        };
        Self { read: read.unwrap_or_else(Read::Unreadable), row }
    }

    /// Where the saga stands, as far as its log can be read.
    pub fn state(&self) -> Option<&SagaState> {
        if let Read::Log(_, state) = &self.read { Some(state) } else { None }
    }

    /// The registration on the wire. One that can't be read has no outcome, and needs attention.
    pub fn to_wire(&self) -> wire::Registration {
        let ticket = i64::try_from(self.row.ticket.0).ok().filter(|ticket| *ticket > 0);
        wire::Registration { ticket, ..self.without_ticket() }
    }

    fn without_ticket(&self) -> wire::Registration {
        let (id, idempotency_key) = (self.row.id, self.row.idempotency_key.as_str());
        match &self.read {
            Read::Log(request, state) => {
                RegistrationView { id, idempotency_key, request, state: Some(state) }.to_wire()
            }
            Read::Receipt(request, receipt) => receipt.to_wire(id, idempotency_key, request),
            Read::Unreadable(_) => {
                let ids = |sections: Vec<SectionId>| sections.into_iter().map(String::from).collect();
                let (adds, drops) = request(&self.row).map(|request| (request.adds, request.drops)).unwrap_or_default();
                wire::Registration {
                    registration_id: id.to_string(),
                    idempotency_key: idempotency_key.to_owned(),
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
        match &self.read {
            Read::Log(_, state) => view::outcome(state.outcome()),
            Read::Receipt(_, receipt) => receipt.outcome(),
            Read::Unreadable(_) => wire::Outcome::Unspecified,
        }
    }

    /// What was asked for, as far as that can be read.
    pub fn request(&self) -> Option<&RegistrationRequest> {
        match &self.read {
            Read::Log(request, _) | Read::Receipt(request, _) => Some(request),
            Read::Unreadable(_) => None,
        }
    }

    /// Whether an operator decided something of it manually, as far as that can be read.
    pub fn is_decided_manually(&self) -> bool {
        match &self.read {
            Read::Receipt(_, receipt) => receipt.decided_manually,
            _ => self.row.log.as_ref().is_ok_and(|log| is_decided_manually(log)),
        }
    }

    /// Whether an action had to be called again, or another instance took the registration over, as far as its log is here.
    pub fn was_delayed(&self) -> bool {
        self.row.log.as_ref().is_ok_and(|log| log.iter().any(|recorded| is_delay(&recorded.event)))
    }
}

fn is_delay(event: &Event) -> bool {
    matches!(event, Event::Adopted { .. } | Event::Failed { direction: Direction::Forward, .. })
}

fn request(row: &SagaRow) -> Result<RegistrationRequest, serde_json::Error> {
    serde_json::from_str(&row.request)
}

fn receipt(row: &SagaRow, archived: &Archived) -> Result<Read, serde_json::Error> {
    Ok(Read::Receipt(request(row)?, serde_json::from_str(&archived.receipt)?))
}

fn log(definition: &Definition, row: &SagaRow) -> Result<Read, String> {
    let log = row.log.as_ref().map_err(|problem| format!("the log: {problem}"));
    if (row.definition.as_str(), row.version) != (definition.name(), definition.version()) {
        return Err(format!("{} v{} is not known here", row.definition, row.version));
    }
    let state = SagaState::replay(definition, log?).map_err(|error| error.to_string())?;
    Ok(Read::Log(request(row).map_err(|error| format!("the request: {error}"))?, state))
}

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
