//! What a bundle says, in the words of the services.

use jiff::Timestamp;
use matricula_campus::{Bundle, Course, Section, Student, Term};
use matricula_kit::time::UnixMs;
use matricula_proto::fees::v1::{CourseFee, ImportRatesRequest, RefundStep, TermRates};
use matricula_proto::notifications::v1::Contact;
use matricula_proto::seats::v1::SectionCapacity;
use matricula_proto::{academics::v1 as academics, common::v1 as common};

/// Seats of a section without a limit: the largest capacity that the seat service knows.
const CAPACITY_UNLIMITED: i32 = 1_000_000;

pub fn capacity(section: &Section) -> SectionCapacity {
    SectionCapacity { section_id: section.id.to_string(), capacity: section.capacity.unwrap_or(CAPACITY_UNLIMITED) }
}

/// Rate tables of all terms that charge something, and course fees; at most so many course fees a call.
pub fn rates(bundle: &Bundle, rows_per_call: usize) -> Vec<ImportRatesRequest> {
    let terms: Vec<TermRates> = bundle.terms.iter().filter_map(term_rates).collect();
    // A fee of 0 is sent, too: it replaces what an earlier import said.
    let fee = |course: &Course| CourseFee { course_id: course.id.to_string(), minor_units: course.fee_minor };
    let mut requests = vec![ImportRatesRequest { terms, course_fees: Vec::new() }];
    requests.extend(
        bundle
            .courses
            .chunks(rows_per_call)
            .map(|courses| ImportRatesRequest { terms: Vec::new(), course_fees: courses.iter().map(fee).collect() }),
    );
    requests
}

fn term_rates(term: &Term) -> Option<TermRates> {
    let rates = term.rates.as_ref()?;
    let refund_ladder = rates
        .refund_ladder
        .iter()
        .map(|step| RefundStep { until: moment(Some(step.until)), percent: i32::from(step.percent) })
        .collect();
    let per_credit =
        common::Money { currency: rates.per_credit.currency.to_string(), minor_units: rates.per_credit.minor_units };
    Some(TermRates {
        term_id: term.id.to_string(),
        per_credit: Some(per_credit),
        refund_ladder,
        balance_limit_minor_units: rates.balance_limit_minor.unwrap_or_default(),
    })
}

/// None for a student without an address.
pub fn contact(student: &Student) -> Option<Contact> {
    (!student.email.is_empty()).then(|| Contact {
        student_id: student.id.to_string(),
        email: student.email.clone(),
        name: student.name(),
    })
}

pub fn term(term: &Term) -> academics::Term {
    academics::Term {
        term_id: term.id.to_string(),
        title: term.title.clone(),
        add_deadline: moment(term.add_deadline),
        drop_deadline: moment(term.drop_deadline),
        max_credits_hundredths: term.max_credits_hundredths.unwrap_or_default(),
    }
}

pub fn course(course: &Course) -> academics::Course {
    academics::Course {
        course_id: course.id.to_string(),
        code: course.code.clone(),
        title: course.title.clone(),
        credits_hundredths: course.credits_hundredths,
        prerequisites: course.prerequisites.clone(),
        corequisites: course.corequisites.clone(),
    }
}

/// The course, asking for nothing.
pub fn without_requisites(course: academics::Course) -> academics::Course {
    academics::Course { prerequisites: String::new(), corequisites: String::new(), ..course }
}

pub fn section(section: &Section) -> academics::Section {
    academics::Section {
        section_id: section.id.to_string(),
        course_id: section.course_id.to_string(),
        term_id: section.term_id.to_string(),
        title: section.title.clone(),
        component: section.component.clone(),
        meetings: section.meetings.clone(),
        cancelled: section.cancelled,
        permission_required: section.permission_required,
    }
}

pub fn student(student: &Student) -> academics::Student {
    let completed = student.completed.iter().map(|completed| academics::CompletedCourse {
        course_id: completed.course_id.to_string(),
        grade: completed.grade.clone(),
    });
    let holds = student
        .holds
        .iter()
        .map(|hold| academics::Hold { hold_id: hold.id.to_string(), description: hold.description.clone() });
    academics::Student {
        student_id: student.id.to_string(),
        name: student.name(),
        appointment_start: moment(student.appointment_start),
        appointment_end: moment(student.appointment_end),
        max_credits_hundredths: student.max_credits_hundredths.unwrap_or_default(),
        completed: completed.collect(),
        holds: holds.collect(),
    }
}

fn moment(moment: Option<Timestamp>) -> Option<prost_types::Timestamp> {
    moment.map(|moment| UnixMs(moment.as_millisecond()).to_wire())
}
