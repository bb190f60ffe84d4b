//! Rows marked `tobedeleted` stay in the bundle as closed, and users with the role of a student become students.

use super::{campus, check, problems_of};
use crate::{Bundle, read};

const COURSES: &str = "sourcedId,status,title,courseCode\nC1,tobedeleted,One,C101\nC2,active,Two,C102\n";

fn classes(of_c1: &str) -> String {
    format!("sourcedId,status,title,courseSourcedId,termSourcedIds\nC1-L1,{of_c1},One,C1,T1\nC2-L1,active,Two,C2,T1\n")
}

#[track_caller]
fn bundle(replaced: &[(&str, &str)]) -> Bundle {
    let replaced: Vec<_> = replaced.iter().map(|(file, text)| (*file, Some(*text))).collect();
    read(campus(&replaced).path()).unwrap_or_else(|errors| panic!("{errors}"))
}

/// Each student with whether they are closed.
#[track_caller]
fn students(users: &str, roles: &str) -> Vec<(String, bool)> {
    let bundle = bundle(&[("users.csv", users), ("roles.csv", roles)]);
    bundle.students.iter().map(|student| (student.id.to_string(), student.closed)).collect()
}

fn open(id: &str) -> (String, bool) {
    (id.to_owned(), false)
}

fn closed(id: &str) -> (String, bool) {
    (id.to_owned(), true)
}

#[test]
fn a_course_is_retired_together_with_its_classes() {
    let bundle = bundle(&[("courses.csv", COURSES), ("classes.csv", &classes("tobedeleted"))]);
    assert_eq!(bundle.courses.iter().map(|course| course.closed).collect::<Vec<_>>(), [true, false]);
    assert_eq!(bundle.sections.iter().map(|section| section.cancelled).collect::<Vec<_>>(), [true, false]);
    let dir = campus(&[("courses.csv", Some(COURSES)), ("classes.csv", Some(&classes("active")))]);
    assert_eq!(
        problems_of(dir.path()),
        [
            r#"classes.csv:2: courseSourcedId: "C1": is marked tobedeleted in courses.csv; keep it there, or mark this row as well"#
        ]
    );
}

#[test]
fn a_term_is_retired_together_with_its_classes() {
    let terms = "sourcedId,status,title,startDate,endDate\nT1,tobedeleted,Fall,2026-08-24,2026-12-18\n";
    check(
        "academicSessions.csv",
        terms,
        &[
            r#"classes.csv:2: termSourcedIds: "T1": is marked tobedeleted in academicSessions.csv; keep it there, or mark this row as well"#,
            r#"classes.csv:3: termSourcedIds: "T1": is marked tobedeleted in academicSessions.csv; keep it there, or mark this row as well"#,
        ],
    );
    let classes = "sourcedId,status,title,courseSourcedId,termSourcedIds\nC1-L1,tobedeleted,One,C1,T1\n";
    let bundle = bundle(&[("academicSessions.csv", terms), ("classes.csv", classes)]);
    assert!(bundle.terms[0].closed && bundle.sections[0].cancelled);
}

