//! Rows on the wire, through the trait by which the kit calls the service: what is applied is what is read.

use jiff::tz::TimeZone;
use matricula_kit::testing::{self, BACKENDS, Backend, TestDatabase};
use matricula_proto::academics::v1 as wire;
use matricula_proto::common::v1::Source;
use matricula_proto::fees::v1::CourseFee;
use prost_types::Timestamp;

use super::*;

fn of(row: Row) -> ImportRow {
    ImportRow { row: Some(row) }
}

async fn empty(backend: Backend) -> (AcademicStore, TestDatabase) {
    let test = testing::database(backend, &crate::SCHEMA).await;
    (AcademicStore::new(test.database.clone(), TimeZone::UTC), test)
}

async fn import(academics: &AcademicStore, rows: Vec<ImportRow>) -> Result<(), ImportError> {
    for row in &rows {
        academics.check(row).expect("within its bounds");
    }
    let (version, _) = academics.read().await.expect("the database answers");
    academics.apply(version, rows).await
}

/// The rows that are read, in the order of these.
async fn read(academics: &AcademicStore) -> Vec<ImportRow> {
    let mut rows = academics.read().await.expect("the database answers").1;
    rows.sort_by_cached_key(order);
    rows
}

fn order(row: &ImportRow) -> (u8, String) {
    match row.row.as_ref().expect("a row") {
        Row::Term(term) => (0, term.term_id.clone()),
        Row::Course(course) => (1, course.course_id.clone()),
        Row::Section(section) => (2, section.section_id.clone()),
        Row::Student(student) => (3, student.student_id.clone()),
        other => panic!("{other:?} is another service's"),
    }
}

fn at(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}

fn text(text: &str) -> String {
    text.to_owned()
}

fn hold(id: &str) -> wire::Hold {
    wire::Hold { hold_id: text(id), description: format!("Fine {id}"), source: Source::Bundle as i32 }
}

fn completed(course: &str, grade: &str, term: &str) -> wire::CompletedCourse {
    wire::CompletedCourse { course_id: text(course), grade: text(grade), term_id: text(term) }
}

fn term(id: &str) -> wire::Term {
    let kind = wire::TermKind::Term as i32;
    wire::Term { term_id: text(id), title: format!("Term {id}"), kind, time_zone: text("UTC"), ..wire::Term::default() }
}

fn course(id: &str, code: &str) -> wire::Course {
    wire::Course { course_id: text(id), code: text(code), title: format!("On {code}"), ..wire::Course::default() }
}

fn section(id: &str) -> wire::Section {
    wire::Section { section_id: text(id), course_id: text("c1"), term_id: text("fall"), ..wire::Section::default() }
}

fn student(id: &str) -> wire::Student {
    wire::Student { student_id: text(id), name: format!("Student {id}"), ..wire::Student::default() }
}

/// Every field of every kind of row has a value, and there is a row of each kind without any that need not be there.
fn campus() -> Vec<ImportRow> {
    let rows = vec![
        Row::Term(wire::Term {
            add_deadline: at(1_850_000_000),
            drop_deadline: at(1_860_000_000),
            max_credits_hundredths: 1_800,
            starts_on: text("2028-08-24"),
            ends_on: text("2028-12-16"),
            time_zone: text("America/New_York"),
            parent_term_id: text("year"),
            kind: wire::TermKind::Semester as i32,
            closed: true,
            ..term("fall")
        }),
        Row::Term(term("old")),
        Row::Term(wire::Term { kind: wire::TermKind::SchoolYear as i32, ..term("year") }),
        Row::Course(course("c1", "C101")),
        Row::Course(wire::Course {
            credits_hundredths: 300,
            prerequisites: text("C101:B and (C103 or C101)"),
            corequisites: text("C103"),
            closed: true,
            ..course("c2", "C102")
        }),
        Row::Course(course("c3", "C103")),
        Row::Course(wire::Course { prerequisites: text("C103"), ..course("c4", "C104") }),
        Row::Section(wire::Section {
            title: text("Lecture"),
            component: text("1/lecture"),
            meetings: text("MTR 08:00-08:50;F 10:00-11:40"),
            cancelled: true,
            permission_required: true,
            ..section("s1")
        }),
        Row::Section(wire::Section { course_id: text("c2"), term_id: text("old"), ..section("s2") }),
        Row::Student(wire::Student {
            appointment_start: at(1_840_000_000),
            appointment_end: at(1_840_000_100),
            max_credits_hundredths: 900,
            completed: vec![
                completed("c1", "B+", "fall"),
                completed("c1", "B+", "spring-2027"),
                completed("c1", "F", ""),
                completed("elsewhere", "P", ""),
            ],
            holds: vec![hold("h1"), hold("h2")],
            closed: true,
            active_from: at(1_700_000_000),
            active_until: at(1_900_000_000),
            ..student("ada")
        }),
        Row::Student(student("bob")),
    ];
    rows.into_iter().map(of).collect()
}

