//! Merges a bundle with the state of the services. For each file in the bundle, the bundle is the truth, field by
//! field. A field without a column in its file keeps its value.

use std::collections::HashMap;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use matricula_campus::{Bundle, Course, File, Scope, Section, Student, Term};
use matricula_grammar::Requirement;
use matricula_kit::time::UnixMs;
use matricula_proto::fees::v1::{CourseFee, RefundStep, TermRates};
use matricula_proto::notifications::v1::Contact;
use matricula_proto::seats::v1::SectionCapacity;
use matricula_proto::{academics::v1 as academics, common::v1 as common};

use super::plan::Desired;
use super::rows::CAPACITY_UNLIMITED;
use super::state::State;

/// A bundle, the state it is merged with, and the time zone of the campus.
pub struct Overlay<'a> {
    /// The bundle.
    pub bundle: &'a Bundle,
    /// The state of the services.
    pub state: &'a State,
    /// The campus's time zone.
    pub zone: &'a TimeZone,
}

/// Chooses between the bundle and a stored row, column by column.
struct Merge<'a, R> {
    scope: &'a Scope,
    file: File,
    stored: Option<&'a R>,
}

impl<R> Merge<'_, R> {
    /// The bundle's value if its file has the column or no row is stored yet; otherwise the stored value.
    fn pick<T: Clone>(&self, column: &str, says: T, has: impl Fn(&R) -> &T) -> T {
        match self.stored {
            Some(stored) if !self.scope.has_column(self.file, column) => has(stored).clone(),
            _ => says,
        }
    }
}

