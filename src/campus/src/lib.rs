//! A campus as files: a OneRoster 1.2 CSV bundle, extended with the columns that course registration needs and with the
//! registration morning (`registrations.csv`).
//!
//! ```text
//! directory or zip --read--> Bundle --write--> directory
//! Spec --generate--> Bundle
//! directory or zip --registrations--> one click after the other
//! ```
//!
//! [`read`] returns a complete and consistent bundle, or all its problems, each with file, line and column. Facts worth
//! knowing that are not problems are in the bundle's notes. An absent column or file changes nothing, and the bundle's
//! [`Scope`] lists those that are present; an empty cell means that there is no such rule. [`generate`] is a pure
//! function of its [`Spec`]. The crate does not depend on services and databases, and does not read the clock.

mod file;
mod generate;
mod ids;
mod model;
mod notes;
mod problem;
mod read;
mod registrations;
mod scope;
mod source;
mod suggest;
mod table;
mod unpack;
mod whole;
mod write;

#[cfg(test)]
mod tests;

pub use file::File;
pub use generate::{SECTIONS_MAX, STUDENTS_MAX, Spec, SpecError, generate};
pub use ids::{CourseId, HoldId, IdempotencyKey, Invalid, RosterId, SectionId, StudentId, TermId};
pub use iso_currency::Currency;
pub use model::{
    Bundle, CompletedCourse, Course, Hold, Rates, RefundStep, Registration, RosterEntry, Section, Student, Term,
    TermKind,
};
pub use problem::{BundleErrors, Finding};
pub use read::read;
pub use registrations::{Registrations, registrations};
pub use scope::Scope;
pub use whole::write_whole;
pub use write::{WriteError, write};
