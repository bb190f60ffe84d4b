//! The fault matrix over the registration saga, with simulated participants that keep the contract: for each shape that
//! a registration can have, every case, and a crash after every event of every case that is worth one.

use futures::FutureExt as _;
use matricula_engine::Definition;
use matricula_kit::id::StudentId;
use matricula_kit::time::UnixMs;
use matricula_registration::{RegistrationRequest, saga};
use matricula_testkit::mutants::UndoesOnlyAnswered;
use matricula_testkit::simulated::Simulated;
use matricula_testkit::{Shape, World, cases, run_matrix};

const COMMAND: &str = "cargo test -p matricula-registration --test matrix";

/// The steps of a registration that adds and drops these.
fn shape(adds: &[&str], drops: &[&str]) -> Shape {
    shape_of(saga::definition(saga::VERSION_NEWEST).expect("a sound table"), adds, drops)
}

fn shape_of(definition: Definition, adds: &[&str], drops: &[&str]) -> Shape {
    let own = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
    let request =
        RegistrationRequest::try_new(StudentId::stored("ada".to_owned()), own(adds), own(drops), Vec::new(), UnixMs(0));
    let applies = saga::applies(&definition, &request.expect("within the bounds"));
    Shape::new(definition, applies)
}

#[track_caller]
fn check(shape: Shape) {
    let world = Simulated::new(shape);
    let mut all = cases::without_crash(world.shape());
    all.extend(cases::crashes(world.shape(), cases::for_crashes(world.shape())));
    let report = run_matrix(&world, all, 1).now_or_never().expect("nothing waits");
    println!("{} cases", report.runs.len());
    report.assert_holds(COMMAND);
}

#[test]
fn every_enrollment_holds() {
    check(shape(&["B"], &[]));
}

#[test]
fn every_drop_holds() {
    check(shape(&[], &["A"]));
}

#[test]
fn every_swap_holds() {
    check(shape(&["B"], &["A"]));
}

/// Registrations that began before an upgrade.
#[test]
fn every_swap_of_the_first_version_holds() {
    check(shape_of(saga::definition(1).expect("a sound table"), &["B"], &["A"]));
}

/// The matrix sees it when what has not answered is not undone.
#[test]
fn an_unanswered_step_that_is_not_undone_is_seen() {
    let world = UndoesOnlyAnswered(Simulated::new(shape(&["B"], &["A"])));
    let report = run_matrix(&world, cases::basic(world.shape()), 1).now_or_never().expect("nothing waits");
    let broken = |case, promise| assert!(report.has_broken(case, promise), "{:?}", report.broken);
    broken("cancelled at hold_seats", "hold_seats: its effect stands 1 times, not 0");
    broken("cancelled at assess_fees", "assess_fees: its effect stands 1 times, not 0");
}
