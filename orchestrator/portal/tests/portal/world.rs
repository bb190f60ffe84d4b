//! A whole Matricula in one process: five services and the orchestrator, each on its own database and port.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use matricula_engine::Definitions;
use matricula_kit::database::Database;
use matricula_kit::serve::{Cors, Limits, Listen, Role, Serving, serve};
use matricula_kit::tasks::Tasks;
use matricula_kit::testing;
use matricula_kit::time::TimeZone;
use matricula_proto::academics::v1 as academics;
use matricula_proto::catalog::v1::Availability;
use matricula_proto::catalog::v1::catalog_service_client::CatalogServiceClient;
use matricula_proto::common::v1::Money;
use matricula_proto::fees::v1 as fees;
use matricula_proto::imports::v1::import_row::Row;
use matricula_proto::ops::v1::saga_service_client::SagaServiceClient;
use matricula_proto::registration::v1 as wire;
use matricula_proto::registration::v1::registration_service_client::RegistrationServiceClient;
use matricula_proto::seats::v1 as seats;
use matricula_proto::seats::v1::seat_service_client::SeatServiceClient;
use matricula_registration::{Channels, Registrations, saga};
use matricula_runtime::{Runtime, RuntimeConfig, SagaStore};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// How long a test waits for a fact.
const PATIENCE: Duration = Duration::from_secs(30);
pub const WAIT_MS: i32 = 20_000;

/// A service that can be stopped, and started again on the same database and port.
pub struct Service {
    start: fn(Database, CancellationToken) -> BoxedRole,
    url: String,
    address: SocketAddr,
    pub channel: Channel,
    running: Option<(Serving, CancellationToken)>,
}

type BoxedRole = futures::future::BoxFuture<'static, Role>;

pub struct World {
    pub seats: Service,
    pub enrollments: Service,
    pub fees: Service,
    _academics: Service,
    pub notifications: Service,
    pub portal: RegistrationServiceClient<Channel>,
    pub catalog: CatalogServiceClient<Channel>,
    /// The first orchestrator.
    pub orchestrator: Channel,
    pub sagas: SagaServiceClient<Channel>,
    pub shutdown: CancellationToken,
    channels: Channels,
    pub database: Database,
    /// Where the saga log is.
    url: String,
    _folder: tempfile::TempDir,
}

impl Service {
    async fn start(folder: &tempfile::TempDir, start: fn(Database, CancellationToken) -> BoxedRole) -> Self {
        let name = next_name(folder);
        let url = format!("sqlite:{}", folder.path().join(format!("{name}.db")).display());
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut service = Self {
            start,
            url,
            address,
            channel: Endpoint::from_static("http://127.0.0.1:1").connect_lazy(),
            running: None,
        };
        service.resume().await;
        service.channel = channel(service.address);
        service
    }

    pub async fn stop(&mut self) {
        let (serving, shutdown) = self.running.take().expect("it runs");
        shutdown.cancel();
        serving.ended().await;
    }

    /// Takes a section out of the database of the seat service, which is stopped.
    pub async fn delete(&self, section: &str) {
        let database = Database::open(&self.url).await.expect("the database opens");
        let mut tx = database.begin().await.expect("a transaction");
        let args = matricula_kit::database::Args::new().text(section);
        assert_eq!(tx.execute("DELETE FROM sections WHERE section_id = $1", args).await.expect("deleted"), 1);
        tx.commit().await.expect("committed");
        database.close().await;
    }

    pub async fn resume(&mut self) {
        let shutdown = CancellationToken::new();
        let database = Database::open(&self.url).await.expect("the database opens");
        let role = (self.start)(database, shutdown.clone()).await;
        let serving =
            serve(role, Listen { grpc: self.address, http: None, limits: Limits::default() }, shutdown.clone())
                .await
                .expect("it is served");
        self.address = serving.grpc;
        self.running = Some((serving, shutdown));
    }
}

/// A name that no other service of this folder has.
fn next_name(folder: &tempfile::TempDir) -> usize {
    std::fs::read_dir(folder.path()).expect("the folder").count()
}

fn channel(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    endpoint.connect_timeout(Duration::from_secs(1)).connect_lazy()
}

impl World {
    pub async fn start() -> Self {
        Self::start_with(RuntimeConfig::default()).await
    }

