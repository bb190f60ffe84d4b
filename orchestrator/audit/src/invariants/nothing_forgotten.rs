//! 7: every accepted registration is finished, in progress at a living instance, in line, or waits for a human. A
//! finished registration stays finished, and an accepted one never disappears.

use matricula_proto::ops::v1::{ExportLedgerResponse, SagaPhase};
use matricula_proto::registration::v1::{Outcome, Registration};

use crate::report::Verdict;
use crate::world::{World, entries, is_finished};

pub fn prove(world: &World<'_>) -> Verdict {
    let mut verdict = Verdict::new(7, "nothing forgotten");
    for (registration, entry) in entries(&world.ledgers.registrations_after) {
        let id = registration.registration_id.as_str();
        verdict.require(is_cared_for(registration, entry), || {
            format!("registration {id}: unfinished, its owner is gone, and nobody is asked to look at it")
        });
        let (phase, outcome) = (entry.phase(), registration.outcome());
        verdict.require(agree(phase, outcome), || {
            format!("registration {id}: is {} and {}", phase.as_str_name(), outcome.as_str_name())
        });
    }
    for (before, entry) in entries(&world.ledgers.registrations_before) {
        let id = before.registration_id.as_str();
        let after = world.registration(id);
        verdict.require(after.is_some(), || format!("registration {id}: was accepted, and is gone"));
        if let (Some(after), true) = (after, is_finished(entry)) {
            let (was, is) = (before.outcome(), after.outcome());
            verdict.require(was == is, || {
                format!("registration {id}: was finished as {}, and is {}", was.as_str_name(), is.as_str_name())
            });
        }
    }
    verdict
}

fn is_cared_for(registration: &Registration, entry: &ExportLedgerResponse) -> bool {
    // Any instance can claim it, and at least the instance that has answered lives.
    let is_in_line = entry.phase() == SagaPhase::Queued;
    is_finished(entry) || entry.owner_alive || is_in_line || registration.needs_attention
}

fn agree(phase: SagaPhase, outcome: Outcome) -> bool {
    match phase {
        SagaPhase::Completing | SagaPhase::Completed => outcome == Outcome::Enrolled,
        SagaPhase::Compensated => matches!(outcome, Outcome::Refused | Outcome::Cancelled),
        SagaPhase::Abandoned => matches!(outcome, Outcome::Enrolled | Outcome::Refused | Outcome::Cancelled),
        SagaPhase::Queued | SagaPhase::Running => outcome == Outcome::Pending,
        SagaPhase::Compensating => outcome != Outcome::Enrolled,
        SagaPhase::Unreadable | SagaPhase::Unspecified => true,
    }
}
