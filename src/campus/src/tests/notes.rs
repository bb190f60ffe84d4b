//! Notes: unread files and columns, people without a role, rules that no student can meet.

use super::campus;
use crate::read;

/// The notes of the small campus with some files replaced, without the one of its teacher.
#[track_caller]
fn check(replaced: &[(&str, &str)], expected: &[&str]) {
    let replaced: Vec<_> = replaced.iter().map(|(file, text)| (*file, Some(*text))).collect();
    let bundle = read(campus(&replaced).path()).unwrap_or_else(|errors| panic!("{errors}"));
    let notes: Vec<String> = bundle.notes.iter().map(ToString::to_string).filter(|note| note != TEACHER).collect();
    assert_eq!(notes, expected);
}

const TEACHER: &str =
    "roles.csv: only rows of the role student are read; 1 rows of other roles are ignored (1 teacher)";

#[test]
fn files_that_are_not_read() {
    check(
        &[("demographics.csv", "sourcedId\n"), ("Holds.csv", "holdId\n"), ("notes.txt", "x"), (".hidden", "x")],
        &["Holds.csv: is not read; did you mean holds.csv?", "demographics.csv: is not read", "notes.txt: is not read"],
    );
    let many: Vec<String> = (10..30).map(|at| format!("{at}.txt")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "x")).collect();
    let mut expected: Vec<String> = (10..20).map(|at| format!("{at}.txt: is not read")).collect();
    expected.push("20.txt: is not read, nor are 9 more files".to_owned());
    check(&many, &expected.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn columns_that_are_not_read() {
    let neither = "is a column of neither OneRoster nor Matricula";
    check(
        &[(
            "classes.csv",
            "sourcedId,title,courseSourcedId,termSourcedIds,metadata.maxNumberStudent,classCode,metadata.building,\n\
             C1-L1,One,C1,T1,30,x,North,\n",
        )],
        &[
            &format!("classes.csv:1: metadata.maxNumberStudent: {neither}; did you mean metadata.maxNumberStudents?"),
            &format!("classes.csv:1: metadata.building: {neither}"),
        ],
    );
}

#[test]
fn too_many_notes_are_counted() {
    let columns: Vec<String> = (10..70).map(|at| format!("extra{at}")).collect();
    let text = format!("sourcedId,{}\nO1{}\n", columns.join(","), ",".repeat(60));
    let bundle = read(campus(&[("orgs.csv", Some(&text))]).path()).unwrap();
    let of_orgs: Vec<_> = bundle.notes.iter().filter(|note| note.file == "orgs.csv").collect();
    assert_eq!(of_orgs.len(), 51);
    assert_eq!(of_orgs[50].to_string(), "orgs.csv: has 10 more notes like these");
}

#[test]
fn users_without_any_role() {
    let users =
        "sourcedId,status,givenName,familyName\nS1,,A,A\nS2,,B,B\nS3,,C,C\nS4,tobedeleted,D,D\nS5,,E,E\nP1,,P,P\n";
    check(
        &[("users.csv", users)],
        &["users.csv: user S3 and 1 more have no role in roles.csv, and are not imported as students"],
    );
    check(
        &[
            ("users.csv", users),
            ("roles.csv", "sourcedId,userSourcedId,role\nR1,S1,student\nR2,S2,student\nR3,S3,student\nR5,S5,student\n"),
        ],
        &["users.csv: user P1 has no role in roles.csv, and is not imported as a student"],
    );
}

#[test]
fn classes_without_a_number_of_seats() {
    let classes = |one: &str, two: &str, three: &str| {
        format!(
            "sourcedId,status,title,courseSourcedId,termSourcedIds,metadata.maxNumberStudents\n\
             A,tobedeleted,A,C1,T1,\nB,,B,C1,T1,{one}\nC,,C,C2,T1,{two}\nD,,D,C2,T1,{three}\n"
        )
    };
    check(&[("classes.csv", &classes("1", "0", "30"))], &[]);
    check(
        &[("classes.csv", &classes("1", "", "30"))],
        &["classes.csv:4: metadata.maxNumberStudents: is empty for class C, which therefore has unlimited seats"],
    );
    check(
        &[("classes.csv", &classes("", "", ""))],
        &[
            "classes.csv:3: metadata.maxNumberStudents: is empty for class B and 2 more, which therefore have unlimited seats",
        ],
    );
}

/// Courses as `id,status,code,prerequisites`, and transcripts as `student,course,grade` where there are any.
#[track_caller]
fn check_rules(courses: &[&str], completed: Option<&str>, expected: &[&str]) {
    let courses = format!("title,sourcedId,status,courseCode,metadata.prerequisites\nx,{}\n", courses.join("\nx,"));
    let completed = completed.map(|rows| format!("studentSourcedId,courseSourcedId,grade\n{rows}\n"));
    let classes = "sourcedId,title,courseSourcedId,termSourcedIds\n";
    let mut replaced = vec![("courses.csv", courses.as_str()), ("classes.csv", classes)];
    replaced.extend(completed.as_deref().map(|completed| ("completed.csv", completed)));
    let what = "metadata.prerequisites: no student can ever meet this: no student has, or can take before,";
    let expected: Vec<String> = expected
        .iter()
        .map(|line_and_names| {
            let (line, names) = line_and_names.split_once(' ').unwrap();
            format!("courses.csv:{line}: {what} {names}")
        })
        .collect();
    check(&replaced, &expected.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn prerequisites_that_can_be_met() {
    check_rules(&["a,,A,", "b,,B,A", "c,,C,B and A", "d,,D,C or D"], None, &[]);
    // In any order of rows, and by ids.
    check_rules(&["d,,D,c", "c,,C,b:B", "b,,B,a", "a,,A,"], None, &[]);
}

#[test]
fn prerequisites_that_no_student_can_ever_meet() {
    check_rules(&["a,,A,A"], None, &["2 A"]);
    check_rules(&["a,,A,B", "b,,B,C", "c,,C,A", "d,,D,"], None, &["2 B", "3 C", "4 A"]);
    check_rules(&["a,,A,B", "b,,B,A", "c,,C,D and (A or B)", "d,,D,", "e,,E,A or D"], None, &["2 B", "3 A", "4 A, B"]);
}

#[test]
fn transcripts_meet_prerequisites() {
    check_rules(&["a,,A,B", "b,,B,A"], Some("S1,a,B"), &[]);
    check_rules(&["a,,A,B", "b,,B,A", "c,,C,"], Some("S1,c,B"), &["2 B", "3 A"]);
}

#[test]
fn a_closed_course_opens_others_only_by_transcripts() {
    let courses = ["a,tobedeleted,A,", "b,,B,A", "c,tobedeleted,C,A"];
    check_rules(&courses, Some("S1,b,B"), &["3 A"]);
    check_rules(&courses, Some("S1,a,B"), &[]);
    // A transcript outside the bundle may have it.
    check_rules(&courses, None, &[]);
}

/// Two courses with one code: a rule with that code accepts either of them.
#[test]
fn a_code_of_several_courses() {
    check_rules(&["a,,A,A", "b,,A,", "c,,C,A"], None, &[]);
    // Codes have precedence over ids.
    check_rules(&["a,,B,", "b,,X,Y", "y,,Y,X", "c,,C,b"], None, &["3 Y", "4 X", "5 b"]);
    check_rules(&["a,,b,", "b,,X,Y", "y,,Y,X", "c,,C,b"], None, &["3 Y", "4 X"]);
}

/// The time of the check does not grow with the square of the catalogue.
#[test]
fn a_long_chain_in_the_wrong_order() {
    let rows: Vec<String> = (0..20_000).map(|at| format!("c{at},,K{at},K{}", at + 1)).collect();
    let mut rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    rows.push("c20000,,K20000,");
    check_rules(&rows, None, &[]);
}
