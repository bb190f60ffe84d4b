//! Why a saga is in its state, in words, and what an operator can do about it. The cause comes first: a service, or
//! another saga. It is taken from the instance that drives the saga, and only otherwise from the log.

use matricula_engine::{CallWait, Definition, Direction, SagaState, Wait, advice, distance, explain, wait_in_words};
use matricula_kit::database::DbError;
use matricula_kit::time::UnixMs;
use matricula_proto::ops::v1 as ops;
use matricula_registration::{Read, StoredRegistration};
use matricula_runtime::{DoorChange, DoorState, LineView, Outage, Ticket, Workload as _};

use crate::{Orchestrator, waits, wire};

/// The explanation of a stored saga.
pub(crate) async fn explained(
    runtime: &Orchestrator,
    stored: &StoredRegistration,
) -> Result<ops::ExplainSagaResponse, DbError> {
    let summary = waits::summaries(runtime, std::slice::from_ref(stored)).await?.pop();
    let answer = ops::ExplainSagaResponse { summary, ..Default::default() };
    let explanation = match &stored.read {
        Read::Log(..) if stored.row.is_queued => return in_line(runtime, stored, answer).await,
        Read::Log(_, state) => return of_readable(runtime, stored, state, answer).await,
        Read::Receipt(..) => format!("finished; its log is in the archive, in {}\n", wire::archived_in(stored)),
        // No command can be carried out: its effect would not be known.
        Read::Unreadable(problem) => format!("can't be read here, and is left alone: {problem}\n"),
    };
    Ok(ops::ExplainSagaResponse { explanation: explanation + &driver(stored), ..answer })
}

async fn of_readable(
    runtime: &Orchestrator,
    stored: &StoredRegistration,
    state: &SagaState,
    mut answer: ops::ExplainSagaResponse,
) -> Result<ops::ExplainSagaResponse, DbError> {
    let (definition, now) = (runtime.workload().definitions().of(state), runtime.now());
    let advice = advice(definition, state).into_iter().map(|advice| ops::Advice {
        verb: advice.command.to_owned(),
        step: advice.step.unwrap_or_default().to_owned(),
        effect: advice.effect.to_owned(),
        answers: advice.answers.iter().map(|answer| (*answer).to_owned()).collect(),
    });
    answer.advice = advice.collect();
    if state.phase().is_finished() {
        answer.explanation = explain(definition, state, None, now.0) + &driver(stored);
        return Ok(answer);
    }
    let seen = runtime.look(&stored.row).await;
    let live = seen.as_ref().ok();
    let state = live.and_then(|seen| seen.state.as_deref()).unwrap_or(state);
    let calls = live.map(|seen| &seen.calls[..]);
    answer.explanation = explain(definition, state, calls, now.0);
    let calls = calls.unwrap_or_default();
    add_cause(runtime, stored, state, calls, &mut answer).await?;
    if let Err(why) = &seen {
        let age = time_since(stored.row.updated_at.0, now);
        answer.explanation += &format!("  only its log is known, last recorded {age} ago: {why}\n");
    }
    answer.explanation.push_str(&driver(stored));
    answer.waits = calls.iter().map(|call| wire::wait(call, service(definition, &call.step))).collect();
    answer.only_log_because = seen.err().unwrap_or_default();
    Ok(answer)
}

