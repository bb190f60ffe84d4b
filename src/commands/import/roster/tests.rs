//! Plans of rosters; each case has the existing enrollments, the rows of the bundle, and the expected changes.
//!
//! Sections `M1` and `M2` are of course M, `P1` of course P; `X1` is of course X and in no bundle, and so is student
//! `GONE`. The term ends on TERM_END.

use std::cell::RefCell;
use std::time::Duration;

use jiff::civil::{Date, date};
use matricula_campus::{
    Bundle, CourseId, RosterEntry, RosterId, Section, SectionId, Student, StudentId, Term, TermId, TermKind,
};
use matricula_proto::academics::v1::RecordedCourse;
use matricula_proto::common::v1::{EnrollmentStatus, Reason, Refusal};
use matricula_proto::enrollments::v1::Enrollment;
use matricula_proto::ops::v1::roster_result::Result as Wire;
use matricula_proto::ops::v1::{DoorChange, NotTakenOver, RosterResult, RosterRow};
use matricula_proto::registration::v1::{Door, Outcome as Decision, Registration};

use super::door::paused;
use super::ledger::{Ledger, Reserved};
use super::plan::{Change, RosterPlan};
use super::send::{Outcome, settled};

const TODAY: Date = date(2096, 10, 1);
const TERM_END: Date = date(2096, 12, 18);

fn term() -> Term {
    Term {
        id: TermId::try_new("fall").expect("an id"),
        title: String::new(),
        kind: TermKind::Term,
        parent: None,
        starts_on: date(2096, 8, 24),
        ends_on: TERM_END,
        time_zone: None,
        add_deadline: None,
        drop_deadline: None,
        max_credits_hundredths: None,
        rates: None,
        closed: false,
    }
}

fn section(id: &str) -> Section {
    Section {
        id: SectionId::try_new(id).expect("an id"),
        course_id: CourseId::try_new(&id[..1]).expect("an id"),
        term_id: TermId::try_new("fall").expect("an id"),
        title: String::new(),
        capacity: None,
        component: String::new(),
        meetings: String::new(),
        permission_required: false,
        cancelled: false,
    }
}

fn student(id: &str) -> Student {
    Student {
        id: StudentId::try_new(id).expect("an id"),
        given_name: String::new(),
        family_name: String::new(),
        email: String::new(),
        appointment_start: None,
        appointment_end: None,
        max_credits_hundredths: None,
        holds: Vec::new(),
        completed: Vec::new(),
        closed: false,
        disabled: false,
        active_from: None,
        active_until: None,
    }
}

/// `E1 S1 M1`; `-` before it marks the row, and an end date may follow.
fn entry((line, text): (u64, &str)) -> RosterEntry {
    let words: Vec<&str> = text.trim_start_matches('-').split(' ').collect();
    RosterEntry {
        id: RosterId::try_new(words[0]).expect("an id"),
        student_id: StudentId::try_new(words[1]).expect("an id"),
        section_id: SectionId::try_new(words[2]).expect("an id"),
        ended: text.starts_with('-'),
        ends_on: words.get(3).map(|day| day.parse().expect("a date")),
        line,
    }
}

/// `S1 M1 E1 enrolled`: student, section, row or `own`, and the state; by registration `r1`.
fn enrollment(text: &str) -> Enrollment {
    let words: Vec<&str> = text.split(' ').collect();
    let (status, dropped_by, by_import) = match words[3] {
        "enrolled" => (EnrollmentStatus::Enrolled, "", false),
        "pending" => (EnrollmentStatus::Pending, "", false),
        "leaving" => (EnrollmentStatus::Enrolled, "r9", false),
        "dropped" => (EnrollmentStatus::Dropped, "r9", false),
        "ended" => (EnrollmentStatus::Dropped, "r9", true),
        "cancelled" => (EnrollmentStatus::Cancelled, "", false),
        other => panic!("{other}?"),
    };
    Enrollment {
        registration_id: "r1".to_owned(),
        student_id: words[0].to_owned(),
        section_id: words[1].to_owned(),
        course_id: words[1][..1].to_owned(),
        roster_row_id: if words[2] == "own" { String::new() } else { words[2].to_owned() },
        status: status.into(),
        dropped_by_registration_id: dropped_by.to_owned(),
        dropped_by_import: by_import,
        ..Enrollment::default()
    }
}

