//! Rosters of another system are taken over for operators: into full sections, once, and without touching the
//! registrations of students.

use matricula_proto::common::v1::{EnrollmentStatus, Reason, Source};
use matricula_proto::enrollments::v1 as enrollments;
use matricula_proto::enrollments::v1::enrollment_service_client::EnrollmentServiceClient;
use matricula_proto::fees::v1::GetAccountRequest;
use matricula_proto::fees::v1::fee_service_client::FeeServiceClient;
use matricula_proto::notifications::v1 as notifications;
use matricula_proto::notifications::v1::notification_service_client::NotificationServiceClient;
use matricula_proto::ops::v1 as ops;
use matricula_proto::ops::v1::door_service_client::DoorServiceClient;
use matricula_proto::ops::v1::roster_result::Result as Taken;
use matricula_proto::ops::v1::roster_service_client::RosterServiceClient;
use matricula_proto::registration::v1::{Door, ListRegistrationsRequest, Outcome, Registration};
use tonic::Code;

use crate::world::{WAIT_MS, World, check_error};

fn row(row: &str, student: &str, section: &str, ended: &str) -> ops::RosterRow {
    let [row_id, student_id, section_id, ended_section_id] = [row, student, section, ended].map(str::to_owned);
    ops::RosterRow { row_id, student_id, section_id, ended_section_id }
}

impl World {
    async fn take_over(&self, rows: Vec<ops::RosterRow>, charge: bool) -> Vec<Taken> {
        let request = ops::TakeOverRequest { rows, charge, wait_ms: WAIT_MS };
        let answer = RosterServiceClient::new(self.orchestrator.clone()).take_over(request).await.expect("an answer");
        answer.into_inner().results.into_iter().map(|result| result.result.expect("a result")).collect()
    }

    /// Takes a row over; its registration.
    async fn taken_over(&self, row: ops::RosterRow) -> Registration {
        match self.take_over(vec![row], false).await.remove(0) {
            Taken::Registration(registration) => registration,
            Taken::NotTakenOver(why) => panic!("{why:?}"),
        }
    }

    /// Why a row has become no registration.
    async fn rejected(&self, row: ops::RosterRow) -> ops::NotTakenOver {
        match self.take_over(vec![row], false).await.remove(0) {
            Taken::NotTakenOver(why) => why,
            Taken::Registration(registration) => panic!("{registration:?}"),
        }
    }

    /// The enrollments of a student, newest first: `section STATUS row`.
    async fn enrollments_of(&self, student: &str) -> Vec<String> {
        let request = enrollments::ListEnrollmentsRequest { student_id: student.to_owned(), ..Default::default() };
        let client = EnrollmentServiceClient::new(self.enrollments.channel.clone());
        let page = client.clone().list_enrollments(request).await.expect("a page").into_inner();
        let shown = page.enrollments.iter().map(|it| {
            let status = it.status().as_str_name().trim_start_matches("ENROLLMENT_STATUS_");
            let by = if it.dropped_by_import { " by import" } else { "" };
            format!("{} {status}{by} {}", it.section_id, it.roster_row_id).trim_end().to_owned()
        });
        shown.collect()
    }

    /// Amounts posted to a student's account, newest first.
    async fn postings_of(&self, student: &str) -> Vec<i64> {
        let request = GetAccountRequest { student_id: student.to_owned() };
        let account = FeeServiceClient::new(self.fees.channel.clone()).get_account(request).await.expect("an account");
        let postings = account.into_inner().postings.into_iter();
        postings.map(|posting| posting.amount.expect("an amount").minor_units).collect()
    }
}

fn reasons(registration: &Registration) -> Vec<Reason> {
    registration.reasons.iter().map(|refusal| refusal.reason()).collect()
}