/// The explanation of a saga that waits in line. Nothing of it was called, so the only command is a cancel.
async fn in_line(
    runtime: &Orchestrator,
    stored: &StoredRegistration,
    mut answer: ops::ExplainSagaResponse,
) -> Result<ops::ExplainSagaResponse, DbError> {
    let (now, line) = (runtime.now(), runtime.line().borrow().clone());
    let ticket = stored.row.ticket;
    let mut words = line_in_words(ticket, &line);
    if let Some(door) = runtime.store().door_changes(1).await?.pop().filter(|it| it.door.state == DoorState::Paused) {
        words += &paused_in_words(&door, now);
    }
    let outages = runtime.outages();
    for outage in outages.iter() {
        words += &format!("  sagas before it wait for {}\n", outage_in_words(outage, now));
    }
    answer.explanation = words + &driver(stored);
    let effect = "takes it out of the line: nothing of it was called";
    answer.advice = vec![ops::Advice { verb: "cancel".to_owned(), effect: effect.to_owned(), ..Default::default() }];
    let ahead = line.ahead(ticket).map(|ahead| i64::try_from(ahead).unwrap_or(i64::MAX)).unwrap_or_default();
    answer.waits = vec![ops::Wait { kind: ops::WaitKind::Turn.into(), ahead, ..Default::default() }];
    answer.causes = outages.iter().map(wire::outage).collect();
    Ok(answer)
}

/// The place of a ticket in the line, and the speed of the line.
fn line_in_words(ticket: Ticket, line: &LineView) -> String {
    let before = match line.ahead(ticket) {
        None => "its turn is coming now".to_owned(),
        Some(0) => "it is the next".to_owned(),
        Some(ahead) => format!("{ahead} before it"),
    };
    let rate = match line.turns_per_1000_s {
        Some(turns) => format!("as fast as {:.1} a second", turns as f64 / 1_000.0),
        None => "how fast the line moves is not known".to_owned(),
    };
    format!("queued: it waits in line, nothing was called\n  ticket {}: {before}, {rate}\n", ticket.0)
}

fn paused_in_words(door: &DoorChange, now: UnixMs) -> String {
    let DoorChange { changed_at, set_by, reason, .. } = door;
    let age = time_since(changed_at.0, now);
    format!("  no turn comes: the door was paused by {set_by} {age} ago, at {changed_at}: {reason}\n")
}

/// Adds the cause of a saga that does not go on: the sagas that it waits for, each waiting for the next one, and the
/// services that need attention. A saga that makes progress has neither.
async fn add_cause(
    runtime: &Orchestrator,
    stored: &StoredRegistration,
    state: &SagaState,
    calls: &[CallWait],
    answer: &mut ops::ExplainSagaResponse,
) -> Result<(), DbError> {
    let (definitions, now) = (runtime.workload().definitions(), runtime.now());
    let (chain, root) = waits::chain(runtime, state).await?;
    let words = &mut answer.explanation;
    for (place, id) in chain.iter().enumerate() {
        let begin = if place == 0 { "  waits" } else { ",\n  which waits" };
        *words += &format!("{begin} for registration {id} of the same student");
    }
    let mut found = Vec::new();
    match root.as_ref().map(|root| (root, root.state())) {
        None if chain.is_empty() => {
            found = outages(runtime, stored, state, calls);
            words.push_str(&own_words(&found, calls, now));
        }
        None => words.push_str(",\n  which is not on record here\n"),
        Some((root, Some(state))) if !state.phase().is_finished() => {
            let calls = runtime.look(&root.row).await.map(|seen| seen.calls).unwrap_or_default();
            found = outages(runtime, root, state, &calls);
            words.push_str(&root_words(definitions.of(state), &found, &calls, state, now));
        }
        Some(_) => words.push_str(",\n  which has ended: the next attempt goes on\n"),
    }
    answer.waits_for_saga_ids = chain.into_iter().map(String::from).collect();
    answer.causes = found.iter().map(wire::outage).collect();
    Ok(())
}

/// The services that need attention and that a saga waits for. A saga whose turn has not come waits for those of the
/// sagas before it.
fn outages(runtime: &Orchestrator, stored: &StoredRegistration, state: &SagaState, calls: &[CallWait]) -> Vec<Outage> {
    let definition = runtime.workload().definitions().of(state);
    let is_queued = is_queued(calls);
    let is_tried = |name: &str| {
        let mut tried = state.trying(definition).filter(|(_, _, call)| call.waits_for().is_none());
        tried.any(|(index, _, _)| definition.step(index).destination == name)
    };
    let all = runtime.outages();
    let own = all.iter().filter(|outage| outage.instance == stored.row.owner);
    own.filter(|outage| is_queued || is_tried(&outage.destination)).cloned().collect()
}

