//! Imports as a registrar makes them, night after night: the bundle is applied, or the problem is reported.

mod files;
mod rosters;

use matricula_harness::{PATIENCE, Sql, System, submission, submit};
use matricula_kit::testing::Backend;
use matricula_proto::common::v1::Reason;
use matricula_proto::registration::v1::{Outcome, Registration};
use serde_json::Value;
use tonic::transport::Channel;

use files::Files;

/// Students of most tests.
const STUDENTS: u32 = 8;
/// Between two checks of a fact.
const LOOK: std::time::Duration = std::time::Duration::from_millis(50);

/// Imports the bundle, with additional flags; returns its exit code and its output.
fn import(system: &System, files: &Files, flags: &[&str]) -> (Option<i32>, String, String) {
    let path = files.path().display().to_string();
    let output = system.run(&[&["import", &path], flags].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Imports the bundle, and returns the plan that was applied.
#[track_caller]
fn imported(system: &System, files: &Files) -> Value {
    let (code, stdout, stderr) = import(system, files, &["--output", "json"]);
    assert_eq!(code, Some(0), "{stdout}\n{stderr}");
    let document: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(document["applied"], true);
    document["plan"].clone()
}

/// The kinds of a plan with an added, changed, closed or opened row.
fn touched(plan: &Value) -> Vec<String> {
    let plan = plan.as_object().expect("an object");
    let is_touched = |changes: &&Value| {
        ["added", "changed", "closed", "opened"].iter().any(|how| !changes[how].as_array().expect("a list").is_empty())
    };
    plan.iter().filter(|(_, changes)| is_touched(changes)).map(|(kind, _)| kind.clone()).collect()
}

fn ids(list: &Value) -> Vec<String> {
    let id = |entry: &Value| entry.get("id").unwrap_or(entry).as_str().expect("an id").to_owned();
    list.as_array().expect("a list").iter().map(id).collect()
}

/// A portal, and a key for each click.
struct Portal {
    channel: Channel,
    clicks: std::cell::Cell<u32>,
}

impl Portal {
    async fn of(system: &System) -> Self {
        Self { channel: system.channel("orchestrator").await, clicks: std::cell::Cell::new(0) }
    }

    async fn click(&self, student: &str, adds: &[&str], drops: &[&str]) -> Registration {
        self.clicks.set(self.clicks.get() + 1);
        submit(&self.channel, submission(student, &format!("click-{}", self.clicks.get()), adds, drops)).await
    }

    #[track_caller]
    fn enrolled(&self, student: &str, adds: &[&str], drops: &[&str]) -> impl Future<Output = Registration> {
        let place = std::panic::Location::caller();
        async move {
            let registration = self.click(student, adds, drops).await;
            assert_eq!(registration.outcome(), Outcome::Enrolled, "{place}: {registration:?}");
            registration
        }
    }

    #[track_caller]
    fn refused(&self, student: &str, adds: &[&str], drops: &[&str]) -> impl Future<Output = Vec<(Reason, String)>> {
        let place = std::panic::Location::caller();
        async move {
            let registration = self.click(student, adds, drops).await;
            assert_eq!(registration.outcome(), Outcome::Refused, "{place}: {registration:?}");
            registration.reasons.iter().map(|reason| (reason.reason(), reason.section_id.clone())).collect()
        }
    }
}

fn reason(reason: Reason, section: &str) -> Vec<(Reason, String)> {
    vec![(reason, section.to_owned())]
}

#[tokio::test]
async fn a_second_run_of_the_same_bundle_changes_nothing() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let system = match backend {
            Backend::Sqlite => System::up_with(&["--students", "0"], &[]),
            Backend::Postgres => System::separate(backend, &[]).await,
        };
        let files = Files::new(&system, STUDENTS);
        files.put("holds.csv", "holdId,studentSourcedId,description\nLIB,S7,Library fine\n");
        files.put("completed.csv", "studentSourcedId,courseSourcedId,grade\nS7,C1,B\nS7,OLD9,A\n");
        let (code, shown, said) = import(&system, &files, &["--dry-run"]);
        assert_eq!(code, Some(0), "{shown}\n{said}");
        assert!(said.contains("nothing was imported"), "{said}");
        assert!(said.contains("OLD9") || said.contains("not in"), "a course that has left the catalogue: {said}");
        let first = imported(&system, &files);
        assert_eq!(ids(&first["students"]["added"]).len(), STUDENTS as usize);
        assert_eq!(ids(&first["holds"]["added"]), ["S7/LIB"]);
        let (code, shown, said) = import(&system, &files, &[]);
        assert_eq!(code, Some(0), "{shown}\n{said}");
        assert!(said.contains("there is nothing to import"), "{said}");
        assert_eq!(touched(&imported(&system, &files)), [""; 0]);
    }
}

