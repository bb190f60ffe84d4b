//! Terms, courses and sections.

use std::{
    collections::{HashMap, HashSet},
    str::FromStr,
};

use jiff::{Timestamp, civil::Date};

use super::{
    BALANCE_LIMIT_MAX, COURSES, Reading, SECTIONS, TERMS, parse_amount, parse_bool, parse_credit_limit, parse_credits,
    parse_minor_units, parse_timestamp,
};
use crate::{
    ids::{CourseId, Invalid, SectionId, TermId, check_id},
    meetings::parse_meetings,
    model::{Course, Currency, Money, Rates, RefundStep, Section, Term},
    prerequisites::course_codes,
    problem::{Problem, Problems},
    table::Row,
};

/// Most seats of a section: what the seat service takes.
const CAPACITY_MAX: i32 = 1_000_000;
/// Longest meetings in bytes: a section that meets at seven different times takes 100.
const MEETINGS_BYTES_MAX: usize = 500;
/// Longest rule in bytes: some hundred courses.
const RULE_BYTES_MAX: usize = 2_000;

/// A course code that a rule names, to be looked up when all courses are known.
struct NamedCode {
    line: u64,
    column: &'static str,
    code: String,
}

impl Reading<'_> {
    pub(super) fn terms(&mut self) {
        let Some(mut table) = self.required(TERMS, &["sourcedId", "title", "startDate", "endDate"]) else { return };
        let mut currency = None;
        while let Some(row) = table.next_row(&mut self.problems) {
            let problems = &mut self.problems;
            let deleted = row.deleted(problems);
            let id = row.required("sourcedId", TermId::try_new, problems);
            if let Some(id) = &id {
                self.terms.insert(row, "sourcedId", id.as_str(), deleted, problems);
            }
            let Some(term) = id.and_then(|id| parse_term(row, id, problems)).filter(|_| !deleted) else { continue };
            if let Some(rates) = &term.rates {
                let (code, first) = currency.get_or_insert((rates.per_credit.currency, row.line));
                if *code != rates.per_credit.currency {
                    let what = format!("is not {code} as in line {first}; an installation has one currency");
                    row.refuse("metadata.currency", rates.per_credit.currency.as_str(), what, problems);
                }
            }
            self.bundle.terms.push(term);
        }
        self.terms.complete = table.complete;
    }

    pub(super) fn courses(&mut self) {
        let Some(mut table) = self.required(COURSES, &["sourcedId", "title"]) else { return };
        let mut codes = HashSet::new();
        let mut named = Vec::new();
        while let Some(row) = table.next_row(&mut self.problems) {
            let problems = &mut self.problems;
            let deleted = row.deleted(problems);
            let id = row.required("sourcedId", CourseId::try_new, problems);
            if let Some(id) = &id {
                self.courses.insert(row, "sourcedId", id.as_str(), deleted, problems);
            }
            let org = row.optional("orgSourcedId", Ok, problems).filter(|_| !deleted);
            if let Some(org) = org {
                self.orgs.check(row, "orgSourcedId", org, problems);
            }
            let course = id.and_then(|id| parse_course(row, id, problems)).filter(|_| !deleted);
            let Some(course) = course else { continue };
            for (column, rule) in
                [("metadata.prerequisites", &course.prerequisites), ("metadata.corequisites", &course.corequisites)]
            {
                let rule_codes = course_codes(rule).unwrap_or_default();
                let line = row.line;
                named.extend(rule_codes.iter().map(|code| NamedCode { line, column, code: (*code).to_owned() }));
            }
            codes.insert(course.code.clone());
            self.bundle.courses.push(course);
        }
        self.courses.complete = table.complete;
        if table.complete {
            for NamedCode { line, column, code } in named.into_iter().filter(|named| !codes.contains(&named.code)) {
                let what = "is no course's courseCode; add the course or correct the code";
                self.problems.push(Problem::of_value(COURSES, line, column, &code, what));
            }
        }
    }

    pub(super) fn sections(&mut self) {
        let columns = ["sourcedId", "title", "courseSourcedId", "termSourcedIds"];
        let Some(mut table) = self.required(SECTIONS, &columns) else { return };
        // The first section of each course and term: its line, and whether it is a part of the course.
        let mut firsts: HashMap<(CourseId, TermId), (u64, bool)> = HashMap::new();
        while let Some(row) = table.next_row(&mut self.problems) {
            let problems = &mut self.problems;
            let cancelled = row.deleted(problems);
            let id = row.required("sourcedId", SectionId::try_new, problems);
            if let Some(id) = &id {
                // A cancelled section stays known.
                self.sections.insert(row, "sourcedId", id.as_str(), false, problems);
            }
            let Some(section) = id.and_then(|id| parse_section(row, id, cancelled, problems)) else { continue };
            if let Some(org) = row.optional("schoolSourcedId", Ok, problems) {
                self.orgs.check(row, "schoolSourcedId", org, problems);
            }
            let exists = self.courses.check(row, "courseSourcedId", section.course_id.as_str(), problems)
                & self.terms.check(row, "termSourcedIds", section.term_id.as_str(), problems);
            let is_part = !section.component.is_empty();
            let of = (section.course_id.clone(), section.term_id.clone());
            let (line, first_is_part) = *firsts.entry(of).or_insert((row.line, is_part));
            if is_part != first_is_part {
                let has = if first_is_part { "has a component" } else { "has none" };
                let what =
                    format!("the section of the same course and term in line {line} {has}; give all one, or none");
                row.refuse("metadata.component", &section.component, what, problems);
            }
            if exists {
                self.bundle.sections.push(section);
            }
        }
        self.sections.complete = table.complete;
    }
}