/// `S1 M1 r1 pending`: student, section, the registration that adds it, and the state on the record.
fn recorded(text: &str) -> RecordedCourse {
    let words: Vec<&str> = text.split(' ').collect();
    let (status, dropped_by) = match words[3] {
        "pending" => (EnrollmentStatus::Pending, ""),
        "enrolled" => (EnrollmentStatus::Enrolled, ""),
        "leaving" => (EnrollmentStatus::Enrolled, "r9"),
        "dropped" => (EnrollmentStatus::Dropped, "r9"),
        other => panic!("{other}?"),
    };
    RecordedCourse {
        student_id: words[0].to_owned(),
        section_id: words[1].to_owned(),
        course_id: words[1][..1].to_owned(),
        registration_id: words[2].to_owned(),
        status: status.into(),
        dropped_by_registration_id: dropped_by.to_owned(),
        credits_hundredths: 0,
    }
}

fn plan(there: &[&str], rows: &[&str]) -> RosterPlan {
    plan_on(TODAY, there, &[], rows)
}

fn plan_on(today: Date, there: &[&str], record: &[&str], rows: &[&str]) -> RosterPlan {
    let sections = ["M1", "M2", "P1"].map(section).to_vec();
    let named = there.iter().map(|text| text.split(' ').next()).chain(rows.iter().map(|text| text.split(' ').nth(1)));
    let students = named.flatten().filter(|id| *id != "GONE").map(student).collect();
    let bundle = Bundle { terms: vec![term()], sections, students, ..Bundle::default() };
    let rows: Vec<RosterEntry> = (2..).zip(rows.iter().copied()).map(entry).collect();
    let mut reserved = Reserved::default();
    record.iter().for_each(|text| reserved.take(recorded(text)));
    let ledger = Ledger::of(there.iter().map(|text| enrollment(text)), reserved);
    RosterPlan::new(&bundle, &rows, &ledger, today)
}

/// The plan as text: changes as they are shown, notes as `row! message`.
#[track_caller]
fn check(there: &[&str], rows: &[&str], expect: &[&str]) {
    check_with(there, &[], rows, expect);
}

/// Like [`check`], with an academic record.
#[track_caller]
fn check_with(there: &[&str], record: &[&str], rows: &[&str], expect: &[&str]) {
    let plan = plan_on(TODAY, there, record, rows);
    let notes = plan.left_alone.iter().chain(&plan.conflicts).map(|note| format!("{}! {}", note.row, note.message));
    let changes = plan.end.iter().chain(&plan.add).map(Change::shown);
    assert_eq!(changes.chain(notes).collect::<Vec<_>>(), expect);
}

#[test]
fn a_missing_enrollment_is_added_once() {
    check(&[], &["E1 S1 M1", "E2 S2 M1", "E3 S1 P1"], &["E1: S1 into M1", "E2: S2 into M1", "E3: S1 into P1"]);
    check(&["S1 M1 E1 enrolled"], &["E1 S1 M1"], &[]);
    check(&["S1 M1 own enrolled"], &["E1 S1 M1"], &[]);
    check(&["S1 M1 own pending"], &["E1 S1 M1"], &[]);
    check(&["S1 M1 E1 cancelled"], &["E1 S1 M1"], &["E1: S1 into M1"]);
    check(&[], &["E1 S1 M1", "E2 S1 M1"], &["E1: S1 into M1"]);
    assert_eq!(plan(&["S1 M1 E1 enrolled"], &["E1 S1 M1", "E2 S1 M1"]).unchanged, 2);
}

