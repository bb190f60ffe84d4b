//! Reads a bundle: every file once, in the order of their references, and gathers every problem on the way. Parsing is
//! spread over `catalog` and `people`; what they share is [`Reading`].

mod catalog;
mod people;

use std::{collections::HashSet, path::Path, str::FromStr};

use jiff::Timestamp;

use crate::{
    ids::Invalid,
    model::{Bundle, Registration},
    problem::{BundleErrors, Problem, Problems},
    registrations,
    table::{Index, Opened, Row, Table},
};

pub(crate) const MANIFEST: &str = "manifest.csv";
pub(crate) const TERMS: &str = "academicSessions.csv";
pub(crate) const ORGS: &str = "orgs.csv";
pub(crate) const COURSES: &str = "courses.csv";
pub(crate) const SECTIONS: &str = "classes.csv";
pub(crate) const USERS: &str = "users.csv";
pub(crate) const ROLES: &str = "roles.csv";
pub(crate) const HOLDS: &str = "holds.csv";
pub(crate) const COMPLETED: &str = "completed.csv";
pub(crate) const REGISTRATIONS: &str = "registrations.csv";

/// Files in the order in which problems are listed.
const FILES: [&str; 10] = [MANIFEST, TERMS, ORGS, COURSES, SECTIONS, USERS, ROLES, HOLDS, COMPLETED, REGISTRATIONS];
/// What the manifest must announce.
const ANNOUNCED: [(&str, &str); 4] =
    [("file.academicSessions", TERMS), ("file.courses", COURSES), ("file.classes", SECTIONS), ("file.users", USERS)];
// The bounds below are those of the services: what is read is also imported, or nothing is.
/// A hundred credits are more than anybody takes.
const CREDITS_HUNDREDTHS_MAX: i32 = 10_000;
/// Ten millions of a currency with two decimals: more than any price, and far from where products with credits overflow.
const MINOR_UNITS_MAX: i64 = 1_000_000_000;
/// A thousand times that: more than any account comes to.
const BALANCE_LIMIT_MAX: i64 = 1_000_000_000_000;

/// Reads the bundle in a directory, whole and consistent, or says everything that is wrong with it.
pub fn read(dir: &Path) -> Result<Bundle, BundleErrors> {
    let mut reading = Reading::new(dir);
    if let Err(error) = std::fs::read_dir(dir) {
        let what = format!("can't be read ({error}); name a directory with the files of a OneRoster bundle");
        reading.problems.push(Problem::of_file(&dir.display().to_string(), what));
    } else {
        reading.manifest();
        reading.orgs();
        reading.terms();
        reading.courses();
        reading.sections();
        reading.users();
        reading.roles();
        reading.holds();
        reading.completed();
        reading.registrations();
    }
    if reading.problems.is_empty() { Ok(reading.bundle) } else { Err(into_errors(reading.problems)) }
}

pub(crate) fn into_errors(problems: Problems) -> BundleErrors {
    problems.into_errors(|file| FILES.iter().position(|known| *known == file).unwrap_or(FILES.len()))
}

/// A bundle while it is read.
struct Reading<'a> {
    dir: &'a Path,
    bundle: Bundle,
    problems: Problems,
    terms: Index,
    orgs: Index,
    courses: Index,
    sections: Index,
    users: Index,
    /// Users with the role of a student; none while that is not known.
    students: Option<HashSet<String>>,
}

impl<'a> Reading<'a> {
    fn new(dir: &'a Path) -> Self {
        Self {
            dir,
            bundle: Bundle::default(),
            problems: Problems::default(),
            terms: Index::new(TERMS),
            orgs: Index::new(ORGS),
            courses: Index::new(COURSES),
            sections: Index::new(SECTIONS),
            users: Index::new(USERS),
            students: None,
        }
    }

    /// A file without which there is no campus.
    fn required(&mut self, file: &'static str, columns: &[&str]) -> Option<Box<Table>> {
        match Table::open(self.dir, file, columns, &mut self.problems) {
            Opened::Ready(table) => Some(table),
            Opened::Broken => None,
            Opened::Absent => {
                self.problems.push(Problem::of_file(file, "is missing; add it to the bundle"));
                None
            }
        }
    }

    /// A file that may be absent.
    fn optional(&mut self, file: &'static str, columns: &[&str]) -> Option<Box<Table>> {
        match Table::open(self.dir, file, columns, &mut self.problems) {
            Opened::Ready(table) => Some(table),
            Opened::Broken | Opened::Absent => None,
        }
    }