#[tokio::test]
async fn a_roster_is_taken_over_into_a_full_section_once() {
    let world = World::start().await;
    world.submit("s1", "k", &["LAST"], &[]).await.expect("the last seat");
    let first = world.taken_over(row("E1", "s2", "LAST", "")).await;
    assert_eq!(first.outcome(), Outcome::Enrolled, "{first:?}");
    assert_eq!(world.enrollments_of("s2").await, ["LAST ENROLLED E1"]);
    assert_eq!(world.availability(&["LAST"]).await.expect("seats").0, "LAST:0");

    // The same again is the same, however often.
    let again = world.take_over(vec![row("E1", "s2", "LAST", "")], true).await;
    let Taken::Registration(again) = &again[0] else { panic!("{again:?}") };
    assert_eq!((&again.registration_id, again.outcome()), (&first.registration_id, Outcome::Enrolled));

    // Nothing is charged, and that is posted; the message is only for the record.
    assert_eq!(world.postings_of("s2").await, [0]);
    let request = notifications::ListNotificationsRequest { student_id: "s2".to_owned(), ..Default::default() };
    let client = NotificationServiceClient::new(world.notifications.channel.clone());
    crate::world::until("the message is recorded", async || {
        let page = client.clone().list_notifications(request.clone()).await.expect("a page").into_inner();
        let why: Vec<_> = page.notifications.iter().map(notifications::Notification::undeliverable).collect();
        why == [notifications::Undeliverable::NotWanted]
    })
    .await;

    // The reason is an override of the import.
    let record = world.record("s2").await;
    let granted: Vec<_> =
        record.overrides.iter().map(|it| (it.granted_by.as_str(), it.source(), it.reason())).collect();
    assert_eq!(granted, [("import", Source::Bundle, Reason::ClosedSection)]);

    // A portal shows it like any other, and an operator sees where it comes from.
    let request = ListRegistrationsRequest { student_id: "s2".to_owned(), ..Default::default() };
    let listed = world.portal.clone().list_registrations(request).await.expect("a list").into_inner().registrations;
    assert_eq!(listed.iter().map(|one| one.adds.join(" ")).collect::<Vec<_>>(), ["LAST"]);
    let request = ops::GetSagaRequest { saga_id: first.registration_id.clone() };
    let saga = world.sagas.clone().get_saga(request).await.expect("the saga").into_inner();
    assert_eq!(saga.roster_row_id, "E1");
}

#[tokio::test]
async fn only_what_an_import_brought_is_ended() {
    let world = World::start().await;
    world.taken_over(row("E1", "s1", "A", "")).await;
    world.submit("s1", "k", &["B"], &[]).await.expect("an own registration");
    let ended = world.taken_over(row("E1", "s1", "", "A")).await;
    assert_eq!(ended.outcome(), Outcome::Enrolled, "{ended:?}");
    assert_eq!(world.enrollments_of("s1").await, ["B ENROLLED", "A DROPPED by import E1"]);
    // Ended, it can come back.
    let back = world.taken_over(row("E1", "s1", "A", "")).await;
    assert_eq!(back.outcome(), Outcome::Enrolled);
    assert_eq!(world.enrollments_of("s1").await[0], "A ENROLLED E1");

    // An import does not end a registration of the student, whatever row names it.
    let why = world.rejected(row("E2", "s1", "", "B")).await;
    assert_eq!((why.retry_after_ms, why.message.contains("no import has brought section B")), (0, true), "{why:?}");
    // The same for a section that the student dropped after an import and registered again.
    world.submit("s1", "drop", &[], &["A"]).await.expect("a drop");
    world.submit("s1", "again", &["A"], &[]).await.expect("an add");
    let refused = world.taken_over(row("E1", "s1", "", "A")).await;
    assert_eq!((refused.outcome(), reasons(&refused)), (Outcome::Refused, vec![Reason::NotEnrolled]), "{refused:?}");
    assert_eq!(world.enrollments_of("s1").await[0], "A ENROLLED");
}

#[tokio::test]
async fn what_a_student_dropped_is_not_taken_over_again() {
    let world = World::start().await;
    let first = world.taken_over(row("E1", "s1", "A", "")).await;
    world.submit("s1", "k", &[], &["A"]).await.expect("a drop");
    let again = world.taken_over(row("E1", "s1", "A", "")).await;
    assert_eq!(again.registration_id, first.registration_id, "it is the same registration");
    assert_eq!(world.enrollments_of("s1").await, ["A DROPPED E1"]);
}

/// Two imports at once, one of which does not wait: each row becomes one registration.
#[tokio::test]
async fn imports_at_once_take_a_row_over_once() {
    let world = World::start().await;
    let rows: Vec<_> = (1..=9).map(|n| row(&format!("E{n}"), &format!("s{n}"), "A", "")).collect();
    let request = ops::TakeOverRequest { rows: rows.clone(), charge: false, wait_ms: 0 };
    let mut client = RosterServiceClient::new(world.orchestrator.clone());
    let (waiting, not_waiting) = tokio::join!(world.take_over(rows.clone(), false), client.take_over(request));
    let not_waiting = not_waiting.expect("an answer").into_inner().results.into_iter();
    let not_waiting = not_waiting.map(|result| result.result.expect("a result")).collect();
    let ids = |results: Vec<Taken>| -> Vec<String> {
        let id = |result| match result {
            Taken::Registration(one) => one.registration_id,
            Taken::NotTakenOver(why) => panic!("{why:?}"),
        };
        results.into_iter().map(id).collect()
    };
    let (waiting, not_waiting) = (ids(waiting), ids(not_waiting));
    assert_eq!(waiting, not_waiting);
    assert_eq!(ids(world.take_over(rows, false).await), waiting);
    for student in 1..=9 {
        assert_eq!(world.enrollments_of(&format!("s{student}")).await, [format!("A ENROLLED E{student}")]);
    }
}