/// The row in the form in which `read` returns it once it was applied.
fn canonical(row: ImportRow) -> Result<ImportRow, FieldError> {
    Ok(of(match checked(row)? {
        Checked::Term(term) => Row::Term(reply::term(&term)),
        Checked::Course(course) => Row::Course(reply::course(&course)),
        Checked::Section(section) => Row::Section(reply::section_entry(&section)),
        Checked::Student(profile) => Row::Student(reply::profile(profile)),
    }))
}

fn canonical_all(rows: &[ImportRow]) -> Vec<ImportRow> {
    rows.iter().map(|row| canonical(row.clone()).expect("within its bounds")).collect()
}

#[tokio::test]
async fn what_is_applied_is_read_and_read_again_after_it_is_applied_again() {
    for backend in BACKENDS {
        let (academics, _test) = empty(backend).await;
        assert_eq!(academics.read().await.expect("the database answers"), (0, Vec::new()));
        let rows = campus();
        import(&academics, rows.clone()).await.expect("a sound campus");
        let stored = read(&academics).await;
        assert_eq!(stored, canonical_all(&rows), "{backend:?}");
        import(&academics, stored.clone()).await.expect("the same campus");
        assert_eq!(read(&academics).await, stored, "{backend:?}");

        // Every row again, with as little as a row can have: what is not there any more goes.
        let bare = vec![
            of(Row::Term(term("fall"))),
            of(Row::Course(course("c2", "C102"))),
            of(Row::Section(section("s1"))),
            of(Row::Student(student("ada"))),
        ];
        import(&academics, bare.clone()).await.expect("a sound campus");
        let stored = read(&academics).await;
        for row in canonical_all(&bare) {
            assert!(stored.contains(&row), "{backend:?}: {row:?} is not in {stored:?}");
        }
        assert_eq!(stored.len(), rows.len());
    }
}

/// The campus has its rows in the form in which they are read.
#[test]
fn a_row_in_order_stays_as_it_is() {
    let mut rows = campus();
    let canonical = canonical_all(&rows);
    rows.sort_by_cached_key(order);
    assert_eq!(rows, canonical);
}

#[test]
fn a_row_in_another_form_is_put_in_order() {
    #[track_caller]
    fn check(row: Row, expect: Row) {
        assert_eq!(canonical(of(row)).expect("within its bounds"), of(expect));
    }
    check(Row::Term(wire::Term { time_zone: text(""), kind: 0, ..term("t") }), Row::Term(term("t")));
    let zone = |name: &str| Row::Term(wire::Term { time_zone: text(name), ..term("t") });
    check(zone("america/new_york"), zone("America/New_York"));
    let rule = |rule: &str| Row::Course(wire::Course { prerequisites: text(rule), ..course("c2", "C102") });
    check(rule("((C1 and  C2))"), rule("C1 and C2"));
    let holding = |holds| Row::Student(wire::Student { holds, ..student("ada") });
    let unsaid = wire::Hold { source: Source::Unspecified as i32, ..hold("h2") };
    check(holding(vec![unsaid, hold("h1")]), holding(vec![hold("h1"), hold("h2")]));
    let graded = |completed| Row::Student(wire::Student { completed, ..student("ada") });
    let (one, two) = (completed("c1", "A", ""), completed("c2", "B", "fall"));
    check(graded(vec![two.clone(), one.clone(), two.clone()]), graded(vec![one, two]));
}

#[tokio::test]
async fn rows_out_of_bounds_name_the_field() {
    let (academics, _test) = empty(Backend::Sqlite).await;
    let check = |row: Row, expect: &str| {
        let problem = academics.check(&of(row)).expect_err("out of bounds").to_string();
        assert_eq!(problem, expect);
    };
    let rule = |rule: &str| Row::Course(wire::Course { prerequisites: text(rule), ..course("c2", "C102") });
    let problem = academics.check(&of(rule("C101 and"))).expect_err("no requirement").to_string();
    assert!(problem.starts_with("course.prerequisites: at character 9: "), "{problem}");
    let meeting = Row::Section(wire::Section { meetings: text("X 08:00-09:00"), ..section("s") });
    check(meeting, "section.meetings: \"X 08:00-09:00\": 'X' is no day; the days are M T W R F S U");
    let part = Row::Section(wire::Section { component: text("lecture"), ..section("s") });
    check(part, "section.component: must be configuration/subpart, such as 1/2, got \"lecture\"");
    let credits = Row::Course(wire::Course { credits_hundredths: -1, ..course("c", "C") });
    check(credits, "course.credits_hundredths: must be 0 to 10000, got -1");
    let title = Row::Term(wire::Term { title: text("a\0b"), ..term("t") });
    check(title, "term.title: must have no control characters, got '\\0'");
    check(Row::CourseFee(CourseFee::default()), "row: is not a row of this service");
    let nothing = academics.check(&ImportRow { row: None }).expect_err("nothing").to_string();
    assert_eq!(nothing, "row: is not a row of this service");
}

