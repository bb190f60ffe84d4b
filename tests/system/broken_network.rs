//! The network to one service fails in every way that a network can. Registrations that don't need the service get
//! their outcome meanwhile, nothing piles up before the other services, and all goes on by itself when it is over.

use std::time::{Duration, Instant};

use matricula_chaos::proxy::{Fault, Proxy};
use matricula_harness::{PATIENCE, System, submission, submit};
use matricula_kit::testing::Backend;
use matricula_proto::ops::v1::saga_service_client::SagaServiceClient;
use matricula_proto::ops::v1::{Destination, ListDestinationsRequest, ListSagasRequest};
use matricula_proto::registration::v1::registration_service_client::RegistrationServiceClient;
use matricula_proto::registration::v1::{Outcome, Registration, SubmitRegistrationRequest};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::campus::bundle;

/// When a call is given up. Slow ones of this test take less.
const CALL_TIMEOUT_MS: &str = "800";
/// Registrations that need the broken service.
const ADDS: usize = 8;
/// Registrations that do not, and what each of them may take: several deadlines of a call would be too long.
const DROPS: usize = 4;
const DROP_MAX: Duration = Duration::from_millis(2_000);
/// Between two looks at a fact.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A system whose orchestrator reaches one service through a proxy.
struct Broken {
    system: System,
    proxy: Proxy,
    service: &'static str,
    portal: Channel,
    students: std::ops::RangeFrom<u32>,
}

impl Broken {
    async fn start(service: &'static str) -> Self {
        let settings = [
            ("orchestrator.runtime.call_timeout_ms", CALL_TIMEOUT_MS),
            ("orchestrator.runtime.breaker_failures", "3"),
            ("orchestrator.runtime.breaker_open_ms", "50"),
            ("orchestrator.runtime.breaker_open_max_ms", "400"),
        ];
        let mut system = System::separate(Backend::Sqlite, &settings).await;
        system.import(&bundle(&[("A", 1_000, ""), ("B", 1_000, "")], 400));
        let server = system.address(service).parse().expect("an address");
        let proxy = Proxy::start(server).await.expect("a free port");
        let url = format!("http://{}", proxy.address());
        system.set_own("orchestrator", &format!("orchestrator.{service}_url"), &url);
        system.kill("orchestrator");
        system.restart("orchestrator");
        let portal = system.channel("orchestrator").await;
        Self { system, proxy, service, portal, students: 1.. }
    }

    /// Registrations that each wait for their outcome, one student each.
    fn register(&self, students: &[String], key: &str, adds: &[&str], drops: &[&str]) -> JoinSet<Registration> {
        let mut clicks = JoinSet::new();
        for student in students {
            let (portal, request) = (self.portal.clone(), submission(student, key, adds, drops));
            clicks.spawn(async move { submit(&portal, request).await });
        }
        clicks
    }

    fn new_students(&mut self, count: usize) -> Vec<String> {
        self.students.by_ref().take(count).map(|number| format!("S{number}")).collect()
    }

    async fn destinations(&self) -> Vec<Destination> {
        let mut client = SagaServiceClient::new(self.portal.clone());
        let answer = client.list_destinations(ListDestinationsRequest {}).await;
        answer.expect("the orchestrator answers").into_inner().destinations
    }

