//! Problems of whole files, the lines that problems name, and the report of all of them.

use std::fmt::Write as _;

use super::{NOT_AN_ID, campus, check, problems_of};

#[test]
fn files() {
    let missing = campus(&[("roles.csv", None), ("orgs.csv", None), ("classes.csv", None)]);
    assert_eq!(
        problems_of(missing.path()),
        ["classes.csv: is missing; add it to the bundle", "roles.csv: is missing; add it to the bundle"]
    );
    check("users.csv", "", &["users.csv: is empty; it needs at least a header"]);
    check(
        "users.csv",
        "sourcedId,title,title\n",
        &[
            "users.csv:1: has no column givenName; add it",
            "users.csv:1: has no column familyName; add it",
            "users.csv:1: has column title twice; keep one",
        ],
    );
    check(
        "orgs.csv",
        "sourcedId,name\nO1,A, B\n",
        &["orgs.csv:2: has 3 fields, the header has 2; put a field with a comma in quotes"],
    );
    let directory = campus(&[("users.csv", None)]);
    std::fs::create_dir(directory.path().join("users.csv")).unwrap();
    assert_eq!(problems_of(directory.path()), ["users.csv: is not a file; put the CSV file in its place"]);
}

#[test]
fn a_file_too_large() {
    let dir = campus(&[]);
    // The file is sparse and needs no disk space.
    std::fs::File::create(dir.path().join("users.csv")).unwrap().set_len(300 << 20).unwrap();
    assert_eq!(problems_of(dir.path()), ["users.csv: has 300 MiB, the limit is 256; export one term at a time"]);
}

#[test]
fn a_directory_that_is_not_there() {
    let dir = campus(&[]);
    let nowhere = dir.path().join("nowhere");
    let problems = problems_of(&nowhere);
    let [problem] = &problems[..] else { panic!("{problems:?}") };
    assert!(problem.starts_with(&nowhere.display().to_string()), "{problem}");
    assert!(
        problem.ends_with("; use a directory with the files of a OneRoster bundle, or a zip file of them"),
        "{problem}"
    );
}

#[test]
fn manifest() {
    check(
        "manifest.csv",
        "propertyName,value\noneroster.version,1.1\nfile.courses,delta\n",
        &[
            "manifest.csv: academicSessions.csv is not listed; add a row `file.academicSessions,bulk`",
            "manifest.csv: classes.csv is not listed; add a row `file.classes,bulk`",
            "manifest.csv: users.csv is not listed; add a row `file.users,bulk`",
            r#"manifest.csv:2: value: "1.1": not supported; export the bundle as OneRoster 1.2"#,
            r#"manifest.csv:3: value: "delta": file.courses must be bulk: an import needs the whole campus, not only changes"#,
        ],
    );
    check(
        "manifest.csv",
        "propertyName,value\nfile.academicSessions,bulk\nfile.courses,bulk\nfile.classes,bulk\nfile.users,bulk\n",
        &["manifest.csv: the property oneroster.version is missing; add a row `oneroster.version,1.2`"],
    );
}

#[test]
fn an_unusable_file_does_not_make_every_reference_to_it_wrong() {
    check("courses.csv", "sourcedId\nC7\n", &["courses.csv:1: has no column title; add it"]);
}

