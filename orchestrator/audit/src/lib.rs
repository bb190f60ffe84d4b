//! Proves the invariants over the ledgers of all services.
//!
//! A pure function: it gets the exported entries, and reports for each invariant how many facts it checked and which
//! violate it.
//!
//! The ledgers are read one after the other while registrations go on, so together they never show one moment. The
//! order of reading makes the proof exact nevertheless:
//!
//! ```text
//! registrations (before) -> ledgers of the five services -> registrations (after)
//! ```
//!
//! A registration that was finished at the first reading does not change any more, so the rules for it are exact. Any
//! other registration is *in motion*: its own entries, and the sections that it adds or drops for its student, may be
//! half done. The last reading contains every registration of which a service has an entry: an unknown registration is
//! a violation.
//!
//! A registration about which an operator decided something manually (a step skipped or resolved, the saga abandoned)
//! stays in motion for ever: people had to repair its entries, and the ledgers do not show whether they did, or how.
//! Therefore 1, 2, 3, 5 and 6 do not check its entries, nor the sections that it adds or drops for its student, nor
//! that it has a notification. The rest must be right even so: no student is enrolled twice (4), no notification is
//! repeated or has another outcome (6), and the registration keeps its outcome and never disappears (7). The report
//! counts and lists these registrations beside the verdicts.

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
    let manual = world::entries(&ledgers.registrations_after).filter(|(_, entry)| world::is_manual(entry));
    let manual: Vec<&str> = manual.map(|(registration, _)| registration.registration_id.as_str()).collect();
    Report { invariants, needing_attention, manual: ManualDecisions::of(&manual) }
}

#[cfg(test)]
mod tests;