fn parse_term(row: Row<'_>, id: TermId, problems: &mut Problems) -> Option<Term> {
    let title = row.required_for_people("title", problems);
    let starts_on = row.required("startDate", parse_date, problems);
    let ends_on = row.required("endDate", parse_date, problems);
    if let (Some(starts_on), Some(ends_on)) = (starts_on, ends_on)
        && ends_on < starts_on
    {
        row.refuse("endDate", &ends_on.to_string(), "is before startDate; correct one of them", problems);
    }
    let add_deadline = row.optional("metadata.addDeadline", parse_timestamp, problems);
    let drop_deadline = row.optional("metadata.dropDeadline", parse_timestamp, problems);
    let max_credits_hundredths = row.optional("metadata.maxCredits", parse_credit_limit, problems);
    let rates = parse_rates(row, problems);
    let (title, starts_on, ends_on) = (title?.to_owned(), starts_on?, ends_on?);
    Some(Term { id, title, starts_on, ends_on, add_deadline, drop_deadline, max_credits_hundredths, rates })
}

fn parse_rates(row: Row<'_>, problems: &mut Problems) -> Option<Rates> {
    let currency_text = row.text("metadata.currency", problems)?;
    let currency = row.optional("metadata.currency", Currency::try_new, problems);
    let minor_units = row.optional("metadata.perCreditMinor", parse_minor_units, problems);
    let refund_ladder = row.optional("metadata.refundLadder", parse_refund_ladder, problems);
    let balance_limit_minor = row.optional("metadata.balanceLimitMinor", parse_balance_limit, problems);
    if currency_text.is_empty() && (minor_units.is_some() || refund_ladder.is_some() || balance_limit_minor.is_some()) {
        let what = "is empty beside metadata.perCreditMinor, metadata.refundLadder or metadata.balanceLimitMinor; \
                    name the currency, such as USD";
        row.refuse("metadata.currency", "", what, problems);
    }
    let per_credit = Money { currency: currency?, minor_units: minor_units.unwrap_or(0) };
    Some(Rates { per_credit, refund_ladder: refund_ladder.unwrap_or_default(), balance_limit_minor })
}

fn parse_balance_limit(text: &str) -> Result<i64, Invalid> {
    match parse_amount(text, BALANCE_LIMIT_MAX)? {
        0 => Err(Invalid::new("forbids every charge; leave it empty for no limit")),
        minor => Ok(minor),
    }
}

