//! Each kind of problem of a row: its place, its cause, and what to do.

use super::{NOT_AN_ID, campus, check, problems_of};

/// A value of one column of one row.
#[track_caller]
fn check_value(file: &str, column: &str, value: &str, expected: &str) {
    let (columns, row) = match file {
        "academicSessions.csv" => ("sourcedId,title,startDate,endDate", "T1,Fall,2026-08-24,2026-12-18"),
        "courses.csv" => ("title,courseCode,sourcedId", "One,C101,C1\nTwo,C102,C2"),
        "classes.csv" => ("sourcedId,title,courseSourcedId,termSourcedIds", "C1-L1,One,C1,T1"),
        "users.csv" => ("sourcedId,givenName,familyName", "S2,B,B\nP1,P,P\nS1,A,A"),
        _ => unreachable!("no such file in these tests"),
    };
    let (rows, last) = row.rsplit_once('\n').map_or((String::new(), row), |(rows, last)| {
        (rows.lines().fold(String::new(), |text, row| text + row + ",\n"), last)
    });
    let line = 2 + rows.lines().count();
    let text = format!("{columns},{column}\n{rows}{last},\"{value}\"\n");
    let expected: Vec<String> =
        expected.lines().map(|what| format!("{file}:{line}: {column}: {value:?}: {what}")).collect();
    let dir = campus(&[(file, Some(&text))]);
    assert_eq!(problems_of(dir.path()), expected);
}

#[test]
fn a_small_campus_has_none() {
    assert_eq!(problems_of(campus(&[]).path()), [""; 0]);
}

