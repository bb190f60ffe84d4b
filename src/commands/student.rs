//! `matricula student`: a student's record, collected from the services that own its parts.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use matricula_proto::academics::v1::academic_service_client::AcademicServiceClient;
use matricula_proto::academics::v1::{
    CompletedCourse, GetAcademicRecordRequest, GetAcademicRecordResponse, RecordedCourse, Student as Profile,
};
use matricula_proto::common::v1::{EnrollmentStatus, Money};
use matricula_proto::fees::v1::GetAccountRequest;
use matricula_proto::fees::v1::fee_service_client::FeeServiceClient;
use matricula_proto::registration::v1::registration_service_client::RegistrationServiceClient;
use matricula_proto::registration::v1::{ListRegistrationsRequest, Registration};
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::arguments::{Format, Student};
use crate::clients::{MESSAGE_BYTES_MAX, answered, connect};
use crate::commands::{hold, overrides, registration};
use crate::config::Config;
use crate::output::{self, NONE, enum_name, moment, moment_or_none, or_none, text};

/// Number of the latest registrations that are shown.
const REGISTRATIONS_SHOWN: i32 = 10;

/// Runs a subcommand of `student`.
pub async fn run(config: &Config, command: Student, format: Format) -> anyhow::Result<ExitCode> {
    let Student::Show { student } = command;
    let academics = academics(config).await?;
    let known = StudentRecord {
        record: record(academics, &student).await?,
        registrations: or_warning(registrations(config, &student).await, "the registrations are omitted"),
        balance: or_warning(balance(config, &student).await, "the balance is omitted"),
    };
    output::show(format, || shown(&known), || to_json(&known))?;
    Ok(ExitCode::SUCCESS)
}

/// A student's record; a part is `None` when its service did not answer.
struct StudentRecord {
    record: GetAcademicRecordResponse,
    registrations: Option<Vec<Registration>>,
    balance: Option<Money>,
}

/// The academic service, which keeps students, holds and overrides.
pub type Academics = AcademicServiceClient<Channel>;

/// Connects to the academic service.
pub async fn academics(config: &Config) -> anyhow::Result<Academics> {
    let channel = connect(&config.orchestrator.academics_url).await.context("the academic service")?;
    Ok(Academics::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX))
}

/// The academic service's record of a student.
pub async fn record(mut academics: Academics, student: &str) -> anyhow::Result<GetAcademicRecordResponse> {
    let request = GetAcademicRecordRequest { student_id: student.to_owned() };
    answered(academics.get_academic_record(request)).await
}

async fn registrations(config: &Config, student: &str) -> anyhow::Result<Vec<Registration>> {
    let channel = connect(&config.client.orchestrator_url).await.context("the orchestrator")?;
    let mut client = RegistrationServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let request = ListRegistrationsRequest {
        student_id: student.to_owned(),
        page_size: REGISTRATIONS_SHOWN,
        ..ListRegistrationsRequest::default()
    };
    Ok(answered(client.list_registrations(request)).await?.registrations)
}

async fn balance(config: &Config, student: &str) -> anyhow::Result<Money> {
    let channel = connect(&config.orchestrator.fees_url).await.context("the fee service")?;
    let request = GetAccountRequest { student_id: student.to_owned() };
    let mut client = FeeServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    Ok(answered(client.get_account(request)).await?.balance.unwrap_or_default())
}

/// The part, or a warning on stderr that it is missing.
fn or_warning<T>(part: anyhow::Result<T>, missing: &str) -> Option<T> {
    part.inspect_err(|error| eprintln!("{missing}: {error:#}")).ok()
}

