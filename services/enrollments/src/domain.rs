//! The rules of enrollments, over values.
//!
//! | invariant | held by |
//! |---|---|
//! | a student is in force once in a section, and once in a part of a course; what is marked counts too, except for the registration that marked it | [`World::decide`] of a create |
//! | adds and drops of a registration change together | [`World::decide`] of a commit and of a cancel |
//! | what is committed is never undone | a cancel touches what is pending or marked, nothing else |
//! | an import of a roster ends only what an import added | [`World::decide`] of a create |

mod enrollment;
#[cfg(test)]
pub mod tests;
mod world;

pub use enrollment::{Enrollment, EnrollmentKey, EnrollmentStatus};
pub use world::{Add, Command, RowState, World};
