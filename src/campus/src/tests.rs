//! The public API of the crate: the texts of problems, round trips, the calibration and hostile files.

mod archives;
mod calibration;
mod closed;
mod files;
mod hostile;
mod notes;
mod problems;
mod round_trip;
mod sessions;
mod whole;

use std::{fs, path::Path};

use tempfile::TempDir;

/// The problem of an invalid id.
const NOT_AN_ID: &str = "not an id; use 1 to 128 printable ASCII characters without spaces, quotes, commas and |";

/// A small hand-written campus without optional columns.
const FILES: [(&str, &str); 7] = [
    (
        "manifest.csv",
        "propertyName,value\noneroster.version,1.2\nfile.academicSessions,bulk\nfile.courses,bulk\nfile.classes,bulk\n\
         file.users,bulk\n",
    ),
    ("academicSessions.csv", "sourcedId,status,title,startDate,endDate\nT1,active,Fall,2026-08-24,2026-12-18\n"),
    ("orgs.csv", "sourcedId,status,name\nO1,active,Campus\n"),
    ("courses.csv", "sourcedId,status,title,courseCode,orgSourcedId\nC1,active,One,C101,O1\nC2,active,Two,C102,O1\n"),
    (
        "classes.csv",
        "sourcedId,status,title,courseSourcedId,termSourcedIds\nC1-L1,active,One,C1,T1\nC2-L1,active,Two,C2,T1\n",
    ),
    ("users.csv", "sourcedId,status,givenName,familyName\nS1,active,Ada,One\nS2,active,Bo,Two\nP1,active,Prof,X\n"),
    ("roles.csv", "sourcedId,userSourcedId,role\nR1,S1,student\nR2,S2,student\nR3,P1,teacher\n"),
];

/// The small campus with some files replaced; a file without text is omitted.
fn campus(replaced: &[(&str, Option<&str>)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (file, text) in FILES {
        fs::write(dir.path().join(file), text).unwrap();
    }
    for (file, text) in replaced {
        let path = dir.path().join(file);
        match text {
            Some(text) => fs::write(path, text).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
    }
    dir
}

/// All problems of a bundle, one line each.
fn problems_of(dir: &Path) -> Vec<String> {
    match crate::read(dir) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.problems().iter().map(ToString::to_string).collect(),
    }
}

/// The small campus with one file replaced has these problems.
#[track_caller]
fn check(file: &str, text: &str, expected: &[&str]) {
    let dir = campus(&[(file, Some(text))]);
    assert_eq!(problems_of(dir.path()), expected);
}
