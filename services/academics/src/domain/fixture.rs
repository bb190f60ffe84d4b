//! A small campus and its students, for tests.
//!
//! | term | days | |
//! |---|---|---|
//! | year | 2026-06-01 to 2027-05-31 | the school year around summer, fall and spring |
//! | summer | 2026-06-01 to 2026-08-14 | has ended |
//! | fall | 2026-08-24 to 2026-12-18 | a semester of 12 credits at most |
//! | fall-a, fall-b | to 2026-10-16, from 2026-10-17 | its halves, of which fall-b has 4 credits at most |
//! | spring | 2027-01-11 to 2027-05-14 | |
//! | past | as fall | its deadlines have passed |
//! | shut, shut-a | as fall | a semester that an import has closed, and a part of it |
//! | tokyo | as fall, in Asia/Tokyo | |
//! | undated | not known | |
//!
//! | course | credits | asks for | sections in fall | in other terms |
//! |---|---|---|---|---|
//! | MATH | 3 | | MATH-1 M 08-09, MATH-2 T 08-09 | MATH-U summer, MATH-A, -B halves, MATH-S spring, MATH-O undated |
//! | PHYS | 4 | before: MATH | PHYS-1 M 08:30-09:30, PHYS-2 W 08-09 | PHYS-B fall-b, -S, -S2 spring, -O undated |
//! | CHEM | 4 | | lectures CHEM-A, -B and labs CHEM-LA, -LB; or seminar and trip CHEM-S, -T | CHEM-P spring |
//! | BIO | 3 | with: CHEM | BIO-1 F 08-09 | BIO-S spring |
//! | ART | 2 | | ART-1 by permission, ART-X cancelled | |
//! | OPUS | 9 | before: MATH:B and (PHYS or CHEM:C) | OPUS-1 | OPUS-S spring |
//! | LATIN | 2 | | | LATIN-1, LATIN-2 in a term whose deadlines have passed |
//! | LAW | 1 | | LAW-1; an import has closed the course | |
//! | DANCE | 1 | | | DANCE-U summer, DANCE-C shut-a, DANCE-A and DANCE-B halves, DANCE-T tokyo M 17:30-18:30 |

use jiff::civil::Date;
use jiff::tz::TimeZone;
use matricula_kit::answer::Reason;
use matricula_kit::enrollment::EnrollmentStatus;
use matricula_kit::id::{CourseId, HoldId, OverrideId, SagaId, SectionId, StudentId, TermId};
use matricula_kit::participant::RowState;
use matricula_kit::source::Source;
use matricula_kit::time::{self, UnixMs};

use super::catalog::{Catalog, CatalogChanges, Course, SectionEntry, Term, TermKind};
use super::component::Component;
use super::context::{ChangeSet, Context};
use super::student::{Completed, Hold, Override, Profile, RecordedCourse, Student};
use matricula_grammar::Meetings;
use matricula_grammar::Requirement;

/// When change sets are submitted: 2026-08-17 08:00 UTC.
pub(crate) const NOW: UnixMs = UnixMs(1_786_953_600_000);
/// A minute before and after.
pub(crate) const BEFORE: UnixMs = UnixMs(NOW.0 - 60_000);
pub(crate) const AFTER: UnixMs = UnixMs(NOW.0 + 60_000);

pub(crate) fn section_id(text: &str) -> SectionId {
    SectionId::try_new(text).expect("a section id")
}

pub(crate) fn course_id(text: &str) -> CourseId {
    CourseId::try_new(text).expect("a course id")
}

pub(crate) fn saga(text: &str) -> SagaId {
    SagaId::try_new(text).expect("a saga id")
}

pub(crate) fn student_id(text: &str) -> StudentId {
    StudentId::try_new(text).expect("a student id")
}

/// Section ids separated by spaces.
pub(crate) fn change(adds: &str, drops: &str) -> ChangeSet {
    let ids = |text: &str| text.split_whitespace().map(section_id).collect();
    ChangeSet { adds: ids(adds), drops: ids(drops), submitted_at: NOW }
}

/// When and where change sets are decided.
pub(crate) fn context() -> Context {
    Context { now: NOW, zone: TimeZone::UTC }
}

pub(crate) fn term_id(text: &str) -> TermId {
    TermId::try_new(text).expect("a term id")
}

/// A term whose dates are not known.
pub(crate) fn term(id: &str, deadline: Option<UnixMs>, max_credits_hundredths: i32) -> Term {
    Term {
        id: term_id(id),
        title: format!("Term {id}"),
        add_deadline: deadline,
        drop_deadline: deadline,
        max_credits_hundredths,
        starts_on: None,
        ends_on: None,
        time_zone: TimeZone::UTC,
        parent: None,
        kind: TermKind::Term,
        closed: false,
    }
}

impl Term {
    pub(crate) fn dates(mut self, starts_on: &str, ends_on: &str) -> Self {
        let date = |text: &str| text.parse::<Date>().expect("a date");
        (self.starts_on, self.ends_on) = (Some(date(starts_on)), Some(date(ends_on)));
        self
    }

