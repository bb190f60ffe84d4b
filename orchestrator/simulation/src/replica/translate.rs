//! Translates requests and answers between the types of the core and of the simulation.

use std::rc::Rc;

use matricula_core::{
    Commit, CommitAnswer, CommitNo, Door, DoorState, LineState, Notice, QueuedSaga, Reply as CoreReply, SagaId,
    StoreRequest as CoreRequest, StoredSaga, Submission, Ticket,
};
use matricula_engine::Row;

use super::broken_core::outcome_of;
use super::workflow::{id_of, number_of, origins};
use crate::clients::{Reply, Request};
use crate::env::Env;
use crate::fact::Fact;
use crate::names::{CallId, InstanceNo, SagaNo};
use crate::participants::Operation;
use crate::store::{self, AdmissionOutcome, StoreAnswer, Stored, Written};

/// The notices of the core that are counted.
pub(super) fn noted(instance: InstanceNo, notice: &Notice, store: &[CoreRequest]) -> Option<Fact> {
    match notice {
        Notice::AppendRefused { saga, .. } => {
            let is_shown =
                |request: &CoreRequest| matches!(request, CoreRequest::Flag { sagas } if sagas.contains(saga));
            let is_shown = store.iter().any(is_shown);
            Some(Fact::RowRefused { instance, saga: number_of(*saga), is_shown })
        }
        Notice::AdmissionRefused { saga, .. } | Notice::TurnRefused { saga, .. } => {
            Some(Fact::RowRefused { instance, saga: number_of(*saga), is_shown: true })
        }
        Notice::BreakerOpened { .. } => Some(Fact::BreakerOpened),
        _ => None,
    }
}

pub(super) fn submission(saga: SagaNo, request: Rc<Request>) -> Submission<Rc<Request>> {
    Submission {
        id: id_of(saga),
        subject: request.student.to_string(),
        key: request.key.to_string(),
        fingerprint: format!("{:?} {:?} {}", request.adds, request.drops, request.plain),
        is_by_staff: false,
        request,
    }
}

pub(super) fn reply_of(saga: SagaNo, reply: CoreReply) -> Reply {
    match reply {
        CoreReply::Accepted(accepted) => Reply::Accepted { saga: number_of(accepted.id) },
        CoreReply::Existing { id, .. } => Reply::Accepted { saga: number_of(id) },
        CoreReply::QueueFull { .. }
        | CoreReply::OverQuota { .. }
        | CoreReply::Closed { .. }
        | CoreReply::Unstorable(_)
        | CoreReply::ShuttingDown => Reply::Unavailable,
        CoreReply::Done(_) => Reply::Obeyed { saga },
        CoreReply::Refused(_) => Reply::Refused,
        CoreReply::NotHere => Reply::NotHere,
    }
}

pub(super) fn read_back(env: &Env, stored: Stored) -> StoredSaga<Rc<Request>> {
    let id: SagaId = id_of(stored.saga);
    let (definition, version) = (env.shape.name.to_owned(), stored.version());
    let log = Ok(stored.log.iter().flat_map(|events| events.iter().cloned()).collect());
    let row = Row { id, definition, version, log };
    StoredSaga { row, request: Ok(env.request(stored.saga).clone()) }
}

pub(super) fn operation(env: &Env, call: &matricula_core::Call<Rc<Request>>) -> Operation {
    let of = CallId { saga: number_of(call.saga), step: call.step, direction: call.direction };
    let table = env.shape.of(&call.state);
    let (does, kind) = (table.does[call.step.get()], table.definition.step(call.step).kind);
    let (outcome, origins) = (call.state.outcome(), origins(table, &call.state));
    Operation { of, attempt: call.attempt, outcome, origins, does, kind }
}

pub(super) fn described(instance: InstanceNo, commit: &Commit<Rc<Request>>) -> String {
    let admissions = commit.admissions.iter().map(|admission| {
        let verb = if admission.first.is_some() { "admits" } else { "queues" };
        format!("{verb} {}", number_of(admission.id))
    });
    let claim = commit.claim.iter().map(|claim| {
        let turns = claim.turns.iter().map(|turn| {
            let order = if turn.is_out_of_order { ", out of order" } else { "" };
            format!("{} ({}{order})", number_of(turn.saga), turn.ticket.0)
        });
        format!("claims {} after {}", turns.collect::<Vec<_>>().join(", "), claim.after.0)
    });
    let appends = commit.appends.iter().map(|append| {
        let events: Vec<String> = append.events.iter().map(|event| format!("{:?}", event.event)).collect();
        format!("{}: {}", number_of(append.saga), events.join("; "))
    });
    let rows: Vec<String> = admissions.chain(claim).chain(appends).collect();
    let CommitNo { lane, number } = commit.number;
    format!("{instance} writes ({lane:?} {number}): {}", rows.join(" | "))
}

/// A queued saga as the type of the core.
pub(super) fn read_queued(env: &Env, queued: store::Queued) -> QueuedSaga<Rc<Request>> {
    let request = Ok(env.request(queued.saga).clone());
    let store::Queued { saga, ticket, accepted_at_ms } = queued;
    QueuedSaga { id: id_of(saga), ticket: Ticket(ticket), accepted_at_ms, request }
}

pub(super) fn state_of(line: store::LineState) -> LineState {
    let state = match line.door {
        store::Door::Open => DoorState::Open,
        store::Door::Paused => DoorState::Paused,
        store::Door::Closed => DoorState::Closed,
    };
    let door = Door { state, sentence: String::new() };
    LineState { served: Ticket(line.served), last: Ticket(line.last), door, claims_to_ms: line.claims_to_ms }
}

/// A claim as the type of the simulated store.
pub(super) fn claim_of(claim: &matricula_core::Claim) -> store::Claim {
    let turn = |turn: &matricula_core::Turn| store::Turn {
        saga: number_of(turn.saga),
        ticket: turn.ticket.0,
        first: Rc::new(vec![turn.first.clone()]),
        is_out_of_order: turn.is_out_of_order,
    };
    store::Claim { after: claim.after.0, turns: claim.turns.iter().map(turn).collect() }
}

pub(super) fn commit_answer(answer: StoreAnswer) -> CommitAnswer {
    match answer {
        StoreAnswer::Written(Written { admitted, claimed, appended, line }) => CommitAnswer::Written {
            admissions: admitted.into_iter().map(admitted_of).collect(),
            claimed,
            appends: appended.into_iter().map(outcome_of).collect(),
            line: line.map(state_of),
        },
        StoreAnswer::Fenced => CommitAnswer::Fenced,
        StoreAnswer::Conflict => CommitAnswer::Conflict,
        StoreAnswer::Refused => CommitAnswer::Refused { problem: "a row is refused".to_owned() },
        _ => CommitAnswer::Failed,
    }
}

fn admitted_of(admitted: AdmissionOutcome) -> matricula_core::AdmissionOutcome {
    match admitted {
        AdmissionOutcome::Begun { ticket } => matricula_core::AdmissionOutcome::Begun { ticket: Ticket(ticket) },
        AdmissionOutcome::Queued { ticket } => matricula_core::AdmissionOutcome::Queued { ticket: Ticket(ticket) },
        AdmissionOutcome::OverQuota => matricula_core::AdmissionOutcome::OverQuota,
        AdmissionOutcome::Closed => matricula_core::AdmissionOutcome::Closed { sentence: "closed".to_owned() },
        AdmissionOutcome::Existing { saga, same_request } => {
            matricula_core::AdmissionOutcome::Existing { id: id_of(saga), same_request }
        }
    }
}
