//! A guard is removed from outside: the matrix with the real services must detect that.

use std::sync::Arc;

use async_trait::async_trait;
use matricula_engine::CallAnswer;
use matricula_kit::testing::BACKENDS;
use matricula_registration::saga::step;
use matricula_testkit::mutants::UndoesOnlyAnswered;
use matricula_testkit::{Call, Case, Effects, Shape, World, cases, run_matrix};

use crate::services::Services;
use crate::world::{Campus, Change, Subject};

/// Services whose barriers are purged of a saga before each of its calls.
struct WithoutBarrier(Campus);

#[async_trait]
impl World for WithoutBarrier {
    type Subject = Subject;

    fn shape(&self) -> &Shape {
        self.0.shape()
    }

    async fn prepare(&self, cases: &[Case]) -> Vec<Subject> {
        self.0.prepare(cases).await
    }

    async fn call(&self, subject: &Subject, call: &Call) -> CallAnswer {
        let service = self.shape().definition().step(call.step).destination;
        self.0.services().forget(service, &subject.saga.to_string()).await;
        self.0.call(subject, call).await
    }

    async fn effects(&self, subjects: &[&Subject]) -> Vec<Effects> {
        self.0.effects(subjects).await
    }
}

/// Cases in which only the barrier of the step prevents a second effect of a repeated or late call, with the violation
/// that the matrix must report.
const SEEN: [(&str, &str); 9] = [
    ("hold_seats delivered 3 times", "hold_seats: answered Done"),
    ("hold_seats delivered 3 times", "its outcome is refused, not committed"),
    ("assess_fees delivered 3 times", "assess_fees: answered Done"),
    ("enroll delivered 3 times", "enroll: answered Done"),
    ("enroll delivered 3 times", "its outcome is refused, not committed"),
    (
        "cancelled at assess_fees; undo of assess_fees delivered 3 times",
        "assess_fees: its effect stands 1 times, not 0",
    ),
    ("hold_seats delivered after the end; cancelled at hold_seats", "hold_seats: came after its undo, and was done"),
    ("hold_seats delivered after the end; cancelled at hold_seats", "hold_seats: its effect stands 1 times, not 0"),
    ("assess_fees delivered after the end; cancelled at assess_fees", "assess_fees: came after its undo, and was done"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_barrier_is_seen() {
    for backend in BACKENDS {
        let world = WithoutBarrier(Campus::new(Change::Swap, Arc::new(Services::start(backend).await)));
        let cases = cases::repeats(world.shape()).into_iter().chain(cases::late(world.shape()));
        let cases = cases.filter(|case| SEEN.iter().any(|(seen, _)| *seen == case.name)).collect();
        let report = run_matrix(&world, cases, 1).await;
        for (case, promise) in SEEN {
            assert!(report.has_broken(case, promise), "{backend:?}, {case}: {:#?}", report.broken);
        }
        let audit = world.0.audit(&report.runs).await;
        let left_behind = audit.invariants.iter().find(|verdict| verdict.title == "nothing left behind");
        assert!(left_behind.is_some_and(|verdict| !verdict.holds()), "{backend:?}: {audit:#?}");
    }
}

/// The compensation of unanswered steps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unanswered_step_that_is_not_undone_is_seen() {
    for backend in BACKENDS {
        let world = Campus::new(Change::Swap, Arc::new(Services::start(backend).await));
        let world = UndoesOnlyAnswered(world);
        let report = run_matrix(&world, cases::basic(world.shape()), 1_000).await;
        for step in [step::RESERVE_COURSES, step::HOLD_SEATS, step::ASSESS_FEES] {
            let (case, promise) = (format!("cancelled at {step}"), format!("{step}: its effect stands 1 times, not 0"));
            assert!(report.has_broken(&case, &promise), "{backend:?}: {case}: {:#?}", report.broken);
        }
        let audit = world.0.audit(&report.runs).await;
        assert!(!audit.holds(), "{backend:?}: the audit sees nothing");
    }
}