/// A registration that enrolls in one step has no enrollment before it is decided.
#[test]
fn a_reserved_course_is_left_to_its_registration() {
    check_with(&[], &["S1 M1 r2 pending"], &["E1 S1 M1", "E2 S2 M1"], &["E2: S2 into M1"]);
    let under_way = "E1! S1 has section M2 of the same course, by a pending registration";
    check_with(&[], &["S1 M2 r2 pending"], &["E1 S1 M1"], &[under_way]);
    // A pending registration of an earlier import adds it: no row ends it meanwhile.
    check_with(&[], &["S1 M1 r2 pending"], &[], &[]);
    // The enrollment is newer than the record: it was decided between the two reads, or is not settled yet.
    check_with(&["S1 M1 own enrolled"], &["S1 M1 r1 pending"], &["E1 S1 M1"], &[]);
    let left_alone = "E1! S1 has dropped section M1; the drop stands";
    check_with(&["S1 M1 own dropped"], &["S1 M1 r1 pending"], &["E1 S1 M1"], &[left_alone]);
    // Dropped, and a newer registration adds it again.
    check_with(&["S1 M1 own dropped"], &["S1 M1 r2 pending"], &["E1 S1 M1"], &[]);
    // A registration is about to drop an imported enrollment: it is left to the next import.
    check_with(&["S1 M1 E1 enrolled"], &["S1 M1 r1 leaving"], &[], &[]);
    check_with(&["S1 M1 E1 enrolled"], &["S1 M1 r1 enrolled"], &[], &["E1: S1 out of M1"]);
    // Ended courses of the record do not count.
    check_with(&[], &["S1 M1 r1 dropped"], &["E1 S1 M1"], &["E1: S1 into M1"]);
}

#[test]
fn only_imported_enrollments_end() {
    let ended = ["E1: S1 out of M1"];
    check(&["S1 M1 E1 enrolled"], &[], &ended);
    check(&["S1 M1 E1 enrolled"], &["-E1 S1 M1"], &ended);
    check(&["S1 M1 own enrolled"], &[], &[]);
    check(&["S1 M1 own enrolled"], &["-E1 S1 M1"], &[]);
    // Dropped, then registered again: an own registration of the student.
    check(&["S1 M1 E1 dropped", "S1 M1 own enrolled"], &["-E1 S1 M1"], &[]);
    // A row with another id has the same content: row ids were generated anew.
    check(&["S1 M1 E1 enrolled"], &["E9 S1 M1", "-E1 S1 M1"], &[]);
    // A bundle covers its own students and classes.
    check(&["S1 X1 E1 enrolled"], &[], &[]);
    check(&["GONE M1 E1 enrolled"], &[], &[]);
    // Enrollments of pending registrations are left to the next import.
    check(&["S1 M1 E1 pending"], &[], &[]);
    check(&["S1 M1 E1 leaving"], &[], &[]);
    let plan = plan(&["S1 M1 E1 enrolled", "S2 M1 own enrolled", "S3 X1 E3 enrolled", "GONE M1 E4 enrolled"], &[]);
    assert_eq!((plan.taken_over, plan.end.len()), (1, 1));
}

#[test]
fn an_end_date_ends_a_row_before_the_term_does() {
    let ended_on = |today, rows: &[&str]| plan_on(today, &["S1 M1 E1 enrolled"], &[], rows).end.len();
    assert_eq!(ended_on(TODAY, &["E1 S1 M1 2096-10-02"]), 0);
    assert_eq!(ended_on(TODAY, &["E1 S1 M1 2096-10-01"]), 1, "the day after the last one");
    assert_eq!(ended_on(date(2096, 12, 18), &["E1 S1 M1 2096-12-18"]), 0, "the term itself ends");
    assert_eq!(ended_on(date(2097, 1, 2), &["E1 S1 M1 2097-01-01"]), 0);
    check(&[], &["E1 S1 M1 2096-09-30"], &[]);
    check(&[], &["E1 S1 M1 2096-12-18"], &["E1: S1 into M1"]);
}

#[test]
fn a_drop_by_the_student_stands() {
    let left_alone = ["E1! S1 has dropped section M1; the drop stands"];
    check(&["S1 M1 E1 dropped"], &["E1 S1 M1"], &left_alone);
    check(&["S1 M1 own dropped"], &["E1 S1 M1"], &left_alone);
    check(&["S1 M1 E1 ended", "S1 M1 E1 dropped"], &["E1 S1 M1"], &left_alone);
    // An enrollment that an import ended, or that another row brought, is added again.
    check(&["S1 M1 E1 ended"], &["E1 S1 M1"], &["E1: S1 into M1"]);
    check(&["S1 M1 E1 dropped", "S1 M1 E1 ended"], &["E1 S1 M1"], &["E1: S1 into M1"]);
    check(&["S1 M1 E1 dropped"], &["E9 S1 M1"], &["E9: S1 into M1"]);
}

