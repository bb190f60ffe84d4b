//! Writes a bundle in the form that [`crate::read`] reads: the files and columns of its scope. Existing files of a
//! bundle in the directory are replaced, or removed if this bundle does not have them.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    file::File,
    ids::{SectionId, TermId},
    model::{Bundle, RefundStep},
    scope::Scope,
    whole::{Written, beside},
};

/// The only school of a written bundle.
const ORG: &str = "org-1";
/// The modification time of every written row: constant, so that equal bundles give equal files.
const MODIFIED: &str = "2026-08-01T00:00:00.000Z";
const ACTIVE: &str = "active";
const TO_BE_DELETED: &str = "tobedeleted";

/// A file that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("can't write {}", path.display())]
pub struct WriteError {
    /// Its path.
    pub path: PathBuf,
    /// The cause.
    pub source: io::Error,
}

/// Writes the bundle into a directory, which is created if necessary. Existing files are replaced after all new files
/// are on the disk, so there is no partial bundle.
pub fn write(bundle: &Bundle, dir: &Path) -> Result<(), WriteError> {
    std::fs::create_dir_all(dir).map_err(|source| WriteError { path: dir.to_owned(), source })?;
    let mut files: Vec<(PathBuf, Written)> = Vec::new();
    let (written, absent): (Vec<File>, Vec<File>) = File::ALL.into_iter().partition(|file| has_file(bundle, *file));
    for file in written {
        let path = dir.join(file.name());
        match write_file(bundle, file, &path) {
            Ok(written) => files.push((path, written)),
            Err(source) => return Err(WriteError { path, source }),
        }
    }
    for (path, written) in files {
        written.put().map_err(|source| WriteError { path, source })?;
    }
    for path in absent.into_iter().map(|file| dir.join(file.name())).filter(|path| path.exists()) {
        std::fs::remove_file(&path).map_err(|source| WriteError { path, source })?;
    }
    Ok(())
}

/// Whether the file is written. The default scope has no rosters; the file is written if there are some.
fn has_file(bundle: &Bundle, file: File) -> bool {
    match file {
        File::Enrollments => bundle.rosters.is_some(),
        _ => bundle.scope.has_file(file),
    }
}

fn write_file(bundle: &Bundle, file: File, path: &Path) -> io::Result<Written> {
    let rows: fn(&Bundle, &mut Sink) -> csv::Result<()> = match file {
        File::Manifest => manifest,
        File::AcademicSessions => terms,
        File::Orgs => orgs,
        File::Courses => courses,
        File::Classes => sections,
        File::Users => users,
        File::Roles => roles,
        File::Holds => holds,
        File::Completed => completed,
        File::Enrollments => rosters,
        File::Registrations => morning,
    };
    beside(path, |target| {
        let writer = csv::Writer::from_writer(target);
        let mut sink = Sink { writer, file, scope: &bundle.scope, is_written: Vec::new() };
        rows(bundle, &mut sink).map_err(io::Error::from)?;
        sink.writer.flush()
    })
}

/// A file that is being written; only the columns in the scope are written.
struct Sink<'a, 'b> {
    writer: csv::Writer<&'a mut dyn io::Write>,
    file: File,
    scope: &'b Scope,
    is_written: Vec<bool>,
}

impl Sink<'_, '_> {
    /// Writes the header. Columns that we do not read are written for other systems.
    fn write_header(&mut self, columns: &[&str]) -> csv::Result<()> {
        let is_absent = |column: &&str| {
            let is_read = self.file.columns().contains(column);
            is_read && self.scope.has_file(self.file) && !self.scope.has_column(self.file, column)
        };
        self.is_written = columns.iter().map(|column| !is_absent(column)).collect();
        self.write_record(columns)
    }

    fn write_record(&mut self, cells: &[&str]) -> csv::Result<()> {
        let written = cells.iter().zip(&self.is_written).filter(|(_, is_written)| **is_written);
        self.writer.write_record(written.map(|(cell, _)| *cell))
    }
}