    /// Waits until the destinations are like this.
    async fn until(&self, what: String, is: impl Fn(&[Destination]) -> bool) {
        let give_up_at = Instant::now() + PATIENCE;
        loop {
            let destinations = self.destinations().await;
            if is(&destinations) {
                return;
            }
            assert!(Instant::now() < give_up_at, "{what}: {destinations:?}");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn until_finished(&self) {
        let mut client = SagaServiceClient::new(self.portal.clone());
        let request = ListSagasRequest { page_size: 1, unfinished: true, ..ListSagasRequest::default() };
        let give_up_at = Instant::now() + PATIENCE;
        while let Some(saga) = client.list_sagas(request.clone()).await.expect("an answer").into_inner().sagas.first() {
            assert!(Instant::now() < give_up_at, "not finished, though nothing is broken any more: {saga:?}");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Drops don't need fees before their outcome, and nothing needs notifications: they must not notice.
    async fn drops_are_quick(&self, students: &[String], fault: Fault) {
        let begun = Instant::now();
        let drops = self.register(students, "drop", &[], &["B"]).join_all().await;
        assert!(drops.iter().all(|drop| drop.outcome() == Outcome::Enrolled), "{fault:?}: {drops:?}");
        assert!(begun.elapsed() < DROP_MAX, "{fault:?}: drops took {:?}", begun.elapsed());
    }
}

/// Whether calls to the broken service can't succeed at all.
fn is_hard(fault: Fault) -> bool {
    !matches!(fault, Fault::Delay(_) | Fault::Trickle | Fault::Reset | Fault::Corrupt)
}

/// The error that operators see. If nothing arrives, the deadline of the call itself ends it: those of connections are
/// longer.
fn error_of(fault: Fault) -> &'static str {
    match fault {
        Fault::Hang | Fault::SilentToServer | Fault::SilentToClient => "no answer from",
        Fault::Refuse => "onnection refused",
        _ => "",
    }
}

/// Breaks the network to a service, and looks at what goes on and what waits; then heals it.
async fn check(broken: &mut Broken, fault: Fault) {
    let (droppers, adders) = (broken.new_students(DROPS), broken.new_students(ADDS));
    let enrolled = broken.register(&droppers, "add", &["B"], &[]).join_all().await;
    assert!(enrolled.iter().all(|registration| registration.outcome() == Outcome::Enrolled), "{enrolled:?}");
    broken.until_finished().await;

    broken.proxy.set(fault);
    let adds = broken.register(&adders, "add", &["A"], &[]);
    broken.drops_are_quick(&droppers, fault).await;
    let service = broken.service;
    if is_hard(fault) {
        let opened = |destinations: &[Destination]| {
            let broken = destinations.iter().find(|destination| destination.name == service);
            broken.is_some_and(|broken| broken.breaker != "closed" && broken.last_error.contains(error_of(fault)))
        };
        broken.until(format!("{fault:?}: the breaker of {service} does not open"), opened).await;
    }
    let others = |destinations: &[Destination]| {
        let mut others = destinations.iter().filter(|destination| destination.name != service);
        others.all(|other| other.breaker == "closed" && other.waiting == 0)
    };
    broken.until(format!("{fault:?}: something waits before a service that works"), others).await;
    if is_hard(fault) && service == "fees" {
        let pending = look(&broken.portal, submission(&adders[0], "add", &["A"], &[])).await;
        assert_eq!(pending.outcome(), Outcome::Pending, "{fault:?}: it can't be decided without fees: {pending:?}");
        broken.proxy.set(Fault::None);
    }

    // Soft faults go on: what is slow or breaks now and then is only tried more often.
    let adds = adds.join_all().await;
    assert!(adds.iter().all(|add| add.outcome() == Outcome::Enrolled), "{fault:?}: {adds:?}");
    broken.proxy.set(Fault::None);
    broken.until_finished().await;
    broken
        .until(format!("{fault:?}: the breaker of {service} does not close"), |destinations| {
            destinations.iter().all(|destination| destination.breaker == "closed" && destination.waiting == 0)
        })
        .await;
}

/// The registration as it stands, without waiting.
async fn look(portal: &Channel, request: SubmitRegistrationRequest) -> Registration {
    let request = SubmitRegistrationRequest { wait_ms: 0, ..request };
    let answer = RegistrationServiceClient::new(portal.clone()).submit_registration(request).await;
    answer.expect("the same key again").into_inner().registration.expect("an answer has a registration")
}

/// All kinds, with a delay that calls survive.
fn faults() -> impl Iterator<Item = Fault> {
    Fault::ALL.into_iter().map(|fault| match fault {
        Fault::Delay(_) => Fault::Delay(Duration::from_millis(60)),
        other => other,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_network_to_fees_keeps_only_those_waiting_who_pay() {
    let mut broken = Broken::start("fees").await;
    for fault in faults() {
        check(&mut broken, fault).await;
    }
    broken.system.audit();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_network_to_notifications_keeps_nobody_waiting() {
    let mut broken = Broken::start("notifications").await;
    for fault in [Fault::Hang, Fault::SilentToClient, Fault::Garbage] {
        check(&mut broken, fault).await;
    }
    broken.system.audit();
}