#[test]
fn conflicts_are_reported_and_the_other_rows_are_planned() {
    let own = "E1! S1 has section M2 of the same course, by the student's own registration";
    check(&["S1 M2 own enrolled"], &["E1 S1 M1", "E2 S1 P1"], &["E2: S1 into P1", own]);
    let twice = "E2! S1 has section M1 of the same course, by an earlier row";
    check(&[], &["E1 S1 M1", "E2 S1 M2"], &["E1: S1 into M1", twice]);
    let kept = "E2! S1 has section M1 of the same course, by an earlier import";
    check(&["S1 M1 E1 enrolled"], &["E1 S1 M1", "E2 S1 M2"], &[kept]);
    check(&[], &["E1 S1 X1"], &["E1! section X1 is not in the bundle"]);
    let plan = plan(&["S1 M2 own enrolled"], &["E1 S1 M1"]);
    assert_eq!(plan.conflicts[0].line, 2);
}

#[test]
fn a_row_with_another_section_moves_its_student() {
    check(&["S1 M1 E1 enrolled"], &["E1 S1 M2"], &["E1: S1 from M1 to M2"]);
    check(&["S1 M1 E1 enrolled"], &["E1 S1 P1"], &["E1: S1 from M1 to P1"]);
    // Another row for another section of the course: the old enrollment ends first.
    check(&["S1 M1 E1 enrolled"], &["E2 S1 M2"], &["E1: S1 out of M1", "E2: S1 into M2"]);
    // The student has changed sections: the row's section does not replace the new one.
    let own = "E1! S1 has section M2 of the same course, by the student's own registration";
    check(
        &["S1 M1 E1 dropped", "S1 M2 own enrolled"],
        &["E1 S1 M1"],
        &["E1! S1 has dropped section M1; the drop stands"],
    );
    check(&["S1 P1 E1 dropped", "S1 M2 own enrolled"], &["E1 S1 M1"], &[own]);
    // The row now names another student.
    check(&["S1 M1 E1 enrolled"], &["E1 S2 M1"], &["E1: S1 out of M1", "E1: S2 into M1"]);
}

/// Sends these rows to an orchestrator that returns the given results of each call in turn. Returns the rows of each
/// call, and the end result.
async fn send(
    rows: &[&str],
    answers: &[&[&str]],
    patience: Duration,
) -> (Vec<String>, Result<Vec<(String, Result<(), String>)>, String>) {
    let change = |text: &&str| {
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        Change { row: words[0].clone(), student: words[1].clone(), section: Some(words[2].clone()), ended: None }
    };
    let sent = RefCell::new(Vec::new());
    let answer = async |rows: Vec<RosterRow>| {
        let ids: Vec<&str> = rows.iter().map(|row| row.row_id.as_str()).collect();
        sent.borrow_mut().push(ids.join(" "));
        let call = sent.borrow().len() - 1;
        Ok(answers[call.min(answers.len() - 1)].iter().map(|text| result(text)).collect())
    };
    let settled = settled(rows.iter().map(change).collect(), patience, answer).await;
    let settled = settled.map(|all| all.into_iter().map(|(change, result)| (change.row, result)).collect());
    (sent.into_inner(), settled.map_err(|error| error.to_string()))
}

fn result(text: &str) -> RosterResult {
    let registration = |outcome: Decision, reasons| {
        Wire::Registration(Registration { outcome: outcome.into(), reasons, ..Registration::default() })
    };
    let not_taken_over = |retry_after_ms| Wire::NotTakenOver(NotTakenOver { message: text.to_owned(), retry_after_ms });
    let result = match text {
        "enrolled" => registration(Decision::Enrolled, Vec::new()),
        "pending" => registration(Decision::Pending, Vec::new()),
        "refused" => {
            let (reason, message) = (Reason::DuplicateCourse.into(), "You have it.".to_owned());
            registration(Decision::Refused, vec![Refusal { reason, message, ..Refusal::default() }])
        }
        "busy" => not_taken_over(500),
        _ => not_taken_over(0),
    };
    RosterResult { result: Some(result) }
}

