//! Nothing forgotten: a submission that a client received as accepted is durable, and after the end of the faults
//! everything finishes.

use super::{Held, Invariant, View, hold};
use crate::fact::Fact;

/// Its name. The history itself detects that something does not finish in time, and reports it under this name.
pub(crate) const NOTHING_FORGOTTEN: &str = "nothing forgotten";

pub(super) struct NothingForgotten;

impl Invariant for NothingForgotten {
    fn see(&mut self, fact: &Fact, world: &View<'_>) -> Held {
        let Fact::Acknowledged { client, saga } = fact else { return Ok(()) };
        hold(world.witness.saga(*saga).is_some(), || format!("{client} is answered {saga}, which is not durable"))
    }

    fn end(&mut self, world: &View<'_>) -> Held {
        for (request, answered) in world.clients.answers() {
            let seen = answered.and_then(|saga| world.witness.saga(saga));
            let finished = seen.is_some_and(|seen| seen.state.phase().is_finished());
            hold(finished, || format!("a registration of {} was accepted and did not finish", request.student))?;
        }
        Ok(())
    }
}

/// The sagas that are not finished in time.
pub(crate) fn overdue(world: &View<'_>) -> String {
    let unfinished = world.witness.sagas().filter(|(_, seen)| !seen.state.phase().is_finished());
    let mut lines: Vec<String> = unfinished
        .map(|(saga, seen)| {
            let owner = match world.witness.life(seen.owner) {
                life if life.marked => format!("{}, which is dead", seen.owner),
                life if life.runs => format!("{} on {}", seen.owner, seen.owner.process()),
                _ => format!("{}, which has ended", seen.owner),
            };
            if seen.is_queued {
                return format!("{saga} is in line with ticket {}", seen.ticket);
            }
            format!("{saga} is {} and belongs to {owner}", seen.state.phase().as_str())
        })
        .collect();
    let unanswered = world.clients.answers().filter(|(_, answered)| answered.is_none());
    lines.extend(unanswered.map(|(request, _)| format!("a registration of {} has no answer", request.student)));
    lines.join("; ")
}
