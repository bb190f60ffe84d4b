//! An upgrade: registrations that began with version 1 are taken over at every step and end, and both versions run
//! beside each other.

use matricula_kit::database::Args;
use matricula_proto::enrollments::v1 as enrollments;
use matricula_proto::enrollments::v1::enrollment_service_client::EnrollmentServiceClient;
use matricula_proto::ops::v1 as ops;
use matricula_proto::ops::v1::saga_service_client::SagaServiceClient;
use matricula_proto::ops::v1::{LegStatus, SagaPhase};
use matricula_proto::registration::v1 as wire;
use matricula_proto::registration::v1::Outcome;
use matricula_proto::registration::v1::registration_service_client::RegistrationServiceClient;
use tonic::transport::Channel;

use crate::world::{Service, World, submission, until, within};

/// Submits at an orchestrator, and does not wait.
async fn submit(at: &Channel, student: &str, adds: &[&str], drops: &[&str]) -> String {
    let request = wire::SubmitRegistrationRequest { wait_ms: 0, ..submission(student, "upgrade", adds, drops) };
    let answer = RegistrationServiceClient::new(at.clone()).submit_registration(request).await.expect("accepted");
    answer.into_inner().registration.expect("a registration").registration_id
}

async fn saga(at: &Channel, id: &str) -> ops::GetSagaResponse {
    let request = ops::GetSagaRequest { saga_id: id.to_owned() };
    SagaServiceClient::new(at.clone()).get_saga(request).await.expect("the saga").into_inner()
}

/// The status of the action of a step.
fn status(saga: &ops::GetSagaResponse, name: &str) -> LegStatus {
    let step = saga.steps.iter().find(|step| step.name == name).and_then(|step| step.action.as_ref());
    step.expect("the step").status()
}

/// Whether a step is tried and has failed.
fn fails(saga: &ops::GetSagaResponse, name: &str) -> bool {
    let step = saga.steps.iter().find(|step| step.name == name).and_then(|step| step.action.as_ref());
    step.is_some_and(|leg| leg.status() == LegStatus::Trying && leg.attempts > 0)
}

/// `section STATUS` of each enrollment of the student.
async fn enrolled(world: &World, student: &str) -> Vec<String> {
    let request = enrollments::ListEnrollmentsRequest { student_id: student.to_owned(), ..Default::default() };
    let mut client = EnrollmentServiceClient::new(world.enrollments.channel.clone());
    let rows = client.list_enrollments(request).await.expect("a list").into_inner().enrollments;
    let shown = rows.iter().map(|row| format!("{} {}", row.section_id, row.status().as_str_name()));
    let mut shown: Vec<String> = shown.map(|row| row.replace("ENROLLMENT_STATUS_", "")).collect();
    shown.sort();
    shown
}

/// The progress of a registration at the upgrade: the service that is away, the step that was done last, and the step
/// that fails.
struct Point {
    away: fn(&mut World) -> &mut Service,
    last: &'static str,
    fails: &'static str,
}

const POINTS: [Point; 5] = [
    Point { away: |world| &mut world.seats, last: "reserve_courses", fails: "hold_seats" },
    Point { away: |world| &mut world.enrollments, last: "hold_seats", fails: "create_enrollments" },
    Point { away: |world| &mut world.fees, last: "create_enrollments", fails: "assess_fees" },
    Point { away: |world| &mut world.enrollments, last: "create_enrollments", fails: "commit_enrollments" },
    Point { away: |world| &mut world.notifications, last: "settle_courses", fails: "notify" },
];