    pub(crate) fn part_of(self, parent: &str, kind: TermKind) -> Self {
        Self { parent: Some(term_id(parent)), ..self.of_kind(kind) }
    }

    pub(crate) fn of_kind(self, kind: TermKind) -> Self {
        Self { kind, ..self }
    }

    pub(crate) fn in_zone(self, name: &str) -> Self {
        Self { time_zone: time::zone(name).expect("a time zone"), ..self }
    }

    pub(crate) fn closed(self) -> Self {
        Self { closed: true, ..self }
    }
}

fn terms() -> Vec<Term> {
    let in_fall = |term: Term| term.dates("2026-08-24", "2026-12-19");
    let half = TermKind::GradingPeriod;
    vec![
        term("fall-a", None, 0).dates("2026-08-24", "2026-10-17").part_of("fall", half),
        term("fall-b", None, 400).dates("2026-10-17", "2026-12-19").part_of("fall", half),
        in_fall(term("fall", None, 1_200)).part_of("year", TermKind::Semester),
        term("summer", None, 0).dates("2026-06-01", "2026-08-15").part_of("year", TermKind::Term),
        term("spring", None, 0).dates("2027-01-11", "2027-05-15").part_of("year", TermKind::Term),
        term("year", None, 1_000).dates("2026-06-01", "2027-06-01").of_kind(TermKind::SchoolYear),
        in_fall(term("past", Some(BEFORE), 0)),
        in_fall(term("shut", None, 0)).of_kind(TermKind::Semester).closed(),
        in_fall(term("shut-a", None, 0)).part_of("shut", half),
        in_fall(term("tokyo", None, 0)).in_zone("Asia/Tokyo"),
        term("undated", None, 0),
    ]
}

pub(crate) fn course(code: &str, credits: i32, prerequisites: &str, corequisites: &str) -> Course {
    Course {
        id: course_id(&format!("c-{code}")),
        code: code.to_owned(),
        title: format!("Introduction to {code}"),
        credits_hundredths: credits * 100,
        prerequisites: Requirement::parse(prerequisites).expect("prerequisites"),
        corequisites: Requirement::parse(corequisites).expect("corequisites"),
        closed: code == "LAW",
    }
}

/// A section of the course whose code its id begins with.
pub(crate) fn section(id: &str, term: &str, component: &str, meetings: &str) -> SectionEntry {
    let code = id.split('-').next().expect("a code");
    SectionEntry {
        id: section_id(id),
        course: course_id(&format!("c-{code}")),
        term: term_id(term),
        title: format!("Class {id}"),
        component: Component::parse(component).expect("a component"),
        meetings: Meetings::parse(meetings).expect("meetings"),
        cancelled: id.ends_with('X'),
        permission_required: code == "ART",
    }
}

pub(crate) fn changes() -> CatalogChanges {
    CatalogChanges {
        terms: terms(),
        courses: vec![
            course("MATH", 3, "", ""),
            course("PHYS", 4, "MATH", ""),
            course("CHEM", 4, "", ""),
            course("BIO", 3, "", "CHEM"),
            course("ART", 2, "", ""),
            course("OPUS", 9, "MATH:B and (PHYS or CHEM:C)", ""),
            course("LATIN", 2, "", ""),
            course("LAW", 1, "", ""),
            course("DANCE", 1, "", ""),
        ],
        sections: vec![
            section("MATH-1", "fall", "", "M 08:00-09:00"),
            section("MATH-2", "fall", "", "T 08:00-09:00"),
            section("MATH-U", "summer", "", "M 08:00-09:00"),
            section("MATH-A", "fall-a", "", "M 08:00-09:00"),
            section("MATH-B", "fall-b", "", "M 08:00-09:00"),
            section("MATH-S", "spring", "", "M 08:00-09:00"),
            section("MATH-O", "undated", "", "M 08:00-09:00"),
            section("PHYS-1", "fall", "", "M 08:30-09:30"),
            section("PHYS-2", "fall", "", "W 08:00-09:00"),
            section("PHYS-B", "fall-b", "", "W 08:00-09:00"),
            section("PHYS-S", "spring", "", "W 08:00-09:00"),
            section("PHYS-S2", "spring", "", "R 08:00-09:00"),
            section("PHYS-O", "undated", "", "W 08:00-09:00"),
            section("CHEM-A", "fall", "1/lecture", "R 08:00-09:00"),
            section("CHEM-B", "fall", "1/lecture", "R 10:00-11:00"),
            section("CHEM-LA", "fall", "1/lab", "R 12:00-13:00"),
            section("CHEM-LB", "fall", "1/lab", "R 14:00-15:00"),
            section("CHEM-S", "fall", "2/seminar", "R 16:00-17:00"),
            section("CHEM-T", "fall", "2/trip", ""),
            section("CHEM-P", "spring", "", ""),
            section("BIO-1", "fall", "", "F 08:00-09:00"),
            section("BIO-S", "spring", "", "F 08:00-09:00"),
            section("ART-1", "fall", "", ""),
            section("ART-X", "fall", "", ""),
            section("OPUS-1", "fall", "", ""),
            section("OPUS-S", "spring", "", ""),
            section("LATIN-1", "past", "", ""),
            section("LATIN-2", "past", "", ""),
            section("LAW-1", "fall", "", ""),
            section("DANCE-U", "summer", "", ""),
            section("DANCE-C", "shut-a", "", ""),
            section("DANCE-A", "fall-a", "", "M 08:00-09:00"),
            section("DANCE-B", "fall-b", "", "M 08:00-09:00"),
            section("DANCE-T", "tokyo", "", "M 17:30-18:30"),
        ],
    }
}