fn manifest(bundle: &Bundle, sink: &mut Sink) -> csv::Result<()> {
    sink.write_header(&["propertyName", "value"])?;
    sink.write_record(&["manifest.version", "1.0"])?;
    sink.write_record(&["oneroster.version", "1.2"])?;
    for (file, property) in File::ALL.into_iter().filter_map(|file| Some((file, file.property()?))) {
        sink.write_record(&[&property, if has_file(bundle, file) { "bulk" } else { "absent" }])?;
    }
    sink.write_record(&["source.systemName", "matricula"])
}

fn orgs(_: &Bundle, sink: &mut Sink) -> csv::Result<()> {
    sink.write_header(&["sourcedId", "status", "dateLastModified", "name", "type", "identifier", "parentSourcedId"])?;
    sink.write_record(&[ORG, ACTIVE, MODIFIED, "Campus", "school", "", ""])
}

#[rustfmt::skip]
fn terms(bundle: &Bundle, sink: &mut Sink) -> csv::Result<()> {
    sink.write_header(&[
        "sourcedId", "status", "dateLastModified", "title", "type", "startDate", "endDate", "parentSourcedId",
        "schoolYear", "metadata.addDeadline", "metadata.dropDeadline", "metadata.maxCredits", "metadata.currency",
        "metadata.perCreditMinor", "metadata.refundLadder", "metadata.balanceLimitMinor", "metadata.timeZone",
    ])?;
    for term in &bundle.terms {
        let rates = term.rates.as_ref();
        let ladder: Vec<String> = rates.map_or(&[][..], |rates| &rates.refund_ladder)
            .iter().map(|RefundStep { until, percent }| format!("{until}:{percent}")).collect();
        sink.write_record(&[
            term.id.as_str(), status(term.closed), MODIFIED, &term.title, term.kind.as_str(),
            &term.starts_on.to_string(), &term.ends_on.to_string(), term.parent.as_ref().map_or("", TermId::as_str),
            &term.ends_on.year().to_string(), &or_empty(term.add_deadline), &or_empty(term.drop_deadline),
            &term.max_credits_hundredths.map_or(String::new(), credits),
            rates.map_or("", |rates| rates.currency.code()),
            &or_empty(rates.map(|rates| rates.per_credit_minor)),
            &ladder.join(";"),
            &or_empty(rates.and_then(|rates| rates.balance_limit_minor)),
            term.time_zone.as_deref().unwrap_or_default(),
        ])?;
    }
    Ok(())
}

#[rustfmt::skip]
fn courses(bundle: &Bundle, sink: &mut Sink) -> csv::Result<()> {
    sink.write_header(&[
        "sourcedId", "status", "dateLastModified", "schoolYearSourcedId", "title", "courseCode", "grades",
        "orgSourcedId", "subjects", "subjectCodes", "metadata.credits", "metadata.prerequisites",
        "metadata.corequisites", "metadata.feeMinor",
    ])?;
    for course in &bundle.courses {
        let fee = if course.fee_minor == 0 { String::new() } else { course.fee_minor.to_string() };
        sink.write_record(&[
            course.id.as_str(), status(course.closed), MODIFIED, "", &course.title, &course.code, "", ORG, "", "",
            &credits(course.credits_hundredths), &course.prerequisites, &course.corequisites, &fee,
        ])?;
    }
    Ok(())
}

#[rustfmt::skip]
fn sections(bundle: &Bundle, sink: &mut Sink) -> csv::Result<()> {
    sink.write_header(&[
        "sourcedId", "status", "dateLastModified", "title", "grades", "courseSourcedId", "classCode", "classType",
        "location", "schoolSourcedId", "termSourcedIds", "subjects", "subjectCodes", "periods",
        "metadata.maxNumberStudents", "metadata.component", "metadata.meetings", "metadata.permissionRequired",
    ])?;
    for section in &bundle.sections {
        let capacity = or_empty(section.capacity);
        let permission = if section.permission_required { "true" } else { "" };
        sink.write_record(&[
            section.id.as_str(), status(section.cancelled), MODIFIED, &section.title, "", section.course_id.as_str(),
            section.id.as_str(), "scheduled", "", ORG, section.term_id.as_str(), "", "", "",
            &capacity, &section.component, &section.meetings, permission,
        ])?;
    }
    Ok(())
}

