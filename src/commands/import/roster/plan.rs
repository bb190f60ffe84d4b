//! Plans the changes to rosters, as a pure function.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::civil::Date;
use matricula_campus::{Bundle, RosterEntry};

use super::ledger::{KnownEnrollment, Ledger, Standing};

/// The changes to rosters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RosterPlan {
    /// Rows to take over. A row that moves its student also ends the row's earlier enrollment.
    pub add: Vec<Change>,
    /// Enrollments of earlier imports to end.
    pub end: Vec<Change>,
    /// Rows whose student has dropped the section.
    pub left_alone: Vec<Note>,
    /// Rows that can't be taken over, with the reasons.
    pub conflicts: Vec<Note>,
    /// Rows whose student is already in the section.
    pub unchanged: usize,
    /// Enrollments in force by earlier imports, of students and sections in the bundle.
    pub taken_over: usize,
}

/// One row to take over or to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The row of the roster.
    pub row: String,
    /// The student.
    pub student: String,
    /// The section to add; `None` if the row ends.
    pub section: Option<String>,
    /// The section of the row's earlier enrollment, which ends.
    pub ended: Option<String>,
}

/// A row with a message about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The row of the roster.
    pub row: String,
    /// Its line in the file.
    pub line: u64,
    /// The message for people.
    pub message: String,
}

/// A student in a section.
type StudentInSection<'a> = (&'a str, &'a str);
/// A course, and the part of the course to which a section belongs.
type Part<'a> = (&'a str, &'a str);

impl RosterPlan {
    /// The plan for these rows of a bundle on a day.
    pub fn new(bundle: &Bundle, rows: &[RosterEntry], ledger: &Ledger, today: Date) -> Self {
        let covered = Covered::of(bundle);
        let rows: Vec<&RosterEntry> = rows.iter().filter(|row| !covered.is_over(row, today)).collect();
        Planner::new(covered, &rows, ledger).plan(&rows)
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.end.is_empty()
    }
}

impl Change {
    /// For people: `E1: S1 into A`, `E1: S1 out of A`, `E1: S1 from A to B`.
    pub fn shown(&self) -> String {
        let Self { row, student, section, ended } = self;
        let what = match (section, ended) {
            (Some(section), None) => format!("into {section}"),
            (Some(section), Some(ended)) => format!("from {ended} to {section}"),
            (None, ended) => format!("out of {}", ended.as_deref().unwrap_or_default()),
        };
        format!("{row}: {student} {what}")
    }
}

/// The students and sections of a bundle.
struct Covered<'a> {
    students: HashSet<&'a str>,
    /// Its sections, each with its part of a course and the end of its term.
    sections: HashMap<&'a str, (Part<'a>, Option<Date>)>,
}

impl<'a> Covered<'a> {
    fn of(bundle: &'a Bundle) -> Self {
        let ends: HashMap<&str, Date> = bundle.terms.iter().map(|term| (term.id.as_str(), term.ends_on)).collect();
        let sections = bundle.sections.iter().map(|section| {
            let part = (section.course_id.as_str(), section.component.as_str());
            (section.id.as_str(), (part, ends.get(section.term_id.as_str()).copied()))
        });
        let students = bundle.students.iter().map(|student| student.id.as_str()).collect();
        Self { students, sections: sections.collect() }
    }

    fn has(&self, known: &KnownEnrollment) -> bool {
        self.students.contains(known.student.as_str()) && self.sections.contains_key(known.section.as_str())
    }

    fn part(&self, section: &str) -> Option<Part<'a>> {
        self.sections.get(section).map(|(part, _)| *part)
    }

    /// Whether the row has ended before the end of its term.
    fn is_over(&self, row: &RosterEntry, today: Date) -> bool {
        let end_of_term = self.sections.get(row.section_id.as_str()).and_then(|(_, end)| *end);
        let has_left = |day: Date| day <= today && end_of_term.is_none_or(|end| day < end);
        row.ended || row.ends_on.is_some_and(has_left)
    }
}

/// The state while the rows are planned one after the other.
struct Planner<'a> {
    covered: Covered<'a>,
    /// The students and sections that rows ask for.
    wanted: HashSet<StudentInSection<'a>>,
    in_force: HashMap<StudentInSection<'a>, &'a KnownEnrollment>,
    /// The state of the last enrollment of each student in each section.
    last: HashMap<StudentInSection<'a>, &'a KnownEnrollment>,
    /// Imported enrollments that no row contains any more, by student.
    ending: BTreeMap<&'a str, Vec<&'a KnownEnrollment>>,
    /// The parts of courses that each student has or gets.
    taken: HashMap<&'a str, HashMap<Part<'a>, OccupiedPart<'a>>>,
}

