//! Terms: their kinds, parents and zones. Files of transcripts and rosters, which refer to them and to sections.

use super::{NOT_AN_ID, campus, check, problems_of};
use crate::{Bundle, read};

const HEADER: &str = "sourcedId,title,type,startDate,endDate,parentSourcedId,metadata.timeZone";

#[track_caller]
fn check_terms(rows: &str, expected: &[&str]) {
    let text = format!("{HEADER}\nT1,Fall,term,2028-08-24,2028-12-18,,\n{rows}\n");
    let expected: Vec<String> = expected.iter().map(|what| format!("academicSessions.csv:{what}")).collect();
    let dir = campus(&[("academicSessions.csv", Some(&text))]);
    assert_eq!(problems_of(dir.path()), expected);
}

#[track_caller]
fn bundle(replaced: &[(&str, &str)]) -> Bundle {
    let replaced: Vec<_> = replaced.iter().map(|(file, text)| (*file, Some(*text))).collect();
    read(campus(&replaced).path()).unwrap_or_else(|errors| panic!("{errors}"))
}

fn notes(bundle: &Bundle, file: &str) -> Vec<String> {
    bundle.notes.iter().filter(|note| note.file == file).map(ToString::to_string).collect()
}

#[test]
fn kinds_are_those_of_the_standard() {
    for kind in ["term", "semester", "gradingPeriod", "schoolYear", ""] {
        check_terms(&format!("X,X,{kind},2028-08-24,2028-10-16,,"), &[]);
    }
    check_terms(
        "X,X,Semester,2028-08-24,2028-10-16,,\nY,Y,quarter,2028-08-24,2028-10-16,,",
        &[
            r#"3: type: "Semester": not a kind of academic session; did you mean semester?"#,
            r#"4: type: "quarter": not a kind of academic session; use one of term semester gradingPeriod schoolYear"#,
        ],
    );
}

