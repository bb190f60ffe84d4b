//! What a participant promises, through the real writer, on both databases.

use jiff::tz::TimeZone;
use matricula_kit::answer::Reason;
use matricula_kit::id::{HoldId, OverrideId, StepName};
use matricula_kit::imports::ImportError;
use matricula_kit::named::NamedValue as _;
use matricula_kit::participant::{Direction, Key, Writer, WriterLimits};
use matricula_kit::source::Source;
use matricula_kit::telemetry::TraceContext;
use matricula_kit::testing::{self, BACKENDS, Backend, TestDatabase};

use super::*;
use crate::domain::catalog::{Catalog, CatalogChanges};
use crate::domain::decide::Action;
use crate::domain::fixture::{self, AFTER, BEFORE, NOW, change, saga, section, section_id, student_id};
use crate::domain::student::{Completed, Hold, Override, Profile};
use crate::store::StaffError;

mod hold_up;
mod holds;
mod imports;
mod roster;
mod upgrade;

const RESERVE: &str = "reserve_courses";
const SETTLE: &str = "settle_courses";

/// The service on a database with the campus and two students, as one process has it.
struct Bed {
    store: Arc<AcademicStore>,
    writer: Writer<Academics>,
    test: Arc<TestDatabase>,
}

impl Bed {
    async fn new(backend: Backend) -> Self {
        let bed = Self::on(Arc::new(testing::database(backend, &crate::SCHEMA).await));
        bed.import(&fixture::changes(), vec![profile("ada"), profile("bob")]).await.expect("the campus is sound");
        bed
    }

    /// Applies an import that was planned for the version in force.
    async fn import(&self, catalog: &CatalogChanges, profiles: Vec<Profile>) -> Result<(), ImportError> {
        let profiles: Vec<Profile> = profiles.into_iter().map(Profile::in_order).collect();
        let version = self.store.imported().await?.version;
        self.store.apply_import(version, catalog, &profiles).await
    }

    async fn import_students(&self, profiles: Vec<Profile>) {
        self.import(&CatalogChanges::default(), profiles).await.expect("students are stored");
    }

    /// Another process on the same database.
    fn replica(&self) -> Self {
        Self::on(self.test.clone())
    }

    fn on(test: Arc<TestDatabase>) -> Self {
        let store = Arc::new(AcademicStore::new(test.database.clone(), TimeZone::UTC));
        let participant = Arc::new(Academics { store: store.clone() });
        let (writer, _) = Writer::alone(participant, test.database.clone(), WriterLimits::default());
        Self { store, writer, test }
    }

    async fn write(&self, operation: Operation<Command>) -> Answer {
        self.write_all(vec![operation]).await.remove(0)
    }

    async fn write_all(&self, operations: Vec<Operation<Command>>) -> Vec<Answer> {
        self.writer.write(operations).await.expect("the batch is committed")
    }

    /// What is on a student's record: `section registration STATUS credits dropped_by`, by registration.
    async fn record(&self, student: &str) -> Vec<String> {
        let student = self.store.record(&student_id(student)).await.expect("the database answers");
        let mut courses = student.expect("the student is on record").courses;
        courses.sort_by_key(|course| (course.registration.clone(), course.section.clone()));
        let shown = courses.iter().map(|course| {
            let dropped_by = course.dropped_by.as_ref().map_or("-", |saga| saga.as_str());
            let (section, registration) = (&course.section, &course.registration);
            format!("{section} {registration} {} {} {dropped_by}", course.status.name(), course.credits_hundredths)
        });
        shown.collect()
    }

    /// What is in force on a student's record, and whether it is being dropped, without the registrations' ids.
    async fn in_force(&self, student: &str) -> String {
        let student = self.store.record(&student_id(student)).await.expect("the database answers");
        let courses = student.expect("the student is on record").courses;
        let courses = courses.iter().filter(|course| course.status.name() != "CANCELLED");
        let mut shown: Vec<String> = courses
            .map(|course| format!("{} {} {}", course.section, course.status.name(), course.dropped_by.is_some()))
            .collect();
        shown.sort_unstable();
        shown.join(", ")
    }
}

fn profile(id: &str) -> Profile {
    Profile { id: student_id(id), name: id.to_owned(), completed: vec![math("F")], ..fixture::student().profile }
}

fn math(grade: &str) -> Completed {
    Completed { course: fixture::course_id("c-MATH"), grade: grade.parse().expect("a grade"), term: None }
}

fn hold(id: &str, description: &str) -> Hold {
    let id = HoldId::try_new(id).expect("a hold id");
    Hold { id, description: description.to_owned(), source: Source::Staff }
}