    pub async fn start_with(config: RuntimeConfig) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite:{}", folder.path().join("orchestrator.db").display());
        Self::start_on(&url, folder, config, |_| {}).await
    }

    /// With a saga log that several orchestrators can share.
    pub async fn start_shared() -> Self {
        Self::start_shared_with(RuntimeConfig::default()).await
    }

    pub async fn start_shared_with(config: RuntimeConfig) -> Self {
        let url = matricula_kit::testing::create_postgres().await;
        Self::start_on(&url, tempfile::tempdir().expect("a folder"), config, |_| {}).await
    }

    /// The same, with orchestrators that call services at the wrong addresses. Another service answers there, so the
    /// steps need attention at once.
    pub async fn start_misled(mislead: impl FnOnce(&mut Channels)) -> Self {
        let url = matricula_kit::testing::create_postgres().await;
        Self::start_on(&url, tempfile::tempdir().expect("a folder"), RuntimeConfig::default(), mislead).await
    }

    async fn start_on(
        url: &str,
        folder: tempfile::TempDir,
        config: RuntimeConfig,
        mislead: impl FnOnce(&mut Channels),
    ) -> Self {
        let seats = Service::start(&folder, |database, shutdown| {
            Box::pin(async { matricula_seats::start(database, TimeZone::UTC, shutdown).await.expect("seats") })
        })
        .await;
        let enrollments = Service::start(&folder, |database, _| {
            Box::pin(async { matricula_enrollments::start(database).await.expect("enrollments") })
        })
        .await;
        let academics = Service::start(&folder, |database, _| {
            Box::pin(async { matricula_academics::start(database, TimeZone::UTC).await.expect("academics") })
        })
        .await;
        let fees = Service::start(&folder, |database, _| {
            Box::pin(async { matricula_fees::start(database).await.expect("fees") })
        })
        .await;
        let notifications = Service::start(&folder, |database, _| {
            Box::pin(async {
                matricula_notifications::start(database, &Default::default()).await.expect("notifications")
            })
        })
        .await;
        let mut channels = Channels {
            seats: seats.channel.clone(),
            enrollments: enrollments.channel.clone(),
            academics: academics.channel.clone(),
            fees: fees.channel.clone(),
            notifications: notifications.channel.clone(),
            urls: Default::default(),
        };
        import(&channels).await;
        mislead(&mut channels);
        let database = Database::open(url).await.expect("the database opens");
        let shutdown = CancellationToken::new();
        let workload = registrations(&channels);
        let orchestrator = orchestrate(database.clone(), workload, config, shutdown.clone()).await;
        let world = Self {
            seats,
            enrollments,
            fees,
            _academics: academics,
            notifications,
            portal: RegistrationServiceClient::new(orchestrator.clone()),
            catalog: CatalogServiceClient::new(orchestrator.clone()),
            sagas: SagaServiceClient::new(orchestrator.clone()),
            orchestrator,
            shutdown,
            channels,
            database,
            url: url.to_owned(),
            _folder: folder,
        };
        until("the feed is live", async || world.is_live().await).await;
        world
    }

    /// Submits and waits for the outcome.
    pub async fn submit(
        &self,
        student: &str,
        key: &str,
        adds: &[&str],
        drops: &[&str],
    ) -> Result<wire::Registration, Status> {
        self.submit_for(student, key, adds, drops, WAIT_MS).await
    }

    pub async fn submit_for(
        &self,
        student: &str,
        key: &str,
        adds: &[&str],
        drops: &[&str],
        wait_ms: i32,
    ) -> Result<wire::Registration, Status> {
        let request = submission(student, key, adds, drops);
        let request = wire::SubmitRegistrationRequest { wait_ms, ..request };
        let answer = self.portal.clone().submit_registration(request).await?;
        Ok(answer.into_inner().registration.expect("a registration"))
    }

    /// Submits with the version of the section that was seen, at this portal, and waits for the outcome.
    pub async fn submit_seen(
        &self,
        portal: &Channel,
        (student, key): (&str, &str),
        section: &str,
        version: i64,
    ) -> wire::Registration {
        let seen_versions = vec![wire::SeenVersion { section_id: section.to_owned(), version }];
        let request = submission(student, key, &[section], &[]);
        let request = wire::SubmitRegistrationRequest { seen_versions, ..request };
        let answer = RegistrationServiceClient::new(portal.clone()).submit_registration(request).await;
        answer.expect("an outcome").into_inner().registration.expect("a registration")
    }

    pub async fn get(&self, id: &str) -> wire::Registration {
        let request = wire::GetRegistrationRequest { registration_id: id.to_owned() };
        let answer = self.portal.clone().get_registration(request).await.expect("the registration");
        answer.into_inner().registration.expect("a registration")
    }

    pub async fn cancel(&self, id: &str) -> Result<wire::Registration, Status> {
        let request =
            wire::CancelRegistrationRequest { registration_id: id.to_owned(), reason: "changed my mind".into() };
        let answer = self.portal.clone().cancel_registration(request).await?;
        Ok(answer.into_inner().registration.expect("a registration"))
    }

    /// A section as this portal shows it now.
    pub async fn seen(&self, portal: &Channel, section: &str) -> Availability {
        let request = matricula_proto::catalog::v1::GetAvailabilityRequest { section_ids: own(&[section]) };
        let answer = CatalogServiceClient::new(portal.clone()).get_availability(request).await.expect("seats");
        answer.into_inner().sections.remove(0)
    }

    /// Whether this portal shows a section.
    pub async fn shows(&self, portal: &Channel, section: &str) -> bool {
        let request = matricula_proto::catalog::v1::GetAvailabilityRequest { section_ids: own(&[section]) };
        let answer = CatalogServiceClient::new(portal.clone()).get_availability(request).await;
        answer.is_ok_and(|answer| !answer.into_inner().sections.is_empty())
    }

    /// The record of a student in academics.
    pub async fn record(&self, student: &str) -> academics::GetAcademicRecordResponse {
        let request = academics::GetAcademicRecordRequest { student_id: student.to_owned() };
        let client = academics::academic_service_client::AcademicServiceClient::new(self.channels.academics.clone());
        client.clone().get_academic_record(request).await.expect("the student is on record").into_inner()
    }

    /// `id:free` of each, and whether the feed is live.
    pub async fn availability(&self, sections: &[&str]) -> Result<(String, bool), Status> {
        let request = matricula_proto::catalog::v1::GetAvailabilityRequest { section_ids: own(sections) };
        let answer = self.catalog.clone().get_availability(request).await?.into_inner();
        let seats = answer.sections.iter().map(|seats| format!("{}:{}", seats.section_id, seats.free));
        Ok((seats.collect::<Vec<_>>().join(" "), answer.freshness.expect("a freshness").live))
    }

    /// Another orchestrator over the same log, which is a shared one.
    pub async fn replica(&self) -> Channel {
        let (database, workload) = (self.database.clone(), registrations(&self.channels));
        orchestrate(database, workload, RuntimeConfig::default(), self.shutdown.clone()).await
    }

    /// The same; its registrations begin with version 1.
    pub async fn replica_beginning_with_version_1(&self) -> Channel {
        let workload = registrations(&self.channels).beginning_with(1).expect("it is known");
        orchestrate(self.database.clone(), workload, RuntimeConfig::default(), self.shutdown.clone()).await
    }

    /// The same for the release before this one, which has only version 1 of the registration. It ends by the token.
    pub async fn earlier_release(&self) -> (Channel, CancellationToken) {
        let shutdown = self.shutdown.child_token();
        let first = Definitions::new(saga::definition(1).expect("a sound table"));
        // Its own connections: they are closed when it ends.
        let database = Database::open(&self.url).await.expect("the database opens");
        let workload = registrations(&self.channels).with_definitions(first);
        let channel = orchestrate(database, workload, RuntimeConfig::default(), shutdown.clone()).await;
        (channel, shutdown)
    }

    async fn is_live(&self) -> bool {
        self.availability(&["A"]).await.is_ok_and(|(_, live)| live)
    }

    /// Imports the section again, as one that is cancelled.
    pub async fn cancel_section(&self, id: &str) {
        let sections = vec![academics::Section { cancelled: true, ..section(id) }];
        testing::import(self.channels.academics.clone(), sections.into_iter().map(Row::Section))
            .await
            .expect("it is imported");
    }

    pub async fn import_section(&self, section: &str, capacity: i32) {
        testing::import(self.seats.channel.clone(), [Row::Capacity(seats_of(section, capacity))])
            .await
            .expect("it is imported");
    }

    pub async fn set_capacity(&self, section: &str, capacity: i32) {
        let request = seats::SetCapacityRequest { section_id: section.to_owned(), capacity };
        SeatServiceClient::new(self.seats.channel.clone()).set_capacity(request).await.expect("the capacity is set");
    }
}

