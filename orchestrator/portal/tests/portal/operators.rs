//! Commands of operators, at the replica that drives the saga and at another one.

use matricula_proto::common::v1::Reason;
use matricula_proto::ops::v1 as ops;
use matricula_proto::ops::v1::resolve_step_request::{Answer, Done, Refused};
use matricula_proto::ops::v1::saga_service_client::SagaServiceClient;
use matricula_proto::ops::v1::{LegStatus, SagaPhase};
use matricula_proto::registration::v1::Outcome;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::world::{World, check_error, until, within};

/// An operator at one replica.
struct Operator(SagaServiceClient<Channel>);

impl Operator {
    async fn get(&self, id: &str) -> ops::GetSagaResponse {
        let request = ops::GetSagaRequest { saga_id: id.to_owned() };
        self.0.clone().get_saga(request).await.expect("the saga").into_inner()
    }

    async fn explain(&self, id: &str) -> ops::ExplainSagaResponse {
        let request = ops::ExplainSagaRequest { saga_id: id.to_owned() };
        self.0.clone().explain_saga(request).await.expect("the saga").into_inner()
    }

    async fn retry(&self, id: &str, step: &str) -> Result<ops::SagaSummary, Status> {
        let (saga_id, by, reason) = decision(id);
        let request = ops::RetrySagaRequest { saga_id, step: step.to_owned(), by, reason, command_id: String::new() };
        Ok(self.0.clone().retry_saga(request).await?.into_inner().summary.expect("a summary"))
    }

    async fn skip(&self, id: &str, step: &str) -> Result<ops::SagaSummary, Status> {
        let (saga_id, by, reason) = decision(id);
        let request = ops::SkipStepRequest { saga_id, step: step.to_owned(), by, reason, command_id: String::new() };
        Ok(self.0.clone().skip_step(request).await?.into_inner().summary.expect("a summary"))
    }

    async fn resolve(&self, id: &str, step: &str, answer: Option<Answer>) -> Result<ops::SagaSummary, Status> {
        let (saga_id, by, reason) = decision(id);
        let request =
            ops::ResolveStepRequest { saga_id, step: step.to_owned(), by, reason, answer, command_id: String::new() };
        Ok(self.0.clone().resolve_step(request).await?.into_inner().summary.expect("a summary"))
    }

    async fn abandon(&self, id: &str) -> Result<ops::SagaSummary, Status> {
        let (saga_id, by, reason) = decision(id);
        let request = ops::AbandonSagaRequest { saga_id, by, reason, command_id: String::new() };
        Ok(self.0.clone().abandon_saga(request).await?.into_inner().summary.expect("a summary"))
    }

    async fn cancel(&self, id: &str) -> Result<ops::SagaSummary, Status> {
        let (saga_id, by, reason) = decision(id);
        let request = ops::CancelSagaRequest { saga_id, by, reason, command_id: String::new() };
        Ok(self.0.clone().cancel_saga(request).await?.into_inner().summary.expect("a summary"))
    }

    /// Waits until a step needs attention, and no other one is under way.
    async fn until_stuck(&self, id: &str) {
        let is_stuck = async || {
            let saga = self.get(id).await;
            let legs = saga.steps.iter().flat_map(|step| step.action.iter().chain(&step.undo));
            let trying = legs.filter(|leg| leg.status() == LegStatus::Trying).count();
            trying == 1 && saga.summary.expect("a summary").needs_attention
        };
        until("it needs attention", is_stuck).await;
    }
}

fn decision(id: &str) -> (String, String, String) {
    (id.to_owned(), "ada@campus.example".to_owned(), "ticket 7".to_owned())
}

fn verbs(explained: &ops::ExplainSagaResponse) -> Vec<String> {
    let named = explained.advice.iter().map(|advice| format!("{} {}", advice.verb, advice.step).trim_end().to_owned());
    named.collect()
}

/// The commands of operators in the log.
fn decided(saga: &ops::GetSagaResponse) -> Vec<&str> {
    let events = saga.events.iter().filter(|event| event.name == "intervened");
    events.map(|event| event.description.as_str()).collect()
}

#[track_caller]
fn check_refused(answer: Result<ops::SagaSummary, Status>, message: &str) {
    let status = check_error(answer, Code::FailedPrecondition, "VERB_REFUSED");
    assert!(status.message().contains(message), "{}", status.message());
}