#[tokio::test]
async fn closed_items_take_nothing_new_and_keep_their_records() {
    let system = System::up_with(&["--students", "0"], &[]);
    let files = Files::new(&system, STUDENTS);
    imported(&system, &files);
    let portal = Portal::of(&system).await;
    portal.enrolled("S8", &["M1-F"], &[]).await;
    portal.enrolled("S1", &["E1-F"], &[]).await;

    // A student who is marked, one with a disabled login, one whose role has ended, one who is a teacher now, one whose
    // row is missing.
    files.edit("users.csv", "S8,,true", "S8,tobedeleted,true");
    files.edit("users.csv", "S7,,true", "S7,,false");
    files.edit("roles.csv", "r6,,S6,primary,student,,,", "r6,,S6,primary,student,,2020-06-30,");
    files.edit("roles.csv", "S5,primary,student", "S5,primary,teacher");
    files.edit("users.csv", "S4,,true,s4,Test,Person4,s4@example.edu\n", "");
    files.edit("roles.csv", "r4,,S4,primary,student,,,org1\n", "");
    // A section, and a course with its only section.
    files.edit("classes.csv", "E1-F,,", "E1-F,tobedeleted,");
    files.edit("classes.csv", "G1-FA,,", "G1-FA,tobedeleted,");
    files.edit("courses.csv", "C4,,", "C4,tobedeleted,");
    let plan = imported(&system, &files);
    assert_eq!(ids(&plan["sections"]["closed"]), ["E1-F", "G1-FA"]);
    assert_eq!(ids(&plan["courses"]["closed"]), ["C4"]);
    let mut closed = ids(&plan["students"]["closed"]);
    closed.sort();
    assert_eq!(closed, ["S4", "S5", "S7", "S8"]);
    assert_eq!(ids(&plan["students"]["changed"]), ["S6"], "its role ends at a date");
    assert_eq!(touched(&imported(&system, &files)), [""; 0], "the second run");

    for student in ["S4", "S5", "S6", "S7", "S8"] {
        assert_eq!(portal.refused(student, &["R1-F"], &[]).await, reason(Reason::StudentNotActive, ""), "{student}");
    }
    assert_eq!(portal.refused("S2", &["E1-F"], &[]).await, reason(Reason::SectionCancelled, "E1-F"));
    assert!(portal.refused("S2", &["G1-FA"], &[]).await.contains(&(Reason::CourseNotOffered, "G1-FA".to_owned())));
    // Earlier enrollments stay, and can be dropped.
    portal.enrolled("S1", &["R1-F"], &["E1-F"]).await;
    portal.enrolled("S8", &[], &["M1-F"]).await;

    files.edit("users.csv", "S8,tobedeleted,true", "S8,,true");
    files.edit("classes.csv", "E1-F,tobedeleted,", "E1-F,,");
    // A missing column changes nothing: the login of S7 stays disabled.
    files.without_column("users.csv", "enabledUser");
    let plan = imported(&system, &files);
    assert_eq!(
        (ids(&plan["students"]["opened"]), ids(&plan["sections"]["opened"])),
        (vec!["S8".to_owned()], vec!["E1-F".to_owned()])
    );
    portal.enrolled("S8", &["E1-F"], &[]).await;
    assert_eq!(portal.refused("S7", &["R1-F"], &[]).await, reason(Reason::StudentNotActive, ""));
    system.audit();
}

