//! The service as a client sees it, over the in-memory channel.

use std::net::SocketAddr;

use common::operation_result::Outcome;
use matricula_kit::id::SagaId;
use matricula_kit::serve::{self, Limits, Listen};
use matricula_kit::testing::{self, BACKENDS, Backend, TestDatabase};
use matricula_proto::common::v1 as common;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::Channel;
use tonic_types::StatusExt as _;
use wire::enrollment_service_client::EnrollmentServiceClient;

use super::*;

type Client = EnrollmentServiceClient<Channel>;

async fn started(backend: Backend) -> (Client, TestDatabase) {
    let test = testing::empty_database(backend).await;
    let role = crate::start(test.database.clone()).await.expect("it starts");
    let listen = Listen { grpc: SocketAddr::from(([127, 0, 0, 1], 0)), http: None, limits: Limits::default() };
    let serving = serve::serve(role, listen, CancellationToken::new()).await.expect("it is served");
    (Client::new(serving.in_memory), test)
}

fn operation(saga: &str, step: &str) -> Option<common::Operation> {
    Some(common::Operation { saga_id: saga.into(), step: step.into(), ..Default::default() })
}

/// Each section is a course of its own.
fn create(saga: &str, adds: &[&str], drops: &[(&str, &str)]) -> wire::CreateEnrollmentsOperation {
    let add = |id: &&str| common::ReservedCourse {
        section_id: (*id).into(),
        course_id: format!("course-of-{id}"),
        term_id: "T1".into(),
        ..Default::default()
    };
    let drop = |(registration, id): &(&str, &str)| common::DroppedCourse {
        section_id: (*id).into(),
        course_id: "C".into(),
        registration_id: (*registration).into(),
    };
    wire::CreateEnrollmentsOperation {
        operation: operation(saga, "create_enrollments"),
        student_id: "S1".into(),
        adds: adds.iter().map(add).collect(),
        drops: drops.iter().map(drop).collect(),
        roster_row_id: String::new(),
    }
}

async fn created(client: &mut Client, operation: wire::CreateEnrollmentsOperation) -> Outcome {
    let request = wire::CreateEnrollmentsRequest { operations: vec![operation] };
    let mut results = client.create_enrollments(request).await.expect("answered").into_inner().results;
    results.pop().and_then(|result| result.outcome).expect("an outcome")
}

/// The same change set in one step.
async fn enrolled(client: &mut Client, change: wire::CreateEnrollmentsOperation) -> Outcome {
    let wire::CreateEnrollmentsOperation { operation: of, student_id, adds, drops, roster_row_id } = change;
    let operation = operation(&of.expect("a step").saga_id, "enroll");
    let operation = wire::EnrollOperation { operation, student_id, adds, drops, roster_row_id };
    let request = wire::EnrollRequest { operations: vec![operation] };
    let mut results = client.enroll(request).await.expect("answered").into_inner().results;
    results.pop().and_then(|result| result.outcome).expect("an outcome")
}

async fn committed(client: &mut Client, saga: &str) -> Outcome {
    let operation = operation(saga, "commit_enrollments");
    let operation = wire::CommitEnrollmentsOperation { operation, student_id: "S1".into() };
    let request = wire::CommitEnrollmentsRequest { operations: vec![operation] };
    let mut results = client.commit_enrollments(request).await.expect("answered").into_inner().results;
    results.pop().and_then(|result| result.outcome).expect("an outcome")
}

async fn cancelled(client: &mut Client, saga: &str) -> Outcome {
    let operation = operation(saga, "create_enrollments");
    let operation = wire::CancelEnrollmentsOperation { operation, student_id: "S1".into() };
    let request = wire::CancelEnrollmentsRequest { operations: vec![operation] };
    let mut results = client.cancel_enrollments(request).await.expect("answered").into_inner().results;
    results.pop().and_then(|result| result.outcome).expect("an outcome")
}

async fn withdrawn(client: &mut Client, saga: &str, step: &str) -> Outcome {
    let operation = operation(saga, step);
    let operation = wire::WithdrawCommitOperation { operation, student_id: "S1".into() };
    let request = wire::WithdrawCommitRequest { operations: vec![operation] };
    let mut results = client.withdraw_commit(request).await.expect("answered").into_inner().results;
    results.pop().and_then(|result| result.outcome).expect("an outcome")
}

