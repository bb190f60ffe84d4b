//! The service over gRPC: bounds by field, pages, advice, and one registration from end to end.

use matricula_kit::serve::{self, Limits, Listen};
use matricula_kit::testing::{self, Backend};
use matricula_proto::academics::v1::academic_service_client::AcademicServiceClient;
use matricula_proto::common::v1::operation_result::Outcome;
use matricula_proto::common::v1::{EnrollmentStatus, Reason};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::Channel;
use tonic_types::StatusExt as _;

use super::*;

type Client = AcademicServiceClient<Channel>;

/// The service on an empty SQLite database, and what keeps it there.
async fn served() -> (Client, impl Drop) {
    let test = testing::empty_database(Backend::Sqlite).await;
    let role = crate::start(test.database.clone()).await.expect("the service starts");
    let shutdown = CancellationToken::new();
    let listen = Listen { grpc: ([127, 0, 0, 1], 0).into(), http: None, limits: Limits::default() };
    let serving = serve::serve(role, listen, shutdown.clone()).await.expect("the service is served");
    (Client::new(serving.in_memory.clone()), Kept { _test: test, shutdown })
}

struct Kept {
    _test: testing::TestDatabase,
    shutdown: CancellationToken,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn course(code: &str, prerequisites: &str) -> wire::Course {
    wire::Course {
        course_id: format!("c-{code}"),
        code: code.to_owned(),
        title: format!("Introduction to {code}"),
        credits_hundredths: 300,
        prerequisites: prerequisites.to_owned(),
        corequisites: String::new(),
    }
}

fn section(id: &str, code: &str, meetings: &str) -> wire::Section {
    wire::Section {
        section_id: id.to_owned(),
        course_id: format!("c-{code}"),
        term_id: "fall".to_owned(),
        meetings: meetings.to_owned(),
        ..wire::Section::default()
    }
}

fn catalog() -> wire::ImportCatalogRequest {
    wire::ImportCatalogRequest {
        terms: vec![wire::Term { term_id: "fall".to_owned(), title: "Fall".to_owned(), ..wire::Term::default() }],
        courses: vec![course("MATH", ""), course("PHYS", "MATH:C")],
        sections: vec![
            section("M1", "MATH", "MW 08:00-08:50"),
            section("M2", "MATH", ""),
            section("P1", "PHYS", "W 08:30-09:20"),
        ],
    }
}

fn student(id: &str) -> wire::Student {
    wire::Student { student_id: id.to_owned(), name: "Ada".to_owned(), ..wire::Student::default() }
}

async fn campus(client: &mut Client) {
    client.import_catalog(catalog()).await.expect("a sound catalogue");
    let students = vec![student("ada")];
    client.import_students(wire::ImportStudentsRequest { students }).await.expect("sound students");
}

fn reserve_request(saga: &str, adds: &[&str], drops: &[&str]) -> wire::ReserveCoursesRequest {
    let texts = |ids: &[&str]| ids.iter().map(ToString::to_string).collect();
    wire::ReserveCoursesRequest {
        operations: vec![wire::ReserveCoursesOperation {
            operation: Some(operation(saga, "reserve_courses")),
            student_id: "ada".to_owned(),
            adds: texts(adds),
            drops: texts(drops),
            submitted_at: Some(time::now().to_wire()),
        }],
    }
}

fn operation(saga: &str, step: &str) -> common::Operation {
    common::Operation { saga_id: saga.to_owned(), step: step.to_owned(), ..common::Operation::default() }
}

/// The call must be refused with `INVALID_ARGUMENT` for this field, told in its details, too.
#[track_caller]
fn check_field<T: std::fmt::Debug>(outcome: Result<T, Status>, expect: &str) {
    let status = outcome.expect_err("out of bounds");
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, expect));
    let details = status.get_details_bad_request().expect("details");
    let told = &details.field_violations[0];
    assert_eq!(format!("{}: {}", told.field, told.description), expect);
}

#[tokio::test]
async fn broken_imports_name_the_field() {
    let (mut client, _kept) = served().await;
    let mut broken = catalog();
    broken.courses[1].prerequisites = "MATH and".to_owned();
    let expect = "courses[1].prerequisites: at character 9: expected a course code or `(`, found the end";
    check_field(client.import_catalog(broken).await, expect);
    let mut broken = catalog();
    broken.courses[1].prerequisites = "CHEM".to_owned();
    check_field(client.import_catalog(broken).await, "courses[1].prerequisites: no course has the code \"CHEM\"");
    let mut broken = catalog();
    broken.sections[2].meetings = "X 08:00-09:00".to_owned();
    let expect = "sections[2].meetings: \"X 08:00-09:00\": 'X' is no day; the days are M T W R F S U";
    check_field(client.import_catalog(broken).await, expect);
    let mut broken = catalog();
    broken.sections[0].component = "lecture".to_owned();
    let expect = "sections[0].component: must be configuration/subpart, such as 1/2, got \"lecture\"";
    check_field(client.import_catalog(broken).await, expect);
    let mut broken = catalog();
    broken.sections[1].term_id = "winter".to_owned();
    check_field(client.import_catalog(broken).await, "sections[1].term_id: there is no term winter");
    let mut broken = catalog();
    broken.courses[0].credits_hundredths = -1;
    check_field(client.import_catalog(broken).await, "courses[0].credits_hundredths: must be 0 to 10000, got -1");
    let mut broken = catalog();
    broken.terms[0].title = "a\0b".to_owned();
    check_field(client.import_catalog(broken).await, "terms[0].title: must have no control characters, got '\\0'");
    let broken = wire::ImportCatalogRequest { terms: vec![wire::Term::default(); 10_001], ..Default::default() };
    check_field(client.import_catalog(broken).await, "terms: at most 10000, got 10001");
    let listed = client.list_sections(wire::ListSectionsRequest::default()).await.expect("a list").into_inner();
    assert_eq!(listed.sections, []);
}

