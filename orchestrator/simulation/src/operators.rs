//! Operators: now and then one looks at the sagas as their logs stand, and orders something: mostly what the engine advises,
//! else anything at all. An order may be old when it arrives, come twice, or come to an owner that the saga has no more.

use std::rc::Rc;

use matricula_engine::{Input, Kind, OperatorCommand, Resolution, advice};

use crate::clients::{Ask, Reply};
use crate::env::{Env, Event};
use crate::fact::Fact;
use crate::names::{InstanceNo, OrderNo, ProcessNo, SagaNo};
use crate::owner::ProcessEvent;
use crate::witness::{Seen, Witness};

/// Of 1,024: an order is what the engine advises, as far as it advises anything.
const ADVISED: u32 = 900;
/// Of 1,024: it goes to the owner that the log names.
const TO_OWNER: u32 = 768;
/// Of 1,024: what an operator says of a pivot is what came of it.
const FOUND_OUT: u32 = 900;

/// What somebody orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    Cancel,
    Operator(OperatorCommand),
}

/// An order to one saga.
#[derive(Debug)]
pub(crate) struct Order {
    pub number: OrderNo,
    pub saga: SagaNo,
    pub wanted: Wanted,
}

impl Order {
    /// For the engine. The number tells an order that comes again from another one of the same words.
    pub(crate) fn input(&self) -> Input {
        let (by, reason) = ("an operator".to_owned(), self.number.to_string());
        match &self.wanted {
            Wanted::Cancel => Input::Cancel { by, reason },
            Wanted::Operator(command) => {
                Input::Operator { command: command.clone(), by, command_id: Some(reason.clone()), reason }
            }
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) enum OperatorEvent {
    /// Time to look.
    Look,
    Replied {
        order: OrderNo,
        reply: Reply,
    },
}

pub(crate) struct Operators {
    processes: u32,
    orders: Vec<Rc<Order>>,
}

impl Operators {
    pub(crate) fn new(processes: u32) -> Self {
        Self { processes, orders: Vec::new() }
    }

    pub(crate) fn handle(&mut self, env: &mut Env, witness: &Witness, event: OperatorEvent) {
        match event {
            OperatorEvent::Look => self.look(env, witness),
            OperatorEvent::Replied { order, reply } => self.replied(env, order, &reply),
        }
    }

    fn look(&mut self, env: &mut Env, witness: &Witness) {
        let Some((saga, owner, wanted)) = choose(env, witness) else { return };
        let at_owner = witness.lives.get(owner.get()).filter(|_| env.chance(TO_OWNER)).map(|life| life.process);
        let process = at_owner.unwrap_or_else(|| ProcessNo(env.below(self.processes) as u8));
        let order = Rc::new(Order { number: OrderNo(self.orders.len() as u16), saga, wanted });
        env.say(|| format!("{} at {process}: {:?} of {saga}", order.number, order.wanted));
        self.orders.push(order.clone());
        env.send(Event::Process { process, event: ProcessEvent::Ask(Ask::Order(order)) });
    }

    fn replied(&mut self, env: &mut Env, number: OrderNo, reply: &Reply) {
        env.say(|| format!("{number} is answered: {reply:?}"));
        let order = &self.orders[number.get()];
        if matches!(reply, Reply::Obeyed { .. }) {
            env.facts.push(match order.wanted {
                Wanted::Cancel => Fact::CancelConfirmed { saga: order.saga },
                Wanted::Operator(_) => Fact::Obeyed { order: order.clone() },
            });
        }
    }
}

/// A saga, its owner, and something to order of it.
fn choose(env: &mut Env, witness: &Witness) -> Option<(SagaNo, InstanceNo, Wanted)> {
    let mut advised = Vec::new();
    for (saga, seen) in witness.sagas() {
        advised.extend(advice(&env.shape.definition, &seen.state).into_iter().map(|advice| (saga, seen.owner, advice)));
    }
    if !advised.is_empty() && env.chance(ADVISED) {
        let (saga, owner, advice) = advised.swap_remove(env.below(advised.len() as u32) as usize);
        return Some((saga, owner, wanted(env, witness, saga, advice.command, advice.step.unwrap_or_default())));
    }
    let sagas: Vec<(SagaNo, &Seen)> = witness.sagas().collect();
    let (saga, seen) = *sagas.get(env.below(sagas.len() as u32) as usize)?;
    let command = ["retry", "skip", "resolve", "abandon", "cancel"][env.below(5) as usize];
    let steps = env.shape.clone();
    let step = steps.definition.steps()[env.below(steps.does.len() as u32) as usize].name;
    Some((saga, seen.owner, wanted(env, witness, saga, command, step)))
}

fn wanted(env: &mut Env, witness: &Witness, saga: SagaNo, command: &str, step: &'static str) -> Wanted {
    let step = step.to_owned();
    Wanted::Operator(match command {
        "retry" => OperatorCommand::Retry { step: Some(step).filter(|_| env.chance(512)) },
        "skip" => OperatorCommand::Skip { step },
        "resolve" => OperatorCommand::Resolve { answer: found_out(env, witness, saga, &step), step },
        "abandon" => OperatorCommand::Abandon,
        _ => return Wanted::Cancel,
    })
}

/// What came of a pivot, by the service's own account; whoever does something else by hand has done it.
fn found_out(env: &mut Env, witness: &Witness, saga: SagaNo, step: &str) -> Resolution {
    let definition = &env.shape.definition;
    let pivot = definition.index(step).filter(|index| definition.step(*index).kind == Kind::Pivot);
    let is_done = pivot.is_none_or(|pivot| witness.effects(saga, pivot).done > 0);
    if is_done == env.chance(FOUND_OUT) { Resolution::Done } else { Resolution::Refused { refusal: String::new() } }
}