/// A swap of version 1 that is stuck at a point, taken over from its orchestrator, which has ended. Returns its id.
async fn taken_over(world: &mut World, student: &str, point: &Point) -> String {
    let enrolled = world.submit(student, "before", &["A"], &[]).await.expect("an outcome");
    assert_eq!(enrolled.outcome(), Outcome::Enrolled);
    let (earlier, end) = world.earlier_release().await;
    let is_at_pivot = point.fails == "commit_enrollments";
    if is_at_pivot {
        world.fees.stop().await;
    } else {
        (point.away)(world).stop().await;
    }
    let id = submit(&earlier, student, &["B"], &["A"]).await;
    if is_at_pivot {
        let is_created = async || status(&saga(&earlier, &id).await, point.last) == LegStatus::Done;
        until("it is created", is_created).await;
        world.enrollments.stop().await;
        world.fees.resume().await;
    }
    let is_stuck = async || {
        let saga = saga(&earlier, &id).await;
        status(&saga, point.last) == LegStatus::Done && fails(&saga, point.fails)
    };
    until(&format!("{} fails", point.fails), is_stuck).await;
    let owner = async |at: &Channel| saga(at, &id).await.summary.expect("a summary").owner;
    let first = owner(&earlier).await;
    end.cancel();
    until("it is taken over", async || {
        let now = owner(&world.orchestrator).await;
        !now.is_empty() && now != first
    })
    .await;
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn registrations_of_version_1_are_taken_over_and_end() {
    let mut world = World::start_shared().await;
    let mut students = Vec::new();
    for (number, point) in POINTS.iter().enumerate() {
        let student = format!("s{}", number + 1);
        let id = taken_over(&mut world, &student, point).await;
        (point.away)(&mut world).resume().await;
        until("it is finished", async || {
            saga(&world.orchestrator, &id).await.summary.expect("a summary").phase() == SagaPhase::Completed
        })
        .await;
        students.push((student, id));
    }
    for (student, id) in students {
        let saga = saga(&world.orchestrator, &id).await;
        let summary = saga.summary.clone().expect("a summary");
        assert_eq!((summary.definition_version, summary.outcome()), (1, Outcome::Enrolled), "{student}");
        for step in ["create_enrollments", "commit_enrollments", "refund_fees", "notify"] {
            assert_eq!(status(&saga, step), LegStatus::Done, "{student}: {step}");
        }
        assert_eq!(enrolled(&world, &student).await, ["A DROPPED", "B ENROLLED"], "{student}");
        // The next registration of the student has version 2, and continues from the records of version 1.
        let back = world.submit(&student, "back", &["A"], &["B"]).await.expect("an outcome");
        assert_eq!(back.outcome(), Outcome::Enrolled, "{student}: {back:?}");
        assert_eq!(enrolled(&world, &student).await, ["A DROPPED", "A ENROLLED", "B DROPPED"], "{student}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_of_version_1_is_undone_in_its_own_way() {
    let mut world = World::start_shared().await;
    let id = taken_over(&mut world, "s1", &POINTS[2]).await;
    world.cancel(&id).await.expect("the cancel is recorded");
    world.fees.resume().await;
    until("the cancel is complete", async || world.get(&id).await.outcome() == Outcome::Cancelled).await;
    let shown = saga(&world.orchestrator, &id).await;
    let undone = |name: &str| {
        let step = shown.steps.iter().find(|step| step.name == name).and_then(|step| step.undo.as_ref());
        step.map(|leg| leg.status())
    };
    for step in ["reserve_courses", "hold_seats", "create_enrollments", "assess_fees", "commit_enrollments"] {
        assert_eq!(undone(step), Some(LegStatus::Done), "{step}");
    }
    assert_eq!(enrolled(&world, "s1").await, ["A ENROLLED", "B CANCELLED"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_release_leaves_version_2_alone_and_says_so() {
    let mut world = World::start_shared().await;
    let (earlier, _end) = world.earlier_release().await;
    // Both run beside each other.
    let old = submit(&earlier, "s1", &["A"], &[]).await;
    let new = submit(&world.orchestrator, "s2", &["A"], &[]).await;
    for id in [&old, &new] {
        let watch = wire::WatchRegistrationRequest { registration_id: id.clone() };
        let mut changes = world.portal.clone().watch_registration(watch).await.expect("a watch").into_inner();
        let mut last = None;
        while let Some(change) = within("the end of the watch", changes.message()).await.expect("a change") {
            last = change.registration;
        }
        assert_eq!(last.map(|last| last.outcome()), Some(Outcome::Enrolled));
    }
    let version = async |id: &str| saga(&world.orchestrator, id).await.summary.expect("a summary").definition_version;
    assert_eq!((version(&old).await, version(&new).await), (1, 2));
    let unreadable = saga(&earlier, &new).await;
    assert_eq!(unreadable.unreadable_because, "registration v2 is not known here");

    // Its orchestrator ends. The earlier release does not take it over, and marks it as needing attention.
    world.seats.stop().await;
    let left = submit(&world.orchestrator, "s3", &["B"], &[]).await;
    until("it is stuck", async || fails(&saga(&world.orchestrator, &left).await, "hold_seats")).await;
    let mut tx = world.database.begin().await.expect("a transaction");
    let args = Args::new().id(left.clone());
    tx.execute("UPDATE instances SET dead = 1 WHERE instance_id = (SELECT owner FROM sagas WHERE saga_id = $1)", args)
        .await
        .expect("it counts as ended");
    tx.commit().await.expect("committed");
    let needs_attention = async || {
        let request = ops::ListSagasRequest { needs_attention: true, ..Default::default() };
        let listed = SagaServiceClient::new(earlier.clone()).list_sagas(request).await.expect("a list");
        listed.into_inner().sagas.iter().any(|one| one.saga_id == left && one.phase() == SagaPhase::Unreadable)
    };
    until("it needs attention", needs_attention).await;
    // The next instance of this release takes it over.
    world.seats.resume().await;
    let upgraded = world.replica().await;
    until("it is finished", async || {
        saga(&upgraded, &left).await.summary.expect("a summary").phase() == SagaPhase::Completed
    })
    .await;
    assert_eq!(enrolled(&world, "s3").await, ["B ENROLLED"]);
}

/// The first step of an upgrade in two steps: this release begins registrations with version 1. An orchestrator of the
/// earlier release takes one over, shows it and ends it.
#[tokio::test(flavor = "multi_thread")]
async fn what_begins_with_version_1_is_driven_by_the_earlier_release() {
    let mut world = World::start_shared().await;
    let upgraded = world.replica_beginning_with_version_1().await;
    // It also drives and shows a registration that another replica has begun with version 2.
    let newer = submit(&world.orchestrator, "s1", &["A"], &[]).await;
    world.seats.stop().await;
    let id = submit(&upgraded, "s2", &["B"], &[]).await;
    until("it is stuck", async || fails(&saga(&upgraded, &id).await, "hold_seats")).await;
    let summary = |saga: ops::GetSagaResponse| saga.summary.expect("a summary");
    assert_eq!(summary(saga(&upgraded, &id).await).definition_version, 1);
    assert_eq!(summary(saga(&upgraded, &newer).await).definition_version, 2);
    let mut tx = world.database.begin().await.expect("a transaction");
    tx.execute("UPDATE instances SET dead = 1", Args::new()).await.expect("all of this release count as ended");
    tx.commit().await.expect("committed");
    let (earlier, _end) = world.earlier_release().await;
    world.seats.resume().await;
    until("the earlier release ends it", async || summary(saga(&earlier, &id).await).phase() == SagaPhase::Completed)
        .await;
    assert_eq!(enrolled(&world, "s2").await, ["B ENROLLED"]);
}