#[tokio::test]
async fn broken_students_name_the_field() {
    let (mut client, _kept) = served().await;
    let mut import = async |student: wire::Student| {
        let students = vec![self::student("eve"), student];
        client.import_students(wire::ImportStudentsRequest { students }).await
    };
    let grade = |grade: &str| wire::CompletedCourse { course_id: "c-MATH".to_owned(), grade: grade.to_owned() };
    let hold = || wire::Hold { hold_id: "h1".to_owned(), description: "Fine".to_owned() };
    check_field(import(student("eve")).await, "students[1].student_id: eve is named twice");
    let expect = "students[1].completed[0].grade: \"E\" is no grade: A+ to D-, F, P or NP";
    check_field(import(wire::Student { completed: vec![grade("E")], ..student("ada") }).await, expect);
    let expect = "students[1].holds[1].hold_id: h1 is named twice";
    check_field(import(wire::Student { holds: vec![hold(), hold()], ..student("ada") }).await, expect);
    let early = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let expect = "students[1].appointment_end: must not be before appointment_start";
    let ada = wire::Student { appointment_start: early(2), appointment_end: early(1), ..student("ada") };
    check_field(import(ada).await, expect);
    let expect = "students[1].appointment_start: must be in the years 1 to 9999";
    check_field(import(wire::Student { appointment_start: early(i64::MAX), ..student("ada") }).await, expect);
}

#[tokio::test]
async fn bounds_of_change_sets_hold() {
    let (mut client, _kept) = served().await;
    campus(&mut client).await;
    let twice = client.reserve_courses(reserve_request("r1", &["M1", "M1"], &[])).await;
    check_field(twice, "operations[0].adds[1]: M1 is named twice");
    let both = client.reserve_courses(reserve_request("r1", &["M1"], &["M2", "M1"])).await;
    check_field(both, "operations[0].drops[1]: M1 is added, too");
    let ids: Vec<String> = (0..11).map(|number| format!("s{number}")).collect();
    let drops: Vec<String> = (11..22).map(|number| format!("s{number}")).collect();
    let ids: (Vec<&str>, Vec<&str>) =
        (ids.iter().map(String::as_str).collect(), drops.iter().map(String::as_str).collect());
    let many = client.reserve_courses(reserve_request("r1", &ids.0, &ids.1)).await;
    check_field(many, "operations[0].drops: at most 20 with the adds, got 22");
    let mut without = reserve_request("r1", &["M1"], &[]);
    without.operations[0].submitted_at = None;
    check_field(client.reserve_courses(without).await, "operations[0].submitted_at: is required");
    let mut without = reserve_request("r1", &["M1"], &[]);
    without.operations[0].operation = None;
    check_field(client.reserve_courses(without).await, "operations[0].operation: is required");
    let granting = |reason| wire::GrantOverrideRequest { student_id: "ada".to_owned(), reason, ..Default::default() };
    let fixed = client.grant_override(granting(Reason::AlreadyEnrolled as i32)).await;
    check_field(fixed, "reason: ALREADY_ENROLLED can't be overridden");
    check_field(client.grant_override(granting(99)).await, "reason: unknown reason 99");
    check_field(client.grant_override(granting(Reason::Hold as i32)).await, "granted_by: is required");
}

#[tokio::test]
async fn sections_come_in_pages() {
    let (mut client, _kept) = served().await;
    campus(&mut client).await;
    let ask = |page_size, page_token: &str, section_ids: &[&str], course_id: &str| wire::ListSectionsRequest {
        page_size,
        page_token: page_token.to_owned(),
        section_ids: section_ids.iter().map(ToString::to_string).collect(),
        course_id: course_id.to_owned(),
    };
    for (request, expect, token) in [
        (ask(0, "", &[], ""), "M1 M2 P1", ""),
        (ask(2, "", &[], ""), "M1 M2", "M2"),
        (ask(2, "M2", &[], ""), "P1", ""),
        (ask(1, "", &[], "c-MATH"), "M1", "M1"),
        (ask(1, "M1", &[], "c-MATH"), "M2", ""),
        (ask(2, "", &["P1", "M2", "M1", "NONE"], ""), "M1 M2", "M2"),
        (ask(2, "M2", &["P1", "M2", "M1", "NONE"], ""), "P1", ""),
        (ask(0, "", &["P1", "M2"], "c-PHYS"), "P1", ""),
    ] {
        let page = client.list_sections(request).await.expect("a page").into_inner();
        let ids: Vec<String> =
            page.sections.iter().map(|it| it.section.clone().expect("a section").section_id).collect();
        assert_eq!((ids.join(" ").as_str(), page.next_page_token.as_str()), (expect, token));
    }
    check_field(
        client.list_sections(ask(1_001, "", &[], "")).await,
        "page_size: must be 0 (for 100) to 1000, got 1001",
    );
}