fn is_done(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Done(_))
}

#[tokio::test]
async fn a_registration_from_create_to_ledger() {
    for backend in BACKENDS {
        let (mut client, _test) = started(backend).await;
        let [first, second, third] = [(); 3].map(|()| String::from(SagaId::generate()));
        assert!(is_done(created(&mut client, create(&first, &["A", "B"], &[])).await));
        assert!(is_done(committed(&mut client, &first).await));
        assert!(!is_done(withdrawn(&mut client, &first, "commit_enrollments").await), "it is committed");
        assert!(is_done(created(&mut client, create(&second, &["C"], &[(&first, "A")])).await));
        assert!(is_done(committed(&mut client, &second).await));
        let Outcome::Refused(refused) = created(&mut client, create(&third, &["B"], &[(&first, "A")])).await else {
            panic!("B is taken, and A is dropped");
        };
        let reasons: Vec<_> =
            refused.reasons.iter().map(|refusal| (refusal.reason(), refusal.section_id.as_str())).collect();
        assert_eq!(reasons, [(common::Reason::AlreadyEnrolled, "B"), (common::Reason::NotEnrolled, "A")]);
        assert!(is_done(withdrawn(&mut client, &third, "commit_enrollments").await));
        assert!(is_done(cancelled(&mut client, &third).await));
        assert!(!is_done(committed(&mut client, &third).await));

        let of_roster =
            wire::CreateEnrollmentsOperation { roster_row_id: "E/1".into(), ..create("taken-over", &["R"], &[]) };
        assert!(is_done(created(&mut client, of_roster).await));
        let of_roster =
            wire::CreateEnrollmentsOperation { roster_row_id: "E/1".into(), ..create("ends", &[], &[(&first, "B")]) };
        assert!(!is_done(created(&mut client, of_roster).await), "the student has registered for it");

        let mut ledger = client.export_ledger(wire::ExportLedgerRequest {}).await.expect("read").into_inner();
        let mut seen = Vec::new();
        while let Some(entry) = ledger.message().await.expect("read") {
            let row = entry.enrollment.expect("an enrollment");
            if row.section_id == "R" {
                assert_eq!((row.roster_row_id.as_str(), row.dropped_by_import), ("E/1", false));
                continue;
            }
            seen.push((row.section_id.clone(), row.status(), row.dropped_by_registration_id == second));
        }
        use common::EnrollmentStatus::{Dropped, Enrolled};
        assert_eq!(seen, [("A".into(), Dropped, true), ("B".into(), Enrolled, false), ("C".into(), Enrolled, false)]);
    }
}

#[tokio::test]
async fn a_registration_enrolls_in_one_step() {
    for backend in BACKENDS {
        let (mut client, _test) = started(backend).await;
        let [first, second, third, fourth] = [(); 4].map(|()| String::from(SagaId::generate()));
        assert!(is_done(enrolled(&mut client, create(&first, &["A", "B"], &[])).await));
        assert!(is_done(created(&mut client, create(&second, &["C"], &[(&first, "A")])).await), "by the steps before");
        let taken = create(&third, &["B", "C"], &[(&first, "A")]);
        let Outcome::Refused(refused) = enrolled(&mut client, taken).await else {
            panic!("B is taken, C is pending, and A is marked");
        };
        let reasons: Vec<_> =
            refused.reasons.iter().map(|refusal| (refusal.reason(), refusal.section_id.as_str())).collect();
        use common::Reason::{AlreadyEnrolled, NotEnrolled};
        assert_eq!(reasons, [(AlreadyEnrolled, "B"), (AlreadyEnrolled, "C"), (NotEnrolled, "A")]);
        assert!(!is_done(withdrawn(&mut client, &first, "enroll").await), "it is enrolled");
        assert!(is_done(withdrawn(&mut client, &third, "enroll").await), "it was refused");
        assert!(is_done(withdrawn(&mut client, &fourth, "enroll").await), "it never came");
        assert!(!is_done(enrolled(&mut client, create(&fourth, &["D"], &[])).await));
        let of_roster = wire::CreateEnrollmentsOperation { roster_row_id: "E/1".into(), ..create("r", &["R"], &[]) };
        assert!(is_done(enrolled(&mut client, of_roster).await));
        let request = wire::ListEnrollmentsRequest { student_id: "S1".into(), ..Default::default() };
        let listed = client.list_enrollments(request).await.expect("read").into_inner().enrollments;
        let mut rows: Vec<_> =
            listed.iter().map(|row| (row.section_id.as_str(), row.status(), row.roster_row_id.as_str())).collect();
        rows.sort_unstable();
        use common::EnrollmentStatus::{Enrolled, Pending};
        assert_eq!(rows, [("A", Enrolled, ""), ("B", Enrolled, ""), ("C", Pending, ""), ("R", Enrolled, "E/1")]);
    }
}

