//! Manual decisions are recorded: a confirmed command of an operator is in the log as it was given. A saga ends as
//! abandoned exactly if a call of it was skipped or it was given up. A person has to repair the entries of such a saga,
//! and of one with a resolved call, in the services. Its log, outcome and calls must satisfy all other invariants.

use matricula_engine::{Definition, Direction, Intervention, Kind, OperatorCommand, Phase, Resolution};

use super::{Held, View, hold};
use crate::fact::Fact;
use crate::operators::Wanted;

pub(super) fn see(fact: &Fact, world: &View<'_>) -> Held {
    match fact {
        Fact::Obeyed { order } => {
            let log = world.witness.saga(order.saga).map(|seen| seen.interventions.as_slice()).unwrap_or_default();
            let Wanted::Operator(command) = &order.wanted else { return Ok(()) };
            let definition = &world.table(order.saga).definition;
            let stands = log.iter().any(|intervention| is_what(definition, command, intervention));
            hold(stands, || format!("{command:?} of {} is confirmed, but its log has {log:?}", order.saga))
        }
        Fact::Appended { saga, .. } => {
            let Some(seen) = world.witness.saga(*saga).filter(|seen| seen.state.phase().is_finished()) else {
                return Ok(());
            };
            let leaves =
                |intervention: &Intervention| matches!(intervention, Intervention::Skip { .. } | Intervention::Abandon);
            let (left, phase) = (seen.interventions.iter().any(leaves), seen.state.phase());
            hold(left == (phase == Phase::Abandoned), || {
                format!("{saga} ends as {}, after {:?}", phase.as_str(), seen.interventions)
            })
        }
        _ => Ok(()),
    }
}

/// A pivot that is resolved as "refused" never happens. While its compensation is being tried, the log has the
/// resolution of the compensation.
fn is_what(definition: &Definition, command: &OperatorCommand, intervention: &Intervention) -> bool {
    match (command, intervention) {
        (OperatorCommand::Retry { step: wanted }, Intervention::Retry { step }) => step == wanted,
        (OperatorCommand::Skip { step: wanted }, Intervention::Skip { step, .. }) => step == wanted,
        (
            OperatorCommand::Resolve { step: wanted, answer: found },
            Intervention::Resolve { step, direction, answer },
        ) => {
            let pivot = definition.index(step).filter(|index| definition.step(*index).kind == Kind::Pivot);
            let is_answer = match (pivot, direction) {
                (Some(_), Direction::Compensation) => {
                    matches!((found, answer), (Resolution::Refused { .. }, Resolution::Refused { .. }))
                }
                _ => answer == found,
            };
            step == wanted && is_answer
        }
        (OperatorCommand::Abandon, Intervention::Abandon) => true,
        _ => false,
    }
}
