//! Terms: their dates, parents, deadlines and rates.

use std::collections::HashMap;

use jiff::{Timestamp, tz::TimeZone};

use super::{
    Reading,
    values::{parse_balance_limit, parse_credit_limit, parse_currency, parse_date, parse_minor_units, parse_timestamp},
};
use crate::{
    file::File,
    ids::{Invalid, TermId},
    model::{Rates, RefundStep, Term, TermKind},
    problem::{Finding, Problems},
    suggest::suggested,
    table::Row,
};

const PARENT: &str = "parentSourcedId";

impl Reading<'_> {
    pub(super) fn terms(&mut self) {
        let columns = ["sourcedId", "title", "startDate", "endDate"];
        let Some(mut table) = self.open(File::AcademicSessions, &columns) else { return };
        let mut currency = None;
        let mut lines = Vec::new();
        while let Some(row) = table.next_row(&mut self.problems) {
            let problems = &mut self.problems;
            let (id, closed) = self.terms.add(row, TermId::try_new, problems);
            let Some(term) = id.and_then(|id| parse_term(row, id, closed, problems)) else { continue };
            if let Some(rates) = &term.rates {
                let (code, first) = currency.get_or_insert((rates.currency, row.line));
                if *code != rates.currency {
                    let what = format!("is not {} as in line {first}; an installation has one currency", code.code());
                    row.refuse("metadata.currency", rates.currency.code(), what, problems);
                }
            }
            self.bundle.terms.push(term);
            lines.push(row.line);
        }
        self.terms.complete = table.complete;
        self.parents(&lines);
    }

    /// Checks that every parent is a term of the file, and that there are no cycles.
    fn parents(&mut self, lines: &[u64]) {
        let terms = &self.bundle.terms;
        for (term, line) in terms.iter().zip(lines) {
            let Some(parent) = &term.parent else { continue };
            if let Some(what) = self.terms.missing(parent.as_str()) {
                let file = File::AcademicSessions;
                self.problems.push(Finding::of_value(file, *line, PARENT, parent.as_str(), what));
            }
        }
        let places: HashMap<&TermId, usize> = terms.iter().zip(0..).map(|(term, place)| (&term.id, place)).collect();
        // For each term, the walk that visited it; a walk ends at a visited term.
        let mut seen = vec![None; terms.len()];
        for walk in 0..terms.len() {
            let mut at = walk;
            while seen[at].is_none() {
                seen[at] = Some(walk);
                let parent = terms[at].parent.as_ref();
                let Some((parent, next)) = parent.and_then(|id| Some((id, *places.get(id)?))) else { break };
                if seen[next] == Some(walk) {
                    let what =
                        "makes the term a part of itself; use the sourcedId of the term above it, or leave it empty";
                    let file = File::AcademicSessions;
                    self.problems.push(Finding::of_value(file, lines[at], PARENT, parent.as_str(), what));
                }
                at = next;
            }
        }
    }
}

fn parse_term(row: Row<'_>, id: TermId, closed: bool, problems: &mut Problems) -> Option<Term> {
    let title = row.required_for_people("title", problems);
    let kind = row.optional("type", parse_kind, problems).unwrap_or(TermKind::Term);
    let parent = row.optional(PARENT, TermId::try_new, problems);
    let starts_on = row.required("startDate", parse_date, problems);
    let ends_on = row.required("endDate", parse_date, problems);
    if let (Some(starts_on), Some(ends_on)) = (starts_on, ends_on)
        && ends_on <= starts_on
    {
        let what = "is not after startDate (a term ends on the day before endDate); correct one of them";
        row.refuse("endDate", &ends_on.to_string(), what, problems);
    }
    let time_zone = row.optional("metadata.timeZone", parse_time_zone, problems);
    let add_deadline = row.optional("metadata.addDeadline", parse_timestamp, problems);
    let drop_deadline = row.optional("metadata.dropDeadline", parse_timestamp, problems);
    let max_credits_hundredths = row.optional("metadata.maxCredits", parse_credit_limit, problems);
    let rates = parse_rates(row, problems);
    Some(Term {
        id,
        title: title?.to_owned(),
        kind,
        parent,
        starts_on: starts_on?,
        ends_on: ends_on?,
        time_zone,
        add_deadline,
        drop_deadline,
        max_credits_hundredths,
        rates,
        closed,
    })
}

fn parse_kind(text: &str) -> Result<TermKind, Invalid> {
    let kind = TermKind::ALL.into_iter().find(|kind| kind.as_str() == text);
    let names = TermKind::ALL.map(TermKind::as_str);
    kind.ok_or_else(|| Invalid::new(format!("not a kind of academic session; {}", suggested(text, &names))))
}

/// Parses a time zone, and returns the spelling of the database.
fn parse_time_zone(text: &str) -> Result<String, Invalid> {
    let zone = TimeZone::get(text).ok().filter(|zone| !zone.is_unknown());
    zone.and_then(|zone| zone.iana_name().map(str::to_owned))
        .ok_or(Invalid::new("not a time zone; use a name of the IANA database, such as America/New_York or UTC"))
}

fn parse_rates(row: Row<'_>, problems: &mut Problems) -> Option<Rates> {
    let currency_text = row.text("metadata.currency", problems)?;
    let currency = row.optional("metadata.currency", parse_currency, problems);
    let minor_units = row.optional("metadata.perCreditMinor", parse_minor_units, problems);
    let refund_ladder = row.optional("metadata.refundLadder", parse_refund_ladder, problems);
    let balance_limit_minor = row.optional("metadata.balanceLimitMinor", parse_balance_limit, problems);
    if currency_text.is_empty() && (minor_units.is_some() || refund_ladder.is_some() || balance_limit_minor.is_some()) {
        let what = "is empty beside metadata.perCreditMinor, metadata.refundLadder or metadata.balanceLimitMinor; \
                    enter the currency, such as USD";
        row.refuse("metadata.currency", "", what, problems);
    }
    let (per_credit_minor, refund_ladder) = (minor_units.unwrap_or(0), refund_ladder.unwrap_or_default());
    Some(Rates { currency: currency?, per_credit_minor, refund_ladder, balance_limit_minor })
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
        // Rounded to the millisecond, the precision of the fee service.
        if ladder.last().is_some_and(|last| last.until.as_millisecond() >= until.as_millisecond()) {
            return Err(Invalid::new("the steps are not in order of time; write the earliest first"));
        }
        ladder.push(RefundStep { until, percent });
    }
    Ok(ladder)
}