fn operation(
    registration: &str,
    step: &str,
    direction: Direction,
    student: &str,
    action: Action,
) -> Operation<Command> {
    let registration = saga(registration);
    let key = Some(Key { saga: registration.clone(), step: StepName::try_new(step).expect("a step") });
    let command = Command { registration, student: student_id(student), action };
    Operation { key, direction, trace: TraceContext::default(), owner_alive_at: None, command }
}

fn reserve(registration: &str, adds: &str, drops: &str) -> Operation<Command> {
    operation(registration, RESERVE, Direction::Forward, "ada", Action::Reserve(change(adds, drops)))
}

fn remove(registration: &str) -> Operation<Command> {
    operation(registration, RESERVE, Direction::Compensation, "ada", Action::Remove)
}

fn settle(registration: &str) -> Operation<Command> {
    operation(registration, SETTLE, Direction::Forward, "ada", Action::Settle)
}

#[track_caller]
fn word(answer: &Answer) -> &str {
    match answer {
        Answer::Done(_) => "done",
        Answer::Refused(reasons) => reasons[0].reason.name(),
        Answer::NotYet(not_yet) => &not_yet.reason,
    }
}

/// Runs a script, each operation a batch of its own and then all of them as one batch on a fresh database: the answers
/// and the record must be the expected ones either way.
async fn check(script: &[Operation<Command>], answers: &str, record: &[&str]) {
    for backend in BACKENDS {
        let bed = Bed::new(backend).await;
        let mut words = Vec::new();
        for operation in script {
            words.push(word(&bed.write(operation.clone()).await).to_owned());
        }
        assert_eq!(
            (words.join(" ").as_str(), bed.record("ada").await),
            (answers, owned(record)),
            "{backend:?}, one by one"
        );

        let bed = Bed::new(backend).await;
        let together = bed.write_all(script.to_vec()).await;
        let words: Vec<&str> = together.iter().map(word).collect();
        assert_eq!(
            (words.join(" ").as_str(), bed.record("ada").await),
            (answers, owned(record)),
            "{backend:?}, together"
        );
    }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_repeated_action_gets_its_first_answer() {
    let script = [reserve("r1", "MATH-1", ""), reserve("r1", "MATH-1", ""), settle("r1"), reserve("r1", "MATH-1", "")];
    check(&script, "done done done done", &["MATH-1 r1 ENROLLED 300 -"]).await;
    let script = [reserve("r1", "BIO-1", ""), reserve("r2", "CHEM-A CHEM-LA", ""), reserve("r1", "BIO-1", "")];
    let record = ["CHEM-A r2 PENDING 400 -", "CHEM-LA r2 PENDING 0 -"];
    check(&script, "COREQUISITE_REQUIRED done COREQUISITE_REQUIRED", &record).await;
}

#[tokio::test]
async fn a_reservation_and_its_removal_in_every_order() {
    for backend in BACKENDS {
        let bed = Bed::new(backend).await;
        assert_eq!(word(&bed.write(reserve("r0", "MATH-1", "")).await), "done");
        assert_eq!(word(&bed.write(settle("r0")).await), "done");
        testing::barrier_holds(
            &bed.writer,
            // A swap: the removal has something to give back, and something to take away.
            |saga| (reserve(saga.as_str(), "MATH-2", "MATH-1"), remove(saga.as_str())),
            async || bed.in_force("ada").await,
        )
        .await;
    }
}

#[tokio::test]
async fn an_undo_restores_the_record() {
    let start = [reserve("r0", "MATH-1", ""), settle("r0")];
    let swap = [reserve("r1", "MATH-2", "MATH-1"), remove("r1"), remove("r1"), reserve("r1", "MATH-2", "MATH-1")];
    let script: Vec<_> = start.iter().chain(&swap).cloned().collect();
    let record = ["MATH-1 r0 ENROLLED 300 -", "MATH-2 r1 CANCELLED 300 -"];
    check(&script, "done done done done done done", &record).await;
}

#[tokio::test]
async fn an_action_after_its_undo_is_refused() {
    let script = [remove("r1"), reserve("r1", "MATH-1", ""), remove("r1"), reserve("r1", "MATH-1", "")];
    check(&script, "done REGISTRATION_CANCELLED done REGISTRATION_CANCELLED", &[]).await;
}

#[tokio::test]
async fn a_settled_swap_drops_the_old_section() {
    let script = [
        reserve("r0", "MATH-1", ""),
        settle("r0"),
        reserve("r1", "MATH-2", "MATH-1"),
        settle("r1"),
        settle("r1"),
        reserve("r2", "MATH-1", "MATH-2"),
    ];
    let record = ["MATH-1 r0 DROPPED 300 r1", "MATH-2 r1 ENROLLED 300 r2", "MATH-1 r2 PENDING 300 -"];
    check(&script, "done done done done done done", &record).await;
}

#[tokio::test]
async fn a_drop_waits_for_the_registration_that_added() {
    let script = [reserve("r1", "MATH-1", ""), reserve("r2", "", "MATH-1"), settle("r1"), reserve("r2", "", "MATH-1")];
    let answers = "done EARLIER_REGISTRATION_PENDING done done";
    check(&script, answers, &["MATH-1 r1 ENROLLED 300 r2"]).await;
    let script = [reserve("r1", "MATH-1", ""), reserve("r2", "MATH-1", ""), remove("r1"), reserve("r2", "MATH-1", "")];
    check(&script, answers, &["MATH-1 r1 CANCELLED 300 -", "MATH-1 r2 PENDING 300 -"]).await;
}

#[tokio::test]
async fn an_unknown_student_is_refused() {
    for backend in BACKENDS {
        let bed = Bed::new(backend).await;
        let unknown = operation("r1", RESERVE, Direction::Forward, "nobody", Action::Reserve(change("MATH-1", "")));
        assert_eq!(word(&bed.write(unknown.clone()).await), "STUDENT_NOT_FOUND");
        assert_eq!(word(&bed.write(unknown).await), "STUDENT_NOT_FOUND");
        assert_eq!(bed.store.record(&student_id("nobody")).await.expect("the database answers"), None);
    }
}

/// Two tabs, two sections at the same time, and on PostgreSQL two replicas: one passes, the other hears why.
#[tokio::test]
async fn of_two_conflicting_registrations_one_passes() {
    const STUDENTS: usize = 40;
    for backend in BACKENDS {
        let bed = Bed::new(backend).await;
        let students: Vec<String> = (0..STUDENTS).map(|number| format!("s{number}")).collect();
        let good = |student: &String| Profile { completed: vec![math("A")], ..profile(student) };
        bed.import_students(students.iter().map(good).collect()).await;
        let other = if backend == Backend::Postgres {
            bed.replica()
        } else {
            Bed { writer: bed.writer.clone(), ..bed.replica() }
        };
        let tab = |bed: &Bed, sections: &'static str, students: &[String]| {
            let writer = bed.writer.clone();
            let requests = students.iter().map(move |student| {
                let registration = format!("{student}-{sections}");
                let action = Action::Reserve(change(sections, ""));
                let operation = operation(&registration, RESERVE, Direction::Forward, student, action);
                let writer = writer.clone();
                tokio::spawn(async move { writer.write(vec![operation]).await.expect("committed").remove(0) })
            });
            requests.collect::<Vec<_>>()
        };
        let (one, two) = (tab(&bed, "MATH-1", &students), tab(&other, "PHYS-1", &students));
        for (student, (one, two)) in students.iter().zip(one.into_iter().zip(two)) {
            let mut words =
                [word(&one.await.expect("no panic")).to_owned(), word(&two.await.expect("no panic")).to_owned()];
            words.sort_unstable();
            assert_eq!(words, ["TIME_CONFLICT", "done"], "{backend:?}, {student}");
            assert_eq!(bed.record(student).await.len(), 1);
        }
    }
}

