//! Reads a bundle: every file once, in the order of their references. All problems and notes are collected. Each part
//! has its own file; [`Reading`] is their shared state.

mod courses;
mod manifest;
mod morning;
mod people;
mod records;
mod rosters;
mod sections;
mod terms;
mod unmeetable;
mod values;

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use crate::{
    file::File,
    ids::StudentId,
    model::Bundle,
    notes::Notes,
    problem::{BundleErrors, Finding, Problems},
    scope::Scope,
    source::Source,
    suggest::did_you_mean,
    table::{Index, Opened, Row, Table},
};

/// Maximum number of names in a note; the rest is counted.
const NAMED_MAX: usize = 10;

/// Reads the bundle in a directory or a zip completely, or returns all its problems.
pub fn read(path: &Path) -> Result<Bundle, BundleErrors> {
    let mut problems = Problems::default();
    let Some(source) = Source::open(path, &mut problems) else { return Err(problems.into_errors()) };
    let mut reading = Reading::new(&source, problems);
    reading.other_files();
    reading.manifest();
    reading.orgs();
    reading.terms();
    reading.courses();
    reading.sections();
    reading.users();
    reading.roles();
    reading.holds();
    reading.completed();
    reading.rosters();
    reading.registrations();
    reading.unmeetable();
    let Reading { mut bundle, problems, notes, .. } = reading;
    if !problems.is_empty() {
        return Err(problems.into_errors());
    }
    bundle.notes = notes.into_list();
    Ok(bundle)
}

/// The state while a bundle is read.
struct Reading<'a> {
    source: &'a Source,
    bundle: Bundle,
    problems: Problems,
    notes: Notes,
    terms: Index,
    orgs: Index,
    courses: Index,
    sections: Index,
    users: Index,
    /// Users with the role of a student; `None` before the roles are read.
    students: Option<HashSet<String>>,
    /// The rules of each course.
    rules: Vec<courses::Rules>,
}

impl<'a> Reading<'a> {
    fn new(source: &'a Source, problems: Problems) -> Self {
        Self {
            source,
            bundle: Bundle { scope: Scope::empty(), ..Bundle::default() },
            problems,
            notes: Notes::default(),
            terms: Index::new(File::AcademicSessions),
            orgs: Index::new(File::Orgs),
            courses: Index::new(File::Courses),
            sections: Index::new(File::Classes),
            users: Index::new(File::Users),
            students: None,
            rules: Vec::new(),
        }
    }

    /// Opens a file, and records its columns. `None` if it is absent, which may be a problem, or can't be used.
    fn open(&mut self, file: File, columns: &[&str]) -> Option<Box<Table>> {
        match Table::open(&self.source.folder, file, columns, &mut self.problems) {
            Opened::Ready(table) => {
                self.bundle.scope.insert(file, &table.header);
                self.unknown_columns(file, &table.header);
                Some(table)
            }
            Opened::Broken => None,
            Opened::Absent => {
                if file.is_required() {
                    self.problems.push(Finding::of_file(file, "is missing; add it to the bundle"));
                }
                None
            }
        }
    }

    fn unknown_columns(&mut self, file: File, header: &[String]) {
        let known = || file.columns().iter().chain(file.unused_columns()).copied();
        let unknown = header.iter().filter(|name| !name.is_empty() && !known().any(|known| known == *name));
        for name in unknown {
            let text = format!("is a column of neither OneRoster nor Matricula{}", did_you_mean(name, known()));
            self.notes.push(Finding::of_column(file, 1, name, text));
        }
    }

    fn other_files(&mut self) {
        let others = &self.source.others;
        for name in others.iter().take(NAMED_MAX) {
            let names = File::ALL.map(File::name);
            self.notes.push(Finding::of_file(name, format!("is not read{}", did_you_mean(name, names))));
        }
        if let Some(first) = others.get(NAMED_MAX) {
            let text = format!("is not read, nor are {} more files", others.len() - NAMED_MAX - 1);
            self.notes.push(Finding::of_file(first, text));
        }
    }

    fn orgs(&mut self) {
        let Some(mut table) = self.open(File::Orgs, &["sourcedId"]) else { return };
        while let Some(row) = table.next_row(&mut self.problems) {
            self.orgs.add(row, Ok, &mut self.problems);
        }
        self.orgs.complete = table.complete;
    }

    /// Whether a user has the role of a student; true if the roles are unknown.
    fn has_student_role(&self, id: &str) -> bool {
        self.students.as_ref().is_none_or(|students| students.contains(id))
    }

    /// Whether a column of a row refers to a student. An unknown user is a problem. A user without the role of a
    /// student is a note, because records outlive roles.
    fn is_student_or_noted(&mut self, row: Row<'_>, column: &str, id: &str) -> bool {
        if !self.users.check(row, column, id, &mut self.problems) {
            return false;
        }
        let is_student = self.has_student_role(id);
        if !is_student {
            let text = format!("{id} does not have the role student in {}; the row is ignored", File::Roles);
            self.notes.push(Finding::of_column(row.file, row.line, column, text));
        }
        is_student
    }

    /// The index of each student in the bundle.
    fn student_places(&self) -> HashMap<StudentId, usize> {
        self.bundle.students.iter().enumerate().map(|(place, student)| (student.id.clone(), place)).collect()
    }
}