#[test]
fn parents_are_terms_of_the_file() {
    // A parent may come later, and the chain may be long.
    check_terms("A,A,term,2028-08-24,2028-10-16,B,\nB,B,term,2028-08-24,2028-10-16,T1,", &[]);
    check_terms(
        "A,A,term,2028-08-24,2028-10-16,T9,\nB,B,term,2028-08-24,2028-10-16,T 9,",
        &[
            r#"3: parentSourcedId: "T9": is not in academicSessions.csv; add it there or correct this value"#,
            &format!(r#"4: parentSourcedId: "T 9": {NOT_AN_ID}"#),
        ],
    );
}

#[test]
fn no_term_is_a_part_of_itself() {
    let what = "makes the term a part of itself; use the sourcedId of the term above it, or leave it empty";
    check_terms("A,A,term,2028-08-24,2028-10-16,A,", &[&format!(r#"3: parentSourcedId: "A": {what}"#)]);
    check_terms(
        "X,X,term,2028-08-24,2028-10-16,B,\nA,A,term,2028-08-24,2028-10-16,B,\nB,B,term,2028-08-24,2028-10-16,C,\n\
         C,C,term,2028-08-24,2028-10-16,A,\nY,Y,term,2028-08-24,2028-10-16,C,",
        &[&format!(r#"4: parentSourcedId: "B": {what}"#)],
    );
}

#[test]
fn zones_are_those_of_the_database() {
    for zone in ["UTC", "America/Los_Angeles", "europe/berlin"] {
        check_terms(&format!("X,X,term,2028-08-24,2028-10-16,,{zone}"), &[]);
    }
    for zone in ["Mars/Base", "+02:00", "EST5EDT4", "Etc/Unknown"] {
        let what = "not a time zone; use a name of the IANA database, such as America/New_York or UTC";
        check_terms(
            &format!("X,X,term,2028-08-24,2028-10-16,,{zone}"),
            &[&format!("3: metadata.timeZone: {zone:?}: {what}")],
        );
    }
}

#[test]
fn currencies_are_those_of_the_standard() {
    let terms = |currency: &str| {
        format!("sourcedId,title,startDate,endDate,metadata.currency\nT1,Fall,2028-08-24,2028-12-18,{currency}\n")
    };
    for known in ["USD", "JPY", "KWD"] {
        check("academicSessions.csv", &terms(known), &[]);
    }
    for unknown in ["ABC", "XAU", "US", "Usd"] {
        let what = "not a currency; use the three letters of ISO 4217, such as USD";
        let expected = format!("academicSessions.csv:2: metadata.currency: {unknown:?}: {what}");
        check("academicSessions.csv", &terms(unknown), &[&expected]);
    }
}

#[test]
fn ids_of_a_campus() {
    let courses = |id: &str| format!("sourcedId,title\nC1,One\nC2,Two\n\"{id}\",Three\n");
    for good in ["urn:uuid:4f1d", "M1/F#(2028);x=y", "{4F1D}", "a@b.edu", "100%", &"x".repeat(128)] {
        check("courses.csv", &courses(good), &[]);
    }
    for bad in ["a b", "é", "a'b", "a`b", "a,b", "a|b"] {
        check("courses.csv", &courses(bad), &[&format!("courses.csv:4: sourcedId: {bad:?}: {NOT_AN_ID}")]);
    }
    let (long, shown) = ("x".repeat(129), "x".repeat(60));
    check("courses.csv", &courses(&long), &[&format!("courses.csv:4: sourcedId: \"{shown}…\": {NOT_AN_ID}")]);
}

#[test]
fn a_course_may_be_completed_in_several_terms() {
    let terms = "sourcedId,title,startDate,endDate\nT1,Fall,2028-08-24,2028-12-18\nT2,Fall,2029-08-24,2029-12-18\n";
    let header = "studentSourcedId,courseSourcedId,termSourcedId,grade\n";
    let completed = format!("{header}S1,C1,T1,F\nS1,C1,T2,B\nS1,C1,,P\nS2,C1,T1,A\n");
    let bundle = bundle(&[("academicSessions.csv", terms), ("completed.csv", &completed)]);
    assert_eq!(bundle.students.iter().map(|student| student.completed.len()).collect::<Vec<_>>(), [3, 1]);
    let twice = "also completed it";
    check(
        "completed.csv",
        &format!("{header}S1,C1,T1,F\nS1,C1,T1,B\nS1,C1,,P\nS1,C1,,P\nS1,C2,T9,A\n"),
        &[
            &format!(
                r#"completed.csv:3: courseSourcedId: "C1": the student {twice} in term T1 in line 2; keep the grade that counts"#
            ),
            &format!(
                r#"completed.csv:5: courseSourcedId: "C1": the student {twice} in line 4; keep the grade that counts"#
            ),
            r#"completed.csv:6: termSourcedId: "T9": is not in academicSessions.csv; add it there or correct this value"#,
        ],
    );
}

#[test]
fn transcripts_may_name_courses_of_long_ago() {
    let bundle = bundle(&[(
        "completed.csv",
        "studentSourcedId,courseSourcedId,grade\nS1,OLD2,B\nS1,C1,B\nS2,OLD1,A\nS2,OLD2,A\n",
    )]);
    assert_eq!(bundle.students[1].completed[0].course_id.as_str(), "OLD1");
    assert_eq!(
        notes(&bundle, "completed.csv"),
        ["completed.csv: 3 rows refer to 2 courses that are not in courses.csv, such as OLD1; the rows are imported"]
    );
}

#[test]
fn records_of_people_who_are_no_students_are_noted() {
    let bundle = bundle(&[
        ("holds.csv", "holdId,studentSourcedId,description\nH1,P1,Fine\nH2,S1,Fine\n"),
        ("completed.csv", "studentSourcedId,courseSourcedId,grade\nP1,C1,B\n"),
    ]);
    assert_eq!(bundle.students.iter().map(|student| student.holds.len()).collect::<Vec<_>>(), [1, 0]);
    let text = "studentSourcedId: P1 does not have the role student in roles.csv; the row is ignored";
    assert_eq!(notes(&bundle, "holds.csv"), [format!("holds.csv:2: {text}")]);
    assert_eq!(notes(&bundle, "completed.csv"), [format!("completed.csv:2: {text}")]);
}

const ROSTER: &str = "sourcedId,status,classSourcedId,userSourcedId,role,endDate\n";

#[test]
fn rosters_have_the_rows_of_students() {
    let rows = "E1,,C1-L1,S1,student,\nE2,,C1-L1,P1,teacher,\nE3,,C2-L1,P1,proctor,\nE4,,C2-L1,P1,student,\n\
                E5,,C1-L1,S1,student,\nE6,tobedeleted,C1-L1,S1,student,\nE7,active,C1-L1,S2,student,9999-12-31\n\
                E8,,C2-L1,S1,administrator,\nE9,,C2-L1,S2,ext:auditor,\n";
    let bundle = bundle(&[("enrollments.csv", &format!("{ROSTER}{rows}"))]);
    let entries = bundle.rosters.as_ref().unwrap().iter();
    let entries: Vec<_> = entries.map(|entry| (entry.id.as_str(), entry.ended, entry.ends_on, entry.line)).collect();
    assert_eq!(entries, [("E1", false, None, 2), ("E6", true, None, 7), ("E7", false, None, 8)]);
    assert_eq!(
        notes(&bundle, "enrollments.csv"),
        [
            "enrollments.csv: only rows of the role student are read; 4 rows of other roles are ignored \
             (1 administrator, 1 ext:auditor, 1 proctor, 1 teacher)",
            "enrollments.csv:5: userSourcedId: P1 does not have the role student in roles.csv; the row is ignored",
            "enrollments.csv:6: userSourcedId: S1 is already in class C1-L1 by line 2; this row is ignored",
        ]
    );
}

#[test]
fn rosters_refer_to_what_exists_while_they_are_in_force() {
    check(
        "enrollments.csv",
        &format!(
            "{ROSTER}E1,,C9-L1,S1,student,\nE1,,C1-L1,S9,student,\nE3,tobedeleted,C9-L1,S9,student,\n\
             E4,,C1-L1,S1,Student,\nE5,,C1-L1,S1,student,soon\n"
        ),
        &[
            r#"enrollments.csv:2: classSourcedId: "C9-L1": is not in classes.csv; add it there or correct this value"#,
            r#"enrollments.csv:3: sourcedId: "E1": is also in line 2; keep one of them"#,
            r#"enrollments.csv:3: userSourcedId: "S9": is not in users.csv; add it there or correct this value"#,
            r#"enrollments.csv:5: role: "Student": not a role of OneRoster; did you mean student?"#,
            r#"enrollments.csv:6: endDate: "soon": not a date; write it as in `2026-08-24`"#,
        ],
    );
}

#[test]
fn without_a_file_of_rosters_there_are_none() {
    assert_eq!(bundle(&[]).rosters, None);
    assert_eq!(bundle(&[("enrollments.csv", ROSTER)]).rosters, Some(Vec::new()));
}
