//! The invariants, which must hold after every event, one a file. `audit` proves the first seven of a real system. The
//! other ones are the promises of the engine, the runtime and the barrier.
//!
//! Each invariant checks only the facts of the event and the state that they touch, so the checks cost little. Some can
//! only be checked at the end, in a world at rest. For sagas about which an operator decided something manually, other
//! rules apply: see `manual_is_recorded`.

use std::rc::Rc;

use matricula_engine::Outcome;

use crate::clients::{Clients, Request};
use crate::fact::Fact;
use crate::names::{SagaNo, SectionNo, StudentNo};
use crate::participants::Participants;
use crate::shapes::{Shape, Table};
use crate::witness::{Seen, Witness};

mod all_or_nothing;
mod answers_are_true;
mod bounds_hold;
mod calls_gather;
mod cancels_do_not_wait;
mod claims_stay_near;
mod decisions_are_written;
mod durable_first;
mod each_notified_once;
mod effects_once;
mod ends_in_order;
mod fenced_does_nothing;
mod fenced_is_silent;
mod halves_are_sent;
mod living_are_not_ended;
mod log_folds;
mod manual_is_recorded;
mod never_back_in_line;
mod no_decided_call;
mod no_seat_without_right;
mod no_way_back;
mod nobody_twice;
mod nothing_forgotten;
mod nothing_left_behind;
mod one_call_at_a_time;
mod one_commit_at_a_time;
mod one_outcome;
mod one_truth;
mod queued_are_nobodys;
mod refused_are_shown;
mod the_door_holds;
mod the_line_moves;
mod the_stopping_begin_nothing;
mod turns;
mod turns_follow_tickets;
mod views_are_true;

pub(crate) use nothing_forgotten::{NOTHING_FORGOTTEN, overdue};

/// The view of an invariant.
pub(crate) struct View<'a> {
    pub shape: &'a Shape,
    pub witness: &'a Witness,
    pub participants: &'a Participants,
    pub requests: &'a [Rc<Request>],
    pub clients: &'a Clients,
    /// True time.
    pub now_ms: i64,
}

impl View<'_> {
    fn request(&self, saga: SagaNo) -> &Request {
        &self.requests[usize::from(saga.client())]
    }

    /// The table of a saga's definition.
    fn table(&self, saga: SagaNo) -> &Table {
        self.witness.saga(saga).map_or(self.shape.current(), |seen| self.shape.of(&seen.state))
    }

    /// Whether the log has the outcome of a saga.
    fn is_decided(&self, saga: SagaNo) -> bool {
        self.witness.saga(saga).is_some_and(|seen| seen.state.outcome() != Outcome::Pending)
    }

    /// Whether an operator decided something about a saga manually. A person then has to repair its entries, so most
    /// invariants do not apply to it.
    fn is_decided_manually(&self, saga: SagaNo) -> bool {
        self.witness.saga(saga).is_some_and(Seen::is_decided_manually)
    }

    /// Whether a manually decided saga adds or drops a section of a student: then the ledgers may differ for ever.
    fn is_left_manually(&self, student: StudentNo, section: SectionNo) -> bool {
        self.witness.sagas().filter(|(_, seen)| seen.is_decided_manually()).any(|(saga, _)| {
            let request = self.request(saga);
            request.student == student && request.adds.iter().chain(&request.drops).any(|other| *other == section)
        })
    }

    /// Whether a saga that is not finished, or was decided manually, drops a section of a student: then ledgers may
    /// differ about it.
    fn is_being_dropped(&self, of: &Request, section: SectionNo) -> bool {
        self.witness.sagas().any(|(saga, seen)| {
            let request = self.request(saga);
            let is_in_motion = !seen.state.phase().is_finished() || seen.is_decided_manually();
            is_in_motion && request.student == of.student && request.drops.contains(&section)
        })
    }
}

type Held = Result<(), String>;

/// A check of each fact, and perhaps of the world at rest. A check that keeps nothing in between is a function.
pub(crate) trait Invariant {
    /// Checks one fact. The witness has already folded it.
    fn see(&mut self, fact: &Fact, world: &View<'_>) -> Held;

    /// Checks the world at rest: everything is finished, and no message is in transit.
    fn end(&mut self, _world: &View<'_>) -> Held {
        Ok(())
    }
}

impl<F: Fn(&Fact, &View<'_>) -> Held> Invariant for F {
    fn see(&mut self, fact: &Fact, world: &View<'_>) -> Held {
        self(fact, world)
    }
}

/// An invariant with its name.
pub(crate) struct Named {
    pub name: &'static str,
    pub invariant: Box<dyn Invariant>,
}

fn named(name: &'static str, invariant: impl Invariant + 'static) -> Named {
    Named { name, invariant: Box::new(invariant) }
}

/// All of them.
pub(crate) fn all() -> Vec<Named> {
    vec![
        named("no seat without right", no_seat_without_right::NoSeatWithoutRight),
        named("one truth", one_truth::OneTruth),
        named("all or nothing", all_or_nothing::see),
        named("nobody twice", nobody_twice::see),
        named("nothing left behind", nothing_left_behind::NothingLeftBehind),
        named("each notified once", each_notified_once::EachNotifiedOnce::default()),
        named(NOTHING_FORGOTTEN, nothing_forgotten::NothingForgotten),
        named("the log folds", log_folds::see),
        named("a fenced instance is silent", fenced_is_silent::see),
        named("durable first", durable_first::see),
        named("answers are true", answers_are_true::see),
        named("effects once", effects_once::see),
        named("no way back", no_way_back::see),
        named("one outcome", one_outcome::OneOutcome::default()),
        named("one call at a time", one_call_at_a_time::OneCallAtATime::default()),
        named("manual decisions are recorded", manual_is_recorded::see),
        named("the living are not ended", living_are_not_ended::LivingAreNotEnded::default()),
        named("turns", turns::Turns::default()),
        named("one commit at a time", one_commit_at_a_time::OneCommitAtATime::default()),
        named("the stopping begin nothing", the_stopping_begin_nothing::TheStoppingBeginNothing::default()),
        named("a decided call is not made", no_decided_call::see),
        named("the line moves", the_line_moves::TheLineMoves::default()),
        named("a view is true", views_are_true::see),
        named("turns follow tickets", turns_follow_tickets::TurnsFollowTickets::default()),
        named("claims stay near", claims_stay_near::see),
        named("never back in line", never_back_in_line::NeverBackInLine::default()),
        named("the queued are nobody's", queued_are_nobodys::see),
        named("the door holds", the_door_holds::TheDoorHolds::default()),
        named("cancels do not wait", cancels_do_not_wait::CancelsDoNotWait::default()),
        named("the bounds hold", bounds_hold::see),
        named("the refused are shown", refused_are_shown::see),
        named("a fenced core does nothing more", fenced_does_nothing::see),
        named("calls gather", calls_gather::CallsGather::default()),
        named("decisions are written", decisions_are_written::DecisionsAreWritten::default()),
        named("halves are sent", halves_are_sent::HalvesAreSent::default()),
        named("an end in order", ends_in_order::see),
    ]
}

/// An error unless something holds.
fn hold(holds: bool, else_: impl FnOnce() -> String) -> Held {
    if holds { Ok(()) } else { Err(else_()) }
}