#[tokio::test]
async fn missing_files_and_columns_change_nothing_and_empty_cells_remove() {
    let system = System::up_with(&["--students", "0"], &[]);
    let files = Files::new(&system, STUDENTS);
    files.put("holds.csv", "holdId,studentSourcedId,description\nLIB,S7,Library fine\n");
    files.put("completed.csv", "studentSourcedId,courseSourcedId,grade\nS6,C1,B\n");
    let sessions = std::fs::read_to_string(files.path().join("academicSessions.csv")).expect("it is there");
    let with_rates =
        sessions.replace("metadata.maxCredits\n", "metadata.maxCredits,metadata.currency,metadata.perCreditMinor\n");
    let with_rates = with_rates.replace("2097,18\n", "2097,18,JPY,15000\n").replace("2097,\n", "2097,,JPY,15000\n");
    files.put("academicSessions.csv", &with_rates);
    imported(&system, &files);
    let portal = Portal::of(&system).await;
    let charged = portal.enrolled("S1", &["M1-F"], &[]).await;
    let money = charged.charged.expect("three credits are charged");
    assert_eq!((money.currency.as_str(), money.minor_units), ("JPY", 45_000));
    let shown = system.done(&["registration", "show", &charged.registration_id]);
    assert!(shown.contains("JPY 45,000"), "{shown}");
    assert!(!shown.contains("450.00"), "{shown}");

    // The files of holds and transcripts are missing, and so are the columns of rates: nothing changes.
    files.remove("holds.csv");
    files.remove("completed.csv");
    files.put("academicSessions.csv", &sessions);
    assert_eq!(touched(&imported(&system, &files)), [""; 0]);
    assert_eq!(portal.refused("S7", &["R1-F"], &[]).await, reason(Reason::Hold, ""));
    portal.enrolled("S6", &["M2-F"], &[]).await;
    let charged = portal.enrolled("S2", &["M1-F"], &[]).await;
    assert_eq!(charged.charged.expect("the rate holds").minor_units, 45_000);

    // The cells are empty: nothing is charged any more; the limit of credits goes, too.
    files.put("academicSessions.csv", &with_rates.replace(",JPY,15000", ",,").replace("2097,18", "2097,"));
    let plan = imported(&system, &files);
    assert_eq!(ids(&plan["rates"]["closed"]), ["FALL", "FALLA", "FALLB", "SPRING"]);
    assert_eq!(ids(&plan["terms"]["changed"]), ["FALL", "SPRING"]);
    let free = portal.enrolled("S3", &["M1-F"], &[]).await;
    assert_eq!(free.charged.map(|money| money.minor_units).unwrap_or_default(), 0);

    // A file of holds without any row lifts the holds of the last file.
    files.put("holds.csv", "holdId,studentSourcedId,description\n");
    assert_eq!(ids(&imported(&system, &files)["holds"]["closed"]), ["S7/LIB"]);
    portal.enrolled("S7", &["R1-F"], &[]).await;
    system.audit();
}

#[tokio::test]
async fn changes_by_staff_survive_the_nightly_import() {
    let system = System::up_with(&["--students", "0"], &[]);
    let files = Files::new(&system, STUDENTS);
    files.put("holds.csv", "holdId,studentSourcedId,description\nLIB,S7,Library fine\n");
    imported(&system, &files);
    let portal = Portal::of(&system).await;
    system.done(&["sections", "set-capacity", "M1-F", "0"]);
    let by = ["--reason", "ticket 7", "--by", "ada"];
    system.done(&[&["hold", "set", "S1", "DEAN", "--text", "See the dean"][..], &by].concat());
    system.done(&[&["hold", "lift", "S7", "LIB"][..], &by].concat());

    assert_eq!(touched(&imported(&system, &files)), [""; 0]);
    assert_eq!(portal.refused("S2", &["M1-F"], &[]).await, reason(Reason::ClosedSection, "M1-F"));
    assert_eq!(portal.refused("S1", &["R1-F"], &[]).await, reason(Reason::Hold, ""));
    portal.enrolled("S7", &["R1-F"], &[]).await;

    // The bundle differs from the last one, so it applies. A hold that is missing and then named again is a new one.
    files.edit("classes.csv", "M1-F,,,C1,org1,FALL,30", "M1-F,,,C1,org1,FALL,31");
    files.put("holds.csv", "holdId,studentSourcedId,description\n");
    let plan = imported(&system, &files);
    assert_eq!(ids(&plan["seats"]["changed"]), ["M1-F"]);
    assert!(plan["seats"]["changed"][0]["what"].as_str().expect("a text").contains("0 now, set by staff"), "{plan}");
    portal.enrolled("S2", &["M1-F"], &[]).await;
    assert_eq!(portal.refused("S1", &["R1-F"], &[]).await, reason(Reason::Hold, ""));
    files.put("holds.csv", "holdId,studentSourcedId,description\nLIB,S7,Library fine\n");
    imported(&system, &files);
    assert_eq!(portal.refused("S7", &["E1-F"], &[]).await, reason(Reason::Hold, ""));
    system.audit();
}