/// A student for people.
fn shown(known: &StudentRecord) -> String {
    let unknown = Profile::default();
    let GetAcademicRecordResponse { student, courses, overrides } = &known.record;
    let student = student.as_ref().unwrap_or(&unknown);
    let mut text = format!("{}  {}\n", student.student_id, if student.name.is_empty() { NONE } else { &student.name });
    let mut line = |name: &str, value: String| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {name:<13} {value}");
    };
    if student.closed {
        line(
            "closed",
            "an import closed the student: new registrations are refused until an import opens it again".to_owned(),
        );
    }
    let spans = [
        ("active", student.active_from, student.active_until),
        ("appointment", student.appointment_start, student.appointment_end),
    ];
    for (name, from, until) in spans.iter().filter(|(_, from, until)| from.is_some() || until.is_some()) {
        line(name, format!("{} to {}", moment_or_none(from.as_ref()), moment_or_none(until.as_ref())));
    }
    if student.max_credits_hundredths > 0 {
        line("credits", format!("at most {}", credits(student.max_credits_hundredths)));
    }
    line("balance", known.balance.as_ref().map_or_else(|| "unknown".to_owned(), registration::amount));
    let mut part = |title: &str, is_empty: bool, table: &dyn Fn() -> String| {
        let _ = match is_empty {
            true => writeln!(text, "\n{title}: none"),
            false => writeln!(text, "\n{title}\n{}", table()),
        };
    };
    part("Holds", student.holds.is_empty(), &|| hold::shown(&student.holds));
    part("Overrides", overrides.is_empty(), &|| overrides::shown(overrides));
    part("Courses of registrations", courses.is_empty(), &|| courses_shown(courses));
    part("Completed", student.completed.is_empty(), &|| completed_shown(&student.completed));
    match &known.registrations {
        Some(found) => part("Latest registrations", found.is_empty(), &|| registration::list_shown(found)),
        None => text.push_str("\nLatest registrations: unknown\n"),
    }
    text
}

fn courses_shown(courses: &[RecordedCourse]) -> String {
    let rows = courses.iter().map(|course| {
        [
            course.section_id.clone(),
            course.course_id.clone(),
            credits(course.credits_hundredths),
            status_name(course.status).to_owned(),
            course.registration_id.clone(),
            or_none(&course.dropped_by_registration_id),
        ]
    });
    output::table(
        ["section", "course", "credits", "status", "registration", "dropped by"],
        rows,
        &["dropped by", "credits", "course"],
    )
}

fn completed_shown(completed: &[CompletedCourse]) -> String {
    let rows =
        completed.iter().map(|course| [course.course_id.clone(), course.grade.clone(), or_none(&course.term_id)]);
    output::table(["course", "grade", "term"], rows, &[])
}

fn credits(hundredths: i32) -> String {
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

/// The name of a status in the API.
fn status_name(status: i32) -> &'static str {
    enum_name(EnrollmentStatus::try_from(status).unwrap_or_default().as_str_name(), "ENROLLMENT_STATUS_")
}

