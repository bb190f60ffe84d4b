//! Breaks each promise once. The matrix must detect it; otherwise it proves nothing.

use async_trait::async_trait;
use futures::FutureExt as _;
use matricula_engine::{CallAnswer, Direction};
use matricula_testkit::mutants::UndoesOnlyAnswered;
use matricula_testkit::simulated::{Simulated, Subject};
use matricula_testkit::{Call, Case, Effects, Shape, World, cases, run_matrix};

use crate::shapes;

/// The broken promise.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Broken {
    /// The barrier rows are lost before each call.
    Barrier,
    /// A repeat gets another answer.
    SameAnswer,
    /// An undo undoes nothing.
    Undo,
    /// A finalizer is left out.
    Finalizer,
    /// A refusal is recorded as done.
    Refusal,
}

struct Mutant(Simulated, Broken);

#[async_trait]
impl World for Mutant {
    type Subject = Subject;

    fn shape(&self) -> &Shape {
        self.0.shape()
    }

    async fn prepare(&self, cases: &[Case]) -> Vec<Subject> {
        self.0.prepare(cases).await
    }

    async fn call(&self, subject: &Subject, call: &Call) -> CallAnswer {
        let Self(world, broken) = self;
        let done = || CallAnswer::Done(format!("{} is done", call.name));
        match (broken, call.direction) {
            (Broken::Barrier, _) => world.forget(subject),
            (Broken::Undo, Direction::Compensation) => return done(),
            (Broken::Finalizer, _) if call.name == "notify" => return done(),
            _ => {}
        }
        match (broken, world.call(subject, call).await) {
            (Broken::SameAnswer, CallAnswer::Done(_)) => CallAnswer::Done(format!("at attempt {}", call.attempt)),
            (Broken::Refusal, CallAnswer::Refused(_)) => done(),
            (_, answer) => answer,
        }
    }

    async fn effects(&self, subjects: &[&Subject]) -> Vec<Effects> {
        self.0.effects(subjects).await
    }
}

fn simulated() -> Simulated {
    Simulated::new(Shape::whole(shapes::registration()))
}

/// Checks that the matrix over the world reports that the case broke the promise.
#[track_caller]
fn check(world: &impl World, case: &str, promise: &str) {
    let cases = cases::without_crash(world.shape());
    let report = run_matrix(world, cases, 1).now_or_never().expect("nothing waits");
    assert!(report.has_broken(case, promise), "{:?}", report.broken.iter().find(|broken| broken.case == case));
}

#[test]
fn without_the_barrier() {
    let world = Mutant(simulated(), Broken::Barrier);
    check(&world, "hold delivered 3 times", "hold: its effect stands 3 times, not 1");
    check(&world, "notify done, its answer lost", "notify: its effect stands 2 times, not 1");
    check(&world, "hold delivered after the end; cancelled at hold", "hold: came after its undo, and was done");
    check(&world, "hold delivered after the end; cancelled at hold", "hold: its effect stands 1 times, not 0");
}

#[test]
fn without_the_same_answer() {
    check(&Mutant(simulated(), Broken::SameAnswer), "commit done, its answer lost", "answered Done");
}

#[test]
fn without_an_undo() {
    let world = Mutant(simulated(), Broken::Undo);
    check(&world, "commit refused", "assess: its effect stands 1 times, not 0");
}

#[test]
fn without_the_finalizer() {
    check(&Mutant(simulated(), Broken::Finalizer), "hold refused", "notify: its effect stands 0 times, not 1");
}

#[test]
fn without_the_refusal() {
    let world = Mutant(simulated(), Broken::Refusal);
    check(&world, "hold refused", "its outcome is committed, not refused");
    check(&world, "create refused; assess refused", "it has the reasons of []");
}

/// The compensation of unanswered steps.
#[test]
fn without_the_undo_of_what_has_not_answered() {
    let world = UndoesOnlyAnswered(simulated());
    check(&world, "cancelled at hold", "hold: its effect stands 1 times, not 0");
    check(&world, "reserve done, its answer lost for ever", "reserve: its effect stands 1 times, not 0");
}

/// A complaint names the case, says what broke, shows the log and how to run the case alone.
#[test]
fn a_complaint_can_be_followed() {
    let world = Mutant(simulated(), Broken::Undo);
    let case = cases::basic(world.shape()).into_iter().find(|case| case.name == "hold refused").expect("it is there");
    let report = run_matrix(&world, vec![case], 1).now_or_never().expect("nothing waits");
    let complaint = report.complaint("cargo test").expect("it is broken");
    for part in [
        "1 of 1 cases broke a promise",
        "\nhold refused\n",
        "reserve: its effect stands 1 times, not 0",
        "    3 hold refused: hold says no\n",
        "MATRICULA_CASE='hold refused' cargo test",
    ] {
        assert!(complaint.contains(part), "{part:?} is not in:\n{complaint}");
    }
}
