//! The invariants, which must hold after every event, one a file. `audit` proves the first seven of a real system. The
//! other ones are the promises of the engine, the runtime and the barrier.
//!
//! Each invariant checks only the facts of the event and the state that they touch, so the checks cost little. Some can
//! only be checked at the end, in a world at rest. For sagas about which an operator decided something manually, other
//! rules apply: see `manual_is_told`.

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
mod manual_is_told;
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
        &self.requests[saga.client().get()]
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

pub(crate) trait Invariant {
    /// The name of the invariant.
    fn name(&self) -> &'static str;

    /// Checks one fact. The witness has already folded it.
    fn see(&mut self, fact: &Fact, world: &View<'_>) -> Held;

    /// Checks the world at rest: everything is finished, and no message is in transit.
    fn end(&mut self, _world: &View<'_>) -> Held {
        Ok(())
    }
}

/// All of them.
pub(crate) fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(no_seat_without_right::NoSeatWithoutRight),
        Box::new(one_truth::OneTruth),
        Box::new(all_or_nothing::AllOrNothing),
        Box::new(nobody_twice::NobodyTwice),
        Box::new(nothing_left_behind::NothingLeftBehind),
        Box::new(each_notified_once::EachNotifiedOnce::default()),
        Box::new(nothing_forgotten::NothingForgotten),
        Box::new(log_folds::LogFolds),
        Box::new(fenced_is_silent::FencedIsSilent),
        Box::new(durable_first::DurableFirst),
        Box::new(answers_are_true::AnswersAreTrue),
        Box::new(effects_once::EffectsOnce),
        Box::new(no_way_back::NoWayBack),
        Box::new(one_outcome::OneOutcome::default()),
        Box::new(one_call_at_a_time::OneCallAtATime::default()),
        Box::new(manual_is_told::ManualIsTold),
        Box::new(living_are_not_ended::LivingAreNotEnded::default()),
        Box::new(turns::Turns::default()),
        Box::new(one_commit_at_a_time::OneCommitAtATime::default()),
        Box::new(the_stopping_begin_nothing::TheStoppingBeginNothing::default()),
        Box::new(no_decided_call::NoDecidedCall),
        Box::new(the_line_moves::TheLineMoves::default()),
        Box::new(views_are_true::ViewsAreTrue),
        Box::new(turns_follow_tickets::TurnsFollowTickets::default()),
        Box::new(claims_stay_near::ClaimsStayNear),
        Box::new(never_back_in_line::NeverBackInLine::default()),
        Box::new(queued_are_nobodys::QueuedAreNobodys),
        Box::new(the_door_holds::TheDoorHolds::default()),
        Box::new(cancels_do_not_wait::CancelsDoNotWait::default()),
        Box::new(bounds_hold::BoundsHold::default()),
        Box::new(refused_are_shown::RefusedAreShown),
        Box::new(fenced_does_nothing::FencedDoesNothing),
        Box::new(calls_gather::CallsGather::default()),
        Box::new(decisions_are_written::DecisionsAreWritten::default()),
        Box::new(halves_are_sent::HalvesAreSent::default()),
        Box::new(ends_in_order::EndsInOrder),
    ]
}

/// An error unless something holds.
fn hold(holds: bool, else_: impl FnOnce() -> String) -> Held {
    if holds { Ok(()) } else { Err(else_()) }
}