    fn manifest(&mut self) {
        let Some(mut table) = self.required(MANIFEST, &["propertyName", "value"]) else { return };
        let mut version = None;
        let mut announced = HashSet::new();
        while let Some(row) = table.next_row(&mut self.problems) {
            let (name, value) = (row.text("propertyName", &mut self.problems), row.text("value", &mut self.problems));
            let (Some(name), Some(value)) = (name, value) else { continue };
            if name == "oneroster.version" {
                version = Some(value.to_owned());
                if value != "1.2" {
                    row.refuse("value", value, "not supported; export the bundle as OneRoster 1.2", &mut self.problems);
                }
            }
            if let Some((property, _)) = ANNOUNCED.iter().find(|(property, _)| *property == name) {
                announced.insert(*property);
                if value != "bulk" {
                    let what = format!("{name} must be bulk: an import takes a whole campus, not changes to one");
                    row.refuse("value", value, what, &mut self.problems);
                }
            }
        }
        if !table.complete {
            return;
        }
        if version.is_none() {
            self.problems
                .push(Problem::of_file(MANIFEST, "has no oneroster.version; add a row `oneroster.version,1.2`"));
        }
        for (property, file) in ANNOUNCED {
            if !announced.contains(property) {
                let what = format!("does not announce {file}; add a row `{property},bulk`");
                self.problems.push(Problem::of_file(MANIFEST, what));
            }
        }
    }

    fn orgs(&mut self) {
        let Some(mut table) = self.optional(ORGS, &["sourcedId"]) else { return };
        while let Some(row) = table.next_row(&mut self.problems) {
            let deleted = row.deleted(&mut self.problems);
            if let Some(id) = row.required("sourcedId", Ok, &mut self.problems) {
                self.orgs.insert(row, "sourcedId", id, deleted, &mut self.problems);
            }
        }
        self.orgs.complete = table.complete;
    }

    fn registrations(&mut self) {
        let Some(mut table) = self.optional(REGISTRATIONS, &registrations::COLUMNS) else { return };
        let mut last_arrival_ms = 0;
        while let Some(row) = table.next_row(&mut self.problems) {
            let Some(registration) = registrations::parse(row, &mut last_arrival_ms, &mut self.problems) else {
                continue;
            };
            if self.refers_to_what_exists(row, &registration) {
                self.bundle.registrations.push(registration);
            }
        }
    }

    fn refers_to_what_exists(&mut self, row: Row<'_>, registration: &Registration) -> bool {
        let mut exists = self.is_student(row, registration.student_id.as_str());
        let lists = [("addClassSourcedIds", &registration.adds), ("dropClassSourcedIds", &registration.drops)];
        for (column, sections) in lists {
            for section in sections {
                // A cancelled section may be asked for: the refusal is part of the morning.
                exists &= self.sections.check(row, column, section.as_str(), &mut self.problems);
            }
        }
        exists
    }

    /// Whether `studentSourcedId` of a row names a student; if not, that is a problem.
    fn is_student(&mut self, row: Row<'_>, id: &str) -> bool {
        if !self.users.check(row, "studentSourcedId", id, &mut self.problems) {
            return false;
        }
        let is_student = self.students.as_ref().is_none_or(|students| students.contains(id));
        if !is_student {
            let what = format!("has no role of a student in {ROLES}; add it there or correct it here");
            row.refuse("studentSourcedId", id, what, &mut self.problems);
        }
        is_student
    }
}

fn parse_timestamp(text: &str) -> Result<Timestamp, Invalid> {
    Timestamp::from_str(text)
        .map_err(|_| Invalid::new("not a moment; write it with its time zone, as in `2026-09-01T08:00:00Z`"))
}

/// Up to two decimals, as hundredths.
fn parse_credits(text: &str) -> Result<i32, Invalid> {
    let invalid = || Invalid::new("not a number of credits; use 0 to 100 with at most two decimals, such as 1.5");
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || decimals.is_empty() || decimals.trim_end_matches('0').len() > 2 {
        return Err(invalid());
    }
    let decimals = decimals.get(..2).map_or_else(|| format!("{decimals}0"), str::to_owned);
    let hundredths = format!("{whole}{decimals}").parse::<i32>().map_err(|_| invalid())?;
    if whole.is_empty() || hundredths > CREDITS_HUNDREDTHS_MAX { Err(invalid()) } else { Ok(hundredths) }
}

/// A limit of credits: on the wire, 0 would lift it.
fn parse_credit_limit(text: &str) -> Result<i32, Invalid> {
    match parse_credits(text)? {
        0 => Err(Invalid::new("forbids everything; leave it empty for no limit, or use a hold")),
        hundredths => Ok(hundredths),
    }
}

fn parse_minor_units(text: &str) -> Result<i64, Invalid> {
    parse_amount(text, MINOR_UNITS_MAX)
}

fn parse_amount(text: &str, max: i64) -> Result<i64, Invalid> {
    match text.parse() {
        Ok(minor) if (0..=max).contains(&minor) => Ok(minor),
        _ => Err(Invalid::new(format!(
            "not an amount; use a whole number of minor units up to {max}, such as 45000 for USD 450.00"
        ))),
    }
}

fn parse_bool(text: &str) -> Result<bool, Invalid> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Invalid::new("neither true nor false; use one of them")),
    }
}
