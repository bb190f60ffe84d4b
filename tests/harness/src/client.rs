//! Clicks of students. One client waits for its outcome. The other has the addresses of several orchestrators, as
//! portals do: it calls the next one when one is away, comes back at the given time, and records the errors on the way.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use matricula_proto::ops::v1::ListSagasRequest;
use matricula_proto::ops::v1::saga_service_client::SagaServiceClient;
use matricula_proto::registration::v1::registration_service_client::RegistrationServiceClient;
use matricula_proto::registration::v1::{Outcome, Registration, SubmitRegistrationRequest, SubmitRegistrationResponse};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::PATIENCE;

/// Pause after an error without a time to come back, such as a refused connection.
const PAUSE: Duration = Duration::from_millis(50);
/// How long past its wait an answer may take before the client calls another orchestrator: the contract's deadline.
const ANSWER_MARGIN: Duration = Duration::from_secs(30);

/// The orchestrators of a client.
pub struct Portals {
    channels: Vec<Channel>,
    next: AtomicUsize,
}

/// The end of a click, and the errors on the way.
#[derive(Debug)]
pub struct Followed {
    /// The decided registration, or the error that no other attempt would mend.
    pub end: Result<Registration, Status>,
    /// Errors after which it was sent again, with the time that each took to come.
    pub setbacks: Vec<(Status, Duration)>,
    /// From the first attempt to the end.
    pub took: Duration,
    /// The duration of the last attempt.
    pub last_took: Duration,
}

impl Followed {
    /// The outcome; a click that ended in an error fails the test.
    #[track_caller]
    pub fn outcome(&self) -> Outcome {
        self.end.as_ref().expect("the click is decided").outcome()
    }
}

impl Portals {
    /// A client of these addresses, which connects at its first call.
    pub fn at<'a>(addresses: impl IntoIterator<Item = &'a str>) -> Self {
        let channel = |address: &str| matricula_kit::connect::lazily(&format!("http://{address}")).expect("a URL");
        Self { channels: addresses.into_iter().map(channel).collect(), next: AtomicUsize::new(0) }
    }

    /// The next one, in turns.
    pub fn turn(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed) % self.channels.len()
    }

    /// A connection to one of them.
    pub fn channel(&self, portal: usize) -> Channel {
        self.channels[portal % self.channels.len()].clone()
    }

    /// Sends the click, first to this one, until it is decided, an error is not retryable, or the time is over.
    pub async fn follow(&self, first: usize, request: SubmitRegistrationRequest) -> Followed {
        let started = Instant::now();
        let mut setbacks = Vec::new();
        let mut portal = first;
        loop {
            let sent = Instant::now();
            let answer = self.send(portal, request.clone()).await;
            let last_took = sent.elapsed();
            let ended = |end, setbacks| Followed { end, setbacks, took: started.elapsed(), last_took };
            match answer {
                Ok(registration) if registration.outcome() == Outcome::Pending => {}
                Ok(registration) => return ended(Ok(registration), setbacks),
                Err(status) if !is_retryable(&status) || started.elapsed() > PATIENCE => {
                    return ended(Err(status), setbacks);
                }
                Err(status) => {
                    // A full orchestrator gets it again later; an unavailable one is replaced by another.
                    portal += usize::from(status.code() != Code::ResourceExhausted);
                    tokio::time::sleep(retry_delay(&status).unwrap_or(PAUSE)).await;
                    setbacks.push((status, last_took));
                }
            }
        }
    }

    async fn send(&self, portal: usize, request: SubmitRegistrationRequest) -> Result<Registration, Status> {
        let wait = Duration::from_millis(request.wait_ms.unsigned_abs().into());
        let mut client = RegistrationServiceClient::new(self.channel(portal));
        let mut request = Request::new(request);
        request.set_timeout(wait + ANSWER_MARGIN);
        let answer = client.submit_registration(request).await?;
        Ok(answer.into_inner().registration.expect("an answer has a registration"))
    }
}

/// Whether the contract lets a client send the same again. For gRPC a lost connection is UNAVAILABLE. This client
/// library reports CANCELLED for a call that was still waiting to be sent when the server closed the connection.
pub fn is_retryable(status: &Status) -> bool {
    is_of_connection(status) || matches!(status.code(), Code::Unavailable | Code::ResourceExhausted)
}

/// Whether the client made the error itself, because it has no connection: no server has answered.
pub fn is_of_connection(status: &Status) -> bool {
    std::error::Error::source(status).is_some_and(|source| source.is::<tonic::transport::Error>())
}

/// When the server asks the client to come back, if it does.
pub fn retry_delay(status: &Status) -> Option<Duration> {
    status.get_details_retry_info()?.retry_delay
}

/// A submission that waits for its outcome.
pub fn submission(student: &str, key: &str, adds: &[&str], drops: &[&str]) -> SubmitRegistrationRequest {
    let own = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
    SubmitRegistrationRequest {
        idempotency_key: key.to_owned(),
        student_id: student.to_owned(),
        adds: own(adds),
        drops: own(drops),
        seen_versions: Vec::new(),
        wait_ms: 30_000,
    }
}

/// Submits and waits for the outcome.
pub async fn submit(channel: &Channel, request: SubmitRegistrationRequest) -> Registration {
    let mut client = RegistrationServiceClient::new(channel.clone());
    let answer = client.submit_registration(request).await.expect("the submission is accepted");
    let SubmitRegistrationResponse { registration } = answer.into_inner();
    registration.expect("an answer has a registration")
}

/// Whether no saga is unfinished.
pub async fn is_settled(portal: &Channel) -> bool {
    let request = ListSagasRequest { page_size: 1, unfinished: true, ..ListSagasRequest::default() };
    let sagas = SagaServiceClient::new(portal.clone()).list_sagas(request).await.expect("a list").into_inner();
    sagas.sagas.is_empty()
}
