//! The manifest: which version of OneRoster, and which files are there.

use std::collections::{HashMap, hash_map::Entry};

use super::Reading;
use crate::{
    file::File,
    problem::{Problem, Problems},
    table::Row,
};

/// The version that is read.
const VERSION: &str = "1.2";
/// Files that the manifest must announce. It may be silent about the others, as exports are.
const ANNOUNCED: [File; 4] = [File::AcademicSessions, File::Courses, File::Classes, File::Users];

impl Reading<'_> {
    pub(super) fn manifest(&mut self) {
        let Some(mut table) = self.open(File::Manifest, &["propertyName", "value"]) else { return };
        let mut version_is_there = false;
        let mut lines = HashMap::new();
        while let Some(row) = table.next_row(&mut self.problems) {
            let problems = &mut self.problems;
            let (name, value) = (row.text("propertyName", problems), row.text("value", problems));
            let (Some(name), Some(value)) = (name, value) else { continue };
            if name == "oneroster.version" {
                version_is_there = true;
                if value != VERSION {
                    row.refuse("value", value, "not supported; export the bundle as OneRoster 1.2", problems);
                }
            }
            let Some(file) = File::ALL.into_iter().find(|file| file.property() == Some(name)) else { continue };
            match lines.entry(file) {
                Entry::Occupied(first) => {
                    let what = format!("is in line {}, too; keep one of them", first.get());
                    row.refuse("propertyName", name, what, problems);
                }
                Entry::Vacant(vacant) => {
                    vacant.insert(row.line);
                    let is_there = self.source.folder.join(file.name()).exists();
                    check(row, file, value, is_there, problems);
                }
            }
        }
        if !table.complete {
            return;
        }
        if !version_is_there {
            let what = format!("has no oneroster.version; add a row `oneroster.version,{VERSION}`");
            self.problems.push(Problem::of_file(File::Manifest, what));
        }
        for file in ANNOUNCED {
            if let (Some(property), false) = (file.property(), lines.contains_key(&file)) {
                let what = format!("does not announce {file}; add a row `{property},bulk`");
                self.problems.push(Problem::of_file(File::Manifest, what));
            }
        }
    }
}

/// Holds what the manifest says of a file to what is there.
fn check(row: Row<'_>, file: File, value: &str, is_there: bool, problems: &mut Problems) {
    let property = file.property().unwrap_or_default();
    let what = match (value, is_there) {
        ("bulk", true) => return,
        // That a required file is missing is a problem of its own.
        ("bulk", false) if file.is_required() => return,
        ("bulk", false) => format!("{file} is not there; add it to the bundle, or write absent"),
        ("absent", false) if file.is_required() => {
            format!("{property} must be bulk: no import goes without {file}; add it to the bundle")
        }
        ("absent", false) => return,
        ("absent", true) => format!("{file} is there; remove it, or write bulk"),
        ("delta", _) => format!("{property} must be bulk: an import takes a whole campus, not changes to one"),
        _ => "unknown; use bulk for a whole file, or absent for none".to_owned(),
    };
    row.refuse("value", value, what, problems);
}