#[tokio::test]
async fn terms_out_of_bounds_name_the_field() {
    let (academics, _test) = empty(Backend::Sqlite).await;
    let check = |change: &dyn Fn(&mut wire::Term), expect: &str| {
        let mut term = wire::Term { starts_on: text("2028-08-24"), ends_on: text("2028-12-16"), ..term("fall") };
        change(&mut term);
        let problem = academics.check(&of(Row::Term(term))).expect_err("out of bounds").to_string();
        assert_eq!(problem, expect);
    };
    check(&|term| term.starts_on.clear(), "term.starts_on: is required where ends_on is given");
    check(&|term| term.ends_on.clear(), "term.ends_on: is required where starts_on is given");
    let expect = "term.ends_on: must be after starts_on, which is 2028-08-24: it is the day after the last one";
    check(&|term| term.ends_on = text("2028-08-24"), expect);
    let expect = "term.ends_on: must be a day such as 2028-08-24, got \"2028-12-16T00:00\"";
    check(&|term| term.ends_on = text("2028-12-16T00:00"), expect);
    let expect = "term.time_zone: \"Mars/Base\" is not a time zone; use a name of the IANA database, such as \
                  America/New_York or UTC";
    check(&|term| term.time_zone = text("Mars/Base"), expect);
    check(&|term| term.kind = 9, "term.kind: unknown kind 9; use one of TermKind");
    let problem = academics.check(&of(Row::Term(wire::Term { parent_term_id: text("a b"), ..term("t") })));
    assert!(problem.expect_err("no id").to_string().starts_with("term.parent_term_id: must be "));
}

#[tokio::test]
async fn students_out_of_bounds_name_the_field() {
    let (academics, _test) = empty(Backend::Sqlite).await;
    let check = |change: &dyn Fn(&mut wire::Student), expect: &str| {
        let mut ada = student("ada");
        change(&mut ada);
        let problem = academics.check(&of(Row::Student(ada))).expect_err("out of bounds").to_string();
        assert_eq!(problem, expect);
    };
    let expect = "student.completed[0].grade: \"E\" is not a grade; use A+ to D-, F, P or NP";
    check(&|ada| ada.completed = vec![completed("c1", "E", "")], expect);
    check(&|ada| ada.holds = vec![hold("h1"), hold("h1")], "student.holds[1].hold_id: h1 is named twice");
    let expect = "student.appointment_end: must not be before appointment_start";
    check(&|ada| (ada.appointment_start, ada.appointment_end) = (at(2), at(1)), expect);
    let expect = "student.active_until: must not be before active_from";
    check(&|ada| (ada.active_from, ada.active_until) = (at(2), at(1)), expect);
    let expect = "student.appointment_start: must be in the years 1 to 9999, got 9223372036854775807 s";
    check(&|ada| ada.appointment_start = at(i64::MAX), expect);

    let twice = vec![of(Row::Student(student("ada"))), of(Row::Student(student("ada")))];
    let problem = import(&academics, twice).await.expect_err("which one holds?").to_string();
    assert_eq!(problem, "students[ada].student_id: is named twice: name it once");
}

#[tokio::test]
async fn one_row_that_would_break_the_whole_refuses_all() {
    for backend in BACKENDS {
        let (academics, _test) = empty(backend).await;
        import(&academics, campus()).await.expect("a sound campus");
        let before = read(&academics).await;
        let broken: [(Row, &str); 3] = [
            (
                Row::Course(wire::Course { prerequisites: text("NONE"), ..course("c3", "C103") }),
                "courses[c3].prerequisites: no course has the code or the id \"NONE\"",
            ),
            (
                Row::Section(wire::Section { term_id: text("winter"), ..section("s1") }),
                "sections[s1].term_id: there is no term winter",
            ),
            (
                Row::Course(course("c3", "C203")),
                "courses[c3].code: the old code \"C103\" is still named by the requirements of course c4",
            ),
        ];
        for (row, expect) in broken {
            let rows = vec![of(Row::Student(student("eve"))), of(Row::Term(term("spring"))), of(row)];
            let error = import(&academics, rows).await.expect_err("it would break the catalogue");
            assert!(matches!(error, ImportError::Row(_)), "{backend:?}: {error:?}");
            assert_eq!(error.to_string(), expect, "{backend:?}");
        }
        assert_eq!(read(&academics).await, before, "{backend:?}");
    }
}
