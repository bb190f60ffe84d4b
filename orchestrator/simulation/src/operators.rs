//! Operators. Now and then an operator reads the logs of the sagas and gives a command: mostly one that the engine
//! advises, otherwise any. A command may be out of date when it arrives, arrive twice, or arrive at an instance that
//! does not drive the saga any more.

use std::rc::Rc;

use matricula_engine::{Advice, Input, Kind, OperatorCommand, Resolution, advice};

use crate::clients::{Ask, Asked, Asker, Reply};
use crate::draws::{Draw, Message, Purpose};
use crate::env::{Env, Event};
use crate::fact::Fact;
use crate::names::{InstanceNo, OrderNo, ProcessNo, SagaNo};
use crate::replica::ProcessEvent;
use crate::witness::{Seen, Witness};

/// Of 1,024: the command is one that the engine advises, if it advises any.
const ADVISED: u32 = 900;
/// Of 1,024: it goes to the owner that the log names.
const TO_OWNER: u32 = 768;
/// Of 1,024: an operator resolves a pivot correctly.
const FOUND_OUT: u32 = 900;
/// No operator looks at once after so many orders of a history.
const ORDERS_MAX: usize = 24;
/// Of 1,024: an operator picks a pivot that is being withdrawn, if there is one, and resolves it as refused.
const ASKED: u32 = 512;

/// The content of an order.
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
    /// The input of the engine. The number distinguishes a repeated order from another order with the same content.
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
    /// Time to look; an order that comes of it has this number.
    Look(OrderNo),
    Replied {
        order: OrderNo,
        reply: Reply,
    },
}

pub(crate) struct Operators {
    processes: u32,
    /// The result of each look.
    orders: Vec<Option<Rc<Order>>>,
}

impl Operators {
    pub(crate) fn new(processes: u32, looks: usize) -> Self {
        Self { processes, orders: vec![None; looks] }
    }

    pub(crate) fn handle(&mut self, env: &mut Env, witness: &Witness, event: OperatorEvent) {
        match event {
            OperatorEvent::Look(number) => self.look(env, witness, number),
            OperatorEvent::Replied { order, reply } => self.replied(env, order, &reply),
        }
    }

    fn look(&mut self, env: &mut Env, witness: &Witness, number: OrderNo) {
        let mut draw = env.draw(Purpose::Look(number));
        let anybody = ProcessNo(draw.below(self.processes) as u8);
        let to_owner = draw.chance(TO_OWNER);
        let Some((saga, owner, wanted)) = choose(env, &mut draw, witness) else { return };
        let process = if to_owner { owner.process() } else { anybody };
        self.send(env, process, Order { number, saga, wanted });
    }

    /// A withdrawal has failed: an operator looks at once, in a history that has operators.
    pub(crate) fn look_at_once(&mut self, env: &mut Env) {
        if (1..ORDERS_MAX).contains(&self.orders.len()) {
            let number = OrderNo(self.orders.len() as u16);
            self.orders.push(None);
            env.schedule(1, Event::Operator(OperatorEvent::Look(number)));
        }
    }

    /// Abandons a saga that nothing else can end.
    pub(crate) fn abandon(&mut self, env: &mut Env, saga: SagaNo, owner: InstanceNo) {
        let number = OrderNo(self.orders.len() as u16);
        self.orders.push(None);
        self.send(env, owner.process(), Order { number, saga, wanted: Wanted::Operator(OperatorCommand::Abandon) });
    }

    fn send(&mut self, env: &mut Env, process: ProcessNo, order: Order) {
        let (number, order) = (order.number, Rc::new(order));
        env.say(|| format!("{number} at {process}: {:?} of {}", order.wanted, order.saga));
        self.orders[usize::from(number)] = Some(order.clone());
        env.send(Message::Ask(Asker::Operator { order: number, copy: 0 }), |copy| {
            let ask = Ask { asker: Asker::Operator { order: number, copy }, asked: Asked::Order(order.clone()) };
            Event::Process { process, event: ProcessEvent::Ask(ask) }
        });
    }

    fn replied(&mut self, env: &mut Env, number: OrderNo, reply: &Reply) {
        env.say(|| format!("{number} is answered: {reply:?}"));
        let Some(order) = &self.orders[usize::from(number)] else { return };
        if matches!(reply, Reply::Obeyed { .. }) {
            env.facts.push(match order.wanted {
                Wanted::Cancel => Fact::CancelConfirmed { saga: order.saga },
                Wanted::Operator(_) => Fact::Obeyed { order: order.clone() },
            });
        }
    }
}

/// A saga, its owner, and something to order of it.
fn choose(env: &Env, draw: &mut Draw, witness: &Witness) -> Option<(SagaNo, InstanceNo, Wanted)> {
    let mut advised = Vec::new();
    for (saga, seen) in witness.sagas() {
        let definition = env.shape.definitions.of(&seen.state);
        advised.extend(advice(definition, &seen.state).into_iter().map(|advice| (saga, seen.owner, advice)));
    }
    let asked = advised.iter().find(|(_, _, advice)| is_question(advice)).filter(|_| draw.chance(ASKED));
    if let Some((saga, owner, Advice { step: Some(step), .. })) = asked {
        let (step, answer) = ((*step).to_owned(), Resolution::Refused { refusal: String::new() });
        return Some((*saga, *owner, Wanted::Operator(OperatorCommand::Resolve { step, answer })));
    }
    if !advised.is_empty() && draw.chance(ADVISED) {
        let (saga, owner, advice) = advised.swap_remove(draw.below(advised.len() as u32) as usize);
        return Some((saga, owner, wanted(env, draw, witness, saga, advice.command, advice.step.unwrap_or_default())));
    }
    let sagas: Vec<(SagaNo, &Seen)> = witness.sagas().collect();
    let (saga, seen) = *sagas.get(draw.below(sagas.len() as u32) as usize)?;
    let command = ["retry", "skip", "resolve", "abandon", "cancel"][draw.below(5) as usize];
    let steps = env.shape.definitions.of(&seen.state).steps();
    let step = steps[draw.below(steps.len() as u32) as usize].name;
    Some((saga, seen.owner, wanted(env, draw, witness, saga, command, step)))
}

/// Whether it is about a pivot that is being withdrawn.
fn is_question(advice: &Advice) -> bool {
    advice.command == "resolve" && advice.answers == ["refused"]
}

fn wanted(env: &Env, draw: &mut Draw, witness: &Witness, saga: SagaNo, command: &str, step: &'static str) -> Wanted {
    let step = step.to_owned();
    Wanted::Operator(match command {
        "retry" => OperatorCommand::Retry { step: Some(step).filter(|_| draw.chance(512)) },
        "skip" => OperatorCommand::Skip { step },
        "resolve" => OperatorCommand::Resolve { answer: found_out(env, draw, witness, saga, &step), step },
        "abandon" => OperatorCommand::Abandon,
        _ => return Wanted::Cancel,
    })
}

/// How a pivot ended, by the record of its service. For any other step, the operator has done it manually.
fn found_out(env: &Env, draw: &mut Draw, witness: &Witness, saga: SagaNo, step: &str) -> Resolution {
    let pivot = witness.saga(saga).and_then(|seen| {
        let definition = env.shape.definitions.of(&seen.state);
        definition.index(step).filter(|index| definition.step(*index).kind == Kind::Pivot)
    });
    let is_done = pivot.is_none_or(|pivot| witness.effects(saga, pivot).done > 0);
    if is_done == draw.chance(FOUND_OUT) { Resolution::Done } else { Resolution::Refused { refusal: String::new() } }
}