/// A part that a student has or gets.
#[derive(Clone, Copy)]
struct OccupiedPart<'a> {
    section: &'a str,
    by: &'static str,
}

impl<'a> Planner<'a> {
    fn new(covered: Covered<'a>, rows: &[&'a RosterEntry], ledger: &'a Ledger) -> Self {
        let mut planner = Self {
            covered,
            wanted: rows.iter().map(|row| place_of(row)).collect(),
            in_force: HashMap::new(),
            last: HashMap::new(),
            ending: BTreeMap::new(),
            taken: HashMap::new(),
        };
        for known in &ledger.known {
            planner.add(known);
        }
        planner
    }

    fn add(&mut self, known: &'a KnownEnrollment) {
        let place = (known.student.as_str(), known.section.as_str());
        // Enrollments are in the order of time, so the last one stays.
        self.last.insert(place, known);
        if !known.standing.is_in_force() {
            return;
        }
        self.in_force.insert(place, known);
        let is_gone = !self.wanted.contains(&place) && self.covered.has(known);
        if known.row.is_some() && known.standing == Standing::Enrolled && is_gone {
            self.ending.entry(place.0).or_default().push(known);
            return;
        }
        let by = match (known.standing, &known.row) {
            (Standing::Reserved, _) => "by a pending registration",
            (_, Some(_)) => "by an earlier import",
            (_, None) => "by the student's own registration",
        };
        let part = self.part_of(known);
        self.taken.entry(place.0).or_default().insert(part, OccupiedPart { section: place.1, by });
    }

    fn part_of(&self, known: &'a KnownEnrollment) -> Part<'a> {
        self.covered.part(&known.section).unwrap_or((known.course.as_str(), known.component.as_str()))
    }

    fn plan(mut self, rows: &[&'a RosterEntry]) -> RosterPlan {
        let imported = |known: &&&KnownEnrollment| known.row.is_some() && self.covered.has(known);
        let taken_over = self.in_force.values().filter(imported).count();
        let mut plan = RosterPlan { taken_over, ..RosterPlan::default() };
        let mut seen = HashSet::with_capacity(rows.len());
        for &row in rows {
            let place = place_of(row);
            if self.in_force.contains_key(&place) || !seen.insert(place) {
                plan.unchanged += 1;
            } else if let Some(message) = self.own_decision(row) {
                plan.left_alone.push(note(row, message));
            } else {
                match self.take(row) {
                    Ok(change) => plan.add.push(change),
                    Err(message) => plan.conflicts.push(note(row, message)),
                }
            }
        }
        let left = self.ending.into_values().flatten();
        plan.end = left.filter_map(ended).collect();
        plan
    }

    /// The student's own decision that the row would revert: a drop after an import, or of an own registration. A new
    /// row for an enrollment of an earlier row is a new statement, and overrides the decision.
    fn own_decision(&self, row: &RosterEntry) -> Option<String> {
        let last = self.last.get(&place_of(row)).filter(|last| last.standing == Standing::DroppedByStudent)?;
        let is_own = last.row.as_deref().is_none_or(|earlier| earlier == row.id.as_str());
        is_own.then(|| format!("{} has dropped section {}; the drop stands", row.student_id, row.section_id))
    }

    /// Reserves the part of the course for a row; the row's earlier enrollment ends.
    fn take(&mut self, row: &'a RosterEntry) -> Result<Change, String> {
        let (student, section) = place_of(row);
        let Some(part) = self.covered.part(section) else {
            return Err(format!("section {section} is not in the bundle"));
        };
        let taken = self.taken.entry(student).or_default();
        if let Some(OccupiedPart { section: other, by }) = taken.get(&part) {
            return Err(format!("{student} has section {other} of the same course, {by}"));
        }
        taken.insert(part, OccupiedPart { section, by: "by an earlier row" });
        let ending = self.ending.entry(student).or_default();
        let before = ending.iter().position(|known| known.row.as_deref() == Some(row.id.as_str()));
        let ended = before.map(|at| ending.remove(at).section.clone());
        let (row, student, section) = (row.id.to_string(), student.to_owned(), Some(section.to_owned()));
        Ok(Change { row, student, section, ended })
    }
}

fn place_of(row: &RosterEntry) -> StudentInSection<'_> {
    (row.student_id.as_str(), row.section_id.as_str())
}

/// The change that ends an imported enrollment.
fn ended(known: &KnownEnrollment) -> Option<Change> {
    let (row, student, ended) = (known.row.clone()?, known.student.clone(), Some(known.section.clone()));
    Some(Change { row, student, section: None, ended })
}

fn note(row: &RosterEntry, message: String) -> Note {
    Note { row: row.id.to_string(), line: row.line, message }
}
