//! Domain values as the wire shows them.

use jiff::civil::Date;
use matricula_kit::time::UnixMs;
use matricula_proto::academics::v1 as wire;

use crate::domain::catalog::{Course, Section, SectionEntry, Term, TermKind};
use crate::domain::student::{Override, Profile, RecordedCourse, Student};
use matricula_grammar::Requirement;

pub(super) fn academic_record(student: Student) -> wire::GetAcademicRecordResponse {
    wire::GetAcademicRecordResponse {
        student: Some(profile(student.profile)),
        courses: student.courses.into_iter().map(recorded_course).collect(),
        overrides: student.overrides.into_iter().map(granted).collect(),
    }
}

pub(super) fn granted(granted: Override) -> wire::Override {
    wire::Override {
        override_id: granted.id.into(),
        student_id: granted.student.into(),
        section_id: granted.section.map(String::from).unwrap_or_default(),
        reason: granted.reason.to_wire() as i32,
        granted_by: granted.granted_by,
        justification: granted.justification,
        granted_at: Some(granted.granted_at.to_wire()),
        valid_until: granted.valid_until.map(UnixMs::to_wire),
        source: granted.source.to_wire() as i32,
    }
}

pub(super) fn section(section: &Section) -> wire::CatalogSection {
    wire::CatalogSection { section: Some(section_entry(&section.entry())), course: Some(course(&section.course)) }
}

pub(super) fn section_entry(section: &SectionEntry) -> wire::Section {
    wire::Section {
        section_id: section.id.to_string(),
        course_id: section.course.to_string(),
        term_id: section.term.to_string(),
        title: section.title.clone(),
        component: section.component.as_ref().map(ToString::to_string).unwrap_or_default(),
        meetings: section.meetings.to_string(),
        cancelled: section.cancelled,
        permission_required: section.permission_required,
    }
}

pub(super) fn term(term: &Term) -> wire::Term {
    let day = |day: Option<Date>| day.as_ref().map(ToString::to_string).unwrap_or_default();
    let kind = match term.kind {
        TermKind::Term => wire::TermKind::Term,
        TermKind::Semester => wire::TermKind::Semester,
        TermKind::GradingPeriod => wire::TermKind::GradingPeriod,
        TermKind::SchoolYear => wire::TermKind::SchoolYear,
    };
    wire::Term {
        term_id: term.id.to_string(),
        title: term.title.clone(),
        add_deadline: term.add_deadline.map(UnixMs::to_wire),
        drop_deadline: term.drop_deadline.map(UnixMs::to_wire),
        max_credits_hundredths: term.max_credits_hundredths,
        starts_on: day(term.starts_on),
        ends_on: day(term.ends_on),
        // A zone came by its name.
        time_zone: term.time_zone.iana_name().unwrap_or("UTC").to_owned(),
        parent_term_id: term.parent.as_ref().map(ToString::to_string).unwrap_or_default(),
        kind: kind as i32,
        closed: term.closed,
    }
}

pub(super) fn course(course: &Course) -> wire::Course {
    let shown = |requirement: &Option<Requirement>| requirement.as_ref().map(ToString::to_string).unwrap_or_default();
    wire::Course {
        course_id: course.id.to_string(),
        code: course.code.clone(),
        title: course.title.clone(),
        credits_hundredths: course.credits_hundredths,
        prerequisites: shown(&course.prerequisites),
        corequisites: shown(&course.corequisites),
        closed: course.closed,
    }
}

pub(super) fn profile(profile: Profile) -> wire::Student {
    let completed = profile.completed.into_iter().map(|done| wire::CompletedCourse {
        course_id: done.course.into(),
        grade: done.grade.to_string(),
        term_id: done.term.map(String::from).unwrap_or_default(),
    });
    let holds = profile.holds.into_iter().map(|hold| wire::Hold {
        hold_id: hold.id.to_string(),
        description: hold.description,
        source: hold.source.to_wire() as i32,
    });
    wire::Student {
        student_id: profile.id.into(),
        name: profile.name,
        appointment_start: profile.appointment_start.map(UnixMs::to_wire),
        appointment_end: profile.appointment_end.map(UnixMs::to_wire),
        max_credits_hundredths: profile.max_credits_hundredths,
        completed: completed.collect(),
        holds: holds.collect(),
        closed: profile.closed,
        disabled: profile.disabled,
        active_from: profile.active_from.map(UnixMs::to_wire),
        active_until: profile.active_until.map(UnixMs::to_wire),
    }
}

pub(super) fn recorded_course(course: RecordedCourse) -> wire::RecordedCourse {
    wire::RecordedCourse {
        student_id: course.student.into(),
        section_id: course.section.into(),
        course_id: course.course.into(),
        registration_id: course.registration.into(),
        status: course.status.to_wire().into(),
        dropped_by_registration_id: course.dropped_by.map(String::from).unwrap_or_default(),
        credits_hundredths: course.credits_hundredths,
    }
}