fn is_queued(calls: &[CallWait]) -> bool {
    calls.iter().any(|call| matches!(call.wait, Wait::Turn { .. }))
}

/// The outages that a saga waits for, in words.
fn own_words(outages: &[Outage], calls: &[CallWait], now: UnixMs) -> String {
    let begin = if is_queued(calls) { "the sagas before it wait for" } else { "waits for" };
    outages.iter().map(|outage| format!("  {begin} {}\n", outage_in_words(outage, now))).collect()
}

/// The services and calls that the last saga of a chain waits for, in words.
fn root_words(
    definition: &Definition,
    outages: &[Outage],
    calls: &[CallWait],
    state: &SagaState,
    now: UnixMs,
) -> String {
    if let [outage, ..] = outages {
        return format!(",\n  which waits for {}\n", outage_in_words(outage, now));
    }
    let words = calls.iter().map(|call| {
        let service = service(definition, &call.step);
        match call.failing_since_ms {
            Some(since_ms) => silent_in_words(service, since_ms, &call.last_error, now),
            None => format!("{service} ({}: {})", call.step, wait_in_words(call, service, now.0)),
        }
    });
    let by_log = waits::failing_service(definition, state, |_| false);
    match (words.collect::<Vec<_>>().as_slice(), by_log) {
        ([], Some(service)) => format!(",\n  which waits for {service}, by its log\n"),
        ([], None) => ",\n  which is under way\n".to_owned(),
        (words, _) => format!(",\n  which waits for {}\n", words.join(", and for ")),
    }
}

fn outage_in_words(outage: &Outage, now: UnixMs) -> String {
    let silent = silent_in_words(&outage.destination, outage.since_ms, &outage.last_error, now);
    let sagas = if outage.sagas_waiting == 1 { "saga waits" } else { "sagas wait" };
    format!("{silent}; {} {sagas} for it at its instance", outage.sagas_waiting)
}

fn silent_in_words(service: &str, since_ms: i64, error: &str, now: UnixMs) -> String {
    let silent = time_since(since_ms, now);
    let error = if error.is_empty() { String::new() } else { format!(" ({error})") };
    format!("{service}, which has not answered for {silent}{error}")
}

fn time_since(ms: i64, now: UnixMs) -> String {
    distance(now.0.saturating_sub(ms).max(0))
}

/// The service that a step calls.
fn service(definition: &Definition, step: &str) -> &'static str {
    definition.index(step).map(|index| definition.step(index).destination).unwrap_or_default()
}

/// The calls that a recorded command waits for because they were not sent, in words.
pub(crate) fn pending(definition: &Definition, calls: &[CallWait], now: UnixMs) -> String {
    let words = calls.iter().map(|call| {
        let words = wait_in_words(call, service(definition, &call.step), now.0);
        let undo = if call.direction == Direction::Compensation { "undo of " } else { "" };
        format!("{undo}{}: {words}", call.step)
    });
    words.collect::<Vec<_>>().join("; ")
}

/// The instance that drives a saga, and whether it is alive by the database's clock.
fn driver(stored: &StoredRegistration) -> String {
    let owner = &stored.row.owner;
    match (wire::is_finished(stored), stored.row.owner_alive) {
        _ if stored.row.is_queued => "  no instance drives it yet: the next one with a free slot does\n".to_owned(),
        (true, _) => "  no instance drives it any more: it is finished\n".to_owned(),
        (false, true) if stored.state().is_none() => format!("  it belongs to instance {owner}, which is alive\n"),
        (false, true) => format!("  driven by instance {owner}, which is alive\n"),
        (false, false) => {
            format!("  instance {owner}, which drove it, has ended: another instance adopts it\n")
        }
    }
}
