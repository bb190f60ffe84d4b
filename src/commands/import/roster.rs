//! Rosters that exist, `enrollments.csv`: students who are to be in sections, and no longer.
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
//! | has a registration under way that adds it | | nothing: the next import sees what came of it |
//! | is not in it | dropped it | left alone: the student's own decision stands |
//! | is not in it | has another section of the same part of the course | a conflict, unless that one ends by this import |
//! | is not in it | | added |
//! | is in it by an import | no row says so any more, and the bundle has student and section | ended |
//! | is in it by an own registration | no row says so | nothing: an import never ends that |
//!
//! A bundle covers its own students and classes: what an import brought of others stays, as the record of a closed
//! student does. A row is over when it is marked, or when its end date has come before the end of the term: at the end
//! of a term nobody leaves.

mod door;
mod ledger;
mod plan;
mod send;
mod show;
#[cfg(test)]
mod tests;

pub use door::why_not_now;
pub use ledger::read;
pub use plan::RosterPlan;
pub use send::{Outcome, apply};
