//! A saga, its steps and its events on the wire.

use matricula_engine::{
    CallState, CallStatus, CallWait, Cause, Definitions, Direction, Event, Phase, Recorded, SagaState, Step, StepState,
    Wait, describe,
};
use matricula_kit::answer::Refusal;
use matricula_kit::time::UnixMs;
use matricula_proto::ops::v1 as ops;
use matricula_registration::{Read, StoredRegistration, view};
use matricula_runtime::{DestinationStatus, DoorChange, InstanceId, Outage};

/// The phases of the engine on the wire.
const PHASES: [(Phase, ops::SagaPhase); 6] = [
    (Phase::Running, ops::SagaPhase::Running),
    (Phase::Compensating, ops::SagaPhase::Compensating),
    (Phase::Completing, ops::SagaPhase::Completing),
    (Phase::Completed, ops::SagaPhase::Completed),
    (Phase::Compensated, ops::SagaPhase::Compensated),
    (Phase::Abandoned, ops::SagaPhase::Abandoned),
];

/// The phase in the store of a saga that waits in line. In the engine such a saga has not begun.
const QUEUED: &str = "queued";

/// The phase in the store; none for a phase that is not stored.
pub(crate) fn stored_phase(phase: ops::SagaPhase) -> Option<&'static str> {
    if phase == ops::SagaPhase::Queued {
        return Some(QUEUED);
    }
    PHASES.iter().find(|(_, on_wire)| *on_wire == phase).map(|(phase, _)| phase.as_str())
}

/// A saga of `ListSagas`, from the log or from the archive.
pub fn summary(stored: &StoredRegistration) -> ops::SagaSummary {
    let row = &stored.row;
    let is_driven = row.owner_alive && !is_finished(stored);
    ops::SagaSummary {
        saga_id: row.id.to_string(),
        student_id: row.subject.clone(),
        phase: phase(stored).into(),
        outcome: stored.outcome().into(),
        needs_attention: needs_attention(stored),
        created_at: Some(row.created_at.to_wire()),
        updated_at: Some(row.updated_at.to_wire()),
        owner: if is_driven { row.owner.clone() } else { String::new() },
        definition: row.definition.clone(),
        definition_version: i32::try_from(row.version).unwrap_or(i32::MAX),
        ..ops::SagaSummary::default()
    }
}

/// A saga of `GetSaga`, from the log or from the archive.
pub fn shown(definitions: &Definitions, stored: &StoredRegistration) -> ops::GetSagaResponse {
    let state = stored.state();
    let steps = state.map(|state| definitions.of(state).steps().iter().zip(state.steps()).map(step).collect());
    // A saga that waits in line has no events yet.
    let log = stored.row.log.as_ref().ok().filter(|_| !stored.row.is_queued);
    let events = log.map(|log| log.iter().map(event).collect());
    ops::GetSagaResponse {
        summary: Some(summary(stored)),
        registration: Some(stored.to_wire()),
        steps: steps.unwrap_or_default(),
        events: events.unwrap_or_default(),
        traceparent: stored.row.trace.traceparent.clone(),
        turned_because: state.map(turned_because).unwrap_or_default(),
        unreadable_because: unreadable_because(stored).unwrap_or_default().to_owned(),
        archived_in: archived_in(stored).to_owned(),
        roster_row_id: roster_row(stored),
    }
}

/// The file of the archive with the log, when only the receipt is here.
pub(crate) fn archived_in(stored: &StoredRegistration) -> &str {
    let archived = stored.row.archived.as_ref().filter(|_| matches!(stored.read, Read::Receipt(..)));
    archived.map_or("", |archived| &archived.file)
}

fn unreadable_because(stored: &StoredRegistration) -> Option<&str> {
    if let Read::Unreadable(why) = &stored.read { Some(why) } else { None }
}

/// The row of a roster that this registration takes over, or ends; empty for a registration of a student.
fn roster_row(stored: &StoredRegistration) -> String {
    let roster = stored.request().and_then(|request| request.roster.as_ref());
    roster.map(|roster| roster.row.to_string()).unwrap_or_default()
}

