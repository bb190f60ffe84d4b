//! Rosters, `enrollments.csv`: takes over existing enrollments, and ends those that a later bundle no longer contains.
//!
//! ```text
//! rows of the bundle ──────────┐
//! sections of the bundle ──────┼──► RosterPlan ──► end what is gone ──► add what is missing, by TakeOver
//! ledger of enrollments ───────┤
//! reserved courses ────────────┘
//! ```
//!
//! | the student in the section | and | then |
//! |---|---|---|
//! | is in it | | nothing |
//! | has a pending registration that adds it | | nothing: the next import sees the outcome |
//! | is not in it | dropped it | left alone: the student's own decision counts |
//! | is not in it | has another section of the same part of the course | a conflict, unless this import ends that enrollment |
//! | is not in it | | added |
//! | is in it by an import | no row contains it any more, and the bundle has student and section | ended |
//! | is in it by an own registration | no row contains it | nothing: an import never ends it |
//!
//! A bundle covers its own students and classes: earlier imports of other students or classes stay, as the record of a
//! closed student does. A row is over when it is marked, or when its end date passes before the end of the term. At the
//! end of a term no enrollment ends.

mod door;
mod ledger;
mod plan;
mod send;
mod show;
#[cfg(test)]
mod tests;

pub use door::pause_problem;
pub use ledger::read;
pub use plan::RosterPlan;
pub use send::{Outcome, apply};
