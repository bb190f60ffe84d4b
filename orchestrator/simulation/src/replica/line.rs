//! The part of the shell for the waiting line: it reads the row of a saga that a command is about, and reports to the
//! other instances when a line has begun.

use std::rc::Rc;

use matricula_core::{Input, Moment, QueuedSaga, Reply as CoreReply};
use matricula_engine::Input as SagaInput;

use super::broken_core::BrokenCore;
use super::instance::Replica;
use super::workflow::Caller;
use super::{Goes, ProcessEvent};
use crate::clients::{Ask, Asked, Request};
use crate::draws::Message;
use crate::env::{Env, Event};
use crate::fact::Fact;
use crate::names::{PROCESSES_MAX, ProcessNo, id_of};
use crate::store::StoreRequest;

impl Replica {
    /// A cancel or an order. For a saga that is not in memory, the row is read first.
    pub(super) fn ordered(&mut self, env: &mut Env, ask: Ask) -> Goes {
        let Some(saga) = ask.saga() else { return Goes::On };
        if self.account.sagas.iter().any(|known| known.saga == saga) {
            return self.order(env, &ask, None);
        }
        self.ask_store(env, StoreRequest::ReadRow(Rc::new(ask)));
        Goes::On
    }

    /// Gives the core an order about a saga, which was queued when it was read, or was not.
    pub(super) fn order(&mut self, env: &mut Env, ask: &Ask, queued: Option<QueuedSaga<Rc<Request>>>) -> Goes {
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
            Some(saga) => self.take(env, Input::CommandedInLine { saga, command, caller }),
            None => self.take(env, Input::Commanded { saga: id_of(saga), command, caller }),
        }
    }

    /// Sends the other processes a message that there are sagas to claim.
    pub(super) fn tell_line_begun(&mut self, env: &mut Env) {
        self.lines_begun += 1;
        let (from, number) = (self.instance, self.lines_begun);
        let message = |to| Message::LineBegun(from, number, to);
        self.tell_others(env, message, || ProcessEvent::LineBegun(from, number));
    }

    /// Sends each other process a message.
    pub(super) fn tell_others(
        &self,
        env: &mut Env,
        message: impl Fn(ProcessNo) -> Message,
        event: impl Fn() -> ProcessEvent,
    ) {
        for process in (0..PROCESSES_MAX as u8).map(ProcessNo).filter(|process| *process != self.process) {
            env.send(message(process), |_| Event::Process { process, event: event() });
        }
    }
}

/// Whether there is a line, as of the core's last answer.
pub(super) fn has_line(core: &BrokenCore, now: Moment) -> bool {
    let line = core.core().line(now);
    line.last > line.served
}

pub(super) fn is_queued(reply: &CoreReply) -> bool {
    matches!(reply, CoreReply::Accepted(accepted) if accepted.is_queued)
}
