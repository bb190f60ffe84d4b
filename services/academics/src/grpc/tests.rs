//! The service over gRPC: bounds by field, pages, advice, and one registration from end to end.

use jiff::tz::TimeZone;
use matricula_kit::serve::{self, Limits, Listen};
use matricula_kit::testing::{self, Backend};
use matricula_proto::academics::v1::academic_service_client::AcademicServiceClient;
use matricula_proto::common::v1::operation_result::Outcome;
use matricula_proto::common::v1::{EnrollmentStatus, Reason, Source as WireSource};
use matricula_proto::imports::v1::import_row::Row;
use matricula_proto::imports::v1::import_service_client::ImportServiceClient;
use matricula_proto::imports::v1::{ApplyImportRequest, ImportRow, ReadImportedRequest, StageRowsRequest};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::Channel;
use tonic_types::StatusExt as _;

use super::*;

type Client = AcademicServiceClient<Channel>;

/// The service on an empty SQLite database, and what keeps it there.
async fn served() -> (Client, Kept) {
    let test = testing::empty_database(Backend::Sqlite).await;
    let role = crate::start(test.database.clone(), TimeZone::UTC).await.expect("the service starts");
    let shutdown = CancellationToken::new();
    let listen = Listen { grpc: ([127, 0, 0, 1], 0).into(), http: None, limits: Limits::default() };
    let serving = serve::serve(role, listen, shutdown.clone()).await.expect("the service is served");
    let imports = ImportServiceClient::new(serving.in_memory.clone());
    (Client::new(serving.in_memory.clone()), Kept { imports, _test: test, shutdown })
}

struct Kept {
    imports: ImportServiceClient<Channel>,
    _test: testing::TestDatabase,
    shutdown: CancellationToken,
}

impl Kept {
    /// Imports a campus of three sections, and Ada.
    async fn campus(&self) {
        let rows = vec![
            row(Row::Term(wire::Term { term_id: "fall".to_owned(), title: "Fall".to_owned(), ..Default::default() })),
            row(Row::Course(course("MATH", ""))),
            row(Row::Course(course("PHYS", "MATH:C"))),
            row(Row::Section(section("M1", "MATH", "MW 08:00-08:50"))),
            row(Row::Section(section("M2", "MATH", ""))),
            row(Row::Section(section("P1", "PHYS", "W 08:30-09:20"))),
            row(Row::Student(student("ada"))),
        ];
        self.import(rows).await.expect("a sound campus");
    }

    /// Plans, stages and applies an import of these rows.
    async fn import(&self, rows: Vec<ImportRow>) -> Result<(), Status> {
        let base_version = self.read().await.0;
        let mut imports = self.imports.clone();
        let import_id = format!("import-{base_version}");
        imports.stage_rows(StageRowsRequest { import_id: import_id.clone(), part: 0, rows }).await?;
        imports.apply_import(ApplyImportRequest { import_id, parts: 1, base_version }).await.map(drop)
    }

    async fn read(&self) -> (i64, Vec<ImportRow>) {
        let mut messages =
            self.imports.clone().read_imported(ReadImportedRequest {}).await.expect("a reading").into_inner();
        let (mut version, mut rows) = (None, Vec::new());
        while let Some(message) = messages.message().await.expect("a message") {
            version = Some(message.version);
            rows.extend(message.rows);
        }
        (version.expect("at least one message"), rows)
    }
}

fn row(row: Row) -> ImportRow {
    ImportRow { row: Some(row) }
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
        ..wire::Course::default()
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

fn student(id: &str) -> wire::Student {
    wire::Student { student_id: id.to_owned(), name: "Ada".to_owned(), ..wire::Student::default() }
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
            of_roster: false,
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
async fn bounds_of_change_sets_hold() {
    let (mut client, kept) = served().await;
    kept.campus().await;
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
    let (mut client, kept) = served().await;
    kept.campus().await;
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
    let (mut client, kept) = served().await;
    kept.campus().await;
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
    let (mut client, kept) = served().await;
    kept.campus().await;
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
    let completed =
        wire::CompletedCourse { course_id: "c-MATH".to_owned(), grade: "C".to_owned(), ..Default::default() };
    let graded = wire::Student { completed: vec![completed], ..student("ada") };
    kept.import(vec![row(Row::Student(graded))]).await.expect("a grade");
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
    assert_eq!(record.overrides[0].source(), WireSource::Staff);

    let mut ledger = client.export_ledger(wire::ExportLedgerRequest {}).await.expect("a ledger").into_inner();
    let mut entries = 0;
    while ledger.message().await.expect("an entry").is_some() {
        entries += 1;
    }
    assert_eq!(entries, 3);

    let ask = wire::GetAcademicRecordRequest { student_id: "nobody".to_owned() };
    assert_eq!(client.get_academic_record(ask).await.expect_err("not there").code(), Code::NotFound);
}

/// An import over the wire: what was read, changed and applied is what is read next, and the record shows whose a hold
/// is.
#[tokio::test]
async fn an_import_from_end_to_end() {
    let (mut client, kept) = served().await;
    kept.campus().await;
    let (version, rows) = kept.read().await;
    assert_eq!((version, rows.len()), (1, 7));
    let source = WireSource::Bundle as i32;
    let hold = |id: &str| wire::Hold { hold_id: id.to_owned(), description: "Fine".to_owned(), source };
    let ada = row(Row::Student(wire::Student { holds: vec![hold("h1")], closed: true, ..student("ada") }));
    kept.import(vec![ada.clone()]).await.expect("applied");
    let set = wire::SetHoldRequest { student_id: "ada".to_owned(), hold: Some(hold("h2")), ..Default::default() };
    client.set_hold(set).await.expect("set");
    let (version, rows) = kept.read().await;
    assert_eq!((version, rows.last()), (2, Some(&ada)), "the hold of staff is no part of it");

    let ask = || wire::GetAcademicRecordRequest { student_id: "ada".to_owned() };
    let record = client.get_academic_record(ask()).await.expect("a closed student keeps her record").into_inner();
    let shown = record.student.expect("a student");
    let holds: Vec<(&str, WireSource)> =
        shown.holds.iter().map(|hold| (hold.hold_id.as_str(), hold.source())).collect();
    assert_eq!(holds, [("h1", WireSource::Bundle), ("h2", WireSource::Staff)]);
    assert!(shown.closed);

    let broken = wire::Section { term_id: "winter".to_owned(), ..section("M3", "MATH", "") };
    let rows = vec![row(Row::Section(broken)), row(Row::Student(student("eve")))];
    let refused = kept.import(rows).await.expect_err("a row would leave the catalogue broken");
    let told = (refused.code(), refused.message());
    assert_eq!(told, (Code::FailedPrecondition, "sections[M3].term_id: there is no term winter"));
    let ask = wire::GetAcademicRecordRequest { student_id: "eve".to_owned() };
    assert_eq!(client.get_academic_record(ask).await.expect_err("nothing was applied").code(), Code::NotFound);
}
