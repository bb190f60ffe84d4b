//! The registration morning, one click after the other, for callers that do not need the rest of the bundle.

use std::path::Path;

use crate::{
    file::File,
    ids::{IdempotencyKey, Invalid, SectionId, StudentId},
    model::Registration,
    problem::{BundleErrors, Finding, Problems},
    source::Source,
    table::{Opened, Row, Table},
};

/// The services' limit for sections in a registration.
const SECTIONS_MAX: usize = 20;

/// Reads `registrations.csv` of a bundle row by row. Each row is checked on its own; only [`crate::read`] checks
/// references.
pub fn registrations(path: &Path) -> Result<Registrations, BundleErrors> {
    let mut problems = Problems::default();
    let Some(source) = Source::open(path, &mut problems) else { return Err(problems.into_errors()) };
    let file = File::Registrations;
    match Table::open(&source.folder, file, file.columns(), &mut problems) {
        Opened::Ready(table) => return Ok(Registrations { table, last_arrival_ms: 0, _source: source }),
        Opened::Broken => {}
        Opened::Absent => {
            let what = format!("is missing in {}; generate a campus, or use a bundle that contains it", path.display());
            problems.push(Finding::of_file(file, what));
        }
    }
    Err(problems.into_errors())
}

/// The clicks of a morning in order of arrival; see [`registrations`].
pub struct Registrations {
    table: Box<Table>,
    last_arrival_ms: u64,
    /// Keeps a temporary folder until the file is read.
    _source: Source,
}

impl Iterator for Registrations {
    type Item = Result<Registration, BundleErrors>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut problems = Problems::default();
        let row = self.table.next_row(&mut problems);
        let registration = row.and_then(|row| parse(row, &mut self.last_arrival_ms, &mut problems));
        if problems.is_empty() { registration.map(Ok) } else { Some(Err(problems.into_errors())) }
    }
}

/// Parses one click; `None` if it has a problem.
pub(crate) fn parse(row: Row<'_>, last_arrival_ms: &mut u64, problems: &mut Problems) -> Option<Registration> {
    let arrival_ms = row.required("arrivalMs", parse_arrival_ms, problems);
    if let Some(arrival_ms) = arrival_ms {
        if arrival_ms < *last_arrival_ms {
            let what = "is before the row above; sort the rows by arrivalMs";
            row.refuse("arrivalMs", &arrival_ms.to_string(), what, problems);
        }
        *last_arrival_ms = arrival_ms;
    }
    let key = row.required("idempotencyKey", IdempotencyKey::try_new, problems);
    let student_id = row.required("studentSourcedId", StudentId::try_new, problems);
    let adds = parse_sections(row, "addClassSourcedIds", problems);
    let drops = parse_sections(row, "dropClassSourcedIds", problems);
    let (arrival_ms, key, student_id, adds, drops) = (arrival_ms?, key?, student_id?, adds?, drops?);

    let sections: Vec<_> = adds.iter().chain(&drops).collect();
    let twice = sections.iter().enumerate().find(|(at, section)| sections[..*at].contains(section));
    let what = if let Some((_, section)) = twice {
        format!("lists section {section} twice; list it once")
    } else if sections.is_empty() {
        "adds nothing and drops nothing; fill in at least one of them".to_owned()
    } else if sections.len() > SECTIONS_MAX {
        format!("lists {} sections, the limit is {SECTIONS_MAX}; split the row", sections.len())
    } else {
        return Some(Registration { arrival_ms, key, student_id, adds, drops });
    };
    problems.push(Finding::of_line(row.file, row.line, what));
    None
}

fn parse_arrival_ms(text: &str) -> Result<u64, Invalid> {
    text.parse().map_err(|_| Invalid::new("not a time; use whole milliseconds after opening"))
}

fn parse_sections(row: Row<'_>, column: &str, problems: &mut Problems) -> Option<Vec<SectionId>> {
    let text = row.text(column, problems)?;
    let mut sections = Vec::new();
    for id in text.split('|').filter(|_| !text.is_empty()) {
        match SectionId::try_new(id.trim()) {
            Ok(id) => sections.push(id),
            Err(invalid) => {
                row.refuse(column, id, format!("{invalid}, several separated by |"), problems);
                return None;
            }
        }
    }
    Some(sections)
}
