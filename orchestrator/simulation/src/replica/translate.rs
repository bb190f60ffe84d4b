//! The core's words for what is sent and answered, and the simulation's.

use std::rc::Rc;

use matricula_core::{
    Commit, CommitAnswer, Notice, Reply as CoreReply, SagaId, StoreRequest as CoreRequest, StoredSaga, Submission,
};
use matricula_engine::Row;

use super::broken_core::outcome_of;
use super::workflow::{id_of, number_of, origins};
use crate::clients::{Reply, Request};
use crate::env::Env;
use crate::fact::Fact;
use crate::names::{CallId, InstanceNo, SagaNo};
use crate::participants::Operation;
use crate::store::{Admitted, StoreAnswer, Stored};

/// The notices of the core that are counted.
pub(super) fn noted(instance: InstanceNo, notice: &Notice, store: &[CoreRequest]) -> Option<Fact> {
    match notice {
        Notice::AppendRefused { saga, .. } => {
            let is_shown =
                |request: &CoreRequest| matches!(request, CoreRequest::Flag { sagas } if sagas.contains(saga));
            let is_shown = store.iter().any(is_shown);
            Some(Fact::RowRefused { instance, saga: number_of(*saga), is_shown })
        }
        Notice::AdmissionRefused { saga, .. } => {
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
        request,
    }
}

pub(super) fn reply_of(saga: SagaNo, reply: CoreReply) -> Reply {
    match reply {
        CoreReply::Accepted(id) => Reply::Accepted { saga: number_of(*id) },
        CoreReply::Existing { id, .. } => Reply::Accepted { saga: number_of(id) },
        CoreReply::QueueFull { .. }
        | CoreReply::OverQuota { .. }
        | CoreReply::Unstorable(_)
        | CoreReply::ShuttingDown => Reply::Unavailable,
        CoreReply::Done(_) => Reply::Obeyed { saga },
        CoreReply::Refused(_) => Reply::Refused,
        CoreReply::NotHere => Reply::NotHere,
    }
}

fn admitted_of(admitted: Admitted) -> matricula_core::Admitted {
    match admitted {
        Admitted::New => matricula_core::Admitted::New,
        Admitted::Existing { saga, same_request } => {
            matricula_core::Admitted::Existing { id: id_of(saga), same_request }
        }
    }
}

pub(super) fn read_back(env: &Env, stored: Stored) -> StoredSaga<Rc<Request>> {
    let definition = &env.shape.definition;
    let id: SagaId = id_of(stored.saga);
    let row = Row {
        id,
        definition: definition.name().to_owned(),
        version: definition.version(),
        log: Ok(stored.log.iter().flat_map(|events| events.iter().cloned()).collect()),
    };
    StoredSaga { row, request: Ok(env.request(stored.saga).clone()) }
}

pub(super) fn operation(env: &Env, call: &matricula_core::Call<Rc<Request>>) -> Operation {
    let of = CallId { saga: number_of(call.saga), step: call.step, direction: call.direction };
    Operation { of, attempt: call.attempt, outcome: call.state.outcome(), origins: origins(&env.shape, &call.state) }
}

pub(super) fn described(instance: InstanceNo, commit: &Commit<Rc<Request>>) -> String {
    let admissions = commit.admissions.iter().map(|admission| format!("admits {}", number_of(admission.id)));
    let appends = commit.appends.iter().map(|append| {
        let events: Vec<String> = append.events.iter().map(|event| format!("{:?}", event.event)).collect();
        format!("{}: {}", number_of(append.saga), events.join("; "))
    });
    let rows: Vec<String> = admissions.chain(appends).collect();
    format!("{instance} writes (commit {}): {}", commit.number, rows.join(" | "))
}

/// The answer of the store to a commit.
pub(super) fn commit_answer(answer: StoreAnswer) -> CommitAnswer {
    match answer {
        StoreAnswer::Written(admitted, appended) => CommitAnswer::Written {
            admissions: admitted.into_iter().map(admitted_of).collect(),
            appends: appended.into_iter().map(outcome_of).collect(),
        },
        StoreAnswer::Fenced => CommitAnswer::Fenced,
        StoreAnswer::Conflict => CommitAnswer::Conflict,
        StoreAnswer::Refused => CommitAnswer::Refused { problem: "a row is refused".to_owned() },
        _ => CommitAnswer::Failed,
    }
}