#[tokio::test]
async fn a_replica_decides_by_the_catalogue_in_force() {
    for backend in BACKENDS {
        let bed = Bed::new(backend).await;
        let replica = bed.replica();
        assert_eq!(word(&bed.write(reserve("r1", "MATH-9", "")).await), "SECTION_NOT_FOUND");
        let new = CatalogChanges { sections: vec![section("MATH-9", "fall", "", "")], ..CatalogChanges::default() };
        replica.import(&new, Vec::new()).await.expect("a sound import");
        assert_eq!(word(&bed.write(reserve("r2", "MATH-9", "")).await), "done", "{backend:?}");
        let catalog = bed.store.catalog().await.expect("the database answers");
        assert!(catalog.section(&section_id("MATH-9")).is_some());
        let advice = bed.store.advise(&student_id("bob"), &change("MATH-9", "")).await.expect("the database answers");
        assert_eq!(advice, []);
    }
}

#[tokio::test]
async fn a_broken_import_leaves_everything_as_it_was() {
    for backend in BACKENDS {
        let bed = Bed::new(backend).await;
        let sections = vec![section("MATH-9", "fall", "", ""), section("NONE-1", "fall", "", "")];
        let broken = CatalogChanges { sections, ..CatalogChanges::default() };
        let error = bed.import(&broken, vec![profile("eve")]).await.expect_err("a broken import");
        let ImportError::Row(field) = error else { panic!("{error:?}") };
        assert_eq!(field.to_string(), "sections[NONE-1].course_id: there is no course c-NONE");
        let replica = bed.replica().store;
        let catalog = replica.catalog().await.expect("the database answers");
        assert_eq!(catalog.version(), 1);
        assert!(catalog.section(&section_id("MATH-9")).is_none());
        assert_eq!(replica.record(&student_id("eve")).await.expect("the database answers"), None);
        assert_eq!(replica.imported().await.expect("the database answers").version, 1);
    }
}

