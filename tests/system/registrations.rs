//! One registration at a time: outcomes, keys, refusals, and operators' views of them.

use std::collections::HashSet;

use matricula_kit::testing::{BACKENDS, Backend};
use matricula_proto::common::v1::Reason;
use matricula_proto::ops::v1 as ops;
use matricula_proto::registration::v1::Outcome;
use matricula_proto::registration::v1::registration_service_client::RegistrationServiceClient;
use matricula_proto::seats::v1 as seats;

use crate::campus::bundle;
use matricula_harness::{System, submission, submit};

fn reasons(registration: &matricula_proto::registration::v1::Registration) -> Vec<(Reason, &str)> {
    registration.reasons.iter().map(|reason| (reason.reason(), reason.conflicts_with.as_str())).collect()
}

#[tokio::test]
async fn adds_drops_swaps_and_refusals() {
    let system = System::up();
    system.import(&bundle(&[("A", 1, "MW 09:00-09:50"), ("B", 5, "M 09:30-10:20"), ("C", 5, "T 09:00-09:50")], 2));
    let portal = system.channel("orchestrator").await;

    let enrolled = submit(&portal, submission("S1", "k1", &["A"], &[])).await;
    assert_eq!(enrolled.outcome(), Outcome::Enrolled);
    let full = submit(&portal, submission("S2", "k1", &["A", "C"], &[])).await;
    assert_eq!(full.outcome(), Outcome::Refused);
    assert_eq!(reasons(&full), [(Reason::ClosedSection, "")]);
    assert!(full.reasons[0].closed_at.is_some(), "it says when the last seat went");
    // A time conflict names the section; a section that is dropped in the same change set does not count.
    let clash = submit(&portal, submission("S1", "k2", &["B"], &[])).await;
    assert_eq!(reasons(&clash), [(Reason::TimeConflict, "A")]);
    let swap = submit(&portal, submission("S1", "k3", &["B"], &["A"])).await;
    assert_eq!(swap.outcome(), Outcome::Enrolled, "{swap:?}");
    let taken = submit(&portal, submission("S2", "k2", &["A", "C"], &[])).await;
    assert_eq!(taken.outcome(), Outcome::Enrolled, "the swapped seat is free again: {taken:?}");
    // A refused swap keeps the old seat.
    let kept = submit(&portal, submission("S1", "k4", &["A"], &["B"])).await;
    assert_eq!(reasons(&kept), [(Reason::ClosedSection, "")]);
    let dropped = submit(&portal, submission("S1", "k5", &[], &["B"])).await;
    assert_eq!(dropped.outcome(), Outcome::Enrolled);
    system.audit();
}

#[tokio::test]
async fn a_double_click_from_fifty_connections_is_one_registration() {
    let system = System::up();
    system.import(&bundle(&[("A", 10, "")], 1));
    let mut clicks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let channel = system.channel("orchestrator").await;
        clicks.spawn(async move { submit(&channel, submission("S1", "the-same", &["A"], &[])).await });
    }
    let answers = clicks.join_all().await;
    let ids: HashSet<&str> = answers.iter().map(|answer| answer.registration_id.as_str()).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert!(answers.iter().all(|answer| answer.outcome() == Outcome::Enrolled), "{answers:?}");
    let portal = system.channel("orchestrator").await;
    let mut client = RegistrationServiceClient::new(portal);
    let other = client.submit_registration(submission("S1", "the-same", &["B"], &[])).await;
    assert_eq!(other.expect_err("the key is taken").code(), tonic::Code::AlreadyExists);
    system.audit();
}

#[tokio::test]
async fn five_hundred_students_for_ten_seats() {
    for backend in BACKENDS {
        let system = match backend {
            Backend::Sqlite => System::up(),
            Backend::Postgres => System::separate(backend, &[]).await,
        };
        system.import(&bundle(&[("A", 10, "")], 500));
        let portal = system.channel("orchestrator").await;
        let mut clicks = tokio::task::JoinSet::new();
        for student in 1..=500 {
            let portal = portal.clone();
            clicks.spawn(async move { submit(&portal, submission(&format!("S{student}"), "k", &["A"], &[])).await });
        }
        let answers = clicks.join_all().await;
        let enrolled = answers.iter().filter(|answer| answer.outcome() == Outcome::Enrolled).count();
        let closed = answers.iter().filter(|answer| reasons(answer) == [(Reason::ClosedSection, "")]).count();
        assert_eq!((enrolled, closed), (10, 490), "{backend:?}");
        system.audit();
    }
}

#[tokio::test]
async fn a_refused_fee_gives_the_seat_back_and_shows_why() {
    let mut campus = bundle(&[("A", 3, "")], 1);
    campus.terms[0].rates = Some(matricula_campus::Rates {
        currency: matricula_campus::Currency::USD,
        per_credit_minor: 45_000,
        refund_ladder: Vec::new(),
        balance_limit_minor: Some(100_000),
    });
    let system = System::up();
    system.import(&campus);
    let portal = system.channel("orchestrator").await;
    let refused = submit(&portal, submission("S1", "k", &["A"], &[])).await;
    assert_eq!(reasons(&refused), [(Reason::BalanceLimitExceeded, "")]);

    let mut seat_service = seats::seat_service_client::SeatServiceClient::new(system.channel("seats").await);
    let request = seats::GetSectionsRequest { section_ids: vec!["A".to_owned()] };
    let section = seat_service.get_sections(request).await.expect("an answer").into_inner().sections.remove(0);
    assert_eq!(section.taken, 0, "the seat was given back");

    let mut operators = ops::saga_service_client::SagaServiceClient::new(portal);
    let request = ops::GetSagaRequest { saga_id: refused.registration_id.clone() };
    let saga = operators.get_saga(request).await.expect("the saga is shown").into_inner();
    let undone: Vec<&str> = saga
        .steps
        .iter()
        .filter(|step| step.undo.as_ref().is_some_and(|undo| undo.status() == ops::LegStatus::Done))
        .map(|step| step.name.as_str())
        .collect();
    assert_eq!(undone, ["reserve_courses", "hold_seats"]);

    let tree = system.done(&["saga", "show", &refused.registration_id]);
    for part in ["assess_fees", "ReleaseSeats", "BALANCE_LIMIT_EXCEEDED"] {
        assert!(tree.contains(part), "{part} is missing in:\n{tree}");
    }
    system.audit();
}

#[tokio::test]
async fn an_orderly_stop_and_a_restart_keep_answers() {
    let mut system = System::up();
    system.import(&bundle(&[("A", 3, "")], 2));
    let portal = system.channel("orchestrator").await;
    let first = submit(&portal, submission("S1", "k", &["A"], &[])).await;
    drop(portal);
    assert_eq!(system.terminate("up"), Some(0));
    system.restart("up");
    let portal = system.channel("orchestrator").await;
    let again = submit(&portal, submission("S1", "k", &["A"], &[])).await;
    assert_eq!(again.registration_id, first.registration_id);
    assert_eq!(again.outcome(), Outcome::Enrolled);
    system.audit();
}