#[test]
fn ids_and_references() {
    check(
        "courses.csv",
        "sourcedId,title\nC1,One\nC2,Two\nC1,Again\n,None\nC 3,Space\n",
        &[
            r#"courses.csv:4: sourcedId: "C1": is also in line 2; keep one of them"#,
            r#"courses.csv:5: sourcedId: "": is empty; fill it in"#,
            &format!(r#"courses.csv:6: sourcedId: "C 3": {NOT_AN_ID}"#),
        ],
    );
    check(
        "courses.csv",
        "sourcedId,status,title,orgSourcedId\nC1,tobedeleted,One,O9\n",
        &[
            r#"classes.csv:2: courseSourcedId: "C1": is marked tobedeleted in courses.csv; keep it there, or mark this row as well"#,
            r#"classes.csv:3: courseSourcedId: "C2": is not in courses.csv; add it there or correct this value"#,
        ],
    );
    check(
        "courses.csv",
        "sourcedId,title,orgSourcedId\nC1,One,O9\nC2,Two,\n",
        &[r#"courses.csv:2: orgSourcedId: "O9": is not in orgs.csv; add it there or correct this value"#],
    );
    check(
        "classes.csv",
        "sourcedId,title,courseSourcedId,termSourcedIds\nA,A,C1,T9\nB,B,C1,\"T1,T2\"\n",
        &[
            r#"classes.csv:2: termSourcedIds: "T9": is not in academicSessions.csv; add it there or correct this value"#,
            r#"classes.csv:3: termSourcedIds: "T1,T2": lists several terms; a section belongs to one: make a class for each term"#,
        ],
    );
    check(
        "roles.csv",
        "sourcedId,userSourcedId,role\nR1,S1,student\nR1,S9,student\n",
        &[
            r#"roles.csv:3: sourcedId: "R1": is also in line 2; keep one of them"#,
            r#"roles.csv:3: userSourcedId: "S9": is not in users.csv; add it there or correct this value"#,
        ],
    );
}

#[test]
fn text() {
    check(
        "users.csv",
        "sourcedId,givenName,familyName\nS1,A,A\0\nS2,B,B\n",
        &[r#"users.csv:2: familyName: "A\0": has a NUL character, which databases refuse; remove it"#],
    );
    let long = "x".repeat(5_000);
    let shown = "x".repeat(60);
    check(
        "users.csv",
        &format!("sourcedId,givenName,familyName\nS1,{long},A\nS2,B,B\n"),
        &[&format!(r#"users.csv:2: givenName: "{shown}…": is longer than 4,096 bytes; shorten it"#)],
    );
    let dir = campus(&[]);
    std::fs::write(dir.path().join("users.csv"), b"sourcedId,givenName,familyName\nS1,Ren\xe9,A\nS2,B,B\n").unwrap();
    assert_eq!(
        problems_of(dir.path()),
        ["users.csv:2: givenName: \"Ren\u{fffd}\": is not UTF-8; save the file as UTF-8"]
    );
}

#[test]
fn text_for_people() {
    let dir = campus(&[("users.csv", Some("sourcedId,givenName,familyName\nS1,\"A\nB\",A\nS2,B,B\nP1,P,P\n"))]);
    let broken = r#"users.csv:2: givenName: "A\nB": has the control character '\n'; remove it"#;
    assert_eq!(problems_of(dir.path()), [broken]);
    let (long, too_long, shown) = ("é".repeat(250), "é".repeat(501), "é".repeat(60));
    check(
        "users.csv",
        &format!("sourcedId,givenName,familyName\nS1,{long},{long}\nS2,{too_long},B\nP1,P,P\n"),
        &[
            &format!(
                r#"users.csv:2: familyName: "{shown}…": is longer than 500 characters with givenName; shorten one of them"#
            ),
            &format!(r#"users.csv:3: givenName: "{shown}…": is longer than 500 characters; shorten it"#),
        ],
    );
    check(
        "holds.csv",
        "holdId,studentSourcedId,description\nH1,S1,\n",
        &[r#"holds.csv:2: description: "": is empty; fill it in"#],
    );
}

#[test]
fn addresses() {
    for good in ["a@b.edu", "first.last+tag@mail.example.edu", "jörg@example.edu", "o'hara@example.edu"] {
        let text = format!("sourcedId,givenName,familyName,email\nS1,A,A,{good}\nS2,B,B,\nP1,P,P,\n");
        check("users.csv", &text, &[]);
    }
    for bad in ["a", "@b.edu", "a@", "a b@c.edu", "a..b@c.edu", "a@b..edu", "a@-b.edu", "a@b.edu."] {
        let text = format!("sourcedId,givenName,familyName,email\nS1,A,A,{bad}\nS2,B,B,\nP1,P,P,\n");
        let what = "not an e-mail address; write it as in `name@example.edu`";
        check("users.csv", &text, &[&format!("users.csv:2: email: {bad:?}: {what}")]);
    }
}

#[test]
fn all_sections_of_a_course_have_parts_or_none() {
    check(
        "classes.csv",
        "sourcedId,title,courseSourcedId,termSourcedIds,metadata.component\nC1-L1,A,C1,T1,1/1\nC2-L1,B,C2,T1,\nX,C,C1,T1,\n",
        &[
            r#"classes.csv:4: metadata.component: "": the section of the same course and term in line 2 has a component; give all of them a component, or none"#,
        ],
    );
}

#[test]
fn an_installation_has_one_currency() {
    check(
        "academicSessions.csv",
        "sourcedId,title,startDate,endDate,metadata.currency\nT1,Fall,2026-08-24,2026-12-18,USD\nT2,Spring,2027-01-11,2027-05-14,EUR\n",
        &[
            r#"academicSessions.csv:3: metadata.currency: "EUR": is not USD as in line 2; an installation has one currency"#,
        ],
    );
}

#[test]
fn terms() {
    let check =
        |column: &str, value: &str, expected: &str| check_value("academicSessions.csv", column, value, expected);
    let moment = "not a moment; write it with its time zone, as in `2026-09-01T08:00:00Z`";
    check("status", "inactive", "unknown status; use active or tobedeleted");
    check("metadata.addDeadline", "2026-09-01", moment);
    check("metadata.dropDeadline", "2026-09-01T08:00:00", moment);
    check(
        "metadata.maxCredits",
        "0",
        "0 credits would forbid every registration; leave it empty for no limit, or use a hold",
    );
    check("metadata.currency", "usd", "not a currency; use the three letters of ISO 4217, such as USD");
    check(
        "metadata.refundLadder",
        "2026-09-01",
        "not a refund ladder; write `2026-09-01T00:00:00Z:100;2026-09-08T00:00:00Z:50`",
    );
    check("metadata.refundLadder", "2026-09-01T00:00:00Z", moment);
    check("metadata.balanceLimitMinor", "0", "0 would forbid every charge; leave it empty for no limit");
    let amount = "not an amount; use a whole number of minor units up to 1000000000000, such as 45000 for USD 450.00";
    check("metadata.balanceLimitMinor", "-1", amount);
    check("metadata.balanceLimitMinor", "1000000000001", amount);
    check(
        "metadata.refundLadder",
        "2026-09-01T00:00:00Z:101",
        "a percentage is not 0 to 100; write it after the last `:`",
    );
    check(
        "metadata.refundLadder",
        "2026-09-08T00:00:00Z:50;2026-09-01T00:00:00Z:100",
        "the steps are not in order of time; write the earliest first",
    );
}

#[test]
fn terms_across_columns() {
    check(
        "academicSessions.csv",
        "sourcedId,title,startDate,endDate\nT1,Fall,2026-08-24,2026-08-24\nT2,Day,2026-08-24,2026-08-25\n",
        &[
            r#"academicSessions.csv:2: endDate: "2026-08-24": is not after startDate (a term ends on the day before endDate); correct one of them"#,
        ],
    );
    check(
        "academicSessions.csv",
        "sourcedId,title,startDate,endDate\nT1,Fall,24.8.2026,2026-12-18\n",
        &[r#"academicSessions.csv:2: startDate: "24.8.2026": not a date; write it as in `2026-08-24`"#],
    );
    for column in ["metadata.perCreditMinor", "metadata.balanceLimitMinor"] {
        check(
            "academicSessions.csv",
            &format!("sourcedId,title,startDate,endDate,{column}\nT1,Fall,2026-08-24,2026-12-18,100\n"),
            &[
                r#"academicSessions.csv:2: metadata.currency: "": is empty beside metadata.perCreditMinor, metadata.refundLadder or metadata.balanceLimitMinor; enter the currency, such as USD"#,
            ],
        );
    }
}

#[test]
fn courses() {
    let check = |column: &str, value: &str, expected: &str| check_value("courses.csv", column, value, expected);
    let credits = "not a number of credits; use 0 to 100 with at most two decimals, such as 1.5";
    for value in ["three", "-1", "1.505", "1.", ".5", "100.01", "99999999999", "1e2", "+3"] {
        check("metadata.credits", value, credits);
    }
    let amount = "not an amount; use a whole number of minor units up to 1000000000, such as 45000 for USD 450.00";
    for value in ["-1", "1.5", "1000000001"] {
        check("metadata.feeMinor", value, amount);
    }
    let column = "metadata.prerequisites";
    check(
        column,
        "C101 C102",
        "at character 6: expected `and`, `or` or the end, found \"C102\"; a name with spaces is quoted: \"C101 C102\"",
    );
    check(column, "C101 and", "at character 9: expected a course or `(`, found the end");
    check(column, "(C101 or C102", "at character 1: this parenthesis is never closed");
    check(column, "(C101 (C102))", "at character 7: expected `and`, `or` or `)`, found `(`");
    check(column, "C101)", "at character 5: expected `and`, `or` or the end, found `)`");
    check(column, "and C101", "at character 1: expected a course or `(`, found `and`");
    check(column, "()", "at character 2: expected a course or `(`, found `)`");
    check(column, ":B", "at character 1: expected a course or `(`, found `:`");
    check(column, "C101:P", "at character 6: \"P\" is not a grade; use A+ to D-, F; a name with a colon is quoted");
    check(column, "C101 AND or", "at character 10: expected a course or `(`, found `or`");
    check(column, "C101:E", "at character 6: \"E\" is not a grade; use A+ to D-, F; a name with a colon is quoted");
    check("metadata.corequisites", "C101 or", "at character 8: expected a course or `(`, found the end");
}

#[test]
fn rules_name_known_courses() {
    check(
        "courses.csv",
        "sourcedId,title,courseCode,metadata.prerequisites,metadata.corequisites\nC1,One,C101,C102:B and C9,\nC2,Two,C102,,X\n",
        &[
            r#"courses.csv:2: metadata.prerequisites: "C9": is not the courseCode or sourcedId of a course; add the course or correct the name"#,
            r#"courses.csv:3: metadata.corequisites: "X": is not the courseCode or sourcedId of a course; add the course or correct the name"#,
        ],
    );
}

#[test]
fn rules_nest_to_a_depth() {
    let nested = |depth: usize| format!("{}C101{}", "(".repeat(depth), ")".repeat(depth));
    let text =
        |rule: &str| format!("sourcedId,title,courseCode,metadata.prerequisites\nC1,One,C101,\nC2,Two,C102,{rule}\n");
    check("courses.csv", &text(&nested(20)), &[]);
    let dir = campus(&[("courses.csv", Some(&text(&nested(900))))]);
    let problems = problems_of(dir.path());
    assert_eq!(problems.len(), 1);
    assert!(problems[0].ends_with(": at character 21: more than 20 parentheses in one another"), "{problems:?}");
}

#[test]
fn sections() {
    let check = |column: &str, value: &str, expected: &str| check_value("classes.csv", column, value, expected);
    let seats = "not a number of seats; use a whole number up to 1000000, 0 for a section that is not open, or leave it empty for no limit";
    for value in ["-1", "many", "1000001", "2147483648"] {
        check("metadata.maxNumberStudents", value, seats);
    }
    for value in ["1", "1/", "/2", "1/2/3", "a b/1"] {
        check("metadata.component", value, "not a component; write `configuration/subpart`, such as `1/2`");
    }
    check("metadata.permissionRequired", "yes", "not a boolean; use true or false");
    let column = "metadata.meetings";
    check(column, "MX 08:00", "\"MX 08:00\": must have the form `MTR 08:00-08:50`");
    check(column, "MWM 08:00-08:50", "\"MWM 08:00-08:50\": the day M is named twice");
    check(column, "MWF 08:00", "\"MWF 08:00\": must have the form `MTR 08:00-08:50`");
    check(column, "MWF 8:00-08:50", "\"MWF 8:00-08:50\": \"8:00\" is no time; times are 00:00 to 24:00");
    check(column, "MWF 24:00-24:00", "\"MWF 24:00-24:00\": it must end after it begins");
    check(column, "MWF 08:00-24:01", "\"MWF 08:00-24:01\": \"24:01\" is no time; times are 00:00 to 24:00");
    check(column, "MWF 08:00-+9:00", "\"MWF 08:00-+9:00\": \"+9:00\" is no time; times are 00:00 to 24:00");
    check(column, "MWF 08:50-08:50", "\"MWF 08:50-08:50\": it must end after it begins");
    check(column, "08:00-08:50", "\"08:00-08:50\": must have the form `MTR 08:00-08:50`");
    check(column, "M 08:00-08:50;", "\"\": must have the form `MTR 08:00-08:50`");
}

#[test]
fn students() {
    let check_user = |column: &str, value: &str, expected: &str| check_value("users.csv", column, value, expected);
    let moment = "not a moment; write it with its time zone, as in `2026-09-01T08:00:00Z`";
    check_user("metadata.appointmentStart", "tomorrow", moment);
    check_user(
        "metadata.maxCredits",
        "0.00",
        "0 credits would forbid every registration; leave it empty for no limit, or use a hold",
    );
    check(
        "users.csv",
        "sourcedId,givenName,familyName,metadata.appointmentStart,metadata.appointmentEnd\n\
         S1,A,A,2026-08-01T08:00:00Z,2026-08-01T08:00:00Z\nS2,B,B,,\nP1,P,P,,\n",
        &[
            r#"users.csv:2: metadata.appointmentEnd: "2026-08-01T08:00:00Z": is not after metadata.appointmentStart; correct one of them"#,
        ],
    );
    check(
        "holds.csv",
        "holdId,studentSourcedId,description\nH1,S1,Fine\nH1,S2,Fine\nH1,S1,Fine\nH2,P1,Fine\nH3,S9,Fine\n",
        &[
            r#"holds.csv:4: holdId: "H1": the student also has it in line 2; keep one of them"#,
            r#"holds.csv:6: studentSourcedId: "S9": is not in users.csv; add it there or correct this value"#,
        ],
    );
    check(
        "completed.csv",
        "studentSourcedId,courseSourcedId,grade\nS1,C1,B+\nS1,C1,A\nS1,C9,E\nS1,C9,F\n",
        &[
            r#"completed.csv:3: courseSourcedId: "C1": the student also completed it in line 2; keep the grade that counts"#,
            r#"completed.csv:4: grade: "E": "E" is not a grade; use A+ to D-, F, P or NP"#,
        ],
    );
}

#[test]
fn clicks() {
    let check = |rows: &str, expected: &[&str]| {
        let header = "arrivalMs,idempotencyKey,studentSourcedId,addClassSourcedIds,dropClassSourcedIds";
        check("registrations.csv", &format!("{header}\n{rows}\n"), expected);
    };
    check("1,k,S1,C1-L1|C2-L1,\n1,k,S1,C1-L1,C2-L1", &[]);
    check(
        "9,k,S1,C1-L1,\n8,k,S1,C1-L1,\nsoon,k,S1,C1-L1,",
        &[
            r#"registrations.csv:3: arrivalMs: "8": is before the row above; sort the rows by arrivalMs"#,
            r#"registrations.csv:4: arrivalMs: "soon": not a time; use whole milliseconds after opening"#,
        ],
    );
    check(
        "1,é,S1,C1-L1,\n1,k,P1,C1-L1,\n1,k,S1,C9-L1,C8-L1",
        &[
            r#"registrations.csv:2: idempotencyKey: "é": not an idempotency key; use 1 to 128 printable ASCII characters"#,
            r#"registrations.csv:3: studentSourcedId: "P1": does not have the role student in roles.csv; add the role there or correct this value"#,
            r#"registrations.csv:4: addClassSourcedIds: "C9-L1": is not in classes.csv; add it there or correct this value"#,
            r#"registrations.csv:4: dropClassSourcedIds: "C8-L1": is not in classes.csv; add it there or correct this value"#,
        ],
    );
    let many = (0..21).map(|at| format!("X{at}")).collect::<Vec<_>>().join("|");
    check(
        &format!("1,k,S1,,\n1,k,S1,C1-L1,C1-L1\n1,k,S1,C1-L1||C2-L1,\n1,k,S1,{many},"),
        &[
            "registrations.csv:2: adds nothing and drops nothing; fill in at least one of them",
            "registrations.csv:3: lists section C1-L1 twice; list it once",
            &format!(r#"registrations.csv:4: addClassSourcedIds: "": {NOT_AN_ID}, several separated by |"#),
            "registrations.csv:5: lists 21 sections, the limit is 20; split the row",
        ],
    );
}
