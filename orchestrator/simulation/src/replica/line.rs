//! What the shell of an instance does for the waiting line: it reads the row of a saga that an order is about, tells the
//! other instances when a line has begun, and translates between the core and the store.

use std::rc::Rc;

use matricula_core::{CommitAnswer, Input, Moment, QueuedSaga, Reply as CoreReply, Ticket};
use matricula_engine::Input as SagaInput;

use super::broken_core::{self, BrokenCore};
use super::workflow::{Caller, id_of, number_of};
use super::{Goes, ProcessEvent, Replica};
use crate::clients::{Ask, Asked, Request};
use crate::draws::Message;
use crate::env::{Env, Event};
use crate::fact::Fact;
use crate::names::{PROCESSES_MAX, ProcessNo};
use crate::store::{self, Admitted, StoreAnswer, StoreRequest, Written};

impl Replica {
    /// A cancel or an order. Of a saga that is not in memory here, the row is read first.
    pub(super) fn ordered(&mut self, env: &mut Env, ask: Ask) -> Goes {
        let Some(saga) = ask.saga() else { return Goes::On };
        if self.account.sagas.iter().any(|known| known.saga == saga) {
            return self.order(env, &ask, None);
        }
        self.ask_store(env, StoreRequest::ReadRow(Rc::new(ask)));
        Goes::On
    }

    /// Gives the core an order about a saga, which was queued when it was read, or was not.
    pub(super) fn order(&mut self, env: &mut Env, ask: &Ask, queued: Option<store::Queued>) -> Goes {
        let (saga, command) = match &ask.asked {
            Asked::Submit(..) => return Goes::On,
            Asked::Cancel(saga) => (*saga, SagaInput::Cancel { by: saga.client().to_string(), reason: String::new() }),
            Asked::Order(order) => (order.saga, order.input()),
        };
        let is_cancel = matches!(command, SagaInput::Cancel { .. });
        let is_queued = queued.is_some();
        env.facts.push(Fact::Commanded { instance: self.instance, saga, is_cancel, is_queued });
        self.account.commanded(saga);
        let caller = Caller { asker: ask.asker, saga };
        match queued {
            Some(queued) => self.take(env, Input::CommandedInLine { saga: read(env, queued), command, caller }),
            None => self.take(env, Input::Commanded { saga: id_of(saga), command, caller }),
        }
    }

    /// The other processes are told that there are sagas to be claimed.
    pub(super) fn tell_line_begun(&mut self, env: &mut Env) {
        self.lines_begun += 1;
        let (from, number) = (self.instance, self.lines_begun);
        for process in (0..PROCESSES_MAX as u8).map(ProcessNo).filter(|process| *process != self.process) {
            env.send(Message::LineBegun(from, number, process), |_| Event::Process {
                process,
                event: ProcessEvent::LineBegun(from, number),
            });
        }
    }
}

/// Whether there is a line, as far as the core knows.
pub(super) fn has_line(core: &BrokenCore, now: Moment) -> bool {
    let line = core.core().line(now);
    line.last > line.served
}

pub(super) fn is_queued(reply: &CoreReply) -> bool {
    matches!(reply, CoreReply::Accepted(accepted) if accepted.is_queued)
}

/// The core's words for a queued saga.
pub(super) fn read(env: &Env, queued: store::Queued) -> QueuedSaga<Rc<Request>> {
    let request = Ok(env.request(queued.saga).clone());
    QueuedSaga { id: id_of(queued.saga), ticket: Ticket(queued.ticket), request }
}

pub(super) fn state_of(line: store::LineState) -> matricula_core::LineState {
    let state = match line.door {
        store::Door::Open => matricula_core::DoorState::Open,
        store::Door::Paused => matricula_core::DoorState::Paused,
        store::Door::Closed => matricula_core::DoorState::Closed,
    };
    let door = matricula_core::Door { state, sentence: String::new() };
    matricula_core::LineState { served: Ticket(line.served), last: Ticket(line.last), door }
}

/// The store's words for a claim.
pub(super) fn claim(claim: &matricula_core::Claim) -> store::Claim {
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
            appends: appended.into_iter().map(broken_core::outcome_of).collect(),
            line: line.map(state_of),
        },
        StoreAnswer::Fenced => CommitAnswer::Fenced,
        StoreAnswer::Conflict => CommitAnswer::Conflict,
        StoreAnswer::Refused => CommitAnswer::Refused { problem: "a row is refused".to_owned() },
        _ => CommitAnswer::Failed,
    }
}

fn admitted_of(admitted: Admitted) -> matricula_core::Admitted {
    match admitted {
        Admitted::Begun { ticket } => matricula_core::Admitted::Begun { ticket: Ticket(ticket) },
        Admitted::Queued { ticket } => matricula_core::Admitted::Queued { ticket: Ticket(ticket) },
        Admitted::OverQuota => matricula_core::Admitted::OverQuota,
        Admitted::Closed => matricula_core::Admitted::Closed { sentence: "closed".to_owned() },
        Admitted::Existing { saga, same_request } => {
            matricula_core::Admitted::Existing { id: id_of(saga), same_request }
        }
    }
}