pub(crate) fn catalog() -> Catalog {
    Catalog::default().merged(&changes()).expect("a sound catalogue")
}

/// A student without anything on record.
pub(crate) fn student() -> Student {
    let profile = Profile {
        id: student_id("ada"),
        name: "Ada".to_owned(),
        appointment_start: None,
        appointment_end: None,
        max_credits_hundredths: 0,
        completed: Vec::new(),
        holds: Vec::new(),
        closed: false,
        active_from: None,
        active_until: None,
        disabled: false,
    };
    Student { profile, overrides: Vec::new(), courses: Vec::new(), granted: Vec::new() }
}

impl Student {
    pub(crate) fn appointment(mut self, start: UnixMs, end: UnixMs) -> Self {
        (self.profile.appointment_start, self.profile.appointment_end) = (Some(start), Some(end));
        self
    }

    pub(crate) fn max_credits(mut self, credits: i32) -> Self {
        self.profile.max_credits_hundredths = credits * 100;
        self
    }

    /// Closed by an import.
    pub(crate) fn closed(mut self) -> Self {
        self.profile.closed = true;
        self
    }

    /// With the role of a student from a moment on, and until another one.
    pub(crate) fn active(mut self, from: Option<UnixMs>, until: Option<UnixMs>) -> Self {
        (self.profile.active_from, self.profile.active_until) = (from, until);
        self
    }

    /// A grade of a term that is not known.
    pub(crate) fn completed(self, code: &str, grade: &str) -> Self {
        self.completed_in(code, grade, "")
    }

    pub(crate) fn completed_in(mut self, code: &str, grade: &str, term: &str) -> Self {
        let grade = grade.parse().expect("a grade");
        let term = (!term.is_empty()).then(|| term_id(term));
        self.profile.completed.push(Completed { course: course_id(&format!("c-{code}")), grade, term });
        self
    }

    pub(crate) fn hold(mut self, id: &str) -> Self {
        let id = HoldId::try_new(id).expect("a hold id");
        let description = "Library fine: pay at the desk.".to_owned();
        self.profile.holds.push(Hold { id, description, source: Source::Bundle });
        self
    }

    /// An override that is valid until a minute after; for every section when `section` is empty.
    pub(crate) fn permit(self, reason: Reason, section: &str) -> Self {
        self.permit_until(reason, section, AFTER)
    }

    pub(crate) fn permit_until(mut self, reason: Reason, section: &str, valid_until: UnixMs) -> Self {
        self.overrides.push(Override {
            id: OverrideId::stored(format!("o{}", self.overrides.len())),
            student: self.profile.id.clone(),
            section: (!section.is_empty()).then(|| section_id(section)),
            reason,
            granted_by: "dean".to_owned(),
            justification: "a good reason".to_owned(),
            granted_at: BEFORE,
            valid_until: Some(valid_until),
            source: Source::Staff,
        });
        self
    }

    /// Sections in progress, each added by the registration `old`.
    pub(crate) fn enrolled(self, sections: &str) -> Self {
        self.record(sections, EnrollmentStatus::Enrolled, None)
    }

    /// Sections that the registration `other` has reserved.
    pub(crate) fn pending(self, sections: &str) -> Self {
        self.record(sections, EnrollmentStatus::Pending, None)
    }

    /// Sections in progress that the registration `other` is about to drop.
    pub(crate) fn leaving(self, sections: &str) -> Self {
        self.record(sections, EnrollmentStatus::Enrolled, Some("other"))
    }

    fn record(mut self, sections: &str, status: EnrollmentStatus, dropped_by: Option<&str>) -> Self {
        let catalog = catalog();
        for id in sections.split_whitespace().map(section_id) {
            let section = catalog.section(&id).expect("a section of the campus");
            let is_carried =
                |other: &RecordedCourse| other.course == section.course.id && other.term == section.term.id;
            let carried = self.in_force().any(is_carried);
            self.courses.push(RecordedCourse {
                student: self.profile.id.clone(),
                registration: saga(if status == EnrollmentStatus::Pending { "other" } else { "old" }),
                section: id,
                course: section.course.id.clone(),
                term: section.term.id.clone(),
                credits_hundredths: if carried { 0 } else { section.course.credits_hundredths },
                status,
                dropped_by: dropped_by.map(saga),
                row_state: RowState::Kept,
            });
        }
        self
    }
}
