//! Writes a bundle in the form that [`crate::read`] reads: all of its files, so that none of an older bundle in the
//! same directory stays.

use std::{
    io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use crate::{
    ids::SectionId,
    model::{Bundle, RefundStep},
    read::{COMPLETED, COURSES, HOLDS, MANIFEST, ORGS, REGISTRATIONS, ROLES, SECTIONS, TERMS, USERS},
    registrations,
    whole::{Written, beside},
};

/// The one school of a written bundle.
const ORG: &str = "org-1";
/// When a written row was last modified: the same for all, so that equal bundles are equal files.
const MODIFIED: &str = "2026-08-01T00:00:00.000Z";
const ACTIVE: &str = "active";

/// A file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("can't write {}", path.display())]
pub struct WriteError {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// Writes the bundle into a directory, which is made when it is not there. Files of the same names are replaced, and only
/// when all are on the disk: there is no half of a bundle.
pub fn write(bundle: &Bundle, dir: &Path) -> Result<(), WriteError> {
    std::fs::create_dir_all(dir).map_err(|source| WriteError { path: dir.to_owned(), source })?;
    let mut files: Vec<(PathBuf, Written)> = Vec::new();
    let mut write = |file: &str, rows: fn(&Bundle, &mut Sink) -> csv::Result<()>| {
        let path = dir.join(file);
        match write_file(&path, |sink| rows(bundle, sink)) {
            Ok(written) => files.push((path, written)),
            Err(source) => return Err(WriteError { path, source }),
        }
        Ok(())
    };
    write(MANIFEST, manifest)?;
    write(ORGS, orgs)?;
    write(TERMS, terms)?;
    write(COURSES, courses)?;
    write(SECTIONS, sections)?;
    write(USERS, users)?;
    write(ROLES, roles)?;
    write(HOLDS, holds)?;
    write(COMPLETED, completed)?;
    write(REGISTRATIONS, morning)?;
    for (path, written) in files {
        written.put().map_err(|source| WriteError { path, source })?;
    }
    Ok(())
}

type Sink<'a> = csv::Writer<&'a mut dyn io::Write>;

fn write_file(path: &Path, rows: impl FnOnce(&mut Sink) -> csv::Result<()>) -> io::Result<Written> {
    beside(path, |file| {
        let mut sink = csv::Writer::from_writer(file);
        rows(&mut sink).map_err(io::Error::from)?;
        sink.flush()
    })
}

fn manifest(_: &Bundle, sink: &mut Sink) -> csv::Result<()> {
    sink.write_record(["propertyName", "value"])?;
    sink.write_record(["manifest.version", "1.0"])?;
    sink.write_record(["oneroster.version", "1.2"])?;
    for file in ["academicSessions", "orgs", "courses", "classes", "users", "roles"] {
        sink.write_record([&format!("file.{file}"), "bulk"])?;
    }
    sink.write_record(["source.systemName", "matricula"])
}

fn orgs(_: &Bundle, sink: &mut Sink) -> csv::Result<()> {
    sink.write_record(["sourcedId", "status", "dateLastModified", "name", "type", "identifier", "parentSourcedId"])?;
    sink.write_record([ORG, ACTIVE, MODIFIED, "Campus", "school", "", ""])
}

#[rustfmt::skip]
fn terms(bundle: &Bundle, sink: &mut Sink) -> csv::Result<()> {
    sink.write_record([
        "sourcedId", "status", "dateLastModified", "title", "type", "startDate", "endDate", "parentSourcedId",
        "schoolYear", "metadata.addDeadline", "metadata.dropDeadline", "metadata.maxCredits", "metadata.currency",
        "metadata.perCreditMinor", "metadata.refundLadder", "metadata.balanceLimitMinor",
    ])?;
    for term in &bundle.terms {
        let rates = term.rates.as_ref();
        let ladder: Vec<String> = rates.map_or(&[][..], |rates| &rates.refund_ladder)
            .iter().map(|RefundStep { until, percent }| format!("{until}:{percent}")).collect();
        sink.write_record([
            term.id.as_str(), ACTIVE, MODIFIED, &term.title, "term",
            &term.starts_on.to_string(), &term.ends_on.to_string(), "",
            &term.ends_on.year().to_string(), &moment(term.add_deadline), &moment(term.drop_deadline),
            &term.max_credits_hundredths.map_or(String::new(), credits),
            rates.map_or("", |rates| rates.per_credit.currency.as_str()),
            &rates.map_or(String::new(), |rates| rates.per_credit.minor_units.to_string()),
            &ladder.join(";"),
            &rates.and_then(|rates| rates.balance_limit_minor).map_or(String::new(), |minor| minor.to_string()),
        ])?;
    }
    Ok(())
}

#[rustfmt::skip]
fn courses(bundle: &Bundle, sink: &mut Sink) -> csv::Result<()> {
    sink.write_record([
        "sourcedId", "status", "dateLastModified", "schoolYearSourcedId", "title", "courseCode", "grades",
        "orgSourcedId", "subjects", "subjectCodes", "metadata.credits", "metadata.prerequisites",
        "metadata.corequisites", "metadata.feeMinor",
    ])?;
    for course in &bundle.courses {
        let fee = if course.fee_minor == 0 { String::new() } else { course.fee_minor.to_string() };
        sink.write_record([
            course.id.as_str(), ACTIVE, MODIFIED, "", &course.title, &course.code, "", ORG, "", "",
            &credits(course.credits_hundredths), &course.prerequisites, &course.corequisites, &fee,
        ])?;
    }
    Ok(())
}

#[rustfmt::skip]
fn sections(bundle: &Bundle, sink: &mut Sink) -> csv::Result<()> {
    sink.write_record([
        "sourcedId", "status", "dateLastModified", "title", "grades", "courseSourcedId", "classCode", "classType",
        "location", "schoolSourcedId", "termSourcedIds", "subjects", "subjectCodes", "periods",
        "metadata.maxNumberStudents", "metadata.component", "metadata.meetings", "metadata.permissionRequired",
    ])?;
    for section in &bundle.sections {
        let status = if section.cancelled { "tobedeleted" } else { ACTIVE };
        let capacity = section.capacity.map_or(String::new(), |seats| seats.to_string());
        let permission = if section.permission_required { "true" } else { "" };
        sink.write_record([
            section.id.as_str(), status, MODIFIED, &section.title, "", section.course_id.as_str(),
            section.id.as_str(), "scheduled", "", ORG, section.term_id.as_str(), "", "", "",
            &capacity, &section.component, &section.meetings, permission,
        ])?;
    }
    Ok(())
}

#[rustfmt::skip]
fn users(bundle: &Bundle, sink: &mut Sink) -> csv::Result<()> {
    sink.write_record([
        "sourcedId", "status", "dateLastModified", "enabledUser", "username", "userIds", "givenName", "familyName",
        "middleName", "identifier", "email", "sms", "phone", "agentSourcedIds", "grades", "password",
        "userMasterIdentifier", "preferredGivenName", "preferredMiddleName", "preferredFamilyName",
        "primaryOrgSourcedId", "pronouns", "metadata.appointmentStart", "metadata.appointmentEnd",
        "metadata.maxCredits",
    ])?;
    for student in &bundle.students {
        sink.write_record([
            student.id.as_str(), ACTIVE, MODIFIED, "true", student.id.as_str(), "", &student.given_name,
            &student.family_name, "", "", &student.email, "", "", "", "", "", "", "", "", "", ORG, "",
            &moment(student.appointment_start), &moment(student.appointment_end),
            &student.max_credits_hundredths.map_or(String::new(), credits),
        ])?;
    }
    Ok(())
}

#[rustfmt::skip]
fn roles(bundle: &Bundle, sink: &mut Sink) -> csv::Result<()> {
    sink.write_record([
        "sourcedId", "status", "dateLastModified", "userSourcedId", "roleType", "role", "beginDate", "endDate",
        "orgSourcedId", "userProfileSourcedId",
    ])?;
    for (at, student) in bundle.students.iter().enumerate() {
        let id = format!("role-{}", at + 1);
        sink.write_record([&id, ACTIVE, MODIFIED, student.id.as_str(), "primary", "student", "", "", ORG, ""])?;
    }
    Ok(())
}

fn holds(bundle: &Bundle, sink: &mut Sink) -> csv::Result<()> {
    sink.write_record(["holdId", "studentSourcedId", "description"])?;
    for student in &bundle.students {
        for hold in &student.holds {
            sink.write_record([hold.id.as_str(), student.id.as_str(), &hold.description])?;
        }
    }
    Ok(())
}

fn completed(bundle: &Bundle, sink: &mut Sink) -> csv::Result<()> {
    sink.write_record(["studentSourcedId", "courseSourcedId", "grade"])?;
    for student in &bundle.students {
        for course in &student.completed {
            sink.write_record([student.id.as_str(), course.course_id.as_str(), &course.grade])?;
        }
    }
    Ok(())
}

fn morning(bundle: &Bundle, sink: &mut Sink) -> csv::Result<()> {
    sink.write_record(registrations::COLUMNS)?;
    for click in &bundle.registrations {
        let (adds, drops) = (section_list(&click.adds), section_list(&click.drops));
        let arrival = click.arrival_ms.to_string();
        sink.write_record([&arrival, click.key.as_str(), click.student_id.as_str(), &adds, &drops])?;
    }
    Ok(())
}

fn section_list(sections: &[SectionId]) -> String {
    sections.iter().map(SectionId::as_str).collect::<Vec<_>>().join("|")
}

fn moment(moment: Option<Timestamp>) -> String {
    moment.map_or(String::new(), |moment| moment.to_string())
}

fn credits(hundredths: i32) -> String {
    match (hundredths / 100, hundredths % 100) {
        (whole, 0) => whole.to_string(),
        (whole, decimals) => format!("{whole}.{decimals:02}"),
    }
}
