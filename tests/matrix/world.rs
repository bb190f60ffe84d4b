//! The services as a world of the matrix: a separate student and separate sections for each case.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::future::join_all;
use matricula_engine::{CallAnswer, Definition, Direction, Recorded, SagaState};
use matricula_kit::id::StudentId;
use matricula_kit::telemetry::TraceContext;
use matricula_kit::testing;
use matricula_kit::time::{self, UnixMs};
use matricula_proto::common::v1::{DroppedCourse, Money, Operation, operation_result};
use matricula_proto::enrollments::v1::enrollment_service_client::EnrollmentServiceClient;
use matricula_proto::imports::v1::import_row::Row;
use matricula_proto::ops::v1::ExportLedgerResponse;
use matricula_proto::{academics, enrollments, fees, seats};
use matricula_registration::saga::{self, step};
use matricula_registration::{Channels, RegistrationRequest, Registrations};
use matricula_runtime::{Call as WireCall, SagaId};
use matricula_testkit::{Call, Case, Effects, Run, Shape, World, run};
use tokio::sync::Mutex;

use crate::batches::Batches;
use crate::ledgers;
use crate::services::Services;

/// The kind of registrations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// One section to add.
    Enroll,
    /// One section to drop.
    Drop,
    /// One to add, and one to drop.
    Swap,
}

/// Registrations of one kind, with the services.
pub struct Campus {
    shape: Shape,
    change: Change,
    services: Arc<Services>,
    batches: Arc<Batches>,
    /// The number of prepared cases: each has a number.
    cases: AtomicUsize,
    /// The registrations that enrolled students in the sections to drop, for the audit.
    earlier: Mutex<Vec<Run<Subject>>>,
}

/// The registration of a case.
#[derive(Debug)]
pub struct Subject {
    pub saga: SagaId,
    pub request: Arc<RegistrationRequest>,
    refusing: Vec<&'static str>,
    /// The registration that added the section to drop.
    earlier: Option<SagaId>,
    /// A registration of version 1 that has marked the section to drop, so that the pivot of this one is refused.
    rival: Option<SagaId>,
}

impl Change {
    fn adds(self) -> bool {
        self != Self::Drop
    }

    fn drops(self) -> bool {
        self != Self::Enroll
    }
}

impl Subject {
    fn new(number: usize, adds: Option<String>, drops: Option<String>) -> Self {
        let (adds, drops) = (adds.into_iter().collect(), drops.into_iter().collect());
        let request =
            RegistrationRequest::try_new(StudentId::stored(student(number)), adds, drops, Vec::new(), time::now());
        let request = Arc::new(request.expect("within the bounds"));
        Self { saga: matricula_runtime::new_saga_id(), request, refusing: Vec::new(), earlier: None, rival: None }
    }
}

fn student(number: usize) -> String {
    format!("s{number}")
}

fn section(number: usize, which: &str) -> String {
    format!("{which}-{number}")
}

impl Campus {
    pub fn new(change: Change, services: Arc<Services>) -> Self {
        Self::of(saga::definition(saga::VERSION_NEWEST).expect("a sound table"), change, services)
    }

    /// Registrations of one version.
    pub fn of(definition: Definition, change: Change, services: Arc<Services>) -> Self {
        let registrations = Registrations::try_new(services.channels.clone()).expect("a sound table");
        let batches = Arc::new(Batches::new(registrations));
        Self::with(definition, change, services, batches)
    }

    fn with(definition: Definition, change: Change, services: Arc<Services>, batches: Arc<Batches>) -> Self {
        let adds = change.adds().then(|| "a".to_owned());
        let any = Subject::new(0, adds, change.drops().then(|| "d".to_owned()));
        let applies = saga::applies(&definition, &any.request);
        let shape = Shape::new(definition, applies);
        Self { shape, change, services, batches, cases: AtomicUsize::new(0), earlier: Mutex::default() }
    }

    pub fn services(&self) -> &Services {
        &self.services
    }

    /// Proves the invariants for everything that these runs and the earlier ones left in the services.
    pub async fn audit(&self, runs: &[Run<Subject>]) -> matricula_audit::Report {
        let earlier = self.earlier.lock().await;
        let all = earlier.iter().chain(runs);
        let export = |run: &Run<Subject>| ledgers::registration(run.subject.saga, &run.subject.request, &run.state);
        let registrations: Vec<ExportLedgerResponse> = all.map(export).collect();
        ledgers::prove(ledgers::read(&self.services.channels).await, registrations)
    }