fn to_json(known: &StudentRecord) -> Value {
    let unknown = Profile::default();
    let GetAcademicRecordResponse { student, courses, overrides } = &known.record;
    let student = student.as_ref().unwrap_or(&unknown);
    let courses = courses.iter().map(|course| {
        json!({
            "section_id": course.section_id,
            "course_id": course.course_id,
            "credits_hundredths": course.credits_hundredths,
            "status": status_name(course.status),
            "registration_id": course.registration_id,
            "dropped_by_registration_id": text(&course.dropped_by_registration_id),
        })
    });
    let completed = student.completed.iter().map(|done| {
        json!({
            "course_id": done.course_id, "grade": done.grade, "term_id": text(&done.term_id),
        })
    });
    let registrations = known.registrations.as_ref();
    let limit = student.max_credits_hundredths;
    json!({
        "student_id": student.student_id,
        "name": text(&student.name),
        "closed": student.closed,
        "active_from": moment(student.active_from.as_ref()),
        "active_until": moment(student.active_until.as_ref()),
        "appointment_start": moment(student.appointment_start.as_ref()),
        "appointment_end": moment(student.appointment_end.as_ref()),
        "max_credits_hundredths": (limit > 0).then_some(limit),
        "holds": student.holds.iter().map(hold::to_json).collect::<Vec<_>>(),
        "overrides": overrides.iter().map(overrides::to_json).collect::<Vec<_>>(),
        "courses": courses.collect::<Vec<_>>(),
        "completed": completed.collect::<Vec<_>>(),
        "registrations": registrations.map(|found| found.iter().map(registration::to_json).collect::<Vec<_>>()),
        "account": known.balance.as_ref().map(|balance| json!({
            "balance": { "currency": balance.currency, "minor_units": balance.minor_units },
        })),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use matricula_kit::answer::Reason;
    use matricula_kit::time::UnixMs;
    use matricula_proto::academics::v1::{Hold, Override};
    use matricula_proto::common::v1::Source;
    use matricula_proto::registration::v1::Outcome;

    const ID: &str = "0198c5d0-0000-7000-8000-000000000001";

    fn known() -> StudentRecord {
        let student = Profile {
            student_id: "S000007".to_owned(),
            name: "Ada Byron".to_owned(),
            max_credits_hundredths: 1_800,
            appointment_start: Some(UnixMs(1_787_000_000_000).to_wire()),
            completed: vec![CompletedCourse {
                course_id: "math".to_owned(),
                grade: "B+".to_owned(),
                term_id: "2026-spring".to_owned(),
            }],
            holds: vec![Hold {
                hold_id: "library".to_owned(),
                description: "Unpaid library fine".to_owned(),
                source: Source::Bundle.into(),
            }],
            closed: true,
            active_until: Some(UnixMs(1_787_000_000_000).to_wire()),
            ..Profile::default()
        };
        let course = RecordedCourse {
            section_id: "C001-L1".to_owned(),
            course_id: "c1".to_owned(),
            registration_id: ID.to_owned(),
            status: EnrollmentStatus::Enrolled.into(),
            credits_hundredths: 350,
            ..RecordedCourse::default()
        };
        let granted = Override {
            override_id: "0198c5d0-0000-7000-8000-000000000002".to_owned(),
            student_id: "S000007".to_owned(),
            reason: Reason::Hold.to_wire().into(),
            granted_by: "ada".to_owned(),
            justification: "pays tomorrow".to_owned(),
            granted_at: Some(UnixMs(1_787_000_000_000).to_wire()),
            source: Source::Staff.into(),
            ..Override::default()
        };
        let registration = Registration {
            registration_id: ID.to_owned(),
            adds: vec!["C001-L1".to_owned()],
            outcome: Outcome::Enrolled.into(),
            submitted_at: Some(UnixMs(1_787_000_000_000).to_wire()),
            ..Registration::default()
        };
        StudentRecord {
            record: GetAcademicRecordResponse {
                student: Some(student),
                courses: vec![course],
                overrides: vec![granted],
            },
            registrations: Some(vec![registration]),
            balance: Some(Money { currency: "USD".to_owned(), minor_units: 135_000 }),
        }
    }

    #[test]
    fn every_part_of_a_student_is_shown() {
        insta::assert_snapshot!(shown(&known()), @r"
        S000007  Ada Byron
          closed        an import closed the student: new registrations are refused until an import opens it again
          active        - to 2026-08-17T20:53:20.000Z
          appointment   2026-08-17T20:53:20.000Z to -
          credits       at most 18.00
          balance       USD 1,350.00

        Holds
         hold      the student reads     set by
        ────────────────────────────────────────
         library   Unpaid library fine   bundle

        Overrides
         reason   section   until      by    source   justification   granted                    override
        ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
         HOLD     all       no limit   ada   staff    pays tomorrow   2026-08-17T20:53:20.000Z   0198c5d0-0000-7000-8000-000000000002

        Courses of registrations
         section   course   credits   status     registration                           dropped by
        ───────────────────────────────────────────────────────────────────────────────────────────
         C001-L1   c1       3.50      ENROLLED   0198c5d0-0000-7000-8000-000000000001   -

        Completed
         course   grade   term
        ──────────────────────────────
         math     B+      2026-spring

        Latest registrations
         registration                           outcome    adds      drops   submitted                  reasons
        ────────────────────────────────────────────────────────────────────────────────────────────────────────
         0198c5d0-0000-7000-8000-000000000001   ENROLLED   C001-L1   -       2026-08-17T20:53:20.000Z
        ");
    }

    #[test]
    fn a_missing_part_is_shown_as_unknown() {
        let known = StudentRecord { registrations: None, balance: None, ..known() };
        let text = shown(&known);
        assert!(text.contains("balance       unknown") && text.contains("registrations: unknown"), "{text}");
        let json = to_json(&known);
        assert_eq!((&json["account"], &json["registrations"]), (&Value::Null, &Value::Null));
        assert_eq!(json["student_id"], "S000007");
        assert_eq!((&json["closed"], &json["active_from"]), (&Value::from(true), &Value::Null));
        let sources = (&json["holds"][0]["source"], &json["overrides"][0]["source"]);
        assert_eq!(sources, (&Value::from("BUNDLE"), &Value::from("STAFF")));
        assert_eq!(json["completed"][0]["term_id"], "2026-spring");
    }
}
