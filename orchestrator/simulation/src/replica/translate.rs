//! Translates requests and answers between the types of the core and of the simulation.

use std::rc::Rc;

use matricula_core::{Commit, CommitNo, Notice, Reply as CoreReply, StoreRequest as CoreRequest, Submission};

use super::workflow::origins;
use crate::clients::{Reply, Request};
use crate::env::Env;
use crate::fact::Fact;
use crate::names::{Attempt, CallId, InstanceNo, SagaNo, id_of, number_of};
use crate::participants::Operation;

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

pub(super) fn operation(env: &Env, call: &matricula_core::Call<Rc<Request>>) -> Operation {
    let of = CallId { saga: number_of(call.saga), step: call.step, direction: call.direction };
    let table = env.shape.of(&call.state);
    let (does, kind) = (table.does[call.step.get()], table.definition.step(call.step).kind);
    let (outcome, origins) = (call.state.outcome(), origins(table, &call.state));
    Operation { made: Attempt { of, number: call.attempt }, outcome, origins, does, kind }
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