#[test]
fn lines_are_counted_as_an_editor_counts_them() {
    let bad = [&format!(r#"users.csv:6: sourcedId: "! !": {NOT_AN_ID}"#)[..]];
    // The line break is in a column that is not read: a name with it would be a problem.
    let text = "sourcedId,note,givenName,familyName\n\nS1,\"A\n\"\"B\"\"\",A,C\n\n! !,,B,B\nS2,,B,B\nP1,,P,P";
    let windows = format!("\u{feff}{}", text.replace('\n', "\r\n"));
    for text in [text, &format!("{text}\n\n"), &windows] {
        check("users.csv", text, &bad);
    }
}

#[test]
fn a_quote_that_is_never_closed() {
    let text = "sourcedId,givenName,familyName\nS1,A,A\nS2,B,\"B\nP1,P,P\n";
    for text in [text.to_owned(), text.trim_end().to_owned(), format!("\u{feff}{}", text.replace('\n', "\r\n"))] {
        check("users.csv", &text, &["users.csv:3: a closing quote is missing in this row; add it"]);
    }
}

#[test]
fn fifty_are_shown_and_all_are_counted() {
    let mut text = "sourcedId,name\n".to_owned();
    (0..1_200).for_each(|_| text.push_str(",x\n"));
    let dir = campus(&[("orgs.csv", Some(&text)), ("roles.csv", None)]);
    let errors = crate::read(dir.path()).unwrap_err();
    assert_eq!((errors.problems().len(), errors.total()), (1_000, 1_203));
    let mut expected = String::new();
    for line in 2..52 {
        writeln!(expected, "orgs.csv:{line}: sourcedId: \"\": is empty; fill it in").unwrap();
    }
    expected.push_str("and 1153 more\n1203 problems; nothing of the bundle is used");
    assert_eq!(errors.to_string(), expected);
}

#[test]
fn the_whole_report() {
    let dir = campus(&[
        ("classes.csv", Some("sourcedId,title,courseSourcedId,termSourcedIds,metadata.meetings\nA,A,C1,T1,MX 08:00\n")),
        ("manifest.csv", None),
    ]);
    insta::assert_snapshot!(crate::read(dir.path()).unwrap_err(), @r#"
    manifest.csv: is missing; add it to the bundle
    classes.csv:2: metadata.meetings: "MX 08:00": "MX 08:00": must have the form `MTR 08:00-08:50`
    2 problems; nothing of the bundle is used
    "#);
}

/// The small campus with one row more in its manifest, and with `enrollments.csv` or without.
#[track_caller]
fn check_manifest(row: &str, rosters: bool, expected: &[&str]) {
    let text = format!("{}{row}\n", super::FILES[0].1);
    let mut replaced = vec![("manifest.csv", Some(text.as_str()))];
    replaced.extend(rosters.then_some(("enrollments.csv", Some("sourcedId,classSourcedId,userSourcedId,role\n"))));
    let expected: Vec<String> = expected.iter().map(|what| format!("manifest.csv:7: {what}")).collect();
    assert_eq!(problems_of(campus(&replaced).path()), expected);
}

#[test]
fn the_manifest_and_the_files_agree() {
    for (row, rosters) in [
        ("file.enrollments,bulk", true),
        ("file.enrollments,absent", false),
        ("source.systemName,x", true),
        ("file.roles,bulk", false),
        ("file.orgs,bulk", false),
        // The file is not read.
        ("file.demographics,delta", false),
    ] {
        check_manifest(row, rosters, &[]);
    }
    let bulk_only = "must be bulk: an import needs the whole campus, not only changes";
    check_manifest(
        "file.enrollments,absent",
        true,
        &[r#"value: "absent": enrollments.csv is present; remove it, or write bulk"#],
    );
    check_manifest(
        "file.enrollments,bulk",
        false,
        &[r#"value: "bulk": enrollments.csv is missing; add it to the bundle, or write absent"#],
    );
    check_manifest("file.enrollments,delta", true, &[&format!(r#"value: "delta": file.enrollments {bulk_only}"#)]);
    check_manifest("file.roles,delta", false, &[&format!(r#"value: "delta": file.roles {bulk_only}"#)]);
    check_manifest(
        "file.orgs,Bulk",
        false,
        &[r#"value: "Bulk": unknown; use bulk for a whole file, or absent for none"#],
    );
    check_manifest("file.roles,absent", false, &[r#"value: "absent": roles.csv is present; remove it, or write bulk"#]);
    check_manifest("file.users,bulk", false, &[r#"propertyName: "file.users": is also in line 6; keep one of them"#]);
}

#[test]
fn a_required_file_must_be_present() {
    let text = super::FILES[0].1.to_owned() + "file.roles,absent\n";
    let dir = campus(&[("manifest.csv", Some(&text)), ("roles.csv", None)]);
    assert_eq!(
        problems_of(dir.path()),
        [
            r#"manifest.csv:7: value: "absent": file.roles must be bulk: every import needs roles.csv; add it to the bundle"#,
            "roles.csv: is missing; add it to the bundle",
        ]
    );
}