#[test]
fn a_cancelled_class_still_refers_to_what_is_there() {
    check(
        "classes.csv",
        "sourcedId,status,title,courseSourcedId,termSourcedIds\nA,tobedeleted,A,C9,T1\n",
        &[r#"classes.csv:2: courseSourcedId: "C9": is not in courses.csv; add it there or correct this value"#],
    );
}

#[test]
fn students_are_closed_by_status_and_disabled_by_enabled_user() {
    let roles = "sourcedId,userSourcedId,role\nR1,S1,student\nR2,S2,student\nR3,S3,student\nR4,S4,student\n";
    let users = "sourcedId,status,enabledUser,givenName,familyName\nS1,active,true,A,A\nS2,tobedeleted,true,B,B\n\
                 S3,active,false,C,C\nS4,,,D,D\n";
    assert_eq!(students(users, roles), [open("S1"), closed("S2"), open("S3"), open("S4")]);
    let bundle = bundle(&[("users.csv", users), ("roles.csv", roles)]);
    assert_eq!(bundle.students.iter().map(|student| student.disabled).collect::<Vec<_>>(), [false, false, true, false]);
    check(
        "users.csv",
        "sourcedId,enabledUser,givenName,familyName\nS1,yes,A,A\nS2,True,B,B\nP1,,P,P\n",
        &[
            r#"users.csv:2: enabledUser: "yes": not a boolean; use true or false"#,
            r#"users.csv:3: enabledUser: "True": not a boolean; use true or false"#,
        ],
    );
}

#[test]
fn a_deleted_role_makes_no_student() {
    let users = "sourcedId,status,givenName,familyName\nS1,active,A,A\nS2,tobedeleted,B,B\nS3,active,C,C\nS4,,D,D\n";
    let roles = "sourcedId,status,userSourcedId,role\nR1,active,S1,student\nR2,tobedeleted,S2,student\n\
                 R3,tobedeleted,S3,student\nR4,active,S3,teacher\nR5,active,S4,guardian\nR6,active,S4,student\n";
    assert_eq!(students(users, roles), [open("S1"), open("S4")]);
}

/// The dates of S1's roles, as the bundle has them.
#[track_caller]
fn active(rows: &[&str]) -> [Option<String>; 2] {
    let mut roles = "sourcedId,status,userSourcedId,role,beginDate,endDate\n".to_owned();
    for (at, row) in rows.iter().enumerate() {
        roles += &format!("R{at},{row}\n");
    }
    let bundle = bundle(&[("roles.csv", &roles)]);
    let student = &bundle.students[0];
    [student.active_from, student.active_until].map(|date| date.map(|date| date.to_string()))
}

#[test]
fn a_student_is_active_from_the_earliest_begin_to_the_latest_end() {
    let dates = |from: &str, until: &str| [from, until].map(|date| (!date.is_empty()).then(|| date.to_owned()));
    let first = ",S1,student,2028-08-01,2029-06-01";
    let second = ",S1,student,2026-08-01,2027-06-01";
    assert_eq!(active(&[first]), dates("2028-08-01", "2029-06-01"));
    assert_eq!(active(&[first, second]), dates("2026-08-01", "2029-06-01"));
    assert_eq!(active(&[first, second, ",S1,student,,2020-01-01"]), dates("", "2029-06-01"));
    assert_eq!(active(&[first, second, ",S1,student,2030-01-01,"]), dates("2026-08-01", ""));
    assert_eq!(active(&[first, ",S1,student,2030-01-01,9999-12-31"]), dates("2028-08-01", ""));
    assert_eq!(active(&[first, "tobedeleted,S1,student,,"]), dates("2028-08-01", "2029-06-01"));
    assert_eq!(active(&[first, ",S1,teacher,,"]), dates("2028-08-01", "2029-06-01"));
}

#[test]
fn dates_of_roles() {
    check(
        "roles.csv",
        "sourcedId,userSourcedId,role,beginDate,endDate\nR1,S1,student,2028-08-01,2028-07-31\nR2,S2,student,soon,\n\
         R3,P1,teacher,1899-12-31,2028-02-30\n",
        &[
            r#"roles.csv:2: endDate: "2028-07-31": is before beginDate; correct one of them"#,
            r#"roles.csv:3: beginDate: "soon": not a date; write it as in `2026-08-24`"#,
            r#"roles.csv:4: beginDate: "1899-12-31": not in the years 1900 to 9998; correct the date"#,
            r#"roles.csv:4: endDate: "2028-02-30": not a date; write it as in `2026-08-24`"#,
        ],
    );
}

#[test]
fn roles_are_those_of_the_standard() {
    let roles = |role: &str| format!("sourcedId,userSourcedId,role\nR1,S1,student\nR2,S2,student\nR3,P1,{role}\n");
    for known in ["aide", "districtAdministrator", "systemAdministrator", "parent", "ext:janitor"] {
        check("roles.csv", &roles(known), &[]);
    }
    for (unknown, what) in [("Student", "did you mean student?"), ("techer", "did you mean teacher?")] {
        let expected = format!("roles.csv:4: role: {unknown:?}: not a role of OneRoster; {what}");
        check("roles.csv", &roles(unknown), &[&expected]);
    }
    for unknown in ["learner", "ext:"] {
        let dir = campus(&[("roles.csv", Some(&roles(unknown)))]);
        let problems = problems_of(dir.path());
        assert_eq!(problems.len(), 1);
        let start = format!("roles.csv:4: role: {unknown:?}: not a role of OneRoster; use one of administrator aide ");
        assert!(problems[0].starts_with(&start), "{problems:?}");
    }
}

/// A closed student keeps all records, and may still click.
#[test]
fn records_of_closed_students_are_taken() {
    let bundle = bundle(&[
        ("users.csv", "sourcedId,status,givenName,familyName\nS1,tobedeleted,A,A\nS2,active,B,B\nP1,active,P,P\n"),
        ("holds.csv", "holdId,studentSourcedId,description\nH1,S1,Fine\n"),
        ("completed.csv", "studentSourcedId,courseSourcedId,grade\nS1,C1,B\n"),
        (
            "registrations.csv",
            "arrivalMs,idempotencyKey,studentSourcedId,addClassSourcedIds,dropClassSourcedIds\n1,k,S1,C1-L1,\n",
        ),
    ]);
    let student = &bundle.students[0];
    assert!(student.closed && student.holds.len() == 1 && student.completed.len() == 1, "{student:?}");
    assert_eq!((bundle.registrations.len(), &bundle.notes[1..]), (1, &[][..]));
}
