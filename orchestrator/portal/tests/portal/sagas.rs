//! The registrations of portals in the API for operators.

use matricula_kit::database::Args;
use matricula_proto::ops::v1 as ops;
use matricula_proto::ops::v1::{LegStatus, SagaPhase};
use matricula_proto::registration::v1 as wire;
use matricula_proto::registration::v1::Outcome;
use tonic::Code;

use crate::world::{World, check_error, until};

async fn list(world: &World, change: impl FnOnce(&mut ops::ListSagasRequest)) -> Vec<ops::SagaSummary> {
    let mut request = ops::ListSagasRequest::default();
    change(&mut request);
    world.sagas.clone().list_sagas(request).await.expect("a list").into_inner().sagas
}

async fn saga(world: &World, id: &str) -> ops::GetSagaResponse {
    let request = ops::GetSagaRequest { saga_id: id.to_owned() };
    world.sagas.clone().get_saga(request).await.expect("the saga").into_inner()
}

/// `name status` of the action and, where there is one, of the undo.
fn legs(saga: &ops::GetSagaResponse, name: &str) -> (LegStatus, Option<LegStatus>) {
    let step = saga.steps.iter().find(|step| step.name == name).expect("the step");
    (step.action.as_ref().expect("an action").status(), step.undo.as_ref().map(|undo| undo.status()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saga_is_shown_with_its_steps_and_events() {
    let world = World::start().await;
    let enrolled = world.submit("s1", "k1", &["A"], &[]).await.expect("an outcome").registration_id;
    let refused = world.submit("s2", "k1", &["NOWHERE"], &[]).await.expect("an outcome").registration_id;
    until("both are finished", async || list(&world, |request| request.unfinished = true).await.is_empty()).await;

    let shown = saga(&world, &enrolled).await;
    let summary = shown.summary.clone().expect("a summary");
    assert_eq!((summary.phase(), summary.outcome()), (SagaPhase::Completed, Outcome::Enrolled));
    assert_eq!(
        (summary.definition.as_str(), summary.definition_version, summary.owner.as_str()),
        ("registration", 2, "")
    );
    assert_eq!(legs(&shown, "hold_seats"), (LegStatus::Done, Some(LegStatus::NotStarted)));
    assert_eq!(legs(&shown, "notify"), (LegStatus::Done, None));
    assert!(!shown.steps.iter().find(|step| step.name == "refund_fees").expect("the step").applies);
    let kinds: Vec<&str> = shown.steps.iter().map(|step| step.kind.as_str()).collect();
    assert!(kinds.contains(&"pivot") && kinds.contains(&"closing"), "{kinds:?}");
    assert_eq!(shown.events.first().map(|event| event.name.as_str()), Some("admitted"));
    assert_eq!(shown.events.last().map(|event| event.name.as_str()), Some("finished"));
    let sequences: Vec<i64> = shown.events.iter().map(|event| event.sequence).collect();
    assert!(sequences.iter().copied().eq(1..=sequences.len() as i64), "{sequences:?}");
    assert_eq!((shown.turned_because.as_str(), shown.unreadable_because.as_str()), ("", ""));

    let shown = saga(&world, &refused).await;
    assert_eq!(shown.summary.as_ref().map(|summary| summary.phase()), Some(SagaPhase::Compensated));
    assert_eq!(legs(&shown, "reserve_courses").0, LegStatus::Refused);
    assert_eq!(legs(&shown, "hold_seats").0, LegStatus::NotStarted);
    assert!(shown.turned_because.starts_with("refused by reserve_courses: "), "{}", shown.turned_because);

    let unknown = ops::GetSagaRequest { saga_id: "nobody".into() };
    check_error(world.sagas.clone().get_saga(unknown).await, Code::NotFound, "NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_restricted_and_paged() {
    let mut world = World::start().await;
    for (student, section) in [("s1", "A"), ("s2", "A"), ("s3", "NOWHERE")] {
        world.submit(student, "k1", &[section], &[]).await.expect("an outcome");
    }
    until("all are finished", async || list(&world, |request| request.unfinished = true).await.is_empty()).await;
    world.seats.stop().await;
    let stuck = world.submit_for("s4", "k1", &["A"], &[], 0).await.expect("accepted").registration_id;
    let phases = |phases: &[SagaPhase]| phases.iter().map(|phase| i32::from(*phase)).collect::<Vec<_>>();
    let count = async |change: fn(&mut ops::ListSagasRequest)| list(&world, change).await.len();
    assert_eq!(count(|_| {}).await, 4);
    assert_eq!(count(|request| request.student_id = "s2".into()).await, 1);
    assert_eq!(count(|request| request.needs_attention = true).await, 0);
    let found = list(&world, |request| request.unfinished = true).await;
    assert_eq!((found.len(), found[0].saga_id.as_str(), found[0].owner.is_empty()), (1, stuck.as_str(), false));
    for (wanted, expect) in [
        (vec![SagaPhase::Completed], 2),
        (vec![SagaPhase::Compensated, SagaPhase::Running], 2),
        (vec![SagaPhase::Unreadable], 0),
        (vec![SagaPhase::Unreadable, SagaPhase::Completed], 2),
    ] {
        let found = list(&world, |request| request.phases = phases(&wanted)).await;
        assert_eq!(found.len(), expect, "{wanted:?}");
    }
    let request = ops::ListSagasRequest { page_size: 3, ..Default::default() };
    let first = world.sagas.clone().list_sagas(request.clone()).await.expect("a page").into_inner();
    let second = ops::ListSagasRequest { page_token: first.next_page_token, ..request };
    let second = world.sagas.clone().list_sagas(second).await.expect("a page").into_inner();
    assert_eq!((first.sagas.len(), second.sagas.len(), second.next_page_token.as_str()), (3, 1, ""));
    for bad in [
        ops::ListSagasRequest { phases: vec![99], ..Default::default() },
        ops::ListSagasRequest { phases: vec![0], ..Default::default() },
        ops::ListSagasRequest { page_size: 1_001, ..Default::default() },
        ops::ListSagasRequest { student_id: "é".into(), ..Default::default() },
    ] {
        check_error(world.sagas.clone().list_sagas(bad).await, Code::InvalidArgument, "INVALID_FIELD");
    }
    let answer = world.sagas.clone().list_destinations(ops::ListDestinationsRequest {}).await.expect("destinations");
    let mut names: Vec<String> = answer.into_inner().destinations.into_iter().map(|one| one.name).collect();
    names.sort();
    assert_eq!(names, ["academics", "enrollments", "fees", "notifications", "seats"]);

    let export = world.sagas.clone().export_ledger(ops::ExportLedgerRequest {}).await.expect("an export");
    let mut export = export.into_inner();
    let mut entries = Vec::new();
    while let Some(entry) = export.message().await.expect("an entry") {
        let registration = entry.registration.as_ref().expect("a registration");
        entries.push((registration.student_id.clone(), entry.phase(), entry.owner_alive));
    }
    let expect = [
        ("s4", SagaPhase::Running, true),
        ("s3", SagaPhase::Compensated, false),
        ("s2", SagaPhase::Completed, false),
        ("s1", SagaPhase::Completed, false),
    ];
    assert_eq!(entries, expect.map(|(student, phase, alive)| (student.to_owned(), phase, alive)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_saga_is_shown_and_hides_no_other() {
    let world = World::start().await;
    let good = world.submit("s1", "k1", &["A"], &[]).await.expect("an outcome").registration_id;
    let bad = world.submit("s1", "k2", &["B"], &[]).await.expect("an outcome").registration_id;
    until("both are finished", async || list(&world, |request| request.unfinished = true).await.is_empty()).await;
    let mut tx = world.database.begin().await.expect("a transaction");
    // Its second entry begins with its number.
    let args = Args::new().id(bad.clone()).text("\u{1}\"").text("\u{1}\"none");
    tx.execute("UPDATE sagas SET log = REPLACE(log, $2, $3) WHERE saga_id = $1", args).await.expect("spoilt");
    tx.commit().await.expect("spoilt");

    let phases: Vec<_> = list(&world, |_| {}).await.into_iter().map(|one| (one.phase(), one.needs_attention)).collect();
    assert_eq!(phases, [(SagaPhase::Unreadable, true), (SagaPhase::Completed, false)]);
    let unreadable = |request: &mut ops::ListSagasRequest| request.phases = vec![SagaPhase::Unreadable.into()];
    assert_eq!(list(&world, unreadable).await.len(), 1);
    let shown = saga(&world, &bad).await;
    assert!(shown.unreadable_because.starts_with("the log: event 2: "), "{}", shown.unreadable_because);
    let registration = world.get(&bad).await;
    assert_eq!((registration.outcome(), registration.needs_attention), (Outcome::Unspecified, true));
    assert_eq!((registration.adds, registration.idempotency_key.as_str()), (vec!["B".to_owned()], "k2"));
    // Its state can't change here, so a wait ends at once.
    let again = world.submit("s1", "k2", &["B"], &[]).await.expect("as far as is known");
    assert_eq!(again.outcome(), Outcome::Unspecified);
    let list = wire::ListRegistrationsRequest { student_id: "s1".into(), ..Default::default() };
    let list = world.portal.clone().list_registrations(list).await.expect("a list").into_inner().registrations;
    assert_eq!(list.iter().map(|one| one.outcome()).collect::<Vec<_>>(), [Outcome::Unspecified, Outcome::Enrolled]);
    assert_eq!(list[1].registration_id, good);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_of_the_client_is_kept() {
    const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let world = World::start().await;
    let mut request = tonic::Request::new(wire::SubmitRegistrationRequest {
        idempotency_key: "k1".into(),
        student_id: "s1".into(),
        adds: vec!["A".into()],
        ..Default::default()
    });
    request.metadata_mut().insert("traceparent", TRACEPARENT.parse().expect("a header"));
    let answer = world.portal.clone().submit_registration(request).await.expect("accepted").into_inner();
    let id = answer.registration.expect("a registration").registration_id;
    assert_eq!(saga(&world, &id).await.traceparent, TRACEPARENT);
}