fn registrations(channels: &Channels) -> Registrations {
    Registrations::try_new(channels.clone()).expect("a sound table")
}

async fn orchestrate(
    database: Database,
    workload: Registrations,
    config: RuntimeConfig,
    shutdown: CancellationToken,
) -> Channel {
    let store = SagaStore::open(database.clone()).await.expect("the log opens");
    let (runtime, running) =
        Runtime::start(Arc::new(workload), store, config, shutdown.clone()).await.expect("it starts");
    let mut routes = tonic::service::RoutesBuilder::default();
    let tasks = Tasks::new("orchestrator");
    matricula_portal::add_to(&mut routes, runtime.clone(), shutdown.clone(), &tasks);
    matricula_ops::add_to(&mut routes, runtime, shutdown.clone());
    tasks.must_run("runtime", async move { running.await.expect("no panic") });
    let role = Role {
        name: "orchestrator",
        routes,
        service_names: [&matricula_portal::SERVICE_NAMES[..], &matricula_ops::SERVICE_NAMES].concat(),
        database,
        tasks,
        grpc_web: Some(Cors::default()),
    };
    let listen = Listen { grpc: SocketAddr::from(([127, 0, 0, 1], 0)), http: None, limits: Limits::default() };
    channel(serve(role, listen, shutdown).await.expect("it is served").grpc)
}