    /// Delivers an operation of a subject.
    async fn send(&self, subject: &Subject, call: &Call) -> CallAnswer {
        let Call { step, name, direction, attempt, state } = call.clone();
        let (saga, request) = (subject.saga, subject.request.clone());
        let (trace, owner_alive_at) = (TraceContext::default(), time::now());
        let call = WireCall { saga, step, step_name: name, direction, attempt, request, state, trace, owner_alive_at };
        self.batches.call(call).await
    }

    /// Compensates a step before it arrives, or after it: the step is refused from then on.
    async fn undo(&self, subject: &Subject, name: &'static str) {
        let def = self.shape.definition();
        let first = Recorded::first(0, def.admit(self.shape.applies(), 0));
        let state = Arc::new(SagaState::replay(def, [&first]).expect("an admission"));
        let step = def.index(name).expect("a step");
        let undo = Call { step, name, direction: Direction::Compensation, attempt: 1, state };
        assert!(matches!(self.send(subject, &undo).await, CallAnswer::Done(_)));
    }

    /// Makes the pivot of version 2 refuse: a rival marks the enrollment that the case drops. In a case without a drop
    /// the pivot is withdrawn before it arrives.
    async fn refuse_to_enroll(&self, subject: &mut Subject) {
        let (Some(section), Some(earlier)) = (subject.request.drops.first(), subject.earlier) else {
            return self.undo(subject, step::ENROLL).await;
        };
        let rival = matricula_runtime::new_saga_id();
        let dropped = DroppedCourse {
            section_id: section.as_str().to_owned(),
            course_id: format!("c-{section}"),
            registration_id: earlier.to_string(),
        };
        let operation = enrollments::v1::CreateEnrollmentsOperation {
            operation: of_rival(rival),
            student_id: subject.request.student.as_str().to_owned(),
            adds: Vec::new(),
            drops: vec![dropped],
            roster_row_id: String::new(),
        };
        let request = enrollments::v1::CreateEnrollmentsRequest { operations: vec![operation] };
        let mut client = EnrollmentServiceClient::new(self.services.channels.enrollments.clone());
        let results = client.create_enrollments(request).await.expect("an answer").into_inner().results;
        assert!(matches!(results[0].outcome, Some(operation_result::Outcome::Done(_))), "{results:?}");
        subject.rival = Some(rival);
    }

    /// The rival compensates, and its mark is removed.
    async fn give_up(&self, subject: &Subject) {
        let Some(rival) = subject.rival else { return };
        let operation = enrollments::v1::CancelEnrollmentsOperation {
            operation: of_rival(rival),
            student_id: subject.request.student.as_str().to_owned(),
        };
        let request = enrollments::v1::CancelEnrollmentsRequest { operations: vec![operation] };
        let mut client = EnrollmentServiceClient::new(self.services.channels.enrollments.clone());
        client.cancel_enrollments(request).await.expect("an answer");
    }

    /// Enrolls each student in the section that the case drops.
    async fn enroll_first(&self, numbers: std::ops::Range<usize>) -> Vec<Option<SagaId>> {
        if !self.change.drops() {
            return numbers.map(|_| None).collect();
        }
        let definition = self.shape.definition().clone();
        let first = Self::with(definition, Change::Enroll, self.services.clone(), self.batches.clone());
        let enrolling = numbers.map(|number| {
            let subject = Subject::new(number, Some(section(number, "old")), None);
            run(&first, Case::calm(), subject)
        });
        let runs = join_all(enrolling).await;
        let sagas = runs.iter().map(|run| Some(run.subject.saga)).collect();
        self.earlier.lock().await.extend(runs);
        sagas
    }
}

#[async_trait]
impl World for Campus {
    type Subject = Subject;

    fn shape(&self) -> &Shape {
        &self.shape
    }

