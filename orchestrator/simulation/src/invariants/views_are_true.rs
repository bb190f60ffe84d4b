//! Views are true: the view of an instance that operators get agrees with the account of the shell around its core.
//!
//! | shown | true when |
//! |---|---|
//! | a call in flight | it has left in this attempt, and has not ended |
//! | a call in a queue, behind a breaker, behind a limit | it has not left, and this is the reason |
//! | a pause | the call has not left, and is made again at that time |
//! | a turn | the saga has entered, has done nothing, and the shown number of earlier sagas wait too |
//! | counts | they add up |

use matricula_core::{DestinationStatus, SagasWaiting};
use matricula_engine::{CallState, CallWait, Direction, StepIndex, Wait};

use super::{Held, View, hold};
use crate::fact::Fact;
use crate::names::{Attempt, CallId, SagaNo};
use crate::replica::{CALL_TIMEOUT_MS, KnownCall, KnownDestination, KnownSaga, Looked, ROUND_TRIP_MAX, ShownSaga};
use crate::shapes::Shape;

/// How long a call that no client waits for may wait for other calls while its service is idle, and how late a timer
/// may be.
const GATHERS_MAX_MS: i64 = 50 + 1;

pub(super) fn see(fact: &Fact, world: &View<'_>) -> Held {
    let Fact::Looked { instance, looked } = fact else { return Ok(()) };
    let seen = Seeing { shape: world.shape, looked };
    let held = seen.counts().and_then(|()| seen.line()).and_then(|()| seen.destinations());
    let held = held.and_then(|()| seen.sagas()).and_then(|()| seen.waiting());
    held.map_err(|what| format!("at {instance} an operator sees {what}"))
}

struct Seeing<'a> {
    shape: &'a Shape,
    looked: &'a Looked,
}

/// A shown wait, and the facts about it.
struct Shown<'a> {
    known: &'a KnownSaga,
    made: Attempt,
    call: &'a CallState,
    wait: &'a CallWait,
    is_waiting: bool,
}

impl<'a> Seeing<'a> {
    fn with_known(&self) -> impl Iterator<Item = (&'a KnownSaga, &'a ShownSaga)> {
        self.looked.known.sagas.iter().zip(&self.looked.sagas)
    }

    fn counts(&self) -> Held {
        let Looked { now_ms, database_ms, in_memory, adopted_waiting, sagas, known, .. } = self.looked;
        if let Some(ahead_ms) = known.clock_ahead_ms.filter(|_| !known.is_clock_set) {
            let wrong_ms = (database_ms - now_ms - ahead_ms).abs();
            hold(wrong_ms <= ROUND_TRIP_MAX.as_millis() as i64, || {
                format!("the database's time, {wrong_ms} ms wrong")
            })?;
        }
        hold(*in_memory == known.sagas.len(), || format!("{in_memory} sagas in memory, not {}", known.sagas.len()))?;
        let waiting = sagas.iter().filter(|shown| is_waiting(shown)).count();
        hold(*adopted_waiting >= waiting, || {
            format!("{adopted_waiting} sagas wait for a slot, and {waiting} are shown")
        })?;
        for (known, shown) in self.with_known() {
            hold(shown.view.is_some(), || format!("nothing of {}", known.saga))?;
        }
        Ok(())
    }

    /// Adopted sagas wait in the order of their ids.
    fn line(&self) -> Held {
        let mut waiting: Vec<(SagaNo, u64)> = Vec::new();
        for (known, shown) in self.with_known() {
            waiting.extend(ahead(shown).map(|ahead| (known.saga, ahead)));
            hold(known.is_adopted || ahead(shown).is_none(), || format!("{} waits for a turn", known.saga))?;
        }
        waiting.sort_unstable();
        for (before, (saga, ahead)) in (0..).zip(waiting) {
            let hidden = self.looked.adopted_waiting as u64;
            hold((before..hidden).contains(&ahead), || format!("{ahead} sagas ahead of {saga}, not {before}"))?;
        }
        Ok(())
    }

    fn destinations(&self) -> Held {
        let Looked { destinations, known, .. } = self.looked;
        hold(destinations.len() == self.shape.destinations.len(), || format!("{} services", destinations.len()))?;
        for (place, name) in self.shape.destinations.iter().enumerate() {
            let status = self.status(place)?;
            self.destination(status, &known.destinations[place]).map_err(|what| format!("{name}: {what}"))?;
        }
        Ok(())
    }

