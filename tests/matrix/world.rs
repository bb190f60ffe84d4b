//! The services as a world of the matrix: a student and sections of its own for each case.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::future::join_all;
use matricula_engine::{CallAnswer, Direction, Recorded, SagaState};
use matricula_kit::id::StudentId;
use matricula_kit::telemetry::TraceContext;
use matricula_kit::testing;
use matricula_kit::time::{self, UnixMs};
use matricula_proto::common::v1::Money;
use matricula_proto::imports::v1::import_row::Row;
use matricula_proto::ops::v1::ExportLedgerResponse;
use matricula_proto::{academics, fees, seats};
use matricula_registration::saga::{self, step};
use matricula_registration::{Channels, RegistrationRequest, Registrations};
use matricula_runtime::{Call as WireCall, SagaId};
use matricula_testkit::{Call, Case, Effects, Run, Shape, World, run};
use tokio::sync::Mutex;

use crate::batches::Batches;
use crate::ledgers;
use crate::services::Services;

/// Which registrations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// One section to add.
    Enroll,
    /// One section to drop.
    Drop,
    /// One to add, and one to drop.
    Swap,
}

/// Registrations of one kind over the services.
pub struct Campus {
    shape: Shape,
    change: Change,
    services: Arc<Services>,
    batches: Arc<Batches>,
    /// So many cases have been prepared: each has a number.
    cases: AtomicUsize,
    /// The registrations that enrolled students in what a case drops, for the audit.
    earlier: Mutex<Vec<Run<Subject>>>,
}

/// The registration of a case.
#[derive(Debug)]
pub struct Subject {
    pub saga: SagaId,
    pub request: Arc<RegistrationRequest>,
    refusing: Vec<&'static str>,
    /// The registration that added what this one drops.
    earlier: Option<SagaId>,
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
        Self { saga: matricula_runtime::new_saga_id(), request, refusing: Vec::new(), earlier: None }
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
        let registrations = Registrations::try_new(services.channels.clone()).expect("a sound table");
        let batches = Arc::new(Batches::new(registrations));
        Self::with(change, services, batches, 0)
    }

    fn with(change: Change, services: Arc<Services>, batches: Arc<Batches>, cases: usize) -> Self {
        let adds = change.adds().then(|| "a".to_owned());
        let any = Subject::new(0, adds, change.drops().then(|| "d".to_owned()));
        let shape = Shape::new(saga::definition().expect("a sound table"), saga::applies(&any.request));
        Self { shape, change, services, batches, cases: AtomicUsize::new(cases), earlier: Mutex::default() }
    }

    pub fn services(&self) -> &Services {
        &self.services
    }

    /// Proves the invariants over everything that these runs and the earlier ones left in the services.
    pub async fn audit(&self, runs: &[Run<Subject>]) -> matricula_audit::Report {
        let earlier = self.earlier.lock().await;
        let all = earlier.iter().chain(runs);
        let export = |run: &Run<Subject>| ledgers::registration(run.subject.saga, &run.subject.request, &run.state);
        let registrations: Vec<ExportLedgerResponse> = all.map(export).collect();
        ledgers::prove(ledgers::read(&self.services.channels).await, registrations)
    }

    /// Makes an operation of a subject arrive.
    async fn send(&self, subject: &Subject, call: &Call) -> CallAnswer {
        let Call { step, name, direction, attempt, state } = call.clone();
        let (saga, request) = (subject.saga, subject.request.clone());
        let (trace, owner_alive_at) = (TraceContext::default(), time::now());
        let call = WireCall { saga, step, step_name: name, direction, attempt, request, state, trace, owner_alive_at };
        self.batches.call(call).await
    }

    /// Undoes the creation of enrollments that never comes, or that came: what comes after it is refused.
    async fn cancel_enrollments(&self, subject: &Subject) {
        let def = self.shape.definition();
        let first = Recorded::first(0, def.admit(self.shape.applies(), 0));
        let state = Arc::new(SagaState::replay(def, [&first]).expect("an admission"));
        let (step, name) = (def.index(step::CREATE_ENROLLMENTS).expect("a step"), step::CREATE_ENROLLMENTS);
        let undo = Call { step, name, direction: Direction::Compensation, attempt: 1, state };
        assert!(matches!(self.send(subject, &undo).await, CallAnswer::Done(_)));
    }

    /// Enrolls each student in what its case drops.
    async fn enroll_first(&self, numbers: std::ops::Range<usize>) -> Vec<Option<SagaId>> {
        if !self.change.drops() {
            return numbers.map(|_| None).collect();
        }
        let first = Self::with(Change::Enroll, self.services.clone(), self.batches.clone(), 0);
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
            let subject = Subject { refusing, earlier, ..Subject::new(number, adds, drops) };
            if subject.refusing.contains(&step::CREATE_ENROLLMENTS) {
                self.cancel_enrollments(&subject).await;
            }
            subjects.push(subject);
        }
        subjects
    }

    async fn call(&self, subject: &Subject, call: &Call) -> CallAnswer {
        if call.name == step::COMMIT_ENROLLMENTS && subject.refusing.contains(&step::COMMIT_ENROLLMENTS) {
            self.cancel_enrollments(subject).await;
        }
        self.send(subject, call).await
    }

    async fn effects(&self, subjects: &[&Subject]) -> Vec<Effects> {
        let ledgers = ledgers::read(&self.services.channels).await;
        let traces = ledgers::Traces::of(&ledgers);
        let adds = self.change.adds();
        subjects.iter().map(|subject| traces.effects(subject.saga, subject.earlier, adds)).collect()
    }
}

/// A student for each case, with a section to drop and one to add, made such that what is to refuse refuses: too late to
/// drop and no permission to add, no seat, no credit.
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