#[rustfmt::skip]
fn users(bundle: &Bundle, sink: &mut Sink) -> csv::Result<()> {
    sink.write_header(&[
        "sourcedId", "status", "dateLastModified", "enabledUser", "username", "userIds", "givenName", "familyName",
        "middleName", "identifier", "email", "sms", "phone", "agentSourcedIds", "grades", "password",
        "userMasterIdentifier", "preferredGivenName", "preferredMiddleName", "preferredFamilyName",
        "primaryOrgSourcedId", "pronouns", "metadata.appointmentStart", "metadata.appointmentEnd",
        "metadata.maxCredits",
    ])?;
    for student in &bundle.students {
        let enabled = if student.disabled { "false" } else { "true" };
        sink.write_record(&[
            student.id.as_str(), status(student.closed), MODIFIED, enabled, student.id.as_str(), "", &student.given_name,
            &student.family_name, "", "", &student.email, "", "", "", "", "", "", "", "", "", ORG, "",
            &or_empty(student.appointment_start), &or_empty(student.appointment_end),
            &student.max_credits_hundredths.map_or(String::new(), credits),
        ])?;
    }
    Ok(())
}

#[rustfmt::skip]
fn roles(bundle: &Bundle, sink: &mut Sink) -> csv::Result<()> {
    sink.write_header(&[
        "sourcedId", "status", "dateLastModified", "userSourcedId", "roleType", "role", "beginDate", "endDate",
        "orgSourcedId", "userProfileSourcedId",
    ])?;
    for (at, student) in bundle.students.iter().enumerate() {
        let id = format!("role-{}", at + 1);
        sink.write_record(&[
            &id, ACTIVE, MODIFIED, student.id.as_str(), "primary", "student", &or_empty(student.active_from),
            &or_empty(student.active_until), ORG, "",
        ])?;
    }
    Ok(())
}

fn holds(bundle: &Bundle, sink: &mut Sink) -> csv::Result<()> {
    sink.write_header(&["holdId", "studentSourcedId", "description"])?;
    for student in &bundle.students {
        for hold in &student.holds {
            sink.write_record(&[hold.id.as_str(), student.id.as_str(), &hold.description])?;
        }
    }
    Ok(())
}

fn completed(bundle: &Bundle, sink: &mut Sink) -> csv::Result<()> {
    sink.write_header(&["studentSourcedId", "courseSourcedId", "termSourcedId", "grade"])?;
    for student in &bundle.students {
        for course in &student.completed {
            let term = course.term_id.as_ref().map_or("", TermId::as_str);
            sink.write_record(&[student.id.as_str(), course.course_id.as_str(), term, &course.grade])?;
        }
    }
    Ok(())
}

#[rustfmt::skip]
fn rosters(bundle: &Bundle, sink: &mut Sink) -> csv::Result<()> {
    sink.write_header(&[
        "sourcedId", "status", "dateLastModified", "classSourcedId", "schoolSourcedId", "userSourcedId", "role",
        "primary", "beginDate", "endDate",
    ])?;
    for entry in bundle.rosters.iter().flatten() {
        sink.write_record(&[
            entry.id.as_str(), status(entry.ended), MODIFIED, entry.section_id.as_str(), ORG,
            entry.student_id.as_str(), "student", "false", "", &or_empty(entry.ends_on),
        ])?;
    }
    Ok(())
}

fn morning(bundle: &Bundle, sink: &mut Sink) -> csv::Result<()> {
    sink.write_header(File::Registrations.columns())?;
    for click in &bundle.registrations {
        let (adds, drops) = (section_list(&click.adds), section_list(&click.drops));
        let arrival = click.arrival_ms.to_string();
        sink.write_record(&[&arrival, click.key.as_str(), click.student_id.as_str(), &adds, &drops])?;
    }
    Ok(())
}

fn section_list(sections: &[SectionId]) -> String {
    sections.iter().map(SectionId::as_str).collect::<Vec<_>>().join("|")
}

fn status(to_be_deleted: bool) -> &'static str {
    if to_be_deleted { TO_BE_DELETED } else { ACTIVE }
}

fn or_empty(value: Option<impl ToString>) -> String {
    value.map_or(String::new(), |value| value.to_string())
}

fn credits(hundredths: i32) -> String {
    match (hundredths / 100, hundredths % 100) {
        (whole, 0) => whole.to_string(),
        (whole, decimals) => format!("{whole}.{decimals:02}"),
    }
}