#[tokio::test]
async fn advice_tells_every_reason_and_reserves_nothing() {
    let (mut client, _kept) = served().await;
    campus(&mut client).await;
    let ask = |student: &str, adds: &[&str]| wire::CheckEligibilityRequest {
        student_id: student.to_owned(),
        adds: adds.iter().map(ToString::to_string).collect(),
        drops: Vec::new(),
    };
    let advice = client.check_eligibility(ask("ada", &["M1", "P1"])).await.expect("advice").into_inner();
    let reasons: Vec<Reason> = advice.reasons.iter().map(common::Refusal::reason).collect();
    assert_eq!(reasons, [Reason::PrerequisiteNotMet, Reason::TimeConflict]);
    let advice = client.check_eligibility(ask("nobody", &["M1"])).await.expect("advice").into_inner();
    assert_eq!(advice.reasons[0].reason(), Reason::StudentNotFound);
    let advice = client.check_eligibility(ask("ada", &["M1"])).await.expect("advice").into_inner();
    assert_eq!(advice.reasons, []);
    assert!(advice.as_of.is_some());
}

#[tokio::test]
async fn a_registration_from_end_to_end() {
    let (mut client, _kept) = served().await;
    campus(&mut client).await;
    let answer = client.reserve_courses(reserve_request("r1", &["M1"], &[])).await.expect("an answer").into_inner();
    let Some(Outcome::Done(done)) = &answer.results[0].outcome else { panic!("{answer:?}") };
    assert_eq!((done.added[0].section_id.as_str(), done.added[0].credits_hundredths), ("M1", 300));

    let waits = client.reserve_courses(reserve_request("r2", &[], &["M1"])).await.expect("an answer").into_inner();
    let Some(Outcome::Error(error)) = &waits.results[0].outcome else { panic!("{waits:?}") };
    assert_eq!((error.code, error.reason.as_str()), (Code::Aborted as i32, "EARLIER_REGISTRATION_PENDING"));
    assert!(error.retry_after_ms > 0);
    assert_eq!(error.waits_for_saga_id, "r1", "it says for whom it waits");

    let operation = wire::SettleCoursesOperation {
        operation: Some(operation("r1", "settle_courses")),
        student_id: "ada".to_owned(),
    };
    client.settle_courses(wire::SettleCoursesRequest { operations: vec![operation] }).await.expect("settled");
    let refused = client.reserve_courses(reserve_request("r3", &["P1"], &[])).await.expect("an answer").into_inner();
    let Some(Outcome::Refused(refused)) = &refused.results[0].outcome else { panic!("{refused:?}") };
    assert_eq!(refused.reasons[0].reason(), Reason::TimeConflict);
    assert!(refused.reasons[0].overridable);

    let override_request = wire::GrantOverrideRequest {
        student_id: "ada".to_owned(),
        reason: Reason::TimeConflict as i32,
        granted_by: "dean".to_owned(),
        justification: "one of them is recorded".to_owned(),
        ..Default::default()
    };
    let granted = client.grant_override(override_request).await.expect("granted").into_inner();
    let passed = client.reserve_courses(reserve_request("r4", &["P1"], &[])).await.expect("an answer").into_inner();
    assert!(matches!(passed.results[0].outcome, Some(Outcome::Done(_))), "{passed:?}");
    let operation = wire::RemoveCoursesOperation {
        operation: Some(self::operation("r4", "reserve_courses")),
        student_id: "ada".to_owned(),
    };
    client.remove_courses(wire::RemoveCoursesRequest { operations: vec![operation] }).await.expect("removed");

    let ask = wire::GetAcademicRecordRequest { student_id: "ada".to_owned() };
    let record = client.get_academic_record(ask).await.expect("a record").into_inner();
    let courses: Vec<(&str, EnrollmentStatus)> =
        record.courses.iter().map(|course| (course.section_id.as_str(), course.status())).collect();
    assert_eq!(courses, [("P1", EnrollmentStatus::Cancelled), ("M1", EnrollmentStatus::Enrolled)]);
    assert_eq!(record.overrides, [granted.r#override.expect("the override")]);

    let mut ledger = client.export_ledger(wire::ExportLedgerRequest {}).await.expect("a ledger").into_inner();
    let mut entries = 0;
    while ledger.message().await.expect("an entry").is_some() {
        entries += 1;
    }
    assert_eq!(entries, 3);

    let ask = wire::GetAcademicRecordRequest { student_id: "nobody".to_owned() };
    assert_eq!(client.get_academic_record(ask).await.expect_err("not there").code(), Code::NotFound);
}