#[track_caller]
fn check_field<T: std::fmt::Debug>(answer: Result<T, Status>, field: &str) {
    let status = check_error(answer, Code::InvalidArgument, "INVALID_FIELD");
    let details = status.get_error_details();
    let violations = &details.bad_request().expect("a bad request").field_violations;
    assert_eq!(violations[0].field, field, "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_that_fails_is_decided_manually() {
    let world = World::start_misled(|channels| channels.notifications = channels.seats.clone()).await;
    let here = Operator(world.sagas.clone());
    let there = Operator(SagaServiceClient::new(world.replica().await));
    let submit = async |student: &str| {
        let enrolled = world.submit(student, "k1", &["A"], &[]).await.expect("an outcome");
        assert_eq!(enrolled.outcome(), Outcome::Enrolled);
        here.until_stuck(&enrolled.registration_id).await;
        enrolled.registration_id
    };
    let (skipped, resolved, abandoned) = (submit("s1").await, submit("s2").await, submit("s3").await);

    let explained = there.explain(&skipped).await;
    assert_eq!(verbs(&explained), ["retry notify", "resolve notify", "skip notify", "abandon"]);
    let text = explained.explanation;
    assert!(text.contains("needs attention") && text.contains("unimplemented"), "{text}");
    let owner = here.get(&skipped).await.summary.expect("a summary").owner;
    assert!(text.contains(&format!("driven by instance {owner}, which is alive")), "{text}");

    check_error(there.cancel(&skipped).await, Code::FailedPrecondition, "TOO_LATE_TO_CANCEL");
    check_refused(there.skip(&skipped, "enroll").await, "is not being tried");
    let of_version_1 = there.skip(&skipped, "commit_enrollments").await;
    check_refused(of_version_1, "has no step \"commit_enrollments\"");
    check_refused(there.skip(&skipped, "settle_courses").await, "is not being tried");
    check_refused(there.resolve(&skipped, "notify", Some(Answer::Refused(Refused {}))).await, "can't be refused");
    check_field(there.skip(&skipped, "bribe").await, "step");
    check_field(there.skip(&skipped, "").await, "step");
    check_field(there.retry(&skipped, "bribe").await, "step");
    check_field(there.resolve(&skipped, "notify", None).await, "answer");
    check_field(there.abandon("").await, "saga_id");
    check_error(there.abandon("nobody").await, Code::NotFound, "NOT_FOUND");
    let (saga_id, by, reason) = decision(&skipped);
    let nobody =
        ops::AbandonSagaRequest { saga_id: saga_id.clone(), by: String::new(), reason, command_id: String::new() };
    check_field(there.0.clone().abandon_saga(nobody).await, "by");
    let no_reason = ops::CancelSagaRequest { saga_id, by, reason: String::new(), command_id: String::new() };
    check_field(there.0.clone().cancel_saga(no_reason).await, "reason");
    assert!(decided(&here.get(&skipped).await).is_empty(), "what is refused leaves no trace");

    there.retry(&skipped, "notify").await.expect("it is called at once");
    here.until_stuck(&skipped).await;
    for _ in 0..2 {
        let done = there.skip(&skipped, "notify").await.expect("it is skipped, and stays so");
        assert_eq!((done.phase(), done.outcome()), (SagaPhase::Abandoned, Outcome::Enrolled));
        assert_eq!((done.needs_attention, done.owner.as_str()), (false, ""));
    }
    let saga = here.get(&skipped).await;
    let notify = saga.steps.iter().find(|step| step.name == "notify").and_then(|step| step.action.as_ref());
    assert_eq!(notify.map(|leg| leg.status()), Some(LegStatus::Skipped));
    let log = decided(&saga);
    assert_eq!(log.len(), 2, "{log:?}");
    assert_eq!(log[1], "ada@campus.example skipped the action of notify: ticket 7");
    check_refused(there.abandon(&skipped).await, "the saga is abandoned");
    let explained = here.explain(&skipped).await;
    assert!(explained.advice.is_empty() && explained.explanation.contains("no instance drives it"), "{explained:?}");

    let done = there.resolve(&resolved, "notify", Some(Answer::Done(Done {}))).await.expect("it is resolved");
    assert_eq!((done.phase(), done.outcome()), (SagaPhase::Completed, Outcome::Enrolled));
    let done = there.abandon(&abandoned).await.expect("it is abandoned");
    assert_eq!((done.phase(), done.outcome()), (SagaPhase::Abandoned, Outcome::Enrolled));
    let request = ops::ListSagasRequest { phases: vec![SagaPhase::Abandoned.into()], ..Default::default() };
    let listed = world.sagas.clone().list_sagas(request).await.expect("a list").into_inner().sagas;
    assert_eq!(listed.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_pivot_a_cancel_is_the_command() {
    let world = World::start_misled(|channels| channels.fees = channels.seats.clone()).await;
    let here = Operator(world.sagas.clone());
    let there = Operator(SagaServiceClient::new(world.replica().await));
    let id = world.submit_for("s1", "k1", &["A"], &[], 0).await.expect("accepted").registration_id;
    here.until_stuck(&id).await;
    assert_eq!(verbs(&there.explain(&id).await), ["retry assess_fees", "cancel"]);
    check_refused(there.skip(&id, "assess_fees").await, "cancel the saga instead");
    check_refused(there.resolve(&id, "assess_fees", Some(Answer::Done(Done {}))).await, "cancel the saga instead");
    check_refused(there.abandon(&id).await, "the outcome is open");

    let cancelled = there.cancel(&id).await.expect("it compensates");
    assert_eq!((cancelled.phase(), cancelled.outcome()), (SagaPhase::Compensating, Outcome::Pending));
    let undo_fails = async || verbs(&there.explain(&id).await).contains(&"skip assess_fees".to_owned());
    until("its undo fails, too", undo_fails).await;
    there.resolve(&id, "assess_fees", Some(Answer::Done(Done {}))).await.expect("nothing was charged");
    until("it is undone", async || world.get(&id).await.outcome() == Outcome::Cancelled).await;
    until("it is over", async || here.get(&id).await.summary.expect("one").phase() == SagaPhase::Compensated).await;
    assert_eq!(there.cancel(&id).await.expect("a cancel is idempotent").phase(), SagaPhase::Compensated);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pivot_that_never_happens_is_a_refusal_with_a_reason() {
    let mut world = World::start().await;
    world.enrollments.stop().await;
    let id = world.submit_for("s1", "k1", &["A"], &[], 0).await.expect("accepted").registration_id;
    let operator = Operator(world.sagas.clone());
    let status = |saga: &ops::GetSagaResponse, name: &str| {
        let step = saga.steps.iter().find(|step| step.name == name).and_then(|step| step.action.clone());
        step.map(|leg| (leg.status(), leg.attempts > 0)).expect("the step")
    };
    let fails = async || status(&operator.get(&id).await, "enroll") == (LegStatus::Trying, true);
    until("the pivot fails", fails).await;

    assert_eq!(verbs(&operator.explain(&id).await), ["retry enroll", "resolve enroll", "cancel"]);
    check_refused(operator.skip(&id, "enroll").await, "decides the outcome");
    let answer = Some(Answer::Refused(Refused {}));
    let resolved = operator.resolve(&id, "enroll", answer).await.expect("it is refused");
    assert_eq!(resolved.phase(), SagaPhase::Compensating);
    world.enrollments.resume().await;
    until("it is undone", async || world.get(&id).await.outcome() == Outcome::Refused).await;
    let refused = world.get(&id).await;
    assert_eq!(refused.reasons[0].reason(), Reason::RegistrationCancelled);
    assert_eq!(refused.reasons[0].message, "The registration could not be completed: ticket 7");
}

/// Both replicas get a command for the same step at the same moment: one is carried out, the other is rejected.
#[tokio::test(flavor = "multi_thread")]
async fn two_commands_at_once_have_one_order() {
    let world = World::start_misled(|channels| channels.notifications = channels.seats.clone()).await;
    let here = Operator(world.sagas.clone());
    let there = Operator(SagaServiceClient::new(world.replica().await));
    for number in 1..=9 {
        let id = world.submit(&format!("s{number}"), "k1", &["B"], &[]).await.expect("an outcome").registration_id;
        here.until_stuck(&id).await;
        let resolve = here.resolve(&id, "notify", Some(Answer::Done(Done {})));
        let (skipped, resolved) = tokio::join!(there.skip(&id, "notify"), resolve);
        let saga = here.get(&id).await;
        let phase = saga.summary.as_ref().expect("a summary").phase();
        let log = decided(&saga);
        assert_eq!(log.len(), 1, "{log:?}");
        match (skipped, resolved) {
            (Ok(_), refused) => {
                check_refused(refused, "the saga is abandoned");
                assert_eq!(phase, SagaPhase::Abandoned);
            }
            (refused, Ok(_)) => {
                check_refused(refused, "the saga is completed");
                assert_eq!(phase, SagaPhase::Completed);
            }
            neither => panic!("one of them comes first: {neither:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sagas_are_watched_from_any_replica() {
    let world = World::start_misled(|channels| channels.notifications = channels.seats.clone()).await;
    let here = Operator(world.sagas.clone());
    let there = Operator(SagaServiceClient::new(world.replica().await));
    let mut ids = Vec::new();
    for student in ["s1", "s2"] {
        ids.push(world.submit(student, "k1", &["A"], &[]).await.expect("an outcome").registration_id);
        here.until_stuck(&ids[ids.len() - 1]).await;
    }
    let watch = async |needs_attention: bool| {
        let request = ops::WatchSagasRequest { needs_attention };
        there.0.clone().watch_sagas(request).await.expect("a watch").into_inner()
    };
    let (mut all, mut stuck) = (watch(false).await, watch(true).await);
    for stream in [&mut all, &mut stuck] {
        for id in &ids {
            assert_eq!(next(stream).await.saga_id, *id, "the unfinished come first, oldest first");
        }
    }
    // A service that answers has refused it. The notification that can't be sent needs attention.
    let refused = world.submit("s3", "k1", &["NOWHERE"], &[]).await.expect("an outcome").registration_id;
    for stream in [&mut all, &mut stuck] {
        loop {
            let change = next(stream).await;
            if change.saga_id == refused && change.needs_attention {
                break;
            }
        }
    }
    here.until_stuck(&refused).await;
    here.resolve(&refused, "notify", Some(Answer::Done(Done {}))).await.expect("it is resolved");
    here.skip(&ids[0], "notify").await.expect("it is skipped");
    for stream in [&mut all, &mut stuck] {
        let mut ends = Vec::new();
        while ends.len() < 2 {
            let change = next(stream).await;
            if matches!(change.phase(), SagaPhase::Compensated | SagaPhase::Abandoned) {
                ends.push((change.saga_id.clone(), change.phase()));
            }
        }
        ends.sort();
        let mut expect = [(ids[0].clone(), SagaPhase::Abandoned), (refused.clone(), SagaPhase::Compensated)];
        expect.sort();
        assert_eq!(ends, expect, "the client gets an end, though nothing needs attention any more");
    }
    world.shutdown.cancel();
    for stream in [&mut all, &mut stuck] {
        let ended = within("the watch ends", async {
            loop {
                match stream.message().await {
                    Ok(Some(_)) => {}
                    other => return other,
                }
            }
        });
        check_error(ended.await, Code::Unavailable, "SHUTTING_DOWN");
    }
}

async fn next(stream: &mut tonic::Streaming<ops::WatchSagasResponse>) -> ops::SagaSummary {
    loop {
        let message = within("a change", stream.message()).await.expect("a change");
        // The watch also has a service that does not answer for long.
        if let Some(summary) = message.expect("the stream goes on").summary {
            return summary;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_zero_parks_a_service() {
    let world = World::start().await;
    let limit = async |name: &str, in_flight_max: i32| {
        let request = ops::SetDestinationLimitRequest { name: name.to_owned(), in_flight_max };
        let answer = world.sagas.clone().set_destination_limit(request).await?;
        Ok::<_, Status>(answer.into_inner().destination.expect("a destination"))
    };
    check_field(limit("fees", -1).await, "in_flight_max");
    check_field(limit("fees", 1_001).await, "in_flight_max");
    check_field(limit("bursar", 1).await, "name");
    assert_eq!(limit("fees", 0).await.expect("it is parked").in_flight_max, 0);
    let id = world.submit_for("s1", "k1", &["A"], &[], 0).await.expect("accepted").registration_id;
    let waits = async || {
        let request = ops::ListDestinationsRequest {};
        let all = world.sagas.clone().list_destinations(request).await.expect("destinations").into_inner();
        all.destinations.iter().any(|one| one.name == "fees" && one.waiting == 1 && one.in_flight == 0)
    };
    until("its call waits", waits).await;
    assert_eq!(limit("fees", 8).await.expect("it goes on").in_flight_max, 8);
    until("it is enrolled", async || world.get(&id).await.outcome() == Outcome::Enrolled).await;
}