fn parse_refund_ladder(text: &str) -> Result<Vec<RefundStep>, Invalid> {
    let mut ladder: Vec<RefundStep> = Vec::new();
    for step in text.split(';') {
        let Some((until, percent)) = step.rsplit_once(':') else {
            return Err(Invalid::new("not a refund ladder; write `2026-09-01T00:00:00Z:100;2026-09-08T00:00:00Z:50`"));
        };
        let until: Timestamp = parse_timestamp(until.trim())?;
        let percent = percent.trim().parse().ok().filter(|percent| *percent <= 100);
        let percent = percent.ok_or(Invalid::new("a percentage is not 0 to 100; write it after the last `:`"))?;
        // To the millisecond, as the fee service counts.
        if ladder.last().is_some_and(|last| last.until.as_millisecond() >= until.as_millisecond()) {
            return Err(Invalid::new("the steps are not in order of time; put the earliest first"));
        }
        ladder.push(RefundStep { until, percent });
    }
    Ok(ladder)
}

fn parse_course(row: Row<'_>, id: CourseId, problems: &mut Problems) -> Option<Course> {
    let rule = |text: &str| match text.len() > RULE_BYTES_MAX {
        true => Err(Invalid::new(format!("is longer than {RULE_BYTES_MAX} bytes; shorten it"))),
        false => course_codes(text).map(|_| text.to_owned()),
    };
    let title = row.required_for_people("title", problems);
    let code = row.for_people("courseCode", problems);
    let credits_hundredths = row.optional("metadata.credits", parse_credits, problems).unwrap_or(0);
    let prerequisites = row.optional("metadata.prerequisites", rule, problems).unwrap_or_default();
    let corequisites = row.optional("metadata.corequisites", rule, problems).unwrap_or_default();
    let fee_minor = row.optional("metadata.feeMinor", parse_minor_units, problems).unwrap_or(0);
    let code = match code? {
        "" => id.to_string(),
        code => code.to_owned(),
    };
    Some(Course { id, code, title: title?.to_owned(), credits_hundredths, prerequisites, corequisites, fee_minor })
}

fn parse_section(row: Row<'_>, id: SectionId, cancelled: bool, problems: &mut Problems) -> Option<Section> {
    let meetings = |text: &str| match text.len() > MEETINGS_BYTES_MAX {
        true => Err(Invalid::new(format!("is longer than {MEETINGS_BYTES_MAX} bytes; shorten it"))),
        false => parse_meetings(text).map(|_| text.to_owned()),
    };
    let title = row.for_people("title", problems);
    let course_id = row.required("courseSourcedId", CourseId::try_new, problems);
    let term_id = row.required("termSourcedIds", parse_only_term, problems);
    let capacity = row.optional("metadata.maxNumberStudents", parse_capacity, problems);
    let component = row.optional("metadata.component", parse_component, problems).unwrap_or_default();
    let meetings = row.optional("metadata.meetings", meetings, problems).unwrap_or_default();
    let permission_required = row.optional("metadata.permissionRequired", parse_bool, problems).unwrap_or(false);
    let (title, course_id, term_id) = (title?.to_owned(), course_id?, term_id?);
    Some(Section { id, course_id, term_id, title, capacity, component, meetings, permission_required, cancelled })
}

fn parse_date(text: &str) -> Result<Date, Invalid> {
    Date::from_str(text).map_err(|_| Invalid::new("not a date; write it as in `2026-08-24`"))
}

fn parse_only_term(text: &str) -> Result<TermId, Invalid> {
    if text.contains(',') {
        return Err(Invalid::new("names several terms; a section belongs to one: make a class for each"));
    }
    TermId::try_new(text)
}

fn parse_capacity(text: &str) -> Result<i32, Invalid> {
    let seats = text.parse().ok().filter(|seats| (0..=CAPACITY_MAX).contains(seats));
    seats.ok_or_else(|| {
        Invalid::new(format!(
            "not a number of seats; use a whole number up to {CAPACITY_MAX}, 0 for a section that is not open, or leave it \
             empty for no limit"
        ))
    })
}

fn parse_component(text: &str) -> Result<String, Invalid> {
    match text.split_once('/') {
        Some((configuration, subpart)) if check_id(configuration).is_ok() && check_id(subpart).is_ok() => {
            Ok(text.to_owned())
        }
        _ => Err(Invalid::new("not a component; write `configuration/subpart`, such as `1/2`")),
    }
}