    /// Checks the shown status of a service. Each release has the services in the order of its own tables.
    fn status(&self, place: usize) -> Result<&'a DestinationStatus, String> {
        let name = self.shape.destinations[place];
        let status = self.looked.destinations.iter().find(|status| status.name == name);
        status.ok_or_else(|| format!("nothing of {name}"))
    }

    fn destination(&self, status: &DestinationStatus, known: &KnownDestination) -> Held {
        let is_so = |is_shown: bool, is_true: bool, what: &str| {
            hold(is_shown == is_true, || format!("{what}: {is_shown}, and that is {is_true}"))
        };
        hold(status.in_flight == known.in_flight, || {
            format!("{} RPCs in flight, not {}", status.in_flight, known.in_flight)
        })?;
        hold(status.in_flight_max == known.in_flight_max, || format!("a limit of {}", status.in_flight_max))?;
        is_so(status.breaker != "closed", known.is_breaker_open, "the breaker is open")?;
        if let Some(failures) = known.failures {
            is_so(status.breaker != "closed", failures >= known.failures_max, "the breaker is open")?;
            is_so(!status.last_error.is_empty(), failures > 0, "the last call has failed")?;
        }
        is_so(status.failing_since_ms.is_some(), known.is_failing, "it fails")?;
        is_so(status.probe_at_ms.is_some(), known.is_failing && status.breaker == "open", "a probe has a time")?;
        hold(status.breaker == "closed" || !status.last_error.is_empty(), || "an open breaker, no error".to_owned())?;
        hold(status.last_error.is_empty() || known.is_failing, || "an error, and it answers".to_owned())?;
        let database_ms = self.looked.database_ms;
        let shown = self.queued_at(status.name);
        let waits = shown.clone().count();
        hold(status.waiting >= waits, || format!("{} calls wait, and {waits} sagas are shown so", status.waiting))?;
        let longest_ms = shown.map(|since_ms| database_ms - since_ms).max().unwrap_or(0);
        let shown_ms = status.longest_wait.as_millis() as i64;
        // A call of a saga that has left memory may have waited longer.
        hold(shown_ms >= longest_ms && (status.waiting > 0 || shown_ms == 0), || {
            format!("a longest wait of {shown_ms} ms, and one waits for {longest_ms} ms")
        })?;
        hold(status.waiting > waits || shown_ms == longest_ms, || {
            format!("a longest wait of {shown_ms} ms, not {longest_ms} ms")
        })
    }

    /// Since when the calls wait that the view shows in the queues of a service.
    fn queued_at(&self, destination: &'a str) -> impl Iterator<Item = i64> + Clone {
        let waits = self.looked.sagas.iter().filter_map(|shown| shown.view.as_ref()).flat_map(|view| &view.waits);
        let of_it = waits.filter(move |wait| self.destination_of(wait).is_some_and(|place| place.0 == destination));
        of_it.filter_map(|wait| in_queue(wait.wait).map(|(since_ms, _)| since_ms))
    }

    fn destination_of(&self, wait: &CallWait) -> Option<(&'a str, usize)> {
        let mut all = self.shape.definitions.all();
        let name = all.find_map(|definition| Some(definition.step(definition.index(&wait.step)?).destination))?;
        Some((name, self.shape.place(name)))
    }

    fn sagas(&self) -> Held {
        let mut queued: Vec<(usize, &str, u64, i64)> = Vec::new();
        for (known, shown) in self.with_known() {
            let Some(view) = &shown.view else { continue };
            let table = self.shape.of(&view.state);
            let trying: Vec<(StepIndex, Direction, &CallState)> = view.state.trying(&table.definition).collect();
            let is_complete = trying.len() == view.waits.len();
            hold(is_complete, || format!("{} waits of {} calls of {}", view.waits.len(), trying.len(), known.saga))?;
            for ((step, direction, call), wait) in trying.into_iter().zip(&view.waits) {
                let made = Attempt { of: CallId { saga: known.saga, step, direction }, number: call.attempts + 1 };
                let shown = Shown { known, made, call, wait, is_waiting: is_waiting(shown) };
                let line = table.definition.step(step);
                let is_named = wait.step == line.name && wait.direction == direction;
                let held = if is_named { self.wait(&shown) } else { Err("under another name".to_owned()) };
                held.map_err(|what| format!("{}: {:?}: {what}", made.of, wait.wait))?;
                let place = self.shape.place(line.destination);
                let rpc = line.rpc(direction).unwrap_or_default();
                queued.extend(in_queue(wait.wait).map(|(since_ms, ahead)| (place, rpc, ahead, since_ms)));
            }
        }
        // The positions in each queue are different. They follow the turns of the sagas, not the time that calls
        // waited.
        queued.sort_unstable();
        let is_in_order = |pair: &[(usize, &str, u64, i64)]| {
            (pair[0].0, pair[0].1) != (pair[1].0, pair[1].1) || pair[0].2 < pair[1].2
        };
        hold(queued.windows(2).all(is_in_order), || format!("places in queues: {queued:?}"))
    }

    fn wait(&self, shown: &Shown<'_>) -> Held {
        let Looked { now_ms, database_ms, known, .. } = self.looked;
        let Shown { made, call, wait, is_waiting, .. } = *shown;
        let left = known.calls.iter().find(|call| call.made == made);
        let Some((_, place)) = self.destination_of(wait) else { return Err("no service".to_owned()) };
        let status = self.status(place)?;
        hold((wait.failing_since_ms, &wait.last_error) == (status.failing_since_ms, &status.last_error), || {
            format!("its service fails since {:?}: {}", wait.failing_since_ms, wait.last_error)
        })?;
        let is_turn = matches!(wait.wait, Wait::Turn { .. });
        hold(is_turn == is_waiting || shown.known.is_commanded, || format!("it waits for its turn: {is_waiting}"))?;
        let is_under_way = left.is_some_and(|call| call.is_under_way);
        hold(!is_under_way || matches!(wait.wait, Wait::Call { .. }), || "it has left".to_owned())?;
        match wait.wait {
            Wait::Call { since_ms, until_ms } => {
                let may_be_shown = |call: &&KnownCall| call.is_under_way || call.is_halved;
                let Some(left) = left.filter(may_be_shown) else { return Err("it has not left".to_owned()) };
                let left_at_ms = [left.first_left_ms, left.left_ms].map(|at_ms| database_ms - (now_ms - at_ms));
                hold(left_at_ms.contains(&since_ms) && until_ms == since_ms + CALL_TIMEOUT_MS, || {
                    format!("it left at {left_at_ms:?}")
                })
            }
            Wait::Pause { until_ms } => {
                hold(call.next_attempt_at_ms == Some(until_ms), || format!("not {:?}", call.next_attempt_at_ms))
            }
            Wait::Record => hold(call.next_attempt_at_ms.is_none() || known.is_stopping, || "it pauses".to_owned()),
            Wait::Turn { .. } => Ok(()),
            Wait::Queue { .. } | Wait::Breaker { .. } | Wait::Limit { .. } => self.queued(shown, place),
        }
    }

    /// Checks the shown reason why a call has not left.
    fn queued(&self, shown: &Shown<'_>, place: usize) -> Held {
        let (status, known) = (self.status(place)?, &self.looked.known.destinations[place]);
        let waited_ms = in_queue(shown.wait.wait).map_or(0, |(since_ms, _)| self.looked.database_ms - since_ms);
        hold(waited_ms >= 0, || format!("it came {waited_ms} ms ago"))?;
        let is_parked = known.in_flight_max == 0;
        match shown.wait.wait {
            Wait::Limit { .. } => hold(is_parked, || "no operator has parked it".to_owned()),
            Wait::Breaker { probe_at_ms, .. } => {
                hold(known.is_breaker_open && !is_parked, || "its breaker is closed".to_owned())?;
                hold(probe_at_ms == status.probe_at_ms, || format!("the probe is at {:?}", status.probe_at_ms))
            }
            _ => {
                hold(!known.is_breaker_open && !is_parked, || "a breaker or an operator keeps it".to_owned())?;
                let has_room = known.in_flight < known.in_flight_max;
                hold(!has_room || waited_ms <= GATHERS_MAX_MS, || "its service has room".to_owned())
            }
        }
    }

    /// How many sagas wait for each service.
    fn waiting(&self) -> Held {
        // A command may have an adopted saga call a service before its turn.
        if self.looked.known.sagas.iter().any(|known| known.is_adopted && known.is_commanded) {
            return Ok(());
        }
        for destination in &self.shape.destinations {
            let direct = self.looked.sagas.iter().filter(|shown| !is_waiting(shown) && self.calls(shown, destination));
            let (count, oldest) = (direct.clone().count(), direct.map(|shown| shown.saga.0).min());
            let shown = self.looked.waiting.get(destination);
            let SagasWaiting { direct, oldest: shown_oldest, .. } = shown.cloned().unwrap_or_default();
            let shown_oldest = shown_oldest.map(|saga| saga.as_u128() as u16);
            hold((direct, shown_oldest) == (count, oldest), || {
                format!("{direct} sagas that wait for {destination}, not {count}, or not the oldest")
            })?;
        }
        Ok(())
    }

    /// Whether a saga has a call of a service to make, and waits for no other saga with it.
    fn calls(&self, shown: &ShownSaga, destination: &str) -> bool {
        let Some(view) = &shown.view else { return false };
        let table = self.shape.of(&view.state);
        let mut trying = view.state.trying(&table.definition).filter(|(_, _, call)| call.waits_for().is_none());
        trying.any(|(step, ..)| table.definition.step(step).destination == destination)
    }
}

fn is_waiting(shown: &ShownSaga) -> bool {
    ahead(shown).is_some()
}

/// How many sagas have their turn before one that waits for it.
fn ahead(shown: &ShownSaga) -> Option<u64> {
    let mut waits = shown.view.iter().flat_map(|view| &view.waits);
    waits.find_map(|wait| match wait.wait {
        Wait::Turn { ahead } => ahead,
        _ => None,
    })
}

/// Since when a call waits in a queue, and how many calls are before it.
fn in_queue(wait: Wait) -> Option<(i64, u64)> {
    match wait {
        Wait::Queue { since_ms, ahead } | Wait::Limit { since_ms, ahead } | Wait::Breaker { since_ms, ahead, .. } => {
            Some((since_ms, ahead))
        }
        _ => None,
    }
}