#[tokio::test]
async fn enrollments_are_listed_newest_first_page_by_page() {
    for backend in BACKENDS {
        let (mut client, _test) = started(backend).await;
        for number in 0..7 {
            let section = format!("X~{number}");
            assert!(is_done(created(&mut client, create(&String::from(SagaId::generate()), &[&section], &[])).await));
        }
        let (mut pages, mut seen, mut page_token) = (0, Vec::new(), String::new());
        loop {
            let request = wire::ListEnrollmentsRequest { student_id: "S1".into(), page_size: 3, page_token };
            let page = client.list_enrollments(request).await.expect("read").into_inner();
            pages += 1;
            seen.extend(page.enrollments.into_iter().map(|row| row.section_id));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!((pages, seen.join(" ").as_str()), (3, "X~6 X~5 X~4 X~3 X~2 X~1 X~0"));
        for (page_size, page_token) in [(0, "nonsense"), (0, "1~a b~c"), (-1, ""), (1_001, "")] {
            let request =
                wire::ListEnrollmentsRequest { student_id: "S1".into(), page_size, page_token: page_token.into() };
            assert_eq!(client.list_enrollments(request).await.expect_err("bounds").code(), Code::InvalidArgument);
        }
        let request =
            wire::ListEnrollmentsRequest { student_id: "nobody".into(), page_size: 0, page_token: String::new() };
        assert!(client.list_enrollments(request).await.expect("read").into_inner().enrollments.is_empty());
    }
}

#[tokio::test]
async fn what_is_out_of_bounds_is_named() {
    let (client, _test) = started(Backend::Sqlite).await;
    let check = async |operation: wire::CreateEnrollmentsOperation, field: &str| {
        let request = wire::CreateEnrollmentsRequest { operations: vec![operation] };
        let status = client.clone().create_enrollments(request).await.expect_err(field);
        let fields = status.get_error_details().bad_request().expect("a bad request").field_violations.clone();
        assert_eq!((status.code(), fields[0].field.as_str()), (Code::InvalidArgument, field));
    };
    let good = || create("r1", &["A"], &[]);
    check(wire::CreateEnrollmentsOperation { operation: None, ..good() }, "operations[0].operation").await;
    check(wire::CreateEnrollmentsOperation { student_id: String::new(), ..good() }, "operations[0].student_id").await;
    check(create("r1", &[], &[]), "operations[0].adds").await;
    check(create("r1", &["A", "A"], &[]), "operations[0].adds[1].section_id").await;
    check(create("r1", &[], &[("r0", "A"), ("r0", "A")]), "operations[0].drops[1].section_id").await;
    check(create("r1", &[], &[("", "A")]), "operations[0].drops[0].registration_id").await;
    check(create("r1", &["A"; 15], &[("r0", "B"); 6]), "operations[0].adds").await;
    let mut long = good();
    long.adds[0].component = "x".repeat(130);
    check(long, "operations[0].adds[0].component").await;
    let mut control = good();
    control.adds[0].component = "\0".into();
    check(control, "operations[0].adds[0].component").await;
    check(wire::CreateEnrollmentsOperation { roster_row_id: "a b".into(), ..good() }, "operations[0].roster_row_id")
        .await;
}
