//! Registrations as the workload of an orchestrator: the definitions, and the calls over the channels of the services.

use async_trait::async_trait;
use matricula_engine::{CallError, Code, DefinitionError, Definitions, NotDefined, Recorded, SagaState, Step};
use matricula_kit::telemetry::spans::Peer;
use matricula_kit::time::TimeZone;
use matricula_proto::participant::v1::ForgetSagasRequest;
use matricula_proto::participant::v1::participant_service_client::ParticipantServiceClient;
use matricula_runtime::{SagaId, SagaRow, Workload};

use crate::calls::{Answers, Calls, Channels, call_error};
use crate::request::RegistrationRequest;
use crate::saga;
use crate::view::{Receipt, StoredRegistration};

/// The address of a service of this process in traces.
const IN_PROCESS: &str = "in-process";

/// Registrations over the services.
pub struct Registrations {
    definitions: Definitions,
    /// The services.
    pub channels: Channels,
    /// The time zone in which students read moments.
    pub zone: TimeZone,
}

impl Registrations {
    /// Registrations over these services. Students read moments in UTC.
    pub fn try_new(channels: Channels) -> Result<Self, DefinitionError> {
        Ok(Self { definitions: saga::definitions()?, channels, zone: TimeZone::UTC })
    }

    /// The same. New registrations begin with this version; the other versions stay readable.
    pub fn beginning_with(self, version: u32) -> Result<Self, NotDefined> {
        Ok(Self { definitions: self.definitions.beginning_with(version)?, ..self })
    }

    /// The same with these definitions alone, as an orchestrator of another release has them.
    pub fn with_definitions(self, definitions: Definitions) -> Self {
        Self { definitions, ..self }
    }

    /// The same. Students read moments in the time zone of the campus.
    pub fn in_zone(self, zone: TimeZone) -> Self {
        Self { zone, ..self }
    }

    /// Reads a row of the saga log.
    pub fn read(&self, row: SagaRow) -> StoredRegistration {
        StoredRegistration::read(&self.definitions, row)
    }
}

#[async_trait]
impl Workload for Registrations {
    type Request = RegistrationRequest;

    fn definitions(&self) -> &Definitions {
        &self.definitions
    }

    fn applies(&self, request: &RegistrationRequest) -> Vec<&'static str> {
        saga::applies(self.definitions.current(), request)
    }

    fn is_waited_for(&self, step: &Step, request: &RegistrationRequest) -> bool {
        saga::is_waited_for(step, request)
    }

    fn peer(&self, destination: &'static str) -> Peer {
        let service = self.channels.of(destination).map_or("", |(name, _)| name);
        match self.channels.urls.get(destination) {
            Some(url) => Peer::at(service, url),
            None => Peer { service, address: IN_PROCESS.to_owned(), port: None },
        }
    }

    async fn call(&self, destination: &'static str, rpc: &'static str, calls: Calls<'_>) -> Answers {
        let known = saga::rpc(destination, rpc).ok_or_else(|| not_in_table(&format!("{destination}.{rpc}")))?;
        (known.call)(&self.channels, calls).await
    }

    async fn forget(&self, destination: &'static str, sagas: &[SagaId]) -> Result<(), CallError> {
        let (_, channel) = self.channels.of(destination).ok_or_else(|| not_in_table(destination))?;
        let saga_ids = sagas.iter().map(SagaId::to_string).collect();
        let mut client = ParticipantServiceClient::new(channel.clone());
        let purged = client.forget_sagas(ForgetSagasRequest { saga_ids }).await;
        purged.map(|_| ()).map_err(|status| call_error(&status))
    }

    fn receipt(&self, _: &RegistrationRequest, state: &SagaState, log: &[Recorded]) -> Result<String, String> {
        serde_json::to_string(&Receipt::new(state, log)).map_err(|error| error.to_string())
    }
}

fn not_in_table(name: &str) -> CallError {
    CallError::new(Code::Unimplemented, format!("{name} is not in the table of steps"), None)
}
