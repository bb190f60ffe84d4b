//! Three orchestrators on one PostgreSQL, as real processes. One is killed, stopped past its lease, restarted under
//! load, or has a wrong clock. A client that waits for a registration gets its outcome from any of them.

mod clocks;
mod restarts;
mod takeover;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use matricula_harness::{Followed, PATIENCE, Portals, System, submission, submit};
use matricula_kit::testing::Backend;
use matricula_proto::ops::v1::saga_service_client::SagaServiceClient;
use matricula_proto::ops::v1::{GetSagaRequest, GetSagaResponse, ListSagasRequest, SagaSummary};
use matricula_proto::registration::v1::registration_service_client::RegistrationServiceClient;
use matricula_proto::registration::v1::{
    GetRegistrationRequest, Outcome, Registration, SubmitRegistrationRequest, WatchRegistrationRequest,
};
use tokio::task::{JoinSet, block_in_place};
use tonic::transport::Channel;

/// The first has the name of its role, as the harness requires.
const FIRST: &str = "orchestrator";
const SECOND: &str = "second";
const THIRD: &str = "third";
const ALL: [&str; 3] = [FIRST, SECOND, THIRD];

/// Between two checks of a fact without a notification.
const LOOK: Duration = Duration::from_millis(20);

/// Five services and three orchestrators.
async fn three(settings: &[(&str, &str)]) -> System {
    let mut system = System::separate(Backend::Postgres, settings).await;
    for name in [SECOND, THIRD] {
        block_in_place(|| system.add_orchestrator(name));
    }
    system
}

/// A client with the addresses of all three.
fn portals(system: &System) -> Arc<Portals> {
    Arc::new(Portals::at(ALL.map(|name| system.address(name))))
}

/// Submits without waiting for the outcome.
async fn accept(channel: &Channel, mut request: SubmitRegistrationRequest) -> Registration {
    request.wait_ms = 0;
    let accepted = submit(channel, request).await;
    assert_eq!(accepted.outcome(), Outcome::Pending, "nothing can decide it yet");
    accepted
}

/// Watches a registration until it is decided.
async fn watched(channel: Channel, registration_id: String) -> Registration {
    let mut client = RegistrationServiceClient::new(channel);
    let request = WatchRegistrationRequest { registration_id };
    let mut changes = client.watch_registration(request).await.expect("a watch").into_inner();
    loop {
        let change = changes.message().await.expect("the watch lasts").expect("it does not end undecided");
        let registration = change.registration.expect("a change has a registration");
        if registration.outcome() != Outcome::Pending {
            return registration;
        }
    }
}

/// Reads a registration until it is decided.
async fn looked_at(channel: Channel, registration_id: String) -> Registration {
    let mut client = RegistrationServiceClient::new(channel);
    loop {
        let request = GetRegistrationRequest { registration_id: registration_id.clone() };
        let answer = client.get_registration(request).await.expect("an answer").into_inner();
        let registration = answer.registration.expect("an answer has a registration");
        if registration.outcome() != Outcome::Pending {
            return registration;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Sagas that are not finished, as an orchestrator sees them.
async fn unfinished(channel: &Channel) -> Vec<SagaSummary> {
    let request = ListSagasRequest { page_size: 1_000, unfinished: true, ..ListSagasRequest::default() };
    SagaServiceClient::new(channel.clone()).list_sagas(request).await.expect("a list").into_inner().sagas
}

/// A saga with its log.
async fn saga(channel: &Channel, saga_id: &str) -> GetSagaResponse {
    let request = GetSagaRequest { saga_id: saga_id.to_owned() };
    SagaServiceClient::new(channel.clone()).get_saga(request).await.expect("the saga is shown").into_inner()
}

/// Checks again and again for a fact without a notification.
async fn eventually(what: &str, mut fact: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !fact().await {
            tokio::time::sleep(LOOK).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, looking).await.is_ok(), "never: {what}");
}

/// Students who click one after the other, each as soon as the one before has an outcome. The load continues until it
/// is stopped, at any speed of the system.
struct Load {
    clicks: JoinSet<Vec<Followed>>,
    ending: Arc<AtomicBool>,
    decided: Arc<AtomicU32>,
}

impl Load {
    /// Begins with this many students at a time; a click goes first to the portal that `first` chooses for it.
    fn begin(
        portals: &Arc<Portals>,
        at_a_time: u32,
        students: u32,
        first: impl Fn(u32) -> usize + Copy + Send + 'static,
    ) -> Self {
        let (ending, decided) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let next = Arc::new(AtomicU32::new(1));
        let mut clicks = JoinSet::new();
        for _ in 0..at_a_time {
            let (portals, ending, decided, next) = (portals.clone(), ending.clone(), decided.clone(), next.clone());
            clicks.spawn(async move {
                let mut followed = Vec::new();
                while !ending.load(Ordering::Relaxed) {
                    let student = next.fetch_add(1, Ordering::Relaxed);
                    if student > students {
                        break;
                    }
                    // A third of them want the scarce seats.
                    let section = if student % 3 == 0 { "FEW" } else { "MANY" };
                    let click = submission(&format!("S{student}"), "k", &[section], &[]);
                    followed.push(portals.follow(first(student), click).await);
                    decided.fetch_add(1, Ordering::Relaxed);
                }
                followed
            });
        }
        Self { clicks, ending, decided }
    }

    /// Waits until this many more clicks are decided: the load is under way.
    async fn more(&self, clicks: u32) {
        let wanted = self.decided.load(Ordering::Relaxed) + clicks;
        eventually("the load goes on", async || self.decided.load(Ordering::Relaxed) >= wanted).await;
    }

    /// Stops sending clicks, and waits for the outcomes of all that were sent.
    async fn end(self) -> Vec<Followed> {
        self.ending.store(true, Ordering::Relaxed);
        self.clicks.join_all().await.into_iter().flatten().collect()
    }
}

/// Every click has its outcome, and the scarce seats went to as many students as there are seats.
#[track_caller]
fn check_outcomes(followed: &[Followed], few: usize) {
    let mut enrolled_few = 0;
    for click in followed {
        let registration = click.end.as_ref().unwrap_or_else(|status| panic!("{status:?} after {:?}", click.setbacks));
        let wants_few = registration.adds == ["FEW"];
        let enrolled = registration.outcome() == Outcome::Enrolled;
        assert!(enrolled || (wants_few && registration.outcome() == Outcome::Refused), "{registration:?}");
        enrolled_few += usize::from(enrolled && wants_few);
    }
    let wanted_few = followed.iter().filter(|click| click.end.as_ref().is_ok_and(|end| end.adds == ["FEW"])).count();
    assert_eq!(enrolled_few, few.min(wanted_few));
}

/// Errors that clicks got before they were decided, by code.
fn setbacks(followed: &[Followed]) -> String {
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    for (status, _) in followed.iter().flat_map(|click| &click.setbacks) {
        *counts.entry(format!("{:?} {}", status.code(), status.message())).or_default() += 1;
    }
    format!("{} clicks, setbacks {counts:?}", followed.len())
}

fn since(moment: Instant) -> String {
    format!("{:.2} s", moment.elapsed().as_secs_f64())
}