#[tokio::test]
async fn an_import_that_would_close_much_needs_a_confirmation() {
    let system = System::up_with(&["--students", "0"], &[]);
    let files = Files::new(&system, 60);
    imported(&system, &files);
    let half = Files::new(&system, 30);
    let (code, shown, said) = import(&system, &half, &[]);
    assert_eq!(code, Some(1), "{shown}\n{said}");
    assert!(said.contains("30 of 60 students (50 %) would be closed: S31, S32"), "{said}");
    assert!(said.contains("--yes") && said.contains("Nothing was imported"), "{said}");
    let (code, shown, _) = import(&system, &half, &["--output", "json"]);
    let document: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!((code, &document["applied"]), (Some(1), &Value::Bool(false)));
    assert_eq!(ids(&document["plan"]["students"]["closed"]).len(), 30);
    let portal = Portal::of(&system).await;
    portal.enrolled("S60", &["R1-F"], &[]).await;

    let (code, _, said) = import(&system, &half, &["--yes"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(portal.refused("S59", &["R1-F"], &[]).await, reason(Reason::StudentNotActive, ""));
    // Ten of thirty are within the limit.
    let fewer = Files::new(&system, 20);
    let (code, _, said) = import(&system, &fewer, &[]);
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_between_two_services_the_same_import_does_the_rest() {
    let mut system = System::separate(Backend::Postgres, &[]).await;
    let files = Files::new(&system, STUDENTS);
    imported(&system, &files);
    files.edit("classes.csv", "M1-F,,,C1,org1,FALL,30,MWF 09:00-09:50", "M1-F,,,C1,org1,FALL,40,MWF 08:00-08:50");
    let has_forty = || {
        let shown = system.done(&["sections", "show", "M1-F", "--output", "json"]);
        let shown: Value = serde_json::from_str(&shown).expect("JSON");
        shown["sections"][0]["availability"]["capacity"] == 40
    };
    assert!(!has_forty());

    // The academic service can't apply anything while its version is locked; seats are imported before it.
    let mut lock = Sql::open(&system.database_url("academics")).await;
    lock.run("BEGIN; SELECT version FROM import_version FOR UPDATE").await;
    let mut importing = system.spawn(&["import", &files.path().display().to_string()]);
    let start = std::time::Instant::now();
    while !has_forty() {
        assert!(start.elapsed() < PATIENCE, "in vain: the seats are imported");
        tokio::time::sleep(LOOK).await;
    }
    importing.kill().expect("it runs");
    importing.wait().expect("it has ended");
    system.kill("academics");
    lock.run("ROLLBACK").await;
    system.restart("academics");

    let rest = imported(&system, &files);
    assert_eq!(touched(&rest), ["sections"], "{rest}");
    assert_eq!(touched(&imported(&system, &files)), [""; 0]);
}

#[tokio::test]
async fn terms_have_dates() {
    let system = System::up_with(&["--students", "0"], &[]);
    let files = Files::new(&system, STUDENTS);
    imported(&system, &files);
    let portal = Portal::of(&system).await;
    // A class of the first half of fall conflicts with one of the whole fall; classes of different halves do not.
    portal.enrolled("S1", &["M1-F"], &[]).await;
    assert_eq!(portal.refused("S1", &["G1-FA"], &[]).await, reason(Reason::TimeConflict, "G1-FA"));
    portal.enrolled("S2", &["G1-FA"], &[]).await;
    portal.enrolled("S2", &["R1-FB"], &[]).await;
    portal.enrolled("S3", &["G1-FA", "R1-FB"], &[]).await;
    // A course of next spring is no prerequisite for this fall; a course that ends before spring is one for spring. The
    // number of clicks does not matter.
    portal.enrolled("S4", &["M1-S"], &[]).await;
    assert_eq!(portal.refused("S4", &["M2-F"], &[]).await, reason(Reason::PrerequisiteNotMet, "M2-F"));
    assert_eq!(portal.refused("S5", &["M1-F", "M2-F"], &[]).await, reason(Reason::PrerequisiteNotMet, "M2-F"));
    portal.enrolled("S5", &["M1-F", "M2-S"], &[]).await;
    portal.enrolled("S6", &["M1-F"], &[]).await;
    portal.enrolled("S6", &["M2-S"], &[]).await;
    // Nor may a course be dropped while another one needs it.
    assert_eq!(portal.refused("S6", &[], &["M1-F"]).await, reason(Reason::PrerequisiteNotMet, "M1-F"));
    let by = ["--reason", "ticket 7", "--by", "ada"];
    system.done(&[&["override", "grant", "S6", "PREREQUISITE_NOT_MET", "--section", "M1-F"][..], &by].concat());
    portal.enrolled("S6", &[], &["M1-F"]).await;

    // The limit of fall includes the courses of its halves.
    files.edit("academicSessions.csv", "2096-08-24,2096-12-18,,2097,18", "2096-08-24,2096-12-18,,2097,6");
    // A term that has ended takes no adds, and its enrollments stay.
    files.edit(
        "academicSessions.csv",
        "SPRING,,Spring,term,2097-01-11,2097-05-07",
        "SPRING,,Spring,term,2019-01-11,2019-05-07",
    );
    imported(&system, &files);
    assert_eq!(portal.refused("S3", &["E1-F"], &[]).await, reason(Reason::MaxCreditsExceeded, ""));
    assert_eq!(portal.refused("S7", &["M1-S"], &[]).await, reason(Reason::TermClosed, "M1-S"));
    portal.enrolled("S6", &[], &["M2-S"]).await;
    system.audit();
}

#[tokio::test]
async fn codes_with_spaces_and_meetings_until_midnight() {
    let system = System::up_with(&["--students", "0"], &[]);
    let files = Files::new(&system, STUDENTS);
    files.edit("courses.csv", "Algebra,MATH101,", "Algebra,MATH 101,");
    files.edit("courses.csv", "MATH102,org1,3,MATH101", "MATH 102,org1,3,\"\"\"MATH 101\"\" or C5\"");
    files.edit("classes.csv", "MWF 09:50-10:40", "F 22:00-24:00");
    imported(&system, &files);
    let portal = Portal::of(&system).await;
    portal.enrolled("S1", &["M1-F"], &[]).await;
    portal.enrolled("S1", &["M2-S"], &[]).await;
    // A course may be named by its sourcedId, too.
    portal.enrolled("S2", &["R1-F"], &[]).await;
    portal.enrolled("S2", &["M2-S"], &[]).await;
    assert_eq!(portal.refused("S3", &["M2-S"], &[]).await, reason(Reason::PrerequisiteNotMet, "M2-S"));
    portal.enrolled("S3", &["E1-F"], &[]).await;

    // Several words are one name only if a course has exactly that code; otherwise the problem says what to do.
    files.edit("courses.csv", "\"\"\"MATH 101\"\" or C5\"", "MATH 900");
    let (code, _, said) = import(&system, &files, &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("courses.csv:3: metadata.prerequisites") && said.contains("is quoted"), "{said}");
    system.audit();
}