#[tokio::test]
async fn conflicts_are_refused_and_the_rest_goes_on() {
    let world = World::start().await;
    world.submit("s1", "k", &["A"], &[]).await.expect("an own registration");
    let rows = vec![
        row("E1", "s1", "A", ""),
        row("E2", "nobody", "A", ""),
        row("E3", "s1", "NONE", ""),
        row("E4", "s2", "A", ""),
        row("E4", "s3", "B", ""),
    ];
    let shown = |results: Vec<Taken>| -> Vec<String> {
        let one = |result| match result {
            Taken::Registration(one) => match reasons(&one).as_slice() {
                [] => one.outcome().as_str_name().to_owned(),
                reasons => reasons.iter().map(|reason| reason.as_str_name()).collect::<Vec<_>>().join(" "),
            },
            Taken::NotTakenOver(why) => why.message,
        };
        results.into_iter().map(one).collect()
    };
    let expect = [
        "REASON_ALREADY_ENROLLED",
        "REASON_STUDENT_NOT_FOUND",
        "REASON_SECTION_NOT_FOUND",
        "OUTCOME_ENROLLED",
        "OUTCOME_ENROLLED",
    ];
    assert_eq!(shown(world.take_over(rows.clone(), false).await), expect);
    // A refused row that is sent again is tried again: the student has dropped the section.
    world.submit("s1", "drop", &[], &["A"]).await.expect("a drop");
    let expect = ["OUTCOME_ENROLLED", expect[1], expect[2], expect[3], expect[4]];
    assert_eq!(shown(world.take_over(rows, false).await), expect);
    assert_eq!(world.enrollments_of("s1").await, ["A ENROLLED E1", "A DROPPED"]);
}

#[tokio::test]
async fn a_row_moves_its_student_and_can_be_charged() {
    let world = World::start().await;
    let charged = world.take_over(vec![row("E1", "s1", "A", "")], true).await;
    assert!(matches!(&charged[0], Taken::Registration(one) if one.outcome() == Outcome::Enrolled), "{charged:?}");
    assert_eq!(world.postings_of("s1").await, [30_000]);
    let moved = world.taken_over(row("E1", "s1", "B", "A")).await;
    assert_eq!(moved.outcome(), Outcome::Enrolled, "{moved:?}");
    assert_eq!(world.enrollments_of("s1").await, ["B ENROLLED E1", "A DROPPED by import E1"]);
    let is_moved = |status: &EnrollmentStatus| *status == EnrollmentStatus::Enrolled;
    let record = world.record("s1").await;
    let in_force = record.courses.iter().filter(|course| is_moved(&course.status())).count();
    assert_eq!(in_force, 1);
}

#[tokio::test]
async fn portals_cannot_use_the_keys_of_rosters() {
    let world = World::start().await;
    world.taken_over(row("E1", "s1", "A", "")).await;
    let key = format!("{}E1·1", matricula_registration::request::ROSTER_KEY_PREFIX);
    let refused = world.submit("s1", &key, &["B"], &[]).await.expect_err("it is no key of a portal");
    assert_eq!(refused.code(), Code::InvalidArgument);
    let request = ops::TakeOverRequest { rows: vec![row("E1", "s1", "A", "A")], charge: false, wait_ms: 0 };
    let refused = RosterServiceClient::new(world.orchestrator.clone()).take_over(request).await.expect_err("bounds");
    assert!(refused.message().starts_with("rows[0].ended_section_id: "), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_door_does_not_look_at_rosters() {
    let world = World::start().await;
    let mut door = DoorServiceClient::new(world.orchestrator.clone());
    for (state, number, student) in [(Door::Paused, "E1", "s1"), (Door::Closed, "E2", "s2")] {
        let (by, reason) = ("ada".to_owned(), "ticket 7".to_owned());
        let request = ops::SetDoorRequest { door: state.into(), sentence: "Come back.".to_owned(), by, reason };
        let set = door.set_door(request).await.expect("it is set").into_inner().change.expect("a change");
        assert_eq!((set.door(), set.by.as_str(), set.sentence.as_str()), (state, "ada", "Come back."));
        assert_eq!(world.taken_over(row(number, student, "A", "")).await.outcome(), Outcome::Enrolled, "{state:?}");
    }
    let closed = world.submit("s3", "k1", &["A"], &[]).await;
    let status = check_error(closed, Code::FailedPrecondition, "REGISTRATION_CLOSED");
    assert_eq!(status.message(), "Come back.");
    let request = ops::SetDoorRequest { door: Door::Closed.into(), by: "ada".to_owned(), ..Default::default() };
    let unsaid = check_error(door.set_door(request).await, Code::InvalidArgument, "INVALID_FIELD");
    assert!(format!("{unsaid:?}").contains("sentence"), "{unsaid:?}");
}