#[tokio::test(start_paused = true)]
async fn rows_are_sent_until_they_are_decided() {
    let rows = ["E1 S1 M1", "E2 S2 M1", "E3 S3 M1", "E4 S4 M1"];
    let answers: [&[&str]; 3] = [&["enrolled", "pending", "busy", "never"], &["busy", "refused"], &["enrolled"]];
    let (sent, settled) = send(&rows, &answers, Duration::from_secs(60)).await;
    assert_eq!(sent, ["E1 E2 E3 E4", "E2 E3", "E2"]);
    let decided = [("E1", Ok(())), ("E4", Err("never")), ("E3", Err("DUPLICATE_COURSE: You have it.")), ("E2", Ok(()))];
    let decided = decided.map(|(row, result)| (row.to_owned(), result.map_err(str::to_owned)));
    assert_eq!(settled, Ok(decided.to_vec()));
}

#[tokio::test(start_paused = true)]
async fn rows_that_stay_undecided_are_an_error() {
    let (_, settled) = send(&["E1 S1 M1"], &[&["busy"]], Duration::from_secs(3)).await;
    let problem = settled.expect_err("it is never decided");
    assert!(problem.starts_with("1 rows of rosters are not decided yet, such as E1: S1 into M1"), "{problem}");
}

#[test]
fn only_a_pause_of_registration_stops_rosters() {
    let latest = |door: Door| DoorChange {
        door: door.into(),
        by: "grace".to_owned(),
        reason: "capacities are wrong".to_owned(),
        ..DoorChange::default()
    };
    assert_eq!([Door::Open, Door::Closed].map(|door| paused(&latest(door))), [None, None]);
    let why = paused(&latest(Door::Paused)).expect("it is paused");
    for part in
        ["grace paused registration at", "capacities are wrong", "matricula registration open", "close --sentence"]
    {
        assert!(why.contains(part), "{part}: {why}");
    }
}

#[test]
fn a_plan_shows_the_rows_that_cannot_be_taken_over() {
    let there =
        ["S1 M1 E1 enrolled", "S2 M1 E2 enrolled", "S3 M2 own enrolled", "S4 M1 E4 dropped", "S5 M1 E5 enrolled"];
    let rows = ["E1 S1 M2", "E3 S3 M1", "E4 S4 M1", "E5 S5 M1", "E6 S6 M1"];
    insta::assert_snapshot!(plan(&there, &rows).shown(), @"
    rosters: 1 added, 1 moved, 1 ended, 1 left alone, 1 conflicts, 1 unchanged
    roster, left alone: enrollments.csv:4: E4: S4 has dropped section M1; the drop stands
    roster, conflict: enrollments.csv:3: E3: S3 has section M2 of the same course, by the student's own registration
    ");
}

#[test]
fn refused_changes_are_shown() {
    let change = |row: String| Change { row, student: "S1".to_owned(), section: Some("M1".to_owned()), ended: None };
    let refused = (0..22).map(|row| (change(format!("E{row}")), "DUPLICATE_COURSE: You have it.".to_owned())).collect();
    let shown = Outcome { added: 1_200, ended: 0, refused }.shown();
    let mut lines = shown.lines();
    assert_eq!(lines.next(), Some("rosters: 1,200 taken over, 0 ended, 22 refused"));
    assert_eq!(lines.next(), Some("roster, refused: E0: S1 into M1: DUPLICATE_COURSE: You have it."));
    assert_eq!(lines.next_back(), Some("and 2 more; `--output json` lists all of them"));
}

#[test]
fn an_import_that_would_end_many_enrollments_needs_yes() {
    let alarm = |count: usize, kept: usize| {
        let there: Vec<String> = (0..count + kept).map(|n| format!("S{n} M1 E{n} enrolled")).collect();
        let rows: Vec<String> = (count..count + kept).map(|n| format!("E{n} S{n} M1")).collect();
        let texts = |all: &'static [String]| all.iter().map(String::as_str).collect::<Vec<_>>();
        plan(&texts(there.leak()), &texts(rows.leak())).alarm()
    };
    assert_eq!(alarm(10, 0), None, "few");
    assert_eq!(alarm(11, 300), None, "a small part");
    let asks = alarm(11, 100).expect("many, and a large part");
    assert_eq!((asks.ids.len(), asks.of, asks.how), (11, 111, "ended"));
}
