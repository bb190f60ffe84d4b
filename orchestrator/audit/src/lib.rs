//! Proves the seven invariants over the ledgers of all services.
//!
//! Pure: it gets what the services exported, and says for each invariant how much it looked at and what broke it.
//!
//! The ledgers are read one after the other while registrations go on, so they never show one moment. What makes the
//! proof exact all the same is the order of reading:
//!
//! ```text
//! registrations (before) -> ledgers of the five services -> registrations (after)
//! ```
//!
//! A registration that was finished before anything else was read changes no more: for it the rules are exact. One that
//! was not, or that came later, is *in motion*: its own traces, and the sections that it adds or drops for its student,
//! may be half done. Whatever a service has a trace of is known afterwards: an unknown registration is a violation.
//!
//! A registration of which an operator decided something manually (a step skipped or resolved, the saga abandoned) is
//! in motion for good: people were to see to it, and the ledgers can't tell whether they have, nor how. So 1, 2, 3, 5
//! and 6 ask nothing of its traces, nor of the sections that it adds or drops for its student, and no lack of a
//! notification counts. What the ledgers do say must be right all the same: nobody is enrolled twice (4), told twice or
//! told another outcome (6), and what was accepted stays known with its outcome (7). The report counts these
//! registrations and names them beside the verdicts: it neither passes over them nor calls them a fault of the system.

mod invariants;
mod ledgers;
mod report;
mod world;

use matricula_proto::ops::v1::ExportLedgerResponse;

pub use ledgers::Ledgers;
pub use report::{MANUAL_SHOWN_MAX, ManualDecisions, Report, VIOLATIONS_SHOWN_MAX, Verdict};

/// Proves every invariant.
#[must_use]
pub fn audit(ledgers: &Ledgers) -> Report {
    let world = world::World::of(ledgers);
    let flagged = |entry: &&ExportLedgerResponse| entry.registration.as_ref().is_some_and(|one| one.needs_attention);
    let needing_attention = ledgers.registrations_after.iter().filter(flagged).count() as u64;
    let invariants = invariants::ALL.iter().map(|prove| prove(&world)).collect();
    Report { invariants, needing_attention, manual: ManualDecisions::of(world.manual()) }
}

#[cfg(test)]
mod tests;