/// A registration for the audit.
pub(crate) fn ledger_entry(stored: &StoredRegistration) -> ops::ExportLedgerResponse {
    ops::ExportLedgerResponse {
        registration: Some(stored.to_wire()),
        phase: phase(stored).into(),
        owner_alive: stored.row.owner_alive && !is_finished(stored),
        decided_by_hand: stored.is_decided_manually(),
        was_delayed: stored.was_delayed(),
    }
}

/// The queue, the limit and the breaker of a service.
pub(crate) fn destination(
    status: DestinationStatus,
    instance: &InstanceId,
    outage: Option<&Outage>,
) -> ops::Destination {
    let of_outage = outage.map(self::outage).unwrap_or_default();
    ops::Destination {
        name: status.name.to_owned(),
        waiting: count(status.waiting),
        in_flight: count(status.in_flight),
        in_flight_max: count(status.in_flight_max),
        breaker: status.breaker.to_owned(),
        last_error: status.last_error,
        failing_since: status.failing_since_ms.map(|ms| UnixMs(ms).to_wire()),
        next_probe_at: status.probe_at_ms.map(|ms| UnixMs(ms).to_wire()),
        instance: instance.as_str().to_owned(),
        ..of_outage
    }
}

/// A service that does not answer a replica.
pub(crate) fn outage(outage: &Outage) -> ops::Destination {
    ops::Destination {
        name: outage.destination.clone(),
        breaker: outage.breaker.clone(),
        last_error: outage.last_error.clone(),
        failing_since: Some(UnixMs(outage.since_ms).to_wire()),
        needs_attention: true,
        sagas_waiting: count(outage.sagas_waiting),
        sagas_behind: count(outage.sagas_behind),
        oldest_saga_id: outage.oldest.map(String::from).unwrap_or_default(),
        instance: outage.instance.clone(),
        next_probe_at: outage.probe_at_ms.map(|ms| UnixMs(ms).to_wire()),
        ..ops::Destination::default()
    }
}

/// A change of the door.
pub(crate) fn door_change(change: DoorChange) -> ops::DoorChange {
    ops::DoorChange {
        door: view::door(change.door.state).into(),
        sentence: change.door.sentence,
        by: change.set_by,
        reason: change.reason,
        changed_at: Some(change.changed_at.to_wire()),
    }
}

/// The wait of a call.
pub(crate) fn wait(wait: &CallWait, service: &str) -> ops::Wait {
    let moment = |ms: i64| Some(UnixMs(ms).to_wire());
    let (kind, since, until, ahead) = match wait.wait {
        Wait::Turn { ahead } => (ops::WaitKind::Turn, None, None, ahead.unwrap_or(0)),
        Wait::Record => (ops::WaitKind::Record, None, None, 0),
        Wait::Queue { since_ms, ahead } => (ops::WaitKind::Queue, moment(since_ms), None, ahead),
        Wait::Breaker { since_ms, ahead, probe_at_ms } => {
            (ops::WaitKind::Breaker, moment(since_ms), probe_at_ms.and_then(moment), ahead)
        }
        Wait::Limit { since_ms, ahead } => (ops::WaitKind::Limit, moment(since_ms), None, ahead),
        Wait::Call { since_ms, until_ms } => (ops::WaitKind::Call, moment(since_ms), moment(until_ms), 0),
        Wait::Pause { until_ms } => (ops::WaitKind::Pause, None, moment(until_ms), 0),
    };
    ops::Wait {
        step: wait.step.clone(),
        undo: wait.direction == Direction::Compensation,
        service: service.to_owned(),
        kind: kind.into(),
        since,
        until,
        ahead: i64::try_from(ahead).unwrap_or(i64::MAX),
        service_failing_since: wait.failing_since_ms.and_then(moment),
        service_last_error: wait.last_error.clone(),
    }
}

