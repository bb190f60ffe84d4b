//! A campus as files: a OneRoster 1.2 CSV bundle with the columns that course registration needs besides, and the
//! registration morning itself (`registrations.csv`).
//!
//! ```text
//! directory --read--> Bundle --write--> directory
//! Spec --generate--> Bundle
//! directory --registrations--> one click after the other
//! ```
//!
//! [`read`] gives a whole and consistent bundle or every problem of it, each named by file, line and column. An absent
//! column or file of rules means that there is no such rule: an import invents no limits. [`generate`] is a pure
//! function of its [`Spec`]. The crate knows nothing of services and databases, and reads no clock.

mod generate;
mod ids;
mod meetings;
mod model;
mod prerequisites;
mod problem;
mod read;
mod registrations;
mod table;
mod whole;
mod write;

#[cfg(test)]
mod tests;

pub use generate::{SECTIONS_MAX, STUDENTS_MAX, Spec, SpecError, generate};
pub use ids::{CourseId, HoldId, IdempotencyKey, Invalid, RosterId, SectionId, StudentId, TermId};
pub use meetings::{Day, Meeting, parse_meetings};
pub use model::{
    Bundle, CompletedCourse, Course, Currency, Hold, Money, Rates, RefundStep, Registration, RosterEntry, Section, Student, Term,
};
pub use problem::{BundleErrors, Problem};
pub use read::read;
pub use registrations::{Registrations, registrations};
pub use whole::write_whole;
pub use write::{WriteError, write};