#[tokio::test]
async fn the_catalogue_is_stored_as_it_was_imported() {
    for backend in BACKENDS {
        let bed = Bed::new(backend).await;
        let (ours, stored) = (bed.store.catalog().await, bed.replica().store.catalog().await);
        let (ours, stored) = (ours.expect("a catalogue"), stored.expect("a catalogue"));
        let sections = |catalog: &Catalog| catalog.sections_after(None).cloned().collect::<Vec<_>>();
        assert_eq!(sections(&stored), sections(&ours), "{backend:?}");
        assert_eq!(stored.version(), ours.version());
    }
}

#[tokio::test]
async fn staff_change_what_the_rules_see() {
    for backend in BACKENDS {
        let bed = Bed::new(backend).await;
        let ada = student_id("ada");
        let hold = hold("h1", "Fine");
        bed.store.set_hold(&ada, &hold).await.expect("set");
        bed.store.set_hold(&ada, &hold).await.expect("set again");
        assert_eq!(word(&bed.write(reserve("r1", "MATH-1", "")).await), "HOLD");
        bed.store.lift_hold(&ada, &hold.id).await.expect("lifted");
        bed.store.lift_hold(&ada, &hold.id).await.expect("lifted again");
        assert_eq!(word(&bed.write(reserve("r2", "MATH-1", "")).await), "done");

        assert_eq!(word(&bed.write(reserve("r3", "ART-1", "")).await), "PERMISSION_REQUIRED");
        bed.store.grant(&granted("ada", Some("ART-1"))).await.expect("granted");
        assert_eq!(word(&bed.write(reserve("r4", "ART-1", "")).await), "done");
        assert_eq!(bed.store.advise(&student_id("bob"), &change("ART-1", "")).await.expect("advice").len(), 1);

        for (student, section, what) in [("nobody", None, "student"), ("ada", Some("NONE-1"), "section")] {
            let error = bed.store.grant(&granted(student, section)).await.expect_err("not there");
            assert!(matches!(error, StaffError::NotFound { what: found, .. } if found == what), "{error:?}");
        }
        let error = bed.store.set_hold(&student_id("nobody"), &hold).await.expect_err("not there");
        assert!(matches!(error, StaffError::NotFound { what: "student", .. }), "{error:?}");
    }
}

fn granted(student: &str, section: Option<&str>) -> Override {
    Override {
        id: OverrideId::generate(),
        student: student_id(student),
        section: section.map(section_id),
        reason: Reason::PermissionRequired,
        granted_by: "dean".to_owned(),
        justification: "a good reason".to_owned(),
        granted_at: BEFORE,
        valid_until: Some(NOW),
        source: Source::Staff,
    }
}

#[tokio::test]
async fn students_are_stored_as_they_were_imported() {
    for backend in BACKENDS {
        let bed = Bed::new(backend).await;
        let ada =
            fixture::student().appointment(BEFORE, AFTER).max_credits(9).completed("CHEM", "P").completed("MATH", "F");
        let ada = ada.completed("MATH", "B").hold("h1").hold("h2").profile.in_order();
        bed.import_students(vec![ada.clone()]).await;
        bed.import_students(vec![ada.clone()]).await;
        let stored = bed.store.record(&ada.id).await.expect("the database answers").expect("on record").profile;
        assert_eq!(stored.in_order(), ada, "{backend:?}");
    }
}

/// A batch of the largest size, then the ledger of it: several pages, every entry once.
#[tokio::test]
async fn a_full_batch_and_its_ledger() {
    const STUDENTS: usize = 1_000;
    for backend in BACKENDS {
        let bed = Bed::new(backend).await;
        let students: Vec<String> = (0..STUDENTS).map(|number| format!("s{number:04}")).collect();
        bed.import_students(students.iter().map(|student| profile(student)).collect()).await;
        let reserve = students.iter().map(|student| {
            let action = Action::Reserve(change("CHEM-A CHEM-LA", ""));
            operation(&format!("r-{student}"), RESERVE, Direction::Forward, student, action)
        });
        let answers = bed.write_all(reserve.collect()).await;
        assert!(answers.iter().all(|answer| word(answer) == "done"), "{backend:?}");
        bed.store.grant(&granted("ada", None)).await.expect("granted");

        let mut snapshot = bed.store.database.snapshot().await.expect("a snapshot");
        let courses = store::COURSES.all(&mut snapshot).await.expect("read");
        let overrides = store::OVERRIDES.all(&mut snapshot).await.expect("read").len();
        let mut courses: Vec<_> = courses.into_iter().map(|course| (course.registration, course.section)).collect();
        let entries = courses.len();
        courses.dedup();
        assert_eq!((entries, courses.len(), overrides), (2 * STUDENTS, 2 * STUDENTS, 1), "{backend:?}");
    }
}
