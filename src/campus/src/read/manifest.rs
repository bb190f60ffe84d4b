//! The manifest: the version of OneRoster, and the files of the bundle.

use std::collections::{HashMap, hash_map::Entry};

use super::Reading;
use crate::{
    file::File,
    problem::{Finding, Problems},
    table::Row,
};

/// The supported version.
const VERSION: &str = "1.2";
/// Files that the manifest must list. It may omit the others, as exports do.
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
            let Some(file) = File::ALL.into_iter().find(|file| file.property().as_deref() == Some(name)) else {
                continue;
            };
            match lines.entry(file) {
                Entry::Occupied(first) => {
                    let what = format!("is also in line {}; keep one of them", first.get());
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
            let what = format!("the property oneroster.version is missing; add a row `oneroster.version,{VERSION}`");
            self.problems.push(Finding::of_file(File::Manifest, what));
        }
        for file in ANNOUNCED {
            if let (Some(property), false) = (file.property(), lines.contains_key(&file)) {
                let what = format!("{file} is not listed; add a row `{property},bulk`");
                self.problems.push(Finding::of_file(File::Manifest, what));
            }
        }
    }
}

/// Compares the manifest's entry for a file with the folder.
fn check(row: Row<'_>, file: File, value: &str, is_there: bool, problems: &mut Problems) {
    let property = file.property().unwrap_or_default();
    let what = match (value, is_there) {
        ("bulk", true) => return,
        // A missing required file is reported elsewhere.
        ("bulk", false) if file.is_required() => return,
        ("bulk", false) => format!("{file} is missing; add it to the bundle, or write absent"),
        ("absent", false) if file.is_required() => {
            format!("{property} must be bulk: every import needs {file}; add it to the bundle")
        }
        ("absent", false) => return,
        ("absent", true) => format!("{file} is present; remove it, or write bulk"),
        ("delta", _) => format!("{property} must be bulk: an import needs the whole campus, not only changes"),
        _ => "unknown; use bulk for a whole file, or absent for none".to_owned(),
    };
    row.refuse("value", value, what, problems);
}
