//! One service as an instance sees it: what waits for it, and what is in flight. Calls that wait for the same RPC leave
//! together when a place is free; the RPC whose first call has waited longest goes next.

use std::collections::VecDeque;
use std::rc::Rc;

use matricula_engine::{CallAnswer, CallError, Code};

use super::Owner;
use crate::draws::{CrashPoint, Message, Purpose, RpcKey};
use crate::env::{Env, Event};
use crate::names::CallId;
use crate::participants::{Operation, Rpc, RpcAnswer};
use crate::replica::{CALL_TIMEOUT_MS, InstanceInput};

/// RPCs to one destination at the same time: two, so that what waits goes in one batch.
const IN_FLIGHT_MAX: usize = 2;

#[derive(Default)]
pub(super) struct Destination {
    waiting: VecDeque<(&'static str, Operation)>,
    in_flight: Vec<InFlight>,
}

struct InFlight {
    rpc: u64,
    calls: Vec<(CallId, u32)>,
}

impl Destination {
    /// What waits is dropped, to be called again by whoever resumes its saga.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }
}

impl Owner {
    pub(super) fn enqueue(&mut self, env: &mut Env, operation: Operation) {
        let CallId { step, direction, .. } = operation.of;
        let Some(rpc) = env.shape.definition.step(step).rpc(direction) else { return };
        let destination = env.shape.destination_of[step.get()];
        self.destinations[usize::from(destination)].waiting.push_back((rpc, operation));
        self.send_calls(env, destination);
    }

    fn send_calls(&mut self, env: &mut Env, to: u8) {
        let destination = &mut self.destinations[usize::from(to)];
        let mut left = Vec::new();
        while destination.in_flight.len() < IN_FLIGHT_MAX
            && let Some((rpc, _)) = destination.waiting.front()
        {
            let (name, mut operations) = (*rpc, Vec::new());
            let mut rest = VecDeque::new();
            for (rpc, operation) in destination.waiting.drain(..) {
                if rpc == name { operations.push(operation) } else { rest.push_back((rpc, operation)) }
            }
            destination.waiting = rest;
            self.rpcs += 1;
            let calls = operations.iter().map(|operation| (operation.of, operation.attempt)).collect();
            destination.in_flight.push(InFlight { rpc: self.rpcs, calls });
            let first = operations.iter().map(Operation::key).min().expect("a call has an operation");
            let key = RpcKey { instance: self.instance, first };
            left.push(Rpc { number: self.rpcs, key, destination: to, operations });
        }
        for rpc in left {
            let (key, rpc) = (rpc.key, Rc::new(rpc));
            let jitter_ms = i64::from(env.draw(Purpose::CallTimeout(key)).below(50));
            self.wake_me(env, CALL_TIMEOUT_MS + jitter_ms, InstanceInput::RpcTimeout { rpc: rpc.number, key });
            env.send(Message::Call(key), |copy| Event::Rpc { rpc: rpc.clone(), copy });
            self.may_crash_at(env, CrashPoint::Called(key));
        }
    }

    /// A call was answered, or given up (`None`).
    pub(super) fn rpc_ended(&mut self, env: &mut Env, rpc: u64, answer: Option<&RpcAnswer>) {
        let at = |destination: &Destination| destination.in_flight.iter().position(|in_flight| in_flight.rpc == rpc);
        let found = self.destinations.iter().enumerate().find_map(|(to, destination)| Some((to, at(destination)?)));
        // It is not waited for any more: a second answer, or one that comes too late.
        let Some((to, place)) = found else { return };
        let InFlight { calls, .. } = self.destinations[to].in_flight.swap_remove(place);
        for (index, (of, attempt)) in calls.into_iter().enumerate() {
            let answer = match answer.map(|answer| &**answer) {
                Some(Ok(answers)) => answers[index].clone(),
                Some(Err(error)) => CallAnswer::Unknown(error.clone()),
                None => CallAnswer::Unknown(CallError::new(Code::DeadlineExceeded, "no answer", None)),
            };
            self.answered(env, of, attempt, answer);
        }
        self.send_calls(env, to as u8);
    }
}
