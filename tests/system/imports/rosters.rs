//! `enrollments.csv`: existing rosters are taken over, and students' own registrations stay.

use matricula_harness::System;
use matricula_proto::common::v1::Reason;
use serde_json::Value;

use super::{Files, Portal, STUDENTS, import, reason};

/// Terms that charge 100.00 a credit.
const SESSIONS: &str = "\
sourcedId,status,title,type,startDate,endDate,parentSourcedId,schoolYear,metadata.currency,metadata.perCreditMinor
FALL,,Fall,term,2096-08-24,2096-12-18,,2097,USD,10000
FALLA,,\"Fall, first half\",term,2096-08-24,2096-10-16,FALL,2097,USD,10000
FALLB,,\"Fall, second half\",term,2096-10-19,2096-12-18,FALL,2097,USD,10000
SPRING,,Spring,term,2097-01-11,2097-05-07,,2097,USD,10000
";

/// Rows as `row student class`; a `-` in front marks a row as deleted.
fn roster(files: &Files, rows: &[&str]) {
    let mut text = "sourcedId,status,classSourcedId,userSourcedId,role\n".to_owned();
    for row in rows {
        let words: Vec<&str> = row.trim_start_matches('-').split(' ').collect();
        let status = if row.starts_with('-') { "tobedeleted" } else { "" };
        text.push_str(&format!("{},{status},{},{},student\n", words[0], words[2], words[1]));
    }
    text.push_str("T1,,M1-F,teacher1,teacher\n");
    files.put("enrollments.csv", &text);
}

/// Imports the bundle; returns the result of its rosters.
#[track_caller]
fn imported(system: &System, files: &Files) -> Value {
    let (code, stdout, stderr) = import(system, files, &["--output", "json"]);
    assert_eq!(code, Some(0), "{stdout}\n{stderr}");
    serde_json::from_str::<Value>(&stdout).expect("JSON")["rosters"].clone()
}

/// How many rows were taken over, ended and refused; none if there was no change.
fn outcome(rosters: &Value) -> Option<(u64, u64, usize)> {
    let outcome = rosters["outcome"].as_object()?;
    let count = |name: &str| outcome[name].as_u64().expect("a number");
    Some((count("taken_over"), count("ended"), outcome["refused"].as_array().expect("a list").len()))
}

#[tokio::test]
async fn rosters_that_exist_are_taken_over() {
    let system = System::up_with(&["--students", "0"], &[]);
    let files = Files::new(&system, STUDENTS);
    files.edit("manifest.csv", "file.roles,bulk", "file.roles,bulk\nfile.enrollments,bulk");
    files.edit("classes.csv", "M1-F,,,C1,org1,FALL,30", "M1-F,,,C1,org1,FALL,1");
    files.put("academicSessions.csv", SESSIONS);

    // Three students in a class of one seat; M2-F has a prerequisite that none of them meets.
    roster(&files, &["E1 S1 M1-F", "E2 S2 M1-F", "E3 S3 M1-F", "E4 S4 M2-F"]);
    let rosters = imported(&system, &files);
    assert_eq!(outcome(&rosters), Some((4, 0, 0)), "{rosters}");
    assert_eq!(outcome(&imported(&system, &files)), None, "the second run changes nothing");
    let portal = Portal::of(&system).await;
    assert_eq!(portal.refused("S5", &["M1-F"], &[]).await, reason(Reason::ClosedSection, "M1-F"));
    let student = system.done(&["student", "show", "S1", "--output", "json"]);
    let student: Value = serde_json::from_str(&student).expect("JSON");
    assert_eq!(student["account"]["balance"]["minor_units"], 0, "{student}");
    let registration = student["courses"][0]["registration_id"].as_str().expect("a registration");
    let saga = system.done(&["saga", "show", registration]);
    assert!(saga.contains("an import: row E1 of a roster (enrollments.csv)"), "{saga}");
    system.audit();

    // S2 swaps, S3 drops; S6 has registered for the class of E5, and S7 for another class of its course.
    portal.enrolled("S2", &["E1-F"], &["M1-F"]).await;
    portal.enrolled("S3", &[], &["M1-F"]).await;
    portal.enrolled("S6", &["R1-F"], &[]).await;
    portal.enrolled("S7", &["M1-S"], &[]).await;
    // E4 is missing, E1 is marked; E6 is a conflict.
    roster(&files, &["-E1 S1 M1-F", "E2 S2 M1-F", "E3 S3 M1-F", "E5 S6 R1-F", "E6 S7 M1-F", "E7 S8 G1-FA"]);
    let rosters = imported(&system, &files);
    assert_eq!(outcome(&rosters), Some((1, 2, 0)), "{rosters}");
    let rows = |list: &str| {
        let notes = rosters["plan"][list].as_array().expect("a list").iter();
        notes.map(|note| note["row"].as_str().expect("a row").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        (rows("left_alone"), rows("conflicts")),
        (vec!["E2".to_owned(), "E3".to_owned()], vec!["E6".to_owned()])
    );
    assert_eq!(outcome(&imported(&system, &files)), None);

    // Without any row none of the students' own registrations ends; without the file nothing ends at all.
    files.remove("enrollments.csv");
    files.edit("manifest.csv", "\nfile.enrollments,bulk", "");
    assert_eq!(imported(&system, &files)["plan"], Value::Null);
    files.edit("manifest.csv", "file.roles,bulk", "file.roles,bulk\nfile.enrollments,bulk");
    roster(&files, &[]);
    assert_eq!(outcome(&imported(&system, &files)), Some((0, 1, 0)));
    assert_eq!(portal.refused("S6", &["R1-F"], &[]).await, reason(Reason::AlreadyEnrolled, "R1-F"));
    portal.enrolled("S8", &["G1-FA"], &[]).await;
    system.audit();
}

/// While registration is paused no row is taken over, and the import says what to do. Staff pass a closed door.
#[tokio::test]
async fn rosters_wait_while_registration_is_paused_and_the_import_says_so() {
    let system = System::up_with(&["--students", "0"], &[]);
    let files = Files::new(&system, STUDENTS);
    files.edit("manifest.csv", "file.roles,bulk", "file.roles,bulk\nfile.enrollments,bulk");
    roster(&files, &["E1 S1 M1-F"]);
    system.done(&["registration", "pause", "--by", "grace", "--reason", "capacities"]);
    let (code, _, stderr) = import(&system, &files, &[]);
    assert_eq!(code, Some(1), "{stderr}");
    for part in ["grace paused registration at", "matricula registration open", "everything else was imported"] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    let close =
        ["registration", "close", "--sentence", "Rosters are being imported.", "--by", "grace", "--reason", "now"];
    system.done(&close);
    assert_eq!(outcome(&imported(&system, &files)), Some((1, 0, 0)));
}