impl Overlay<'_> {
    /// The rows as they are to be.
    pub fn desired(&self) -> Desired {
        let bundle = self.bundle;
        Desired {
            terms: bundle.terms.iter().map(|term| self.term(term)).collect(),
            courses: bundle.courses.iter().map(|course| self.course(course)).collect(),
            sections: bundle.sections.iter().map(|section| self.section(section)).collect(),
            students: bundle.students.iter().map(|student| self.student(student)).collect(),
            capacities: bundle.sections.iter().map(|section| self.capacity(section)).collect(),
            rates: bundle.terms.iter().filter_map(|term| self.rates(term)).collect(),
            course_fees: bundle.courses.iter().filter_map(|course| self.course_fee(course)).collect(),
            contacts: bundle.students.iter().filter_map(|student| self.contact(student)).collect(),
        }
    }

    fn merge<'a, R>(&'a self, file: File, stored: Option<&'a R>) -> Merge<'a, R> {
        Merge { scope: &self.bundle.scope, file, stored }
    }

    fn term(&self, term: &Term) -> academics::Term {
        let has = self.state.terms.get(term.id.as_str());
        let says_kind = match term.kind {
            matricula_campus::TermKind::Term => academics::TermKind::Term,
            matricula_campus::TermKind::Semester => academics::TermKind::Semester,
            matricula_campus::TermKind::GradingPeriod => academics::TermKind::GradingPeriod,
            matricula_campus::TermKind::SchoolYear => academics::TermKind::SchoolYear,
        };
        let parent = term.parent.as_ref().map(ToString::to_string).unwrap_or_default();
        let max_credits = term.max_credits_hundredths.unwrap_or_default();
        let (add_deadline, drop_deadline) = (moment(term.add_deadline), moment(term.drop_deadline));
        let merge = self.merge(File::AcademicSessions, has);
        academics::Term {
            term_id: term.id.to_string(),
            title: term.title.clone(),
            add_deadline: merge.pick("metadata.addDeadline", add_deadline, |has| &has.add_deadline),
            drop_deadline: merge.pick("metadata.dropDeadline", drop_deadline, |has| &has.drop_deadline),
            max_credits_hundredths: merge.pick("metadata.maxCredits", max_credits, |has| &has.max_credits_hundredths),
            starts_on: term.starts_on.to_string(),
            ends_on: term.ends_on.to_string(),
            // The spelling of the time zone database, as the service returns it.
            time_zone: term.time_zone.as_deref().or(self.zone.iana_name()).unwrap_or("UTC").to_owned(),
            parent_term_id: merge.pick("parentSourcedId", parent, |has| &has.parent_term_id),
            kind: merge.pick("type", says_kind.into(), |has| &has.kind),
            closed: term.closed,
        }
    }

    fn course(&self, course: &Course) -> academics::Course {
        let has = self.state.courses.get(course.id.as_str());
        let (prerequisites, corequisites) = (as_stored(&course.prerequisites), as_stored(&course.corequisites));
        let merge = self.merge(File::Courses, has);
        academics::Course {
            course_id: course.id.to_string(),
            code: merge.pick("courseCode", course.code.clone(), |has| &has.code),
            title: course.title.clone(),
            credits_hundredths: merge
                .pick("metadata.credits", course.credits_hundredths, |has| &has.credits_hundredths),
            prerequisites: merge.pick("metadata.prerequisites", prerequisites, |has| &has.prerequisites),
            corequisites: merge.pick("metadata.corequisites", corequisites, |has| &has.corequisites),
            closed: course.closed,
        }
    }

    fn section(&self, section: &Section) -> academics::Section {
        let has = self.state.sections.get(section.id.as_str());
        let permission = section.permission_required;
        let merge = self.merge(File::Classes, has);
        academics::Section {
            section_id: section.id.to_string(),
            course_id: section.course_id.to_string(),
            term_id: section.term_id.to_string(),
            title: section.title.clone(),
            component: merge.pick("metadata.component", section.component.clone(), |has| &has.component),
            meetings: merge.pick("metadata.meetings", section.meetings.clone(), |has| &has.meetings),
            cancelled: section.cancelled,
            permission_required: merge.pick("metadata.permissionRequired", permission, |has| &has.permission_required),
        }
    }

    /// Capacities set by staff are not compared: the plan compares with the last bundle.
    fn capacity(&self, section: &Section) -> SectionCapacity {
        let says = section.capacity.unwrap_or(CAPACITY_UNLIMITED);
        match self.state.capacities.get(section.id.as_str()) {
            Some(has) if !self.bundle.scope.has_column(File::Classes, "metadata.maxNumberStudents") => has.clone(),
            Some(has) => SectionCapacity { capacity: says, ..has.clone() },
            None => {
                SectionCapacity { section_id: section.id.to_string(), capacity: says, ..SectionCapacity::default() }
            }
        }
    }

    /// The rates of a term; `None` if the file has no columns for rates.
    fn rates(&self, term: &Term) -> Option<TermRates> {
        if !self.bundle.scope.has_column(File::AcademicSessions, "metadata.currency") {
            return None;
        }
        let has = self.state.rates.get(term.id.as_str());
        let none = TermRates { term_id: term.id.to_string(), ..TermRates::default() };
        let Some(rates) = &term.rates else { return Some(none) };
        let step = |step: &matricula_campus::RefundStep| RefundStep {
            until: moment(Some(step.until)),
            percent: i32::from(step.percent),
        };
        let merge = self.merge(File::AcademicSessions, has);
        let of_credit = self.merge(File::AcademicSessions, has.and_then(|has| has.per_credit.as_ref()));
        let minor_units = of_credit.pick("metadata.perCreditMinor", rates.per_credit_minor, |has| &has.minor_units);
        let ladder = rates.refund_ladder.iter().map(step).collect();
        let limit = rates.balance_limit_minor.unwrap_or_default();
        Some(TermRates {
            per_credit: Some(common::Money { currency: rates.currency.code().to_owned(), minor_units }),
            refund_ladder: merge.pick("metadata.refundLadder", ladder, |has| &has.refund_ladder),
            balance_limit_minor_units: merge
                .pick("metadata.balanceLimitMinor", limit, |has| &has.balance_limit_minor_units),
            ..none
        })
    }

    fn course_fee(&self, course: &Course) -> Option<CourseFee> {
        let says = self.bundle.scope.has_column(File::Courses, "metadata.feeMinor");
        says.then(|| CourseFee { course_id: course.id.to_string(), minor_units: course.fee_minor })
    }

    fn contact(&self, student: &Student) -> Option<Contact> {
        if !self.bundle.scope.has_column(File::Users, "email") {
            return None;
        }
        let name = if student.email.is_empty() { String::new() } else { student.name() };
        Some(Contact { student_id: student.id.to_string(), email: student.email.clone(), name })
    }

    fn student(&self, student: &Student) -> academics::Student {
        let has = self.state.students.get(student.id.as_str());
        let (start, end) = (moment(student.appointment_start), moment(student.appointment_end));
        let (from, until) = (midnight(student.active_from, self.zone), midnight(student.active_until, self.zone));
        let max_credits = student.max_credits_hundredths.unwrap_or_default();
        let (user, role) = (self.merge(File::Users, has), self.merge(File::Roles, has));
        academics::Student {
            student_id: student.id.to_string(),
            name: student.name(),
            appointment_start: user.pick("metadata.appointmentStart", start, |has| &has.appointment_start),
            appointment_end: user.pick("metadata.appointmentEnd", end, |has| &has.appointment_end),
            max_credits_hundredths: user.pick("metadata.maxCredits", max_credits, |has| &has.max_credits_hundredths),
            completed: self.completed(student, has),
            holds: self.holds(student, has),
            closed: student.closed,
            active_from: role.pick("beginDate", from, |has| &has.active_from),
            active_until: role.pick("endDate", until, |has| &has.active_until),
            disabled: user.pick("enabledUser", student.disabled, |has| &has.disabled),
        }
    }

    fn holds(&self, student: &Student, has: Option<&academics::Student>) -> Vec<academics::Hold> {
        if !self.bundle.scope.has_file(File::Holds) {
            return has.map(|has| has.holds.clone()).unwrap_or_default();
        }
        let hold = |hold: &matricula_campus::Hold| academics::Hold {
            hold_id: hold.id.to_string(),
            description: hold.description.clone(),
            source: common::Source::Bundle.into(),
        };
        let mut holds: Vec<academics::Hold> = student.holds.iter().map(hold).collect();
        holds.sort_by(|a, b| a.hold_id.cmp(&b.hold_id));
        holds
    }

    fn completed(&self, student: &Student, has: Option<&academics::Student>) -> Vec<academics::CompletedCourse> {
        if !self.bundle.scope.has_file(File::Completed) {
            return has.map(|has| has.completed.clone()).unwrap_or_default();
        }
        let terms_are_named = self.bundle.scope.has_column(File::Completed, "termSourcedId");
        // If the file has no column for the term, the known term stays.
        let known: HashMap<(&str, &str), &str> = has
            .filter(|_| !terms_are_named)
            .into_iter()
            .flat_map(|has| &has.completed)
            .map(|done| ((done.course_id.as_str(), done.grade.as_str()), done.term_id.as_str()))
            .collect();
        let completed = student.completed.iter().map(|done| {
            let (course_id, grade) = (done.course_id.to_string(), done.grade.clone());
            let term_id = match &done.term_id {
                Some(term) => term.to_string(),
                None => known.get(&(course_id.as_str(), grade.as_str())).copied().unwrap_or_default().to_owned(),
            };
            academics::CompletedCourse { course_id, grade, term_id }
        });
        let mut completed: Vec<academics::CompletedCourse> = completed.collect();
        let key =
            |done: &academics::CompletedCourse| (done.course_id.clone(), done.grade.clone(), done.term_id.clone());
        completed.sort_by_key(key);
        completed
    }
}

/// A requirement in the form of the academic service, so that other quotes and parentheses are no change.
fn as_stored(requirement: &str) -> String {
    match Requirement::parse(requirement) {
        Ok(parsed) => parsed.map(|parsed| parsed.to_string()).unwrap_or_default(),
        // The service rejects it, and names its place.
        Err(_) => requirement.to_owned(),
    }
}

fn moment(moment: Option<Timestamp>) -> Option<prost_types::Timestamp> {
    moment.map(|moment| UnixMs(moment.as_millisecond()).to_wire())
}

/// The timestamp at which a day begins on the campus; `None` for a day outside the range of the library.
fn midnight(day: Option<Date>, campus: &TimeZone) -> Option<prost_types::Timestamp> {
    moment(day?.to_zoned(campus.clone()).ok().map(|at| at.timestamp()))
}