    async fn prepare(&self, cases: &[Case]) -> Vec<Subject> {
        let first = self.cases.fetch_add(cases.len(), Ordering::Relaxed);
        let name = |step| self.shape.definition().step(step).name;
        let refusing = cases.iter().map(|case| case.refuses().map(name).collect::<Vec<_>>());
        let numbered: Vec<(usize, Vec<&'static str>)> = (first..).zip(refusing).collect();
        import(&self.services.channels, &numbered).await;
        let earlier = self.enroll_first(first..first + cases.len()).await;
        let mut subjects = Vec::with_capacity(cases.len());
        for ((number, refusing), earlier) in numbered.into_iter().zip(earlier) {
            let adds = self.change.adds().then(|| section(number, "new"));
            let drops = self.change.drops().then(|| section(number, "old"));
            let mut subject = Subject { refusing, earlier, ..Subject::new(number, adds, drops) };
            if subject.refusing.contains(&step::CREATE_ENROLLMENTS) {
                self.undo(&subject, step::CREATE_ENROLLMENTS).await;
            }
            if subject.refusing.contains(&step::ENROLL) {
                self.refuse_to_enroll(&mut subject).await;
            }
            subjects.push(subject);
        }
        subjects
    }

    async fn call(&self, subject: &Subject, call: &Call) -> CallAnswer {
        if call.name == step::COMMIT_ENROLLMENTS && subject.refusing.contains(&step::COMMIT_ENROLLMENTS) {
            self.undo(subject, step::CREATE_ENROLLMENTS).await;
        }
        self.send(subject, call).await
    }

    async fn effects(&self, subjects: &[&Subject]) -> Vec<Effects> {
        join_all(subjects.iter().map(|subject| self.give_up(subject))).await;
        let ledgers = ledgers::read(&self.services.channels).await;
        let traces = ledgers::Traces::of(&ledgers);
        let adds = self.change.adds();
        subjects.iter().map(|subject| traces.effects(subject.saga, subject.earlier, adds)).collect()
    }
}

/// The step of a rival that marks.
fn of_rival(rival: SagaId) -> Option<Operation> {
    Some(Operation {
        saga_id: rival.to_string(),
        step: step::CREATE_ENROLLMENTS.to_owned(),
        owner_alive_at: Some(time::now().to_wire()),
        ..Default::default()
    })
}

/// A student for each case, with a section to drop and one to add. If a step is to refuse, the case has the reason: too
/// late to drop and no permission to add, no seat, no credit.
async fn import(channels: &Channels, cases: &[(usize, Vec<&'static str>)]) {
    let refuses = |refusing: &[&str], step: &str| refusing.contains(&step);
    let term = |term: &str| {
        Row::Term(academics::v1::Term {
            term_id: term.to_owned(),
            title: term.to_owned(),
            drop_deadline: (term == "OVER").then(|| UnixMs(1).to_wire()),
            ..Default::default()
        })
    };
    let mut catalog: Vec<Row> = ["RICH", "POOR", "OVER"].map(term).into();
    let mut capacities = Vec::new();
    for (number, refusing) in cases {
        catalog.push(Row::Student(academics::v1::Student {
            student_id: student(*number),
            name: student(*number),
            ..Default::default()
        }));
        for which in ["old", "new"] {
            let (id, is_new) = (section(*number, which), which == "new");
            let term = match is_new {
                true if refuses(refusing, step::ASSESS_FEES) => "POOR",
                false if refuses(refusing, step::RESERVE_COURSES) => "OVER",
                _ => "RICH",
            };
            catalog.push(Row::Course(academics::v1::Course {
                course_id: format!("c-{id}"),
                code: format!("C {id}"),
                title: id.clone(),
                credits_hundredths: 300,
                ..Default::default()
            }));
            catalog.push(Row::Section(academics::v1::Section {
                section_id: id.clone(),
                course_id: format!("c-{id}"),
                term_id: term.to_owned(),
                title: id.clone(),
                permission_required: is_new && refuses(refusing, step::RESERVE_COURSES),
                ..Default::default()
            }));
            let capacity = i32::from(!(is_new && refuses(refusing, step::HOLD_SEATS)));
            let seats = seats::v1::SectionCapacity { section_id: id, capacity, ..Default::default() };
            capacities.push(Row::Capacity(seats));
        }
    }
    let money = |minor_units| Some(Money { currency: "USD".to_owned(), minor_units });
    let rates = |term: &str, balance_limit_minor_units| {
        Row::Rates(fees::v1::TermRates {
            term_id: term.to_owned(),
            per_credit: money(10_000),
            balance_limit_minor_units,
            ..Default::default()
        })
    };
    testing::import(channels.academics.clone(), catalog).await.expect("it is imported");
    testing::import(channels.seats.clone(), capacities).await.expect("it is imported");
    testing::import(channels.fees.clone(), [rates("RICH", 0), rates("POOR", 1)]).await.expect("it is imported");
}
