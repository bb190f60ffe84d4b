//! Answers are true: the log of a saga agrees with the services about every success, refusal and undo. An error never
//! counts as an answer.

use matricula_engine::{CallAnswer, Direction, Event};

use super::{Held, View, hold};
use crate::fact::Fact;
use crate::names::SagaNo;

pub(super) fn see(fact: &Fact, world: &View<'_>) -> Held {
    let Fact::Appended { saga, events, .. } = fact else { return Ok(()) };
    events.iter().try_for_each(|recorded| is_true(*saga, &recorded.event, world))
}

fn is_true(saga: SagaNo, event: &Event, world: &View<'_>) -> Held {
    let (step, holds) = match event {
        Event::Succeeded { step, direction, .. } => {
            let Some(index) = world.table(saga).definition.index(step) else { return Err(format!("no step {step}")) };
            let effects = world.witness.effects(saga, index);
            let undone = world.participants.record(saga, index).is_some_and(|record| record.undone);
            (
                step,
                match direction {
                    Direction::Forward => effects.done > effects.undone,
                    Direction::Compensation => effects.done == effects.undone && undone,
                },
            )
        }
        Event::Refused { step, .. } => {
            let Some(index) = world.table(saga).definition.index(step) else { return Err(format!("no step {step}")) };
            let record = world.participants.record(saga, index);
            let refused = |answer: &Option<CallAnswer>| matches!(answer, Some(CallAnswer::Refused(_)));
            (step, record.is_some_and(|record| record.undone || refused(&record.answer)))
        }
        _ => return Ok(()),
    };
    hold(holds, || format!("{saga}: the log says {} of {step}, and the service does not", event.name()))
}