fn phase(stored: &StoredRegistration) -> ops::SagaPhase {
    let name = match &stored.read {
        Read::Log(..) if stored.row.is_queued => return ops::SagaPhase::Queued,
        Read::Log(_, state) => state.phase().as_str(),
        Read::Receipt(..) if is_finished(stored) => &stored.row.phase,
        _ => return ops::SagaPhase::Unreadable,
    };
    PHASES.iter().find(|(phase, _)| phase.as_str() == name).map_or(ops::SagaPhase::Unreadable, |(_, phase)| *phase)
}

/// By the store, because a saga that can't be read here may be finished.
pub(crate) fn is_finished(stored: &StoredRegistration) -> bool {
    PHASES.iter().any(|(phase, _)| phase.is_finished() && phase.as_str() == stored.row.phase)
}

/// A saga that can't be read always needs attention, also when the stored flag is not set.
pub(crate) fn needs_attention(stored: &StoredRegistration) -> bool {
    stored.row.needs_attention || unreadable_because(stored).is_some()
}

fn turned_because(state: &SagaState) -> String {
    match state.cause() {
        None => String::new(),
        Some(Cause::Refused) => {
            let by: Vec<&str> = state.refusals().map(|(step, _)| step).collect();
            let reasons: Vec<String> = view::reasons(state).into_iter().map(|refusal| refusal.message).collect();
            format!("refused by {}: {}", by.join(", "), reasons.join(" ")).trim_end_matches(": ").to_owned()
        }
        Some(cause) => cause.to_string(),
    }
}

fn step((step, state): (&Step, &StepState)) -> ops::Step {
    ops::Step {
        name: step.name.to_owned(),
        stage: i32::from(step.stage),
        service: step.destination.to_owned(),
        kind: step.kind.as_str().to_owned(),
        applies: state.applies,
        action: Some(call(&state.action)),
        undo: step.undo.map(|_| call(&state.undo)),
        undo_name: step.undo.unwrap_or_default().to_owned(),
    }
}

fn call(call: &CallState) -> ops::Leg {
    let status = match call.status {
        CallStatus::NotStarted => ops::LegStatus::NotStarted,
        CallStatus::Trying => ops::LegStatus::Trying,
        CallStatus::Done => ops::LegStatus::Done,
        CallStatus::Refused => ops::LegStatus::Refused,
        CallStatus::Skipped => ops::LegStatus::Skipped,
    };
    ops::Leg {
        status: status.into(),
        attempts: i32::try_from(call.attempts).unwrap_or(i32::MAX),
        last_error: call.last_error.as_ref().map(ToString::to_string).unwrap_or_default(),
        next_attempt_at: call.next_attempt_at_ms.map(|ms| UnixMs(ms).to_wire()),
        needs_attention: call.needs_attention,
    }
}

fn event(recorded: &Recorded) -> ops::Event {
    let attempt = recorded.event.attempt();
    ops::Event {
        sequence: i64::try_from(recorded.sequence).unwrap_or(i64::MAX),
        at: Some(UnixMs(recorded.at_ms).to_wire()),
        name: recorded.event.name().to_owned(),
        description: description(recorded),
        step: attempt.map(|attempt| attempt.step.to_owned()).unwrap_or_default(),
        undo: attempt.is_some_and(|attempt| attempt.direction == Direction::Compensation),
        attempt: attempt.map_or(0, |attempt| i32::try_from(attempt.number).unwrap_or(i32::MAX)),
        // Both are of one reading of one clock. Logs of older releases have the start by another clock.
        duration_ms: attempt.map_or(0, |attempt| recorded.at_ms.saturating_sub(attempt.started_at_ms).max(0)),
    }
}

fn count(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// The description of an event. A refusal is opaque to the engine; here its reasons are named.
fn description(recorded: &Recorded) -> String {
    let Event::Refused { step, refusal, .. } = &recorded.event else { return describe(recorded) };
    let Ok(reasons) = serde_json::from_str::<Vec<Refusal>>(refusal) else { return describe(recorded) };
    let reasons = reasons.iter().map(|refusal| match &refusal.section {
        Some(section) => format!("{} {section}", refusal.reason.name()),
        None => refusal.reason.name().to_owned(),
    });
    format!("{step} refused: {}", reasons.collect::<Vec<_>>().join(", "))
}