/// Six courses of one section each (A to E, LAST with one seat), 3 credits at USD 100 a credit, students s1 to s9.
async fn import(channels: &Channels) {
    const SECTIONS: [(&str, i32); 6] = [("A", 10), ("B", 10), ("C", 10), ("D", 10), ("E", 10), ("LAST", 1)];
    let course = |id: &str| academics::Course {
        course_id: format!("C-{id}"),
        code: format!("X {id}"),
        title: format!("Course {id}"),
        credits_hundredths: 300,
        ..Default::default()
    };
    let term = academics::Term { term_id: "T".into(), title: "Term".into(), ..Default::default() };
    let student =
        |n: i32| academics::Student { student_id: format!("s{n}"), name: format!("Student {n}"), ..Default::default() };
    let courses = SECTIONS.iter().map(|(id, _)| Row::Course(course(id)));
    let sections = SECTIONS.iter().map(|(id, _)| Row::Section(section(id)));
    let students = (1..=9).map(student).map(Row::Student);
    let rows = [Row::Term(term)].into_iter().chain(courses).chain(sections).chain(students);
    testing::import(channels.academics.clone(), rows).await.expect("it is imported");
    let capacities = SECTIONS.iter().map(|(id, capacity)| Row::Capacity(seats_of(id, *capacity)));
    testing::import(channels.seats.clone(), capacities).await.expect("it is imported");
    let per_credit = Some(Money { currency: "USD".into(), minor_units: 10_000 });
    let rates = fees::TermRates { term_id: "T".into(), per_credit, ..Default::default() };
    testing::import(channels.fees.clone(), [Row::Rates(rates)]).await.expect("it is imported");
}

fn seats_of(section: &str, capacity: i32) -> seats::SectionCapacity {
    seats::SectionCapacity { section_id: section.to_owned(), capacity, ..Default::default() }
}

fn section(id: &str) -> academics::Section {
    academics::Section {
        section_id: id.to_owned(),
        course_id: format!("C-{id}"),
        term_id: "T".into(),
        title: format!("Section {id}"),
        ..Default::default()
    }
}

/// A submission that waits for its outcome.
pub fn submission(student: &str, key: &str, adds: &[&str], drops: &[&str]) -> wire::SubmitRegistrationRequest {
    wire::SubmitRegistrationRequest {
        idempotency_key: key.to_owned(),
        student_id: student.to_owned(),
        adds: own(adds),
        drops: own(drops),
        seen_versions: Vec::new(),
        wait_ms: WAIT_MS,
    }
}

pub fn own(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

/// Waits for a fact.
pub async fn until(what: &str, fact: impl AsyncFn() -> bool) {
    let waiting = async {
        while !fact().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(what, waiting).await;
}

/// Waits for a fact, with a bound.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("in vain: {what}"))
}

/// Checks code and reason of an error.
#[track_caller]
pub fn check_error<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, reason: &str) -> Status {
    let status = answer.expect_err("an error");
    let details = status.get_error_details();
    let got = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
    assert_eq!((status.code(), got.as_str()), (code, reason), "{status:?}");
    status
}
