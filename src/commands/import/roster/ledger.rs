//! The enrollments that a plan of rosters compares, and the courses that pending registrations have reserved.
//!
//! A registration that enrolls in one step has no enrollment before that step. Until then only the academic record
//! contains its adds, as pending, and its drops. The record is read first: an enrollment made between the two reads is
//! then in both, and the enrollment counts.

use std::collections::HashSet;

use anyhow::Context as _;
use matricula_campus::RosterEntry;
use matricula_proto::academics::v1::academic_service_client::AcademicServiceClient;
use matricula_proto::academics::v1::export_ledger_response::Entry;
use matricula_proto::academics::v1::{self as academics, RecordedCourse};
use matricula_proto::common::v1::EnrollmentStatus;
use matricula_proto::enrollments::v1::enrollment_service_client::EnrollmentServiceClient;
use matricula_proto::enrollments::v1::{Enrollment, ExportLedgerRequest, ExportLedgerResponse};
use tonic::transport::Channel;

use crate::clients::read_whole;
use crate::commands::import::state::RETRY_FOR;

/// The enrollments in the order of their registrations, which is the order of time; then the reserved courses.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    pub(super) known: Vec<KnownEnrollment>,
}

/// One enrollment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KnownEnrollment {
    pub student: String,
    pub section: String,
    pub course: String,
    pub component: String,
    /// The roster row by which an import added it.
    pub row: Option<String>,
    pub standing: Standing,
}

/// The state of an enrollment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Enrolled,
    /// A pending registration adds it or drops it.
    InMotion,
    /// A pending registration adds it, and there is no enrollment yet.
    Reserved,
    DroppedByStudent,
    DroppedByImport,
}

impl Standing {
    pub(super) fn is_in_force(self) -> bool {
        matches!(self, Self::Enrolled | Self::InMotion | Self::Reserved)
    }
}

impl KnownEnrollment {
    /// An enrollment of the ledger; `None` if it was never in force.
    pub(super) fn of(enrollment: Enrollment) -> Option<Self> {
        let is_marked = !enrollment.dropped_by_registration_id.is_empty();
        let standing = match enrollment.status() {
            EnrollmentStatus::Enrolled if !is_marked => Standing::Enrolled,
            EnrollmentStatus::Enrolled | EnrollmentStatus::Pending => Standing::InMotion,
            EnrollmentStatus::Dropped | EnrollmentStatus::Withdrawn if enrollment.dropped_by_import => {
                Standing::DroppedByImport
            }
            EnrollmentStatus::Dropped | EnrollmentStatus::Withdrawn => Standing::DroppedByStudent,
            EnrollmentStatus::Cancelled | EnrollmentStatus::Waitlisted | EnrollmentStatus::Unspecified => return None,
        };
        let Enrollment { student_id, section_id, course_id, component, roster_row_id, .. } = enrollment;
        let row = (!roster_row_id.is_empty()).then_some(roster_row_id);
        Some(Self { student: student_id, section: section_id, course: course_id, component, row, standing })
    }
}

/// The courses that the academic record has for pending registrations.
#[derive(Debug, Default)]
pub(super) struct Reserved {
    /// Pending adds, as (student, section, registration), with their courses.
    adds: Vec<([String; 3], String)>,
    /// Courses that a pending registration drops, as (student, section).
    drops: HashSet<[String; 2]>,
}

impl Reserved {
    /// Adds a course of the record if it belongs to a pending registration.
    pub(super) fn take(&mut self, course: RecordedCourse) {
        let is_about_to_end = !course.dropped_by_registration_id.is_empty();
        let status = course.status();
        let RecordedCourse { student_id, section_id, course_id, registration_id, .. } = course;
        match status {
            EnrollmentStatus::Pending => self.adds.push(([student_id, section_id, registration_id], course_id)),
            EnrollmentStatus::Enrolled if is_about_to_end => drop(self.drops.insert([student_id, section_id])),
            _ => {}
        }
    }
}

impl Ledger {
    /// Combines the enrollments with the reserved courses that have no enrollment.
    pub(super) fn of(enrollments: impl IntoIterator<Item = Enrollment>, reserved: Reserved) -> Self {
        let Reserved { adds, drops } = reserved;
        let mut decided: HashSet<[String; 3]> = HashSet::new();
        let mut known = Vec::new();
        for enrollment in enrollments {
            let Enrollment { student_id, section_id, registration_id, .. } = &enrollment;
            decided.insert([student_id, section_id, registration_id].map(Clone::clone));
            let Some(mut one) = KnownEnrollment::of(enrollment) else { continue };
            if one.standing == Standing::Enrolled && drops.contains(&[one.student.clone(), one.section.clone()]) {
                one.standing = Standing::InMotion;
            }
            known.push(one);
        }
        for (add, course) in adds.into_iter().filter(|(add, _)| !decided.contains(add)) {
            let ([student, section, _], component) = (add, String::new());
            known.push(KnownEnrollment {
                student,
                section,
                course,
                component,
                row: None,
                standing: Standing::Reserved,
            });
        }
        Self { known }
    }
}

/// Reads the data for these rows: enrollments and reservations of their students, and the enrollments that imports
/// made.
pub async fn read(academics: &Channel, enrollments: &Channel, rows: &[RosterEntry]) -> anyhow::Result<Ledger> {
    let students: HashSet<&str> = rows.iter().map(|row| row.student_id.as_str()).collect();
    let academics = AcademicServiceClient::new(academics.clone());
    let open = async || academics.clone().export_ledger(academics::ExportLedgerRequest {}).await;
    let add = |reserved: &mut Reserved, entry: academics::ExportLedgerResponse| match entry.entry {
        // A registration may be about to drop an imported enrollment of another student.
        Some(Entry::Course(course))
            if students.contains(course.student_id.as_str()) || !course.dropped_by_registration_id.is_empty() =>
        {
            reserved.take(course);
        }
        _ => {}
    };
    let reserved = read_whole(RETRY_FOR, open, add).await.context("the academic service")?;
    let enrollments = EnrollmentServiceClient::new(enrollments.clone());
    let open = async || enrollments.clone().export_ledger(ExportLedgerRequest {}).await;
    let matters = |one: &Enrollment| !one.roster_row_id.is_empty() || students.contains(one.student_id.as_str());
    let add = |enrolled: &mut Vec<Enrollment>, entry: ExportLedgerResponse| {
        enrolled.extend(entry.enrollment.filter(matters));
    };
    let enrolled = read_whole(RETRY_FOR, open, add).await.context("the enrollment service")?;
    Ok(Ledger::of(enrolled, reserved))
}
