//! A registration as it is read back from the saga log.
//!
//! Promises: what can't be read (a version that this replica does not know, a log that does not fold) is shown with what
//! is known of it, so that one bad record hides no other.

use matricula_engine::{Definition, SagaState};
use matricula_kit::id::SectionId;
use matricula_proto::registration::v1 as wire;
use matricula_runtime::SagaRow;

use crate::request::RegistrationRequest;
use crate::view::RegistrationView;

/// A row of the saga log, read as far as it can be.
#[derive(Debug, Clone)]
pub struct StoredRegistration {
    /// The row.
    pub row: SagaRow,
    /// What was asked for, and where the saga stands, or why these can't be read.
    pub read: Result<(RegistrationRequest, SagaState), String>,
}

impl StoredRegistration {
    /// Reads a row.
    pub fn read(definition: &Definition, row: SagaRow) -> Self {
        let request = || request(&row).map_err(|error| format!("the request: {error}"));
        let log = row.log.as_ref().map_err(|problem| format!("the log: {problem}"));
        let known = (row.definition.as_str(), row.version) == (definition.name(), definition.version());
        let log = if known { log } else { Err(format!("{} v{} is not known here", row.definition, row.version)) };
        let state = log.and_then(|log| SagaState::replay(definition, log).map_err(|error| error.to_string()));
        let read = state.and_then(|state| Ok((request()?, state)));
        Self { row, read }
    }

    /// The registration on the wire. One that can't be read has no outcome, and needs attention.
    pub fn to_wire(&self) -> wire::Registration {
        match &self.read {
            Ok((request, state)) => {
                let (id, idempotency_key) = (&self.row.id, self.row.idempotency_key.as_str());
                RegistrationView { id, idempotency_key, request, state: Some(state) }.to_wire()
            }
            Err(_) => {
                let ids = |sections: Vec<SectionId>| sections.into_iter().map(String::from).collect();
                let (adds, drops) = request(&self.row).map(|request| (request.adds, request.drops)).unwrap_or_default();
                wire::Registration {
                    registration_id: self.row.id.as_str().to_owned(),
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
}

fn request(row: &SagaRow) -> Result<RegistrationRequest, serde_json::Error> {
    serde_json::from_str(&row.request)
}
